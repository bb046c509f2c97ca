//! What tasks and executors are made of: commands, containers, checks (`common/validation.cpp`).

use mesos::v1::environment::variable::Type as Variable;
use mesos::v1::secret::Type as Secret;
use mesos::v1::volume::source::Type as Source;
use mesos::v1::{self, check_info::Type as Check, health_check::Type as HealthCheck};

fn refuse(text: impl Into<String>) -> Result<(), String> {
    Err(text.into())
}

/// Checks what somebody runs, and in what.
pub(super) fn launched(
    whose: &str,
    command: Option<&v1::CommandInfo>,
    container: Option<&v1::ContainerInfo>,
) -> Result<(), String> {
    let invalid =
        |what: &'static str| move |reason| format!("{whose} `{what}` is invalid: {reason}");
    command.map_or(Ok(()), self::command).map_err(invalid("CommandInfo"))?;
    container.map_or(Ok(()), self::container).map_err(invalid("ContainerInfo"))
}

/// Checks a command.
fn command(command: &v1::CommandInfo) -> Result<(), String> {
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    variables.into_iter().try_for_each(variable)
}

fn variable(variable: &v1::environment::Variable) -> Result<(), String> {
    let wrong = |what: &str| refuse(format!("Environment variable '{}' {what}", variable.name));
    match variable.r#type() {
        Variable::Secret => {
            let Some(own) = &variable.secret else {
                return wrong("of type 'SECRET' must have a secret set");
            };
            if variable.value.is_some() {
                return wrong("of type 'SECRET' must not have a value set");
            }
            if let Err(reason) = secret(own) {
                return wrong(&format!("specifies an invalid secret: {reason}"));
            }
            if own.value.as_ref().is_some_and(|value| value.data.contains(&0)) {
                return wrong(
                    "specifies a secret containing null bytes, which is not allowed in the environment",
                );
            }
            Ok(())
        }
        Variable::Value if variable.value.is_none() => {
            wrong("of type 'VALUE' must have a value set")
        }
        Variable::Value if variable.secret.is_some() => {
            wrong("of type 'VALUE' must not have a secret set")
        }
        Variable::Value => Ok(()),
        Variable::Unknown => refuse("Environment variable of type 'UNKNOWN' is not allowed"),
    }
}

fn secret(secret: &v1::Secret) -> Result<(), String> {
    match (secret.r#type(), &secret.reference, &secret.value) {
        (Secret::Reference, None, _) => {
            refuse("Secret of type REFERENCE must have the 'reference' field set")
        }
        (Secret::Reference, Some(reference), Some(_)) => refuse(format!(
            "Secret '{}' of type REFERENCE must not have the 'value' field set",
            reference.name
        )),
        (Secret::Value, _, None) => refuse("Secret of type VALUE must have the 'value' field set"),
        (Secret::Value, Some(_), Some(_)) => {
            refuse("Secret of type VALUE must not have the 'reference' field set")
        }
        (Secret::Reference | Secret::Value | Secret::Unknown, ..) => Ok(()),
    }
}

/// Checks a container.
pub(super) fn container(container: &v1::ContainerInfo) -> Result<(), String> {
    for own in &container.volumes {
        volume(own).map_err(|reason| format!("Invalid volume: {reason}"))?;
    }
    if is_of_docker(container) {
        let Some(docker) = &container.docker else {
            return refuse("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo");
        };
        if docker.parameters.iter().any(|parameter| parameter.key == "name") {
            return refuse("Parameter in DockerInfo must not be 'name'");
        }
    }
    Ok(())
}

/// Whether it is to be one of Docker's.
pub(super) fn is_of_docker(container: &v1::ContainerInfo) -> bool {
    container.r#type() == v1::container_info::Type::Docker
}

fn volume(volume: &v1::Volume) -> Result<(), String> {
    let given = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
    if given.iter().filter(|is_given| **is_given).count() != 1 {
        return refuse("Only one of them should be set: 'host_path', 'image' and 'source'");
    }
    let Some(source) = &volume.source else { return Ok(()) };
    let (field, kind, is_set) = match source.r#type() {
        Source::DockerVolume => {
            ("docker_volume", "DOCKER_VOLUME volume", source.docker_volume.is_some())
        }
        Source::HostPath => ("host_path", "HOST_PATH volume", source.host_path.is_some()),
        Source::SandboxPath => {
            ("sandbox_path", "SANDBOX_PATH volume", source.sandbox_path.is_some())
        }
        Source::Secret => ("secret", "SECRET volume", source.secret.is_some()),
        Source::CsiVolume => match &source.csi_volume {
            Some(csi) => {
                let is_set = csi.static_provisioning.is_some();
                ("csi_volume.static_provisioning", "CSI volume", is_set)
            }
            None => ("csi_volume", "CSI volume", false),
        },
        Source::Unknown => return refuse("'source.type' is unknown"),
    };
    if is_set { Ok(()) } else { refuse(format!("'source.{field}' is not set for {kind}")) }
}

/// Checks a health check.
pub(super) fn health_check(check: &v1::HealthCheck) -> Result<(), String> {
    match check.r#type.map(|_| check.r#type()) {
        None => return refuse("HealthCheck must specify 'type'"),
        Some(HealthCheck::Unknown) => {
            return refuse("'UNKNOWN' is not a valid health check type");
        }
        Some(HealthCheck::Command) => {
            let Some(info) = &check.command else {
                return refuse("Expecting 'command' to be set for COMMAND health check");
            };
            what_to_run(info, ["Command health check", "Health check's"])?;
        }
        Some(HealthCheck::Http) => {
            let Some(http) = &check.http else {
                return refuse("Expecting 'http' to be set for HTTP health check");
            };
            let scheme = http.scheme.as_deref().unwrap_or("http");
            if !matches!(scheme, "http" | "https") {
                return refuse(format!("Unsupported HTTP health check scheme: '{scheme}'"));
            }
            path(http.path.as_deref(), "HTTP health check")?;
        }
        Some(HealthCheck::Tcp) if check.tcp.is_none() => {
            return refuse("Expecting 'tcp' to be set for TCP health check");
        }
        Some(HealthCheck::Tcp) => {}
    }
    times(&[
        ("delay_seconds", check.delay_seconds()),
        ("grace_period_seconds", check.grace_period_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
    ])
}

/// Checks a check.
pub(super) fn check(check: &v1::CheckInfo) -> Result<(), String> {
    match check.r#type.map(|_| check.r#type()) {
        None => return refuse("CheckInfo must specify 'type'"),
        Some(Check::Unknown) => return refuse("'UNKNOWN' is not a valid check type"),
        Some(Check::Command) => {
            let Some(command) = &check.command else {
                return refuse("Expecting 'command' to be set for COMMAND check");
            };
            what_to_run(&command.command, ["Command check", "Check's"])?;
        }
        Some(Check::Http) => {
            let Some(http) = &check.http else {
                return refuse("Expecting 'http' to be set for HTTP check");
            };
            path(http.path.as_deref(), "HTTP check")?;
        }
        Some(Check::Tcp) if check.tcp.is_none() => {
            return refuse("Expecting 'tcp' to be set for TCP check");
        }
        Some(Check::Tcp) => {}
    }
    times(&[
        ("delay_seconds", check.delay_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
    ])
}

fn what_to_run(info: &v1::CommandInfo, [what, whose]: [&str; 2]) -> Result<(), String> {
    if info.value.is_none() {
        let kind = if info.shell() { "'shell command'" } else { "'executable path'" };
        return refuse(format!("{what} must contain {kind}"));
    }
    command(info).map_err(|reason| format!("{whose} `CommandInfo` is invalid: {reason}"))
}

fn path(path: Option<&str>, what: &str) -> Result<(), String> {
    match path.filter(|path| !path.starts_with('/')) {
        Some(path) => refuse(format!("The path '{path}' of {what} must start with '/'")),
        None => Ok(()),
    }
}

fn times(times: &[(&str, f64)]) -> Result<(), String> {
    match times.iter().find(|(_, value)| *value < 0.0 || value.is_nan()) {
        Some((name, _)) => refuse(format!("Expecting '{name}' to be non-negative")),
        None => Ok(()),
    }
}
