//! Frameworks of each API kind, the original's v0 driver among them, run many tasks while the leading master and the agent are
//! killed: every task ends once, and no update is lost.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::programs::{binary, original_driver, root};
use end_to_end::{http, ports, skip, wait};
use serde_json::Value;

/// Each kind's tasks, unless `MESO_MANY_TASKS` says otherwise: ten thousand in all.
const COUNT: usize = 2_500;
const LIMIT: Duration = Duration::from_secs(280);

fn start_master(cluster: &Cluster, index: usize, port: u16) -> Daemon {
    let mut master = Command::new(binary("mesos-master"));
    let work = cluster.directory().join(format!("master-{index}"));
    master
        .arg(format!("--zk={}", cluster.zk()))
        .args([
            "--quorum=2",
            "--ip=127.0.0.1",
            "--hostname=127.0.0.1",
            "--zk_session_timeout=4secs",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--work_dir={}", work.display()));
    Daemon::start(&format!("master-{index}"), cluster.directory(), &mut master)
}

/// Which master has an active agent.
fn leader(ports: &[u16]) -> Result<usize, String> {
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        match http::get_unredirected(&format!("http://127.0.0.1:{port}/slaves")) {
            Ok(reply) if reply.status == 200 && reply.json()["slaves"][0]["active"] == true => {
                return Ok(index);
            }
            other => seen.push(format!("{other:?}")),
        }
    }
    Err(seen.join("; "))
}

fn done(framework: &Daemon) -> usize {
    let output = framework.output();
    let last = output.lines().rev().find_map(|line| line.strip_prefix("done: ")?.parse().ok());
    last.unwrap_or_default()
}

#[test]
fn every_task_ends_once_while_masters_and_agents_die() {
    let count = std::env::var("MESO_MANY_TASKS").ok().and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(COUNT);
    let mut cluster = Cluster::in_memory();
    cluster.start_zookeeper();
    let ports: [u16; 3] = ports::free();
    let mut masters: Vec<Option<Daemon>> = ports
        .iter()
        .enumerate()
        .map(|(index, port)| Some(start_master(&cluster, index, *port)))
        .collect();
    cluster.start_agent();
    let first = wait::until("an active agent", LIMIT, || leader(&ports));
    let masters_at: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut kinds = ["json", "protobuf", "v0"].map(|kind| (kind, masters_at.clone())).to_vec();
    match original_driver(cluster.directory()) {
        Some(program) => kinds.push(("driver", vec![program.display().to_string(), cluster.zk()])),
        None => skip::refuse("of the original's v0 driver: ../shared/oracle can't be built here"),
    }
    let clients = root().join("tests/clients");
    let start = |(kind, masters): (&str, Vec<String>)| {
        let mut framework = Command::new("python3");
        framework
            .arg(clients.join("many_tasks.py"))
            .args([kind, &count.to_string()])
            .arg(clients.join("finishing_executor.py"))
            .args(masters)
            .env("LIBPROCESS_IP", "127.0.0.1");
        Daemon::start(kind, cluster.directory(), &mut framework)
    };
    let frameworks: Vec<Daemon> = kinds.into_iter().map(start).collect();
    // All see what happens then: the quickest is not done.
    let wait_for = |part: usize| {
        wait::until(&format!("{part} tasks of one kind"), LIMIT, || {
            let counts: Vec<usize> = frameworks.iter().map(done).collect();
            let is_wrong = |framework: &&Daemon| framework.output().contains("\"wrong\": [\"");
            if let Some(framework) = frameworks.iter().find(is_wrong) {
                panic!("{}", framework.output());
            }
            if counts.iter().any(|count| *count >= part) {
                Ok(())
            } else {
                Err(format!("{counts:?}"))
            }
        });
    };
    wait_for(count / 4);
    masters[first].take().expect("the leader").kill();
    let second = wait::until("the next leader with the agent", LIMIT, || leader(&ports));
    assert_ne!(first, second);
    masters[first] = Some(start_master(&cluster, first, ports[first]));
    wait_for(count / 2);
    cluster.agent.take().expect("the agent").kill();
    cluster.start_agent();
    wait_for(count / 4 * 3);
    masters[second].take().expect("the second leader").kill();
    for mut framework in frameworks {
        let status = framework.wait_for_end(LIMIT);
        let output = framework.output();
        assert!(status.success(), "{output}");
        let account: Value =
            serde_json::from_str(output.lines().last().unwrap_or_default()).expect("the account");
        assert_eq!(account["finished"], count, "{account}");
        assert!(account["failovers"].as_u64() >= Some(2), "{account}");
        let launched = account["launched"].as_u64().unwrap_or_default();
        let lost = account["lost"].as_u64().unwrap_or_default();
        assert_eq!(launched - lost, count as u64, "{account}");
    }
}
