//! Marathon: long-running apps on Mesos.
