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

#[cfg(test)]
mod tests {
    use mesos::internal::log::metadata::Status;
    use mesos::internal::log::{WriteRequest, action};
    use tempfile::TempDir;

    use super::*;

    fn write(store: &mut Store, replica: &mut Replica, position: u64, bytes: usize) {
        replica.write(&WriteRequest {
            position,
            r#type: action::Type::Append as i32,
            append: Some(action::Append { bytes: vec![7; bytes], cksum: None }),
            ..Default::default()
        });
        let batch = replica.take_unwritten();
        store.write(&batch, replica).unwrap();
    }

    #[test]
    fn the_replica_is_found_again_without_a_torn_batch() {
        let directory = TempDir::new().unwrap();
        let (mut store, mut replica, _) = Store::open(directory.path()).unwrap();
        replica.update(Status::Voting, 0);
        write(&mut store, &mut replica, 1, 10);
        let whole = replica.clone();
        write(&mut store, &mut replica, 2, 10);
        let (_, found, cut) = Store::open(directory.path()).unwrap();
        assert_eq!((found, cut), (replica, 0));

        let path = directory.path().join(Store::FILE);
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() - 3]).unwrap();
        let (_, found, cut) = Store::open(directory.path()).unwrap();
        assert!(found == whole && cut > 0);
    }

    #[test]
    fn a_long_file_is_replaced_by_the_state() {
        let directory = TempDir::new().unwrap();
        let (mut store, mut replica, _) = Store::open(directory.path()).unwrap();
        replica.update(Status::Voting, 0);
        for _ in 0..20 {
            write(&mut store, &mut replica, 1, 600 << 10);
        }
        assert!(store.records.bytes() < REWRITE_BYTES + (1 << 20));
        assert_eq!(Store::open(directory.path()).unwrap().1, replica);
    }
}
