//! A full disk, and the wait for room.
//!
//! What could not be logged never happened: the tree goes back to what is on disk, whoever was about to be told
//! otherwise is cut off, and writes are refused until there is room. Reads go on.

use std::time::{Duration, Instant};

use super::Actor;
use super::replies::Held;
use crate::core::Effect;
use crate::disk::{DiskError, load, room};

/// Time between looks for room.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Actor {
    /// The log has refused the transactions behind those that are logged, for want of room.
    pub(super) fn suspend(&mut self, error: &DiskError) -> Result<(), DiskError> {
        tracing::error!("{error}: writes are refused until there is room; reads go on");
        self.taking.cancel();
        for (_, held) in std::mem::take(&mut self.held) {
            if let Held::Effect(Effect::Send(id, _) | Effect::Close(id)) = held {
                self.clients.close(id);
                self.core.closed(id);
            }
        }
        self.permits.clear();
        let state = self.reload()?;
        (self.appended, self.logged) = (state.zxid, state.zxid);
        for id in self.core.suspend(self.now_ms(), state) {
            self.clients.close(id);
        }
        self.looked_for_room = Instant::now();
        Ok(())
    }

    /// What is on disk.
    pub(super) fn reload(&mut self) -> Result<crate::core::State, DiskError> {
        // What is on its way to the log behind what was refused is dropped there.
        self.entries.clear();
        self.log.wait();
        while let Some(report) = self.log.report() {
            match report {
                Err(error) if !error.is_full() => return Err(error),
                _ => {}
            }
        }
        self.log.resume();
        self.log.roll();
        load::load(&self.snapshots, &self.logs, self.config.trust_empty_snapshot)
    }

    /// Whether a disk that was full has room again, if it is time to look.
    pub(super) fn has_room_again(&mut self) -> Result<bool, DiskError> {
        if self.looked_for_room.elapsed() < LOOK_EVERY {
            return Ok(false);
        }
        self.looked_for_room = Instant::now();
        Ok(room::is_there_again(&self.logs)?
            && (self.snapshots == self.logs || room::is_there_again(&self.snapshots)?))
    }

    /// Takes writes again when there is room.
    pub(super) fn resume_when_possible(&mut self) -> Result<(), DiskError> {
        if self.core.is_suspended() && self.has_room_again()? {
            tracing::info!("there is room on the disk again: writes are taken");
            self.core.resume(self.now_ms());
        }
        Ok(())
    }
}
