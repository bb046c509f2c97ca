//! Files packed by zstd: frames one after another, some of which hold notes of whoever packed them and are passed by.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What such a file begins with, unless that is to be passed by.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks as it is read. The memory it takes is bounded by the library: windows of more than 128 MiB are refused.
pub(super) struct Unpacking<R> {
    packed: R,
    frame: FrameDecoder,
    is_within: bool,
}

impl<R: BufRead> Unpacking<R> {
    /// A reader of what is packed in `packed`.
    pub(super) fn new(packed: R) -> Self {
        Self { packed, frame: FrameDecoder::new(), is_within: false }
    }

    /// Goes to the next frame that holds something; `false` at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.frame.init(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let passed = io::copy(&mut (&mut self.packed).take(length), &mut io::sink())?;
                    if passed < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Unpacking<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if self.is_within {
                while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    self.frame.decode_blocks(&mut self.packed, one).map_err(io::Error::other)?;
                }
                if self.frame.can_collect() > 0 {
                    return self.frame.read(into);
                }
                self.is_within = false;
            }
            if !self.next_frame()? {
                return Ok(0);
            }
            self.is_within = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Unpacking::new(packed).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn frames_follow_each_other_and_notes_are_passed_by() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let (first, second) = text.split_at(700_001);
        let note = [&[0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let whole = [frame(first), note.clone(), frame(&[]), frame(second), note].concat();
        assert_eq!(whole[..4], MAGIC);
        assert_eq!(unpacked(&whole).unwrap(), text);
        assert!(unpacked(&[]).unwrap().is_empty());
        assert!(unpacked(&whole[..whole.len() - 1]).is_err(), "the note's end is missing");
        assert!(unpacked(&frame(first)[..1000]).is_err());
        assert!(unpacked(b"what is this").is_err());
    }
}
