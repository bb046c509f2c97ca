//! What `zoo.cfg` and the environment say, by key, with the place of each: errors name it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::keys::{self, Effect, Scope};
use super::{ConfigError, properties};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// On this line of `zoo.cfg`, from 1.
    Line(usize),
    /// As a `-D` flag in this variable.
    Flag(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// All values.
#[derive(Debug)]
pub(super) struct Values {
    /// The `zoo.cfg`.
    pub(super) path: PathBuf,
    pub(super) given: HashMap<String, Value>,
    /// What a person should know: keys without effect, unknown keys, slips. In the order of the file, slips at last.
    pub(super) notices: RefCell<Vec<String>>,
}

/// What this server makes of a key that some place gave.
enum Verdict {
    Taken,
    /// Passed over: it is not read from there, or not this server's.
    Passed,
    Noticed(String),
}

impl Values {
    /// Reads the text of a `zoo.cfg`, which wins over the flags of the environment, as in the original.
    ///
    /// # Errors
    /// When a server, group or weight is there twice: the original takes the last, and other servers may have
    /// another one last.
    pub(super) fn read(
        path: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut read =
            Self { path: path.to_owned(), given: HashMap::new(), notices: RefCell::default() };
        for flag in environment.flags() {
            let prefixed = flag.key.strip_prefix("zookeeper.");
            let key = prefixed.unwrap_or(&flag.key).to_owned();
            let is_bare = keys::find(&key).is_some_and(|key| key.scope == Scope::Bare);
            if prefixed.is_none() && !is_bare {
                continue;
            }
            match of_flag(&key) {
                Verdict::Passed => continue,
                Verdict::Taken => {}
                Verdict::Noticed(notice) => {
                    read.notice(format!("{}: -D{}: {notice}", flag.origin, flag.key));
                }
            }
            let value =
                Value { text: flag.value.trim().to_owned(), origin: Origin::Flag(flag.origin) };
            read.given.insert(key, value);
        }
        for property in properties::read(text) {
            let (key, line) = (property.key, property.line);
            let value = Value { text: property.value, origin: Origin::Line(line) };
            let before = read.given.insert(key.clone(), value).map(|value| value.origin);
            if let Some(Origin::Line(before)) = before {
                let is_member =
                    ["server.", "group.", "weight."].iter().any(|start| key.starts_with(start));
                if is_member {
                    let reason = format!("it is on line {before} already; keep one of them");
                    return Err(read.error(&key, reason));
                }
                read.notice(format!(
                    "{}:{line}: {key} is on line {before} too: this one counts",
                    path.display()
                ));
            } else if let Verdict::Noticed(notice) = of_line(&key) {
                read.notice(format!("{}:{line}: {key}: {notice}", path.display()));
            }
        }
        Ok(read)
    }

    /// Everything that was given, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.given.keys()
    }

    /// A key's value as it is written.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(|value| value.text.as_str())
    }

    /// What is wrong with a key's value, and where it is.
    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let (key, reason) = (key.to_owned(), reason.into());
        match self.given.get(key.as_str()).map(|value| &value.origin) {
            Some(Origin::Line(line)) => {
                ConfigError::Key { path: self.path.clone(), line: *line, key, reason }
            }
            Some(Origin::Flag(variable)) => {
                ConfigError::Flag { variable: variable.clone(), key, reason }
            }
            None => self.whole(format!("{key}: {reason}")),
        }
    }

    /// What is wrong with the whole.
    pub(super) fn whole(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Whole { path: self.path.clone(), reason: reason.into() }
    }

    /// Something that a person should know.
    pub(super) fn notice(&self, text: String) {
        let mut notices = self.notices.borrow_mut();
        if !notices.contains(&text) {
            notices.push(text);
        }
    }

    /// A value that says nothing: refused in keys of `zoo.cfg` alone, which the original parses. What it reads as a system
    /// property starts it all the same, and so must whoever takes its place: `taken` says as what, once at the start.
    fn slip<T>(&self, key: &str, reason: &str, instead: T, taken: &str) -> Result<T, ConfigError> {
        let wrong = self.error(key, reason);
        if keys::find(key).is_none_or(|key| key.scope == Scope::File) {
            return Err(wrong);
        }
        self.notice(format!("{wrong}: taken as {taken}"));
        Ok(instead)
    }

    /// [`Values::slip`] that leaves the default.
    fn not_given<T>(&self, key: &str, reason: &str, default: T) -> Result<T, ConfigError> {
        self.slip(key, reason, default, "not given")
    }

    /// A whole number: decimal, or as `Integer.decode` takes it, with `0x` in front.
    pub(super) fn number<T: TryFrom<i64>>(&self, key: &str, default: T) -> Result<T, ConfigError> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let number = hex.map_or_else(|| text.parse(), |hex| i64::from_str_radix(hex, 16));
        match number.ok().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => self.not_given(key, &format!("'{text}' is not a number that fits"), default),
        }
    }

    /// A number within a range.
    pub(super) fn number_in(
        &self,
        key: &str,
        range: impl RangeBounds<i64>,
        default: i64,
    ) -> Result<i64, ConfigError> {
        let number = self.number(key, default)?;
        if number == default || range.contains(&number) {
            return Ok(number);
        }
        let text = self.text(key).unwrap_or_default();
        self.not_given(key, &format!("'{text}' is not a number that fits"), default)
    }

    /// A number of things of which less than one means any number, given as 0 here.
    pub(super) fn limit(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        let number: i64 = self.number(key, default as i64)?;
        Ok(usize::try_from(number).unwrap_or(0))
    }

    /// A number with a fraction, from 0 to 1.
    pub(super) fn part(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        let Some(text) = self.text(key) else { return Ok(default) };
        match text.parse().ok().filter(|number| (0.0..=1.0).contains(number)) {
            Some(number) => Ok(number),
            None => self.not_given(key, &format!("'{text}' is not a number from 0 to 1"), default),
        }
    }

    /// `true` or `false`; false if not given. A system property that says something else is false as well
    /// (`Boolean.getBoolean`).
    pub(super) fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        self.boolean_or(key, false)
    }

    /// [`Values::boolean`] with another default.
    pub(super) fn boolean_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.either(key, default, ["true", "false"]) {
            Ok(decided) => Ok(decided),
            Err(Undecided(text)) => {
                self.slip(key, &format!("'{text}' is neither true nor false"), false, "false")
            }
        }
    }

    /// `true` or `false` where a slip would open a door: nothing else is taken, though the original does.
    pub(super) fn decided(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        self.either(key, default, ["true", "false"]).map_err(|Undecided(text)| {
            self.error(key, format!("'{text}' is neither true nor false"))
        })
    }

    /// `yes` or `no`.
    pub(super) fn yes_or_no(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        self.either(key, default, ["yes", "no"]).or_else(|Undecided(text)| {
            self.not_given(key, &format!("'{text}' is neither yes nor no"), default)
        })
    }

    fn either(
        &self,
        key: &str,
        default: bool,
        [yes, no]: [&str; 2],
    ) -> Result<bool, Undecided<'_>> {
        match self.text(key) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case(yes) => Ok(true),
            Some(text) if text.eq_ignore_ascii_case(no) => Ok(false),
            Some(text) => Err(Undecided(text)),
        }
    }
}

/// What is neither yes nor no.
struct Undecided<'a>(&'a str);

fn of_line(name: &str) -> Verdict {
    let Some(key) = keys::find(name) else {
        let hint = keys::nearest(name)
            .map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
        return Verdict::Noticed(format!("no server of 3.8 knows this key: ignored{hint}"));
    };
    match key.effect {
        // What is not built is refused where it is read, if it is asked for.
        Effect::Acts(_) | Effect::NotBuilt(_) => Verdict::Taken,
        Effect::None(reason) => Verdict::Noticed(format!("it has no effect here: {reason}")),
        Effect::Misnamed(real) => {
            Verdict::Noticed(format!("the guide calls it so, but servers read {real}: ignored"))
        }
    }
}

fn of_flag(name: &str) -> Verdict {
    match keys::find(name).map(|key| key.scope) {
        Some(Scope::File) => Verdict::Passed,
        Some(Scope::Property | Scope::Bare) => of_line(name),
        // Clients have properties of the same prefix.
        None => Verdict::Passed,
    }
}
