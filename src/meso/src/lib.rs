//! The meso command line.
