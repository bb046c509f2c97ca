//! From arguments and environment to values.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::{Flag, FlagError, Kind, Table, Values, values};
use crate::json;
use crate::units::{self, Bytes};

/// Longest file that a flag's value is read from, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// One thing that was given, by the name it was given by.
struct Given {
    value: Option<String>,
    is_argument: bool,
}

impl Table {
    /// Reads the arguments (without the program's name), then the environment for what they leave open.
    ///
    /// What doesn't begin with `--` is passed over with a warning, and everything after a lone `--`, as the original
    /// does (which doesn't warn). A name in the environment that is not the one used as argument counts as given twice.
    ///
    /// # Errors
    /// At the first thing that is wrong; nothing is half taken.
    pub fn load(
        &self,
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Values, FlagError> {
        let mut values = Values::default();
        // By name, as the original goes through them: the first error is the same.
        let mut given: BTreeMap<String, Given> = BTreeMap::new();
        for (variable, value) in environment {
            if let Some(name) = variable.strip_prefix(self.prefix) {
                let name = name.to_ascii_lowercase();
                given.insert(name, Given { value: Some(value), is_argument: false });
            } else if let Some(name) = variable.strip_prefix("LIBPROCESS_") {
                values.set_libprocess(name.to_ascii_lowercase(), value);
            }
        }
        for argument in arguments {
            let argument = argument.trim();
            if argument == "--" {
                break;
            }
            let Some(body) = argument.strip_prefix("--") else {
                values.warn(format!("Ignored argument '{argument}': flags begin with '--'"));
                continue;
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
                None => (body.to_ascii_lowercase(), None),
            };
            let before = given.insert(name.clone(), Given { value, is_argument: true });
            if before.is_some_and(|before| before.is_argument) {
                return Err(FlagError::Twice { flag: name.clone(), name });
            }
        }
        let mut loaded: BTreeMap<&'static str, String> = BTreeMap::new();
        for (name, Given { value, is_argument }) in given {
            let Some((flag, value)) = self.resolve(&name, value, is_argument)? else { continue };
            if let Some(before) = loaded.insert(flag.name, name.clone()) {
                return Err(FlagError::Twice { flag: name, name: before });
            }
            let by_alias = name.strip_prefix("no-").unwrap_or(&name) == flag.alias;
            if by_alias {
                values.warn(format!(
                    "Loaded deprecated flag '{}': its name is '{}' now",
                    flag.alias, flag.name
                ));
            }
            let wrong = |reason| FlagError::Value {
                flag: flag.name.to_owned(),
                value: values::hidden(&value),
                reason,
            };
            let content = content(flag.kind, &value).map_err(wrong)?;
            let text = normal(flag.kind, &content).map_err(wrong)?;
            let shown = match flag.kind {
                Kind::Secret => values::hidden(value.strip_prefix("file://").unwrap_or(&value)),
                _ => values::hidden(&text),
            };
            values.set(flag.name, if by_alias { flag.alias } else { flag.name }, text, shown);
        }
        for flag in &self.flags {
            if let (false, Some(default)) = (loaded.contains_key(flag.name), flag.default) {
                // A default that isn't of its kind is shown as it stands in the table.
                let text = normal(flag.kind, default).unwrap_or_else(|_| default.to_owned());
                values.set_default(flag.name, text);
            }
        }
        Ok(values)
    }

    /// The flag that a name means, and its value; `None` for a variable that is none of ours.
    fn resolve(
        &self,
        name: &str,
        value: Option<String>,
        is_argument: bool,
    ) -> Result<Option<(&Flag, String)>, FlagError> {
        if let Some(flag) = self.find(name) {
            return match value {
                Some(value) => Ok(Some((flag, value))),
                None if flag.kind == Kind::Boolean => Ok(Some((flag, "true".to_owned()))),
                None => Err(FlagError::MissingValue(name.to_owned())),
            };
        }
        if !is_argument {
            return Ok(None);
        }
        let negated = name.strip_prefix("no-").and_then(|rest| Some((rest, self.find(rest)?)));
        match (negated, value) {
            (None, _) => Err(FlagError::Unknown(name.to_owned())),
            (Some((rest, flag)), _) if flag.kind != Kind::Boolean => {
                Err(FlagError::NotBoolean(rest.to_owned(), name.to_owned()))
            }
            (Some((rest, _)), Some(value)) if !value.is_empty() => {
                Err(FlagError::NegatedValue { flag: rest.to_owned(), value })
            }
            (Some((_, flag)), _) => Ok(Some((flag, "false".to_owned()))),
        }
    }
}

/// What a value stands for: itself, or what is in the file it names.
fn content(kind: Kind, value: &str) -> Result<String, String> {
    let path = match (kind, value.strip_prefix("file://")) {
        (Kind::Path, path) => return Ok(path.unwrap_or(value).to_owned()),
        (_, Some(path)) => path,
        (Kind::Json, None) if value.starts_with('/') => value,
        _ => return Ok(value.to_owned()),
    };
    let wrong = |error: std::io::Error| {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        format!("Error reading file '{path}': {text}")
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("Error reading file '{path}': it is longer than {FILE_MAX} bytes"));
    }
    // Files end with a newline; no value does.
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

/// The value as `/flags` shows it.
fn normal(kind: Kind, text: &str) -> Result<String, String> {
    const NOT_CONVERTED: &str = "Failed to convert into required type";
    match kind {
        Kind::Text | Kind::Secret | Kind::Path => Ok(text.to_owned()),
        Kind::Json => match json::parse(text.as_bytes()) {
            Ok(value) => Ok(value.to_string()),
            Err(error) => Err(error.to_string()),
        },
        Kind::Boolean => match text {
            // An empty file in /etc/mesos-*/ gives `--name=`, which means true.
            "" | "true" | "1" => Ok("true".to_owned()),
            "false" | "0" => Ok("false".to_owned()),
            _ => Err("Expecting a boolean (e.g., true or false)".to_owned()),
        },
        Kind::Number => text
            .parse::<u64>()
            .map(|number| number.to_string())
            .map_err(|_| NOT_CONVERTED.to_owned()),
        Kind::Port => text
            .parse::<u16>()
            .map(|number| number.to_string())
            .map_err(|_| NOT_CONVERTED.to_owned()),
        Kind::Decimal => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(units::format_significant)
            .ok_or(NOT_CONVERTED.to_owned()),
        Kind::Duration => units::parse_duration(text)
            .map(units::format_duration)
            .map_err(|error| error.to_string()),
        Kind::Bytes => {
            text.parse::<Bytes>().map(|bytes| bytes.to_string()).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
