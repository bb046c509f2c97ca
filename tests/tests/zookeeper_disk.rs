//! The data directory of our ZooKeeper server: full disks, packed snapshots, tools, and Apache's server on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::disk::SmallDisk;
use end_to_end::programs::{binary, has_original_zookeeper, python, run};
use end_to_end::zookeeper::{Kind, Server};
use end_to_end::{Daemon, need, ports, skip, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const NO_VENV: &str = "target/venv is missing (tests/python-clients.sh)";
const NO_ORIGINAL: &str = "Debian's zookeeper package is not installed";

fn full(arguments: &[&str]) -> Command {
    let mut command = Server::client("zookeeper_full.py");
    command.args(arguments);
    command
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    need!(python().is_some(), "{NO_VENV}");
    need!(skip::is_root(), "only root mounts a small disk");
    let mut server = Server::new("preAllocSize=64\nsnapCount=40\n");
    let data = server.directory.path().join("data");
    let disk = SmallDisk::mount(&data, 12);
    need!(disk.is_some(), "this place lets nobody mount a tmpfs");
    server.start(Kind::Ours);
    let port = server.port.to_string();
    let acknowledged = run(&mut full(&["alone", &port, data.to_str().expect("a path")]))
        .unwrap_or_else(|error| panic!("{error}"));
    let noted = server.directory.path().join("noted");
    fs::write(&noted, acknowledged).expect("a file");
    let daemon = server.daemon();
    let log = daemon.output();
    assert!(log.contains("No space left on device (os error 28): writes are refused"), "{log}");
    daemon.kill();
    server.start(Kind::Ours);
    run(&mut full(&["check", &port, noted.to_str().expect("a path")]))
        .unwrap_or_else(|error| panic!("{error}"));
    drop(server);
    drop(disk);
}

#[test]
fn a_leader_with_a_full_disk_gives_way_and_comes_back() {
    need!(python().is_some(), "{NO_VENV}");
    need!(skip::is_root(), "only root mounts a small disk");
    let directory = TempDir::new().expect("a directory");
    let data = |index: usize| directory.path().join(format!("data{index}"));
    let ports = ports::free::<9>();
    let member = |index: usize| {
        let (quorum, election) = (ports[3 + index], ports[6 + index]);
        format!("server.{}=127.0.0.1:{quorum}:{election}", index + 1)
    };
    let members = [0, 1, 2].map(member).join("\n");
    let mut disks = Vec::new();
    let mut servers = Vec::new();
    for (index, port) in ports[..3].iter().enumerate() {
        disks.push(SmallDisk::mount(&data(index), 12));
        need!(disks[index].is_some(), "this place lets nobody mount a tmpfs");
        fs::write(data(index).join("myid"), (index + 1).to_string()).expect("myid");
        let config = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=6\npreAllocSize=64\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n{members}",
            data(index).display()
        );
        let path = directory.path().join(format!("{index}.cfg"));
        fs::write(&path, config).expect("zoo.cfg");
        let mut command = Command::new(binary("zookeeper-server"));
        command.arg(&path);
        servers.push(Daemon::start(&format!("server{index}"), directory.path(), &mut command));
    }
    let mode = |index: usize| {
        let text = four_letter_word(ports[index], "srvr")?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(str::to_owned).ok_or(text)
    };
    let leader = |not: Option<usize>| {
        wait::until("one leader and two followers", LIMIT, || {
            let modes = (0..3).map(mode).collect::<Result<Vec<_>, _>>()?;
            let leader = modes.iter().position(|mode| mode == "leader");
            let followers = modes.iter().filter(|mode| *mode == "follower").count();
            match leader.filter(|leader| followers == 2 && Some(*leader) != not) {
                Some(leader) => Ok(leader),
                None => Err(modes.join(" ")),
            }
        })
    };
    let first = leader(None);
    let hosts = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>();
    let place = data(first);
    let acknowledged =
        run(&mut full(&["ensemble", &hosts.join(","), place.to_str().expect("a path")]))
            .unwrap_or_else(|error| panic!("{error}\n{}", servers[first].output()));
    assert!(servers[first].is_running(), "{}", servers[first].output());
    let log = servers[first].output();
    assert!(log.contains("this server leaves the ensemble until there is room"), "{log}");
    leader(Some(first));
    let noted = directory.path().join("noted");
    fs::write(&noted, acknowledged).expect("a file");
    for port in &ports[..3] {
        run(&mut full(&["check", &port.to_string(), noted.to_str().expect("a path")]))
            .unwrap_or_else(|error| panic!("{error}"));
    }
    drop(servers);
}

#[test]
fn what_is_no_longer_needed_is_purged_while_the_server_runs() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server = Server::new("snapCount=20\n");
    let version = server.directory.path().join("data/version-2");
    let count = |prefix: &str| {
        let files = fs::read_dir(&version).expect("a data directory").flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix)).count()
    };
    server.start(Kind::Ours);
    run(&mut server.kazoo(&["fill"])).expect("a tree");
    // Where processors are busy, one may still be written when the next is due, which is left out then.
    let noted = server.directory.path().join("noted");
    wait::until_true("more snapshots than are kept", LIMIT, || {
        count("snapshot.") > 4 || {
            run(server.kazoo(&["write"]).arg(&noted).arg("0.2")).expect("more transactions");
            false
        }
    });
    let written = server.dump();
    server.daemon().kill();
    let logs = count("log.");
    let mut config = fs::read_to_string(server.config()).expect("zoo.cfg");
    config.push_str("autopurge.purgeInterval=1\nautopurge.snapRetainCount=3\n");
    fs::write(server.config(), config).expect("zoo.cfg");
    server.start(Kind::Ours);
    // It takes one as it starts, maybe behind those that are looked at.
    wait::until_true("a purge", LIMIT, || (3..=4).contains(&count("snapshot.")));
    wait::until_true("a purge of logs", LIMIT, || count("log.") < logs);
    assert_eq!(server.dump(), written);
    server.daemon().kill();
    server.start(Kind::Ours);
    assert_eq!(server.dump(), written, "what is left holds everything");
}

/// Leaves only what the newest snapshot needs, so that nothing else can stand in for it.
fn keep_newest(data: &Path) -> PathBuf {
    let version = data.join("version-2");
    let zxid = |path: &Path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let hex = name.split('.').nth(1)?.to_owned();
        i64::from_str_radix(&hex, 16).ok()
    };
    let mut files: Vec<(i64, PathBuf)> = fs::read_dir(version)
        .expect("a data directory")
        .flatten()
        .filter_map(|entry| Some((zxid(&entry.path())?, entry.path())))
        .collect();
    files.sort();
    let is = |path: &Path, prefix: &str| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let newest = files.iter().rfind(|(_, path)| is(path, "snapshot.")).cloned();
    let (newest, kept) = newest.expect("a snapshot");
    for (_, path) in files.iter().filter(|(_, path)| is(path, "snapshot.") && *path != kept) {
        fs::remove_file(path).expect("an older snapshot");
    }
    let logs: Vec<_> = files.iter().filter(|(_, path)| is(path, "log.")).collect();
    let needed = logs.iter().rposition(|(first, _)| *first <= newest + 1).unwrap_or(0);
    for (_, path) in &logs[..needed] {
        fs::remove_file(path).expect("an older log");
    }
    kept
}

/// What one kind of server wrote with these settings is read by the other, and back.
fn hand_over(from: Kind, to: Kind, method: &str, further: &str) {
    let mut server =
        Server::new(&format!("snapCount=20\nsnapshot.compression.method={method}\n{further}"));
    let data = server.directory.path().join("data");
    for (writer, reader) in [(from, to), (to, from)] {
        server.start(writer);
        if writer == from {
            run(&mut server.kazoo(&["fill"])).expect("a tree");
        } else {
            let noted = server.directory.path().join("noted");
            run(server.kazoo(&["write"]).arg(noted).arg("1")).expect("more on the other's data");
        }
        let written = server.dump();
        server.daemon().kill();
        let kept = keep_newest(&data);
        let suffix = kept.extension().unwrap_or_default().to_string_lossy().into_owned();
        let is_packed = suffix == method;
        assert_eq!(is_packed, !method.is_empty(), "{}", kept.display());
        server.start(reader);
        assert_eq!(server.dump(), written, "{writer:?} wrote {}, {reader:?} read", kept.display());
        let daemon = server.daemon();
        let log = daemon.output();
        assert!(!log.contains("Digests are not matching"), "{log}");
        daemon.kill();
    }
}

#[test]
fn packed_snapshots_are_read_by_the_original_and_its_by_ours() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    hand_over(Kind::Ours, Kind::Original, "gz", "serializeLastProcessedZxid.enabled=true\n");
    hand_over(Kind::Original, Kind::Ours, "snappy", "digest.enabled=false\n");
}

/// One of the original's tools.
fn java(class: &str, arguments: &[&Path]) -> String {
    let mut command = Command::new("java");
    command.args(["-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US", "-cp"]);
    command
        .arg("/etc/zookeeper/conf:/usr/share/java/zookeeper.jar:/usr/share/java/commons-cli.jar");
    command.arg(format!("org.apache.zookeeper.server.{class}")).args(arguments);
    run(command.env("LC_ALL", "C.UTF-8")).unwrap_or_else(|error| panic!("{error}"))
}

fn tool(arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(binary("zookeeper-server"));
    run(command.args(arguments).arg(file)).unwrap_or_else(|error| panic!("{error}"))
}

/// Java and Rust replace bytes that are no text differently often.
fn without_garbage(text: &str) -> String {
    let mut last = ' ';
    let is_first = |char: &char| {
        let before = std::mem::replace(&mut last, *char);
        *char != '\u{fffd}' || before != '\u{fffd}'
    };
    text.chars().filter(is_first).collect()
}

#[test]
fn the_tools_say_what_the_originals_say() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    need!(Path::new("/usr/share/java/commons-cli.jar").is_file(), "commons-cli is missing");
    let mut server = Server::new("snapCount=60\nextendedTypesEnabled=true\n");
    server.start(Kind::Ours);
    run(&mut server.kazoo(&["fill"])).expect("a tree");
    run(&mut server.kazoo(&["behaviour"])).expect("transactions of every kind");
    assert!(server.daemon().terminate().success());
    let version = server.directory.path().join("data/version-2");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&version).expect("files").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let named = |prefix: &str| {
        let is = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        };
        files.iter().filter(is).cloned().collect::<Vec<_>>()
    };
    let (logs, snapshots) = (named("log."), named("snapshot."));
    // The newest, which may have little, and one before; each costs a Java start.
    let mut compared = 0;
    for log in logs.iter().rev().take(2) {
        let expected = without_garbage(&java("persistence.TxnLogToolkit", &[log]));
        let found = without_garbage(&tool(&["log", "print"], log));
        for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "line {line} of {}", log.display());
        }
        assert_eq!(found.lines().count(), expected.lines().count());
        compared += expected.lines().count();
    }
    assert!(compared > 20, "{compared} lines in {logs:?}");
    // The original's order of children and of sessions is that of its hash tables.
    let blocks = |text: &str| {
        let in_order = |block: &str| {
            let Some(sessions) = block.strip_prefix("Session Details") else {
                return block.to_owned();
            };
            let mut lines: Vec<&str> = sessions.lines().collect();
            lines[1..].sort_unstable();
            lines.join("\n")
        };
        let mut blocks: Vec<String> = text.split("----\n").map(in_order).collect();
        blocks.sort();
        blocks
    };
    let newest = snapshots.last().expect("a snapshot");
    let expected = blocks(&java("SnapshotFormatter", &[newest]));
    let found = blocks(&tool(&["snapshot", "print"], newest));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "in {}", newest.display());
    }
    assert_eq!(found.len(), expected.len());
    let verified = tool(&["log", "verify"], &version);
    assert!(verified.contains("a server would go on from transaction 0x"), "{verified}");
    assert!(!verified.contains("digests are not matching"), "{verified}");

    // What was restored is served, by the original too.
    let mut restored = Server::new("extendedTypesEnabled=true\n");
    let to = restored.directory.path().join("data");
    tool(&["snapshot", "restore", newest.to_str().expect("a path")], &to);
    restored.start(Kind::Original);
    let tree = restored.dump();
    restored.daemon().kill();
    restored.start(Kind::Ours);
    assert_eq!(restored.dump(), tree);
    assert!(tree.contains("/fill"), "{tree}");
}
