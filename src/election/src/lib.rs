//! Leader contender and detector over ZooKeeper.
