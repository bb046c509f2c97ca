//! The RPMs and the yum repository.
