//! Published framework libraries against our master and agent, while daemons die.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::programs::{python, root};
use end_to_end::{need, wait};

fn framework(cluster: &Cluster, count: u32, command: &str) -> Daemon {
    let python = python().expect("checked before");
    Daemon::start(
        "framework",
        cluster.directory(),
        Command::new(python)
            .arg(root().join("tests/clients/framework.py"))
            .arg(cluster.zk())
            .arg(count.to_string())
            .arg(command),
    )
}

fn started() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.start_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.wait_for_agent();
    cluster
}

fn wait_for_updates(framework: &Daemon, count: usize) {
    wait::until(&format!("{count} finished tasks"), Duration::from_secs(60), || {
        let finished = framework.output().matches("TASK_FINISHED").count();
        if finished >= count { Ok(()) } else { Err(format!("{finished} finished")) }
    });
}

fn expect_success(mut framework: Daemon) {
    let status = framework.wait_for_end(Duration::from_secs(130));
    assert!(status.success(), "the framework saw something wrong:\n{}", framework.output());
}

#[test]
fn a_pymesos_framework_runs_its_tasks() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let cluster = started();
    expect_success(framework(&cluster, 20, "exit 0"));
}

#[test]
fn a_killed_master_loses_no_task() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut cluster = started();
    let framework = framework(&cluster, 60, "sleep 0.2");
    wait_for_updates(&framework, 5);
    cluster.master.take().expect("a running master").kill();
    cluster.start_master();
    expect_success(framework);
}

#[test]
fn a_killed_agent_loses_no_task() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut cluster = started();
    let framework = framework(&cluster, 60, "sleep 0.2");
    wait_for_updates(&framework, 5);
    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    expect_success(framework);
}

#[test]
fn a_killed_zookeeper_server_loses_no_task() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut cluster = started();
    let framework = framework(&cluster, 60, "sleep 0.2");
    wait_for_updates(&framework, 5);
    cluster.zookeeper.take().expect("a running ZooKeeper server").kill();
    cluster.start_zookeeper();
    expect_success(framework);
}
