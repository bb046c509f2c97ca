//! The text forms of `--resources` and `--attributes` (Mesos' `v1/values.cpp`, `attributes.cpp`).

use super::{Ranges, Resources, validate};
use crate::json::{self, Dialect};
use crate::{roles, v1};

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

impl Parsed {
    fn kind(&self) -> v1::value::Type {
        use v1::value::Type;
        match self {
            Self::Scalar(_) => Type::Scalar,
            Self::Ranges(_) => Type::Ranges,
            Self::Set(_) => Type::Set,
            Self::Text(_) => Type::Text,
        }
    }
}

fn value(text: &str) -> Result<Parsed, String> {
    let text = text.trim();
    let within = |open, close| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(inner) = within('[', ']') {
        let number = |text: &str| {
            let text = text.trim();
            text.parse::<u64>().map_err(|_| format!("Failed to convert '{text}' to number"))
        };
        let range = inner
            .split(',')
            .filter(|_| !inner.trim().is_empty())
            .map(|part| {
                let (begin, end) =
                    part.split_once('-').ok_or("Expecting one or more \"ranges\"")?;
                Ok(v1::value::Range { begin: number(begin)?, end: number(end)? })
            })
            .collect::<Result<Vec<_>, String>>()?;
        return Ok(Parsed::Ranges(v1::value::Ranges { range }));
    }
    if let Some(inner) = within('{', '}') {
        let items = inner.split(',').map(|item| item.trim().to_owned());
        return Ok(Parsed::Set(items.filter(|item| !item.is_empty()).collect()));
    }
    if text.contains(['[', ']', '{', '}']) {
        return Err("Mismatched brackets".to_owned());
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_sign_negative() => {
            Err(format!("Invalid scalar value '{text}':Negative values not supported"))
        }
        Ok(number) if number.is_finite() => Ok(Parsed::Scalar(number)),
        _ => Ok(Parsed::Text(text.to_owned())),
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty())
}

pub(super) fn parse_resources(text: &str, default_role: &str) -> Result<Resources, ParseError> {
    let text = text.trim();
    let resources = if text.starts_with('[') {
        json_resources(text, default_role)?
    } else {
        parts(text).map(|part| text_resource(part, default_role)).collect::<Result<Vec<_>, _>>()?
    };
    for resource in &resources {
        validate::check(resource).map_err(ParseError)?;
    }
    Ok(Resources::from_protos(&resources))
}

fn json_resources(text: &str, default_role: &str) -> Result<Vec<v1::Resource>, ParseError> {
    let value = json::parse(text.as_bytes()).map_err(|reason| error(reason.to_string()))?;
    let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |value| {
        let mut resource: v1::Resource =
            json::from_value(value, Dialect::V0).map_err(|reason| {
                error(format!("Some JSON resources were not formatted properly: {reason}"))
            })?;
        if resource.role.is_none()
            && resource.reservations.is_empty()
            && default_role != roles::DEFAULT
        {
            resource.role = Some(default_role.to_owned());
        }
        Ok(resource)
    };
    values.iter().map(read).collect()
}

/// One of `cpus:4`, `mem(role):1024`, `ports:[21000-24000,30000-34000]`, `bugs:{a,b}`.
fn text_resource(part: &str, default_role: &str) -> Result<v1::Resource, ParseError> {
    let (head, body) = part
        .split_once(':')
        .filter(|(head, body)| !head.is_empty() && !body.is_empty() && !body.contains(':'))
        .ok_or_else(|| error(format!("Bad value for resources, missing or extra ':' in {part}")))?;
    let mismatched = || error(format!("Bad value for resources, mismatched parentheses in {part}"));
    let (name, role) = match head.split_once('(') {
        None if head.contains(')') => return Err(mismatched()),
        None => (head.trim(), default_role),
        Some((name, role)) => {
            let role = role.trim_end().strip_suffix(')').ok_or_else(mismatched)?;
            if name.contains(')') || role.contains(['(', ')']) {
                return Err(mismatched());
            }
            (name.trim(), role.trim())
        }
    };
    let body = body.trim();
    let value = value(body).map_err(|reason| {
        error(format!("Failed to parse resource {name} value {body} error {reason}"))
    })?;
    let mut resource = v1::Resource {
        name: name.to_owned(),
        role: Some(role.to_owned()),
        r#type: value.kind() as i32,
        ..Default::default()
    };
    match value {
        Parsed::Scalar(value) => resource.scalar = Some(v1::value::Scalar { value }),
        Parsed::Ranges(ranges) => {
            validate::check_order(&ranges.range).map_err(ParseError)?;
            // Ranges that overlap are joined here, while in messages they are refused.
            resource.ranges = Some(Ranges::from_proto(&ranges).to_proto());
        }
        Parsed::Set(item) => resource.set = Some(v1::value::Set { item }),
        Parsed::Text(_) => {
            return Err(error(format!("Bad type for resource {name} value {body} type TEXT")));
        }
    }
    Ok(resource)
}

/// Reads `rack:2;u:[1-5];zone:a`: a scalar if it is a number, ranges in brackets, else text.
///
/// # Errors
/// When a part has no `:` or an unreadable value; sets can't be attributes.
pub fn parse_attributes(text: &str) -> Result<Vec<v1::Attribute>, ParseError> {
    parts(text).map(text_attribute).collect()
}

fn text_attribute(part: &str) -> Result<v1::Attribute, ParseError> {
    let (name, body) = part
        .split_once(':')
        .map(|(name, body)| (name.trim(), body.trim()))
        .filter(|(name, body)| !name.is_empty() && !body.is_empty())
        .ok_or_else(|| error(format!("Invalid attribute key:value pair '{part}'")))?;
    let value = value(body).map_err(|reason| {
        error(format!("Failed to parse attribute {name} text {body} error {reason}"))
    })?;
    let mut attribute =
        v1::Attribute { name: name.to_owned(), r#type: value.kind() as i32, ..Default::default() };
    match value {
        Parsed::Scalar(value) => attribute.scalar = Some(v1::value::Scalar { value }),
        Parsed::Ranges(ranges) => {
            validate::check_order(&ranges.range).map_err(ParseError)?;
            attribute.ranges = Some(ranges);
        }
        Parsed::Text(value) => attribute.text = Some(v1::value::Text { value }),
        Parsed::Set(_) => {
            let kind = v1::value::Type::Set as i32;
            return Err(error(format!("Bad type for attribute {name} text {body} type {kind}")));
        }
    }
    Ok(attribute)
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
        for text in ["cpus:1", r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]"#] {
            assert_eq!(parse_resources(text, "prod").unwrap().reservations()["prod"].cpus(), 1.0);
        }
        let joined = parse_resources("cpus( r ):1;cpus:2;cpus:1;ports:[1-2,2-3];bugs:{}", "*");
        assert_eq!(
            joined.unwrap().to_string(),
            "cpus(reservations: [(STATIC,r)]):1; cpus:3; ports:[1-3]"
        );
    }

    #[test]
    fn none_of_something_is_nothing() {
        let none = parse_resources("cpus:1;ports:[]", "*").unwrap();
        assert_eq!(none.to_string(), "cpus:1");
    }

    /// Each asked of the original, as `--resources` of an agent.
    #[test]
    fn nonsense_is_refused_in_the_original_s_words() {
        for (text, reason) in [
            ("cpus", "Bad value for resources, missing or extra ':' in cpus"),
            (":1", "Bad value for resources, missing or extra ':' in :1"),
            ("cpus:", "Bad value for resources, missing or extra ':' in cpus:"),
            ("cpus:1:2", "Bad value for resources, missing or extra ':' in cpus:1:2"),
            ("cpus(role:1", "Bad value for resources, mismatched parentheses in cpus(role:1"),
            ("cpus)r(:1", "Bad value for resources, mismatched parentheses in cpus)r(:1"),
            ("cpus:x", "Bad type for resource cpus value x type TEXT"),
            ("cpus:1MB", "Bad type for resource cpus value 1MB type TEXT"),
            (
                "cpus:-1",
                "Failed to parse resource cpus value -1 error Invalid scalar value '-1':Negative values not supported",
            ),
            ("cpus:{a", "Failed to parse resource cpus value {a error Mismatched brackets"),
            ("ports:[1-2", "Failed to parse resource ports value [1-2 error Mismatched brackets"),
            (
                "ports:[1]",
                "Failed to parse resource ports value [1] error Expecting one or more \"ranges\"",
            ),
            ("ports:[2-1]", "Invalid ranges resource: begin > end"),
            ("bugs:{b,a,b}", "Invalid set resource: duplicated elements"),
            ("cpus(/a):1", "Role '/a' cannot start with a slash"),
            (
                r#"[{"name":"cpus"}]"#,
                "Some JSON resources were not formatted properly: Missing required fields: type",
            ),
            ("[1]", "Some JSON resources were not formatted properly: Expecting a JSON object"),
            ("[{]", "syntax error at line 1 near: ]"),
        ] {
            assert_eq!(parse_resources(text, "*").unwrap_err().to_string(), reason, "{text}");
        }
        for (text, reason) in [
            ("rack", "Invalid attribute key:value pair 'rack'"),
            ("rack:", "Invalid attribute key:value pair 'rack:'"),
            (":2", "Invalid attribute key:value pair ':2'"),
            ("u:[1", "Failed to parse attribute u text [1 error Mismatched brackets"),
            ("s:{x,y}", "Bad type for attribute s text {x,y} type 2"),
            (
                "a:-1",
                "Failed to parse attribute a text -1 error Invalid scalar value '-1':Negative values not supported",
            ),
        ] {
            assert_eq!(parse_attributes(text).unwrap_err().to_string(), reason, "{text}");
        }
    }

    #[test]
    fn attributes_take_the_kind_that_their_text_has() {
        use v1::value::Type;
        let attributes = parse_attributes("rack:2;u:[1-5];zone:a b;x:b:c;y:0x10;;z:1e3").unwrap();
        let kinds: Vec<i32> = attributes.iter().map(|attribute| attribute.r#type).collect();
        let (scalar, text) = (Type::Scalar as i32, Type::Text as i32);
        assert_eq!(kinds, [scalar, Type::Ranges as i32, text, text, text, scalar]);
        assert_eq!(attributes[3].text.as_ref().unwrap().value, "b:c");
    }
}
