//! The text forms of `--resources` and `--attributes` (Mesos' `v1/values.cpp`, `attributes.cpp`).

use super::Resources;
use crate::json::{self, Dialect};
use crate::v1;

/// Why a text is no list of resources or attributes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

fn error(text: impl Into<String>) -> ParseError {
    ParseError(text.into())
}

enum Parsed {
    Scalar(f64),
    Ranges(v1::value::Ranges),
    Set(Vec<String>),
    Text(String),
}

fn value(text: &str) -> Result<Parsed, ParseError> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let range = inner
            .split(',')
            .map(|part| {
                let (begin, end) = part.split_once('-').ok_or_else(|| {
                    error(format!("Expecting one or more \"ranges\" in '{text}'"))
                })?;
                let number = |text: &str| {
                    text.trim()
                        .parse::<u64>()
                        .map_err(|_| error(format!("Invalid number '{text}' in a range")))
                };
                Ok(v1::value::Range { begin: number(begin)?, end: number(end)? })
            })
            .collect::<Result<Vec<_>, ParseError>>()?;
        if range.iter().any(|range| range.begin > range.end) {
            return Err(error(format!("A range in '{text}' ends before it begins")));
        }
        return Ok(Parsed::Ranges(v1::value::Ranges { range }));
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return Ok(Parsed::Set(
            inner
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        ));
    }
    if text.contains(['[', ']', '{', '}']) {
        return Err(error(format!("Unexpected '[' or '{{' in '{text}'")));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Parsed::Scalar(number)),
        _ => Ok(Parsed::Text(text.to_owned())),
    }
}

pub(super) fn parse_resources(text: &str, default_role: &str) -> Result<Resources, ParseError> {
    let text = text.trim();
    if text.starts_with('[') {
        let values: Vec<serde_json::Value> = serde_json::from_str(text)
            .map_err(|reason| error(format!("not a JSON array of resources: {reason}")))?;
        let mut resources = Vec::with_capacity(values.len());
        for value in &values {
            let mut resource: v1::Resource =
                json::from_value(value, Dialect::V0).map_err(|reason| error(reason.to_string()))?;
            if resource.role.is_none() && resource.reservations.is_empty() && default_role != "*" {
                resource.role = Some(default_role.to_owned());
            }
            resources.push(resource);
        }
        Resources::validate(&resources).map_err(error)?;
        return Ok(Resources::from_protos(&resources));
    }
    let mut resources = Vec::new();
    for part in text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (head, body) = part.split_once(':').ok_or_else(|| {
            error(format!("Bad value for resources, missing or extra ':' in {part}"))
        })?;
        let (name, role) = match head.split_once('(') {
            None => (head.trim(), default_role),
            Some((name, role)) => {
                let role = role.trim_end().strip_suffix(')').ok_or_else(|| {
                    error(format!("Bad value for resources, mismatched parentheses in {part}"))
                })?;
                (name.trim(), role.trim())
            }
        };
        if name.is_empty() {
            return Err(error(format!("Bad value for resources, no name in {part}")));
        }
        let mut resource = v1::Resource {
            name: name.to_owned(),
            role: Some(role.to_owned()),
            ..Default::default()
        };
        match value(body)? {
            Parsed::Scalar(number) if number >= 0.0 => {
                resource.r#type = v1::value::Type::Scalar as i32;
                resource.scalar = Some(v1::value::Scalar { value: number });
            }
            Parsed::Ranges(ranges) => {
                resource.r#type = v1::value::Type::Ranges as i32;
                resource.ranges = Some(ranges);
            }
            Parsed::Set(item) => {
                resource.r#type = v1::value::Type::Set as i32;
                resource.set = Some(v1::value::Set { item });
            }
            Parsed::Scalar(_) | Parsed::Text(_) => {
                return Err(error(format!("Bad type for resource {name} value {}", body.trim())));
            }
        }
        resources.push(resource);
    }
    Ok(Resources::from_protos(&resources))
}

/// Reads `rack:2;u:[1-5];zone:a`: a scalar if it is a number, ranges in brackets, else text.
///
/// # Errors
/// When a part has no `:` or an unreadable value.
pub fn parse_attributes(text: &str) -> Result<Vec<v1::Attribute>, ParseError> {
    let mut attributes = Vec::new();
    for part in text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (name, body) = part
            .split_once(':')
            .filter(|(name, body)| !name.trim().is_empty() && !body.trim().is_empty())
            .ok_or_else(|| error(format!("Invalid attribute key:value pair '{part}'")))?;
        let mut attribute = v1::Attribute { name: name.trim().to_owned(), ..Default::default() };
        match value(body)? {
            Parsed::Scalar(value) => {
                attribute.r#type = v1::value::Type::Scalar as i32;
                attribute.scalar = Some(v1::value::Scalar { value });
            }
            Parsed::Ranges(ranges) => {
                attribute.r#type = v1::value::Type::Ranges as i32;
                attribute.ranges = Some(ranges);
            }
            Parsed::Set(item) => {
                attribute.r#type = v1::value::Type::Set as i32;
                attribute.set = Some(v1::value::Set { item });
            }
            Parsed::Text(value) => {
                attribute.r#type = v1::value::Type::Text as i32;
                attribute.text = Some(v1::value::Text { value });
            }
        }
        attributes.push(attribute);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_text_forms_give_the_same() {
        let text = parse_resources(
            "cpus:4;mem(role):1024;ports(*):[21000-24000,30000-34000];bugs:{a,b}",
            "*",
        )
        .unwrap();
        assert_eq!((text.cpus(), text.mem(), text.ports().count()), (4.0, 1024.0, 7002));
        let json =
            parse_resources(r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":4}}]"#, "*")
                .unwrap();
        assert_eq!(json.cpus(), 4.0);
        assert_eq!(parse_resources("cpus:1", "prod").unwrap().reservations()["prod"].cpus(), 1.0);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["cpus", "cpus:x", "ports:[1]", "ports:[2-1]", "cpus(role:1", ":1", "[{]", "cpus:-1"]
        {
            assert!(parse_resources(text, "*").is_err(), "{text}");
        }
        for text in ["rack", "rack:", ":2", "u:[1"] {
            assert!(parse_attributes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn attributes_take_the_kind_that_their_text_has() {
        use v1::value::Type;
        let kinds: Vec<i32> = parse_attributes("rack:2;u:[1-5];zone:a b")
            .unwrap()
            .iter()
            .map(|attribute| attribute.r#type)
            .collect();
        assert_eq!(kinds, [Type::Scalar as i32, Type::Ranges as i32, Type::Text as i32]);
    }
}
