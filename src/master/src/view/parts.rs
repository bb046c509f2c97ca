//! JSON that is put together while it is written: `/state` of a large cluster is never in memory as a whole.

use serde_json::{Map, Value};

/// A JSON value, or what one is made of when it is its turn.
pub enum Part<'a> {
    /// A value.
    Value(Value),
    /// A list of what comes.
    List(Box<dyn Iterator<Item = Part<'a>> + 'a>),
    /// An object, its members in order.
    Object(Vec<(String, Part<'a>)>),
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(value) => value.fmt(formatter),
            Self::List(_) => formatter.write_str("[…]"),
            Self::Object(members) => formatter.debug_list().entries(members).finish(),
        }
    }
}

impl From<Value> for Part<'_> {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<Map<String, Value>> for Part<'_> {
    fn from(members: Map<String, Value>) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl<'a> Part<'a> {
    /// A list of what comes.
    pub fn list<T: Into<Self> + 'a>(items: impl Iterator<Item = T> + 'a) -> Self {
        Self::List(Box::new(items.map(Into::into)))
    }

    /// Adds a member to an object.
    pub fn put(&mut self, name: &str, value: impl Into<Self>) {
        if let Self::Object(members) = self {
            members.push((name.to_owned(), value.into()));
        }
    }

    /// The whole.
    pub fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::List(items) => items.map(Part::into_value).collect(),
            Self::Object(members) => Value::Object(
                members.into_iter().map(|(name, part)| (name, part.into_value())).collect(),
            ),
        }
    }

    /// Writes it piece by piece, each of at least `size` bytes but the last, as long as `take` wants more.
    pub fn write(self, size: usize, take: impl FnMut(String) -> bool) {
        let mut pieces = Pieces { buffer: String::with_capacity(size), size, take, goes_on: true };
        pieces.part(self);
        if pieces.goes_on {
            (pieces.take)(pieces.buffer);
        }
    }
}

struct Pieces<F> {
    buffer: String,
    size: usize,
    take: F,
    goes_on: bool,
}

impl<F: FnMut(String) -> bool> Pieces<F> {
    fn part(&mut self, part: Part<'_>) {
        match part {
            Part::Value(value) => self.text(&value.to_string()),
            Part::List(items) => {
                self.text("[");
                for (at, item) in items.enumerate() {
                    if !self.goes_on {
                        return;
                    }
                    if at > 0 {
                        self.text(",");
                    }
                    self.part(item);
                }
                self.text("]");
            }
            Part::Object(members) => {
                self.text("{");
                for (at, (name, member)) in members.into_iter().enumerate() {
                    if at > 0 {
                        self.text(",");
                    }
                    self.text(&Value::String(name).to_string());
                    self.text(":");
                    self.part(member);
                }
                self.text("}");
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.buffer.push_str(text);
        if self.buffer.len() >= self.size && self.goes_on {
            let full = std::mem::replace(&mut self.buffer, String::with_capacity(self.size));
            self.goes_on = (self.take)(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> Part<'static> {
        let mut part = Part::Object(Vec::new());
        part.put("b", json!({"x": [1, "ä\n"], "a": null}));
        part.put("a\"", Part::list((0..5).map(|number| json!([number]))));
        part.put("none", Part::list(std::iter::empty::<Value>()));
        part
    }

    #[test]
    fn what_is_written_in_pieces_is_what_the_whole_is() {
        let whole = example().into_value().to_string();
        assert_eq!(
            whole,
            r#"{"b":{"x":[1,"ä\n"],"a":null},"a\"":[[0],[1],[2],[3],[4]],"none":[]}"#
        );
        for size in [1, 7, 1000] {
            let mut pieces = Vec::new();
            example().write(size, |piece| {
                pieces.push(piece);
                true
            });
            assert_eq!(pieces.concat(), whole);
            assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() >= size));
        }
    }

    #[test]
    fn nothing_more_is_made_when_nobody_takes_it() {
        let mut made = 0;
        let items = (0..1000).inspect(|_| made += 1).map(|number| json!(number));
        Part::list(items).write(1, |_| false);
        assert!(made <= 1, "{made}");
    }
}
