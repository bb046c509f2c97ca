//! `zookeeper-server`.

fn main() {}
