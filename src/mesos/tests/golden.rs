//! Replays what a real Mesos 1.11.0 sent: every recorded message and reply must survive decoding and encoding.
//!
//! The recordings lie beside the repository; where they are absent these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that says when it skips")]

#[expect(dead_code, reason = "what is said is compared by those who say it")]
#[macro_use]
mod recorded;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesos::json::{self, Dialect, Json};
use mesos::libprocess::{Upid, outbound};
use mesos::recordio::Decoder;
use mesos::{internal, scheduler_v0, v1};
use prost::{Message, Name};
use serde_json::Value;

use recorded::directory as recordings;

/// Enough for any recorded record.
const RECORD_MAX: usize = 1 << 24;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn records(path: &Path) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(RECORD_MAX);
    decoder.push(&std::fs::read(path).unwrap());
    std::iter::from_fn(|| decoder.next().unwrap()).map(|record| record.to_vec()).collect()
}

/// Maps come in the original's hash order.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| {
                    let mut value = canonical(value);
                    if let ("guarantees" | "limits", Some(map)) = (&*name, value.as_object_mut()) {
                        map.sort_keys();
                    }
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(values) => values.into_iter().map(canonical).collect(),
        other => other,
    }
}

fn assert_json_survives<M: Json>(text: &[u8], dialect: Dialect, from: &str) {
    let message: M = json::from_slice(text, dialect).unwrap_or_else(|e| panic!("{from}: {e}"));
    let expected = canonical(serde_json::from_slice(text).unwrap());
    assert_eq!(
        json::to_string(&message, dialect),
        serde_json::to_string(&expected).unwrap(),
        "{from}"
    );
}

fn assert_bytes_survive<M: Message + Default + Json + std::fmt::Debug>(bytes: &[u8], from: &str) {
    let message = M::decode(bytes).unwrap_or_else(|error| panic!("{from}: {error}"));
    // prost leaves an empty value out of a map's entry, where protobuf writes its length: both mean the same.
    if !format!("{message:?}").contains("OfferFilters { min_allocatable_resources: None }") {
        assert_eq!(message.encode_to_vec(), bytes, "{from}: {message:?}");
    }
    for dialect in [Dialect::V0, Dialect::V1] {
        let text = json::to_string(&message, dialect);
        // Reading takes printed defaults for given values: the text is what must come back, not the message.
        let back: M =
            json::from_slice(text.as_bytes(), dialect).unwrap_or_else(|e| panic!("{from}: {e}"));
        assert_eq!(json::to_string(&back, dialect), text, "{from}");
    }
}

#[test]
fn messages_between_daemons_keep_their_bytes() {
    let mut count = 0;
    for file in ["ha.jsonl", "auth.jsonl"] {
        let Some(lines) = recorded::wire(file) else { return };
        for recorded::Line { head, header, body, .. } in lines {
            let frame = outbound::encode(&header.from, &header.to, &header.name, &body);
            let ours = String::from_utf8_lossy(&frame);
            let (ours, _) = ours.split_once("\r\n\r\n").unwrap();
            assert_eq!(ours.split("\r\n").collect::<Vec<_>>(), head, "{file}");
            check_named(&header.name, &body);
            count += 1;
        }
    }
    assert!(count > 190, "{count} messages only");
}

fn check_named(name: &str, body: &[u8]) {
    macro_rules! named {
        ($($type:ty),* $(,)?) => {$(
            if name == <$type as Name>::full_name() {
                return assert_bytes_survive::<$type>(body, name);
            }
        )*};
    }
    named!(
        internal::log::RecoverRequest,
        internal::log::RecoverResponse,
        internal::log::WriteRequest,
        internal::log::WriteResponse,
        internal::log::LearnedMessage,
        internal::log::PromiseRequest,
        internal::log::PromiseResponse,
    );
    messages!(named);
    panic!("no type for {name}");
}

#[test]
fn streamed_events_keep_their_text() {
    let Some(recordings) = recordings() else { return };
    let mut count = 0;
    for (check, files) in [
        (
            assert_json_survives::<v1::scheduler::Event> as fn(&[u8], Dialect, &str),
            &[
                "auth/scheduler-denied-task",
                "auth/subscribe-no-principal",
                "auth/subscribe-ok",
                "auth/subscribe-role-refused",
                "core/scheduler-events-json",
                "ha/scheduler-v1-on-leader",
                "partition/scheduler-aware",
                "tasks/scheduler-drain",
                "tasks/scheduler-filters",
                "tasks/scheduler-tasks",
            ][..],
        ),
        (
            assert_json_survives::<v1::master::Event>,
            &["core/operator-events-json", "partition/operator-events", "tasks/operator-events"],
        ),
        (
            assert_json_survives::<v1::executor::Event>,
            &[
                "core/executor-events-json",
                "tasks/executor-events-c-argv",
                "tasks/executor-events-c-fail",
                "tasks/executor-events-c-hold",
                "tasks/executor-events-c-ok",
            ],
        ),
    ] {
        for file in files {
            for (index, record) in
                records(&recordings.join(format!("{file}.recordio"))).iter().enumerate()
            {
                check(record, Dialect::V1, &format!("{file}[{index}]"));
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count} events only");
    for record in records(&recordings.join("core/scheduler-events-protobuf.recordio")) {
        assert_bytes_survive::<v1::scheduler::Event>(&record, "scheduler-events-protobuf");
    }
    for record in records(&recordings.join("core/operator-events-protobuf.recordio")) {
        assert_bytes_survive::<v1::master::Event>(&record, "operator-events-protobuf");
    }
}

fn body(recordings: &Path, set: &str, exchange: &Value) -> Vec<u8> {
    if let Some(text) = exchange["body"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(text) = exchange["body_base64"].as_str() {
        return STANDARD.decode(text).unwrap();
    }
    exchange["body_file"]
        .as_str()
        .map(|file| std::fs::read(recordings.join(set).join(file)).unwrap())
        .unwrap_or_default()
}

fn header<'a>(exchange: &'a Value, list: &str, name: &str) -> Option<&'a str> {
    exchange[list].as_array()?.iter().find(|pair| pair[0] == name)?[1].as_str()
}

#[test]
fn replies_of_the_operator_api_keep_their_text() {
    let Some(recordings) = recordings() else { return };
    let mut count = 0;
    for set in ["core", "tasks", "partition", "auth", "ha"] {
        for exchange in lines(&recordings.join(set).join("index.jsonl")) {
            let name = format!("{set}: {}", exchange["name"]);
            if exchange["path"] != "/api/v1"
                || exchange["status"] != "HTTP/1.1 200 OK"
                || header(&exchange, "headers", "Content-Encoding").is_some()
            {
                continue;
            }
            let body = body(&recordings, set, &exchange);
            let of_agent =
                exchange["name"].as_str().unwrap().split('/').any(|part| part == "agent");
            match header(&exchange, "headers", "Content-Type") {
                Some("application/json") => {
                    if of_agent {
                        assert_json_survives::<v1::agent::Response>(&body, Dialect::V1, &name);
                    } else {
                        assert_json_survives::<v1::master::Response>(&body, Dialect::V1, &name);
                    }
                }
                Some("application/x-protobuf") => {
                    if of_agent {
                        assert_bytes_survive::<v1::agent::Response>(&body, &name);
                    } else {
                        assert_bytes_survive::<v1::master::Response>(&body, &name);
                    }
                }
                _ => continue,
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count} replies only");
}

#[test]
fn bodies_that_are_no_calls_are_refused_in_the_same_words() {
    use mesos::content::ContentType;
    let Some(recordings) = recordings() else { return };
    let mut count = 0;
    for set in ["core", "tasks"] {
        for exchange in lines(&recordings.join(set).join("index.jsonl")) {
            let path = exchange["path"].as_str().unwrap();
            let (Some(request), Some(refusal)) =
                (exchange["request_body"].as_str(), exchange["body"].as_str())
            else {
                continue;
            };
            if !path.starts_with("/api/v1") || !refusal.starts_with("Failed to ") {
                continue;
            }
            let content = exchange["request_headers"]["Content-Type"].as_str().unwrap_or_default();
            let Some(content) = ContentType::parse(content) else { continue };
            let request = request.as_bytes();
            let error = match path {
                "/api/v1/scheduler" => content.decode::<v1::scheduler::Call>(request).err(),
                "/api/v1/executor" => content.decode::<v1::executor::Call>(request).err(),
                _ => content.decode::<v1::master::Call>(request).err(),
            };
            if refusal.starts_with("Failed to validate") {
                assert_eq!(error, None, "{path} {refusal}");
            } else if refusal != "Failed to parse body into a protobuf object" {
                assert_eq!(error.unwrap().to_string(), refusal, "{path}");
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count} refusals only");
}

#[test]
fn what_masters_write_to_zookeeper_is_read() {
    let Some(recordings) = recordings() else { return };
    let text = std::fs::read_to_string(recordings.join("ha/zookeeper-start.json")).unwrap();
    let nodes: Value = serde_json::from_str(&text).unwrap();
    let mut texts = Vec::new();
    collect(&nodes, &mut texts);
    let infos: Vec<v1::MasterInfo> = texts
        .iter()
        .filter(|text| text.starts_with('{'))
        .map(|text| json::from_slice(text.as_bytes(), Dialect::V0).unwrap())
        .collect();
    assert!(!infos.is_empty());
    for info in infos {
        let pid: Upid = info.pid().parse().unwrap();
        assert_eq!((pid.id.as_str(), u32::from(pid.address.port())), ("master", info.port));
    }
}

fn collect<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        Value::Object(members) => members.values().for_each(|value| collect(value, into)),
        _ => {}
    }
}
