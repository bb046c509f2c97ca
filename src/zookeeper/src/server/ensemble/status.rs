//! What a member tells of its place in the ensemble.

use std::time::Duration;

use super::Quorum;
use crate::quorum::follower::Follower;
use crate::quorum::packet::State;
use crate::status::{Leading, Member};

impl Quorum {
    /// For words, commands and metrics.
    pub(in crate::server) fn status(&self, now_ms: i64) -> Member {
        let servers = self.member.members().current().clone();
        let leading = self.member.leading();
        let state = match self.member.state() {
            State::Looking => "looking",
            State::Following => "following",
            State::Leading => "leading",
            State::Observing => "observing",
        };
        let phase = match leading {
            Some(leader) => leader.phase(),
            None if self.member.serves() => "broadcast",
            None if self.member.leader().is_some() => "synchronization",
            None => "election",
        };
        let leading = leading.map(|leader| {
            let synced = |observes: bool| {
                let all = leader.learners();
                all.filter(move |(_, is_observer, is_synced)| {
                    *is_synced && *is_observer == observes
                })
            };
            Leading {
                learners: leader.learners().count(),
                synced_followers: synced(false).count(),
                synced_observers: synced(true).map(|(id, _, _)| id).collect(),
                uptime: Duration::from_millis((now_ms - self.leads_since_ms).max(0) as u64),
            }
        });
        let observers = self.member.following().and_then(Follower::observers);
        Member {
            observers: observers.map(Iterator::collect),
            id: self.ensemble.id,
            servers,
            init_limit: self.ensemble.init_limit,
            sync_limit: self.ensemble.sync_limit,
            leader: self.member.leader(),
            state,
            phase,
            leading,
        }
    }
}
