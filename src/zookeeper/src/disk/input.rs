//! Jute's primitives from a stream, with the checksum over what was read.

use std::io::{self, ErrorKind, Read};

use adler2::Adler32;

/// The longest data or text: what a server's packets hold at most.
pub(super) const FIELD_MAX: usize = 64 << 20;
const BUFFER: usize = 128 << 10;

/// Reads primitives. Memory is taken as bytes come, never as a length promises.
pub(super) struct Input<R> {
    source: R,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    /// Up to here the buffer is in the sum.
    summed: usize,
    sum: Adler32,
    /// Read before what is in the buffer, in bytes.
    passed: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            begin: 0,
            end: 0,
            summed: 0,
            sum: Adler32::new(),
            passed: 0,
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.passed + self.begin as u64
    }

    /// Adler-32 of all that was read so far.
    pub(super) fn checksum(&mut self) -> i64 {
        self.sum.write_slice(&self.buffer[self.summed..self.begin]);
        self.summed = self.begin;
        i64::from(self.sum.checksum())
    }

    /// Reads more; false at the end of the source.
    fn fill(&mut self) -> io::Result<bool> {
        self.checksum();
        self.buffer.copy_within(self.begin..self.end, 0);
        self.passed += self.begin as u64;
        self.end -= self.begin;
        (self.begin, self.summed) = (0, 0);
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        loop {
            if let Some(head) = self.buffer[self.begin..self.end].first_chunk::<N>() {
                self.begin += N;
                return Ok(*head);
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// What was taken from the source, but not read.
    pub(super) fn rest(&self) -> Vec<u8> {
        self.buffer[self.begin..self.end].to_vec()
    }

    /// Whether the source has ended.
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.begin == self.end && !self.fill()?)
    }

    /// Between one and `max` bytes; none at the end of the source.
    pub(super) fn some(&mut self, max: usize) -> io::Result<&[u8]> {
        if self.begin == self.end {
            self.fill()?;
        }
        let begin = self.begin;
        self.begin += max.min(self.end - begin);
        Ok(&self.buffer[begin..self.begin])
    }

    pub(super) fn byte(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn int(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Whether nothing but zeros follows: room that is reserved is tens of MiB of them. What is passed is not summed.
    pub(super) fn rest_is_zeros(&mut self) -> io::Result<bool> {
        static ZEROS: [u8; BUFFER] = [0; BUFFER];
        loop {
            if self.buffer[self.begin..self.end] != ZEROS[..self.end - self.begin] {
                return Ok(false);
            }
            self.passed += self.end as u64;
            (self.begin, self.summed) = (0, 0);
            self.end = match self.source.read(&mut self.buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
        }
    }

    /// Exactly `length` bytes into `into`, which is emptied first.
    pub(super) fn bytes(&mut self, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        while into.len() < length {
            let bytes = self.some(length - into.len())?;
            if bytes.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            into.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// A length and that many bytes; false for null.
    pub(super) fn buffer(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let length = self.int()?;
        match usize::try_from(length) {
            Ok(length) if length <= FIELD_MAX => self.bytes(length, into).map(|()| true),
            Err(_) if length == -1 => {
                into.clear();
                Ok(false)
            }
            _ => {
                Err(io::Error::new(ErrorKind::InvalidData, format!("unreasonable length {length}")))
            }
        }
    }

    /// Text; what is not UTF-8 is replaced, as Java reads it. Null reads as empty.
    pub(super) fn string(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.buffer(&mut bytes)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A count, which no stream is trusted in beyond what follows; null is 0.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        match self.int()? {
            -1 => Ok(0),
            count => usize::try_from(count).map_err(|_| {
                io::Error::new(ErrorKind::InvalidData, format!("unreasonable count {count}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jute::Writer;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_writer_wrote_is_read_and_summed(long: i64, data in prop::option::of(prop::collection::vec(any::<u8>(), 0..3000)), text in ".{0,20}") {
            let mut out = Writer::new();
            out.long(long).buffer(data.as_deref()).string(&text).int(7);
            let bytes = out.into_bytes();
            let mut input = Input::new(bytes.as_slice());
            let mut read = Vec::new();
            prop_assert_eq!(input.long().unwrap(), long);
            prop_assert_eq!(input.buffer(&mut read).unwrap().then_some(read), data);
            prop_assert_eq!(input.string().unwrap(), text);
            prop_assert_eq!(input.checksum(), crate::disk::adler32(&bytes[..bytes.len() - 4]));
            prop_assert_eq!(input.position(), bytes.len() as u64 - 4);
            prop_assert_eq!(input.int().unwrap(), 7);
            prop_assert!(input.is_at_end().unwrap());
            prop_assert!(input.byte().is_err());
        }
    }

    #[test]
    fn more_than_is_buffered_is_read_and_summed() {
        let data: Vec<u8> = (0..3 * BUFFER as u32 + 5).map(|at| (at >> 3) as u8).collect();
        let mut out = Writer::new();
        out.buffer(Some(&data)).long(9);
        let bytes = out.into_bytes();
        let mut input = Input::new(bytes.as_slice());
        let mut read = Vec::new();
        assert!(input.buffer(&mut read).unwrap() && read == data);
        assert_eq!((input.long().unwrap(), input.checksum()), (9, crate::disk::adler32(&bytes)));
    }

    #[test]
    fn a_length_that_nothing_follows_takes_no_memory() {
        let bytes = [0x03, 0xff, 0xff, 0xff, 1, 2, 3];
        let mut into = Vec::new();
        assert!(Input::new(&bytes[..]).buffer(&mut into).is_err());
        assert!(into.capacity() < 1024);
    }
}
