//! A replica on disk: batches of records, each whole or not at all.

use std::path::Path;

use mesos::internal::log::Record;
use prost::Message as _;

use crate::records::Records;
use crate::{LogError, Replica};

/// The file is replaced by the replica's state when it is larger than this and than twice that state.
const REWRITE_BYTES: u64 = 4 << 20;

/// A replica's file.
#[derive(Debug)]
pub struct Store {
    records: Records,
}

impl Store {
    /// The file's name in its directory.
    pub const FILE: &str = "replica";

    /// Opens `<directory>/replica`, made if missing: the store, the replica as it was, and how many bytes of a torn
    /// tail were cut.
    ///
    /// # Errors
    /// When the system refuses, or the file is damaged before its end.
    pub fn open(directory: &Path) -> Result<(Self, Replica, u64), LogError> {
        let mut replica = Replica::default();
        let (records, cut_bytes) = Records::open(directory, Self::FILE, |mut payload| {
            while !payload.is_empty() {
                let record = Record::decode_length_delimited(&mut payload);
                replica.restore(record.map_err(|error| error.to_string())?);
            }
            Ok(())
        })?;
        Ok((Self { records }, replica, cut_bytes))
    }

    /// Writes a batch; when this returns, it is on disk. `replica` is the state after it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, batch: &[Record], replica: &Replica) -> Result<(), LogError> {
        if self.records.bytes() > REWRITE_BYTES {
            let whole = encode(&replica.snapshot());
            if (whole.len() as u64) < self.records.bytes() / 2 {
                return self.records.rewrite(&whole);
            }
        }
        self.records.append(&encode(batch))
    }
}

fn encode(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(Record::encode_length_delimited_to_vec).collect()
}
