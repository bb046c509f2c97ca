//! Originals on the other end of the wire: our agent under a real Mesos 1.11 master, a real 1.11 agent under our
//! master, and the real v0 driver.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::programs::{original_driver, original_mesos, python, root};
use end_to_end::{http, need, wait};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const WHY: &str = "a real Mesos 1.11 (../shared/oracle) can't be built here";

/// Directories of the originals, below the cluster's so that whatever runs there ends with it.
fn directory(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.directory().join(name);
    std::fs::create_dir_all(&path).expect("a directory of the test");
    path
}

fn start_original_master(cluster: &mut Cluster) {
    let original = original_mesos().expect("checked before");
    cluster.master = Some(Daemon::start(
        "original-master",
        cluster.directory(),
        Command::new(original.join("bin/mesos-master"))
            .arg(format!("--zk={}", cluster.zk()))
            .args([
                "--quorum=1",
                "--ip=127.0.0.1",
                "--hostname=127.0.0.1",
                "--zk_session_timeout=4secs",
            ])
            .arg(format!("--port={}", cluster.master_port))
            .arg(format!("--work_dir={}", directory(cluster, "original-master").display())),
    ));
}

/// Our ZooKeeper and agent, and the original's master.
fn under_original_master() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.start_zookeeper();
    start_original_master(&mut cluster);
    cluster.start_agent();
    cluster
}

fn start_original_agent(cluster: &mut Cluster) {
    let original = original_mesos().expect("checked before");
    cluster.agent = Some(Daemon::start(
        "original-agent",
        cluster.directory(),
        Command::new(original.join("bin/mesos-agent"))
            .arg(format!("--master={}", cluster.zk()))
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--no-systemd_enable_support"])
            .args(["--launcher=posix", "--isolation=posix/cpu,posix/mem", "--containerizers=mesos"])
            .arg("--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]")
            .arg("--executor_reregistration_timeout=10secs")
            .arg(format!("--port={}", cluster.agent_port))
            .arg(format!("--launcher_dir={}", original.join("bin").display()))
            .arg(format!("--work_dir={}", directory(cluster, "agent").display()))
            .arg(format!("--runtime_dir={}", directory(cluster, "agent-runtime").display())),
    ));
}

/// The real v0 driver with one task.
fn start_driver(cluster: &Cluster, command: &str, more: &[&str]) -> Daemon {
    let original = original_mesos().expect("checked before");
    Daemon::start(
        "driver",
        cluster.directory(),
        Command::new(original.join("bin/mesos-sched"))
            .env("LIBPROCESS_IP", "127.0.0.1")
            .arg(cluster.zk())
            .args(["--tasks=1", "--checkpoint", "--failover_timeout=600"])
            .arg(format!("--command={command}"))
            .args(more),
    )
}

fn wait_for_state(driver: &Daemon, state: &str) {
    wait::until(&format!("{state} at the driver"), LIMIT, || {
        let output = driver.output();
        let is_there =
            output.lines().any(|line| line.starts_with("status:") && line.contains(state));
        if is_there { Ok(()) } else { Err(output) }
    });
}

/// The process that a task wrote the id of.
fn pid_in(file: &Path) -> u32 {
    wait::until("the task's process id", LIMIT, || {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| format!("'{text}'"))
    })
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn running_tasks(cluster: &Cluster) -> Result<Vec<String>, String> {
    let state = http::get_json(&cluster.master_url("/state"))?;
    let frameworks = state["frameworks"].as_array().cloned().unwrap_or_default();
    let tasks = frameworks
        .iter()
        .flat_map(|framework| framework["tasks"].as_array().cloned().unwrap_or_default());
    Ok(tasks
        .filter(|task| task["state"] == "TASK_RUNNING")
        .filter_map(|task| task["id"].as_str().map(str::to_owned))
        .collect())
}

fn wait_for_registered_again(cluster: &Cluster) {
    wait::until("the agent to be registered and its task known", LIMIT, || {
        let state = http::get_json(&cluster.master_url("/state"))?;
        let tasks = running_tasks(cluster)?;
        if state["activated_slaves"].as_f64() == Some(1.0) && tasks.len() == 1 {
            Ok(())
        } else {
            Err(format!("{tasks:?} {}", state["slaves"]))
        }
    });
}

/// A task that runs until a file appears, and where it writes its process id.
fn until_released(cluster: &Cluster) -> (String, PathBuf, PathBuf) {
    let (pid, release) = (cluster.directory().join("pid"), cluster.directory().join("release"));
    let command = format!(
        "echo $$ > {}; while [ ! -e {} ]; do sleep 0.1; done",
        pid.display(),
        release.display()
    );
    (command, pid, release)
}

fn agent_id(cluster: &Cluster) -> String {
    wait::until("the agent's id", LIMIT, || {
        let state = http::get_json(&cluster.agent_url("/state"))?;
        state["id"]
            .as_str()
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| state.to_string())
    })
}

#[test]
fn our_agent_runs_a_task_of_the_original_driver_under_the_original_master() {
    need!(original_mesos().is_some(), "{WHY}");
    let cluster = under_original_master();
    cluster.wait_for_agent();
    let mut driver = start_driver(&cluster, "echo hello; exit 0", &[]);
    let status = driver.wait_for_end(LIMIT);
    let output = driver.output();
    assert!(status.success() && output.contains("TASK_FINISHED"), "{output}");
    assert!(output.contains("Command exited with status 0"), "{output}");
    let mut driver = start_driver(&cluster, "exit 3", &[]);
    driver.wait_for_end(LIMIT);
    assert!(driver.output().contains("Command exited with status 3"), "{}", driver.output());
}

#[test]
fn our_marathon_runs_and_scales_an_app_on_the_original_master() {
    need!(original_mesos().is_some(), "{WHY}");
    let mut cluster = under_original_master();
    cluster.start_marathon();
    cluster.wait_for_agent();
    cluster.wait_for_marathon();
    cluster.run_app("/app", "sleep 1000", 1);
    let before = cluster.wait_for_tasks("/app", 1);
    // The next of the originals is told of the same framework and its task.
    cluster.master.take().expect("a running master").kill();
    start_original_master(&mut cluster);
    cluster.wait_for_agent();
    let scaled = http::put(&cluster.marathon_url("/v2/apps/app"), &json!({"instances": 2}));
    assert_eq!(scaled.expect("Marathon answers").status, 200);
    let after = cluster.wait_for_tasks("/app", 2);
    assert!(after.contains(&before[0]), "{before:?} {after:?}");
    assert_eq!(running_tasks(&cluster).map(|tasks| tasks.len()), Ok(2));
}

#[test]
fn our_agent_keeps_its_task_through_its_own_and_the_original_masters_deaths() {
    need!(original_mesos().is_some(), "{WHY}");
    let mut cluster = under_original_master();
    cluster.wait_for_agent();
    let (command, pid, release) = until_released(&cluster);
    let mut driver = start_driver(&cluster, &command, &[]);
    wait_for_state(&driver, "TASK_RUNNING");
    let (task, id) = (pid_in(&pid), agent_id(&cluster));

    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    wait_for_registered_again(&cluster);
    assert_eq!(agent_id(&cluster), id);
    assert!(lives(task), "the task went on");

    cluster.master.take().expect("a running master").kill();
    start_original_master(&mut cluster);
    wait_for_registered_again(&cluster);
    assert_eq!(agent_id(&cluster), id);
    assert!(lives(task), "the task went on");

    std::fs::write(release, "").expect("the file that the task waits for");
    assert!(driver.wait_for_end(LIMIT).success(), "{}", driver.output());
    let output = driver.output();
    assert!(output.contains("TASK_FINISHED") && !output.contains("TASK_LOST"), "{output}");
}

#[test]
fn an_original_agent_runs_a_frameworks_tasks_under_our_master() {
    need!(original_mesos().is_some(), "{WHY}");
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut cluster = Cluster::new();
    cluster.start_zookeeper();
    cluster.start_master();
    start_original_agent(&mut cluster);
    cluster.wait_for_agent();
    let mut framework = Daemon::start(
        "framework",
        cluster.directory(),
        Command::new(python().expect("checked before"))
            .arg(root().join("tests/clients/framework.py"))
            .arg(cluster.zk())
            .args(["4", "exit 0"]),
    );
    let status = framework.wait_for_end(Duration::from_secs(130));
    assert!(status.success(), "the framework saw something wrong:\n{}", framework.output());
}

#[test]
fn the_original_driver_runs_a_task_on_our_master_and_agent() {
    need!(original_mesos().is_some(), "{WHY}");
    let mut cluster = Cluster::new();
    cluster.start_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.wait_for_agent();
    let (command, pid, release) = until_released(&cluster);
    let mut driver = start_driver(&cluster, &command, &[]);
    wait_for_state(&driver, "TASK_RUNNING");
    let task = pid_in(&pid);
    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    wait_for_registered_again(&cluster);
    assert!(lives(task), "the task went on");
    std::fs::write(release, "").expect("the file that the task waits for");
    assert!(driver.wait_for_end(LIMIT).success(), "{}", driver.output());
    let output = driver.output();
    assert!(output.contains("TASK_FINISHED") && !output.contains("TASK_LOST"), "{output}");
}

#[test]
fn the_original_driver_and_an_executor_exchange_messages_without_losing_any() {
    let mut cluster = Cluster::new();
    let driver = original_driver(cluster.directory());
    need!(driver.is_some(), "{WHY}");
    cluster.start_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.wait_for_agent();
    let clients = root().join("tests/clients");
    let mut framework = Command::new("python3");
    framework
        .env("LIBPROCESS_IP", "127.0.0.1")
        .arg(clients.join("driver_messages.py"))
        .arg(driver.expect("checked before"))
        .arg(cluster.zk())
        .arg(clients.join("executor_v0.py"))
        .arg("50");
    let mut framework = Daemon::start("framework", cluster.directory(), &mut framework);
    let status = framework.wait_for_end(LIMIT);
    assert!(status.success(), "{}", framework.output());
}

#[test]
fn our_agent_takes_over_an_originals_disk_and_task_and_gives_them_back() {
    need!(original_mesos().is_some(), "{WHY}");
    let mut cluster = Cluster::new();
    cluster.start_zookeeper();
    start_original_master(&mut cluster);
    start_original_agent(&mut cluster);
    cluster.wait_for_agent();
    let (command, pid, release) = until_released(&cluster);
    let mut driver = start_driver(&cluster, &command, &[]);
    wait_for_state(&driver, "TASK_RUNNING");
    let (task, id) = (pid_in(&pid), agent_id(&cluster));

    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    wait_for_registered_again(&cluster);
    assert_eq!(agent_id(&cluster), id);
    assert!(lives(task), "the task went on");

    cluster.agent.take().expect("a running agent").kill();
    start_original_agent(&mut cluster);
    wait_for_registered_again(&cluster);
    wait::until("the original agent to be back", LIMIT, || {
        let state = http::get_json(&cluster.agent_url("/state"))?;
        let executors = &state["frameworks"][0]["executors"];
        if state["id"] == *id && executors[0]["tasks"][0]["state"] == "TASK_RUNNING" {
            Ok(())
        } else {
            Err(executors.to_string())
        }
    });
    assert!(lives(task), "the task went on");

    std::fs::write(release, "").expect("the file that the task waits for");
    assert!(driver.wait_for_end(LIMIT).success(), "{}", driver.output());
    let output = driver.output();
    assert!(output.contains("TASK_FINISHED") && !output.contains("TASK_LOST"), "{output}");
}

/// Has the master carry out an operation on the one agent's resources.
fn operate(cluster: &Cluster, kind: &str, name: &str, list: &str, resource: &serde_json::Value) {
    let slaves = http::get_json(&cluster.master_url("/slaves")).expect("the agents");
    let mut wanted = serde_json::json!({"agent_id": {"value": slaves["slaves"][0]["id"]}});
    wanted[list] = serde_json::json!([resource]);
    let call = serde_json::json!({"type": kind, name: wanted});
    let reply = http::post(&cluster.master_url("/api/v1"), &call).expect("an answer");
    assert_eq!(reply.status, 202, "{kind}: {}", reply.body);
}

#[test]
fn our_agent_keeps_what_the_original_master_reserves_and_makes_there() {
    need!(original_mesos().is_some(), "{WHY}");
    let mut cluster = under_original_master();
    cluster.wait_for_agent();
    let mut volume = serde_json::json!({
        "name": "disk", "type": "SCALAR", "scalar": {"value": 64},
        "reservations": [{"type": "DYNAMIC", "role": "a/b"}],
    });
    let disk = volume.clone();
    volume["disk"] = serde_json::json!({
        "persistence": {"id": "v"}, "volume": {"container_path": "p", "mode": "RW"},
    });
    operate(&cluster, "RESERVE_RESOURCES", "reserve_resources", "resources", &disk);
    operate(&cluster, "CREATE_VOLUMES", "create_volumes", "volumes", &volume);
    let path = cluster.directory().join("agent/volumes/roles/a b/v");
    wait::until_true("the volume's directory", LIMIT, || path.is_dir());
    std::fs::write(path.join("data"), "x").expect("a file in the volume");

    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    wait::until("the agent to be back with its volume", LIMIT, || {
        let state = http::get_json(&cluster.master_url("/slaves"))?;
        let slave = &state["slaves"][0];
        let is_back = slave["active"] == true && slave["reregistered_time"].is_number();
        let disk = slave["reserved_resources"]["a/b"]["disk"].as_f64();
        if is_back && disk == Some(64.0) { Ok(()) } else { Err(slave.to_string()) }
    });
    assert!(path.join("data").exists());
    operate(&cluster, "DESTROY_VOLUMES", "destroy_volumes", "volumes", &volume);
    wait::until_true("the volume to go", LIMIT, || !path.exists());
    operate(&cluster, "UNRESERVE_RESOURCES", "unreserve_resources", "resources", &disk);
}
