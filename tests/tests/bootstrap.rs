//! `meso bootstrap` and `meso status` on hosts that never saw Meso: the same state as the guide's, in one command; and
//! refusals that leave hosts as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::cluster::wait_for_tasks;
use end_to_end::lab::{self, Lab};
use end_to_end::programs::{binary, packages};
use end_to_end::{http, need, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);

/// What a run of `meso` printed and how it ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// The JSON document on standard output, which must be all there is.
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A lab and an operator's home with nothing in it but what a test puts there.
struct Operator {
    lab: Lab,
    home: TempDir,
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Operator {
    fn begin(name: &str, hosts: usize) -> Self {
        let lab = Lab::up(name, hosts);
        let inventory = lab.inventory();
        let path = |name: &str| PathBuf::from(inventory[name].as_str().expect("a path"));
        let home = TempDir::new().expect("a directory");
        Self { key: path("key"), known_hosts: path("known_hosts"), lab, home }
    }

    /// Addresses of the first `count` hosts, as `--hosts` takes them.
    fn hosts(&self, count: usize) -> String {
        (1..=count).map(|index| self.lab.ip(&format!("h{index}"))).collect::<Vec<_>>().join(",")
    }

    /// Runs `meso` without any key or host key but those of `arguments`.
    fn meso(&self, arguments: &[&str]) -> Run {
        let output = Command::new(binary("meso"))
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("SSH_AUTH_SOCK")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .output()
            .expect("meso starts");
        Run {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// [`Operator::meso`] with the lab's key and host keys.
    fn meso_with_key(&self, arguments: &[&str]) -> Run {
        let (key, known_hosts) = (self.key.to_string_lossy(), self.known_hosts.to_string_lossy());
        self.meso(&[arguments, &["--key", &key, "--known-hosts", &known_hosts]].concat())
    }

    /// A file in the operator's home that nobody else reads.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).expect("a file");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("its mode");
        path.to_string_lossy().into_owned()
    }

    /// All that a run may change on hosts, a line each: files with mode, owner, size and time, packages, units. What daemons
    /// write while they run is not among it.
    fn listings(&self, count: usize) -> BTreeSet<String> {
        let command = "find /etc /usr/lib/systemd /var/lib/zookeeper/myid -xdev -printf '%p %m %u %s %T@\\n' 2>/dev/null; \
             rpm -qa; ls -d /var/tmp/meso* 2>/dev/null; systemctl list-unit-files --no-legend 'zoo*' 'mesos*' 'marathon*'; \
             systemctl show -p Id -p ExecMainStartTimestampMonotonic zookeeper mesos-master mesos-slave marathon | xargs";
        let mut lines = BTreeSet::new();
        for host in (1..=count).map(|index| format!("h{index}")) {
            let said = self.lab.ssh(&host, command);
            lines.extend(said.lines().map(|line| format!("{host}: {line}")));
        }
        lines
    }

    fn see_unchanged(&self, before: &BTreeSet<String>, count: usize, what: &str) {
        let after = self.listings(count);
        let changed: Vec<&String> = before.symmetric_difference(&after).collect();
        assert!(changed.is_empty(), "{what}: before and after: {changed:#?}");
        assert!(before.iter().any(|line| line.contains("/etc/passwd ")), "a listing lists");
    }

    fn see_a_page(url: &str) {
        let reply = wait::until(url, START, || http::get(url));
        assert_eq!(reply.status, 200, "{url}");
        assert!(reply.body.to_lowercase().contains("<!doctype html>"), "{url}: {}", reply.body);
    }
}

fn ready() -> Option<String> {
    lab::missing()
        .or_else(|| packages().is_none().then(|| "there are no packages; run: make rpm".to_owned()))
}

#[test]
fn three_hosts_become_a_cluster_and_stay_as_they_are() {
    need!(ready().is_none(), "{}", ready().unwrap_or_default());
    let operator = Operator::begin("bootstrap", 3);
    let hosts = operator.hosts(3);
    let rpms = packages().expect("checked before");
    let bootstrap = ["bootstrap", "--hosts", &hosts, "--packages", &rpms.to_string_lossy()];

    let before = operator.listings(3);
    let dry = operator.meso_with_key(&[&bootstrap[..], &["--dry-run"]].concat());
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.stdout.contains("install mesosphere-zookeeper"), "{dry:?}");
    operator.see_unchanged(&before, 3, "a dry run");

    let run = operator.meso_with_key(&bootstrap);
    assert_eq!(run.code, Some(0), "{run:?}");
    let [master, first, second] = ["h1", "h2", "h3"].map(|host| operator.lab.ip(host));
    let (mesos, marathon) = (format!("http://{master}:5050"), format!("http://{master}:8080"));
    assert!(run.stdout.contains(&mesos) && run.stdout.contains(&marathon), "{run:?}");

    // The same state as the guide's.
    Operator::see_a_page(&format!("{mesos}/"));
    Operator::see_a_page(&format!("{marathon}/ui/"));
    let state = http::get_json(&format!("{mesos}/state")).expect("a state");
    let agents = state["slaves"].as_array().expect("agents");
    let mut names: Vec<&str> =
        agents.iter().filter_map(|agent| agent["hostname"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [&first, &second]);
    let info = http::get_json(&format!("{marathon}/v2/info")).expect("Marathon");
    assert!(info["frameworkId"].is_string(), "{info}");
    for (host, path, content) in [
        ("h1", "/var/lib/zookeeper/myid", "1".to_owned()),
        ("h1", "/etc/mesos-master/quorum", "1".to_owned()),
        ("h1", "/etc/mesos-master/hostname", master.clone()),
        ("h1", "/etc/marathon/conf/hostname", master.clone()),
        ("h1", "/etc/mesos/zk", format!("zk://{master}:2181/mesos")),
        ("h2", "/etc/mesos/zk", format!("zk://{master}:2181/mesos")),
        ("h2", "/etc/mesos-slave/hostname", first),
        ("h2", "/etc/mesos-slave/containerizers", "docker,mesos".to_owned()),
        ("h3", "/etc/mesos-slave/executor_registration_timeout", "15mins".to_owned()),
        ("h3", "/etc/mesos-slave/hostname", second),
    ] {
        assert_eq!(operator.lab.ssh(host, &format!("cat {path}")).trim(), content, "{host} {path}");
    }
    let server = format!("server.1={master}:2888:3888");
    assert!(
        operator
            .lab
            .ssh("h1", "cat /etc/zookeeper/conf/zoo.cfg")
            .lines()
            .any(|line| line == server)
    );
    for (host, unit, expected) in [
        ("h1", "zookeeper", "enabled active"),
        ("h1", "mesos-master", "enabled active"),
        ("h1", "marathon", "enabled active"),
        ("h1", "mesos-slave", "disabled inactive"),
        ("h2", "mesos-slave", "enabled active"),
        ("h2", "mesos-master", "disabled inactive"),
    ] {
        let command = format!("systemctl is-enabled {unit}; systemctl is-active {unit}; true");
        let seen = operator.lab.ssh(host, &command);
        assert_eq!(
            seen.split_whitespace().collect::<Vec<_>>().join(" "),
            expected,
            "{host} {unit}"
        );
    }

    let tasks = apps_run(&operator, &marathon);
    a_second_run_changes_nothing(&operator, &bootstrap);
    only_what_reads_a_changed_file_is_restarted(&operator, &bootstrap);
    for (app, ids) in &tasks {
        assert_eq!(wait_for_tasks(&marathon, app, ids.len()), *ids, "{app} outlives the restart");
    }
    status_tells_of_hosts_and_leader(&operator, &hosts, &master);
    a_unit_that_fails_is_told_with_its_journal(&operator, &bootstrap);
}

/// Starts an app in Docker and one without, on both agents; task ids by app.
fn apps_run(operator: &Operator, marathon: &str) -> BTreeMap<&'static str, Vec<String>> {
    for host in ["h2", "h3"] {
        operator.lab.import_busybox(host);
    }
    let one_a_host = json!([["hostname", "UNIQUE"]]);
    let docker =
        json!({"image": "busybox", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]});
    let mut web = json!({"id": "web", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": 1});
    web["container"] = json!({"type": "DOCKER", "docker": docker});
    let plain = json!({"id": "plain", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": 2, "constraints": one_a_host});
    for app in [&web, &plain] {
        let reply = http::post(&format!("{marathon}/v2/apps"), app).expect("an answer");
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    let first = wait_for_tasks(marathon, "/web", 1);
    let scaled = http::put(&format!("{marathon}/v2/apps/web"), &json!({"instances": 2}));
    assert_eq!(scaled.expect("an answer").status, 200);
    let tasks = [("/web", 2), ("/plain", 2)]
        .map(|(app, count)| (app, wait_for_tasks(marathon, app, count)));
    assert!(tasks[0].1.contains(&first[0]), "{first:?} is kept: {tasks:?}");
    tasks.into()
}

fn a_second_run_changes_nothing(operator: &Operator, bootstrap: &[&str]) {
    let before = operator.listings(3);
    let run = operator.meso_with_key(bootstrap);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("nothing to change"), "{run:?}");
    operator.see_unchanged(&before, 3, "a second run");

    let run = operator.meso_with_key(&[bootstrap, &["--json"]].concat());
    let answer = run.json();
    assert_eq!((run.code, &answer["changed"]), (Some(0), &Value::Bool(false)), "{run:?}");
    assert_eq!(answer["plan"]["hosts"].as_array().map(Vec::len), Some(3), "{answer}");
}

fn only_what_reads_a_changed_file_is_restarted(operator: &Operator, bootstrap: &[&str]) {
    operator.lab.ssh("h2", "echo mesos > /etc/mesos-slave/containerizers");
    let run = operator.meso_with_key(&[bootstrap, &["--json"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let plan = run.json();
    let of = |host: usize, what: &str, key: &str| -> Vec<String> {
        let entries = plan["plan"]["hosts"][host][what].as_array().expect("a list");
        entries.iter().map(|entry| entry[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of(1, "files", "path"), ["/etc/mesos-slave/containerizers"]);
    assert_eq!(
        (of(1, "units", "unit"), of(1, "units", "action")),
        (vec!["mesos-slave.service".to_owned()], vec!["restart".to_owned()])
    );
    assert_eq!((of(0, "units", "unit"), of(2, "units", "unit")), (vec![], vec![]));
    assert_eq!(
        operator.lab.ssh("h2", "cat /etc/mesos-slave/containerizers").trim(),
        "docker,mesos"
    );
}

fn status_tells_of_hosts_and_leader(operator: &Operator, hosts: &str, master: &str) {
    let run = operator.meso_with_key(&["status", "--hosts", hosts]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "a header, three units of the master, two agents: {run:?}");
    assert!(
        lines[2].contains("mesos-master") && lines[2].contains(&format!("{master}:5050")),
        "{run:?}"
    );

    // A host that is not there keeps nobody from seeing the others.
    let nobody = format!("{}.250", master.rsplit_once('.').expect("an address").0);
    let with_nobody = format!("{hosts},{nobody}");
    let run = operator.meso_with_key(&["status", "--hosts", &with_nobody, "--timeout", "2"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stdout.contains("leads 2 agents") && run.stdout.contains("can't be reached"),
        "{run:?}"
    );

    // What does not run is told, and the exit code says so.
    operator.lab.ssh("h3", "systemctl stop mesos-slave");
    let run = operator.meso_with_key(&["status", "--hosts", hosts, "--json"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let answer = run.json();
    assert_eq!(answer["healthy"], false);
    let bad: Vec<&Value> = answer["units"]
        .as_array()
        .expect("units")
        .iter()
        .filter(|unit| unit["healthy"] == false)
        .collect();
    assert_eq!(bad.len(), 1, "{answer}");
    assert_eq!(
        (&bad[0]["unit"], &bad[0]["state"]),
        (&"mesos-slave.service".into(), &"inactive".into())
    );
}

fn a_unit_that_fails_is_told_with_its_journal(operator: &Operator, bootstrap: &[&str]) {
    operator.lab.ssh("h2", "echo x > /etc/mesos-slave/nonsense; echo > /etc/mesos-slave/hostname");
    let run = operator.meso_with_key(bootstrap);
    assert_eq!(run.code, Some(1), "{run:?}");
    for text in ["can't restart mesos-slave.service", "unknown flag 'nonsense'", "journalctl -u"] {
        assert!(run.stderr.contains(text), "'{text}' is not in {run:?}");
    }
    // With the cause gone, the next run goes on: it does not wait for systemd to try again.
    operator.lab.ssh("h2", "rm /etc/mesos-slave/nonsense");
    let run = operator.meso_with_key(bootstrap);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("start mesos-slave.service: it failed"), "{run:?}");
}

#[test]
fn one_host_becomes_everything_through_sudo() {
    need!(ready().is_none(), "{}", ready().unwrap_or_default());
    let operator = Operator::begin("bootstrap-sudo", 1);
    let rpms = packages().expect("checked before");
    let host = operator.hosts(1);
    let inventory = operator.file(
        "cluster.toml",
        &format!(
            "user = 'ops'\nkey = '{}'\nknown_hosts = '{}'\npackages = '{}'\n[[hosts]]\nname = '{host}'\n",
            operator.key.display(),
            operator.known_hosts.display(),
            rpms.display()
        ),
    );
    let run = operator.meso(&["bootstrap", "--inventory", &inventory]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let state = http::get_json(&format!("http://{host}:5050/state")).expect("a state");
    assert_eq!(state["activated_slaves"], 1.0, "{state}");
    let again = operator.meso(&["bootstrap", "--inventory", &inventory]);
    assert!(again.code == Some(0) && again.stdout.contains("nothing to change"), "{again:?}");
    let owner = operator.lab.ssh("h1", "stat -c '%U %a' /etc/mesos/zk");
    assert_eq!(owner.trim(), "root 644");
}

/// Files that are named and begin like packages, and are none.
fn likenesses(directory: &Path) {
    for name in ["mesosphere-zookeeper-3.8.4", "mesos-1.11.0", "marathon-1.8.667"] {
        let path = directory.join(format!("{name}-100.x86_64.rpm"));
        std::fs::write(path, [0xed, 0xab, 0xee, 0xdb]).expect("a file");
    }
}

/// Known hosts with the keys of two hosts swapped.
fn swapped(operator: &Operator) -> String {
    let text = std::fs::read_to_string(&operator.known_hosts).expect("known hosts");
    let (first, second) = (operator.lab.ip("h1"), operator.lab.ip("h2"));
    let lines = text.lines().map(|line| {
        let (names, key) = line.split_once(' ').expect("names and a key");
        if names.ends_with(&first) {
            format!("{second} {key}\n")
        } else {
            format!("{first} {key}\n")
        }
    });
    operator.file("swapped", &lines.collect::<Vec<_>>().concat())
}

#[test]
fn a_wrong_command_line_or_inventory_is_refused_before_any_connection() {
    let directory = TempDir::new().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let unknown_key = file("unknown.toml", "[[hosts]]\nname = 'h1'\nrole = 'master'\n");
    let no_toml = file("no.toml", "[[hosts\n");
    let no_host = file("none.toml", "user = 'root'\n");
    let empty = file("empty", "");
    for (arguments, named) in [
        (vec!["--hosts", "h1:port"], "'port' in 'h1:port' is no port"),
        (vec!["--hosts", "h1,h1"], "h1 is named twice"),
        (vec!["--hosts", "h1", "--agents", "h2"], "h2 has a role but is not among the hosts"),
        (vec!["--hosts", "h1,h2", "--masters", "h1,h2"], "2 masters are asked for"),
        (vec!["--hosts", "h1", "--key", "/no/such/key"], "/no/such/key"),
        (vec!["--hosts", "h1", "--known-hosts", "/no/such/file"], "/no/such/file"),
        (vec!["--hosts", "h1", "--password-file", &empty], "its first line is empty"),
        (vec!["--inventory", "/no/such/inventory"], "/no/such/inventory"),
        (vec!["--inventory", &unknown_key], "unknown field `role`"),
        (vec!["--inventory", &no_toml], "line 1, column"),
        (vec!["--inventory", &no_host], "there are no hosts"),
        (vec![], "there are no hosts"),
    ] {
        for command in ["bootstrap", "status"] {
            let output = Command::new(binary("meso"))
                .arg(command)
                .args(&arguments)
                .env_remove("MESO_HOSTS")
                .output()
                .expect("meso starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command} {arguments:?}: {said}");
            assert!(said.contains(named), "{command} {arguments:?}: {said}");
        }
    }
}

/// A run that is refused.
struct Refusal {
    what: &'static str,
    /// Options, separated by blanks.
    options: String,
    code: i32,
    /// What the error names: host, reason, remedy.
    named: Vec<String>,
}

fn refusal(what: &'static str, code: i32, options: String, named: &[&str]) -> Refusal {
    Refusal { what, options, code, named: named.iter().map(|text| (*text).to_owned()).collect() }
}

/// What keeps an operator from logging in.
fn refused_logins(operator: &Operator) -> Vec<Refusal> {
    let (first, second) = (operator.lab.ip("h1"), operator.lab.ip("h2"));
    // No host of the lab has this address.
    let nobody = format!("{}.250", first.rsplit_once('.').expect("an address").0);
    let (key, known) = (operator.key.display(), operator.known_hosts.display());
    let (swapped, empty) = (swapped(operator), operator.file("empty", ""));
    let (wrong, right) = (operator.file("wrong", "not alice\n"), operator.file("right", "alice\n"));
    let both = format!("--hosts {first},{second}");
    vec![
        refusal(
            "a host key that is another's",
            4,
            format!("{both} --key {key} --known-hosts {swapped}"),
            &[&first, &second, "not the one on file", "SHA256:", "ssh-keygen -R"],
        ),
        refusal(
            "a host key that is not known",
            4,
            format!("{both} --key {key} --known-hosts {empty}"),
            &[&first, &second, "not known", "SHA256:", "ssh-keyscan"],
        ),
        refusal(
            "a host that is not there",
            4,
            format!("--hosts {first},{nobody} --timeout 3 --key {key} --known-hosts {known}"),
            &[&nobody, "can't be reached", "see that it is up"],
        ),
        refusal(
            "a wrong password",
            4,
            format!("{both} --user alice --password-file {wrong} --known-hosts {known}"),
            &[
                &first,
                &second,
                "refuses to log alice in",
                "the password was refused",
                "--password-file",
            ],
        ),
        refusal(
            "a user who can't become root",
            5,
            format!("{both} --user alice --password-file {right} --known-hosts {known}"),
            &[&first, "alice can't become root", "NOPASSWD"],
        ),
    ]
}

/// What hosts, packages and roles are not fit for; `incomplete` and `broken` hold packages.
fn unfit(operator: &Operator, incomplete: &Path, broken: &Path) -> Vec<Refusal> {
    let (first, second) = (operator.lab.ip("h1"), operator.lab.ip("h2"));
    let (key, known) = (operator.key.display(), operator.known_hosts.display());
    let (incomplete, broken) = (incomplete.display(), broken.display());
    let login = format!("--key {key} --known-hosts {known}");
    operator.lab.ssh("h2", "systemd-run --quiet --unit squatter python3 -m http.server 5051");
    wait::until("the squatter", START, || http::get(&format!("http://{second}:5051/")));
    vec![
        refusal(
            "a missing package",
            5,
            format!("--hosts {first},{second} --packages {incomplete} {login}"),
            &[&first, "the package marathon is missing", "make rpm"],
        ),
        refusal(
            "packages that the host's rpm does not take",
            5,
            format!("--hosts {first} --packages {broken} {login}"),
            &[&first, "can't be read by the host's rpm", "not an rpm package", "make rpm"],
        ),
        refusal(
            "a port in use",
            5,
            format!("--hosts {first},{second} {login}"),
            &[
                &second,
                "port 5051 is in use",
                "python3",
                "squatter.service",
                "systemctl stop squatter.service",
            ],
        ),
        refusal(
            "more masters than can be",
            2,
            format!("--hosts {first},{second} --masters {first},{second} {login}"),
            &["2 masters", "odd number", "--masters"],
        ),
    ]
}

#[test]
fn refusals_name_host_and_remedy_and_change_nothing() {
    need!(lab::missing().is_none(), "{}", lab::missing().unwrap_or_default());
    let operator = Operator::begin("bootstrap-refused", 2);
    let [broken, incomplete] = [(), ()].map(|()| TempDir::new().expect("a directory"));
    likenesses(broken.path());
    // All but one of the refusals come before a package is opened.
    let rpms = packages().unwrap_or_else(|| broken.path().to_owned());
    for entry in std::fs::read_dir(&rpms).expect("packages").flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("marathon-") {
            let copy = incomplete.path().join(name);
            let _size = std::fs::copy(entry.path(), copy).expect("a copy");
        }
    }
    let mut refusals = refused_logins(&operator);
    refusals.extend(unfit(&operator, incomplete.path(), broken.path()));
    let before = operator.listings(2);
    for Refusal { what, options, code, named } in refusals {
        let mut arguments: Vec<&str> =
            std::iter::once("bootstrap").chain(options.split(' ')).collect();
        let rpms = rpms.to_string_lossy();
        if !options.contains("--packages") {
            arguments.extend(["--packages", &rpms]);
        }
        let run = operator.meso(&arguments);
        assert_eq!(run.code, Some(code), "{what}: {run:?}");
        for text in named {
            assert!(run.stderr.contains(&text), "{what}: '{text}' is not in {run:?}");
        }
        assert!(run.stderr.contains("next:"), "{what}: {run:?}");
        assert!(!run.stderr.contains("not alice"), "{what}: the password is shown: {run:?}");
        operator.see_unchanged(&before, 2, what);
    }
}
