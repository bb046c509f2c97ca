//! The account of a recording's replay: what was the same, what may differ and why, what is wrong.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Exchange, Mode, Reply, differences, unlike};

/// What need not be as recorded, each with its reason. The list can only shrink: what is listed and matches is wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// Reasons, each with the exchanges that differ for it.
    pub exchanges: &'static [(&'static str, &'static [&'static str])],
    /// Parts of the text of single differences, which many exchanges show, each with its reason.
    pub differences: &'static [(&'static str, &'static str)],
    /// Reasons, each with the exchanges of which nothing can be said; `*` at a name's end or beginning stands for anything.
    pub incomparable: &'static [(&'static str, &'static [&'static str])],
}

impl Allowed {
    fn differs(&self, name: &str) -> bool {
        self.exchanges.iter().any(|(_, names)| names.contains(&name))
    }

    fn is_incomparable(&self, name: &str) -> bool {
        let fits = |pattern: &&str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (_, Some(beginning)) => name.starts_with(beginning),
            _ => name == *pattern,
        };
        self.incomparable.iter().any(|(_, names)| names.iter().any(fits))
    }

    fn retain_wrong(&self, found: &mut Vec<String>) {
        found.retain(|text| !self.differences.iter().any(|(part, _)| text.contains(part)));
    }
}

/// The account of one recording, or of a part of it.
#[derive(Debug)]
pub struct Tally {
    recording: &'static str,
    allowed: Allowed,
    seen: BTreeSet<String>,
    same: usize,
    differing: usize,
    incomparable: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// An account of nothing yet.
    #[must_use]
    pub fn new(recording: &'static str, allowed: Allowed) -> Self {
        Self {
            recording,
            allowed,
            seen: BTreeSet::new(),
            same: 0,
            differing: 0,
            incomparable: 0,
            wrong: Vec::new(),
        }
    }

    /// Whether nothing can be said of an exchange: it needs no replay, and is counted as such.
    pub fn passes_over(&mut self, exchange: &Exchange) -> bool {
        let passes = self.allowed.is_incomparable(&exchange.name);
        self.incomparable += usize::from(passes);
        passes
    }

    /// Counts the reply to an exchange.
    pub fn reply(&mut self, exchange: &Exchange, ours: Option<&Reply>, mode: Mode) {
        self.found(&exchange.name, differences(exchange.reply.as_ref(), ours, mode));
    }

    /// Counts an exchange that was looked at otherwise, with what was found to differ.
    pub fn found(&mut self, name: &str, mut differing: Vec<String>) {
        self.allowed.retain_wrong(&mut differing);
        self.seen.insert(name.to_owned());
        match (differing.is_empty(), self.allowed.differs(name)) {
            (true, false) => self.same += 1,
            (false, true) => self.differing += 1,
            (true, true) => self.wrong.push(format!("{name}: matches now, take it off the list")),
            (false, false) => self.wrong.push(format!("{name}: {}", differing.join("; "))),
        }
    }

    /// Compares events of ours with those of a recorded stream: each must look like one, and all kinds must come.
    pub fn events(&mut self, recorded: &[Value], ours: impl IntoIterator<Item = Value>) {
        let kind = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
        let mut kinds = BTreeSet::new();
        for event in ours {
            kinds.insert(kind(&event));
            let mut differing = unlike(recorded, &event);
            self.allowed.retain_wrong(&mut differing);
            if !differing.is_empty() {
                self.wrong.push(format!("event {}: {}", event["type"], differing.join("; ")));
            }
        }
        let expected: BTreeSet<String> = recorded.iter().map(kind).collect();
        if kinds != expected {
            let mut differing = vec![format!("events heard: {kinds:?}, recorded: {expected:?}")];
            self.allowed.retain_wrong(&mut differing);
            self.wrong.extend(differing);
        }
    }

    /// Prints the counts.
    ///
    /// # Panics
    /// When something is wrong.
    #[expect(clippy::print_stderr, reason = "the counts are for the person who runs the tests")]
    pub fn finish(mut self) {
        for name in self.allowed.exchanges.iter().flat_map(|(_, names)| names.iter()) {
            if !self.seen.contains(*name) {
                self.wrong.push(format!("{name}: listed, but there is no such exchange"));
            }
        }
        eprintln!(
            "{}: {} replayed, {} the same, {} differ for a listed reason, {} incomparable, {} wrong",
            self.recording,
            self.seen.len(),
            self.same,
            self.differing,
            self.incomparable,
            self.wrong.len()
        );
        assert!(self.wrong.is_empty(), "{}:\n{}", self.recording, self.wrong.join("\n"));
    }
}
