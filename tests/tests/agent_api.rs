//! The agent's operator API where it is more than one question and one answer: sessions, terminals, standalone
//! containers, and what of them outlives the agent. The streams are shown on the original's agent as well.

use std::time::Duration;

use end_to_end::golden::{decode_base64, encode_base64};
use end_to_end::programs::original_mesos;
use end_to_end::site::{Maker, Parts, Site};
use end_to_end::stream::{self, Stream};
use end_to_end::{http, need, skip, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A pod that sleeps, and its container.
fn with_pod(parts: Parts) -> (Site, String) {
    let site = Site::start(parts);
    site.run_group("pod", &[("p", json!({"command": {"value": "sleep 600"}}))]);
    site.wait_for("p", "TASK_RUNNING");
    let (container, _) = site.executor("pod");
    (site, container)
}

fn nested(id: &str, parent: &str) -> Value {
    json!({"value": id, "parent": {"value": parent}})
}

fn session(site: &Site, id: &Value, command: &str, more: &Value) -> Stream {
    let mut launch = json!({"container_id": id, "command": {"value": command}});
    for (key, value) in more.as_object().into_iter().flatten() {
        launch[key] = value.clone();
    }
    let call = json!({
        "type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": launch,
    });
    let stream = stream::post(site.agent_port(), "/api/v1", &call);
    assert_eq!(stream.status, "200 OK");
    assert_eq!(stream.header("content-type"), Some("application/recordio"));
    assert_eq!(stream.header("message-content-type"), Some("application/json"));
    stream
}

/// Reads until `wanted` was printed on `kind`, or the end.
fn printed(stream: &mut Stream, kind: &str, wanted: &str) -> String {
    let mut text = Vec::new();
    let deadline = std::time::Instant::now() + LIMIT;
    while let Some(record) = stream.next_record() {
        // Heartbeats come for ever.
        assert!(std::time::Instant::now() < deadline, "{}", String::from_utf8_lossy(&text));
        let data = &record["data"];
        if data["type"] == kind {
            text.extend(decode_base64(data["data"].as_str().unwrap_or_default()));
        }
        if !wanted.is_empty() && String::from_utf8_lossy(&text).contains(wanted) {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn typed(text: &str) -> Value {
    process_io(json!({
        "type": "DATA", "data": {"type": "STDIN", "data": encode_base64(text.as_bytes())},
    }))
}

fn process_io(io: Value) -> Value {
    json!({
        "type": "ATTACH_CONTAINER_INPUT",
        "attach_container_input": {"type": "PROCESS_IO", "process_io": io},
    })
}

fn attach_input(site: &Site, id: &Value) -> stream::Upload {
    let mut upload = stream::upload(site.agent_port(), "/api/v1");
    let first = json!({
        "type": "ATTACH_CONTAINER_INPUT",
        "attach_container_input": {"type": "CONTAINER_ID", "container_id": id},
    });
    upload.send(&first).expect("a record is sent");
    upload
}

fn wait_for_end(site: &Site, id: &Value) -> Value {
    let call = json!({"type": "WAIT_CONTAINER", "wait_container": {"container_id": id}});
    let reply = site.call(&call);
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["wait_container"].clone()
}

/// What every agent does with sessions.
fn sessions_carry_input_and_output(parts: Parts) {
    let (site, pod) = with_pod(parts);
    let id = nested("plain", &pod);
    let mut stream = session(
        &site,
        &id,
        "echo to-stdout; echo to-stderr >&2; while read line; do echo got $line; done; exit 3",
        &json!({}),
    );
    assert_eq!(printed(&mut stream, "STDERR", "to-stderr"), "to-stderr\n");
    let mut input = attach_input(&site, &id);
    input.send(&typed("one\ntwo\n")).expect("typed");
    let text = printed(&mut stream, "STDOUT", "got two\n");
    assert!(text.ends_with("got one\ngot two\n"), "{text}");
    // Nothing is the end of the input.
    input.send(&typed("")).expect("typed");
    assert_eq!(printed(&mut stream, "STDOUT", ""), "", "and then it ends");
    assert_eq!(input.finish().status, "200 OK");
    assert_eq!(wait_for_end(&site, &id)["exit_status"], 3 << 8);

    let id = nested("terminal", &pod);
    let tty = |rows: u32, columns: u32| json!({"window_size": {"rows": rows, "columns": columns}});
    let mut stream = session(
        &site,
        &id,
        "echo ready; read line; stty size; echo got $line",
        &json!({"container": {"type": "MESOS", "tty_info": tty(24, 80)}}),
    );
    printed(&mut stream, "STDOUT", "ready\r\n");
    let mut input = attach_input(&site, &id);
    let resize =
        json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": tty(40, 100)}});
    input.send(&process_io(resize)).expect("resized");
    input.send(&typed("hello\n")).expect("typed");
    let text = printed(&mut stream, "STDOUT", "");
    assert!(text.contains("40 100\r\n") && text.ends_with("got hello\r\n"), "{text}");
    assert_eq!(wait_for_end(&site, &id)["exit_status"], 0);

    // Whoever goes away takes the session along.
    let id = nested("left", &pod);
    let mut stream = session(&site, &id, "echo started; sleep 600", &json!({}));
    printed(&mut stream, "STDOUT", "started");
    drop(stream);
    assert_eq!(wait_for_end(&site, &id)["exit_status"], 9);
}

#[test]
fn sessions_on_our_agent_carry_input_and_output() {
    sessions_carry_input_and_output(Parts::default());
}

#[test]
fn a_session_sees_what_the_container_sees_that_it_looks_into() {
    let (site, pod) = with_pod(Parts::default());
    let (_, sandbox) = site.executor("pod");
    let id = nested("looks", &pod);
    let more = json!({"command": {
        "value": "pwd; echo $MESOS_EXECUTOR_ID $OWN",
        "environment": {"variables": [{"name": "OWN", "value": "mine"}]},
    }});
    let mut stream = session(&site, &id, "", &more);
    let text = printed(&mut stream, "STDOUT", "");
    assert_eq!(text, format!("{}\npod mine\n", sandbox.display()));
}

#[test]
fn sessions_on_the_originals_agent_carry_input_and_output() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    sessions_carry_input_and_output(Parts { agent: Maker::Original, ..Parts::default() });
}

#[test]
fn a_terminal_is_shared_beats_and_outlives_its_agent() {
    let mut parts = Parts::default();
    parts.agent_flags.push("--http_heartbeat_interval=200ms");
    let (mut site, pod) = with_pod(parts);
    let id = nested("shared", &pod);
    let launched = site.call(&json!({
        "type": "LAUNCH_CONTAINER",
        "launch_container": {
            "container_id": id, "command": {"value": "sleep 0.5; stty size; while read line; do echo got $line; done"},
            "container": {"type": "MESOS", "tty_info": {"window_size": {"rows": 24, "columns": 80}}},
        },
    }));
    assert_eq!(launched.status, 200, "{}", launched.body);
    let listen = |site: &Site| {
        let call = json!({
            "type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": id},
        });
        stream::post(site.agent_port(), "/api/v1", &call)
    };
    let (mut one, mut two) = (listen(&site), listen(&site));
    let beat = one.next_record().expect("a heartbeat");
    let expected = json!({
        "type": "CONTROL",
        "control": {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 200_000_000}}},
    });
    assert_eq!(beat, expected);
    printed(&mut one, "STDOUT", "24 80\r\n");
    attach_input(&site, &id).send(&typed("one\n")).expect("typed");
    for stream in [&mut one, &mut two] {
        printed(stream, "STDOUT", "got one\r\n");
    }
    site.restart_agent();
    let mut again = listen(&site);
    assert_eq!(again.status, "200 OK");
    let mut input = attach_input(&site, &id);
    input.send(&typed("two\n")).expect("typed");
    printed(&mut again, "STDOUT", "got two\r\n");
    input.send(&typed("")).expect("typed");
    assert_eq!(wait_for_end(&site, &id)["exit_status"], 0, "a terminal has its own end of input");
}

#[test]
fn a_tasks_terminal_can_be_attached_to_and_outlives_the_agent() {
    let mut site = Site::start(Parts::default());
    let terminal = json!({"window_size": {"rows": 24, "columns": 80}});
    site.run(
        "task",
        &json!({
            "command": {"value": "tty; stty size; read line; echo got $line; stty size; exit 3"},
            "container": {"type": "MESOS", "tty_info": terminal},
        }),
    );
    site.wait_for("task", "TASK_RUNNING");
    let (container, sandbox) = site.executor("task");
    let shown = |end: &str| {
        wait::until("what the task prints", LIMIT, || {
            let text = std::fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
            if text.ends_with(end) { Ok(text) } else { Err(text) }
        })
    };
    let text = shown("24 80\r\n");
    assert!(text.starts_with("/dev/pts/"), "{text}");
    site.restart_agent();
    let id = json!({"value": container});
    let call = json!({
        "type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": id},
    });
    let mut output = stream::post(site.agent_port(), "/api/v1", &call);
    assert_eq!(output.status, "200 OK");
    let mut input = attach_input(&site, &id);
    let larger = json!({"window_size": {"rows": 40, "columns": 100}});
    let resize = json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": larger}});
    input.send(&process_io(resize)).expect("resized");
    input.send(&typed("hello\n")).expect("typed");
    printed(&mut output, "STDOUT", "got hello\r\n");
    let ended = site.wait_for("task", "TASK_FAILED");
    assert_eq!(ended["message"], "Command exited with status 3");
    shown("got hello\r\n40 100\r\n");
}

#[test]
fn standalone_containers_outlive_the_agent_and_leave_nothing() {
    let mut site = Site::start(Parts::default());
    let launch = |site: &Site, id: &Value, command: &str| {
        let call = json!({
            "type": "LAUNCH_CONTAINER",
            "launch_container": {"container_id": id, "command": {"value": command}},
        });
        let reply = site.call(&call);
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    let (alone, inner) = (json!({"value": "alone"}), nested("inner", "alone"));
    launch(&site, &alone, "echo hello; sleep 700001");
    launch(&site, &inner, "trap 'exit 4' TERM; echo ready; while true; do sleep 0.1; done");
    let sandbox = site.path("agent1/containers/alone");
    let read = |name: &str| std::fs::read_to_string(sandbox.join(name)).unwrap_or_default();
    wait::until("the containers' output", LIMIT, || {
        let texts = (read("stdout"), read("containers/inner/stdout"));
        let expected = ("hello\n".to_owned(), "ready\n".to_owned());
        if texts == expected { Ok(()) } else { Err(format!("{texts:?}")) }
    });
    let list = json!({
        "type": "GET_CONTAINERS", "get_containers": {"show_nested": true, "show_standalone": true},
    });
    let shown = |site: &Site| {
        let answer = site.call(&list).json();
        let containers = answer["get_containers"]["containers"].as_array().cloned();
        let id = |container: &Value| container["container_status"]["container_id"].clone();
        containers.unwrap_or_default().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(shown(&site), [alone.clone(), inner.clone()]);
    site.restart_agent();
    assert_eq!(shown(&site), [alone.clone(), inner.clone()], "both are found again");
    let kill = |site: &Site, id: &Value, signal: i32| {
        let kill = json!({"container_id": id, "signal": signal});
        site.call(&json!({"type": "KILL_CONTAINER", "kill_container": kill})).status
    };
    assert_eq!(kill(&site, &inner, 15), 200);
    assert_eq!(wait_for_end(&site, &inner)["exit_status"], 4 << 8);
    assert_eq!(kill(&site, &inner, 15), 404, "it is over");
    // Signals that have no name reach the program too; 0 only asks, and others there are none.
    let unnamed = nested("unnamed", "alone");
    launch(&site, &unnamed, "exec sleep 700002");
    assert_eq!([0, 65, -1, 37].map(|signal| kill(&site, &unnamed, signal)), [200, 500, 500, 200]);
    assert_eq!(wait_for_end(&site, &unnamed)["exit_status"], 37);
    // As in the original, what nobody gave is what its process fails for.
    let empty = json!({"type": "LAUNCH_CONTAINER", "launch_container": {
        "container_id": nested("empty", "alone"), "command": {"shell": true},
    }});
    assert_eq!(site.call(&empty).status, 200);
    assert_eq!(wait_for_end(&site, &nested("empty", "alone"))["exit_status"], 256);
    assert_eq!(kill(&site, &alone, 9), 200);
    wait::until("no container", LIMIT, || match shown(&site) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let remove = json!({"type": "REMOVE_CONTAINER", "remove_container": {"container_id": alone}});
    assert_eq!(site.call(&remove).status, 200);
    assert!(!sandbox.exists());
    assert_eq!(site.call(&remove).status, 404);
}

#[test]
fn containers_of_an_originals_agent_are_taken_over_and_given_back() {
    need!(original_mesos().is_some(), "the original is not at hand");
    let original = Maker::Original;
    let parts =
        Parts { master: original, agent: original, executors: original, ..Parts::default() };
    let (mut site, pod) = with_pod(parts);
    let ids = ["ended", "trapped", "killed"].map(|name| nested(name, &pod));
    let trapped = "trap 'exit 4' TERM; touch ready; while :; do sleep 0.1; done";
    for (id, command) in ids.iter().zip(["exit 5", trapped, "sleep 700003"]) {
        let launch = json!({"container_id": id, "command": {"value": command}});
        let call = json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": launch});
        assert_eq!(site.call(&call).status, 200);
    }
    assert_eq!(wait_for_end(&site, &ids[0])["exit_status"], 5 << 8);
    let (_, sandbox) = site.executor("pod");
    let ready = sandbox.join("containers/trapped/ready");
    wait::until_true("the container's trap", LIMIT, || ready.exists());
    site.hand_over(Maker::Ours);
    let kill = |site: &Site, id: &Value, signal: i32| {
        let kill = json!({"container_id": id, "signal": signal});
        site.call(&json!({"type": "KILL_CONTAINER", "kill_container": kill})).status
    };
    assert_eq!(wait_for_end(&site, &ids[0])["exit_status"], 5 << 8);
    for (id, signal, status) in [(&ids[1], 15, 4 << 8), (&ids[2], 9, 9)] {
        assert_eq!(kill(&site, id, signal), 200);
        assert_eq!(wait_for_end(&site, id)["exit_status"], status);
    }
    site.hand_over(original);
    assert_eq!(wait_for_end(&site, &ids[1])["exit_status"], 4 << 8);
    site.order(&json!({"kill": "p"}));
    site.wait_for("p", "TASK_KILLED");
    assert_eq!(site.states("p"), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]);
}

#[test]
fn a_standalone_container_of_nobody_is_refused_by_its_sandbox() {
    need!(skip::is_root(), "only root may choose users");
    let site = Site::start(Parts::default());
    let refused = |id: Value| {
        let reply = site.call(&json!({"type": "LAUNCH_CONTAINER", "launch_container": {
            "container_id": id, "command": {"value": "true", "user": "no-such-user"},
        }}));
        (reply.status, reply.body)
    };
    let text = "Failed to create sandbox: Failed to chown directory to 'no-such-user': No such user 'no-such-user'";
    assert_eq!(refused(json!({"value": "alone"})), (500, text.to_owned()));
}

#[test]
fn more_is_logged_for_a_while() {
    let site = Site::start(Parts::default());
    let level = |site: &Site| {
        let answer = site.call(&json!({"type": "GET_LOGGING_LEVEL"})).json();
        answer["get_logging_level"]["level"].clone()
    };
    let set = json!({
        "type": "SET_LOGGING_LEVEL",
        "set_logging_level": {"level": 1, "duration": {"nanoseconds": 1_000_000_000}},
    });
    assert_eq!(site.call(&set).status, 200);
    assert_eq!(level(&site), 1);
    wait::until("the usual level", LIMIT, || match level(&site) {
        now if now == 0 => Ok(()),
        now => Err(now.to_string()),
    });
}

#[test]
fn endpoints_are_found_and_closed_however_they_are_written() {
    let mut parts = Parts::default();
    parts.agent_flags.push(
        r#"--firewall_rules={"disabled_endpoints": {"paths": ["/slave(1)/state", "/containers"]}}"#,
    );
    let site = Site::start(parts);
    let status = |path: &str| http::get(&site.agent_url(path)).unwrap().status;
    for path in [
        "/state",
        "//state",
        "/state/",
        "/state/x",
        "/slave(1)/state",
        "/slave%281%29//state/",
        "/containers/x",
        "/slave(1)/containers",
    ] {
        assert_eq!(status(path), 403, "{path}");
    }
    for path in ["//health", "/slave(1)/flags/x", "/metrics/snapshot/", "/help/slave(1)"] {
        assert_eq!(status(path), 200, "{path}");
    }
    assert_eq!(status("/slave(2)/flags"), 404);
    // As pymesos' client of operators calls it.
    let version = json!({"type": "GET_VERSION"});
    let called = http::post(&site.agent_url("/api/v1/operator"), &version).unwrap();
    assert_eq!((called.status, &called.json()["type"]), (200, &json!("GET_VERSION")));
}
