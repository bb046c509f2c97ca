//! Flags: one declarative table a daemon, which gives parsing, `--help`, `/flags` and the man page (stout's `flags.hpp`).
//!
//! A flag comes from the command line (`--name=value`, `--name`, `--no-name`) or else from the environment
//! (`MESOS_NAME`); unknown variables are ignored, unknown flags refused. `file:///path` stands for the file's content.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::units::{self, Bytes};

/// What a flag's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`; alone it means true, `--no-name` means false.
    Boolean,
    /// A whole number, not negative.
    Number,
    /// A decimal number.
    Decimal,
    /// `15mins`.
    Duration,
    /// `64MB`.
    Bytes,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, as `/flags` shows it.
    pub name: &'static str,
    /// An older name that is still taken, or "".
    pub alias: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Its default as text; `None` if it has none.
    pub default: Option<&'static str>,
    /// One sentence or more, for `--help`.
    pub help: &'static str,
}

/// A flag, in the short form that tables use.
pub const fn flag(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag { name, alias: "", kind, default, help }
}

/// A flag with an older name.
pub const fn flag_or(
    name: &'static str,
    alias: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag { name, alias, kind, default, help }
}

/// All flags of a program.
#[derive(Debug, Clone)]
pub struct Table {
    program: &'static str,
    prefix: &'static str,
    flags: Vec<Flag>,
}

/// Why flags can't be used. The texts are the original's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("Failed to load unknown flag '{0}'")]
    Unknown(String),
    /// Given twice.
    #[error("Flag '{flag}' is already loaded via name '{name}'")]
    Twice {
        /// The flag.
        flag: String,
        /// The name it was given by before.
        name: String,
    },
    /// No value where one is needed.
    #[error("Failed to load non-boolean flag '{0}': Missing value")]
    MissingValue(String),
    /// `--no-x` for a flag that is not boolean.
    #[error("Failed to load non-boolean flag '{0}' via '{1}'")]
    NotBoolean(String, String),
    /// The value is of another kind.
    #[error("Failed to load flag '{flag}': Failed to load value '{value}': {reason}")]
    Value {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A required flag is not given.
    #[error("Flag '{0}' is required, but it was not provided")]
    Required(String),
    /// An argument that is no flag.
    #[error("Failed to load unexpected argument '{0}'")]
    Argument(String),
    /// `file://` names what can't be read.
    #[error("Failed to load flag '{flag}': Error reading file '{path}': {reason}")]
    File {
        /// The flag.
        flag: String,
        /// The path.
        path: String,
        /// The system's text.
        reason: String,
    },
}

/// What was given, with defaults filled in.
#[derive(Debug, Clone, Default)]
pub struct Values {
    texts: BTreeMap<&'static str, String>,
    explicit: BTreeMap<&'static str, String>,
}

impl Table {
    /// The flags of `program`, whose environment variables begin with `prefix` (`MESOS_`).
    pub fn new(program: &'static str, prefix: &'static str, flags: &[&[Flag]]) -> Self {
        Self { program, prefix, flags: flags.concat() }
    }

    fn find(&self, name: &str) -> Option<&Flag> {
        self.flags
            .iter()
            .find(|flag| flag.name == name || (!flag.alias.is_empty() && flag.alias == name))
    }

    /// All flags, in order of the table.
    pub fn flags(&self) -> &[Flag] {
        &self.flags
    }

    /// Reads the arguments (without the program's name), then the environment for what they leave open.
    ///
    /// # Errors
    /// At the first thing that is wrong; nothing is half taken.
    pub fn load(
        &self,
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Values, FlagError> {
        let mut explicit: BTreeMap<&'static str, (String, String)> = BTreeMap::new();
        for argument in arguments {
            let Some(body) = argument.strip_prefix("--").filter(|body| !body.is_empty()) else {
                return Err(FlagError::Argument(argument));
            };
            let (given, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
                None => (body.to_ascii_lowercase(), None),
            };
            let (flag, value) = match (self.find(&given), value) {
                (Some(flag), Some(value)) => (flag, value),
                (Some(flag), None) if flag.kind == Kind::Boolean => (flag, "true".to_owned()),
                (Some(_), None) => return Err(FlagError::MissingValue(given)),
                (None, value) => {
                    let negated = given.strip_prefix("no-").and_then(|name| self.find(name));
                    match (negated, value) {
                        (Some(flag), None) if flag.kind == Kind::Boolean => {
                            (flag, "false".to_owned())
                        }
                        (Some(flag), _) => {
                            return Err(FlagError::NotBoolean(flag.name.to_owned(), given));
                        }
                        (None, _) => return Err(FlagError::Unknown(given)),
                    }
                }
            };
            if let Some((name, _)) = explicit.get(flag.name) {
                return Err(FlagError::Twice { flag: flag.name.to_owned(), name: name.clone() });
            }
            explicit.insert(flag.name, (given, value));
        }
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(self.prefix) else { continue };
            let name = name.to_ascii_lowercase();
            let flag = self.find(&name).map(|flag| (flag, value.clone())).or_else(|| {
                let flag = name
                    .strip_prefix("no_")
                    .or_else(|| name.strip_prefix("no-"))
                    .and_then(|name| self.find(name))?;
                (flag.kind == Kind::Boolean).then(|| (flag, "false".to_owned()))
            });
            if let Some((flag, value)) = flag {
                explicit.entry(flag.name).or_insert((name, value));
            }
        }
        let mut values = Values::default();
        for flag in &self.flags {
            let text = match explicit.remove(flag.name) {
                Some((_, value)) => {
                    let value = content(flag, &value)?;
                    check(flag, &value)?;
                    values.explicit.insert(flag.name, value.clone());
                    Some(value)
                }
                None => flag.default.map(str::to_owned),
            };
            if let Some(text) = text {
                values.texts.insert(flag.name, normal(flag.kind, text));
            }
        }
        Ok(values)
    }

    /// The text of `--help`.
    pub fn help(&self) -> String {
        let mut text = format!("Usage: {} [options]\n\n", self.program);
        for flag in &self.flags {
            let head = match flag.kind {
                Kind::Boolean => format!("  --[no-]{}", flag.name),
                _ => format!("  --{}=VALUE", flag.name),
            };
            let _ = write!(text, "{head:<44} ");
            let mut column = 0;
            for word in flag.help.split_whitespace() {
                if column > 0 && column + word.len() > 75 {
                    let _ = write!(text, "\n{:<45}", "");
                    column = 0;
                }
                let _ = write!(text, "{word} ");
                column += word.len() + 1;
            }
            if let Some(default) = flag.default {
                let _ = write!(text, "(default: {default})");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "\nEach flag can be given as an environment variable too: {}NAME=VALUE.",
            self.prefix
        );
        text
    }

    /// A manual page in roff.
    pub fn man_page(&self, summary: &str) -> String {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('-', "\\-");
        let name = escape(self.program);
        let mut page = format!(
            ".TH {} 8\n.SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n.B {name}\n[\\-\\-flag=value ...]\n.SH OPTIONS\n",
            self.program.to_uppercase(),
            escape(summary)
        );
        for flag in &self.flags {
            let default =
                flag.default.map(|default| format!(" (default: {default})")).unwrap_or_default();
            let _ = writeln!(
                page,
                ".TP\n.B \\-\\-{}\n{}",
                escape(flag.name),
                escape(&format!("{}{default}", flag.help))
            );
        }
        page
    }
}

fn content(flag: &Flag, value: &str) -> Result<String, FlagError> {
    // --master=file:///path and --zk=file:///path are read by those who use them, again and again.
    match value.strip_prefix("file://") {
        Some(path) if flag.name != "master" => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches('\n').to_owned())
            .map_err(|error| FlagError::File {
                flag: flag.name.to_owned(),
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        _ => Ok(value.to_owned()),
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), FlagError> {
    let reason = match flag.kind {
        Kind::Text => return Ok(()),
        // An empty file in /etc/mesos-*/ gives `--name=`, which means true.
        Kind::Boolean => matches!(value, "" | "true" | "false" | "0" | "1")
            .then_some(())
            .ok_or("Expecting a boolean (e.g., true or false)".to_owned()),
        Kind::Number => value.parse::<u64>().map(|_| ()).map_err(|error| error.to_string()),
        Kind::Decimal => value.parse::<f64>().map(|_| ()).map_err(|error| error.to_string()),
        Kind::Duration => {
            units::parse_duration(value).map(|_| ()).map_err(|error| error.to_string())
        }
        Kind::Bytes => value.parse::<Bytes>().map(|_| ()).map_err(|error| error.to_string()),
    };
    reason.map_err(|reason| FlagError::Value {
        flag: flag.name.to_owned(),
        value: value.to_owned(),
        reason,
    })
}

fn normal(kind: Kind, text: String) -> String {
    match kind {
        Kind::Boolean => (matches!(text.as_str(), "" | "true" | "1")).to_string(),
        Kind::Duration => units::parse_duration(&text).map_or(text, units::format_duration),
        Kind::Bytes => text.parse::<Bytes>().map_or(text, |bytes| bytes.to_string()),
        _ => text,
    }
}

impl Values {
    /// A text flag; `None` if it was not given and has no default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// Whether it was given, by argument or environment.
    pub fn is_given(&self, name: &str) -> bool {
        self.explicit.contains_key(name)
    }

    /// A required text flag.
    ///
    /// # Errors
    /// [`FlagError::Required`].
    pub fn required(&self, name: &str) -> Result<&str, FlagError> {
        self.text(name).ok_or_else(|| FlagError::Required(name.to_owned()))
    }

    /// A boolean flag; false if it has no default.
    pub fn boolean(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// A decimal number.
    pub fn decimal(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        units::parse_duration(self.text(name)?).ok()
    }

    /// A size.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        self.text(name)?.parse().ok()
    }

    /// Sets a flag from code, as `meso up` does.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.explicit.insert(name, value.clone());
        self.texts.insert(name, value);
        self
    }

    /// Every flag that has a value, by name, as `/flags` shows them.
    pub fn as_strings(&self) -> &BTreeMap<&'static str, String> {
        &self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(
            "mesos-test",
            "MESOS_",
            &[&[
                flag("port", Kind::Number, Some("5050"), "Port to listen on."),
                flag("quiet", Kind::Boolean, Some("false"), "Disable logging to stderr."),
                flag(
                    "hostname_lookup",
                    Kind::Boolean,
                    Some("true"),
                    "Whether to look the hostname up.",
                ),
                flag_or(
                    "agent_ping_timeout",
                    "slave_ping_timeout",
                    Kind::Duration,
                    Some("15secs"),
                    "Ping timeout.",
                ),
                flag("work_dir", Kind::Text, None, "Where to keep data."),
            ]],
        )
    }

    fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Values, FlagError> {
        table().load(
            arguments.iter().map(|text| (*text).to_owned()),
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn arguments_win_over_the_environment_and_both_over_defaults() {
        let values = load(
            &["--port=1", "--quiet", "--no-hostname_lookup"],
            &[("MESOS_PORT", "2"), ("MESOS_WORK_DIR", "/w"), ("MESOS_NATIVE_X", "y")],
        )
        .unwrap();
        assert_eq!((values.number("port"), values.text("work_dir")), (Some(1), Some("/w")));
        assert_eq!((values.boolean("quiet"), values.boolean("hostname_lookup")), (true, false));
        assert_eq!(values.duration("agent_ping_timeout"), Some(Duration::from_secs(15)));
    }

    #[test]
    fn old_names_are_taken() {
        assert_eq!(
            load(&["--slave_ping_timeout=60secs"], &[]).unwrap().text("agent_ping_timeout"),
            Some("1mins")
        );
    }

    #[test]
    fn errors_are_worded_as_the_originals() {
        for (arguments, text) in [
            (&["--nope=1"][..], "Failed to load unknown flag 'nope'"),
            (&["--port=1", "--port=2"], "Flag 'port' is already loaded via name 'port'"),
            (&["--port"], "Failed to load non-boolean flag 'port': Missing value"),
            (&["--no-port"], "Failed to load non-boolean flag 'port' via 'no-port'"),
            (&["stray"], "Failed to load unexpected argument 'stray'"),
        ] {
            assert_eq!(load(arguments, &[]).unwrap_err().to_string(), text);
        }
        assert!(
            load(&["--port=x"], &[])
                .unwrap_err()
                .to_string()
                .starts_with("Failed to load flag 'port': Failed to load value 'x'")
        );
        assert_eq!(
            load(&[], &[]).unwrap().required("work_dir").unwrap_err().to_string(),
            "Flag 'work_dir' is required, but it was not provided"
        );
    }

    #[test]
    fn an_empty_value_of_a_boolean_means_true() {
        assert!(load(&["--quiet="], &[]).unwrap().boolean("quiet"));
    }
}
