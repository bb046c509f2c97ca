//! What was given, with defaults filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::FlagError;
use crate::units::{self, Bytes};

/// The value of every flag that has one.
#[derive(Clone, Default)]
pub struct Values {
    texts: BTreeMap<&'static str, String>,
    shown: BTreeMap<&'static str, String>,
    given: BTreeSet<&'static str>,
    /// What `LIBPROCESS_*` says, by the flags' names.
    libprocess: BTreeMap<String, String>,
    warnings: Vec<String>,
}

/// The text without the password of a `zk://user:password@…`.
pub(super) fn hidden(text: &str) -> String {
    let Some((credentials, rest)) =
        text.strip_prefix("zk://").and_then(|authority| authority.rsplit_once('@'))
    else {
        return text.to_owned();
    };
    let user = credentials.split(':').next().unwrap_or_default();
    format!("zk://{user}:***@{rest}")
}

/// What `/flags` shows, not what the values are: no password gets into a log.
impl std::fmt::Debug for Values {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(&self.shown).finish()
    }
}

impl Values {
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    pub(super) fn set_libprocess(&mut self, name: String, value: String) {
        self.libprocess.insert(name, value);
    }

    pub(super) fn set(
        &mut self,
        name: &'static str,
        shown_as: &'static str,
        text: String,
        shown: String,
    ) {
        self.given.insert(name);
        self.texts.insert(name, text);
        self.shown.remove(name);
        self.shown.insert(shown_as, shown);
    }

    pub(super) fn set_default(&mut self, name: &'static str, text: String) {
        self.shown.insert(name, text.clone());
        self.texts.insert(name, text);
    }

    /// A text flag; `None` if it was not given and has no default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// Where to listen, or what others are told of that: the flag, or else libprocess' variable of that name
    /// (`LIBPROCESS_IP`), which the originals' flags overwrite.
    pub fn address(&self, name: &str) -> Option<&str> {
        self.text(name).or_else(|| self.libprocess.get(name).map(String::as_str))
    }

    /// Whether it was given, by argument or environment.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(name)
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

    /// A port.
    pub fn port(&self, name: &str) -> Option<u16> {
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

    /// JSON.
    pub fn json(&self, name: &str) -> Option<serde_json::Value> {
        serde_json::from_str(self.text(name)?).ok()
    }

    /// Sets a flag from code, as `meso up` does. The text must be in normal form (`1mins`, not `60secs`).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        let shown = hidden(&value);
        self.set(name, name, value, shown);
        self
    }

    /// Shows a flag's value in another form than it was given in.
    #[must_use]
    pub fn showing(mut self, name: &'static str, shown: impl Into<String>) -> Self {
        self.shown.insert(name, shown.into());
        self
    }

    /// Every flag that has a value, as `/flags` shows them: by the name each was given by, and without passwords.
    pub fn as_strings(&self) -> &BTreeMap<&'static str, String> {
        &self.shown
    }

    /// What to log at the start: deprecated names, arguments passed over.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
