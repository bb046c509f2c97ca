//! `mesos-agent`.

fn main() {}
