//! The recorded wire between daemons (`mesos-golden/wire`), for the tests of all who speak it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesos::json::{self, Dialect};
use mesos::libprocess::inbound::{self, Header};
use mesos::{internal, scheduler_v0};
use prost::{Message, Name};
use serde_json::Value;

/// One recorded message.
pub(super) struct Line {
    /// Seconds since the recording began.
    pub(super) time: f64,
    /// Port of the process that it is for.
    pub(super) to: u16,
    /// The lines of its head.
    pub(super) head: Vec<String>,
    /// What the head says.
    pub(super) header: Header,
    /// Its body.
    pub(super) body: Vec<u8>,
}

/// Where the recordings are; says so if they are not there.
pub(super) fn directory() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/mesos-golden");
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no recordings at {}", path.display());
    None
}

/// The messages of one recording, in order of time.
pub(super) fn wire(name: &str) -> Option<Vec<Line>> {
    let text = std::fs::read_to_string(directory()?.join("wire").join(name)).unwrap();
    Some(text.lines().map(line).collect())
}

fn line(line: &str) -> Line {
    let line: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let head: Vec<String> = line["head"].as_array().unwrap().iter().map(text).collect();
    let mut request = head[0].split(' ');
    let method: http::Method = request.next().unwrap().parse().unwrap();
    let path = request.next().unwrap();
    let fields = head[1..].iter().filter_map(|line| line.split_once(": "));
    let headers: http::HeaderMap = fields
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    let header = inbound::classify(&method, path, &headers).unwrap();
    Line {
        time: line["t"].as_f64().unwrap(),
        to: line["to"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap(),
        header,
        body: STANDARD.decode(line["body_base64"].as_str().unwrap()).unwrap(),
        head,
    }
}

/// Calls a macro with the types of all messages between agents, masters and drivers that were recorded.
macro_rules! messages {
    ($called:ident) => {
        $called!(
            scheduler_v0::Call,
            internal::StatusUpdateMessage,
            internal::ResourceOffersMessage,
            internal::StatusUpdateAcknowledgementMessage,
            internal::PingSlaveMessage,
            internal::PongSlaveMessage,
            internal::ShutdownFrameworkMessage,
            internal::RegisterSlaveMessage,
            internal::UpdateSlaveMessage,
            internal::UpdateFrameworkMessage,
            internal::AuthenticationStepMessage,
            internal::FrameworkRegisteredMessage,
            internal::RunTaskMessage,
            internal::SlaveRegisteredMessage,
            internal::ReregisterSlaveMessage,
            internal::SlaveReregisteredMessage,
            internal::AuthenticateMessage,
            internal::AuthenticationMechanismsMessage,
            internal::AuthenticationStartMessage,
            internal::AuthenticationCompletedMessage,
            internal::UnregisterSlaveMessage,
        );
    };
}

/// What a message between agents, masters and drivers says, as JSON. Repeated fields that the original takes out of
/// hash tables are sorted.
pub(super) fn told(name: &str, body: &[u8]) -> Value {
    macro_rules! named {
        ($($type:ty),* $(,)?) => {$(
            if name == <$type as Name>::full_name() {
                let message = <$type>::decode(body).unwrap();
                let told = json::to_string(&message, Dialect::V0);
                return sorted(serde_json::from_str(&told).unwrap());
            }
        )*};
    }
    messages!(named);
    panic!("no type for {name}");
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let of = |(name, value): (String, Value)| {
                let mut value = sorted(value);
                let is_hashed = matches!(name.as_str(), "resources" | "tasks" | "frameworks");
                if let (true, Some(list)) = (is_hashed, value.as_array_mut()) {
                    list.sort_by_key(|one| one["name"].to_string());
                }
                (name, value)
            };
            Value::Object(members.into_iter().map(of).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Puts the same word for each value that belongs to one run; equal ones become equal words, in order of appearance.
#[derive(Default)]
pub(super) struct Words(Vec<(String, String)>);

impl Words {
    /// The word for a value of this kind.
    pub(super) fn word(&mut self, kind: &str, value: &str) -> String {
        if let Some((_, word)) = self.0.iter().find(|(known, _)| known == value) {
            return word.clone();
        }
        let count = self.0.iter().filter(|(_, word)| word.starts_with(kind)).count();
        self.0.push((value.to_owned(), format!("{kind} {count}")));
        format!("{kind} {count}")
    }
}

/// Changes each text of a message with the names of the members that lead to it, the last one last.
pub(super) fn each_text(
    value: &mut Value,
    path: &mut Vec<String>,
    change: &mut dyn FnMut(&[String], &mut String),
) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                path.push(name.clone());
                each_text(value, path, change);
                path.pop();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| each_text(value, path, change)),
        Value::String(text) => change(path, text),
        _ => {}
    }
}

/// Compares what was told to each peer, message by message.
///
/// # Panics
/// When something differs.
pub(super) fn assert_same(whom: &str, recorded: &[(String, Value)], ours: &[(String, Value)]) {
    let names =
        |all: &[(String, Value)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(recorded), names(ours), "{whom}");
    let mut found = Vec::new();
    for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
        differences(&format!("{index}, {}: ", recorded.0), &recorded.1, &ours.1, &mut found);
    }
    assert!(found.is_empty(), "{whom}:\n{}", found.join("\n"));
}

fn differences(at: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for name in
                recorded.keys().chain(ours.keys().filter(|own| !recorded.contains_key(*own)))
            {
                let of = |members: &serde_json::Map<String, Value>| members.get(name).cloned();
                let (recorded, ours) = (of(recorded), of(ours));
                let or_null = |value: Option<Value>| value.unwrap_or_default();
                differences(&format!("{at}.{name}"), &or_null(recorded), &or_null(ours), found);
            }
        }
        (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
            for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                differences(&format!("{at}[{index}]"), recorded, ours, found);
            }
        }
        _ if recorded != ours => found.push(format!("{at}: recorded {recorded}, ours {ours}")),
        _ => {}
    }
}
