//! What comes of a member's decisions: on the wire, on disk, in the tree, for clients.

use std::net::SocketAddr;

use jute::txn::Entry;

use super::{Quorum, files};
use crate::config;
use crate::disk::snapshot::Content;
use crate::disk::{DiskError, epoch, load, truncate};
use crate::quorum::configuration::Configuration;
use crate::quorum::packet::{Packet, kind};
use crate::quorum::zab::{Output, Proposal};
use crate::server::replies::Held;
use crate::server::{Actor, wall_ms};

impl Actor {
    /// Does what the member has decided.
    pub(super) fn output(&mut self, quorum: &mut Quorum, output: Output) -> Result<(), DiskError> {
        let now_ms = self.now_ms();
        quorum.measure(&self.core.metrics, now_ms, &output);
        match output {
            Output::Send(to, packet) => quorum.send(now_ms, to, packet.encode()),
            Output::SendSnapshot(to) => {
                tracing::info!("sending server {to} the tree at zxid 0x{:x}", self.core.zxid());
                let zxid = self.core.zxid();
                quorum.send(now_ms, to, Packet::bare(kind::SNAP, zxid).encode());
                let (tree, sessions) = (self.core.tree().freeze(), self.core.sessions());
                quorum.send_tree(now_ms, to, Content { tree, sessions, zxid });
            }
            Output::Drop(other) => quorum.cut(now_ms, other),
            Output::SaveAcceptedEpoch(epoch) => {
                epoch::write(&self.snapshots, epoch::ACCEPTED, epoch)?;
            }
            Output::SaveCurrentEpoch(epoch) => {
                self.flush(quorum)?;
                epoch::write(&self.snapshots, epoch::CURRENT, epoch)?;
            }
            Output::Log(proposal) => quorum.unlogged.push((proposal.zxid, proposal.data)),
            Output::Truncate(zxid) => {
                tracing::info!("cutting the log behind zxid 0x{zxid:x}, as the leader says");
                self.flush(quorum)?;
                self.taking.cancel();
                truncate::cut_logs(&self.logs, zxid)?;
                truncate::remove_newer_snapshots(&self.snapshots, zxid)?;
                self.log.roll();
                let trust = self.config.trust_empty_snapshot;
                self.core.restore(load::load(&self.snapshots, &self.logs, trust)?);
            }
            Output::Deliver(proposal) => self.deliver(&proposal)?,
            Output::Commit(zxid) => {
                quorum.committed = zxid;
                self.core.settle(zxid);
                for held in self.release(zxid) {
                    match held {
                        Held::Effect(effect) => self.perform(effect),
                        Held::Answered(permits) => self.answered(permits),
                        Held::Packet(to, packet) => quorum.send(now_ms, to, packet.encode()),
                    }
                }
            }
            Output::Serve(zxid) => self.serve_clients(quorum, zxid),
            Output::Lost => {
                self.flush(quorum)?;
                // What a leader had proposed, or a follower logged, may be taken back.
                self.taking.cancel();
                self.core.without_leader();
                quorum.links.clear();
                self.held.clear();
                quorum.turns.clear();
                quorum.relays.clear();
                quorum.observer_port.close();
                // Also those that the core knows no more: that they end may have been held.
                self.clients.clear();
                for proposal in quorum.member.take_kept() {
                    self.deliver(&proposal)?;
                }
                (quorum.proposed, quorum.committed) = (self.core.zxid(), self.core.zxid());
            }
            Output::Pass(from, packet) if quorum.member.leading().is_some() => {
                self.learner_packet(quorum, from, packet);
            }
            Output::Pass(from, packet) if quorum.member.leader() == Some(from) => {
                self.leader_packet(quorum, from, packet);
            }
            Output::Pass(from, packet) => self.observer_packet(quorum, from, packet),
            Output::Propose(newest) => {
                tracing::info!("configuration {:x} of the ensemble is proposed", newest.version);
                let members = quorum.member.members();
                quorum.elections.configure(members);
                files::propose(&quorum.ensemble, &newest, members.current());
            }
            Output::Activate(next) => self.reconfigure(quorum, &next),
            Output::HandOver(_) | Output::GiveUp(_) => {}
        }
        Ok(())
    }

    pub(super) fn take_configuration(&mut self, configuration: &Configuration) {
        self.core.set_configuration(wall_ms(), configuration);
        self.clients.share_limit(configuration.voters().count());
    }

    /// Another configuration is in force.
    fn reconfigure(&mut self, quorum: &mut Quorum, next: &Configuration) {
        tracing::info!("configuration {:x} of the ensemble is in force", next.version);
        let members = quorum.member.members();
        quorum.elections.configure(members);
        files::activate(&quorum.ensemble, members);
        self.take_configuration(next);
        let Some(own) = next.servers().get(&quorum.ensemble.id) else { return };
        quorum.listeners.move_to(&own.addresses);
        quorum.open_observer_port();
        let Some(client) = &own.client else { return };
        match config::resolved(&client.host).map(|ip| SocketAddr::new(ip, client.port)) {
            Some(address) if self.config.client_address != Some(address) => {
                self.config.client_address = Some(address);
                self.client_port.send_replace(Some(address));
            }
            Some(_) => {}
            None => tracing::error!("clients' address {client} can't be resolved: not listened at"),
        }
    }

    /// What can't be read ends the server: what comes after it must not be applied without it.
    fn deliver(&mut self, proposal: &Proposal) -> Result<(), DiskError> {
        let zxid = proposal.zxid;
        let entry = Entry::decode(&proposal.data)
            .map_err(|error| DiskError::Transaction { zxid, reason: error.to_string() })?;
        self.core.deliver(&entry);
        Ok(())
    }

    fn serve_clients(&mut self, quorum: &mut Quorum, zxid: i64) {
        let members = quorum.member.members();
        self.take_configuration(members.current());
        if quorum.member.leading().is_some() {
            tracing::info!("leading epoch {}", zxid >> 32);
            self.core.lead(self.now_ms(), zxid);
            quorum.leads_since_ms = self.now_ms();
            (quorum.proposed, quorum.committed) = (zxid, zxid);
        } else {
            let leader = quorum.member.leader().unwrap_or_default();
            let observes = members.observes();
            let does = if observes { "observing" } else { "following" };
            tracing::info!("{does} server {leader}");
            self.core.follow(zxid, observes);
            (quorum.proposed, quorum.committed) = (0, 0);
            quorum.open_observer_port();
        }
    }
}
