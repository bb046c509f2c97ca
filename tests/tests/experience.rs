//! What tasks find and what is said of them: the same on our agent as on the original's, with the same executors.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use end_to_end::programs::original_mesos;
use end_to_end::site::{Maker, Parts, Site};
use end_to_end::{http, need, skip, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// s3cr3t
const SECRET: &str = "czNjcjN0";

fn command(text: &str) -> Value {
    json!({"command": {"value": text}})
}

/// Tasks, and the states that they end in.
fn tasks() -> Vec<(&'static str, &'static str, Value)> {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let secret = json!({"type": "VALUE", "value": {"data": SECRET}});
    let custom = |text: &str| {
        json!({"executor": {
            "type": "CUSTOM", "executor_id": {"value": format!("executor-{}", text.len())},
            "command": {"value": text},
        }})
    };
    let with = |text: &str, key: &str, value: Value| {
        let mut task = command(text);
        task[key] = value;
        task
    };
    let contained = |key: &str, value: Value| {
        let mut container = json!({"type": "MESOS"});
        container[key] = value;
        with("true", "container", container)
    };
    let mut environment = command("env | sort; umask; id");
    environment["command"]["user"] = json!("nobody");
    environment["command"]["environment"] = json!({"variables": [
        variable("A", "1"), variable("PATH", "/usr/bin:/bin:/own"),
        {"name": "WORD", "type": "SECRET", "secret": secret},
    ]});
    let mut stranger = command("true");
    stranger["command"]["user"] = json!("no-such-user");
    vec![
        ("environment", "TASK_FINISHED", environment),
        ("signal", "TASK_FAILED", command("kill -15 $$")),
        ("stranger", "TASK_DROPPED", stranger),
        ("early", "TASK_FAILED", custom("env | sort > found; exit 5")),
        ("late", "TASK_FAILED", custom("exec sleep 1000")),
        ("network", "TASK_FAILED", contained("network_infos", json!([{"name": "no-such"}]))),
        (
            "docker",
            "TASK_FAILED",
            with("true", "container", json!({"type": "DOCKER", "docker": {"image": "none"}})),
        ),
    ]
}

/// What is seen of the tasks on one agent: of each its updates, and its sandbox.
fn experience(agent: Maker) -> BTreeMap<&'static str, Vec<String>> {
    let domain = r#"--domain={"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}"#;
    let flags = ["--executor_registration_timeout=3secs", domain];
    let parts = Parts::default();
    let agent_flags = [&parts.agent_flags[..], &flags].concat();
    let site = Site::start(Parts { agent, master_flags: vec![domain], agent_flags, ..parts });
    let tasks = tasks();
    for (task, _, more) in &tasks {
        site.run(task, more);
    }
    for (task, state, _) in &tasks {
        site.wait_for(task, state);
    }
    let each = tasks.iter().map(|(task, _, _)| {
        let mut seen: Vec<String> = site.updates(task).iter().map(Value::to_string).collect();
        seen.extend(sandbox(&site, task));
        (*task, seen.iter().map(|text| without_names(&site, text)).collect())
    });
    let mut all: BTreeMap<_, _> = each.collect();
    let shown = |url: String| http::get_json(&url).expect("an answer");
    let agent = shown(site.agent_url("/state"))["domain"].to_string();
    let master = shown(site.master_url("/slaves"))["slaves"][0]["domain"].to_string();
    assert!(agent.contains("fault_domain"), "{agent}");
    all.insert("where they are", vec![agent, master]);
    all
}

/// The sandbox's owner and mode, and what the task wrote down.
fn sandbox(site: &Site, task: &str) -> Vec<String> {
    // A docker task's and a stranger's are there on neither, or empty.
    if !matches!(task, "environment" | "signal") {
        return Vec::new();
    }
    let (_, sandbox) = site.executor(task);
    let found = fs::metadata(&sandbox).expect("a sandbox");
    let text = fs::read_to_string(sandbox.join("stdout")).expect("its output");
    vec![format!("{:o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid()), text]
}

/// A text without what differs from run to run.
fn without_names(site: &Site, text: &str) -> String {
    let text = text.replace(&site.directory().display().to_string(), "SITE");
    let text = text.replace(&site.agent_port().to_string(), "PORT");
    let mut words = String::new();
    for part in text.split_inclusive(|own: char| !own.is_ascii_alphanumeric() && own != '-') {
        let (word, end) = part.split_at(
            part.trim_end_matches(|own: char| !own.is_ascii_alphanumeric() && own != '-').len(),
        );
        let is_id = word.len() >= 36 && word.bytes().filter(|own| *own == b'-').count() >= 4;
        words.push_str(if is_id { "ID" } else { word });
        words.push_str(end);
    }
    words
}

#[test]
fn tasks_find_and_are_told_of_as_on_the_originals_agent() {
    need!(skip::is_root(), "tasks of other users need root");
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let (mut ours, mut originals) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| experience(Maker::Ours));
        let originals = experience(Maker::Original);
        (ours.join().expect("what ours does"), originals)
    });
    // Ours says more: which containerizer is missing, and which flags a network needs.
    for (task, more) in [("docker", "None of the enabled"), ("network", "The network 'no-such'")] {
        let last = |own: &mut BTreeMap<&str, Vec<String>>| own.get_mut(task).and_then(Vec::pop);
        let (ours, originals) = (last(&mut ours), last(&mut originals));
        let without = |text: Option<String>| {
            let mut update: Value = serde_json::from_str(&text.unwrap_or_default()).expect(task);
            let message = update["message"].take();
            (update, message.as_str().unwrap_or_default().to_owned())
        };
        let ((ours, text), (originals, _)) = (without(ours), without(originals));
        assert_eq!(ours, originals, "{task}");
        assert!(text.contains(more), "{text}");
    }
    assert_eq!(ours, originals);
}

#[test]
fn tasks_in_process_namespaces_hear_signals_and_have_terminals() {
    need!(skip::is_root(), "namespaces need root");
    let site = Site::start(Parts {
        agent_flags: vec![
            "--launcher=posix",
            "--isolation=posix/cpu,posix/mem,filesystem/linux,namespaces/pid",
        ],
        ..Parts::default()
    });
    // No shell that unblocks what its parent blocked.
    let sleep =
        json!({"command": {"shell": false, "value": "sleep", "arguments": ["sleep", "1000"]}});
    site.run("asleep", &sleep);
    site.run("self", &command("kill -15 $$"));
    site.wait_for("asleep", "TASK_RUNNING");
    site.order(&json!({"kill": "asleep", "grace": 50}));
    let by_signal = "Command terminated with signal Terminated";
    assert_eq!(site.wait_for("asleep", "TASK_KILLED")["message"], by_signal);
    assert_eq!(site.wait_for("self", "TASK_FAILED")["message"], by_signal);

    let mut seen = command("tty; stty size; exec sleep 1000");
    seen["container"] =
        json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 11, "columns": 22}}});
    site.run_group("pod", &[("seen", seen)]);
    site.wait_for("seen", "TASK_RUNNING");
    let (container, sandbox) = site.executor("pod");
    let output = || {
        let nested = fs::read_dir(sandbox.join("containers")).into_iter().flatten().flatten();
        nested
            .map(|entry| fs::read_to_string(entry.path().join("stdout")).unwrap_or_default())
            .collect::<String>()
    };
    wait::until("a terminal of this size", LIMIT, || {
        let text = output();
        if text.ends_with("11 22\r\n") && text.starts_with("/dev/pts/") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let id = json!({"value": "look", "parent": {"value": container}});
    let launch = json!({
        "type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": {
            "container_id": id, "command": {"value": "stty size"},
            "container": {"type": "MESOS", "tty_info": {"window_size": {"rows": 33, "columns": 44}}},
        },
    });
    let reply = site.call(&launch);
    assert!(reply.body.contains("MzMgNDQNCg=="), "33 44: {} {}", reply.status, reply.body);
}
