//! How a snapshot file is packed (`SnapStream`): not at all, by gzip, or by snappy. Its name's end says which.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::xerial;

/// `snapshot.compression.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy, in the frames of `snappy-java`.
    Snappy,
}

impl Compression {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Snappy];

    /// The method of a configuration's word; the original takes any other word for none.
    pub fn from_word(word: &str) -> Self {
        let named = Self::ALL.into_iter().find(|method| method.word().eq_ignore_ascii_case(word));
        named.unwrap_or_default()
    }

    /// Its word in the configuration, empty for none.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "gz",
            Self::Snappy => "snappy",
        }
    }

    /// What it adds to a file's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Snappy => ".snappy",
        }
    }

    /// Unpacks.
    pub fn reader<'a, R: Read + 'a>(self, packed: R) -> Box<dyn Read + 'a> {
        match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(GzDecoder::new(BufReader::with_capacity(64 << 10, packed))),
            Self::Snappy => Box::new(xerial::Reader::new(packed)),
        }
    }

    pub(super) fn packer(self, file: File) -> Packer {
        match self {
            Self::None => Packer::None(BufWriter::with_capacity(256 << 10, file)),
            Self::Gzip => Packer::Gzip(GzEncoder::new(
                BufWriter::with_capacity(64 << 10, file),
                flate2::Compression::default(),
            )),
            Self::Snappy => Packer::Snappy(xerial::Writer::new(BufWriter::new(file))),
        }
    }
}

/// Packs into a file.
pub(super) enum Packer {
    None(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Snappy(xerial::Writer<BufWriter<File>>),
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Packer")
    }
}

impl Packer {
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::None(out) => out.write_all(bytes),
            Self::Gzip(out) => out.write_all(bytes),
            Self::Snappy(out) => out.write_all(bytes),
        }
    }

    /// Ends the stream; the file, with everything in it that was written.
    pub(super) fn finish(self) -> io::Result<File> {
        let out = match self {
            Self::None(out) => out,
            Self::Gzip(out) => out.finish()?,
            Self::Snappy(out) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
