//! What an operator holds frameworks to on a running master: which agents are offered (`--whitelist`), how fast drivers
//! may send (`--rate_limits`), and how fast agents that fall silent are removed (`--agent_removal_rate_limit`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use end_to_end::daemon::Daemon;
use end_to_end::framework::Framework;
use end_to_end::programs::{binary, root};
use end_to_end::{http, ports, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(40);

/// A master by itself, with further flags.
fn start_master(directory: &Path, port: u16, flags: &[String]) -> Daemon {
    let mut master = Command::new(binary("mesos-master"));
    master
        .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--registry=in_memory"])
        .arg(format!("--port={port}"))
        .arg(format!("--work_dir={}", directory.join("master").display()))
        .args(flags);
    Daemon::start("master", directory, &mut master)
}

/// An agent of that master, known by a hostname.
fn start_agent(directory: &Path, master: u16, hostname: &str) -> Daemon {
    let [port] = ports::free();
    let mut agent = Command::new(binary("mesos-agent"));
    agent
        .arg(format!("--master=127.0.0.1:{master}"))
        .args(["--ip=127.0.0.1", "--no-systemd_enable_support", "--containerizers=mesos"])
        .args(["--launcher=posix", "--isolation=posix/cpu,posix/mem"])
        .arg("--resources=cpus:1;mem:256;disk:256")
        .arg(format!("--hostname={hostname}"))
        .arg(format!("--port={port}"))
        .arg(format!("--work_dir={}", directory.join(hostname).display()))
        .arg(format!("--runtime_dir={}", directory.join(format!("{hostname}-runtime")).display()));
    Daemon::start(hostname, directory, &mut agent)
}

fn wait_for_agents(port: u16, count: usize) {
    wait::until(&format!("{count} active agents"), LIMIT, || {
        let slaves = http::get_json(&format!("http://127.0.0.1:{port}/slaves"))?;
        let all = slaves["slaves"].as_array().cloned().unwrap_or_default();
        let active = all.iter().filter(|agent| agent["active"] == true).count();
        if active == count { Ok(()) } else { Err(slaves.to_string()) }
    });
}

#[test]
fn offers_come_from_hosts_that_the_whitelist_names_at_the_time() {
    let directory = TempDir::new().expect("a directory");
    let list = directory.path().join("whitelist");
    std::fs::write(&list, "one.example\n").expect("a whitelist");
    let [port] = ports::free();
    let flags = [format!("--whitelist={}", list.display())];
    let _master = start_master(directory.path(), port, &flags);
    let _agents =
        ["one.example", "two.example"].map(|name| start_agent(directory.path(), port, name));
    wait_for_agents(port, 2);
    let info = json!({"user": "root", "name": "picky", "roles": ["picky"], "capabilities": [{"type": "MULTI_ROLE"}]});
    let framework = Framework::start(port, &info);
    let is_of = |name: &'static str| move |offer: &Value| offer["hostname"] == name;
    let offer = framework.offer(is_of("one.example"));
    // Its answers are recorded offers: the other host's never was among them.
    let offers = |port: u16| -> Vec<Value> {
        let state = http::get_json(&format!("http://127.0.0.1:{port}/frameworks"));
        let state = state.expect("the master answers");
        state["frameworks"][0]["offers"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(offers(port).len(), 1);
    framework.call(&json!({"type": "DECLINE", "decline": {
        "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.0},
    }}));
    std::fs::write(&list, "two.example\n").expect("a whitelist");
    framework.offer(is_of("two.example"));
}

#[test]
fn who_sends_more_than_may_wait_is_told_and_others_are_served() {
    let directory = TempDir::new().expect("a directory");
    let [port] = ports::free();
    let limits = directory.path().join("limits");
    let of = json!({"limits": [{"principal": "hasty", "qps": 0.02, "capacity": 2}]});
    std::fs::write(&limits, of.to_string()).expect("limits");
    let flags = [format!("--rate_limits={}", limits.display())];
    let _master = start_master(directory.path(), port, &flags);
    wait_for_agents(port, 0);
    let start = |principal: &str| {
        let mut driver = Command::new("python3");
        driver.arg(root().join("tests/clients/hasty_driver.py")).args([
            &format!("127.0.0.1:{port}"),
            principal,
            "5",
        ]);
        Daemon::start(principal, directory.path(), &mut driver)
    };
    let drivers = ["hasty", "other"].map(start);
    let error = "FrameworkErrorMessage: Message mesos.scheduler.Call dropped: capacity(2) exceeded";
    let count = |driver: &Daemon| driver.output().lines().filter(|line| *line == error).count();
    let [hasty, other] = &drivers;
    wait::until("two refusals", LIMIT, || {
        if count(hasty) == 2 { Ok(()) } else { Err(hasty.output()) }
    });
    wait::until("the other to have sent", LIMIT, || {
        if other.output().contains("sent: 5") { Ok(()) } else { Err(other.output()) }
    });
    let metrics = http::get_json(&format!("http://127.0.0.1:{port}/metrics/snapshot"));
    let metrics = metrics.expect("metrics");
    // Who is not yet registered has no limit, and is not counted. The first goes on, two wait.
    let count_of = |name: &str| metrics[format!("frameworks/{name}")].clone();
    assert_eq!(count_of("hasty/messages_received"), 5.0);
    assert_eq!(count_of("hasty/messages_processed"), 1.0);
    assert_eq!(count_of("other/messages_received"), 5.0);
    assert_eq!(count_of("other/messages_processed"), 5.0);
    assert_eq!(count(other), 0, "{}", other.output());
}

#[test]
fn silent_agents_are_removed_no_faster_than_allowed() {
    let directory = TempDir::new().expect("a directory");
    let [port] = ports::free();
    let flags = ["--agent_ping_timeout=1secs", "--max_agent_ping_timeouts=2"].map(str::to_owned);
    let limit = ["--agent_removal_rate_limit=1/100secs".to_owned()];
    let _master = start_master(directory.path(), port, &[&flags[..], &limit[..]].concat());
    let agents =
        ["one.example", "two.example"].map(|name| start_agent(directory.path(), port, name));
    wait_for_agents(port, 2);
    for agent in &agents {
        agent.signal(nix::sys::signal::Signal::SIGSTOP);
    }
    let metric = |name: &str| -> Result<Value, String> {
        let metrics = http::get_json(&format!("http://127.0.0.1:{port}/metrics/snapshot"))?;
        Ok(metrics[name].clone())
    };
    wait::until("both to be past their time and one to be unreachable", LIMIT, || {
        let scheduled = metric("master/slave_unreachable_scheduled")?;
        let completed = metric("master/slave_unreachable_completed")?;
        if scheduled == 2.0 && completed == 1.0 {
            Ok(())
        } else {
            Err(format!("{scheduled} {completed}"))
        }
    });
    // The second has its turn in a hundred seconds, unless it speaks before then.
    for agent in &agents {
        agent.signal(nix::sys::signal::Signal::SIGCONT);
    }
    wait::until("the second to stay", LIMIT, || {
        let canceled = metric("master/slave_unreachable_canceled")?;
        if canceled == 1.0 { Ok(()) } else { Err(canceled.to_string()) }
    });
    wait_for_agents(port, 2);
    assert_eq!(metric("master/slave_unreachable_completed"), Ok(json!(1.0)));
}
