//! Writing messages as JSON text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Dialect, Json};

/// A double as rapidjson prints it: shortest round trip, with a fraction below 10²¹ and an exponent from there on and below
/// 10⁻⁶. For infinity JSON has no number: it is the string that readers of messages take for it. `null` if it is none of these.
pub fn format_double(value: f64) -> String {
    if value == 0.0 || (1e-4..1e15).contains(&value.abs()) {
        format!("{value:?}")
    } else if (1e-6..1e21).contains(&value.abs()) {
        let plain = value.to_string();
        if plain.contains('.') { plain } else { plain + ".0" }
    } else if value.is_finite() {
        format!("{value:e}")
    } else if value.is_nan() {
        "null".to_owned()
    } else {
        format!("\"{}Infinity\"", if value < 0.0 { "-" } else { "" })
    }
}

pub(super) fn write_object<M: Json>(message: &M, dialect: Dialect, text: &mut String) {
    write_nested(message, dialect, false, text);
}

fn write_nested<M: Json>(message: &M, dialect: Dialect, lists_agents: bool, text: &mut String) {
    text.push('{');
    message.write_fields(&mut Fields { text, dialect, lists_agents, first: true });
    text.push('}');
}

fn write_string(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

/// Writes the members of one object.
#[derive(Debug)]
pub struct Fields<'a> {
    text: &'a mut String,
    dialect: Dialect,
    /// Inside a reply that lists agents: see [`Fields::agents`].
    lists_agents: bool,
    first: bool,
}

macro_rules! write_scalars {
    ($($one:ident $many:ident $type:ty: $write:expr;)*) => {$(
        #[doc = concat!("Writes a member of kind ", stringify!($one), ".")]
        pub fn $one(&mut self, name: &'static str, value: &$type) {
            self.name(name);
            $write(value, self.text);
        }
        #[doc = concat!("Writes a member that is a list of ", stringify!($one), ", unless it is empty.")]
        pub fn $many(&mut self, name: &'static str, values: &[$type]) {
            self.list(name, values, $write);
        }
    )*};
}

fn write_display(value: &impl std::fmt::Display, text: &mut String) {
    let _ = write!(text, "{value}");
}

impl Fields<'_> {
    /// Whether `AgentInfo` shows `checkpoint`, which v1's definition lacks: the old API does, and so do v1's lists of
    /// agents, because the original writes those from its own (v0) messages.
    pub fn shows_agent_checkpoint(&self) -> bool {
        self.dialect == Dialect::V0 || self.lists_agents
    }

    /// Writes a member that is a list of agents.
    pub fn agents<M: Json>(&mut self, name: &'static str, values: &[M]) {
        self.lists_agents = true;
        self.all_messages(name, values);
        self.lists_agents = false;
    }

    fn name(&mut self, name: &'static str) {
        if !self.first {
            self.text.push(',');
        }
        self.first = false;
        let _ = write!(self.text, "\"{}\":", self.dialect.field(name));
    }

    fn list<T>(&mut self, name: &'static str, values: &[T], write: impl Fn(&T, &mut String)) {
        if !values.is_empty() {
            self.all(name, values, write);
        }
    }

    fn all<T>(&mut self, name: &'static str, values: &[T], write: impl Fn(&T, &mut String)) {
        self.name(name);
        self.text.push('[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            write(value, self.text);
        }
        self.text.push(']');
    }

    write_scalars! {
        double doubles f64: |value: &f64, text: &mut String| text.push_str(&format_double(*value));
        int64 int64s i64: write_display;
        uint64 uint64s u64: write_display;
        int32 int32s i32: write_display;
        uint32 uint32s u32: write_display;
        boolean booleans bool: write_display;
        byte_string byte_strings Vec<u8>: |value: &Vec<u8>, text: &mut String| write_string(&STANDARD.encode(value), text);
    }

    /// Writes a member that is a string.
    pub fn string(&mut self, name: &'static str, value: &str) {
        self.name(name);
        write_string(value, self.text);
    }

    /// Writes a member that is a list of strings, unless it is empty.
    pub fn strings(&mut self, name: &'static str, values: &[String]) {
        self.list(name, values, |value, text| write_string(value, text));
    }

    /// Writes a member that is an enum value, given its v1 name.
    pub fn enumeration(&mut self, name: &'static str, value: &'static str) {
        if let Some(value) = self.dialect.enumeration(value) {
            self.name(name);
            write_string(&value, self.text);
        }
    }

    /// Writes a member that is a list of enum values, unless it is empty. Unknown numbers are left out.
    pub fn enumerations(
        &mut self,
        name: &'static str,
        values: &[i32],
        of: impl Fn(i32) -> Option<&'static str>,
    ) {
        let dialect = self.dialect;
        let names: Vec<_> =
            values.iter().filter_map(|value| dialect.enumeration(of(*value)?)).collect();
        self.list(name, &names, |value, text| write_string(value, text));
    }

    /// Writes a member that is a message.
    pub fn message<M: Json>(&mut self, name: &'static str, value: &M) {
        self.name(name);
        write_nested(value, self.dialect, self.lists_agents, self.text);
    }

    /// Writes a member that is a list of messages, unless it is empty.
    pub fn messages<M: Json>(&mut self, name: &'static str, values: &[M]) {
        if !values.is_empty() {
            self.all_messages(name, values);
        }
    }

    /// Writes a member that is a list of messages.
    pub fn all_messages<M: Json>(&mut self, name: &'static str, values: &[M]) {
        let (dialect, lists_agents) = (self.dialect, self.lists_agents);
        self.all(name, values, |value, text| write_nested(value, dialect, lists_agents, text));
    }

    /// Writes a member that is a map to messages, unless it is empty.
    pub fn map<M: Json>(&mut self, name: &'static str, values: &BTreeMap<String, M>) {
        let dialect = self.dialect;
        self.members(name, values, |value, text| write_object(value, dialect, text));
    }

    /// Writes a member that is a map to strings, unless it is empty.
    pub fn string_map(&mut self, name: &'static str, values: &BTreeMap<String, String>) {
        self.members(name, values, |value, text| write_string(value, text));
    }

    fn members<T>(
        &mut self,
        name: &'static str,
        values: &BTreeMap<String, T>,
        write: impl Fn(&T, &mut String),
    ) {
        if values.is_empty() {
            return;
        }
        self.name(name);
        self.text.push('{');
        for (index, (key, value)) in values.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            write_string(key, self.text);
            self.text.push(':');
            write(value, self.text);
        }
        self.text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the original showed of weights that it was given.
    #[test]
    fn doubles_are_written_as_the_original_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (100.0, "100.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "10000000000000000.0"),
            (123_456_789_012_345_678.0, "123456789012345680.0"),
            (1e20, "100000000000000000000.0"),
            (1e21, "1e21"),
            (-1.5e21, "-1.5e21"),
            (1e300, "1e300"),
            (0.0001, "0.0001"),
            (0.000_01, "0.00001"),
            (0.000_001_5, "0.0000015"),
            (1e-6, "0.000001"),
            (1.25e-7, "1.25e-7"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }
}
