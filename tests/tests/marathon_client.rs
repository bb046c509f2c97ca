//! A published client of Marathon's API against our Marathon, and what it does not cover: refusals, locks, followers.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::programs::{python, root};
use end_to_end::{http, need, wait};
use serde_json::json;

#[test]
fn the_marathon_client_leads_an_app_through_its_life() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let cluster = Cluster::start();
    let python = python().expect("checked before");
    let mut client = Daemon::start(
        "client",
        cluster.directory(),
        Command::new(python)
            .arg(root().join("tests/clients/marathon_app.py"))
            .arg(cluster.marathon_url("")),
    );
    let status = client.wait_for_end(Duration::from_secs(240));
    assert!(status.success(), "the client saw something wrong:\n{}", client.output());
}

#[test]
fn what_can_not_run_holds_its_app_until_forced() {
    let cluster = Cluster::start();
    let apps = cluster.marathon_url("/v2/apps");
    let huge = json!({"id": "/huge", "cmd": "sleep 1000", "cpus": 1000, "mem": 16});
    let created = http::post(&apps, &huge).expect("Marathon answers");
    assert_eq!(created.status, 201, "{}", created.body);
    let deployment = created.json()["deployments"][0]["id"].clone();

    let one = format!("{apps}/huge");
    let locked = http::put(&one, &json!({"instances": 2})).expect("Marathon answers");
    assert_eq!((locked.status, &locked.json()["deployments"][0]["id"]), (409, &deployment));
    let queue = http::get_json(&cluster.marathon_url("/v2/queue")).expect("a queue");
    assert_eq!(
        (&queue["queue"][0]["app"]["id"], &queue["queue"][0]["count"]),
        (&json!("/huge"), &json!(1))
    );

    let forced =
        http::put(&format!("{one}?force=true"), &json!({"cpus": 0.1})).expect("Marathon answers");
    assert_eq!(forced.status, 200, "{}", forced.body);
    let _ids = cluster.wait_for_tasks("/huge", 1);
    wait::until("the deployment to finish", Duration::from_secs(20), || {
        let deployments = http::get_json(&cluster.marathon_url("/v2/deployments"))?;
        if deployments == json!([]) { Ok(()) } else { Err(deployments.to_string()) }
    });
}

#[test]
fn the_page_is_there() {
    let cluster = Cluster::start();
    let root = http::get_unredirected(&cluster.marathon_url("/")).expect("Marathon answers");
    assert_eq!((root.status, root.location.as_deref()), (302, Some("/ui/")));
    for path in ["/ui", "/ui/"] {
        let page = http::get(&cluster.marathon_url(path)).expect("Marathon answers");
        assert!(page.status == 200 && page.body.contains("<script"), "{path}: {}", page.body);
        let asset =
            page.body.split('"').find(|word| word.contains("assets/") && word.contains(".js"));
        let asset = asset.expect("the page loads a script").trim_start_matches('.');
        let script = http::get(&cluster.marathon_url(asset)).expect("Marathon answers");
        assert_eq!(script.status, 200, "{asset}");
    }
}

#[test]
fn a_follower_passes_requests_on_and_takes_over() {
    let mut cluster = Cluster::start();
    cluster.run_app("/kept", "sleep 1000", 1);
    let before = cluster.wait_for_tasks("/kept", 1);
    let leader_port = cluster.marathon_port;
    let leader = cluster.marathon.take().expect("a running Marathon");

    let [follower_port] = end_to_end::ports::free();
    cluster.marathon_port = follower_port;
    cluster.start_marathon();
    let own = format!("127.0.0.1:{leader_port}");
    wait::until("the follower to know the leader", Duration::from_secs(40), || {
        let found = http::get_json(&cluster.marathon_url("/v2/leader"))?;
        if found["leader"] == own.as_str() { Ok(()) } else { Err(found.to_string()) }
    });
    let app = json!({"id": "/passed-on", "cmd": "sleep 1000", "cpus": 0.1, "mem": 16});
    let created =
        http::post(&cluster.marathon_url("/v2/apps"), &app).expect("the follower answers");
    assert_eq!(created.status, 201, "{}", created.body);
    let events = http::get_unredirected(&cluster.marathon_url("/v2/events")).expect("an answer");
    assert_eq!(events.location, Some(format!("http://{own}/v2/events")));
    let _ids = cluster.wait_for_tasks("/passed-on", 1);

    leader.kill();
    cluster.wait_for_marathon();
    assert_eq!(cluster.wait_for_tasks("/kept", 1), before, "after another Marathon took over");
}
