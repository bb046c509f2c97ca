//! A member begins: its ports, its epochs, what it remembers of the log.

use std::collections::BTreeMap;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::listeners::{self, Doors, Listeners, Manner, ObserverPort};
use super::turns::Turns;
use super::{INITIALIZE, Quorum, files, measure};
use crate::config;
use crate::disk::{DiskError, epoch, truncate};
use crate::quorum::elections::Elections;
use crate::quorum::member::Member;
use crate::quorum::membership::Membership;
use crate::quorum::net::{self, Events};
use crate::quorum::observers::Relays;
use crate::quorum::oracle;
use crate::quorum::security::Security;
use crate::quorum::zab::{Epochs, History, Limits, Proposal};
use crate::server::{Actor, ServerError};

/// Opens the ports and begins to look for a leader.
pub(in crate::server) async fn start(
    ensemble: config::Ensemble,
    actor: &mut Actor,
    events: Events,
    shutdown: CancellationToken,
) -> Result<Quorum, ServerError> {
    let own = ensemble.current.servers().get(&ensemble.id).ok_or(ServerError::NoMember)?;
    let addresses = own.addresses.clone();
    let manner = Manner { everywhere: ensemble.listens_everywhere, tries: ensemble.bind_tries };
    let bound = listeners::bind(&addresses, manner).await?;
    let zxid = actor.core.zxid();
    let current = epoch::read(&actor.snapshots, epoch::CURRENT, zxid >> 32)?;
    let accepted = epoch::read(&actor.snapshots, epoch::ACCEPTED, current)?;
    if accepted < current {
        return Err(ServerError::Epochs { accepted, current });
    }
    let limits = limits(&actor.config, &ensemble);
    let (id, proposed) = (ensemble.id, ensemble.proposed.clone());
    let members = Membership::new(id, ensemble.current.clone(), proposed, ensemble.is_dynamic);
    files::back_up(&ensemble);
    let history = history(actor, zxid)?;
    let runtime = Handle::current();
    let security = Security::new(actor.config.security.quorum.clone())?;
    let elections = Elections::new(&members, security.clone(), events.clone(), runtime.clone());
    // The thread of the core looks at `shutdown` when something comes in.
    let (ending, last) = (shutdown.clone(), events.clone());
    tokio::spawn(async move {
        ending.cancelled().await;
        last.wake().await;
    });
    if let Some(path) = ensemble.oracle.clone() {
        let watching = oracle::watch(path, events.clone());
        let ending = shutdown.clone();
        tokio::spawn(async move { ending.run_until_cancelled(watching).await });
    }
    let all = net::Links::default();
    let doors = Doors {
        elections: elections.clone(),
        links: all.clone(),
        security: security.clone(),
        events: events.clone(),
        shutdown: shutdown.clone(),
    };
    let listeners = Listeners::new(addresses, manner, bound, doors);
    actor.core.set_server_id(ensemble.id);
    actor.core.changes.keeps_two = ensemble.standalone;
    actor.core.changes.takes_several = ensemble.takes_several;
    actor.core.without_leader();
    let epochs = Epochs { accepted, current };
    let mut member = Member::new(members, limits, epochs, history, actor.now_ms());
    if actor.is_blank {
        tracing::warn!(
            "there is no data, and db.autocreate is false: this server waits for a leader that others elect; if the whole ensemble is new, put an empty file named {INITIALIZE} into each data directory"
        );
        member.set_blank(actor.now_ms());
    }
    Ok(Quorum {
        member,
        ensemble,
        elections,
        listeners,
        observer_port: ObserverPort::default(),
        security,
        events,
        runtime,
        links: BTreeMap::new(),
        all,
        early: BTreeMap::new(),
        is_dialling: false,
        next_number: 1,
        unlogged: Vec::new(),
        proposed: zxid,
        committed: zxid,
        turns: Turns::default(),
        relays: Relays::default(),
        wants_snapshot: false,
        ticked_ms: 0,
        is_parked: false,
        leads_since_ms: 0,
        looking_ms: None,
        clock: measure::Clock::default(),
        shutdown,
        ends_ms: None,
    })
}

pub(super) fn limits(config: &config::Config, ensemble: &config::Ensemble) -> Limits {
    let tick_ms = i64::from(config.tick_ms);
    Limits {
        tick_ms,
        init_ms: tick_ms * i64::from(ensemble.init_limit),
        sync_ms: tick_ms * i64::from(ensemble.sync_limit),
        tuning: ensemble.tuning,
    }
}

pub(super) fn history(actor: &Actor, zxid: i64) -> Result<History, DiskError> {
    let (base, entries) =
        truncate::last_entries(&actor.snapshots, &actor.logs, zxid, actor.config.commit_log_count)?;
    let mut history = History::new(base, actor.config.commit_log_count);
    for (zxid, data) in entries {
        history.push(Proposal { zxid, data: data.into() });
    }
    Ok(history)
}
