//! `--firewall_rules`: endpoints that answer nobody (libprocess' `firewall.hpp`).

use std::collections::BTreeSet;

use serde_json::Value;

/// Rules. The default lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    disabled: BTreeSet<String>,
}

/// Why rules can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the firewall rules are not valid: {0}")]
pub struct FirewallError(String);

impl Firewall {
    /// Reads JSON such as `{"disabled_endpoints": {"paths": ["/files/browse"]}}`.
    ///
    /// # Errors
    /// When it is no JSON, or names anything else: what isn't understood could be a restriction.
    pub fn parse(text: &str) -> Result<Self, FirewallError> {
        let wrong = |reason: &str| FirewallError(reason.to_owned());
        let value: Value =
            serde_json::from_str(text).map_err(|error| FirewallError(error.to_string()))?;
        let rules = value.as_object().ok_or_else(|| wrong("expected a JSON object"))?;
        let mut firewall = Self::default();
        for (name, rule) in rules {
            if name != "disabled_endpoints" {
                return Err(FirewallError(format!("there is no rule '{name}'")));
            }
            let paths = rule.get("paths").and_then(Value::as_array);
            for path in paths.ok_or_else(|| wrong("'disabled_endpoints' lacks 'paths'"))? {
                let path = path.as_str().ok_or_else(|| wrong("a path is no text"))?;
                firewall.disabled.insert(format!("/{}", path.trim_start_matches('/')));
            }
        }
        Ok(firewall)
    }

    /// What is said to one who asks for an endpoint that is disabled.
    pub fn refusal(&self, path: &str) -> Option<String> {
        self.disabled.contains(path).then(|| format!("Endpoint '{path}' is disabled"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_path_is_disabled() {
        let firewall =
            Firewall::parse(r#"{"disabled_endpoints": {"paths": ["/files/browse", "state"]}}"#)
                .unwrap();
        let refusal = firewall.refusal("/files/browse");
        assert_eq!(refusal.as_deref(), Some("Endpoint '/files/browse' is disabled"));
        assert!(firewall.refusal("/state").is_some());
        assert!(firewall.refusal("/files").is_none());
        assert!(Firewall::default().refusal("/state").is_none());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["{", "[]", r#"{"other": {}}"#, r#"{"disabled_endpoints": {}}"#] {
            assert!(Firewall::parse(text).is_err(), "{text}");
        }
    }
}
