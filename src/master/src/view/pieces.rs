//! What is long is given away piece by piece while it is written: `/state` of a large cluster is never in memory as a
//! whole.

use std::io::{self, Write};

/// Gathers what is written into pieces of at least so many bytes, and gives each to a taker as soon as it is full.
#[derive(Debug)]
pub struct Pieces<F> {
    buffer: Vec<u8>,
    size: usize,
    take: F,
}

impl<F: FnMut(Vec<u8>) -> bool> Pieces<F> {
    /// Pieces of `size` bytes; `take` says whether it wants more: writing fails once it doesn't.
    pub fn new(size: usize, take: F) -> Self {
        Self { buffer: Vec::with_capacity(size + size / 8), size, take }
    }

    /// What is left, the last piece.
    pub fn finish(self) -> Vec<u8> {
        self.buffer
    }
}

impl<F: FnMut(Vec<u8>) -> bool> Write for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= self.size {
            let next = Vec::with_capacity(self.size + self.size / 8);
            let full = std::mem::replace(&mut self.buffer, next);
            if !(self.take)(full) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use mesos::model::List;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_in_pieces_is_what_the_whole_is() {
        let value = json!({"b": {"x": [1, "ä\n"], "a": null}, "a\"": [[0], [1]], "none": []});
        for size in [1, 7, 1000] {
            let mut pieces = Vec::new();
            let mut writer = Pieces::new(size, |piece| {
                pieces.push(piece);
                true
            });
            serde_json::to_writer(&mut writer, &value).unwrap();
            let last = writer.finish();
            pieces.push(last);
            assert_eq!(pieces.concat(), value.to_string().into_bytes());
            assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() >= size));
        }
    }

    #[test]
    fn nothing_more_is_made_when_nobody_takes_it() {
        let made = Cell::new(0);
        let items = || (0..1000).inspect(|_| made.set(made.get() + 1));
        let written = serde_json::to_writer(Pieces::new(1, |_| false), &List(items));
        assert!(written.is_err() && made.get() <= 1, "{made:?}");
    }
}
