//! TLS between master, agent, executors, Marathon and the command line: nothing but TLS where it is asked for, strangers
//! refused, and both kinds of peers on one port while a cluster changes over.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::keys::Authority;
use end_to_end::programs::binary;
use end_to_end::{http, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// What a daemon with this certificate goes by, which trusts this authority.
fn environment(certificate: &Path, authority: &Path, more: &[&str]) -> Vec<(String, String)> {
    let (certificate, authority) =
        (certificate.display().to_string(), authority.display().to_string());
    let mut variables = vec![
        ("ENABLED", "true".to_owned()),
        ("KEY_FILE", certificate.clone()),
        ("CERT_FILE", certificate),
        ("CA_FILE", authority),
        ("VERIFY_SERVER_CERT", "true".to_owned()),
        ("VERIFY_IPADD", "true".to_owned()),
        ("HOSTNAME_VALIDATION_SCHEME", "openssl".to_owned()),
    ];
    variables.extend(more.iter().map(|name| (*name, "true".to_owned())));
    variables.into_iter().map(|(name, value)| (format!("LIBPROCESS_SSL_{name}"), value)).collect()
}

/// The `mesos` command.
fn mesos(cluster: &Cluster, master: &str, arguments: &[&str]) -> Output {
    Command::new(binary("mesos"))
        .env("MESOS_MASTER", master)
        .env("HOME", cluster.directory())
        .args(arguments)
        .output()
        .expect("mesos starts")
}

fn agents(output: &Output) -> Result<usize, String> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let answer: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    Ok(answer["agents"].as_array().map_or(0, Vec::len))
}

fn wait_for_agent(cluster: &Cluster, master: &str, arguments: &[&str]) {
    wait::until("a registered agent", LIMIT, || {
        match agents(&mesos(cluster, master, &[&["agents", "--json"], arguments].concat()))? {
            1 => Ok(()),
            count => Err(format!("{count} agents")),
        }
    });
}

#[test]
fn all_speak_tls_and_strangers_are_refused() {
    let mut cluster = Cluster::new();
    let authority = Authority::new(cluster.directory(), "authority");
    let other = Authority::new(cluster.directory(), "other");
    let own = authority.issue("node", &["127.0.0.1"]);
    let (trusted, foreign) = (authority.path("authority"), other.path("other"));
    cluster.environment = environment(&own, &trusted, &[]);
    cluster.start_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.start_marathon();
    cluster.wait_for_marathon();
    // Marathon → master → agent → executor and back.
    cluster.run_app("/secured", "exec sleep 3600", 1);

    let master = format!("https://127.0.0.1:{}", cluster.master_port);
    let ca_file = trusted.display().to_string();
    let with_ca = ["--ca-file", ca_file.as_str()];
    wait_for_agent(&cluster, &master, &with_ca);
    let tasks = mesos(&cluster, &cluster.zk(), &[&["tasks", "--json"], &with_ca[..]].concat());
    let tasks: Value = serde_json::from_slice(&tasks.stdout).expect("JSON");
    let id = tasks["tasks"][0]["task_id"]["value"].as_str().expect("a task").to_owned();
    let words = ["exec", &id, "echo", "through TLS"];
    let inside = mesos(&cluster, &master, &[&with_ca[..], &words].concat());
    assert_eq!(String::from_utf8_lossy(&inside.stdout), "through TLS\n", "{inside:?}");

    // Whoever trusts others is told why, and whoever speaks no TLS gets nothing.
    let other_ca = foreign.display().to_string();
    let refused = mesos(&cluster, &master, &["agents", "--ca-file", &other_ca]);
    let refused = agents(&refused).expect_err("another authority");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    for url in [cluster.master_url("/health"), cluster.agent_url("/health")] {
        assert!(http::get(&url).is_err(), "{url} is answered without TLS");
    }
    let _ended = cluster.agent.take().expect("an agent").terminate();
    cluster.environment = environment(&own, &foreign, &[]);
    cluster.start_agent();
    let agent = cluster.agent.as_ref().expect("an agent");
    wait::until("the agent to refuse the master", LIMIT, || {
        let output = agent.output();
        if output.contains("not connected") && output.contains("UnknownIssuer") {
            Ok(())
        } else {
            Err(output)
        }
    });
    let logs = [agent.output(), cluster.master.as_ref().expect("a master").output()];
    assert!(logs.iter().all(|log| !log.contains("PRIVATE KEY")));
}

#[test]
fn a_cluster_changes_over_one_daemon_at_a_time() {
    let mut cluster = Cluster::new();
    let authority = Authority::new(cluster.directory(), "authority");
    let own = authority.issue("node", &["127.0.0.1"]);
    let trusted = authority.path("authority");
    cluster.start_zookeeper();
    cluster.environment = environment(&own, &trusted, &["SUPPORT_DOWNGRADE"]);
    cluster.start_master();
    // An agent that knows nothing of TLS: it is dialled without, and so is the master by it.
    cluster.environment.clear();
    cluster.start_agent();
    let plain = format!("127.0.0.1:{}", cluster.master_port);
    wait_for_agent(&cluster, &plain, &[]);
    let ca_file = trusted.display().to_string();
    let secured = format!("https://{plain}");
    wait_for_agent(&cluster, &secured, &["--ca-file", &ca_file]);
    cluster.wait_for_agent();

    // The same agent, changed over.
    let _ended = cluster.agent.take().expect("an agent").terminate();
    cluster.environment = environment(&own, &trusted, &[]);
    cluster.start_agent();
    cluster.wait_for_agent();
    assert!(http::get(&cluster.agent_url("/health")).is_err());
}

#[test]
fn a_daemon_without_its_key_does_not_start() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let output = Command::new(binary("mesos-master"))
        .args(["--ip=127.0.0.1", "--port=0", "--registry=in_memory"])
        // What other programs take for their authorities would be taken for its certificate, as by the original.
        .env_remove("SSL_CERT_FILE")
        .env("LIBPROCESS_SSL_ENABLED", "true")
        .env("LIBPROCESS_SSL_KEY_FILE", directory.path().join("none"))
        .output()
        .expect("mesos-master starts");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("LIBPROCESS_SSL_CERT_FILE"), "{text}");
}
