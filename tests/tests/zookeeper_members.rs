//! What members of ensembles do beside voting: followers that serve observers, leaders that serve no clients, servers that
//! may not begin with nothing, of ours and Apache's servers together.

use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::need;
use end_to_end::ports;
use end_to_end::programs::{has_original_zookeeper, python};
use end_to_end::wait;
use end_to_end::zookeeper::Kind::{Original as Apache, Ours};
use end_to_end::zookeeper::members::Ensemble;

const LIMIT: Duration = Duration::from_secs(60);

/// Observers that a server says are synchronised with it; 0 if it says nothing of them.
fn observers_of(ensemble: &Ensemble, id: usize) -> Result<usize, String> {
    let text = four_letter_word(ensemble.servers[id - 1].client, "mntr")?;
    let said = text.lines().find_map(|line| line.strip_prefix("zk_synced_observers\t"));
    Ok(said.and_then(|count| count.trim().parse::<f64>().ok()).map_or(0, |count| count as usize))
}

#[test]
fn followers_of_both_kinds_serve_observers_of_both_kinds() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let kinds = [
        (Ours, "participant"),
        (Apache, "participant"),
        (Ours, "participant"),
        (Ours, "observer"),
        (Apache, "observer"),
    ];
    let [port] = ports::free();
    let mut ensemble = Ensemble::start(&kinds, &format!("observerMasterPort={port}"));
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
