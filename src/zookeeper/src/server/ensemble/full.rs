//! A member with a full disk. It can acknowledge nothing, so it leads nobody, follows nobody and votes for nobody, as if
//! it had stopped; its clients go to other servers. When there is room it begins anew with what is on disk.

use super::start::{history, limits};
use super::{Actor, Input, Quorum};
use crate::disk::{DiskError, epoch};
use crate::quorum::member::Member;
use crate::quorum::zab::Epochs;

impl Actor {
    /// What came in, and what follows from it.
    pub(in crate::server) fn member_batch(
        &mut self,
        quorum: &mut Quorum,
        batch: &mut Vec<Input>,
    ) -> Result<(), DiskError> {
        if quorum.is_parked {
            return self.parked_batch(quorum, batch);
        }
        let mut inputs = batch.drain(..);
        let done = self
            .member_logged(quorum)
            .and_then(|()| inputs.try_for_each(|input| self.member_input(quorum, input)))
            .and_then(|()| self.settle(quorum));
        drop(inputs);
        match done {
            Err(error) if error.is_full() => self.park(quorum, &error),
            done => done,
        }
    }

    fn park(&mut self, quorum: &mut Quorum, error: &DiskError) -> Result<(), DiskError> {
        tracing::error!("{error}: this server leaves the ensemble until there is room");
        quorum.is_parked = true;
        quorum.is_dialling = false;
        quorum.links.clear();
        quorum.unlogged.clear();
        self.held.clear();
        quorum.turns.clear();
        quorum.relays.clear();
        quorum.observer_port.close();
        self.taking.cancel();
        self.permits.clear();
        // What they hold may be replies to what is not on disk.
        drop(self.core.take_effects());
        drop(self.core.take_forwards());
        self.core.without_leader();
        drop(self.core.take_effects());
        self.clients.clear();
        let state = self.reload()?;
        self.core.restore(state);
        self.looked_for_room = std::time::Instant::now();
        Ok(())
    }

    fn parked_batch(
        &mut self,
        quorum: &mut Quorum,
        batch: &mut Vec<Input>,
    ) -> Result<(), DiskError> {
        for input in batch.drain(..) {
            match input {
                Input::Tick if quorum.is_parked && self.has_room_again()? => self.rejoin(quorum)?,
                Input::Question(question) => {
                    let status = quorum.status(self.now_ms());
                    self.question(question, Some(status));
                }
                // A connection ends with what is dropped here.
                _ => {}
            }
        }
        Ok(())
    }

    fn rejoin(&mut self, quorum: &mut Quorum) -> Result<(), DiskError> {
        tracing::info!("there is room on the disk again: looking for a leader");
        let zxid = self.core.zxid();
        let current = epoch::read(&self.snapshots, epoch::CURRENT, zxid >> 32)?;
        let accepted = epoch::read(&self.snapshots, epoch::ACCEPTED, current)?;
        let (members, limits) =
            (quorum.member.members().clone(), limits(&self.config, &quorum.ensemble));
        let (epochs, history) = (Epochs { accepted, current }, history(self, zxid)?);
        quorum.member = Member::new(members, limits, epochs, history, self.now_ms());
        (quorum.proposed, quorum.committed) = (zxid, zxid);
        quorum.is_parked = false;
        Ok(())
    }
}
