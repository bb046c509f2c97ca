//! Which resources the master takes from frameworks, agents and operators.

use super::{Milli, Resources, print};
use crate::v1::resource::ReservationInfo;
use crate::{roles, v1};

impl Resources {
    /// Checks messages as the master does before it trusts them.
    ///
    /// # Errors
    /// `Resource '…' is invalid: …`, in the original's words.
    pub fn validate(resources: &[v1::Resource]) -> Result<(), String> {
        for resource in resources {
            check(resource).map_err(|reason| {
                format!("Resource '{}' is invalid: {reason}", print::message(resource))
            })?;
        }
        Ok(())
    }
}

pub(super) fn check(resource: &v1::Resource) -> Result<(), String> {
    use v1::value::Type;
    if resource.name.is_empty() {
        return Err("Empty resource name".to_owned());
    }
    let (scalar, ranges, set) = (&resource.scalar, &resource.ranges, &resource.set);
    match (Type::try_from(resource.r#type), scalar, ranges, set) {
        (Ok(Type::Scalar), Some(scalar), None, None) => {
            let rounded = Milli::from_f64(scalar.value);
            // More than can be counted: the original's counter overflows to below 0.
            let is_too_much = rounded.0 == i64::MAX || !scalar.value.is_finite();
            if rounded.0 < 0 || (rounded.0 == 0 && scalar.value != 0.0) || is_too_much {
                return Err("Invalid scalar resource: value <= 0".to_owned());
            }
        }
        (Ok(Type::Scalar), ..) => return Err("Invalid scalar resource".to_owned()),
        (Ok(Type::Ranges), None, Some(ranges), None) => check_ranges(&ranges.range)?,
        (Ok(Type::Ranges), ..) => return Err("Invalid ranges resource".to_owned()),
        (Ok(Type::Set), None, None, Some(set)) => {
            let mut items: Vec<&String> = set.item.iter().collect();
            items.sort();
            if items.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err("Invalid set resource: duplicated elements".to_owned());
            }
        }
        (Ok(Type::Set), ..) => return Err("Invalid set resource".to_owned()),
        _ => return Err("Unsupported resource type".to_owned()),
    }
    if resource.disk.is_some() && resource.name != "disk" {
        return Err(format!("DiskInfo should not be set for {} resource", resource.name));
    }
    if let Some(source) = resource.disk.as_ref().and_then(|disk| disk.source.as_ref()) {
        check_source(source)?;
    }
    check_reservations(resource)?;
    if resource.shared.is_some() {
        if resource.name != "disk" {
            return Err(format!("Resource {} cannot be shared", resource.name));
        }
        if resource.disk.as_ref().is_none_or(|disk| disk.persistence.is_none()) {
            return Err("Only persistent volumes can be shared".to_owned());
        }
    }
    Ok(())
}

pub(super) fn check_order(ranges: &[v1::value::Range]) -> Result<(), String> {
    if ranges.iter().any(|range| range.begin > range.end) {
        return Err("Invalid ranges resource: begin > end".to_owned());
    }
    Ok(())
}

fn check_ranges(ranges: &[v1::value::Range]) -> Result<(), String> {
    check_order(ranges)?;
    let mut sorted: Vec<(u64, u64)> = ranges.iter().map(|range| (range.begin, range.end)).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
        return Err("Invalid ranges resource: overlapping ranges".to_owned());
    }
    Ok(())
}

fn check_source(source: &v1::resource::disk_info::Source) -> Result<(), String> {
    use v1::resource::disk_info::source::Type;
    let kind = source.r#type();
    match kind {
        Type::Path | Type::Mount => Ok(()),
        Type::Unknown => {
            Err(format!("Unsupported 'DiskInfo.Source.Type' in '{}'", print::source(source)))
        }
        Type::Block | Type::Raw => {
            let refuse = |what: &str| {
                Err(format!("{what} should not be set for {} disk source", kind.as_str_name()))
            };
            match (&source.mount, &source.path) {
                (Some(_), _) => refuse("Mount"),
                (None, Some(_)) => refuse("Path"),
                (None, None) => Ok(()),
            }
        }
    }
}

fn check_reservations(resource: &v1::Resource) -> Result<(), String> {
    use v1::resource::reservation_info::Type;
    let refuse = |text: &str| Err(text.to_owned());
    let Some(first) = resource.reservations.first() else {
        return check_older_form(resource);
    };
    for reservation in &resource.reservations {
        if reservation.r#type.is_none_or(|kind| Type::try_from(kind).is_err()) {
            return refuse(
                "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
            );
        }
        let Some(role) = reservation.role.as_deref() else {
            return refuse(
                "Invalid reservation: 'Resource.ReservationInfo.role' field must be set.",
            );
        };
        roles::validate(role)?;
        if role == roles::DEFAULT {
            return refuse("Invalid reservation: role \"*\" cannot be reserved");
        }
    }
    for pair in resource.reservations.windows(2) {
        if pair[1].r#type() == Type::Static {
            return refuse("Invalid refined reservation: A refined reservation cannot be STATIC");
        }
        let (role, above) = (pair[1].role(), pair[0].role());
        if !roles::is_below(role, above) {
            return Err(format!(
                "Invalid refined reservation: role '{role}' is not a refinement of '{above}'"
            ));
        }
    }
    check_both_forms(resource, first)
}

/// The older form may stand beside a single reservation if it says the same.
fn check_both_forms(resource: &v1::Resource, only: &ReservationInfo) -> Result<(), String> {
    use v1::resource::reservation_info::Type;
    let refuse = |text: &str| Err(format!("Invalid resource format: {text}"));
    if resource.reservations.len() > 1 {
        const MORE: &str =
            "must not be set if there is more than one reservation in 'Resource.reservations'";
        if resource.role.is_some() {
            return refuse(&format!("'Resource.role' {MORE}"));
        }
        if resource.reservation.is_some() {
            return refuse(&format!("'Resource.reservation' {MORE}"));
        }
        return Ok(());
    }
    if let Some(role) = resource.role.as_deref().filter(|role| *role != only.role()) {
        return refuse(&format!(
            "'Resource.role' field with '{role}' does not match the role '{}' in 'Resource.reservations'",
            only.role()
        ));
    }
    match (only.r#type(), &resource.reservation) {
        (Type::Unknown, _) => Err("Unsupported 'Resource.ReservationInfo.Type'".to_owned()),
        (Type::Static, Some(_)) => refuse(
            "'Resource.reservation' must not be set if the single reservation in 'Resource.reservations' is STATIC",
        ),
        (Type::Static, None) => Ok(()),
        (Type::Dynamic, older) if resource.role.is_some() != older.is_some() => refuse(
            "'Resource.role' and 'Resource.reservation' must either be both set or both not set if the single reservation in 'Resource.reservations' is DYNAMIC",
        ),
        (Type::Dynamic, Some(older)) if older.principal() != only.principal() => refuse(&format!(
            "'Resource.reservation.principal' field with '{}' does not match the principal '{}' in 'Resource.reservations'",
            older.principal(),
            only.principal()
        )),
        (Type::Dynamic, Some(older)) if labels(older) != labels(only) => refuse(&format!(
            "'Resource.reservation.labels' field with '{}' does not match the labels '{}' in 'Resource.reservations'",
            print::labels(older),
            print::labels(only)
        )),
        (Type::Dynamic, _) => Ok(()),
    }
}

fn labels(of: &ReservationInfo) -> &[v1::Label] {
    of.labels.as_ref().map(|labels| labels.labels.as_slice()).unwrap_or_default()
}

/// Without a list of reservations: a role, and whether it was reserved for it while its agent ran.
fn check_older_form(resource: &v1::Resource) -> Result<(), String> {
    let role = resource.role();
    roles::validate(role)?;
    let Some(reservation) = &resource.reservation else { return Ok(()) };
    let set = [("type", reservation.r#type.is_some()), ("role", reservation.role.is_some())];
    if let Some((name, _)) = set.into_iter().find(|(_, is_set)| *is_set) {
        return Err(format!(
            "'Resource.ReservationInfo.{name}' must not be set for the 'Resource.reservation' field"
        ));
    }
    if role == roles::DEFAULT {
        return Err("Invalid reservation: role \"*\" cannot be dynamically reserved".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{self, Dialect};

    fn refusal(text: &str) -> String {
        let resource: v1::Resource = json::from_slice(text.as_bytes(), Dialect::V1).unwrap();
        Resources::validate(&[resource]).err().unwrap_or_default()
    }

    /// Each asked of the original with RESERVE_RESOURCES.
    #[test]
    fn resources_are_refused_and_printed_as_the_original_does() {
        for (text, error) in [
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":0},"reservations":[{"type":"DYNAMIC","role":"r"}]}"#,
                "",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":0.0001},"reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "Resource 'cpus(reservations: [(DYNAMIC,r,p)]):0' is invalid: Invalid scalar resource: value <= 0",
            ),
            (
                r#"{"name":"","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "Resource '(reservations: [(DYNAMIC,r,p)]):1' is invalid: Empty resource name",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "Resource 'cpus(reservations: [(DYNAMIC,r,p)]):0' is invalid: Invalid scalar resource",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"set":{"item":["x"]},"reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "Resource 'cpus(reservations: [(DYNAMIC,r,p)]):1' is invalid: Invalid scalar resource",
            ),
            (
                r#"{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":5,"end":1}]}}"#,
                "Resource 'ports:[5-1]' is invalid: Invalid ranges resource: begin > end",
            ),
            (
                r#"{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":5,"end":7},{"begin":6,"end":9}]}}"#,
                "Resource 'ports:[5-7, 6-9]' is invalid: Invalid ranges resource: overlapping ranges",
            ),
            (
                r#"{"name":"bugs","type":"SET","set":{"item":["b","a","a"]},"allocation_info":{"role":"r"}}"#,
                "Resource 'bugs(allocated: r):{b, a, a}' is invalid: Invalid set resource: duplicated elements",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1.23456},"reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b","principal":"p","labels":{"labels":[{"key":"k"},{"key":"l","value":"v"}]}}],"disk":{"persistence":{"id":"i"},"volume":{"mode":"RO","container_path":"p","host_path":"h"},"source":{"type":"MOUNT","mount":{"root":"/m"}}}}"#,
                "Resource 'cpus(reservations: [(STATIC,a),(DYNAMIC,a/b,p,{k, l: v})])[MOUNT:/m,i:h:p:ro]:1.235' is invalid: DiskInfo should not be set for cpus resource",
            ),
            (
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":123456789.125},"revocable":{},"reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"b"}],"disk":{"source":{"type":"PATH","path":{"root":"/m"},"id":"I","profile":"P"}}}"#,
                "Resource 'disk(reservations: [(STATIC,a),(DYNAMIC,b)])[PATH(,I,P)]{REV}:123456789.125' is invalid: Invalid refined reservation: role 'b' is not a refinement of 'a'",
            ),
            (
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":12345678901234},"reservations":[{"type":"DYNAMIC","role":"*"}]}"#,
                "Resource 'disk(reservations: [(DYNAMIC,*)]):12345678901234' is invalid: Invalid reservation: role \"*\" cannot be reserved",
            ),
            (
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":-123456789012.1239},"shared":{},"revocable":{},"allocation_info":{"role":"r"},"disk":{"source":{"type":"BLOCK","id":"I","profile":"P","vendor":"V"}}}"#,
                "Resource 'disk(allocated: r)[BLOCK(V,I,P)]{REV}<SHARED>:-123456789012.124' is invalid: Invalid scalar resource: value <= 0",
            ),
            (
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":-1.1239},"disk":{"persistence":{"id":"i"},"volume":{"mode":"RO","container_path":"p"},"source":{"type":"RAW","profile":"P"}}}"#,
                "Resource 'disk[RAW(,,P),i:p]:-1.124' is invalid: Invalid scalar resource: value <= 0",
            ),
            (
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"UNKNOWN"}}}"#,
                "Resource 'disk[UNKNOWN]:1' is invalid: Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'",
            ),
            (
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"RAW","path":{"root":"/p"}}}}"#,
                "Resource 'disk[RAW]:1' is invalid: Path should not be set for RAW disk source",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{}]}"#,
                "Resource 'cpus(reservations: [(UNKNOWN,)]):1' is invalid: Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"r","reservation":{"type":"DYNAMIC"}}"#,
                "Resource 'cpus:1' is invalid: 'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"a b","reservation":{"principal":"p"}}"#,
                "Resource 'cpus:1' is invalid: Role component 'a b' is invalid because it contains backspace or whitespace",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"r","reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "Resource 'cpus(reservations: [(DYNAMIC,r,p)]):1' is invalid: Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not set if the single reservation in 'Resource.reservations' is DYNAMIC",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"*","reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "Resource 'cpus(reservations: [(DYNAMIC,r,p)]):1' is invalid: Invalid resource format: 'Resource.role' field with '*' does not match the role 'r' in 'Resource.reservations'",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"role":"r","reservation":{"principal":"p"},"reservations":[{"type":"DYNAMIC","role":"r","principal":"p"}]}"#,
                "",
            ),
            (
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"role":"*","reservation":{}}"#,
                "Resource 'cpus:0.1' is invalid: Invalid reservation: role \"*\" cannot be dynamically reserved",
            ),
        ] {
            assert_eq!(refusal(text), error, "{text}");
        }
    }

    #[test]
    fn infinity_and_text_are_refused() {
        assert!(
            refusal(r#"{"name":"cpus","type":"SCALAR","scalar":{"value":"Infinity"}}"#)
                .ends_with("value <= 0")
        );
        assert!(refusal(r#"{"name":"cpus","type":"TEXT"}"#).ends_with("Unsupported resource type"));
    }
}
