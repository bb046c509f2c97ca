//! The masters' replicated log.
