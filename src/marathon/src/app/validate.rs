//! What is wrong with an app, in the original's words.

use super::{App, Refusal, UnreachableStrategy};

impl App {
    pub(super) fn validate(&self) -> Result<(), Refusal> {
        let mut errors: Vec<(String, String)> = Vec::new();
        let mut wrong = |path: &str, error: &str| errors.push((path.to_owned(), error.to_owned()));
        const SEGMENT: &str = "^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$";
        if self.id == "/" {
            wrong("/id", "must not be empty");
        }
        for part in self.id.split('/').skip(1).filter(|_| self.id != "/") {
            let label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| {
                        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
                    })
            };
            if !part.split('.').all(label) {
                wrong("/id", &format!("must fully match regular expression '{SEGMENT}'"));
                break;
            }
        }
        if let Some(last) = self
            .id
            .rsplit('/')
            .next()
            .filter(|last| ["restart", "tasks", "versions", ".", ".."].contains(last))
        {
            wrong(
                "/id",
                &format!(
                    "must not end with any of the following reserved keywords: restart, tasks, versions, ., .. ({last})"
                ),
            );
        }
        if self.cmd.is_some() && self.args.is_some() {
            wrong("/", "AppDefinition must not contain both 'cmd' and 'args'.");
        }
        if let UnreachableStrategy::After { inactive_after_seconds, expunge_after_seconds } =
            self.unreachable_strategy
            && inactive_after_seconds > expunge_after_seconds
        {
            wrong(
                "/unreachableStrategy/inactiveAfterSeconds",
                &format!(
                    "inactiveAfterSeconds ({inactive_after_seconds}) must not be greater than expungeAfterSeconds ({expunge_after_seconds})"
                ),
            );
        }
        let has_image = self.container.as_ref().is_some_and(|container| container.docker.is_some());
        if self.cmd.as_deref().is_none_or(str::is_empty)
            && self.args.as_ref().is_none_or(Vec::is_empty)
            && !has_image
        {
            wrong(
                "/",
                "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.",
            );
        }
        if !(self.cpus >= 0.0 && self.cpus.is_finite()) {
            wrong("/cpus", "error.min");
        }
        if !(self.mem >= 0.0 && self.mem.is_finite()) {
            wrong("/mem", "error.min");
        }
        if !(self.disk >= 0.0 && self.disk.is_finite()) {
            wrong("/disk", "error.min");
        }
        if self.gpus > 0 {
            wrong("/gpus", "gpus are not supported by this Marathon yet");
        }
        if !self.dependencies.is_empty() {
            wrong("/dependencies", "dependencies are not supported by this Marathon yet");
        }
        for capacity in [
            self.upgrade_strategy.minimum_health_capacity,
            self.upgrade_strategy.maximum_over_capacity,
        ] {
            if !(0.0..=1.0).contains(&capacity) {
                wrong("/upgradeStrategy", "must be between 0.0 and 1.0");
            }
        }
        for (index, network) in self.networks.iter().enumerate() {
            match network.mode.as_str() {
                "host" | "container/bridge" => {}
                "container" if network.name.is_some() => {}
                "container" => wrong(&format!("/networks({index})/name"), "must not be empty"),
                other => wrong(
                    &format!("/networks({index})/mode"),
                    &format!("'{other}' is none of host, container/bridge, container"),
                ),
            }
        }
        if let Some(container) = &self.container {
            match (container.kind.as_str(), &container.docker) {
                ("DOCKER", None) => wrong("/container/docker", "not defined"),
                ("DOCKER", Some(docker)) if docker.image.is_empty() => {
                    wrong("/container/docker/image", "must not be empty")
                }
                ("DOCKER" | "MESOS", _) => {}
                (other, _) => {
                    wrong("/container/type", &format!("'{other}' is neither DOCKER nor MESOS"))
                }
            }
            if self.is_host_network() && !container.port_mappings.is_empty() {
                wrong("/container/portMappings", "must be empty with host networking");
            }
        }
        for (index, constraint) in self.constraints.iter().enumerate() {
            if let Err(error) = crate::core::matching::check_constraint(constraint) {
                wrong(&format!("/constraints({index})"), &error);
            }
        }
        for (index, check) in self.health_checks.iter().enumerate() {
            if !["MESOS_HTTP", "MESOS_TCP", "COMMAND"].contains(&check.protocol.as_str()) {
                wrong(
                    &format!("/healthChecks({index})/protocol"),
                    &format!(
                        "{} is not supported by this Marathon yet: use MESOS_HTTP, MESOS_TCP or COMMAND",
                        check.protocol
                    ),
                );
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(errors)) }
    }
}
