//! Reading messages from JSON values.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::{Dialect, Json, JsonError};

/// Missing fields that an error names; whoever sent more has enough to mend.
const MISSING_MAX: usize = 100;

/// Bits beyond the last whole byte are nothing, as in stout's `base64.hpp`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

/// Reads the members of one object.
#[derive(Debug)]
pub struct Object<'a> {
    members: &'a Map<String, Value>,
    dialect: Dialect,
    path: String,
    missing: &'a mut Vec<String>,
}

macro_rules! read_scalars {
    ($($one:ident $many:ident $type:ty: $read:path;)*) => {$(
        #[doc = concat!("Reads a member of kind ", stringify!($one), "; `None` where it is absent or null.")]
        ///
        /// # Errors
        /// When its value is of another kind.
        pub fn $one(&mut self, name: &'static str) -> Result<Option<$type>, JsonError> {
            self.get(name).map(|value| $read(value, name)).transpose()
        }
        #[doc = concat!("Reads a list of ", stringify!($one), "; a single value counts as a list of one.")]
        ///
        /// # Errors
        /// When a value is of another kind.
        pub fn $many(&mut self, name: &'static str, into: &mut Vec<$type>) -> Result<(), JsonError> {
            for value in self.list(name) {
                into.push($read(value, name)?);
            }
            Ok(())
        }
    )*};
}

impl<'a> Object<'a> {
    pub(super) fn root(
        members: &'a Map<String, Value>,
        dialect: Dialect,
        missing: &'a mut Vec<String>,
    ) -> Self {
        Self { members, dialect, path: String::new(), missing }
    }

    fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.members.get(self.dialect.field(name).as_ref()).filter(|value| !value.is_null())
    }

    fn list(&self, name: &'static str) -> &'a [Value] {
        match self.get(name) {
            Some(Value::Array(values)) => values,
            Some(value) => std::slice::from_ref(value),
            None => &[],
        }
    }

    fn below(&self, name: &'static str) -> String {
        let name = self.dialect.field(name);
        if self.path.is_empty() { name.into_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes that a required member is not there.
    pub fn missing(&mut self, name: &'static str) {
        if self.missing.len() < MISSING_MAX {
            let path = self.below(name);
            self.missing.push(path);
        }
    }

    read_scalars! {
        double doubles f64: read_double;
        int64 int64s i64: read_integer;
        uint64 uint64s u64: read_integer;
        int32 int32s i32: read_integer;
        uint32 uint32s u32: read_integer;
        boolean booleans bool: read_boolean;
        string strings String: read_string;
        byte_string byte_strings Vec<u8>: read_bytes;
    }

    /// Reads an enum value by name; an unknown name counts as absent, unless the field is required.
    ///
    /// # Errors
    /// When its value is no string, or unknown and required.
    pub fn enumeration(
        &mut self,
        name: &'static str,
        required: bool,
        of: impl Fn(&str) -> Option<i32>,
    ) -> Result<Option<i32>, JsonError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = read_string(value, name)?;
        match of(&self.dialect.enumeration_read(&text)) {
            None if required => Err(JsonError::Enumeration(text)),
            number => Ok(number),
        }
    }

    /// Reads a list of enum values by name; unknown names are left out.
    ///
    /// # Errors
    /// When a value is no string.
    pub fn enumerations(
        &mut self,
        name: &'static str,
        into: &mut Vec<i32>,
        of: impl Fn(&str) -> Option<i32>,
    ) -> Result<(), JsonError> {
        for value in self.list(name) {
            into.extend(of(&self.dialect.enumeration_read(&read_string(value, name)?)));
        }
        Ok(())
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is no object, or one of its members is of another kind.
    pub fn message<M: Json>(&mut self, name: &'static str) -> Result<Option<M>, JsonError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let path = self.below(name);
        self.object(value, name, path).map(Some)
    }

    fn object<M: Json>(
        &mut self,
        value: &'a Value,
        name: &str,
        path: String,
    ) -> Result<M, JsonError> {
        let Value::Object(members) = value else { return Err(kind_error(value, name)) };
        let mut message = M::default();
        message.read_fields(&mut Object {
            members,
            dialect: self.dialect,
            path,
            missing: self.missing,
        })?;
        Ok(message)
    }

    /// Reads a list of messages; a single object counts as a list of one.
    ///
    /// # Errors
    /// As for [`Object::message`].
    pub fn messages<M: Json>(
        &mut self,
        name: &'static str,
        into: &mut Vec<M>,
    ) -> Result<(), JsonError> {
        for (index, value) in self.list(name).iter().enumerate() {
            let path = format!("{}[{index}]", self.below(name));
            into.push(self.object(value, name, path)?);
        }
        Ok(())
    }

    /// Reads a map to messages.
    ///
    /// # Errors
    /// As for [`Object::message`].
    pub fn map<M: Json>(
        &mut self,
        name: &'static str,
        into: &mut BTreeMap<String, M>,
    ) -> Result<(), JsonError> {
        match self.get(name) {
            None => Ok(()),
            Some(Value::Object(members)) => {
                for (index, (key, value)) in members.iter().enumerate() {
                    let path = format!("{}[{index}].value", self.below(name));
                    into.insert(key.clone(), self.object(value, "value", path)?);
                }
                Ok(())
            }
            Some(other) => Err(kind_error(other, name)),
        }
    }

    /// Reads a map to strings.
    ///
    /// # Errors
    /// When a value is no string.
    pub fn string_map(
        &mut self,
        name: &'static str,
        into: &mut BTreeMap<String, String>,
    ) -> Result<(), JsonError> {
        match self.get(name) {
            None => Ok(()),
            Some(Value::Object(members)) => {
                for (key, value) in members {
                    into.insert(key.clone(), read_string(value, "value")?);
                }
                Ok(())
            }
            Some(other) => Err(kind_error(other, name)),
        }
    }
}

fn kind_error(value: &Value, field: &str) -> JsonError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    JsonError::Kind { found, field: field.to_owned() }
}

fn read_string(value: &Value, field: &str) -> Result<String, JsonError> {
    value.as_str().map(str::to_owned).ok_or_else(|| kind_error(value, field))
}

fn read_bytes(value: &Value, field: &str) -> Result<Vec<u8>, JsonError> {
    let text = value.as_str().ok_or_else(|| kind_error(value, field))?;
    // Padding may be left out, and white space is skipped.
    let text: String = text.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    let digits = text.trim_end_matches('=');
    let refuse = |reason| JsonError::Base64 { field: field.to_owned(), reason };
    let is_digit =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/');
    if let Some(character) = digits.chars().find(|character| !is_digit(*character)) {
        return Err(refuse(format!("Invalid character '{character}'")));
    }
    // A last digit that is alone in its group is no byte.
    let whole = digits.len() - usize::from(digits.len() % 4 == 1);
    BASE64.decode(&digits[..whole]).map_err(|error| refuse(error.to_string()))
}

/// What a text holds where a number or boolean was expected.
fn read_text(text: &str, kind: &'static str, field: &str) -> Result<Value, JsonError> {
    let wrong = |reason| JsonError::Text {
        text: text.to_owned(),
        kind,
        field: field.to_owned(),
        reason: Box::new(reason),
    };
    super::parse(text.as_bytes()).map_err(wrong)
}

fn read_boolean(value: &Value, field: &str) -> Result<bool, JsonError> {
    let parsed = match value {
        Value::Bool(value) => return Ok(*value),
        Value::String(text) => read_text(text, "boolean", field)?,
        other => return Err(kind_error(other, field)),
    };
    parsed.as_bool().ok_or_else(|| kind_error(value, field))
}

fn read_double(value: &Value, field: &str) -> Result<f64, JsonError> {
    let parsed = match value {
        Value::Number(number) => return number.as_f64().ok_or_else(|| kind_error(value, field)),
        Value::String(text) if text == "Infinity" => return Ok(f64::INFINITY),
        Value::String(text) if text == "-Infinity" => return Ok(f64::NEG_INFINITY),
        Value::String(text) => read_text(text, "number", field)?,
        other => return Err(kind_error(other, field)),
    };
    parsed.as_f64().ok_or_else(|| kind_error(value, field))
}

fn read_integer<T: TryFrom<i128>>(value: &Value, field: &str) -> Result<T, JsonError> {
    let parsed = match value {
        Value::Number(_) => value.clone(),
        Value::String(text) => read_text(text, "number", field)?,
        other => return Err(kind_error(other, field)),
    };
    let Value::Number(number) = parsed else { return Err(kind_error(value, field)) };
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        // `1.0` is how many clients write an integer; a fraction is cut as a C++ cast does.
        .or_else(|| number.as_f64().map(|double| double as i128))
        .and_then(|wide| T::try_from(wide).ok())
        .ok_or_else(|| JsonError::FieldRange(field.to_owned()))
}
