//! What members of ensembles do beside voting: followers that serve observers, leaders that serve no clients, servers that
//! may not begin with nothing, of ours and Apache's servers together.

use std::path::PathBuf;
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::need;
use end_to_end::ports;
use end_to_end::programs::{has_original_zookeeper, python};
use end_to_end::wait;
use end_to_end::zookeeper::Kind::{Original as Apache, Ours};
use end_to_end::zookeeper::members::{Ensemble, MIXED_WITH_OBSERVERS};

const LIMIT: Duration = Duration::from_secs(60);

/// Observers that a server says are synchronised with it; 0 if it says nothing of them.
fn observers_of(ensemble: &Ensemble, id: usize) -> Result<usize, String> {
    let text = four_letter_word(ensemble.servers[id - 1].client, "mntr")?;
    let said = text.lines().find_map(|line| line.strip_prefix("zk_synced_observers\t"));
    // Some of the original's numbers have a fraction.
    let whole = said.and_then(|count| count.trim().split('.').next());
    Ok(whole.and_then(|count| count.parse().ok()).unwrap_or(0))
}

#[test]
fn followers_of_both_kinds_serve_observers_of_both_kinds() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let [port] = ports::free();
    let mut ensemble =
        Ensemble::start(&MIXED_WITH_OBSERVERS, &format!("observerMasterPort={port}"));
    ensemble.wait_for(2, 2);
    let leader = ensemble.leader();
    let followers: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    for serving in &followers {
        let other = followers.iter().copied().find(|id| id != serving).expect("two followers");
        ensemble.kill(other);
        wait::until(&format!("both observers at server {serving}"), LIMIT, || {
            let counts = [observers_of(&ensemble, *serving)?, observers_of(&ensemble, leader)?];
            if counts == [2, 0] { Ok(()) } else { Err(format!("{counts:?}")) }
        });
        ensemble.wait_for(1, 2);
        ensemble.all_agree(&[4, 5, *serving], &format!("by{serving}"));
        for (id, to) in [(4, 5), (5, 4), (4, *serving), (*serving, 5), (4, leader)] {
            let moved = ensemble.client("move", id, &[&format!("/{id}-{to}"), &ensemble.host(to)]);
            assert_eq!(moved, "True\nTrue\nNone", "from {id} to {to} by {serving}");
        }
        ensemble.start_server(other);
        ensemble.wait_for(2, 2);
    }
    // Their master becomes the leader: they find another.
    ensemble.kill(leader);
    ensemble.wait_for(1, 2);
    ensemble.all_agree(&[4, 5], "after");
}

/// Waits for a server that serves nobody.
fn wait_until_refused(ensemble: &Ensemble, id: usize) {
    wait::until(&format!("server {id} to serve nobody"), LIMIT, || {
        let text = four_letter_word(ensemble.servers[id - 1].client, "srvr")?;
        if text.contains("not currently serving requests") { Ok(()) } else { Err(text) }
    });
}

fn oracle(ensemble: &Ensemble, id: usize) -> PathBuf {
    ensemble.path(&format!("data{id}")).join("oracle")
}

#[test]
fn one_of_two_goes_on_alone_when_the_oracle_says_so_as_the_original() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let mut ensemble =
        Ensemble::prepare(&[(Ours, "participant"), (Apache, "participant")], "", |data| {
            std::fs::write(data.join("oracle"), "0").expect("an oracle");
            format!("oraclePath={}", data.join("oracle").display())
        });
    ensemble.start_all();
    ensemble.wait_for(1, 0);
    ensemble.all_agree(&[1, 2], "two");
    // Server 1 goes on alone, whoever led.
    ensemble.kill(2);
    wait_until_refused(&ensemble, 1);
    std::fs::write(oracle(&ensemble, 1), "1").expect("an oracle");
    ensemble.wait_for(0, 0);
    assert_eq!(ensemble.client("put", 1, &["/alone", "yes"]), "/alone");
    // The other one is told to follow, and has what it missed.
    ensemble.start_server(2);
    ensemble.wait_for(1, 0);
    assert_eq!(ensemble.leader(), 1);
    assert_eq!(ensemble.client("get", 2, &["/alone"]), "yes");
    // A leader that has been granted it before its follower fails does not stop at all.
    ensemble.kill(2);
    assert_eq!(ensemble.client("put", 1, &["/still", "yes"]), "/still");
    ensemble.wait_for(0, 0);
    ensemble.start_server(2);
    ensemble.wait_for(1, 0);
    assert_eq!(ensemble.client("get", 2, &["/still"]), "yes");
}

#[test]
fn a_leader_that_is_told_to_serves_no_clients() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    for kind in [Apache, Ours] {
        let mut ensemble = Ensemble::start(&[(kind, "participant"); 3], "leaderServes=no");
        // A leader answers no words either: it has no port that it takes anybody at.
        let mut followers = Vec::new();
        wait::until("two followers", LIMIT, || {
            followers =
                (1..=3).filter(|id| ensemble.mode(*id).as_deref() == Ok("follower")).collect();
            if followers.len() == 2 { Ok(()) } else { Err(format!("{followers:?}")) }
        });
        let leader = 6 - followers[0] - followers[1];
        let said = ensemble.client("refuses", leader, &[]);
        assert_eq!(said, "True", "{kind:?}");
        ensemble.all_agree(&followers, "followers");
        // Without its leader one of the others leads, and sends its clients away.
        ensemble.kill(leader);
        wait::until("one follower", LIMIT, || {
            let count = followers
                .iter()
                .filter(|id| ensemble.mode(**id).as_deref() == Ok("follower"))
                .count();
            if count == 1 { Ok(()) } else { Err(count.to_string()) }
        });
    }
}

#[test]
fn servers_begin_with_nothing_only_where_they_are_told_to() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    for kind in [Apache, Ours] {
        let kinds = [(kind, "participant"); 3];
        let mut ensemble = Ensemble::prepare(&kinds, "db.autocreate=false", |_| String::new());
        let initialize = |id: usize| ensemble.path(&format!("data{id}")).join("initialize");
        let files: Vec<PathBuf> = (1..=3).map(initialize).collect();
        std::fs::write(&files[0], "").expect("a file");
        ensemble.start_server(1);
        ensemble.start_server(2);
        wait_until_refused(&ensemble, 2);
        // The first may vote, but for itself alone.
        wait_until_refused(&ensemble, 1);
        std::fs::write(&files[2], "").expect("a file");
        ensemble.start_server(3);
        ensemble.wait_for(2, 0);
        assert_ne!(ensemble.leader(), 2, "{kind:?}: who has no data leads");
        ensemble.all_agree(&[1, 2, 3], "all");
        assert!(
            files.iter().all(|file| !file.exists()),
            "{kind:?}: a file to begin with is used up"
        );
        // One that has lost its data has it again from the others.
        ensemble.kill(1);
        std::fs::remove_dir_all(ensemble.path("data1").join("version-2")).expect("its data");
        ensemble.start_server(1);
        ensemble.wait_for(2, 0);
        assert_eq!(ensemble.client("get", 1, &["/all/2"]), "all");
    }
}
