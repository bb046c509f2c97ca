//! What differs between a recorded reply and ours.

use serde_json::Value;

use super::Reply;

/// How bodies are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Members, their order, types and values, save for [`VOLATILE`] ones.
    Values,
    /// Members, their order and types; an element of ours must look like some recorded one.
    Shape,
    /// Only the names of members, in any order: for `/metrics/snapshot`.
    Names,
}

/// Members whose values belong to one run, or to one build.
pub const VOLATILE: &[&str] = &[
    "start_time",
    "elected_time",
    "registered_time",
    "reregistered_time",
    "unregistered_time",
    "timestamp",
    "estimated_drain_start_time_seconds",
    "nanoseconds",
    "build_user",
    "avg_load_1min",
    "avg_load_5min",
    "avg_load_15min",
    "cpus_total",
    "mem_total_bytes",
    "mem_free_bytes",
    "work_dir",
    "webui_dir",
    "executor_pid",
];

/// Members that only the original's build has.
pub const BUILD: &[&str] = &["git_sha", "git_tag", "git_branch"];

const HEADERS: &[&str] = &[
    "Content-Type",
    "Location",
    "Allow",
    "Content-Encoding",
    "Content-Disposition",
    "WWW-Authenticate",
];

/// What differs between a recorded reply and ours; nothing when they match.
#[must_use]
pub fn differences(recorded: Option<&Reply>, ours: Option<&Reply>, mode: Mode) -> Vec<String> {
    let (recorded, ours) = match (recorded, ours) {
        (Some(recorded), Some(ours)) => (recorded, ours),
        (None, None) => return Vec::new(),
        (recorded, ours) => {
            return vec![format!(
                "ended: recorded {}, ours {}",
                recorded.is_some(),
                ours.is_some()
            )];
        }
    };
    let mut found = Vec::new();
    if recorded.status != ours.status {
        found.push(format!("status: recorded {}, ours {}", recorded.status, ours.status));
    }
    for name in HEADERS {
        let (recorded, ours) = (recorded.header(name), ours.header(name));
        if recorded != ours {
            found.push(format!("{name}: recorded {recorded:?}, ours {ours:?}"));
        }
    }
    if recorded.header("Content-Encoding").is_some() {
        return found;
    }
    let ends = |body: &[u8]| (body.first().copied(), body.last().copied());
    match (json(&recorded.body), json(&ours.body)) {
        (Some(_), Some(_)) if ends(&recorded.body) != ends(&ours.body) => {
            found.push("body: another beginning or end".to_owned());
        }
        (Some(recorded), Some(ours)) => compare("", &recorded, &ours, mode, &mut found),
        // Protobuf says what JSON says; that it is the same is seen there.
        _ if recorded.header("Content-Type") == Some("application/x-protobuf")
            && !ours.body.is_empty() => {}
        _ if recorded.body != ours.body => found.push(format!(
            "body: recorded {:?}, ours {:?}",
            String::from_utf8_lossy(&recorded.body),
            String::from_utf8_lossy(&ours.body)
        )),
        _ => {}
    }
    found
}

/// What keeps an event of ours from looking like any that was recorded; nothing when it looks like one.
#[must_use]
pub fn unlike(recorded: &[Value], ours: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let alike: Vec<Value> =
        recorded.iter().filter(|event| event["type"] == ours["type"]).cloned().collect();
    if alike.is_empty() {
        return vec![format!("there is no {} in the recording", ours["type"])];
    }
    compare_arrays("", &alike, std::slice::from_ref(ours), Mode::Shape, &mut found);
    found
}

/// JSON, also inside of a callback.
fn json(body: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(body).ok()?;
    let inner = text
        .split_once('(')
        .filter(|(name, _)| !name.is_empty() && name.chars().all(char::is_alphanumeric))
        .map_or(text, |(_, rest)| rest.trim_end_matches(';').trim_end_matches(')'));
    serde_json::from_str(inner).ok().filter(|value: &Value| value.is_object() || value.is_array())
}

fn compare(at: &str, recorded: &Value, ours: &Value, mode: Mode, found: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            let keys = |object: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> =
                    object.keys().filter(|key| !BUILD.contains(&key.as_str())).cloned().collect();
                if mode == Mode::Names {
                    keys.sort();
                }
                keys
            };
            let (wanted, have) = (keys(recorded), keys(ours));
            if wanted != have {
                let missing: Vec<&String> =
                    wanted.iter().filter(|key| !have.contains(key)).collect();
                let ours_only: Vec<&String> =
                    have.iter().filter(|key| !wanted.contains(key)).collect();
                found.push(if missing.is_empty() && ours_only.is_empty() {
                    format!("{at}: order of members: recorded {wanted:?}, ours {have:?}")
                } else {
                    format!("{at}: members missing {missing:?}, of ours only {ours_only:?}")
                });
            }
            for (key, value) in recorded {
                let Some(own) = ours.get(key) else { continue };
                let below = format!("{at}.{key}");
                if VOLATILE.contains(&key.as_str()) || mode == Mode::Names {
                    compare(&below, value, own, Mode::Shape, found);
                } else {
                    compare(&below, value, own, mode, found);
                }
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            compare_arrays(at, recorded, ours, mode, found);
        }
        (Value::Number(wanted), Value::Number(have)) if wanted.is_f64() != have.is_f64() => {
            found.push(format!("{at}: recorded {wanted}, ours {have}"));
        }
        (wanted, have) if std::mem::discriminant(wanted) != std::mem::discriminant(have) => {
            found.push(format!("{at}: recorded {wanted}, ours {have}"));
        }
        (wanted, have) if mode == Mode::Values && wanted != have => {
            found.push(format!("{at}: recorded {wanted}, ours {have}"));
        }
        _ => {}
    }
}

/// The original keeps most things in hash maps: elements match in any order.
fn compare_arrays(
    at: &str,
    recorded: &[Value],
    ours: &[Value],
    mode: Mode,
    found: &mut Vec<String>,
) {
    if mode == Mode::Values && recorded.len() != ours.len() {
        found.push(format!("{at}: {} recorded, {} of ours", recorded.len(), ours.len()));
    }
    for (index, own) in ours.iter().enumerate() {
        let mut least: Option<Vec<String>> = None;
        for wanted in recorded {
            let mut differing = Vec::new();
            compare(&format!("{at}[{index}]"), wanted, own, mode, &mut differing);
            if least.as_ref().is_none_or(|least| differing.len() < least.len()) {
                least = Some(differing);
            }
        }
        found.extend(least.into_iter().flatten());
    }
}
