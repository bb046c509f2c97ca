//! What snapshots and logs hold.

use super::ConfigError;
use super::values::Values;
use crate::disk::compression::Compression;

/// Keys that the data directory is written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `digest.enabled`: whether the tree's digest is logged.
    pub digests: bool,
    /// `serializeLastProcessedZxid.enabled`, as servers from 3.9 on write it.
    pub last_zxid_in_snapshots: bool,
    /// `snapSizeLimitInKb`, in bytes: a snapshot is taken when the logs have grown by as much; 0 for never.
    pub snap_bytes: u64,
}

impl Storage {
    /// Reads them.
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let snap_kib: i64 = values.number("snapSizeLimitInKb", 4 << 20)?;
        Ok(Self {
            compression: values
                .text("snapshot.compression.method")
                .map_or(Compression::None, Compression::from_word),
            digests: values.boolean_or("digest.enabled", true)?,
            last_zxid_in_snapshots: values
                .boolean_or("serializeLastProcessedZxid.enabled", false)?,
            snap_bytes: u64::try_from(snap_kib).unwrap_or(0).saturating_mul(1024),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn storage(text: &str) -> Storage {
        let text = format!("dataDir=/d\nclientPort=2181\n{text}");
        crate::Config::parse(Path::new("zoo.cfg"), &text).unwrap().storage
    }

    #[test]
    fn keys_are_read_with_the_originals_units() {
        let expected = Storage {
            compression: Compression::None,
            digests: true,
            last_zxid_in_snapshots: false,
            snap_bytes: 4 << 30,
        };
        assert_eq!(storage(""), expected);
        let given = storage(
            "snapshot.compression.method=GZ\ndigest.enabled=false\nsnapSizeLimitInKb=-1\nserializeLastProcessedZxid.enabled=true",
        );
        let expected = Storage {
            compression: Compression::Gzip,
            digests: false,
            last_zxid_in_snapshots: true,
            snap_bytes: 0,
        };
        assert_eq!(given, expected);
        assert_eq!(storage("snapshot.compression.method=zip").compression, Compression::None);
    }
}
