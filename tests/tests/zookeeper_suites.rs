//! What others publish to talk to ZooKeeper, against our servers: kazoo's own tests on an ensemble, aiozk's on one server, the
//! C client's shell.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::need;
use end_to_end::programs::{binary, has_original_zookeeper, python, root, run};
use end_to_end::wait;
use end_to_end::zookeeper::{Kind, Server};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// The shell of the C client, as Debian packs it.
const C_CLIENT: &str = "/usr/lib/zookeeper/bin/cli_mt";

/// The parts of kazoo's suite that take seconds; `MESO_KAZOO=all` runs all of it, some minutes long.
const KAZOO: [&str; 9] =
    ["barrier", "counter", "election", "lock", "party", "queue", "security", "lease", "watchers"];

/// kazoo starts its servers as `java … QuorumPeerMain zoo.cfg`: a program of that name starts ours.
fn java_that_is_ours(directory: &Path) {
    let script = format!(
        "#!/bin/sh\nflags=\nfor last; do case $last in -D*) flags=\"$flags $last\" ;; esac; done\nSERVER_JVMFLAGS=$flags exec {} \"$last\"\n",
        binary("zookeeper-server").display()
    );
    let path = directory.join("java");
    std::fs::write(&path, script).expect("a script");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a script to run");
}

fn pytest(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider"]);
    command
}

/// All tests that were chosen pass.
fn passes(command: &mut Command) {
    let said = run(command).unwrap_or_else(|error| panic!("{error}"));
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(" passed") && !last.contains("failed"), "{last}");
}

#[test]
fn kazoos_own_tests_pass_on_three_servers() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let python = python().expect("checked before");
    let has_suite =
        run(Command::new(&python).args(["-c", "import pytest, jks, objgraph, kazoo.tests"]));
    need!(has_suite.is_ok(), "target/venv lacks what kazoo's tests need (tests/python-clients.sh)");
    let directory = TempDir::new().expect("a directory");
    java_that_is_ours(directory.path());
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = pytest(&python);
    command.args(["-p", "kazoo_suite"]);
    if std::env::var("MESO_KAZOO").is_ok_and(|which| which == "all") {
        command.args(["--pyargs", "kazoo.tests"]);
    } else {
        command.arg("--pyargs").args(KAZOO.map(|part| format!("kazoo.tests.test_{part}")));
    }
    command
        .current_dir(directory.path())
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("PYTHONPATH", root().join("tests/clients"))
        .env("ZOOKEEPER_VERSION", "3.8.4")
        .env("ZOOKEEPER_CLASSPATH", "/")
        .env("ZOOKEEPER_PORT_OFFSET", "21300");
    passes(&mut command);
}

#[test]
fn aiozks_own_tests_pass() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let python = python().expect("checked before");
    let has_suite = run(Command::new(&python)
        .args(["-c", "import pytest, pytest_asyncio, pytest_mock, aiozk.test"]));
    need!(has_suite.is_ok(), "target/venv lacks what aiozk's tests need (tests/python-clients.sh)");
    let server = Server::started(Kind::Ours);
    let mut command = pytest(&python);
    command.args(["-o", "asyncio_mode=auto", "--pyargs", "aiozk.test"]);
    if std::env::var("MESO_AIOZK").is_ok_and(|which| which == "all") {
        command.arg("--durations=5");
    } else {
        // These two wait for 20 seconds of 45.
        command.args(["-k", "not multi_watcher and not duplicated_heartbeat_task"]);
    }
    command
        .current_dir(server.directory.path())
        .env("ZK_HOST", "127.0.0.1")
        .env("ZK_PORT", server.port.to_string());
    passes(&mut command);
}

/// What the C client's shell prints of each command in turn, on one kind of server, without times and sessions.
fn c_client(kind: Kind, commands: &[&str]) -> Vec<String> {
    let server = Server::started(kind);
    let printed = server.directory.path().join("printed");
    let file = File::create(&printed).expect("a file");
    let mut shell = Command::new(C_CLIENT)
        .arg(format!("127.0.0.1:{}", server.port))
        .stdin(Stdio::piped())
        .stdout(file.try_clone().expect("a file"))
        .stderr(file)
        .spawn()
        .expect("the C client");
    let text = || std::fs::read_to_string(&printed).unwrap_or_default();
    wait::until_true("a session", LIMIT, || text().contains("CONNECTED_STATE"));
    let mut input = shell.stdin.take().expect("a pipe");
    let mut found = Vec::new();
    for command in commands {
        let before = text().len();
        writeln!(input, "{command}").expect("a command");
        // Every reply has it, and is printed whole before the next is asked for.
        wait::until(command, LIMIT, || {
            let answer = text()[before..].to_owned();
            if answer.contains("rc = ") || answer.contains("Error") { Ok(()) } else { Err(answer) }
        });
        // A second one that says nothing of its own follows when all of the first is out.
        let before_sync = text().len();
        writeln!(input, "sync /").expect("a command");
        wait::until_true("sync", LIMIT, || text()[before_sync..].contains("rc = "));
        let answer = text()[before..before_sync].to_owned();
        let lines = answer.lines().filter(|line| {
            let line = line.trim_start();
            !["time =", "ctime", "mtime"].iter().any(|start| line.starts_with(start))
                && !line.contains(":ZOO_")
        });
        let lines = lines.map(|line| match line.split_once("ephemeralOwner = ") {
            Some((_, owner)) if owner.trim() != "0" => "ephemeralOwner (session)".to_owned(),
            _ => line.to_owned(),
        });
        found.push(format!("> {command}\n{}", lines.collect::<Vec<_>>().join("\n")));
    }
    let _ = writeln!(input, "quit");
    drop(input);
    let _ = shell.wait();
    found
}

#[test]
fn the_c_client_is_told_the_same_by_ours_and_by_the_original() {
    need!(Path::new(C_CLIENT).is_file(), "Debian's zookeeper-bin is not installed");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let commands = [
        "create /c data",
        "create +e /c/e",
        "create +s /c/s-",
        "create +es /c/es-",
        "create +c /c/container",
        "create /c",
        "create /none/x",
        "get /c",
        "set /c newer",
        "set /none x",
        "exists /none",
        "ls /c",
        "ls2 /c",
        "delete /c/e",
        "delete /c",
        "delete /none",
        "config",
    ];
    let (ours, original) = (c_client(Kind::Ours, &commands), c_client(Kind::Original, &commands));
    let sorted = |all: Vec<String>| -> Vec<Vec<String>> {
        // Children come in the order of a Java set.
        let mut all: Vec<Vec<String>> =
            all.iter().map(|one| one.lines().map(str::to_owned).collect()).collect();
        all.iter_mut().filter(|one| one[0].starts_with("> ls")).for_each(|one| one[1..].sort());
        all
    };
    assert_eq!(sorted(ours), sorted(original));
}
