//! What operations make of resources: reservations and persistent volumes (Mesos' `common/resources_utils.cpp`).
//!
//! An operation is one or more [`Conversion`]s. All that an agent itself carries out keep the quantities as they are, so
//! whoever applies one to a set that contains what it takes can't fail.

use super::entry::{Entry, upgrade};
use super::print::message;
use super::{Milli, Resources};
use crate::v1;
use crate::v1::offer::{Operation, operation::Type};
use crate::v1::resource::reservation_info::Type as ReservationType;

/// What an operation takes, and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// What is taken.
    pub consumed: Resources,
    /// What becomes of it.
    pub converted: Resources,
    /// A volume that must not be there any more afterwards.
    destroyed: Option<v1::Resource>,
}

impl Conversion {
    /// The same of resources that are allocated to nobody.
    #[must_use]
    pub fn unallocate(&self) -> Self {
        let destroyed =
            self.destroyed.clone().map(|volume| v1::Resource { allocation_info: None, ..volume });
        Self {
            consumed: self.consumed.unallocate(),
            converted: self.converted.unallocate(),
            destroyed,
        }
    }
}

/// Whether the last reservation of a resource (in the newest form) was made while its agent ran.
pub fn is_dynamically_reserved(resource: &v1::Resource) -> bool {
    resource.reservations.last().is_some_and(|last| last.r#type() == ReservationType::Dynamic)
}

/// Whether a resource is a persistent volume.
pub fn is_persistent_volume(resource: &v1::Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
}

/// Whether an agent must note a resource to know of it after a restart.
pub fn needs_checkpointing(resource: &v1::Resource) -> bool {
    resource.provider_id.is_none()
        && (is_dynamically_reserved(resource) || is_persistent_volume(resource))
}

/// A volume's disk as it was before the volume.
pub fn without_volume(volume: &v1::Resource) -> v1::Resource {
    let mut disk = volume.clone();
    match &mut disk.disk {
        Some(info) if info.source.is_some() => {
            info.persistence = None;
            info.volume = None;
        }
        info => *info = None,
    }
    disk.shared = None;
    disk
}

fn one(resource: &v1::Resource) -> Resources {
    Resources::from_protos(std::slice::from_ref(resource))
}

fn plain(consumed: Resources, converted: Resources) -> Conversion {
    Conversion { consumed, converted, destroyed: None }
}

/// What an operation does; its resources are in the newest form.
///
/// # Errors
/// When it is none that changes resources of an agent's own.
pub fn conversions(operation: &Operation) -> Result<Vec<Conversion>, String> {
    let unsupported = || Err("Operation not supported".to_owned());
    match operation.r#type() {
        Type::Unknown => Err("Unknown operation".to_owned()),
        Type::Launch | Type::LaunchGroup | Type::CreateDisk | Type::DestroyDisk => unsupported(),
        Type::Reserve => {
            let Some(reserve) = &operation.reserve else { return unsupported() };
            let reserved = Resources::from_protos(&reserve.resources);
            let consumed = if reserve.source.is_empty() {
                reserved.pop_reservation()
            } else {
                Resources::from_protos(&reserve.source)
            };
            Ok(vec![plain(consumed, reserved)])
        }
        Type::Unreserve => {
            let Some(unreserve) = &operation.unreserve else { return unsupported() };
            let each = unreserve.resources.iter().map(one);
            Ok(each.map(|own| plain(own.clone(), own.pop_reservation())).collect())
        }
        Type::Create => {
            let Some(create) = &operation.create else { return unsupported() };
            let each = create.volumes.iter();
            Ok(each.map(|volume| plain(one(&without_volume(volume)), one(volume))).collect())
        }
        Type::Destroy => {
            let Some(destroy) = &operation.destroy else { return unsupported() };
            let conversion = |volume: &v1::Resource| Conversion {
                consumed: one(volume),
                converted: one(&without_volume(volume)),
                destroyed: Some(volume.clone()),
            };
            Ok(destroy.volumes.iter().map(conversion).collect())
        }
        Type::GrowVolume => {
            let Some(grow) = &operation.grow_volume else { return unsupported() };
            let mut consumed = one(&grow.volume);
            consumed.add(&one(&grow.addition));
            let by = grow.addition.scalar.map_or(0.0, |scalar| scalar.value);
            Ok(vec![plain(consumed, one(&resized(&grow.volume, Milli::from_f64(by))))])
        }
        Type::ShrinkVolume => {
            let Some(shrink) = &operation.shrink_volume else { return unsupported() };
            let by = Milli::from_f64(shrink.subtract.value);
            let mut freed = without_volume(&shrink.volume);
            freed.scalar = Some(v1::value::Scalar { value: by.to_f64() });
            let less = Milli(by.0.saturating_neg());
            let mut converted = one(&resized(&shrink.volume, less));
            converted.add(&one(&freed));
            Ok(vec![plain(one(&shrink.volume), converted)])
        }
    }
}

/// In thousandths: each of them rounded alone, a part and the rest would be more than the whole.
fn resized(volume: &v1::Resource, by: Milli) -> v1::Resource {
    let mut resized = volume.clone();
    if let Some(scalar) = &mut resized.scalar {
        scalar.value = Milli::from_f64(scalar.value).plus(by).to_f64();
    }
    resized
}

/// The lists of resources in an operation that an agent carries out.
fn lists(operation: &mut Operation) -> Vec<&mut [v1::Resource]> {
    let mut lists: Vec<&mut [v1::Resource]> = Vec::new();
    if let Some(reserve) = &mut operation.reserve {
        lists.push(&mut reserve.source);
        lists.push(&mut reserve.resources);
    }
    if let Some(unreserve) = &mut operation.unreserve {
        lists.push(&mut unreserve.resources);
    }
    if let Some(create) = &mut operation.create {
        lists.push(&mut create.volumes);
    }
    if let Some(destroy) = &mut operation.destroy {
        lists.push(&mut destroy.volumes);
    }
    if let Some(grow) = &mut operation.grow_volume {
        lists.push(std::slice::from_mut(&mut grow.volume));
        lists.push(std::slice::from_mut(&mut grow.addition));
    }
    if let Some(shrink) = &mut operation.shrink_volume {
        lists.push(std::slice::from_mut(&mut shrink.volume));
    }
    if let Some(create) = &mut operation.create_disk {
        lists.push(std::slice::from_mut(&mut create.source));
    }
    if let Some(destroy) = &mut operation.destroy_disk {
        lists.push(std::slice::from_mut(&mut destroy.source));
    }
    for task in operation.launch.iter_mut().flat_map(|launch| &mut launch.task_infos) {
        lists.push(&mut task.resources);
        lists.extend(task.executor.iter_mut().map(|executor| executor.resources.as_mut_slice()));
    }
    if let Some(group) = &mut operation.launch_group {
        lists.push(&mut group.executor.resources);
        for task in &mut group.task_group.tasks {
            lists.push(&mut task.resources);
            let executor = task.executor.iter_mut();
            lists.extend(executor.map(|executor| executor.resources.as_mut_slice()));
        }
    }
    lists
}

/// The member that an operation of this type must have, if it has it not.
fn lacking(operation: &Operation) -> Option<&'static str> {
    let (present, name) = match operation.r#type() {
        Type::Unknown => return None,
        Type::Launch => (operation.launch.is_some(), "launch"),
        Type::LaunchGroup => (operation.launch_group.is_some(), "launch_group"),
        Type::Reserve => (operation.reserve.is_some(), "reserve"),
        Type::Unreserve => (operation.unreserve.is_some(), "unreserve"),
        Type::Create => (operation.create.is_some(), "create"),
        Type::Destroy => (operation.destroy.is_some(), "destroy"),
        Type::GrowVolume => (operation.grow_volume.is_some(), "grow_volume"),
        Type::ShrinkVolume => (operation.shrink_volume.is_some(), "shrink_volume"),
        Type::CreateDisk => (operation.create_disk.is_some(), "create_disk"),
        Type::DestroyDisk => (operation.destroy_disk.is_some(), "destroy_disk"),
    };
    (!present).then_some(name)
}

/// Checks the resources of an operation, or of a launch's tasks and executors, and brings them to the newest form
/// (`validateAndUpgradeResources`).
///
/// # Errors
/// What is wrong with one of them, or that there is nothing where the type says that there is.
pub fn upgrade_operation(operation: &mut Operation) -> Result<(), String> {
    if let Some(member) = lacking(operation) {
        // As the original has it, in each of its places.
        let (kind, end) = match operation.r#type() {
            Type::Unreserve => ("An UNRESERVE offer", "."),
            Type::GrowVolume => ("A GROW_VOLUME", ""),
            Type::ShrinkVolume => ("A SHRINK_VOLUME offer", ""),
            kind => (&*format!("A {} offer", kind.as_str_name()), "."),
        };
        return Err(format!(
            "{kind} operation must have the Offer.Operation.{member} field set{end}"
        ));
    }
    for list in lists(operation) {
        Resources::validate(list)?;
        list.iter_mut().for_each(upgrade);
    }
    Ok(())
}

/// Marks an operation's resources as allocated to a role, where they are to none; with `None`, as allocated to nobody.
pub fn set_allocation(operation: &mut Operation, role: Option<&str>) {
    for resource in lists(operation).into_iter().flatten() {
        match role {
            Some(role) => {
                resource.allocation_info.get_or_insert_with(|| v1::resource::AllocationInfo {
                    role: Some(role.to_owned()),
                });
            }
            None => resource.allocation_info = None,
        }
    }
}

impl Resources {
    /// The same, each with its last reservation undone.
    #[must_use]
    pub fn pop_reservation(&self) -> Self {
        self.map(|identity| drop(identity.reservations.pop()))
    }

    /// The same, reserved for nobody.
    #[must_use]
    pub fn to_unreserved(&self) -> Self {
        self.map(|identity| identity.reservations.clear())
    }

    /// The same after a conversion.
    ///
    /// # Errors
    /// When what it takes is not in here, or a volume that it destroys is shared by others.
    pub fn apply(&self, conversion: &Conversion) -> Result<Self, String> {
        if !self.contains(&conversion.consumed) {
            return Err(format!("{self} does not contain {}", conversion.consumed));
        }
        let mut after = self.clone();
        after.subtract(&conversion.consumed);
        after.add(&conversion.converted);
        match &conversion.destroyed {
            Some(volume) if after.contains(&one(volume)) => Err(format!(
                "Persistent volume {} cannot be removed due to additional shared copies",
                message(volume)
            )),
            _ => Ok(after),
        }
    }

    /// The same after all of some conversions.
    ///
    /// # Errors
    /// As [`Resources::apply`], at the first that can't be applied.
    pub fn apply_all(&self, conversions: &[Conversion]) -> Result<Self, String> {
        conversions.iter().try_fold(self.clone(), |after, conversion| after.apply(conversion))
    }

    /// What an agent must note to know of it after a restart.
    #[must_use]
    pub fn checkpointed(&self) -> Self {
        self.filter(needs_checkpointing)
    }

    /// An agent's resources as its operator gave them, with the reservations and volumes that were made since.
    ///
    /// # Errors
    /// When the agent has less than what is reserved of it.
    pub fn with_checkpointed(&self, checkpointed: &Self) -> Result<Self, String> {
        let mut total = self.clone();
        for entry in &checkpointed.entries {
            let resource = entry.to_proto();
            if !needs_checkpointing(&resource) {
                return Err(format!("Unexpected checkpointed resources {}", message(&resource)));
            }
            let mut stripped = if is_persistent_volume(&resource) {
                without_volume(&resource)
            } else {
                resource.clone()
            };
            if is_dynamically_reserved(&resource) {
                stripped.reservations.truncate(1);
                stripped
                    .reservations
                    .retain(|reservation| reservation.r#type() == ReservationType::Static);
            }
            let stripped = one(&stripped);
            if !total.contains(&stripped) {
                return Err(format!(
                    "Incompatible agent resources: {total} does not contain {stripped}"
                ));
            }
            total.subtract(&stripped);
            total.add_entry(Entry::clone(entry));
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{self, Dialect};
    use proptest::prelude::*;

    fn operation(text: &str) -> Operation {
        let mut operation = json::from_slice(text.as_bytes(), Dialect::V1).unwrap();
        upgrade_operation(&mut operation).unwrap();
        operation
    }

    const RESERVED: &str = r#"{"name":"disk","type":"SCALAR","scalar":{"value":64},"reservations":[{"type":"DYNAMIC","role":"r"}]}"#;

    fn volume(size: f64, shared: bool) -> String {
        let shared = if shared { r#","shared":{}"# } else { "" };
        format!(
            r#"{{"name":"disk","type":"SCALAR","scalar":{{"value":{size}}},"reservations":[{{"type":"DYNAMIC","role":"r"}}],"disk":{{"persistence":{{"id":"v"}},"volume":{{"container_path":"p","mode":"RW"}}}}{shared}}}"#
        )
    }

    fn after(total: &Resources, text: &str) -> Result<Resources, String> {
        total.apply_all(&conversions(&operation(text)).unwrap())
    }

    #[test]
    fn a_volume_is_made_resized_and_destroyed() {
        let total = Resources::parse("cpus:1;disk:100", "*").unwrap();
        let reserved = after(
            &total,
            &format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#),
        )
        .unwrap();
        assert_eq!(reserved.to_string(), "cpus:1; disk:36; disk(reservations: [(DYNAMIC,r)]):64");
        let v64 = volume(64.0, false);
        let made =
            after(&reserved, &format!(r#"{{"type":"CREATE","create":{{"volumes":[{v64}]}}}}"#))
                .unwrap();
        assert_eq!(made.to_string(), "cpus:1; disk:36; disk(reservations: [(DYNAMIC,r)])[v:p]:64");
        let shrunk = after(
            &made,
            &format!(r#"{{"type":"SHRINK_VOLUME","shrink_volume":{{"volume":{v64},"subtract":{{"value":8}}}}}}"#),
        )
        .unwrap();
        assert_eq!(
            shrunk.to_string(),
            "cpus:1; disk:36; disk(reservations: [(DYNAMIC,r)])[v:p]:56; disk(reservations: [(DYNAMIC,r)]):8"
        );
        let v56 = volume(56.0, false);
        let eight = RESERVED.replace("64", "8");
        let grown = after(
            &shrunk,
            &format!(
                r#"{{"type":"GROW_VOLUME","grow_volume":{{"volume":{v56},"addition":{eight}}}}}"#
            ),
        )
        .unwrap();
        assert_eq!(grown, made);
        let destroyed =
            after(&grown, &format!(r#"{{"type":"DESTROY","destroy":{{"volumes":[{v64}]}}}}"#))
                .unwrap();
        assert_eq!(destroyed, reserved);
        let unreserved = after(
            &destroyed,
            &format!(r#"{{"type":"UNRESERVE","unreserve":{{"resources":[{RESERVED}]}}}}"#),
        )
        .unwrap();
        assert_eq!(unreserved.to_string(), "cpus:1; disk:100");
        let error = after(
            &total,
            &format!(r#"{{"type":"UNRESERVE","unreserve":{{"resources":[{RESERVED}]}}}}"#),
        );
        assert_eq!(
            error.unwrap_err(),
            "cpus:1; disk:100 does not contain disk(reservations: [(DYNAMIC,r)]):64"
        );
    }

    #[test]
    fn a_volume_is_known_by_its_id_whatever_it_is_used_for() {
        let total = Resources::parse("disk:64", "*").unwrap();
        let reserve = format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#);
        let reserved = after(&total, &reserve).unwrap();
        let made = volume(64.0, false);
        let create = format!(r#"{{"type":"CREATE","create":{{"volumes":[{made}]}}}}"#);
        let own = after(&reserved, &create).unwrap();
        let elsewhere = made
            .replace(r#""container_path":"p""#, r#""container_path":"elsewhere""#)
            .replace(r#"{"id":"v"}"#, r#"{"id":"v","principal":"q"}"#);
        let destroy = |volume: &str| {
            after(&own, &format!(r#"{{"type":"DESTROY","destroy":{{"volumes":[{volume}]}}}}"#))
        };
        assert_eq!(destroy(&elsewhere), Ok(reserved));
        assert!(destroy(&made.replace(r#""id":"v""#, r#""id":"w""#)).is_err());
        assert!(destroy(&made.replace("64", "32")).is_err(), "a volume is whole");
    }

    #[test]
    fn what_is_cut_off_a_volume_is_missing_from_it() {
        let total = Resources::parse("disk:64", "*").unwrap();
        let reserve = format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#);
        let made = volume(64.0, false);
        let create = format!(r#"{{"type":"CREATE","create":{{"volumes":[{made}]}}}}"#);
        let own = after(&after(&total, &reserve).unwrap(), &create).unwrap();
        for by in ["0.0005", "0.001", "0.0014", "63.9985"] {
            let shrink = format!(
                r#"{{"type":"SHRINK_VOLUME","shrink_volume":{{"volume":{made},"subtract":{{"value":{by}}}}}}}"#
            );
            assert_eq!(after(&own, &shrink).unwrap().disk(), 64.0, "{by}");
        }
    }

    #[test]
    fn reservations_are_refined_from_their_source() {
        let total = Resources::parse("disk:64", "*").unwrap();
        let first = format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#);
        let reserved = after(&total, &first).unwrap();
        let refined =
            RESERVED.replace(r#""role":"r"}"#, r#""role":"r"},{"type":"DYNAMIC","role":"r/s"}"#);
        let text = format!(
            r#"{{"type":"RESERVE","reserve":{{"source":[{RESERVED}],"resources":[{refined}]}}}}"#
        );
        let refined = after(&reserved, &text).unwrap();
        assert_eq!(refined.to_string(), "disk(reservations: [(DYNAMIC,r),(DYNAMIC,r/s)]):64");
        assert_eq!(refined.pop_reservation(), reserved);
        assert_eq!(total.with_checkpointed(&refined.checkpointed()), Ok(refined));
    }

    #[test]
    fn a_shared_volume_is_counted_and_not_destroyed_while_others_have_it() {
        let total = Resources::parse("disk:64", "*").unwrap();
        let total = after(
            &total,
            &format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#),
        )
        .unwrap();
        let shared = volume(64.0, true);
        let made =
            after(&total, &format!(r#"{{"type":"CREATE","create":{{"volumes":[{shared}]}}}}"#))
                .unwrap();
        let mut twice = made.clone();
        twice.add(&made);
        assert_eq!(twice.disk(), 64.0, "two copies are one disk");
        assert!(twice.contains(&made) && !made.contains(&twice));
        let destroy = format!(r#"{{"type":"DESTROY","destroy":{{"volumes":[{shared}]}}}}"#);
        assert!(after(&twice, &destroy).unwrap_err().ends_with("due to additional shared copies"));
        twice.subtract(&made);
        assert_eq!(after(&twice, &destroy), Ok(total));
    }

    proptest! {
        #[test]
        fn what_was_checkpointed_is_found_again(cpus in 1u32..8, disk in 1u32..100, reserved in 1u32..200) {
            let total = Resources::parse(&format!("cpus:{cpus};disk(static):50;disk:{disk}"), "*").unwrap();
            let text = RESERVED.replace("64", &reserved.to_string());
            let text = format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{text}]}}}}"#);
            match after(&total, &text) {
                Ok(made) => {
                    prop_assert!(reserved <= disk);
                    prop_assert_eq!(made.scalars(), total.scalars());
                    let found = total.with_checkpointed(&made.checkpointed()).unwrap();
                    prop_assert!(found.contains(&made) && made.contains(&found));
                }
                Err(_) => prop_assert!(reserved > disk),
            }
        }
    }
}
