//! What the original's master and agent answered with credentials and ACLs on, asked of ours: every recorded exchange
//! of `mesos-golden/auth`, in the recorded order.
//!
//! What does not match is listed with its reason in `not_yet.rs`; the list can only shrink.

mod not_yet;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use end_to_end::daemon::{Daemon, kill_all_under};
use end_to_end::golden::{self, Exchange, Mode, Names, Tally};
use end_to_end::programs::binary;
use end_to_end::stream::{self, Stream};
use end_to_end::{http, need, ports, wait};
use serde_json::{Value, json};

const RECORDED_MASTER: &str = "45bf8619-bc91-4dcf-ac6e-515bd7869927";
const RECORDED_STREAM: &str = "cbaa62b7-79c7-4815-a2d5-cdcebb2a495a";
const LIMIT: Duration = Duration::from_secs(60);

const CREDENTIALS: &str = r#"{"credentials": [
    {"principal": "admin", "secret": "adminpw"}, {"principal": "viewer", "secret": "viewerpw"},
    {"principal": "framework", "secret": "frameworkpw"}, {"principal": "agent", "secret": "agentpw"}]}"#;

const ACLS: &str = r#"{"permissive": false,
    "register_frameworks": [{"principals": {"values": ["framework", "admin"]}, "roles": {"values": ["ok", "*"]}}],
    "run_tasks": [{"principals": {"values": ["framework"]}, "users": {"values": ["root"]}}],
    "teardown_frameworks": [{"principals": {"values": ["admin"]}, "framework_principals": {"type": "ANY"}}],
    "update_weights": [{"principals": {"values": ["admin"]}, "roles": {"values": ["ok"]}}],
    "get_endpoints": [{"principals": {"values": ["admin"]}, "paths": {"type": "ANY"}}],
    "update_quotas": [{"principals": {"values": ["admin"]}, "roles": {"values": ["ok"]}}],
    "view_frameworks": [{"principals": {"values": ["admin"]}, "users": {"type": "ANY"}}],
    "view_tasks": [{"principals": {"values": ["admin"]}, "users": {"type": "ANY"}}],
    "view_roles": [{"principals": {"values": ["admin"]}, "roles": {"type": "ANY"}}],
    "view_flags": [{"principals": {"values": ["admin"]}, "flags": {"type": "ANY"}}],
    "register_agents": [{"principals": {"values": ["agent"]}, "agents": {"type": "ANY"}}]}"#;

struct Site {
    directory: tempfile::TempDir,
    port: u16,
    agent_port: u16,
    running: Vec<Daemon>,
}

impl Site {
    fn start() -> Self {
        let [port, agent_port] = ports::free();
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let mut site = Self { directory, port, agent_port, running: Vec::new() };
        let credentials = site.file("credentials.json", CREDENTIALS);
        let acls = site.file("acls.json", ACLS);
        let credential =
            site.file("credential.json", r#"{"principal": "agent", "secret": "agentpw"}"#);
        let root = site.directory.path().to_owned();
        let mut master = Command::new(binary("mesos-master"));
        master
            .args(["--ip=127.0.0.1", "--hostname=master.example", "--registry=in_memory"])
            .args(["--authenticate_agents", "--authenticate_frameworks"])
            .args(["--authenticate_http_frameworks", "--authenticate_http_readonly"])
            .args(["--authenticate_http_readwrite", "--http_framework_authenticators=basic"])
            .args(["--http_authenticators=basic"])
            .arg(format!("--port={port}"))
            .arg(format!("--credentials={credentials}"))
            .arg(format!("--acls={acls}"))
            .arg(format!("--work_dir={}", root.join("master").display()));
        site.running.push(Daemon::start("master", &root, &mut master));
        let mut agent = Command::new(binary("mesos-agent"));
        agent
            .arg(format!("--master=127.0.0.1:{port}"))
            .arg(format!("--port={agent_port}"))
            .args(["--ip=127.0.0.1", "--hostname=agent1.example", "--launcher=posix"])
            .args(["--isolation=posix/cpu,posix/mem", "--containerizers=mesos"])
            .args(["--authenticate_http_readonly", "--authenticate_http_readwrite"])
            .arg("--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]")
            .arg(format!("--http_credentials={credentials}"))
            .arg(format!("--credential={credential}"))
            .arg(format!("--acls={acls}"))
            .arg(format!("--work_dir={}", root.join("agent").display()))
            .arg(format!("--runtime_dir={}", root.join("runtime").display()));
        site.running.push(Daemon::start("agent", &root, &mut agent));
        wait::until("the agent to be registered", LIMIT, || {
            let state = site.state()?;
            let count = state["activated_slaves"].as_f64();
            if count == Some(1.0) { Ok(()) } else { Err(state.to_string()) }
        });
        site
    }

    fn state(&self) -> Result<Value, String> {
        http::get_json(&format!("http://admin:adminpw@127.0.0.1:{}/state", self.port))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("a file of the test");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("a file of one's own");
        path.display().to_string()
    }

    fn names(&self) -> Names {
        let mut names = Names::default();
        let id = self.state().expect("the state")["id"].as_str().unwrap_or_default().to_owned();
        names.add(RECORDED_MASTER, id);
        for (recorded, ours) in [(5050, self.port), (5051, self.agent_port)] {
            names.add(format!("127.0.0.1:{recorded}"), format!("127.0.0.1:{ours}"));
            names.add(format!(".example:{recorded}"), format!(".example:{ours}"));
            names.add(format!("\"port\":{recorded}"), format!("\"port\":{ours}"));
            names.add(format!("\"port\":\"{recorded}\""), format!("\"port\":\"{ours}\""));
        }
        for name in ["credentials.json", "credential.json"] {
            let ours = self.directory.path().join(name).display().to_string();
            names.add(format!("/var/lib/mesos/{name}"), ours);
        }
        names
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.clear();
        kill_all_under(self.directory.path());
    }
}

const FRAMEWORK: (&str, &str) = ("Authorization", "Basic ZnJhbWV3b3JrOmZyYW1ld29ya3B3");

/// A subscription that stays open.
fn subscribe(port: u16, info: &Value) -> Stream {
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    let headers = [("Accept", "application/json"), FRAMEWORK];
    stream::post_with(port, "/api/v1/scheduler", &headers, &call)
}

fn id_of(stream: &Stream) -> &str {
    stream.header("mesos-stream-id").expect("the stream has an id")
}

/// The recorded framework that may do nothing as `nobody`: our event for its task, and the recorded one.
fn denied_task(site: &Site, stream: &mut Stream, framework: &str) {
    let offer = stream.next_event("OFFERS")["offers"]["offers"][0].clone();
    let task = json!({
        "name": "t", "task_id": {"value": "t"}, "agent_id": offer["agent_id"],
        "command": {"value": "true", "user": "nobody"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
    });
    let call = json!({
        "type": "ACCEPT", "framework_id": {"value": framework},
        "accept": {"offer_ids": [offer["id"]], "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]},
    });
    let headers = [("Mesos-Stream-Id", id_of(stream)), FRAMEWORK];
    Exchange::call("/api/v1/scheduler", &headers, &call).expect(
        site.port,
        &Names::default(),
        "202 Accepted",
    );
    let status = stream.next_event("UPDATE")["update"]["status"].clone();
    let recorded = golden::records("auth/scheduler-denied-task.recordio");
    let recorded = recorded.iter().find(|event| event["type"] == "UPDATE").expect("an update");
    let recorded = &recorded["update"]["status"];
    for member in ["state", "reason", "source"] {
        assert_eq!(status[member], recorded[member], "{member}");
    }
    let text = recorded["message"].as_str().unwrap_or_default();
    let text = text.replace(&format!("{RECORDED_MASTER}-0003"), framework);
    assert_eq!(status["message"], text);
}

fn mode(exchange: &Exchange) -> Mode {
    if exchange.path.starts_with("/metrics/") {
        return Mode::Names;
    }
    if exchange.path == "/state" || exchange.path == "/slaves" || exchange.path == "/flags" {
        return Mode::Shape;
    }
    Mode::Values
}

/// Streams that stay open.
const STREAMS: &[&str] = &["streams/subscribe-ok", "streams/subscribe-no-principal"];

#[test]
fn our_daemons_ask_and_refuse_as_the_originals() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    let site = Site::start();
    let mut names = site.names();
    let mut framework = None;
    let mut tally = Tally::new("auth", not_yet::ALLOWED);
    for exchange in &golden::load("auth") {
        if STREAMS.contains(&exchange.name.as_str()) {
            let mut info = json!({"user": "root", "name": "ok", "capabilities": [{"type": "MULTI_ROLE"}], "roles": ["ok"]});
            if exchange.name.ends_with("ok") {
                info["principal"] = json!("framework");
            }
            subscribe(site.port, &info).next_event("SUBSCRIBED");
            tally.found(&exchange.name, Vec::new());
            continue;
        }
        if framework.is_none() && exchange.name.starts_with("scheduler/") {
            let info = json!({
                "user": "root", "name": "denied", "principal": "framework", "roles": ["ok"],
                "capabilities": [{"type": "MULTI_ROLE"}], "failover_timeout": 600,
            });
            let mut stream = subscribe(site.port, &info);
            let id = stream.next_event("SUBSCRIBED")["subscribed"]["framework_id"]["value"].clone();
            let id = id.as_str().expect("an id").to_owned();
            denied_task(&site, &mut stream, &id);
            names.0.insert(0, (format!("{RECORDED_MASTER}-0003"), id));
            names.add(RECORDED_STREAM, id_of(&stream));
            framework = Some(stream);
        }
        let port = if exchange.name.starts_with("agent/") { site.agent_port } else { site.port };
        let ours = golden::replay(exchange, port, &names).expect("our daemon answers");
        tally.reply(exchange, ours.as_ref(), mode(exchange));
    }
    tally.finish();
}
