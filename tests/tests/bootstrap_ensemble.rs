//! `meso bootstrap` of three masters: an ensemble, a replicated registry, and a host that is lost and comes back.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::wait_for_tasks;
use end_to_end::lab::{self, Lab};
use end_to_end::programs::{binary, packages, run};
use end_to_end::{http, need, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);

/// Waits until one of the hosts says that it leads with an active agent; the leading master's state and its host.
fn led_by(lab: &Lab, hosts: &[&str]) -> (String, Value) {
    wait::until("a leading master with its agent", LIMIT, || {
        for host in hosts {
            let url = format!("http://{}:5050/state", lab.ip(host));
            match http::get_json(&url) {
                Ok(state)
                    if state["elected_time"].is_number()
                        && state["activated_slaves"].as_f64() == Some(1.0) =>
                {
                    return Ok(((*host).to_owned(), state));
                }
                _ => {}
            }
        }
        Err("none leads with an agent".to_owned())
    })
}

fn mode(lab: &Lab, host: &str) -> Result<String, String> {
    let said = lab.try_ssh(host, "echo srvr | nc -q 5 localhost 2181")?;
    let mode = said.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.map(str::to_owned).ok_or(said)
}

/// Waits until the servers on the hosts are one leader and followers.
fn see_an_ensemble(lab: &Lab, hosts: &[&str]) {
    wait::until("a leader and followers", LIMIT, || {
        let mut modes = hosts.iter().map(|host| mode(lab, host)).collect::<Result<Vec<_>, _>>()?;
        modes.sort();
        let led = modes.iter().filter(|mode| *mode == "leader").count() == 1
            && modes.iter().filter(|mode| *mode == "follower").count() == modes.len() - 1;
        if led { Ok(()) } else { Err(format!("{modes:?}")) }
    });
}

#[test]
fn three_masters_go_on_when_the_leader_is_lost_and_take_it_back() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    need!(packages().is_some(), "there are no packages; run: make rpm");
    let lab = Lab::up("bootstrap-ensemble", 4);
    let inventory = lab.inventory();
    let path = |name: &str| PathBuf::from(inventory[name].as_str().expect("a path"));
    let all = ["h1", "h2", "h3", "h4"].map(|host| lab.ip(host));
    let bootstrap = || {
        run(Command::new(binary("meso"))
            .args(["bootstrap", "--hosts", &all.join(","), "--masters", &all[..3].join(",")])
            .arg("--key")
            .arg(path("key"))
            .arg("--known-hosts")
            .arg(path("known_hosts"))
            .arg("--packages")
            .arg(packages().expect("checked before"))
            .env_remove("SSH_AUTH_SOCK"))
        .expect("meso bootstrap")
    };
    bootstrap();
    let masters = ["h1", "h2", "h3"];
    for (host, id) in masters.iter().zip(1..) {
        assert_eq!(lab.ssh(host, "cat /var/lib/zookeeper/myid").trim(), id.to_string());
        assert_eq!(lab.ssh(host, "cat /etc/mesos-master/quorum").trim(), "2");
        let servers = lab.ssh(host, "grep ^server /etc/zookeeper/conf/zoo.cfg");
        let expected: Vec<String> =
            (1..=3).map(|id| format!("server.{id}={}:2888:3888", all[id - 1])).collect();
        assert_eq!(servers.lines().collect::<Vec<_>>(), expected);
    }
    see_an_ensemble(&lab, &masters);
    let again = bootstrap();
    assert!(again.contains("nothing to change"), "{again}");

    let (leader, state) = led_by(&lab, &masters);
    let agent = state["slaves"][0]["id"].clone();
    let app =
        json!({"id": "/lasting", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": 2});
    let survivors: Vec<&str> = masters.into_iter().filter(|host| *host != leader).collect();
    let marathon = format!("http://{}:8080", lab.ip(survivors[0]));
    let reply = http::post(&format!("{marathon}/v2/apps"), &app).expect("Marathon answers");
    assert_eq!(reply.status, 201, "{}", reply.body);
    let tasks = wait_for_tasks(&marathon, "/lasting", 2);

    lab.lab(&["crash", &leader]);
    let (next, state) = led_by(&lab, &survivors);
    assert_ne!(next, leader);
    assert_eq!(state["slaves"][0]["id"], agent, "the registry went on");
    wait::until("Marathon to lead", LIMIT, || {
        let info = http::get_json(&format!("{marathon}/v2/info"))?;
        if info["frameworkId"].is_string() { Ok(()) } else { Err(info.to_string()) }
    });
    assert_eq!(wait_for_tasks(&marathon, "/lasting", 2), tasks, "the tasks went on");

    lab.lab(&["boot", &leader]);
    see_an_ensemble(&lab, &masters);
    let scale = json!({"instances": 3});
    let reply = http::put(&format!("{marathon}/v2/apps/lasting"), &scale).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let scaled = wait_for_tasks(&marathon, "/lasting", 3);
    assert!(tasks.iter().all(|task| scaled.contains(task)), "{tasks:?} kept in {scaled:?}");
}
