//! Offer constraints: which agents a framework wants to be offered (`offer_constraints_filter.cpp`).

use std::collections::BTreeMap;

use mesos::v1;
use mesos::v1::scheduler::OfferConstraints;
use mesos::v1::scheduler::attribute_constraint::predicate::Predicate as Wire;
use mesos::v1::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector};
use regex::{Regex, RegexBuilder};

/// Longest pattern of a constraint, in bytes.
const PATTERN_MAX: usize = 4096;
/// Memory that a compiled pattern may take, in bytes.
const COMPILED_MAX: usize = 1 << 18;
/// Groups and constraints of one framework.
const CONSTRAINTS_MAX: usize = 10_000;

/// A framework's constraints, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    /// By role: one group must hold, all of it.
    by_role: BTreeMap<String, Vec<Vec<Constraint>>>,
}

#[derive(Debug)]
struct Constraint {
    selector: Selector,
    predicate: Predicate,
}

#[derive(Debug)]
enum Predicate {
    Exists,
    NotExists,
    Equals(String),
    NotEquals(String),
    Matches(Regex),
    NotMatches(Regex),
}

/// What a selector found on an agent.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    /// An attribute that is no text: only its being there is judged, everything else holds.
    Other,
}

impl Predicate {
    fn holds(&self, found: &Found<'_>) -> bool {
        match (self, found) {
            (Self::Exists | Self::Equals(_) | Self::Matches(_), Found::Nothing) => false,
            (Self::NotExists, Found::Text(_) | Found::Other) => false,
            (Self::Equals(value), Found::Text(text)) => text == value,
            (Self::NotEquals(value), Found::Text(text)) => text != value,
            (Self::Matches(regex), Found::Text(text)) => regex.is_match(text),
            (Self::NotMatches(regex), Found::Text(text)) => !regex.is_match(text),
            (_, Found::Nothing | Found::Other) | (Self::Exists, Found::Text(_)) => true,
        }
    }
}

impl Constraint {
    fn holds(&self, agent: &v1::AgentInfo) -> bool {
        let domain = agent.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
        let text = |text: Option<&'static str>| text.map_or(Found::Nothing, Found::Text);
        let found = match &self.selector {
            Selector::AttributeName(name) => {
                match agent.attributes.iter().find(|attribute| attribute.name == *name) {
                    None => text(None),
                    Some(attribute) => match &attribute.text {
                        Some(value) => Found::Text(&value.value),
                        None => Found::Other,
                    },
                }
            }
            Selector::PseudoattributeType(kind) => {
                match PseudoattributeType::try_from(*kind).unwrap_or_default() {
                    PseudoattributeType::Hostname => Found::Text(&agent.hostname),
                    PseudoattributeType::Region => {
                        domain.map_or(Found::Nothing, |own| Found::Text(&own.region.name))
                    }
                    PseudoattributeType::Zone => {
                        domain.map_or(Found::Nothing, |own| Found::Text(&own.zone.name))
                    }
                    PseudoattributeType::Unknown => Found::Nothing,
                }
            }
        };
        self.predicate.holds(&found)
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    let wrong =
        |reason: String| format!("Failed to construct regex from pattern '{pattern}': {reason}");
    if pattern.len() > PATTERN_MAX {
        return Err(wrong(format!("it is longer than {PATTERN_MAX} bytes")));
    }
    // The whole text must match.
    let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(COMPILED_MAX).build();
    whole.map_err(|error| wrong(error.to_string()))
}

fn constraint(wire: &v1::scheduler::AttributeConstraint) -> Result<Constraint, String> {
    let Some(selector) = wire.selector.selector.clone() else {
        return Err("Exactly one of 'AttributeConstraint::Selector::name' or 'AttributeConstraint::Selector::pseudoattribute_type' must be set".to_owned());
    };
    if let Selector::PseudoattributeType(kind) = &selector
        && PseudoattributeType::try_from(*kind).unwrap_or_default() == PseudoattributeType::Unknown
    {
        return Err("Unknown pseudoattribute type".to_owned());
    }
    let predicate = match &wire.predicate.predicate {
        None => return Err("Unknown predicate type".to_owned()),
        Some(Wire::Exists(_)) => Predicate::Exists,
        Some(Wire::NotExists(_)) => Predicate::NotExists,
        Some(Wire::TextEquals(own)) => Predicate::Equals(own.value.clone()),
        Some(Wire::TextNotEquals(own)) => Predicate::NotEquals(own.value.clone()),
        Some(Wire::TextMatches(own)) => Predicate::Matches(regex(&own.regex)?),
        Some(Wire::TextNotMatches(own)) => Predicate::NotMatches(regex(&own.regex)?),
    };
    Ok(Constraint { selector, predicate })
}

impl Constraints {
    /// Makes constraints ready.
    ///
    /// # Errors
    /// What is wrong with them, in the original's words.
    pub(super) fn new(wire: &OfferConstraints) -> Result<Self, String> {
        let mut by_role = BTreeMap::new();
        let mut count = 0;
        for (role, constraints) in &wire.role_constraints {
            if constraints.groups.is_empty() {
                return Err(format!(
                    "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {role}"
                ));
            }
            let mut groups = Vec::new();
            for group in &constraints.groups {
                if group.attribute_constraints.is_empty() {
                    return Err(format!(
                        "'OfferConstraints::RoleConstraints::groups' for role {role}contains an empty RoleConstraints::Group"
                    ));
                }
                count += group.attribute_constraints.len();
                if count > CONSTRAINTS_MAX {
                    return Err(format!("There are more than {CONSTRAINTS_MAX} constraints"));
                }
                let all: Result<Vec<Constraint>, String> =
                    group.attribute_constraints.iter().map(constraint).collect();
                groups.push(all.map_err(|reason| {
                    format!("A role {role} has an invalid 'AttributeConstraint': {reason}")
                })?);
            }
            by_role.insert(role.clone(), groups);
        }
        Ok(Self { by_role })
    }

    /// Whether a framework does not want an agent in a role.
    pub(super) fn exclude(&self, role: &str, agent: &v1::AgentInfo) -> bool {
        self.by_role.get(role).is_some_and(|groups| {
            !groups.iter().any(|group| group.iter().all(|constraint| constraint.holds(agent)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::json::{self, Dialect};

    fn constraints(predicate: &str) -> Result<Constraints, String> {
        let text = format!(
            r#"{{"role_constraints":{{"r":{{"groups":[{{"attribute_constraints":[{{"selector":{{"attribute_name":"rack"}},"predicate":{predicate}}}]}}]}}}}}}"#
        );
        Constraints::new(&json::from_slice(text.as_bytes(), Dialect::V1).unwrap())
    }

    #[test]
    fn predicates_judge_text_and_leave_the_rest() {
        let agent = |attributes: &str| v1::AgentInfo {
            attributes: mesos::resources::parse_attributes(attributes).unwrap(),
            ..Default::default()
        };
        let (none, a, b, number) = (agent(""), agent("rack:a"), agent("rack:b"), agent("rack:1"));
        for (predicate, wanted) in [
            (r#"{"exists":{}}"#, [false, true, true, true]),
            (r#"{"not_exists":{}}"#, [true, false, false, false]),
            (r#"{"text_equals":{"value":"a"}}"#, [false, true, false, true]),
            (r#"{"text_not_equals":{"value":"a"}}"#, [true, false, true, true]),
            (r#"{"text_matches":{"regex":"a|c"}}"#, [false, true, false, true]),
            (r#"{"text_not_matches":{"regex":"a|c"}}"#, [true, false, true, true]),
        ] {
            let constraints = constraints(predicate).unwrap();
            let offered = [&none, &a, &b, &number].map(|agent| !constraints.exclude("r", agent));
            assert_eq!(offered, wanted, "{predicate}");
            assert!(!constraints.exclude("other", &none));
        }
    }

    #[test]
    fn wrong_constraints_are_refused() {
        assert!(constraints(r#"{"text_matches":{"regex":"("}}"#).is_err());
        assert!(constraints(r#"{"text_matches":{"regex":"(?:a{1000}){1000}"}}"#).is_err());
        assert!(constraints("{}").unwrap_err().ends_with("Unknown predicate type"));
    }
}
