//! Writing XML: elements, attributes, escaped text.

use std::fmt::Write as _;

/// A document being written.
#[derive(Debug, Default)]
pub(super) struct Xml {
    text: String,
    open: Vec<&'static str>,
}

/// Attributes of an element, in order.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a str)];

impl Xml {
    /// A document with its declaration.
    pub(super) fn new() -> Self {
        Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(), open: Vec::new() }
    }

    /// Opens an element that others go into.
    pub(super) fn open(&mut self, name: &'static str, attributes: Attributes) {
        self.tag(name, attributes, ">\n");
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub(super) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.indent();
            self.write(format_args!("</{name}>\n"));
        }
    }

    /// An element without content.
    pub(super) fn empty(&mut self, name: &str, attributes: Attributes) {
        self.tag(name, attributes, "/>\n");
    }

    /// An element with text.
    pub(super) fn element(&mut self, name: &str, attributes: Attributes, text: &str) {
        if text.is_empty() {
            self.empty(name, attributes);
            return;
        }
        self.tag(name, attributes, ">");
        self.text.push_str(&escaped(text));
        self.write(format_args!("</{name}>\n"));
    }

    /// The document, every element closed.
    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }

    fn tag(&mut self, name: &str, attributes: Attributes, end: &str) {
        self.indent();
        self.write(format_args!("<{name}"));
        for (key, value) in attributes {
            self.write(format_args!(" {key}=\"{}\"", escaped(value)));
        }
        self.text.push_str(end);
    }

    fn indent(&mut self) {
        for _ in &self.open {
            self.text.push_str("  ");
        }
    }

    fn write(&mut self, arguments: std::fmt::Arguments) {
        // Writing to a String can't fail.
        let _ = self.text.write_fmt(arguments);
    }
}

/// Text as XML 1.0 has it; characters that it can't hold are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            _ if character.is_control() || ['\u{fffe}', '\u{ffff}'].contains(&character) => {}
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_stays_text() {
        let mut xml = Xml::new();
        xml.open("a", &[("b", "\"<&>\"")]);
        xml.element("c", &[], "1 < 2 & \u{1}3");
        xml.empty("d", &[]);
        let text = xml.finish();
        assert!(
            text.contains(
                "<a b=\"&quot;&lt;&amp;&gt;&quot;\">\n  <c>1 &lt; 2 &amp; 3</c>\n  <d/>\n</a>\n"
            ),
            "{text}"
        );
    }
}
