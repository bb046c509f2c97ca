//! A member's disk: of what was not synced when it crashes any first part is left, and the last of it torn. The bytes are
//! the log's own, read back as at a start.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use super::Random;
use crate::disk::log::{Log, Options};
use crate::disk::scan::{self, End};
use crate::quorum::zab::Proposal;

thread_local! {
    /// Where logs are written: one after the other in the same place.
    static PLACE: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// What a crash left of what was not synced.
#[derive(Debug)]
pub(super) struct Left {
    /// How many of the transactions.
    pub(super) kept: usize,
    /// Whether the next one was there in part.
    pub(super) is_torn: bool,
}

/// A power failure while `unsynced` were on their way to the log.
pub(super) fn power_failure(random: &mut Random, unsynced: &[Proposal]) -> Left {
    let Some(first) = unsynced.first() else { return Left { kept: 0, is_torn: false } };
    PLACE.with_borrow_mut(|place| {
        let place = place.get_or_insert_with(|| tempfile::TempDir::new().unwrap());
        let options = Options { sync: false, growth: 0, ..Options::default() };
        let mut log = Log::new(place.path().to_owned(), options);
        let entries: Vec<_> =
            unsynced.iter().map(|proposal| (proposal.zxid, proposal.data.clone())).collect();
        log.append_encoded(&entries).unwrap();
        drop(log);
        let path = place.path().join(format!("log.{:x}", first.zxid));
        let size = fs::metadata(&path).unwrap().len();
        // The header is synced when the file is made.
        let end = 16 + random.below(size - 16 + 1);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(end).unwrap();
        if random.percent(50) {
            // The file had grown already, and a block did not reach the disk as it was written.
            file.set_len(size + 512).unwrap();
            let garbage = random.next().to_be_bytes();
            let room = if random.percent(50) { 0 } else { garbage.len() as u64 };
            file.write_all_at(&garbage[..room.min(size - end) as usize], end).unwrap();
        }
        let content = scan::read(&path).expect("what a crash leaves is no damage");
        fs::remove_file(&path).unwrap();
        let zxids: Vec<i64> = content.entries.iter().map(|entry| entry.zxid).collect();
        let expected: Vec<i64> =
            unsynced.iter().map(|proposal| proposal.zxid).take(zxids.len()).collect();
        assert_eq!(zxids, expected, "a torn log holds what was written, from its beginning");
        Left { kept: zxids.len(), is_torn: matches!(content.end, End::Torn(..)) }
    })
}
