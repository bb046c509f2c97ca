//! Resources as text, as the original prints them in errors and logs:
//! `cpus(allocated: r)(reservations: [(DYNAMIC,r,principal)]):4; ports:[31000-32000]`, or `{}` for none.

use std::fmt::{self, Write as _};

use super::Resources;
use crate::units::format_significant;
use crate::v1;

impl fmt::Display for Resources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return formatter.write_str("{}");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(formatter, "{separator}{}", describe(&entry.identity, &entry.quantity))?;
        }
        Ok(())
    }
}

/// One resource as it was sent, valid or not.
pub fn message(resource: &v1::Resource) -> String {
    use v1::value::Type;
    let value = match Type::try_from(resource.r#type) {
        Ok(Type::Ranges) => {
            let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
            let parts: Vec<String> =
                ranges.map(|range| format!("{}-{}", range.begin, range.end)).collect();
            format!("[{}]", parts.join(", "))
        }
        Ok(Type::Set) => {
            let items = resource.set.as_ref().map(|set| set.item.join(", ")).unwrap_or_default();
            format!("{{{items}}}")
        }
        _ => {
            let value = resource.scalar.map(|scalar| scalar.value).unwrap_or_default();
            // Three decimals, like all arithmetic with it, but without its limits.
            format_significant((value * 1000.0).round() / 1000.0)
        }
    };
    describe(resource, &value)
}

fn describe(identity: &v1::Resource, value: &impl fmt::Display) -> String {
    let mut text = identity.name.clone();
    if let Some(info) = &identity.allocation_info {
        let _ = write!(text, "(allocated: {})", info.role());
    }
    if !identity.reservations.is_empty() {
        let reservations: Vec<String> = identity.reservations.iter().map(reservation).collect();
        let _ = write!(text, "(reservations: [{}])", reservations.join(","));
    }
    if let Some(disk) = &identity.disk {
        let _ = write!(text, "[{}]", self::disk(disk));
    }
    if identity.revocable.is_some() {
        text.push_str("{REV}");
    }
    if identity.shared.is_some() {
        text.push_str("<SHARED>");
    }
    let _ = write!(text, ":{value}");
    text
}

fn reservation(reservation: &v1::resource::ReservationInfo) -> String {
    let mut text = format!("({},{}", reservation.r#type().as_str_name(), reservation.role());
    if let Some(principal) = &reservation.principal {
        let _ = write!(text, ",{principal}");
    }
    if reservation.labels.is_some() {
        let _ = write!(text, ",{}", labels(reservation));
    }
    text.push(')');
    text
}

/// A reservation's labels: `{k, l: v}`.
pub(super) fn labels(reservation: &v1::resource::ReservationInfo) -> String {
    let each = reservation.labels.iter().flat_map(|labels| &labels.labels);
    let each = each.map(|label| match &label.value {
        Some(value) => format!("{}: {value}", label.key),
        None => label.key.clone(),
    });
    format!("{{{}}}", each.collect::<Vec<String>>().join(", "))
}

/// Where a disk comes from: `PATH:/mnt`, `RAW(vendor,id,profile)`.
pub(super) fn source(source: &v1::resource::disk_info::Source) -> String {
    use v1::resource::disk_info::source::Type;
    let mut text = source.r#type().as_str_name().to_owned();
    let root = match source.r#type() {
        Type::Mount => source.mount.as_ref().and_then(|mount| mount.root.as_deref()),
        Type::Path => source.path.as_ref().and_then(|path| path.root.as_deref()),
        _ => None,
    };
    if source.vendor.is_some() || source.id.is_some() || source.profile.is_some() {
        let _ = write!(text, "({},{},{})", source.vendor(), source.id(), source.profile());
    } else if let Some(root) = root {
        let _ = write!(text, ":{root}");
    }
    text
}

fn disk(disk: &v1::resource::DiskInfo) -> String {
    let mut parts = Vec::new();
    if let Some(source) = &disk.source {
        parts.push(self::source(source));
    }
    if let Some(persistence) = &disk.persistence {
        let mut text = persistence.id.clone();
        if let Some(volume) = &disk.volume {
            match &volume.host_path {
                None => {
                    let _ = write!(text, ":{}", volume.container_path);
                }
                Some(host) => {
                    let mode = volume.mode().as_str_name().to_ascii_lowercase();
                    let _ = write!(text, ":{host}:{}:{mode}", volume.container_path);
                }
            }
        }
        parts.push(text);
    }
    parts.join(",")
}
