//! What may differ between an agent and the one before (`--reconfiguration_policy`; the original's
//! `slave/compatibility.cpp`).

use mesos::json::{self, Dialect};
use mesos::resources::{self, Ranges, Resources};
use mesos::v1::{self, value::Type};

/// What may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconfiguration {
    /// Nothing.
    Equal,
    /// There may be more of everything.
    Additive,
}

/// Whether an agent that was `old` may go on as `new`: what differs, if anything.
pub fn incompatibility(
    policy: Reconfiguration,
    old: &v1::AgentInfo,
    new: &v1::AgentInfo,
) -> Option<String> {
    match policy {
        Reconfiguration::Equal => {
            let found = differences(old, new);
            (!found.is_empty())
                .then(|| format!("Incompatible agent info detected: {}", found.join("; ")))
        }
        Reconfiguration::Additive => additive(old, new).map(|difference| {
            format!("Configuration change not permitted under `additive` policy: {difference}")
        }),
    }
}

fn differences(old: &v1::AgentInfo, new: &v1::AgentInfo) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, had: String, has: String| {
        if had != has {
            found.push(format!("{what} changed from {had} to {has}"));
        }
    };
    compare("hostname", format!("'{}'", old.hostname), format!("'{}'", new.hostname));
    compare("port", old.port().to_string(), new.port().to_string());
    let (had, has) =
        (Resources::from_protos(&old.resources), Resources::from_protos(&new.resources));
    if !(had.contains(&has) && has.contains(&had)) {
        compare("resources", format!("'{had}'"), format!("'{has}'"));
    }
    let attributes = |info: &v1::AgentInfo| {
        let mut all: Vec<String> =
            info.attributes.iter().map(|own| format!("{}:{}", own.name, value(own))).collect();
        all.sort();
        format!("'{}'", all.join(";"))
    };
    compare("attributes", attributes(old), attributes(new));
    compare("domain", domain(old), domain(new));
    found
}

fn additive(old: &v1::AgentInfo, new: &v1::AgentInfo) -> Option<String> {
    if old.hostname != new.hostname {
        return Some(format!("Hostname changed from {} to {}", old.hostname, new.hostname));
    }
    if old.port() != new.port() {
        return Some(format!("Port changed from {} to {}", old.port(), new.port()));
    }
    if old.domain.is_some() && domain(old) != domain(new) {
        return Some(format!("Domain changed from {} to {}", domain(old), domain(new)));
    }
    let has = Resources::from_protos(&new.resources);
    let lost = Resources::from_protos(&old.resources)
        .to_protos()
        .into_iter()
        .find(|own| !has.contains(&Resources::from_protos(std::slice::from_ref(own))));
    if let Some(lost) = lost {
        return Some(less(&lost, &has));
    }
    old.attributes.iter().find_map(|own| attribute(own, &new.attributes))
}

/// What is less of a resource than there was.
fn less(had: &v1::Resource, has: &Resources) -> String {
    let is_alike = |own: &v1::Resource| {
        let plain = |own: &v1::Resource| v1::Resource {
            scalar: None,
            ranges: None,
            set: None,
            ..own.clone()
        };
        plain(own) == plain(had)
    };
    let Some(has) = has.to_protos().into_iter().find(is_alike) else {
        return format!("Resource not found: {}", resources::describe(had));
    };
    let value = |own: &v1::Resource| {
        let text = resources::describe(own);
        text.rsplit_once(':').map_or(text.clone(), |(_, value)| value.to_owned())
    };
    let (name, had, now) = (&had.name, value(had), value(&has));
    match has.r#type() {
        Type::Ranges => format!(
            "Previous value of range resource '{name}' ({had}) not included in current {now}"
        ),
        Type::Set => {
            format!("Previous value of set resource '{name}' ({had}) not included in current {now}")
        }
        _ => format!("Value of scalar resource '{name}' decreased from {had} to {now}"),
    }
}

/// What keeps an attribute from being among others: ranges may grow, the rest must be as it was.
fn attribute(own: &v1::Attribute, others: &[v1::Attribute]) -> Option<String> {
    let name = &own.name;
    let Some(now) = others.iter().find(|other| other.name == *name) else {
        return Some(format!("Couldn't find attribute {name}:{}", value(own)));
    };
    let (kind, other) = (own.r#type(), now.r#type());
    if kind != other {
        let (kind, other) = (kind.as_str_name(), other.as_str_name());
        return Some(format!("Type of attribute '{name}' changed from {kind} to {other}"));
    }
    let ranges = |own: &v1::Attribute| Ranges::from_proto(&own.ranges.clone().unwrap_or_default());
    let kind = match kind {
        Type::Ranges if ranges(now).contains(&ranges(own)) => return None,
        Type::Ranges => {
            return Some(format!(
                "Previous value of ranges resource '{name}' ({}) not included in current {}",
                value(own),
                value(now)
            ));
        }
        Type::Scalar => "scalar",
        _ => "text",
    };
    (value(own) != value(now)).then(|| {
        format!("Value of {kind} attribute '{name}' changed from {} to {}", value(own), value(now))
    })
}

fn value(own: &v1::Attribute) -> String {
    match own.r#type() {
        Type::Scalar => own.scalar.unwrap_or_default().value.to_string(),
        Type::Ranges => Ranges::from_proto(&own.ranges.clone().unwrap_or_default()).to_string(),
        _ => own.text.clone().unwrap_or_default().value,
    }
}

fn domain(info: &v1::AgentInfo) -> String {
    let text = |domain| json::to_string(domain, Dialect::V1);
    info.domain.as_ref().map_or_else(|| "none".to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(resources: &str, attributes: &str) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: "h".to_owned(),
            port: Some(5051),
            resources: Resources::parse(resources, "*").unwrap().to_protos(),
            attributes: resources::parse_attributes(attributes).unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_more_is_taken_as_an_addition_only() {
        let old = agent("cpus:4;ports:[1-9];disks:{a,b}", "a:1;r:[1-5];t:x");
        for (resources, attributes, refused) in [
            ("cpus:8;ports:[1-20];disks:{c,b,a}", "a:1;r:[0-9];t:x;n:y", ""),
            ("cpus:4;ports:[1-9];disks:{a,b};gpus:1", "t:x;r:[1-5];a:1", ""),
            (
                "cpus:2;ports:[1-9];disks:{a,b}",
                "",
                "Value of scalar resource 'cpus' decreased from 4 to 2",
            ),
            (
                "cpus:4;ports:[2-9];disks:{a,b}",
                "",
                "Previous value of range resource 'ports' ([1-9]) not included in current [2-9]",
            ),
            ("cpus:4;ports:[1-9];disks:{a}", "", "Previous value of set resource 'disks' ("),
            ("cpus(b):4;ports:[1-9];disks:{a,b}", "", "Resource not found: cpus:4"),
            ("cpus:4;ports:[1-9];disks:{a,b}", "a:1;t:x", "Couldn't find attribute r:[1-5]"),
            (
                "cpus:4;ports:[1-9];disks:{a,b}",
                "a:y;r:[1-5];t:x",
                "Type of attribute 'a' changed from SCALAR to TEXT",
            ),
            (
                "cpus:4;ports:[1-9];disks:{a,b}",
                "a:2;r:[1-5];t:x",
                "Value of scalar attribute 'a' changed from 1 to 2",
            ),
            (
                "cpus:4;ports:[1-9];disks:{a,b}",
                "a:1;r:[2-5];t:x",
                "Previous value of ranges resource 'r' ([1-5]) not included in current [2-5]",
            ),
            (
                "cpus:4;ports:[1-9];disks:{a,b}",
                "a:1;r:[1-5];t:y",
                "Value of text attribute 't' changed from x to y",
            ),
        ] {
            let new = agent(resources, attributes);
            let text = incompatibility(Reconfiguration::Additive, &old, &new).unwrap_or_default();
            let text = text
                .trim_start_matches("Configuration change not permitted under `additive` policy: ");
            assert!(text.starts_with(refused) && text.is_empty() == refused.is_empty(), "{text}");
            let other = incompatibility(Reconfiguration::Equal, &old, &new).is_some();
            assert_eq!(
                other,
                resources != "cpus:4;ports:[1-9];disks:{a,b}" || attributes != "t:x;r:[1-5];a:1"
            );
        }
    }

    #[test]
    fn names_stay_and_a_first_domain_is_an_addition() {
        let old = agent("cpus:4", "");
        let domain = |zone: &str| {
            let text = format!(
                r#"{{"fault_domain":{{"region":{{"name":"r"}},"zone":{{"name":"{zone}"}}}}}}"#
            );
            json::from_slice(text.as_bytes(), Dialect::V1).unwrap()
        };
        let first = v1::AgentInfo { domain: Some(domain("a")), ..old.clone() };
        let second = v1::AgentInfo { domain: Some(domain("b")), ..old.clone() };
        let hostname = v1::AgentInfo { hostname: "i".to_owned(), ..old.clone() };
        let port = v1::AgentInfo { port: Some(1), ..old.clone() };
        for (old, new, by_equal, by_additive) in [
            (&old, &old, false, false),
            (&old, &first, true, false),
            (&first, &old, true, true),
            (&first, &second, true, true),
            (&old, &hostname, true, true),
            (&old, &port, true, true),
        ] {
            let is_refused = |policy| incompatibility(policy, old, new).is_some();
            assert_eq!(is_refused(Reconfiguration::Equal), by_equal, "{new:?}");
            assert_eq!(is_refused(Reconfiguration::Additive), by_additive, "{new:?}");
        }
        let text = incompatibility(Reconfiguration::Equal, &old, &agent("cpus:8", "a:b")).unwrap();
        assert_eq!(
            text,
            "Incompatible agent info detected: resources changed from 'cpus:4' to 'cpus:8'; attributes changed from '' to 'a:b'"
        );
    }
}
