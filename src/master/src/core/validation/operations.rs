//! Which operations on resources are taken (`validation::operation`), refused in the original's words.
//!
//! Resources are in the newest form; what only the whole of an offer or an agent can tell is found by applying.

use std::collections::BTreeSet;

use mesos::resources::operations::{is_dynamically_reserved, is_persistent_volume, without_volume};
use mesos::resources::{Milli, Resources, describe, reserved_role};
use mesos::v1::agent_info::capability::Type as AgentCapability;
use mesos::v1::framework_info::capability::Type as Capability;
use mesos::v1::offer::{Operation, operation};
use mesos::v1::resource::disk_info::source::Type as Source;
use mesos::v1::{self, volume::Mode};

use super::super::model::{Agent, Framework};

/// Who wants an operation.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) enum Author<'a> {
    /// A framework, of what it was offered.
    Framework(&'a Framework),
    /// An operator, with a principal if there is authentication.
    Operator(Option<&'a str>),
}

impl<'a> Author<'a> {
    fn framework(self) -> Option<&'a Framework> {
        match self {
            Self::Framework(framework) => Some(framework),
            Self::Operator(_) => None,
        }
    }

    fn principal(self) -> Option<&'a str> {
        match self {
            Self::Framework(framework) => framework.info.principal.as_deref(),
            Self::Operator(principal) => principal,
        }
    }
}

/// Checks an operation on an agent that has `used` in use.
pub(in crate::core) fn check(
    author: Author<'_>,
    agent: &Agent,
    used: &Resources,
    wanted: &Operation,
) -> Result<(), String> {
    let missing = || Err("Operation not supported".to_owned());
    match wanted.r#type() {
        operation::Type::Reserve => wanted
            .reserve
            .as_ref()
            .map_or_else(missing, |reserve| self::reserve(author, agent, reserve)),
        operation::Type::Unreserve => {
            wanted.unreserve.as_ref().map_or_else(missing, |own| unreserve(&own.resources))
        }
        operation::Type::Create => wanted
            .create
            .as_ref()
            .map_or_else(missing, |create| self::create(author, agent, &create.volumes)),
        operation::Type::Destroy => wanted
            .destroy
            .as_ref()
            .map_or_else(missing, |destroy| self::destroy(agent, used, &destroy.volumes)),
        operation::Type::GrowVolume => {
            wanted.grow_volume.as_ref().map_or_else(missing, |own| grow(agent, own))
        }
        operation::Type::ShrinkVolume => {
            wanted.shrink_volume.as_ref().map_or_else(missing, |own| shrink(agent, own))
        }
        operation::Type::CreateDisk => {
            wanted.create_disk.as_ref().map_or_else(missing, create_disk)
        }
        operation::Type::DestroyDisk => {
            wanted.destroy_disk.as_ref().map_or_else(missing, |own| destroy_disk(&own.source))
        }
        _ => missing(),
    }
}

/// What any resources must be, in a task or in an operation.
pub(in crate::core) fn resources(resources: &[v1::Resource]) -> Result<(), String> {
    Resources::validate(resources).map_err(|reason| format!("Invalid resources: {reason}"))?;
    if Resources::from_protos(resources).gpus().fract() != 0.0 {
        return Err(
            "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer".to_owned()
        );
    }
    for resource in resources {
        disk(resource).map_err(|reason| format!("Invalid DiskInfo: {reason}"))?;
        if is_dynamically_reserved(resource) && resource.revocable.is_some() {
            return Err(format!(
                "Invalid ReservationInfo: Dynamically reserved resource {} cannot be created from revocable resources",
                describe(resource)
            ));
        }
    }
    Ok(())
}

fn disk(resource: &v1::Resource) -> Result<(), String> {
    let refuse = |text: &str| Err(text.to_owned());
    let Some(disk) = &resource.disk else { return Ok(()) };
    let Some(persistence) = &disk.persistence else {
        return match (&disk.volume, &disk.source) {
            (Some(_), _) => refuse("Non-persistent volume not supported"),
            (None, None) => refuse("DiskInfo is set but empty"),
            (None, Some(_)) => Ok(()),
        };
    };
    if resource.revocable.is_some() {
        return refuse("Persistent volumes cannot be created from revocable resources");
    }
    if reserved_role(resource) == mesos::roles::DEFAULT {
        return refuse("Persistent volumes cannot be created from unreserved resources");
    }
    match &disk.volume {
        None => refuse("Expecting 'volume' to be set for persistent volume"),
        Some(volume) if volume.host_path.is_some() => {
            refuse("Expecting 'host_path' to be unset for persistent volume")
        }
        Some(_) => mesos::ids::validate(&persistence.id)
            .map_err(|reason| format!("Invalid persistence ID for persistent volume: {reason}")),
    }
}

fn invalid(list: &[v1::Resource]) -> Result<(), String> {
    resources(list).map_err(|reason| format!("Invalid resources: {reason}"))
}

fn of_one_provider(resources: &[v1::Resource]) -> Result<(), String> {
    let providers: BTreeSet<Option<&str>> = resources
        .iter()
        .map(|resource| resource.provider_id.as_ref().map(|id| id.value.as_str()))
        .collect();
    if providers.len() == 1 {
        return Ok(());
    }
    if providers.contains(&None) {
        return Err(
            "Invalid resources: Some resources have a resource provider and some do not".to_owned()
        );
    }
    let names: Vec<&str> = providers.into_iter().flatten().collect();
    Err(format!(
        "Invalid resources: The resources have multiple resource providers: {}",
        names.join(", ")
    ))
}

fn allocated_role(resource: &v1::Resource) -> Option<&str> {
    resource.allocation_info.as_ref()?.role.as_deref()
}

/// Checks that all resources are allocated, to one role.
pub(super) fn of_one_role(resources: &[v1::Resource]) -> Result<(), String> {
    let mut first: Option<&str> = None;
    for resource in resources {
        let Some(role) = allocated_role(resource) else {
            return Err("The resources are not allocated to a role".to_owned());
        };
        match first {
            Some(first) if first != role => {
                return Err(format!(
                    "The resources have multiple allocation roles ('{role}' and '{first}') but only one allocation role is allowed"
                ));
            }
            _ => first = Some(role),
        }
    }
    Ok(())
}

fn fits_agent(what: (&str, &str), agent: &Agent, resource: &v1::Resource) -> Result<(), String> {
    let (head, verb) = what;
    let role = reserved_role(resource);
    if role.contains('/') && !agent.can(AgentCapability::HierarchicalRole) {
        return Err(format!(
            "{head} {} with reservation for hierarchical role '{role}' cannot be {verb} on an agent without HIERARCHICAL_ROLE capability",
            describe(resource)
        ));
    }
    if resource.reservations.len() > 1 && !agent.can(AgentCapability::ReservationRefinement) {
        return Err(format!(
            "{head} {} with reservation refinement cannot be {verb} on an agent without RESERVATION_REFINEMENT capability",
            describe(resource)
        ));
    }
    Ok(())
}

fn reserve(author: Author<'_>, agent: &Agent, reserve: &operation::Reserve) -> Result<(), String> {
    invalid(&reserve.resources)?;
    resources(&reserve.source).map_err(|reason| format!("Invalid source: {reason}"))?;
    if !reserve.source.is_empty() {
        let uniform = |list: &[v1::Resource]| match list.split_first() {
            None => Err("Resource cannot be empty"),
            Some((first, rest))
                if rest.iter().any(|other| other.reservations != first.reservations) =>
            {
                Err("Mixed reservations are not supported")
            }
            Some(_) => Ok(()),
        };
        uniform(&reserve.source).map_err(|reason| format!("Invalid source: {reason}"))?;
        uniform(&reserve.resources).map_err(|reason| format!("Invalid resources: {reason}"))?;
        let plain = |list: &[v1::Resource]| Resources::from_protos(list).to_unreserved();
        let (source, target) = (plain(&reserve.source), plain(&reserve.resources));
        if !(source.contains(&target) && target.contains(&source)) {
            return Err(format!(
                "Source and target resources should refer to identical resource quantities: {source} vs. {target}"
            ));
        }
    }
    of_one_provider(&reserve.resources)?;
    for resource in &reserve.resources {
        if !is_dynamically_reserved(resource) {
            return Err(format!("Resource {} is not dynamically reserved", describe(resource)));
        }
        fits_agent(("Resource", "reserved"), agent, resource)?;
        if let Some(principal) = author.principal() {
            let given = resource.reservations.last().and_then(|last| last.principal.as_deref());
            match given {
                None => {
                    return Err(format!(
                        "A reserve operation was attempted by principal '{principal}', but there is a reserved resource in the request with no principal set"
                    ));
                }
                Some(given) if given != principal => {
                    return Err(format!(
                        "A reserve operation was attempted by authenticated principal '{principal}', which does not match a reserved resource in the request with principal '{given}'"
                    ));
                }
                Some(_) => {}
            }
        }
        reserved_by_right_one(author, resource)?;
    }
    if author.framework().is_some() {
        of_one_role(&reserve.resources)
            .map_err(|reason| format!("Invalid reservation resources: {reason}"))?;
    }
    Ok(())
}

fn reserved_by_right_one(author: Author<'_>, resource: &v1::Resource) -> Result<(), String> {
    let allocated = allocated_role(resource);
    let Some(framework) = author.framework() else {
        return match allocated {
            None => Ok(()),
            Some(_) => Err("A reserve operation was attempted with an allocated resource, but the operator API only allows reservations to be made to unallocated resources".to_owned()),
        };
    };
    let Some(allocated) = allocated else {
        return Err(format!(
            "A reserve operation was attempted on unallocated resource {}, but frameworks can only perform reservations on allocated resources",
            describe(resource)
        ));
    };
    let role = reserved_role(resource);
    if allocated != role {
        return Err(format!(
            "A reserve operation was attempted for a resource with role '{role}', but the resource was allocated to role '{allocated}'"
        ));
    }
    let roles = framework.roles();
    if !roles.contains(role) {
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        return Err(format!(
            "A reserve operation was attempted for a resource allocated to role '{role}', but the framework only has roles '{{ {} }}'",
            roles.join(", ")
        ));
    }
    Ok(())
}

fn unreserve(resources: &[v1::Resource]) -> Result<(), String> {
    invalid(resources)?;
    of_one_provider(resources)?;
    for resource in resources {
        if !is_dynamically_reserved(resource) {
            return Err(format!("Resource {} is not dynamically reserved", describe(resource)));
        }
        if is_persistent_volume(resource) {
            return Err(format!(
                "A dynamically reserved persistent volume {} cannot be unreserved directly. Please destroy the persistent volume first then unreserve the resource",
                describe(resource)
            ));
        }
    }
    Ok(())
}

fn disk_of_provider(source: &v1::Resource) -> Result<Option<Source>, String> {
    resources(std::slice::from_ref(source))
        .map_err(|reason| format!("Invalid resource: {reason}"))?;
    if source.provider_id.is_none() {
        return Err("'source' is not managed by a resource provider".to_owned());
    }
    Ok(source
        .disk
        .as_ref()
        .and_then(|disk| disk.source.as_ref())
        .map(v1::resource::disk_info::Source::r#type))
}

fn create_disk(create: &operation::CreateDisk) -> Result<(), String> {
    let refuse = |text: &str| Err(text.to_owned());
    if disk_of_provider(&create.source)? != Some(Source::Raw) {
        return refuse("'source' is not a RAW disk resource");
    }
    if !matches!(create.target_type(), Source::Mount | Source::Block) {
        return refuse("'target_type' is neither MOUNT or BLOCK");
    }
    let source = create.source.disk.as_ref().and_then(|disk| disk.source.as_ref());
    let has_profile = source.is_some_and(|source| source.profile.is_some());
    match (has_profile, create.target_profile.is_some()) {
        (true, true) => refuse("'target_profile' must not be set when 'source' has a profile"),
        (false, false) => refuse("'target_profile' must be set when 'source' has no profile"),
        _ => Ok(()),
    }
}

fn destroy_disk(source: &v1::Resource) -> Result<(), String> {
    let refuse = |text: &str| Err(text.to_owned());
    if !matches!(disk_of_provider(source)?, Some(Source::Mount | Source::Block | Source::Raw)) {
        return refuse("'source' is neither a MOUNT, BLOCK or RAW disk resource");
    }
    let disk = source.disk.as_ref();
    if disk.and_then(|disk| disk.source.as_ref()).is_none_or(|own| own.id.is_none()) {
        return refuse("'source' is not backed by a CSI volume");
    }
    if is_persistent_volume(source) {
        return Err(format!(
            "A disk resource containing a persistent volume {} cannot be destroyed directly. Please destroy the persistent volume first then destroy the disk resource",
            describe(source)
        ));
    }
    Ok(())
}

fn volumes(volumes: &[v1::Resource]) -> Result<(), String> {
    for volume in volumes {
        let Some(disk) = &volume.disk else {
            return Err(format!("Resource {} does not have DiskInfo", describe(volume)));
        };
        if disk.persistence.is_none() {
            return Err("'persistence' is not set in DiskInfo".to_owned());
        }
        match &disk.volume {
            None => return Err("Expecting 'volume' to be set for persistent volume".to_owned()),
            Some(volume) if volume.mode() == Mode::Ro => {
                return Err("Read-only persistent volume not supported".to_owned());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn no_volumes(list: &[v1::Resource]) -> Result<(), String> {
    volumes(list).map_err(|reason| format!("Not a persistent volume: {reason}"))
}

fn create(author: Author<'_>, agent: &Agent, list: &[v1::Resource]) -> Result<(), String> {
    invalid(list)?;
    of_one_provider(list)?;
    no_volumes(list)?;
    let known = agent.total.persistent_volumes().to_protos();
    let mut ids = BTreeSet::new();
    for volume in known.iter().chain(list) {
        let id = volume.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        let id = id.map_or("", |persistence| persistence.id.as_str());
        if !ids.insert((reserved_role(volume).to_owned(), id.to_owned())) {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    for volume in list {
        if let Some(framework) = author.framework()
            && volume.shared.is_some()
            && !framework.can(Capability::SharedResources)
        {
            return Err(format!(
                "Create volume operation for '{}' has been attempted by framework '{}' with no SHARED_RESOURCES capability",
                describe(volume),
                framework.id
            ));
        }
        fits_agent(("Volume", "created"), agent, volume)?;
        let Some(principal) = author.principal() else { continue };
        let persistence = volume.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        match persistence.and_then(|persistence| persistence.principal.as_deref()) {
            None => {
                return Err(format!(
                    "Create volume operation attempted by principal '{principal}', but there is a volume in the operation with no principal set in 'disk.persistence'"
                ));
            }
            Some(given) if given != principal => {
                return Err(format!(
                    "Create volume operation attempted by authenticated principal '{principal}', which does not match a volume in the operation with principal '{given}' set in 'disk.persistence'"
                ));
            }
            Some(_) => {}
        }
    }
    if author.framework().is_some() {
        of_one_role(list).map_err(|reason| format!("Invalid volume resources: {reason}"))?;
    }
    Ok(())
}

fn destroy(agent: &Agent, used: &Resources, list: &[v1::Resource]) -> Result<(), String> {
    let mut list = list.to_vec();
    for volume in &mut list {
        volume.allocation_info = None;
    }
    invalid(&list)?;
    of_one_provider(&list)?;
    no_volumes(&list)?;
    for volume in &list {
        let one = Resources::from_protos(std::slice::from_ref(volume));
        if !agent.total.contains(&one) {
            return Err("Persistent volumes not found".to_owned());
        }
        if used.contains(&one) {
            return Err("Persistent volumes in use".to_owned());
        }
    }
    Ok(())
}

fn resizable(agent: &Agent, volume: &v1::Resource, how: (&str, &str, &str)) -> Result<(), String> {
    let (field, doing, done) = how;
    volumes(std::slice::from_ref(volume)).map_err(|reason| {
        format!("Invalid persistent volume in the '{field}.volume' field: {reason}")
    })?;
    if volume.shared.is_some() {
        return Err(format!("{doing} a shared persistent volume is not supported"));
    }
    if !agent.can(AgentCapability::ResizeVolume) {
        return Err(format!(
            "Volume {} cannot be {done} on an agent without RESIZE_VOLUME capability",
            describe(volume)
        ));
    }
    Ok(())
}

fn amount(scalar: Option<v1::value::Scalar>) -> Milli {
    Milli::from_f64(scalar.map_or(0.0, |scalar| scalar.value))
}

fn grow(agent: &Agent, grow: &operation::GrowVolume) -> Result<(), String> {
    for (name, resource) in [("volume", &grow.volume), ("addition", &grow.addition)] {
        Resources::validate(std::slice::from_ref(resource)).map_err(|reason| {
            format!("Invalid resource in the 'GrowVolume.{name}' field: {reason}")
        })?;
    }
    if amount(grow.addition.scalar).0 <= 0 {
        return Err("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
    }
    if grow.volume.provider_id.is_some() {
        return Err("Growing a volume from a resource provider is not supported".to_owned());
    }
    let stripped = v1::Resource { scalar: None, ..without_volume(&grow.volume) };
    let addition = v1::Resource { scalar: None, ..grow.addition.clone() };
    resizable(agent, &grow.volume, ("GrowVolume", "Growing", "grown"))?;
    if stripped != addition {
        return Err(
            "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields"
                .to_owned(),
        );
    }
    Ok(())
}

fn shrink(agent: &Agent, shrink: &operation::ShrinkVolume) -> Result<(), String> {
    Resources::validate(std::slice::from_ref(&shrink.volume)).map_err(|reason| {
        format!("Invalid resource in the 'ShrinkVolume.volume' field: {reason}")
    })?;
    let by = amount(Some(shrink.subtract));
    if by.0 <= 0 {
        return Err("Value of 'ShrinkVolume.subtract' must be greater than zero".to_owned());
    }
    if amount(shrink.volume.scalar) <= by {
        return Err("Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'".to_owned());
    }
    if shrink.volume.provider_id.is_some() {
        return Err("Shrinking a volume from a resource provider is not supported".to_owned());
    }
    let source = shrink.volume.disk.as_ref().and_then(|disk| disk.source.as_ref());
    if source.is_some_and(|source| source.r#type() == Source::Mount) {
        return Err("Shrinking a volume on a MOUNT disk is not supported".to_owned());
    }
    resizable(agent, &shrink.volume, ("ShrinkVolume", "Shrinking", "shrunk"))
}
