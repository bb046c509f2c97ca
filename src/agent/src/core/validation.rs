//! Calls of the operator API: what they must hold (`slave/validation.cpp`).

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::agent::{Call, call};

use super::container_id::ContainerId;

/// Checks a call.
///
/// # Errors
/// What is wrong with it, in the original's words.
pub fn validate(call: &Call) -> Result<(), String> {
    use call::Type as T;
    let Some(kind) = call.r#type.map(|_| call.r#type()) else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    if let Some(name) = missing(call, kind) {
        return Err(format!("Expecting '{name}' to be present"));
    }
    if let Some((name, id, is_nested)) = container_id(call) {
        let id = ContainerId::parse(id)
            .map_err(|reason| format!("'{name}.container_id' is invalid: {reason}"))?;
        if is_nested && id.depth() == 0 {
            return Err(format!("Expecting '{name}.container_id.parent' to be present"));
        }
    }
    match kind {
        T::AttachContainerInput => {
            let input = call.attach_container_input.clone().unwrap_or_default();
            if input.r#type.is_none() {
                return Err("Expecting 'attach_container_input.type' to be present".to_owned());
            }
            if input.r#type() == call::attach_container_input::Type::Unknown {
                return Err("'attach_container_input.type' is unknown".to_owned());
            }
            Ok(())
        }
        T::LaunchContainer => call.launch_container.as_ref().map_or(Ok(()), launch_container),
        T::LaunchNestedContainer | T::LaunchNestedContainerSession => {
            let name = if kind == T::LaunchNestedContainer {
                "launch_nested_container"
            } else {
                "launch_nested_container_session"
            };
            let (command, container) = parts(call);
            check_parts(name, command, container)?;
            check_cgroups(call)
        }
        _ => Ok(()),
    }
}

/// The member that a call lacks, if any.
fn missing(call: &Call, kind: call::Type) -> Option<&'static str> {
    use call::Type as T;
    let (present, name) = match kind {
        T::GetMetrics => (call.get_metrics.is_some(), "get_metrics"),
        T::SetLoggingLevel => (call.set_logging_level.is_some(), "set_logging_level"),
        T::ListFiles => (call.list_files.is_some(), "list_files"),
        T::ReadFile => (call.read_file.is_some(), "read_file"),
        T::LaunchNestedContainer => {
            (call.launch_nested_container.is_some(), "launch_nested_container")
        }
        T::WaitNestedContainer => (call.wait_nested_container.is_some(), "wait_nested_container"),
        T::KillNestedContainer => (call.kill_nested_container.is_some(), "kill_nested_container"),
        T::RemoveNestedContainer => {
            (call.remove_nested_container.is_some(), "remove_nested_container")
        }
        T::LaunchNestedContainerSession => {
            (call.launch_nested_container_session.is_some(), "launch_nested_container_session")
        }
        T::AttachContainerInput => {
            (call.attach_container_input.is_some(), "attach_container_input")
        }
        T::AttachContainerOutput => {
            (call.attach_container_output.is_some(), "attach_container_output")
        }
        T::LaunchContainer => (call.launch_container.is_some(), "launch_container"),
        T::WaitContainer => (call.wait_container.is_some(), "wait_container"),
        T::KillContainer => (call.kill_container.is_some(), "kill_container"),
        T::RemoveContainer => (call.remove_container.is_some(), "remove_container"),
        T::AddResourceProviderConfig => {
            (call.add_resource_provider_config.is_some(), "add_resource_provider_config")
        }
        T::UpdateResourceProviderConfig => {
            (call.update_resource_provider_config.is_some(), "update_resource_provider_config")
        }
        T::RemoveResourceProviderConfig => {
            (call.remove_resource_provider_config.is_some(), "remove_resource_provider_config")
        }
        T::MarkResourceProviderGone => {
            (call.mark_resource_provider_gone.is_some(), "mark_resource_provider_gone")
        }
        _ => (true, ""),
    };
    (!present).then_some(name)
}

/// The container that a call names, by which member, and whether it must be nested.
fn container_id(call: &Call) -> Option<(&'static str, &v1::ContainerId, bool)> {
    use call::Type as T;
    Some(match call.r#type() {
        T::LaunchNestedContainer => {
            ("launch_nested_container", &call.launch_nested_container.as_ref()?.container_id, true)
        }
        T::WaitNestedContainer => {
            ("wait_nested_container", &call.wait_nested_container.as_ref()?.container_id, true)
        }
        T::KillNestedContainer => {
            ("kill_nested_container", &call.kill_nested_container.as_ref()?.container_id, true)
        }
        T::RemoveNestedContainer => {
            ("remove_nested_container", &call.remove_nested_container.as_ref()?.container_id, true)
        }
        T::LaunchNestedContainerSession => (
            "launch_nested_container_session",
            &call.launch_nested_container_session.as_ref()?.container_id,
            true,
        ),
        T::AttachContainerInput => (
            "attach_container_input",
            call.attach_container_input.as_ref()?.container_id.as_ref()?,
            false,
        ),
        T::AttachContainerOutput => {
            ("attach_container_output", &call.attach_container_output.as_ref()?.container_id, false)
        }
        T::LaunchContainer => {
            ("launch_container", &call.launch_container.as_ref()?.container_id, false)
        }
        T::WaitContainer => ("wait_container", &call.wait_container.as_ref()?.container_id, false),
        T::KillContainer => ("kill_container", &call.kill_container.as_ref()?.container_id, false),
        T::RemoveContainer => {
            ("remove_container", &call.remove_container.as_ref()?.container_id, false)
        }
        _ => return None,
    })
}

fn parts(call: &Call) -> (Option<&v1::CommandInfo>, Option<&v1::ContainerInfo>) {
    let nested = call.launch_nested_container.as_ref();
    let session = call.launch_nested_container_session.as_ref();
    match call.r#type() {
        call::Type::LaunchNestedContainer => (
            nested.and_then(|nested| nested.command.as_ref()),
            nested.and_then(|nested| nested.container.as_ref()),
        ),
        _ => (
            session.and_then(|session| session.command.as_ref()),
            session.and_then(|session| session.container.as_ref()),
        ),
    }
}

fn check_parts(
    name: &str,
    command: Option<&v1::CommandInfo>,
    container: Option<&v1::ContainerInfo>,
) -> Result<(), String> {
    let variables = command.into_iter().flat_map(|command| &command.environment);
    for variable in variables.flat_map(|environment| &environment.variables) {
        let is_value = variable.r#type() == v1::environment::variable::Type::Value;
        if is_value && variable.value.is_none() {
            return Err(format!(
                "'{name}.command' is invalid: Environment variable '{}' of type 'VALUE' must have a value set",
                variable.name
            ));
        }
    }
    let is_docker = container.is_some_and(|container| {
        container.r#type() == v1::container_info::Type::Docker && container.docker.is_none()
    });
    if is_docker {
        return Err(format!(
            "'{name}.container' is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
        ));
    }
    Ok(())
}

fn launch_container(launch: &call::LaunchContainer) -> Result<(), String> {
    let is_twice_nested =
        launch.container_id.parent.as_ref().is_some_and(|parent| parent.parent.is_some());
    let is_standalone = launch.container_id.parent.is_none();
    Resources::validate(&launch.resources)
        .map_err(|error| format!("Invalid resources: {error}"))?;
    if is_standalone {
        let resources = Resources::from_protos(&launch.resources);
        if !resources.reservations().is_empty() {
            return Err("'launch_container.resources' must be unreserved".to_owned());
        }
        let is_volume = |resource: &v1::Resource| {
            resource.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
        };
        if launch.resources.iter().any(is_volume) {
            return Err("'launch_container.resources' may not use persistent volumes".to_owned());
        }
        if launch.resources.iter().any(|resource| resource.revocable.is_some()) {
            return Err("'launch_container.resources' must be non-revocable".to_owned());
        }
    }
    check_parts("launch_container", launch.command.as_ref(), launch.container.as_ref())?;
    let invalid = |text: &str| Err(format!("'launch_container' is invalid: {text}"));
    if is_twice_nested && !launch.resources.is_empty() {
        return invalid(
            "containers nested at the second level or greater cannot specify resources",
        );
    }
    if is_twice_nested && !launch.limits.is_empty() {
        return invalid(
            "containers nested at the second level or greater cannot specify resource limits",
        );
    }
    match shares_cgroups(launch.container.as_ref()) {
        Some(false) if is_twice_nested => invalid(OWN_CGROUPS),
        Some(true) if is_standalone => {
            invalid("containers without a parent cannot set 'share_cgroups' to 'true'")
        }
        _ => Ok(()),
    }
}

const OWN_CGROUPS: &str =
    "containers nested at the second level or greater cannot set 'share_cgroups' to 'false'";

/// What a container says of its cgroups, if it says it.
fn shares_cgroups(container: Option<&v1::ContainerInfo>) -> Option<bool> {
    container?.linux_info.as_ref()?.share_cgroups
}

/// Who looks into a container shares its cgroups, and so do those in one that is nested.
fn check_cgroups(call: &Call) -> Result<(), String> {
    let is_apart = |container: &Option<_>| shares_cgroups(container.as_ref()) == Some(false);
    if let Some(launch) = &call.launch_nested_container {
        let parent = launch.container_id.parent.as_ref();
        let is_twice_nested = parent.is_some_and(|parent| parent.parent.is_some());
        if is_twice_nested && is_apart(&launch.container) {
            return Err(format!("'launch_nested_container' is invalid: {OWN_CGROUPS}"));
        }
    }
    let session = call.launch_nested_container_session.as_ref();
    if session.is_some_and(|launch| is_apart(&launch.container)) {
        return Err("'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for nested container sessions".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::json::{self, Dialect};

    fn refusal(text: &str) -> String {
        let call: Call = json::from_slice(text.as_bytes(), Dialect::V1).unwrap();
        validate(&call).unwrap_err()
    }

    #[test]
    fn calls_are_refused_in_the_originals_words() {
        for (call, expected) in [
            ("{}", "Expecting 'type' to be present"),
            (r#"{"type":"READ_FILE"}"#, "Expecting 'read_file' to be present"),
            (
                r#"{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"n2"}}}"#,
                "Expecting 'launch_nested_container.container_id.parent' to be present",
            ),
            (
                r#"{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"a b"}}}"#,
                "'wait_container.container_id' is invalid: 'ContainerID.value' 'a b' contains invalid characters",
            ),
            (
                r#"{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{}}"#,
                "Expecting 'attach_container_input.type' to be present",
            ),
            (
                r#"{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"r"}]}]}}"#,
                "'launch_container.resources' must be unreserved",
            ),
            (
                r#"{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"c","parent":{"value":"b","parent":{"value":"a"}}},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}}"#,
                "'launch_container' is invalid: containers nested at the second level or greater cannot specify resources",
            ),
            (
                r#"{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"c"},"container":{"type":"MESOS","linux_info":{"share_cgroups":true}}}}"#,
                "'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'",
            ),
            (
                r#"{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"c","parent":{"value":"b","parent":{"value":"a"}}},"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}}}"#,
                "'launch_nested_container' is invalid: containers nested at the second level or greater cannot set 'share_cgroups' to 'false'",
            ),
            (
                r#"{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{"container_id":{"value":"b","parent":{"value":"a"}},"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}}}"#,
                "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for nested container sessions",
            ),
        ] {
            assert_eq!(refusal(call), expected, "{call}");
        }
        let known = Call { r#type: Some(call::Type::PruneImages as i32), ..Default::default() };
        assert_eq!(validate(&known), Ok(()));
    }
}
