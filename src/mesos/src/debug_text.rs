//! Protobuf's text form, as the original prints messages in errors and logs (`Message::DebugString`).

use std::fmt::Write as _;
use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| {
    DescriptorPool::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))[..]).ok()
});

/// A message's fields in order of their numbers, each on a line, what is nested indented by two. Names are v1's.
pub fn of<M: Message + Name>(message: &M) -> String {
    let mut text = String::new();
    // Each message was generated from what is in the pool, and is read as it was written.
    let found = POOL.as_ref().and_then(|pool| pool.get_message_by_name(&M::full_name()));
    let read = found.and_then(|of| DynamicMessage::decode(of, &message.encode_to_vec()[..]).ok());
    if let Some(message) = read {
        write_fields(&message, 0, &mut text);
    }
    text
}

fn write_fields(message: &DynamicMessage, indent: usize, text: &mut String) {
    let mut fields: Vec<(FieldDescriptor, &Value)> = message.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    for (field, value) in fields {
        let (name, kind) = (field.name(), field.kind());
        match value {
            Value::List(values) => {
                for value in values {
                    write_field(name, &kind, value, indent, text);
                }
            }
            Value::Map(entries) => {
                let Some(entry) = kind.as_message() else { continue };
                let (key_kind, value_kind) =
                    (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
                let mut entries: Vec<(Value, &Value)> =
                    entries.iter().map(|(key, value)| (value_of(key), value)).collect();
                entries.sort_by(|(one, _), (other, _)| one.as_str().cmp(&other.as_str()));
                for (key, value) in entries {
                    let _ = writeln!(text, "{:indent$}{name} {{", "");
                    write_field("key", &key_kind, &key, indent + 2, text);
                    write_field("value", &value_kind, value, indent + 2, text);
                    let _ = writeln!(text, "{:indent$}}}", "");
                }
            }
            value => write_field(name, &kind, value, indent, text),
        }
    }
}

fn value_of(key: &MapKey) -> Value {
    key.clone().into()
}

fn write_field(name: &str, kind: &Kind, value: &Value, indent: usize, text: &mut String) {
    if let Value::Message(nested) = value {
        let _ = writeln!(text, "{:indent$}{name} {{", "");
        write_fields(nested, indent + 2, text);
        let _ = writeln!(text, "{:indent$}}}", "");
        return;
    }
    let shown = match value {
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => double(f64::from(*value)),
        Value::F64(value) => double(*value),
        Value::String(value) => quoted(value.as_bytes()),
        Value::Bytes(value) => quoted(value),
        Value::EnumNumber(number) => {
            let known = kind.as_enum().and_then(|kind| kind.get_value(*number));
            known.map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        // There are no lists in lists.
        Value::Message(_) | Value::List(_) | Value::Map(_) => return,
    };
    let _ = writeln!(text, "{:indent$}{name}: {shown}", "");
}

/// As C prints it with `%g` and as many digits as it takes.
fn double(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    let magnitude = value.abs();
    if value.is_infinite() || magnitude == 0.0 || (1e-4..1e15).contains(&magnitude) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// As in C: what is not printable ASCII in octal, by bytes.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' | b'\'' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            0x20..=0x7e => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\{other:03o}");
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn messages_are_printed_as_protobuf_prints_them() {
        let scalar = |name: &str, value: f64| v1::Resource {
            name: name.into(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        };
        let executor = v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: "e \"ä\"\n".into() },
            command: Some(v1::CommandInfo {
                shell: Some(false),
                arguments: vec!["a".into(), "b".into()],
                ..Default::default()
            }),
            resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0), scalar("x", 1e20)],
            data: Some(vec![0, 255]),
            container: Some(v1::ContainerInfo::default()),
            ..Default::default()
        };
        let resource = |name: &str, value: &str| {
            format!(
                "resources {{\n  name: \"{name}\"\n  type: SCALAR\n  scalar {{\n    value: {value}\n  }}\n}}\n"
            )
        };
        let expected = [
            "executor_id {\n  value: \"e \\\"\\303\\244\\\"\\n\"\n}\ndata: \"\\000\\377\"\n",
            &resource("cpus", "0.1"),
            &resource("mem", "32"),
            &resource("x", "1e+20"),
            "command {\n  shell: false\n  arguments: \"a\"\n  arguments: \"b\"\n}\n",
        ];
        let text = of(&executor);
        assert!(text.starts_with(&expected.concat()), "{text}");
        assert!(text.contains("\ncontainer {\n"), "{text}");
    }

    #[test]
    fn maps_are_printed_entry_by_entry() {
        let limits = [("cpus".to_owned(), v1::value::Scalar { value: 1.5 })];
        let task = v1::TaskInfo { limits: limits.into(), ..Default::default() };
        let text = of(&task);
        assert!(
            text.contains("limits {\n  key: \"cpus\"\n  value {\n    value: 1.5\n  }\n}\n"),
            "{text}"
        );
    }
}
