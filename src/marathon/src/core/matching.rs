//! Placement: constraints, and ports out of offers.

use std::collections::BTreeMap;

use mesos::resources::Ranges;
use regex::Regex;

use crate::app::App;

/// Checks a constraint's form.
///
/// # Errors
/// The original's text.
pub fn check_constraint(constraint: &[String]) -> Result<(), String> {
    let [_, operator, rest @ ..] = constraint else {
        return Err("Each constraint must have either 2 or 3 fields".to_owned());
    };
    if rest.len() > 1 {
        return Err("Each constraint must have either 2 or 3 fields".to_owned());
    }
    let value = rest.first().filter(|value| !value.is_empty());
    match (operator.as_str(), value) {
        ("UNIQUE", Some(_)) => Err("UNIQUE does not accept a value".to_owned()),
        ("UNIQUE" | "CLUSTER", _) => Ok(()),
        ("GROUP_BY", None) => Ok(()),
        ("GROUP_BY", Some(value)) if value.parse::<u32>().is_ok() => Ok(()),
        ("GROUP_BY", _) => Err("GROUP BY must define an integer value or else no value at all".to_owned()),
        ("MAX_PER", Some(value)) if value.parse::<u32>().is_ok() => Ok(()),
        ("MAX_PER", _) => Err("MAX_PER requires an integer value".to_owned()),
        ("LIKE" | "UNLIKE", None) => Err("LIKE and UNLIKE require a non-empty, regular expression value".to_owned()),
        ("LIKE" | "UNLIKE", Some(value)) => Regex::new(value).map(drop).map_err(|_| format!("'{value}' is not a valid regular expression")),
        ("IS", Some(_)) => Ok(()),
        ("IS", None) => Err("IS requires a value".to_owned()),
        _ => Err("operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS".to_owned()),
    }
}

/// Whether an agent with these attributes (`hostname` among them) may run one more, given where others run.
pub fn is_allowed(
    app: &App,
    attributes: &BTreeMap<String, String>,
    others: &[&BTreeMap<String, String>],
) -> bool {
    app.constraints.iter().all(|constraint| {
        let (Some(field), Some(operator)) = (constraint.first(), constraint.get(1)) else {
            return false;
        };
        let field = if field == "@hostname" { "hostname" } else { field };
        let value = constraint.get(2).filter(|value| !value.is_empty());
        let Some(own) = attributes.get(field) else { return operator == "UNLIKE" };
        let count = |wanted: &str| {
            others
                .iter()
                .filter(|other| other.get(field).is_some_and(|value| value == wanted))
                .count()
        };
        let matches = |pattern: &String| {
            Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(own))
        };
        match (operator.as_str(), value) {
            ("UNIQUE", _) => count(own) == 0,
            ("CLUSTER" | "IS", Some(value)) => own == value,
            ("CLUSTER", None) => others.iter().all(|other| other.get(field) == Some(own)),
            ("LIKE", Some(pattern)) => matches(pattern),
            ("UNLIKE", Some(pattern)) => !matches(pattern),
            ("MAX_PER", Some(max)) => max.parse().is_ok_and(|max: usize| count(own) < max),
            ("GROUP_BY", groups) => {
                let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
                for other in others.iter().filter_map(|other| other.get(field)) {
                    *seen.entry(other).or_default() += 1;
                }
                let groups = groups.and_then(|groups| groups.parse().ok()).unwrap_or(seen.len());
                let least =
                    if seen.len() < groups { 0 } else { seen.values().copied().min().unwrap_or(0) };
                count(own) <= least
            }
            _ => false,
        }
    })
}

/// Host ports for one instance: fixed ones must be offered, others are taken from what is.
pub fn ports(app: &App, offered: &Ranges) -> Option<Vec<u16>> {
    let wanted: Vec<u16> = match &app.container {
        Some(container) if !app.is_host_network() => {
            container.port_mappings.iter().map(|mapping| mapping.host_port).collect()
        }
        _ => app
            .port_definitions
            .iter()
            .map(|definition| if app.require_ports { definition.port } else { 0 })
            .collect(),
    };
    let fixed: Vec<u16> = wanted.iter().copied().filter(|port| *port != 0).collect();
    if !fixed.iter().all(|port| offered.has(u64::from(*port))) {
        return None;
    }
    let mut free = offered
        .iter()
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| !fixed.contains(port));
    wanted.into_iter().map(|port| if port == 0 { free.next() } else { Some(port) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(host: &str, rack: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("hostname".to_owned(), host.to_owned()),
            ("rack".to_owned(), rack.to_owned()),
        ])
    }

    fn allowed(
        constraint: &[&str],
        own: &BTreeMap<String, String>,
        others: &[&BTreeMap<String, String>],
    ) -> bool {
        let constraint: Vec<String> = constraint.iter().map(|part| (*part).to_owned()).collect();
        check_constraint(&constraint).unwrap();
        is_allowed(&App { constraints: vec![constraint], ..App::default() }, own, others)
    }

    #[test]
    fn constraints_decide_as_the_original_does() {
        let (a, b, c) = (agent("a", "r1"), agent("b", "r1"), agent("c", "r2"));
        assert!(
            allowed(&["hostname", "UNIQUE"], &a, &[&b])
                && !allowed(&["hostname", "UNIQUE"], &a, &[&a])
        );
        assert!(
            allowed(&["rack", "CLUSTER", "r1"], &a, &[])
                && !allowed(&["rack", "CLUSTER", "r1"], &c, &[])
        );
        assert!(
            allowed(&["rack", "GROUP_BY", "2"], &c, &[&a])
                && !allowed(&["rack", "GROUP_BY", "2"], &b, &[&a])
        );
        assert!(
            allowed(&["rack", "LIKE", "r[12]"], &a, &[])
                && !allowed(&["rack", "LIKE", "r"], &a, &[])
        );
        assert!(
            allowed(&["rack", "UNLIKE", "r2"], &a, &[])
                && allowed(&["zone", "UNLIKE", "x"], &a, &[])
        );
        assert!(
            allowed(&["rack", "MAX_PER", "2"], &a, &[&b])
                && !allowed(&["rack", "MAX_PER", "1"], &a, &[&b])
        );
        assert!(!allowed(&["zone", "IS", "x"], &a, &[]));
    }

    #[test]
    fn ports_are_fixed_or_any_that_is_offered() {
        use crate::app::PortDefinition;
        let offered = Ranges::new([(31000, 31002)]);
        let definition = |port| PortDefinition { port, ..PortDefinition::default() };
        let app = App {
            port_definitions: vec![definition(0), definition(8080)],
            networks: vec![],
            ..App::default()
        };
        assert_eq!(ports(&app, &offered), Some(vec![31000, 31001]));
        let strict = App { require_ports: true, ..app };
        assert_eq!(ports(&strict, &offered), None);
        assert_eq!(
            ports(&strict, &Ranges::new([(8080, 8080), (31000, 31000)])),
            Some(vec![31000, 8080])
        );
    }
}
