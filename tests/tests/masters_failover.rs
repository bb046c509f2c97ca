//! Three masters with a replicated registry: the leader's death, a replica that comes back, one that lost its disk,
//! and too few of them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::programs::{binary, original_mesos};
use end_to_end::{Daemon, http, need, ports, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

struct Masters {
    // Dropped before the cluster, whose directory holds their logs.
    running: [Option<Daemon>; 3],
    cluster: Cluster,
    ports: [u16; 3],
    /// Which of them are originals.
    originals: [bool; 3],
    /// How much each had printed when it was last started.
    printed: [usize; 3],
}

impl Masters {
    fn start() -> Self {
        Self::start_mixed([false; 3])
    }

    fn start_mixed(originals: [bool; 3]) -> Self {
        let mut cluster = Cluster::new();
        cluster.start_zookeeper();
        let running = [None, None, None];
        let mut masters =
            Self { cluster, ports: ports::free(), running, originals, printed: [0; 3] };
        for index in 0..3 {
            masters.start_master(index);
        }
        masters
    }

    fn work_dir(&self, index: usize) -> PathBuf {
        self.cluster.directory().join(format!("master-{index}"))
    }

    fn start_master(&mut self, index: usize) {
        let program = if self.originals[index] {
            original_mesos().expect("checked before").join("bin/mesos-master")
        } else {
            binary("mesos-master")
        };
        let mut command = Command::new(program);
        command
            .arg(format!("--zk={}", self.cluster.zk()))
            .args(["--quorum=2", "--ip=127.0.0.1", "--hostname=127.0.0.1"])
            .args(["--zk_session_timeout=4secs", "--registry_store_timeout=3secs"])
            .arg(format!("--port={}", self.ports[index]))
            .arg(format!("--work_dir={}", self.work_dir(index).display()));
        let name = format!("master-{index}");
        let log = self.cluster.directory().join(format!("{name}.log"));
        let before = std::fs::metadata(log)
            .map_or(0, |metadata| usize::try_from(metadata.len()).expect("a file in memory"));
        let daemon = Daemon::start(&name, self.cluster.directory(), &mut command);
        self.printed[index] = before;
        self.running[index] = Some(daemon);
    }

    fn kill(&mut self, index: usize) {
        self.running[index].take().expect("a running master").kill();
    }

    fn output(&self, index: usize) -> String {
        self.running[index].as_ref().expect("a running master").output()
    }

    fn get(&self, index: usize, path: &str) -> Result<Value, String> {
        let reply =
            http::get_unredirected(&format!("http://127.0.0.1:{}{path}", self.ports[index]))?;
        if reply.status == 200 { Ok(reply.json()) } else { Err(reply.status.to_string()) }
    }

    /// The one that serves, with its state; an error tells what each says.
    fn leader(&self) -> Result<(usize, Value), String> {
        let alive = (0..3).filter(|index| self.running[*index].is_some());
        let mut answers = Vec::new();
        for index in alive {
            match self.get(index, "/state") {
                Ok(state) => return Ok((index, state)),
                Err(error) => answers.push(format!("{index}: {error}")),
            }
        }
        Err(answers.join(", "))
    }

    fn wait_for_leader(&self) -> usize {
        wait::until("a master that serves", LIMIT, || self.leader()).0
    }

    /// Waits until a master serves and counts one active agent, and the agent has heard so: which master, and the
    /// agent's id. An agent that dies, or whose master does, before it knows its id gets another.
    fn wait_for_agent(&self) -> (usize, String) {
        wait::until("an active agent under some master", LIMIT, || {
            let (index, state) = self.leader()?;
            let agent = &state["slaves"][0];
            let (Some(true), Some(id)) = (agent["active"].as_bool(), agent["id"].as_str()) else {
                return Err(state["slaves"].to_string());
            };
            let own = http::get(&self.cluster.agent_url("/state"))?.json();
            if own["id"] == id { Ok((index, id.to_owned())) } else { Err(own["id"].to_string()) }
        })
    }

    /// Waits until the log's replica of every master votes: only then may any of them be lost.
    fn wait_for_votes(&self) {
        // An original's words, and ours when it starts and later.
        const VOTES: [&str; 4] = [
            "Replica is in VOTING",
            "joined the Paxos group",
            "status=\"VOTING\"",
            "to=\"VOTING\"",
        ];
        for index in 0..3 {
            wait::until("every replica to vote", LIMIT, || {
                let output = self.output(index).split_off(self.printed[index]);
                if VOTES.iter().any(|words| output.contains(words)) { Ok(()) } else { Err(output) }
            });
        }
    }

    /// Waits until a master that doesn't lead answers.
    fn wait_for_redirect(&self, index: usize) {
        wait::until("a following master", LIMIT, || match self.get(index, "/state") {
            Err(status) if status == "307" => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn registry(&self, index: usize) -> String {
        // The original answers with an empty object while it still reads it.
        wait::until("the leader's registry", LIMIT, || {
            let registry = self.get(index, "/registrar(1)/registry")?;
            if registry.get("master").is_some() {
                Ok(registry.to_string())
            } else {
                Err(registry.to_string())
            }
        })
    }

    fn next_after(index: usize) -> usize {
        (index + 1) % 3
    }
}

#[test]
fn another_master_leads_with_the_registry_and_tasks_stay() {
    let mut masters = Masters::start();
    masters.cluster.start_agent();
    masters.cluster.start_marathon();
    masters.cluster.wait_for_marathon();
    let (first, agent) = masters.wait_for_agent();
    masters.cluster.run_app("/sleeper", "sleep 1000", 1);
    let tasks = masters.cluster.wait_for_tasks("/sleeper", 1);
    masters.wait_for_votes();

    masters.kill(first);
    let second = masters.wait_for_leader();
    assert_ne!(second, first);
    assert!(masters.registry(second).contains(&agent), "the agent is in the registry");
    assert_eq!(masters.wait_for_agent(), (second, agent.clone()), "the agent keeps its id");
    assert_eq!(masters.cluster.wait_for_tasks("/sleeper", 1), tasks, "the task stays");

    // With the one that was killed back, the death of another leaves a quorum again: it needs what it missed.
    masters.start_master(first);
    masters.wait_for_redirect(first);
    masters.kill(second);
    let (third, same_agent) = masters.wait_for_agent();
    assert_ne!(third, second);
    assert_eq!(same_agent, agent, "the agent keeps its id");
    assert_eq!(masters.cluster.wait_for_tasks("/sleeper", 1), tasks, "the task stays");

    // One of three is no quorum: it says so and doesn't serve.
    let last = (0..3).find(|index| *index != second && *index != third).expect("a third");
    let earlier = masters.output(last).len();
    masters.kill(third);
    wait::until("the last master to tell what is missing", LIMIT, || {
        let output = masters.output(last).split_off(earlier);
        let tells = ["too few replicas: 1 known", "--quorum=2"];
        if tells.iter().all(|part| output.contains(part)) { Ok(()) } else { Err(output) }
    });
    assert!(masters.leader().is_err(), "one of three does not serve");

    masters.start_master(second);
    masters.start_master(third);
    assert_eq!(masters.wait_for_agent().1, agent, "the agent keeps its id");
    assert_eq!(masters.cluster.wait_for_tasks("/sleeper", 1), tasks, "the task stays");
}

#[test]
fn a_replica_that_lost_its_disk_catches_up_before_it_counts() {
    let mut masters = Masters::start();
    masters.cluster.start_agent();
    let (leader, agent) = masters.wait_for_agent();
    // The registry is on two disks as soon as an agent is registered. The one that is lost must not be the second of two.
    masters.wait_for_votes();

    let emptied = Masters::next_after(leader);
    let earlier = masters.output(emptied).len();
    masters.kill(emptied);
    std::fs::remove_dir_all(masters.work_dir(emptied)).expect("the replica's directory");
    masters.start_master(emptied);
    wait::until("the emptied replica to vote again", LIMIT, || {
        // The first life's output is in the same file.
        let output = masters.output(emptied).split_off(earlier);
        let came_back = output.contains("from=\"RECOVERING\" to=\"VOTING\"");
        if came_back { Ok(()) } else { Err(output) }
    });

    // Now the quorum is the emptied one and one more.
    masters.kill(leader);
    let next = masters.wait_for_leader();
    assert!(masters.registry(next).contains(&agent), "the agent is in the registry");
    assert_eq!(masters.wait_for_agent(), (next, agent), "the agent keeps its id");
}

#[test]
fn a_registry_of_one_master_is_not_forgotten_for_a_replicated_one() {
    let mut masters = Masters::start();
    masters.wait_for_leader();
    masters.kill(0);
    let directory = masters.work_dir(0).join("replicated_log");
    std::fs::remove_file(directory.join("replica")).expect("the replica's file");
    std::fs::write(directory.join("log"), b"MESOLOG1").expect("a log");
    masters.start_master(0);
    let daemon = masters.running[0].as_mut().expect("just started");
    assert!(!daemon.wait_for_end(LIMIT).success());
    assert!(masters.output(0).contains("holds a registry written with --quorum=1"));
}

#[test]
fn originals_and_ours_agree_in_one_group() {
    need!(original_mesos().is_some(), "a real Mesos 1.11 (../shared/oracle) can't be built here");
    // Whichever leads first: leaders die until each kind has taken over from the other.
    let mut masters = Masters::start_mixed([false, true, true]);
    masters.cluster.start_agent();
    let (mut leader, agent) = masters.wait_for_agent();
    let mut led = vec![leader];
    let took_over = |led: &[usize], ours: [bool; 2]| {
        led.windows(2).any(|pair| [pair[0] == 0, pair[1] == 0] == ours)
    };
    while !(took_over(&led, [true, false]) && took_over(&led, [false, true])) {
        assert!(led.len() < 8, "one kind never took over from the other: {led:?}");
        masters.wait_for_votes();
        masters.kill(leader);
        let next = masters.wait_for_leader();
        assert!(masters.registry(next).contains(&agent), "the agent is in the registry");
        assert_eq!(masters.wait_for_agent(), (next, agent.clone()), "the agent keeps its id");
        masters.start_master(leader);
        masters.wait_for_redirect(leader);
        leader = next;
        led.push(leader);
    }
}
