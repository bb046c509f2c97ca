//! Prometheus' text form (exposition format 0.0.4): samples are gathered by name, since one name's must stand together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::response::Response;
use http::StatusCode;

use crate::respond;

/// Samples by name; by their labels, as they are written, below it.
#[derive(Debug, Default)]
pub struct Families(BTreeMap<String, BTreeMap<String, f64>>);

impl Families {
    /// Adds a sample. What may not be in a name becomes `_`; one that is there already is replaced.
    pub fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut written = String::new();
        for (name, value) in labels {
            written.push(if written.is_empty() { '{' } else { ',' });
            written.push_str(name);
            written.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => written.push_str("\\\\"),
                    '"' => written.push_str("\\\""),
                    '\n' => written.push_str("\\n"),
                    other => written.push(other),
                }
            }
            written.push('"');
        }
        if !written.is_empty() {
            written.push('}');
        }
        self.0.entry(name.replace(is_foreign, "_")).or_default().insert(written, value);
    }

    /// The text. Whether a value only grows is not known here: all are gauges to Prometheus, which makes no difference to it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, samples) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# TYPE {name} gauge");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }

    /// The answer to a scraper.
    #[must_use]
    pub fn respond(&self) -> Response {
        respond::body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.text())
    }
}

fn is_foreign(character: char) -> bool {
    !character.is_ascii_alphanumeric() && character != '_' && character != ':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_stand_together_and_labels_are_escaped() {
        let mut families = Families::default();
        families.add("tasks/running", &[("role", "a\"b\\c\nd"), ("id", "1")], 2.0);
        families.add("tasks.lost", &[], 0.5);
        families.add("tasks/running", &[], 3.0);
        assert_eq!(
            families.text(),
            "# TYPE tasks_lost gauge\ntasks_lost 0.5\n# TYPE tasks_running gauge\ntasks_running 3\n\
             tasks_running{role=\"a\\\"b\\\\c\\nd\",id=\"1\"} 2\n"
        );
    }
}
