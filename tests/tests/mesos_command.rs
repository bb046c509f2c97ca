//! The `mesos` command on a running cluster: what is there, what tasks print, being inside their containers, and the
//! operator's side.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::programs::binary;
use end_to_end::{http, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

struct Console {
    cluster: Cluster,
}

impl Console {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("mesos"));
        command
            .env("MESOS_MASTER", format!("127.0.0.1:{}", self.cluster.master_port))
            .env("HOME", self.cluster.directory())
            .args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("mesos starts")
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {error}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.text(&all)).expect("JSON")
    }

    /// What is complained of.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn start_app(&self) -> String {
        // It does not end at once when it is told to.
        let command = "trap '' TERM; echo first; echo second; echo third; exec sleep 3600";
        let app = json!({"id": "/talk", "cpus": 0.1, "mem": 32, "cmd": command});
        let created = http::post(&self.cluster.marathon_url("/v2/apps"), &app).expect("an answer");
        assert_eq!(created.status, 201, "{}", created.body);
        wait::until("a running task", LIMIT, || {
            let tasks = self.json(&["tasks"]);
            let task = &tasks["tasks"][0];
            if task["state"] == "TASK_RUNNING" {
                Ok(task["task_id"]["value"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(tasks.to_string())
            }
        })
    }
}

#[test]
fn a_cluster_is_seen_and_operated() {
    let console = Console { cluster: Cluster::start() };
    let task = console.start_app();
    let state = console.json(&["agents"]);
    let agent = state["agents"][0]["agent_info"]["id"]["value"].as_str().expect("an id").to_owned();

    let agents = console.text(&["agents"]);
    assert!(agents.contains(&agent) && agents.contains("0.1/4"), "{agents}");
    assert!(console.text(&["frameworks"]).contains("marathon"));
    assert!(console.text(&["tasks"]).contains("RUNNING"));
    assert_eq!(
        console.json(&["state"])["get_tasks"]["tasks"][0]["task_id"]["value"],
        task.as_str()
    );
    // Found through ZooKeeper as well.
    assert!(console.text(&["--master", &console.cluster.zk(), "agents"]).contains(&agent));

    wait::until("the task's output", LIMIT, || {
        let printed = console.text(&["logs", "talk"]);
        if printed.ends_with("first\nsecond\nthird\n") { Ok(()) } else { Err(printed) }
    });
    assert_eq!(console.text(&["logs", &task, "-n", "2"]), "second\nthird\n");
    assert!(console.text(&["ls", "talk"]).contains("stdout"));
    let copy = console.cluster.directory().join("copy");
    console.text(&["cp", "talk:stdout", &copy.display().to_string()]);
    assert!(std::fs::read_to_string(&copy).expect("the copy").ends_with("third\n"));
    assert!(console.refused(&["logs", "nobody"]).contains("there is no task 'nobody'"));
    for (arguments, next) in [
        (&["logs", "talk", "nothing"][..], "cannot read"),
        (&["logs", "talk", "nothing"], "`mesos ls"),
        (&["ls", "talk", "nothing"], "`mesos ls"),
        (&["cp", "talk:nothing", "-"], "`mesos ls"),
        (&["tasks", "--framework", "nobody"], "`mesos frameworks --all`"),
        (&["teardown", "nobody"], "`mesos frameworks`"),
        (&["gone", "nobody"], "`mesos agents`"),
        (&["volumes", "create", &agent, "v", "--size", "16", "--role", "web"], "64MB"),
    ] {
        let reason = console.refused(arguments);
        assert!(reason.contains(next), "{arguments:?}: {reason}");
    }

    console.text(&["weights", "web=2.5"]);
    assert!(console.text(&["weights"]).contains("2.5"));
    console.text(&["quota", "set", "web", "--limits", "cpus:1;mem:512"]);
    assert!(console.text(&["quota", "list"]).contains("cpus:1; mem:512"));
    console.text(&["quota", "remove", "web"]);
    assert!(!console.text(&["quota", "list"]).contains("web"));
    assert!(console.refused(&["quota", "set", "web"]).contains("--guarantees"));

    console.text(&["reserve", &agent, "cpus:1;disk:100", "--role", "web", "--as", "ops"]);
    wait::until("the reservation", LIMIT, || {
        let agents = console.json(&["agents"]).to_string();
        if agents.contains("\"principal\":\"ops\"") { Ok(()) } else { Err(agents) }
    });
    console.text(&[
        "volumes", "create", &agent, "v1", "--size", "64MB", "--role", "web", "--as", "ops",
    ]);
    wait::until("the volume", LIMIT, || {
        let volumes = console.text(&["volumes", "list"]);
        if volumes.contains("v1") && volumes.contains("64MB") { Ok(()) } else { Err(volumes) }
    });
    console.text(&["volumes", "destroy", &agent, "v1"]);
    console.text(&["unreserve", &agent, "cpus:1;disk:100", "--role", "web", "--as", "ops"]);
    assert!(
        console.refused(&["reserve", "elsewhere", "cpus:1", "--role", "web"]).contains("elsewhere")
    );

    console.text(&["deactivate", &agent]);
    assert!(console.text(&["agents"]).contains("deactivated"));
    console.text(&["reactivate", &agent]);
    console.text(&["drain", &agent, "--max-grace-period", "5secs"]);
    assert!(console.text(&["agents"]).contains("drain"));
    assert!(console.text(&["maintenance", "status"]).contains("MACHINE"));
    assert!(console.refused(&["reactivate", &agent]).contains("DRAINING"));
}

#[test]
fn a_command_runs_inside_a_tasks_container() {
    let console = Console { cluster: Cluster::start() };
    let task = console.start_app();
    let output = console.output(&["exec", &task, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
        (Some(7), b"out\n".as_slice(), b"err\n".as_slice())
    );
    let mut typing = console
        .command(&["exec", "-i", &task, "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("mesos starts");
    typing.stdin.take().expect("its input").write_all(b"typed\n").expect("it reads");
    let output = typing.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"typed\n".as_slice()));
    assert!(console.refused(&["exec", "-t", &task, "true"]).contains("no terminal"));
}

#[test]
fn who_is_not_there_is_named() {
    let nobody = Command::new(binary("mesos"))
        .args(["--master", "127.0.0.1:1", "agents"])
        .output()
        .expect("mesos starts");
    let error = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(error.contains("the master at http://127.0.0.1:1 does not answer"), "{error}");
}
