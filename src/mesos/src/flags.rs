//! Flags: one declarative table a daemon, which gives parsing, `--help`, `/flags` and the man page (stout's `flags.hpp`).
//!
//! A flag comes from the command line (`--name=value`, `--name`, `--no-name`) or else from the environment
//! (`MESOS_NAME`); unknown variables are ignored, unknown flags refused. `file:///path` stands for the file's content.
//! Nothing is taken unless everything is right.

mod help;
mod load;
mod values;

pub use values::Values;

/// What a flag's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that may hold a password: given as `file:///path`, only the path is ever shown.
    Secret,
    /// A path, with or without `file://` in front. The file is not read.
    Path,
    /// JSON, or the absolute path of a file with JSON.
    Json,
    /// `true` or `false`; alone it means true, `--no-name` means false.
    Boolean,
    /// A whole number, not negative.
    Number,
    /// A TCP port.
    Port,
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
    /// `--no-x=value`.
    #[error("Failed to load boolean flag '{flag}' via 'no-{flag}' with value '{value}'")]
    NegatedValue {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
    },
    /// The value is of another kind, or `file://` names what can't be read.
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
}

impl Table {
    /// The flags of `program`, whose environment variables begin with `prefix` (`MESOS_`).
    pub fn new(program: &'static str, prefix: &'static str, flags: &[&[Flag]]) -> Self {
        Self { program, prefix, flags: flags.concat() }
    }

    /// All flags, in order of the table.
    pub fn flags(&self) -> &[Flag] {
        &self.flags
    }

    fn find(&self, name: &str) -> Option<&Flag> {
        self.flags
            .iter()
            .find(|flag| flag.name == name || (!flag.alias.is_empty() && flag.alias == name))
    }

    /// What a daemon prints before it exits with 1 because of its flags.
    pub fn refusal(&self, error: &FlagError) -> String {
        format!("{error}\n\nSee `{} --help` for a list of supported flags.", self.program)
    }
}
