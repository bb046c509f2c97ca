//! `mesos-master`.

fn main() {}
