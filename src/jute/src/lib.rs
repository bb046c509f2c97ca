//! ZooKeeper's records: wire, quorum and disk.
