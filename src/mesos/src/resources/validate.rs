//! Which resources the master takes from frameworks, agents and operators.

use super::{Milli, Resources, print};
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
            // Infinity would be more than can be counted: the original's counter overflows to below 0.
            if rounded.0 < 0 || (rounded.0 == 0 && scalar.value != 0.0) || !scalar.value.is_finite()
            {
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

fn check_reservations(resource: &v1::Resource) -> Result<(), String> {
    use v1::resource::reservation_info::Type;
    if resource.reservations.is_empty() {
        let role = resource.role();
        roles::validate(role)?;
        if resource.reservation.is_some() && role == roles::DEFAULT {
            return Err("Invalid reservation: role \"*\" cannot be dynamically reserved".to_owned());
        }
        return Ok(());
    }
    let mut above: Option<&str> = None;
    for (index, reservation) in resource.reservations.iter().enumerate() {
        let Some(role) = reservation.role.as_deref() else {
            return Err("Invalid reservation: 'Resource.ReservationInfo.role' field must be set."
                .to_owned());
        };
        roles::validate(role)?;
        if role == roles::DEFAULT {
            return Err("Invalid reservation: role \"*\" cannot be reserved".to_owned());
        }
        match reservation.r#type() {
            Type::Unknown => {
                return Err(
                    "Invalid reservation: 'Resource.ReservationInfo.type' field must be set."
                        .to_owned(),
                );
            }
            Type::Static if index > 0 => {
                return Err("Invalid refined reservation: A refined reservation cannot be STATIC"
                    .to_owned());
            }
            _ => {}
        }
        if let Some(above) = above.filter(|above| !roles::is_below(role, above)) {
            return Err(format!(
                "Invalid refined reservation: role '{role}' is not a refinement of '{above}'"
            ));
        }
        above = Some(role);
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
