//! Where JSON stops being JSON, in the words of the original's parser (picojson): `syntax error at line 1 near: …`.
//!
//! Parsing is serde_json's; only once it has refused a text is the place looked for here.

use super::JsonError;

/// Deeper nesting is not followed; serde_json refuses it earlier.
const DEPTH_MAX: usize = 128;
/// Longest excerpt of the text in an error, in bytes.
const EXCERPT_MAX: usize = 1024;

pub(super) fn explain(text: &[u8], error: &serde_json::Error) -> JsonError {
    let mut scanner = Scanner { text, at: 0 };
    if scanner.value(0).is_err() {
        return scanner.error();
    }
    let rest = &text[scanner.at..];
    if !rest.trim_ascii().is_empty() {
        return JsonError::Trailing(excerpt(rest));
    }
    if error.to_string().starts_with("number out of range") {
        return JsonError::Range;
    }
    // What picojson takes and serde_json does not: `01`, half of a surrogate pair, bytes that are not UTF-8.
    let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
    let near = line.and_then(|line| line.get(error.column().saturating_sub(1)..)).unwrap_or(&[]);
    JsonError::Syntax { line: error.line().max(1), near: excerpt(near) }
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_MAX)]).into_owned()
}

struct Wrong;

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn error(&self) -> JsonError {
        let (before, rest) = self.text.split_at(self.at);
        let line = before.split(|byte| *byte == b'\n').count();
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let printable: Vec<u8> =
            rest[..end.min(EXCERPT_MAX)].iter().copied().filter(|byte| *byte >= b' ').collect();
        JsonError::Syntax { line, near: excerpt(&printable) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Wrong> {
        for byte in word {
            if self.peek() != Some(*byte) {
                return Err(Wrong);
            }
            self.at += 1;
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), Wrong> {
        self.skip();
        match self.peek() {
            _ if depth > DEPTH_MAX => Err(Wrong),
            Some(b'n') => self.word(b"null"),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[') => {
                self.at += 1;
                self.array(depth)
            }
            Some(b'{') => {
                self.at += 1;
                self.object(depth)
            }
            _ => Err(Wrong),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Wrong> {
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if !self.take(b',') {
                return if self.take(b']') { Ok(()) } else { Err(Wrong) };
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Wrong> {
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.skip();
            if self.peek() != Some(b'"') {
                return Err(Wrong);
            }
            self.string()?;
            if !self.take(b':') {
                return Err(Wrong);
            }
            self.value(depth + 1)?;
            if !self.take(b',') {
                return if self.take(b'}') { Ok(()) } else { Err(Wrong) };
            }
        }
    }

    fn string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            let byte = self.peek().filter(|byte| *byte >= b' ').ok_or(Wrong)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => {
                    let escape = self.peek().ok_or(Wrong)?;
                    self.at += 1;
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            for _ in 0..4 {
                                self.peek().filter(u8::is_ascii_hexdigit).ok_or(Wrong)?;
                                self.at += 1;
                            }
                        }
                        _ => return Err(Wrong),
                    }
                }
                _ => {}
            }
        }
    }

    /// All that looks like a number is taken first and judged then, as picojson does.
    fn number(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).map_err(|_| Wrong)?;
        text.parse::<f64>().map(|_| ()).map_err(|_| Wrong)
    }
}

#[cfg(test)]
mod tests {
    use crate::json::parse;

    /// Each asked of the original, as the value of a flag that takes JSON.
    #[test]
    fn the_place_is_named_as_the_original_names_it() {
        for (text, error) in [
            ("", "syntax error at line 1 near: "),
            ("{} x", "Parsed JSON included non-whitespace trailing characters:  x"),
            ("{}x y", "Parsed JSON included non-whitespace trailing characters: x y"),
            ("tru", "syntax error at line 1 near: "),
            ("trux", "syntax error at line 1 near: x"),
            ("nope", "syntax error at line 1 near: ope"),
            ("hello", "syntax error at line 1 near: hello"),
            (r#"{"a":}"#, "syntax error at line 1 near: }"),
            (r#"{"a" 1}"#, "syntax error at line 1 near: 1}"),
            (r#"{"a":1,}"#, "syntax error at line 1 near: }"),
            ("[1 2]", "syntax error at line 1 near: 2]"),
            (r#"{"a":"b"#, "syntax error at line 1 near: "),
            (r#"{"a":"\x"}"#, "syntax error at line 1 near: \"}"),
            (r#"{"a":"\u12"}"#, "syntax error at line 1 near: \"}"),
            ("1.2.3", "syntax error at line 1 near: "),
            ("+1", "syntax error at line 1 near: +1"),
            ("nulll", "Parsed JSON included non-whitespace trailing characters: l"),
            ("{\"a\":\"x\ty\"}", "syntax error at line 1 near: y\"}"),
            ("{a:1}", "syntax error at line 1 near: a:1}"),
            (r#"{"a":-}"#, "syntax error at line 1 near: }"),
            (r#"{"a":1x}"#, "syntax error at line 1 near: x}"),
            (r#"{"a":[}"#, "syntax error at line 1 near: }"),
            (r#"{"a":1e400}"#, "Value out of range"),
            (r#"{"a":nan}"#, "syntax error at line 1 near: an}"),
            ("{\n\"a\":\n b c\td\n e}", "syntax error at line 3 near: b cd"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn what_no_parser_should_take_is_refused_without_a_panic() {
        let deep = "[".repeat(100_000);
        for text in [&b"01"[..], b"\"\xff\"", br#""\ud800""#, deep.as_bytes()] {
            assert!(parse(text).is_err());
        }
    }
}
