//! What every daemon's HTTP side shares.
