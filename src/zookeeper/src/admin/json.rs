//! JSON as the original's library lays it out (Jackson's `INDENT_OUTPUT`): `"key" : value`, an entry a line, lists on one
//! line. People's scripts look for such lines.

use std::io;

use serde::Serialize as _;
use serde_json::ser::{Formatter, Serializer};

use super::Answer;

/// An answer's text.
pub(super) fn text(answer: &Answer) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Layout::default());
    // Maps with keys that are text, written into memory: nothing of it can fail.
    let _ = answer.serialize(&mut serializer);
    String::from_utf8(bytes).unwrap_or_default()
}

#[derive(Default)]
struct Layout {
    depth: usize,
    /// Whether the list or object that ends next has anything in it, from the outside in.
    has_content: Vec<bool>,
}

impl Layout {
    fn line<W: io::Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }

    fn note_content(&mut self) {
        if let Some(last) = self.has_content.last_mut() {
            *last = true;
        }
    }
}

impl Formatter for Layout {
    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.has_content.push(false);
        writer.write_all(b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if self.has_content.pop() == Some(true) {
            self.line(writer)?;
            writer.write_all(b"}")
        } else {
            writer.write_all(b" }")
        }
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.note_content();
        if !is_first {
            writer.write_all(b",")?;
        }
        self.line(writer)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b" : ")
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"[")
    }

    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        writer.write_all(if is_first { b" " } else { b", " })
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b" ]")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_layout_is_the_originals() {
        let answer = json!({
            "connections": [{"remote_socket_address": "h:1", "packets_sent": 7}],
            "secure_connections": [],
            "sets": {"1": ["/a", "/b"]},
            "none": {},
            "error": null,
        });
        let text = super::text(answer.as_object().unwrap());
        assert_eq!(
            text,
            "{\n  \"connections\" : [ {\n    \"remote_socket_address\" : \"h:1\",\n    \"packets_sent\" : 7\n  } ],\n  \"secure_connections\" : [ ],\n  \"sets\" : {\n    \"1\" : [ \"/a\", \"/b\" ]\n  },\n  \"none\" : { },\n  \"error\" : null\n}"
        );
    }
}
