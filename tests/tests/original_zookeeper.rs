//! Our master, agent and Marathon on Apache's ZooKeeper server.

use end_to_end::cluster::Cluster;
use end_to_end::need;
use end_to_end::programs::has_original_zookeeper;

#[test]
fn our_daemons_work_on_apache_zookeeper_and_survive_its_restart() {
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let mut cluster = Cluster::new();
    cluster.start_original_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.start_marathon();
    cluster.wait_for_agent();
    cluster.wait_for_marathon();
    cluster.run_app("/sleeper", "sleep 1000", 2);
    let before = cluster.wait_for_tasks("/sleeper", 2);

    cluster.zookeeper.take().expect("a running ZooKeeper server").kill();
    cluster.start_original_zookeeper();
    // What lost its session ends itself, as the originals do, and is started again by systemd; here by hand.
    if !cluster.master.as_mut().expect("a master").is_running() {
        cluster.start_master();
    }
    if !cluster.marathon.as_mut().expect("a Marathon").is_running() {
        cluster.start_marathon();
    }
    cluster.wait_for_agent();
    cluster.wait_for_marathon();
    assert_eq!(cluster.wait_for_tasks("/sleeper", 2), before);
}
