//! A whole master in this process: its sockets, its streams, what it refuses to start with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use master::{Options, flags, run};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Runs a master that keeps its registry in memory; its address.
async fn start() -> (std::net::SocketAddr, CancellationToken) {
    start_with(&[]).await
}

async fn start_with(more: &[&str]) -> (std::net::SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let values = flags(&[&["--registry=in_memory", "--ip=127.0.0.1"], more].concat());
    let shutdown = CancellationToken::new();
    let options = Options { flags: values, listener: Some(listener), tls: None };
    tokio::spawn(run(options, shutdown.clone(), || {}));
    (address, shutdown)
}

fn flags(arguments: &[&str]) -> mesos::flags::Values {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    flags::table().load(arguments, BTreeMap::<String, String>::new()).unwrap()
}

async fn post(address: std::net::SocketAddr, stream: Option<&str>, call: &Value) -> TcpStream {
    post_to(address, "/api/v1/scheduler", stream, call).await
}

async fn post_to(
    address: std::net::SocketAddr,
    path: &str,
    stream: Option<&str>,
    call: &Value,
) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = call.to_string();
    let stream = stream.map(|id| format!("Mesos-Stream-Id: {id}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{stream}Content-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    connection
}

/// What comes until a text was seen.
async fn read_until(connection: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&seen).into_owned();
        if so_far.contains(text) {
            return so_far;
        }
        let read = connection.read_buf(&mut seen);
        let count = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
        assert_ne!(count, 0, "the connection ended before '{text}': {so_far}");
    }
}

/// The answer to a GET, head and all.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await.unwrap();
    reply
}

async fn frameworks(address: std::net::SocketAddr) -> Value {
    let reply = get(address, "/frameworks").await;
    serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn subscribe() -> Value {
    json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "nobody", "name": "n", "failover_timeout": 1000}}})
}

fn value_after<'a>(text: &'a str, name: &str, end: char) -> &'a str {
    let rest = text.split_once(name).unwrap().1;
    rest.split_once(end).unwrap().0.trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_that_does_not_read_is_cut_off_and_the_master_goes_on() {
    let (address, shutdown) = start().await;
    let mut stream = post(address, None, &subscribe()).await;
    let head = read_until(&mut stream, "HEARTBEAT").await.to_ascii_lowercase();
    let stream_id = value_after(&head, "mesos-stream-id:", '\r').to_owned();
    let framework = value_after(&head, "\"framework_id\":{\"value\":\"", '"').to_owned();
    let tasks: Vec<Value> =
        (0..2000).map(|number| json!({"task_id": {"value": format!("{number:0200}")}})).collect();
    let call = json!({"type": "RECONCILE", "framework_id": {"value": framework}, "reconcile": {"tasks": tasks}});
    let mut is_cut_off = false;
    for _ in 0..100 {
        let mut reply = post(address, Some(&stream_id), &call).await;
        let status = read_until(&mut reply, "\r\n").await;
        if !status.contains("202") {
            is_cut_off = true;
            break;
        }
    }
    assert!(is_cut_off, "200,000 events were queued for a framework that reads none");
    assert_eq!(frameworks(address).await["frameworks"][0]["connected"], false);
    shutdown.cancel();
}

/// Waits until the only framework counts as disconnected.
async fn until_disconnected(address: std::net::SocketAddr) {
    let gone = async {
        while frameworks(address).await["frameworks"][0]["connected"] == true {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_that_goes_away_counts_as_disconnected() {
    let (address, shutdown) = start().await;
    let mut stream = post(address, None, &subscribe()).await;
    read_until(&mut stream, "HEARTBEAT").await;
    assert_eq!(frameworks(address).await["frameworks"][0]["connected"], true);
    drop(stream);
    until_disconnected(address).await;
    shutdown.cancel();
}

#[tokio::test]
async fn what_is_not_built_is_refused_at_the_start() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--zk=zk://127.0.0.1:1/mesos", "--quorum=0", "--work_dir=/nonexistent"],
            "--quorum must be at least 1",
        ),
        (&["--zk=zk://127.0.0.1:1/mesos", "--work_dir=/nonexistent"], "--quorum"),
        (
            &["--registry=in_memory", "--authenticate_agents"],
            "--authenticate_agents needs --credentials",
        ),
        (&["--registry=in_memory", "--rate_limits={\"limits\": 1}"], "--rate_limits: "),
        (&["--registry=in_memory", "--weights=a=-1"], "--weights: 'a=-1': weights are positive"),
        (&["--registry=in_memory", "--roles=a", "--weights=b=1"], "'b' is none of --roles"),
        (&["--registry=in_memory", "--whitelist=/no/such/file"], "--whitelist: /no/such/file"),
        (&["--registry=in_memory", "--firewall_rules={\"x\": {}}"], "there is no rule 'x'"),
        (&["--ip=127.0.0.1"], "--work_dir"),
    ];
    for (arguments, expected) in cases {
        let options = Options { flags: flags(arguments), listener: None, tls: None };
        let error = run(options, CancellationToken::new(), || {}).await.unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{arguments:?}: {error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_hear_what_comes_and_goes() {
    let (address, shutdown) = start().await;
    let mut events = post_to(address, "/api/v1", None, &json!({"type": "SUBSCRIBE"})).await;
    let first = read_until(&mut events, "HEARTBEAT").await;
    assert!(
        first.contains("\"get_frameworks\":{\"frameworks\":[],\"completed_frameworks\":[]}"),
        "{first}"
    );
    let mut stream = post(address, None, &subscribe()).await;
    let head = read_until(&mut stream, "HEARTBEAT").await.to_ascii_lowercase();
    let framework = value_after(&head, "\"framework_id\":{\"value\":\"", '"').to_owned();
    let added = read_until(&mut events, "FRAMEWORK_ADDED").await;
    assert!(added.contains("{\"type\":\"FRAMEWORK_ADDED"), "{added}");
    drop(stream);
    read_until(&mut events, "FRAMEWORK_UPDATED").await;
    let teardown = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": framework}}});
    let mut reply = post_to(address, "/api/v1", None, &teardown).await;
    read_until(&mut reply, "200 OK").await;
    read_until(&mut events, "FRAMEWORK_REMOVED").await;
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_log_is_shown_to_who_may_see_it() {
    let directory = tempfile::TempDir::new().unwrap();
    let log = directory.path().join("log");
    std::fs::write(&log, "first\n").unwrap();
    let log = format!("--external_log_file={}", log.display());
    let list = json!({"type": "LIST_FILES", "list_files": {"path": "/master/log"}});
    let read = json!({"type": "READ_FILE", "read_file": {"path": "/master/log", "offset": 1, "length": 3}});
    let path = "/files/read?path=/master/log&offset=1&length=3";

    let (address, shutdown) = start_with(&[&log]).await;
    assert!(get(address, path).await.ends_with(r#"{"data":"irs","offset":1}"#));
    assert!(get(address, "/files/download?path=/master/log").await.contains("first\n"));
    // Base64 of what was asked for.
    for (call, expected) in [(&list, r#"{"type":"LIST_FILES""#), (&read, r#""data":"aXJz""#)] {
        let mut reply = post_to(address, "/api/v1", None, call).await;
        read_until(&mut reply, expected).await;
    }
    shutdown.cancel();

    let nobody = r#"{"access_mesos_logs":[{"principals":{"type":"ANY"},"logs":{"type":"NONE"}}]}"#;
    let (address, shutdown) = start_with(&[&log, &format!("--acls={nobody}")]).await;
    assert!(get(address, path).await.starts_with("HTTP/1.1 403 "));
    let mut reply = post_to(address, "/api/v1", None, &read).await;
    read_until(&mut reply, "403 Forbidden").await;
    shutdown.cancel();
}

/// What there is of things that have `secret` in their names, read in every way there is; each way with what it gave.
async fn secrets(more: &[&str]) -> Vec<(String, bool)> {
    let (address, shutdown) = start_with(more).await;
    let mut kept = Vec::new();
    for change in [
        json!({"type": "UPDATE_QUOTA", "update_quota": {"force": true, "quota_configs": [
            {"role": "secret-role", "limits": {"cpus": {"value": 1}}}]}}),
        json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [
            {"role": "secret-role", "weight": 2.0}]}}),
        json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": {"schedule": {"windows": [
            {"machine_ids": [{"hostname": "secret-host"}], "unavailability": {"start": {"nanoseconds": 1}}}]}}}),
    ] {
        read_until(&mut post_to(address, "/api/v1", None, &change).await, "200 OK").await;
    }
    let mut events = post_to(address, "/api/v1", None, &json!({"type": "SUBSCRIBE"})).await;
    read_until(&mut events, "HEARTBEAT").await;
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {
        "user": "secret-user", "name": "secret-framework", "roles": ["secret-role"],
        "capabilities": [{"type": "MULTI_ROLE"}], "failover_timeout": 1000}}});
    let mut stream = post(address, None, &subscribe).await;
    read_until(&mut stream, "HEARTBEAT").await;
    kept.push(stream);
    let mut found = Vec::new();
    for path in [
        "/allocator/offer_constraints_debug",
        "/flags",
        "/frameworks",
        "/maintenance/schedule",
        "/maintenance/status",
        "/quota",
        "/quota/secret-role",
        "/roles",
        "/slaves",
        "/state",
        "/state-summary",
        "/tasks",
        "/weights",
    ] {
        let reply = get(address, path).await;
        // There, only the framework's id would tell.
        let is_told = reply.contains("secret") || path.contains("debug") && reply.contains("-0000");
        found.push((path.to_owned(), is_told));
    }
    for kind in [
        "GET_AGENTS",
        "GET_EXECUTORS",
        "GET_FLAGS",
        "GET_FRAMEWORKS",
        "GET_MAINTENANCE_SCHEDULE",
        "GET_MAINTENANCE_STATUS",
        "GET_MASTER",
        "GET_OPERATIONS",
        "GET_QUOTA",
        "GET_ROLES",
        "GET_STATE",
        "GET_TASKS",
        "GET_WEIGHTS",
    ] {
        let mut connection = post_to(address, "/api/v1", None, &json!({"type": kind})).await;
        // Head and body are written at once, a body of this size in one go.
        let head = read_until(&mut connection, "\r\n\r\n").await;
        let length: usize =
            value_after(&head.to_ascii_lowercase(), "content-length:", '\r').parse().unwrap();
        let mut whole = head.clone();
        while whole.len() - whole.find("\r\n\r\n").unwrap() - 4 < length {
            let mut more = [0; 4096];
            let count = connection.read(&mut more).await.unwrap();
            whole.push_str(std::str::from_utf8(&more[..count]).unwrap());
        }
        found.push((kind.to_owned(), whole.contains("secret")));
    }
    let mut again = post_to(address, "/api/v1", None, &json!({"type": "SUBSCRIBE"})).await;
    let first = read_until(&mut again, "HEARTBEAT").await;
    found.push(("SUBSCRIBED".to_owned(), first.contains("secret")));
    // What every subscriber hears after what happened before.
    drop(kept);
    until_disconnected(address).await;
    shutdown.cancel();
    let mut heard = String::new();
    while let Ok(1..) = events.read_to_string(&mut heard).await {}
    found.push(("events".to_owned(), heard.contains("secret")));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_is_in_no_answer_and_no_event() {
    let open: Vec<String> =
        secrets(&[]).await.into_iter().filter(|(_, told)| *told).map(|(way, _)| way).collect();
    assert_eq!(
        open,
        [
            "/allocator/offer_constraints_debug",
            "/frameworks",
            "/maintenance/schedule",
            "/maintenance/status",
            "/quota",
            "/quota/secret-role",
            "/roles",
            "/state",
            "/state-summary",
            "/weights",
            "GET_FRAMEWORKS",
            "GET_MAINTENANCE_SCHEDULE",
            "GET_MAINTENANCE_STATUS",
            "GET_QUOTA",
            "GET_ROLES",
            "GET_STATE",
            "GET_WEIGHTS",
            "SUBSCRIBED",
            "events",
        ]
    );
    let nobody = |action: &str, of: &str| {
        (action.to_owned(), json!([{"principals": {"type": "ANY"}, of: {"type": "NONE"}}]))
    };
    let acls: serde_json::Map<String, Value> = [
        ("get_maintenance_schedules", "machines"),
        ("get_maintenance_statuses", "machines"),
        ("get_quotas", "roles"),
        ("view_executors", "users"),
        ("view_flags", "flags"),
        ("view_frameworks", "users"),
        ("view_roles", "roles"),
        ("view_tasks", "users"),
    ]
    .map(|(action, of)| nobody(action, of))
    .into_iter()
    .collect();
    let closed = secrets(&[&format!("--acls={}", Value::Object(acls))]).await;
    let told: Vec<&String> = closed.iter().filter(|(_, told)| *told).map(|(way, _)| way).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_endpoint_is_closed_however_it_is_written() {
    let rules =
        r#"--firewall_rules={"disabled_endpoints": {"paths": ["/master/state", "/tasks"]}}"#;
    let (address, shutdown) = start_with(&[rules]).await;
    for path in [
        "/state",
        "/master/state",
        "//state",
        "/master//state",
        "/state/",
        "/state/x",
        "/tasks/",
        "/master/tasks",
    ] {
        let reply = get(address, path).await;
        assert!(reply.starts_with("HTTP/1.1 403"), "{path}: {reply}");
    }
    assert!(get(address, "/state-summary").await.starts_with("HTTP/1.1 200"));
    shutdown.cancel();
}
