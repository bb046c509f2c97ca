//! The frames that `snappy-java` puts around raw snappy (`SnappyOutputStream`): a header, then blocks, each a length
//! and what it holds.

use std::io::{self, Read, Write};

const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Bytes in a block, as the original makes them.
const BLOCK: usize = 32 << 10;
/// The longest block that is read: unpacked, and so packed too.
const BLOCK_MAX: usize = 4 << 20;

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Packs.
pub(super) struct Writer<W> {
    out: W,
    block: Vec<u8>,
    is_begun: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, block: Vec::with_capacity(BLOCK), is_begun: false }
    }

    fn flush_block(&mut self) -> io::Result<()> {
        if !self.is_begun {
            self.is_begun = true;
            self.out.write_all(&HEADER)?;
        }
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = snap::raw::Encoder::new().compress_vec(&self.block)?;
        self.out.write_all(&(packed.len() as u32).to_be_bytes())?;
        self.out.write_all(&packed)?;
        self.block.clear();
        Ok(())
    }

    /// Writes what is left, and gives back what it wrote to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush_block()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.flush_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_block()?;
        self.out.flush()
    }
}

/// Unpacks.
pub(super) struct Reader<R> {
    source: R,
    block: Vec<u8>,
    begin: usize,
    is_begun: bool,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, block: Vec::new(), begin: 0, is_begun: false }
    }

    /// The next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.is_begun {
            let mut header = [0; HEADER.len()];
            self.source.read_exact(&mut header)?;
            if header[..8] != HEADER[..8] {
                return Err(invalid("this is no snappy stream"));
            }
            self.is_begun = true;
        }
        let mut length = [0; 4];
        match self.source.read(&mut length[..1])? {
            0 => return Ok(false),
            _ => self.source.read_exact(&mut length[1..])?,
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > BLOCK_MAX {
            return Err(invalid("a snappy block is too long"));
        }
        let mut packed = Vec::new();
        if self.source.by_ref().take(length as u64).read_to_end(&mut packed)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if snap::raw::decompress_len(&packed)? > BLOCK_MAX {
            return Err(invalid("a snappy block is too long"));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&packed)?;
        self.begin = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.begin == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let taken = into.len().min(self.block.len() - self.begin);
        into[..taken].copy_from_slice(&self.block[self.begin..self.begin + taken]);
        self.begin += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_in_blocks() {
        for length in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            let bytes: Vec<u8> = (0..length).map(|index| (index / 100) as u8).collect();
            let mut writer = Writer::new(Vec::new());
            writer.write_all(&bytes).unwrap();
            let packed = writer.finish().unwrap();
            assert!(packed.len() < 2000 + length / 4, "{}", packed.len());
            let mut unpacked = Vec::new();
            Reader::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, bytes);
            if length > BLOCK {
                let mut part = Reader::new(&packed[..packed.len() - 1]);
                assert!(part.read_to_end(&mut Vec::new()).is_err(), "a cut stream");
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_without_reserving_them() {
        let mut bytes = HEADER.to_vec();
        bytes.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff, 1]);
        assert!(Reader::new(bytes.as_slice()).read(&mut [0; 8]).is_err());
        let mut bytes = HEADER.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(Reader::new(bytes.as_slice()).read(&mut [0; 8]).is_err());
    }
}
