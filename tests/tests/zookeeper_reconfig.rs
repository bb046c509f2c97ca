//! Ensembles with observers, weighted votes and servers that come and go, of ours and Apache's servers together; what
//! is served without a leader, and how a leader goes.

use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::need;
use end_to_end::programs::{has_original_zookeeper, python};
use end_to_end::wait;
use end_to_end::zookeeper::Kind::{self, Original as Apache, Ours};
use end_to_end::zookeeper::members::{Ensemble, MIXED_WITH_OBSERVERS};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn observers_of_both_kinds_follow_leaders_of_both_kinds() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let mut ensemble = Ensemble::start(&MIXED_WITH_OBSERVERS, "");
    ensemble.wait_for(2, 2);
    let first = ensemble.leader();
    ensemble.all_agree(&[4, 5], "first");
    ensemble.kill(first);
    ensemble.wait_for(1, 2);
    ensemble.all_agree(&[4, 5], "second");
    ensemble.start_server(first);
    ensemble.wait_for(2, 2);
    // Of three voters one that is left and two observers are no quorum; back, it is one again.
    let second = ensemble.leader();
    assert_ne!(first, second);
    ensemble.kill(second);
    ensemble.wait_for(1, 2);
    ensemble.all_agree(&[4, 5], "third");
    let third = ensemble.leader();
    let led = [first, second, third].map(|id| MIXED_WITH_OBSERVERS[id - 1].0);
    assert!(led.contains(&Ours), "ours never led");
}

#[test]
fn the_votes_of_a_group_outweigh_more_servers() {
    let kinds = [(Ours, "participant"); 5];
    let mut ensemble = Ensemble::start(
        &kinds,
        "group.1=1:2:3:4:5\nweight.1=3\nweight.2=3\nweight.3=1\nweight.4=1\nweight.5=0",
    );
    ensemble.wait_for(4, 0);
    assert_ne!(ensemble.leader(), 5, "a server without weight leads");
    for id in [3, 4, 5] {
        ensemble.kill(id);
    }
    ensemble.wait_for(1, 0);
    for id in [3, 4, 5] {
        ensemble.start_server(id);
    }
    ensemble.wait_for(4, 0);
    ensemble.kill(1);
    ensemble.kill(2);
    wait::until("three of five to be no quorum", LIMIT, || {
        let text = four_letter_word(ensemble.servers[2].client, "srvr")?;
        if text.contains("not currently serving requests") { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_server_without_a_leader_serves_those_who_only_read() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    let kinds = [(Ours, "participant"); 3];
    let mut ensemble = Ensemble::start(&kinds, "readonlymode.enabled=true");
    ensemble.wait_for(2, 0);
    assert_eq!(ensemble.client("put", 1, &["/a", "b"]), "/a");
    assert_eq!(ensemble.client("get", 3, &["/a"]), "b");
    ensemble.kill(1);
    ensemble.kill(2);
    ensemble.wait_for_isro(3, "ro");
    assert_eq!(ensemble.mode(3).as_deref(), Ok("read-only"));
    assert_eq!(ensemble.client("read-only", 3, &["/a"]), "True\nb\nNotReadOnlyCallError");
    ensemble.start_server(1);
    ensemble.wait_for_isro(3, "rw");
    assert_eq!(ensemble.client("get", 3, &["/a"]), "b");
}

#[test]
fn a_leader_that_is_told_to_end_does_not_keep_the_others_waiting() {
    // Ticks so long that waiting for any would take longer than the test allows.
    let kinds = [(Ours, "participant"); 3];
    let mut ensemble = Ensemble::start(&kinds, "tickTime=20000");
    ensemble.wait_for(2, 0);
    let leader = ensemble.leader();
    let daemon = ensemble.servers[leader - 1].daemon.take().expect("a leader");
    let began = std::time::Instant::now();
    assert!(daemon.terminate().success());
    ensemble.wait_for(1, 0);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn servers_that_missed_much_are_sent_the_log_or_the_tree() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let kinds = [(Apache, "participant"), (Ours, "participant"), (Ours, "participant")];
    let mut ensemble = Ensemble::start(&kinds, "snapCount=100\npreAllocSize=64");
    ensemble.wait_for(2, 0);
    assert_eq!(ensemble.leader(), 3, "of equals the last leads");
    assert_eq!(ensemble.client("fill", 3, &["/large", "100", "10000"]), "100");
    let said = |ensemble: &Ensemble, id: usize| {
        ensemble.servers[id - 1].daemon.as_ref().expect("a running server").output()
    };
    // More than is in memory, but little beside the snapshot.
    for id in [1, 2] {
        ensemble.kill(id);
        let path = format!("/missed-by-{id}");
        assert_eq!(ensemble.client("fill", 3, &[&path, "700", "10"]), "700");
        ensemble.start_server(id);
        ensemble.wait_for(2, 0);
        assert_eq!(ensemble.client("get", id, &[&format!("{path}/699")]), "x".repeat(10));
        assert!(said(&ensemble, 3).contains(&format!("server {id} gets ")), "not from the log");
    }
    for id in [1, 2] {
        ensemble.kill(id);
        let version_2 = ensemble.path(&format!("data{id}/version-2"));
        std::fs::remove_dir_all(version_2).expect("its data");
        ensemble.start_server(id);
        ensemble.wait_for(2, 0);
        let last = ensemble.client("get", id, &["/large/99"]);
        assert_eq!(last.len(), 10_000);
        assert!(said(&ensemble, 3).contains(&format!("sending server {id} the tree")));
    }
    ensemble.all_agree(&[1, 2, 3], "again");
}

/// Servers join, leave and hand over, and start again from the files that were written meanwhile.
fn change(kinds: [Kind; 3], joiner: Kind) {
    let mut ensemble =
        Ensemble::start(&kinds.map(|kind| (kind, "participant")), "reconfigEnabled=true");
    ensemble.wait_for(2, 0);
    let leader = ensemble.leader();
    let follower = leader % 3 + 1;
    // The first leader gives the configuration that was only in files a number.
    let before = ensemble.client("config", follower, &[]);
    assert!(before.ends_with("\nversion=100000000"), "{before}");
    let stale = ensemble.client("reconfig", follower, &["-", "1", "-", "7"]);
    assert_eq!(stale, "BadVersionError");

    let fourth = ensemble.add(joiner, "participant");
    ensemble.configure(fourth, &[1, 2, 3, 4], "reconfigEnabled=true");
    let joining = format!("server.4={}", ensemble.line(fourth));
    let refused = ensemble.client("reconfig", follower, &["-", "-", &joining, "-1"]);
    assert_eq!(refused, "BadArgumentsError", "two voters must remain");
    ensemble.start_server(fourth);
    ensemble.wait_for(3, 0);
    let after = ensemble.client("reconfig", follower, &[&joining, "-", "-", "-1"]);
    assert!(after.contains(&joining), "{after}");
    ensemble.wait_for(3, 0);
    assert_eq!(ensemble.client("config", fourth, &[]), after);
    ensemble.all_agree(&[1, 2, 3, 4], "four");

    // The leader leaves: another one is named.
    let leaving = leader.to_string();
    let answer = ensemble.client("reconfig", follower, &["-", &leaving, "-", "-1"]);
    ensemble.kill(leader);
    ensemble.wait_for(2, 0);
    let without = ensemble.client("config", follower, &[]);
    assert!(!without.contains(&format!("server.{leader}=")), "{without}");
    // Apache's may close the connection before it has answered.
    assert!(answer == without || kinds[follower - 1] == Apache, "{answer}");
    let rest: Vec<usize> = (1..=4).filter(|id| *id != leader).collect();
    ensemble.all_agree(&rest, "rest");

    // Everything that is needed to go on is in the files.
    for id in &rest {
        ensemble.kill(*id);
    }
    for id in &rest {
        let text = std::fs::read_to_string(ensemble.config(*id)).expect("zoo.cfg");
        assert!(!text.contains("server.") && text.contains("dynamicConfigFile="), "{text}");
        ensemble.start_server(*id);
    }
    ensemble.wait_for(2, 0);
    for id in &rest {
        assert_eq!(ensemble.client("config", *id, &[]), without);
    }
    // One becomes an observer, as a whole new list.
    let observer = rest.iter().copied().find(|id| ensemble.mode(*id).as_deref() == Ok("follower"));
    let observer = observer.expect("a follower");
    let list: Vec<String> = without
        .lines()
        .filter(|line| line.starts_with("server."))
        .map(|line| {
            if line.starts_with(&format!("server.{observer}=")) {
                line.replace(":participant", ":observer")
            } else {
                line.to_owned()
            }
        })
        .collect();
    let asked = rest.iter().copied().find(|id| *id != observer).expect("another server");
    let answer = ensemble.client("reconfig", asked, &["-", "-", &list.join(","), "-1"]);
    assert!(answer.contains(":observer"), "{answer}");
    ensemble.wait_for(1, 1);
    assert_eq!(ensemble.mode(observer).as_deref(), Ok("observer"));
    ensemble.all_agree(&rest, "observed");
}

#[test]
fn an_ensemble_of_ours_changes_while_it_runs() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    change([Ours; 3], Ours);
}

#[test]
fn an_apache_server_joins_ours_by_reconfig() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    change([Ours, Ours, Ours], Apache);
}

#[test]
fn our_server_joins_apaches_by_reconfig() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    change([Apache, Ours, Apache], Ours);
}

/// Changes that are refused: who joins, who leaves, or else the whole list, and the version that they are of.
const REFUSED: &str = r#"[
    ["server.999=0.0.0.0:1234:2345:observer;3456", null, null, -1],
    ["server.4=127.0.0.1:1:2;3", "x", null, -1],
    ["server.x=127.0.0.1:1:2;3", null, null, -1],
    ["server.4=127.0.0.1:1:2", null, null, -1],
    ["server.4=127.0.0.1:1:2;", null, null, -1],
    ["server.4=127.0.0.1:1:1;3", null, null, -1],
    ["server.4=127.0.0.1:1:2:voter;3", null, null, -1],
    ["server.4=127.0.0.1:x:2;3", null, null, -1],
    ["server.4=127.0.0.1:1:2;3;4", null, null, -1],
    ["server.4=127.0.0.1:1:2|127.0.0.2:1:2;3", null, null, -1],
    ["server.4", null, null, -1],
    ["server.4=127.0.0.1:1:2;3=4", null, null, -1],
    ["server.4=10.9.9.9:1:2;3,server.5=10.9.9.9:1:4;5", null, null, -1],
    [null, "1", null, -1],
    [null, "1,2", null, -1],
    [null, "1", null, 7],
    ["server.x=1", "x", null, 7],
    [null, null, "", -1],
    [null, null, "tickTime=1", -1],
    [null, null, "server.1=127.0.0.1:1", -1],
    [null, null, "server.x=127.0.0.1:1:2", -1],
    [null, null, "version=x", -1],
    [null, null, "server.1=127.0.0.1:1:2", -1],
    [null, null, "server.1=127.0.0.1:1:2:observer", -1],
    [null, null, "server.1=127.0.0.1:1:2,server.2=127.0.0.1:1:2:observer", -1],
    [null, null, "server.7=127.0.0.1:1:2;3,server.8=127.0.0.1:1:2;4", -1],
    [null, null, "server.7=127.0.0.1:1:2;3,server.8=127.0.0.1:1:2;4", 7],
    [null, null, "server.1=127.0.0.1:1:2,server.2=127.0.0.1:3:4,group.1=1", -1],
    [null, null, "server.1=127.0.0.1:1:2,server.2=127.0.0.1:3:4,group.1=x", -1],
    [null, null, "server.1=127.0.0.1:1:2,server.2=127.0.0.1:3:4,group.1=1:2,group.2=2", -1],
    [null, null, "server.1=127.0.0.1:1:2,server.2=127.0.0.1:3:4,group.1=1:2,weight.1=x", -1]
]"#;

#[test]
fn changes_are_refused_for_the_same_reasons_in_the_same_order() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let [ours, apaches] = [Ours, Apache].map(|kind| {
        let ensemble = Ensemble::start(&[(kind, "participant"); 2], "reconfigEnabled=true");
        ensemble.wait_for(1, 0);
        let answers = ensemble.client("refused", ensemble.leader(), &[REFUSED]);
        // Nothing has changed: there are two servers still.
        ensemble.wait_for(1, 0);
        answers
    });
    // Apache's takes an id that no server can have, as long as it comes from the super user.
    let far = "BadArgumentsError ['server.999";
    assert!(ours.contains("NoAuthError ['server.999") && ours.contains(far), "{ours}");
    assert_eq!(ours.replace(far, "done ['server.999"), apaches);
    for name in ["NoAuth", "BadArguments", "BadVersion", "Marshalling", "NewConfigNoQuorum"] {
        assert!(ours.contains(name), "{name} is not among\n{ours}");
    }
}

/// What sessions may do on the leader and on the other one of two servers.
fn sessions(kinds: [Kind; 2], lines: &str) -> Vec<String> {
    let ensemble = Ensemble::start(&kinds.map(|kind| (kind, "participant")), lines);
    ensemble.wait_for(1, 0);
    let leader = ensemble.leader();
    let said = |id: usize| {
        let said = ensemble.client("session", id, &[&format!("/by{id}")]);
        // Java's count of times at which sessions end has old ones in it.
        ["(0)/", "(1)/", "(2)/"].iter().fold(said, |said, count| said.replace(count, "/"))
    };
    [leader, 3 - leader].map(said).to_vec()
}

#[test]
fn sessions_are_local_until_they_want_more_as_the_originals() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let enabled = "localSessionsEnabled=true";
    for lines in [enabled.to_owned(), format!("{enabled}\nlocalSessionsUpgradingEnabled=true")] {
        let original = sessions([Apache, Apache], &lines);
        assert!(original[0].contains("Local Session Sets /(1)"), "{original:?}");
        if lines == enabled {
            // In a multi the leader's own clients are told more than those of the others.
            for (said, name) in original.iter().zip(["EphemeralOnLocalSession", "SessionExpired"]) {
                assert!(said.contains(&format!("'{name}")), "{said}");
            }
        }
        for kinds in [[Ours, Ours], [Ours, Apache], [Apache, Ours]] {
            assert_eq!(sessions(kinds, &lines), original, "{kinds:?} {lines}");
        }
    }
}

#[test]
fn servers_move_to_other_ports_while_they_run() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let kinds = [(Ours, "participant"), (Ours, "participant"), (Apache, "participant")];
    let mut ensemble = Ensemble::start(&kinds, "reconfigEnabled=true");
    ensemble.wait_for(2, 0);
    for id in [1, 2] {
        let before = ensemble.servers[id - 1].client;
        // One that stays keeps its session.
        let asked = 3 - id;
        let line = ensemble.move_ports(id);
        let answer = ensemble.client("reconfig", asked, &[&line, "-", "-", "-1"]);
        // The answer may be lost when the one that moves leads.
        assert!(
            answer.contains(&line) || answer.ends_with("Error") || answer.ends_with("Loss"),
            "{answer}"
        );
        ensemble.wait_for(2, 0);
        let known = ensemble.client("config", 3, &[]);
        assert!(known.contains(&line), "{known}");
        ensemble.all_agree(&[1, 2, 3], &format!("moved{id}"));
        assert!(four_letter_word(before, "srvr").is_err(), "the port from before is open");
    }
    // Each is found by the others where it is now, also when it starts again.
    for id in [1, 2, 3] {
        ensemble.kill(id);
        ensemble.wait_for(1, 0);
        ensemble.start_server(id);
        ensemble.wait_for(2, 0);
    }
    ensemble.all_agree(&[1, 2, 3], "again");
}
