//! Offers: matched with what is to be launched, or declined.

use std::collections::BTreeMap;

use mesos::resources::{Ranges, Resources};
use mesos::v1::scheduler::call;
use mesos::v1::{self, health_check};
use serde_json::Value;
use uuid::Uuid;

use super::{Instance, Marathon, Now, matching, timestamp};
use crate::app::{App, HealthCheck};

impl Marathon {
    pub(super) fn ask_for_offers(&mut self, now: Now) {
        if !self.connected {
            return;
        }
        let wanted = !self.wanted(now).is_empty();
        // Again and again while something is wanted: a revive and a decline may cross.
        let again =
            self.revived.is_none_or(|at| now.mono >= at + std::time::Duration::from_secs(5));
        if wanted && (!self.wants_offers || again) {
            self.wants_offers = true;
            self.revived = Some(now.mono);
            self.call(call::Type::Revive, |_| {});
        } else if !wanted && self.wants_offers {
            self.wants_offers = false;
            self.call(call::Type::Suppress, |_| {});
        }
    }

    pub(super) fn offers(&mut self, now: Now, offers: Vec<v1::Offer>) {
        for offer in offers {
            let mut wanted = self.wanted(now);
            let mut left = Resources::from_protos(&offer.resources);
            let attributes = attributes(&offer);
            let mut launched: Vec<v1::TaskInfo> = Vec::new();
            'offer: while launched.len() < self.settings.max_instances_per_offer {
                let ids: Vec<String> = wanted
                    .iter()
                    .filter(|(_, count)| **count > 0)
                    .map(|(id, _)| id.clone())
                    .collect();
                for id in ids {
                    if let Some(task) = self.place(now, &id, &offer, &attributes, &mut left) {
                        launched.push(task);
                        if let Some(count) = wanted.get_mut(&id) {
                            *count -= 1;
                        }
                        continue 'offer;
                    }
                }
                break;
            }
            let offer_ids = vec![offer.id.clone()];
            if launched.is_empty() {
                let refuse_seconds = Some(if self.wanted(now).is_empty() {
                    self.settings.decline_offer.as_secs_f64()
                } else {
                    5.0
                });
                self.call(call::Type::Decline, |call| {
                    call.decline = Some(call::Decline {
                        offer_ids,
                        filters: Some(v1::Filters { refuse_seconds }),
                    })
                });
                continue;
            }
            let operation = v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::Launch as i32),
                launch: Some(v1::offer::operation::Launch { task_infos: launched }),
                ..Default::default()
            };
            self.call(call::Type::Accept, |call| {
                call.accept = Some(call::Accept {
                    offer_ids,
                    operations: vec![operation],
                    filters: Some(v1::Filters { refuse_seconds: Some(1.0) }),
                });
            });
        }
    }

    /// A task of an app on an offer, if it fits; what it takes is taken from `left`.
    fn place(
        &mut self,
        now: Now,
        id: &str,
        offer: &v1::Offer,
        attributes: &BTreeMap<String, String>,
        left: &mut Resources,
    ) -> Option<v1::TaskInfo> {
        let app = self.apps.get(id)?.app.clone();
        let others: Vec<&BTreeMap<String, String>> = self
            .instances_of(id)
            .filter(|instance| instance.killed_at.is_none())
            .map(|instance| &instance.attributes)
            .collect();
        if !matching::is_allowed(&app, attributes, &others) {
            return None;
        }
        let ports = matching::ports(&app, &left.ports())?;
        let disk = if app.disk > 0.0 { format!(";disk:{}", app.disk) } else { String::new() };
        let text = format!("cpus:{};mem:{}{disk}", app.cpus, app.mem);
        let mut needed = Resources::parse(&text, "*").ok()?;
        if !ports.is_empty() {
            let list: Vec<String> = ports.iter().map(|port| format!("{port}-{port}")).collect();
            needed.add(&Resources::parse(&format!("ports:[{}]", list.join(",")), "*").ok()?);
        }
        // Masters say whom they offer to only to those that may have more roles than one.
        let role = offer.allocation_info.as_ref().and_then(|info| info.role.as_deref());
        let needed = role.map_or_else(|| needed.clone(), |role| needed.allocate(role));
        if !left.contains(&needed) {
            return None;
        }
        left.subtract(&needed);
        let task_id = format!(
            "{}.instance-{}._app.1",
            id.trim_start_matches('/').replace('/', "_"),
            Uuid::new_v4()
        );
        let instance = Instance {
            task_id: task_id.clone(),
            app_id: id.to_owned(),
            version: app.version.clone(),
            agent_id: offer.agent_id.value.clone(),
            host: offer.hostname.clone(),
            ports: ports.clone(),
            state: "TASK_STAGING".to_owned(),
            staged_ms: now.wall_ms,
            started_ms: None,
            healthy: None,
            addresses: Vec::new(),
            attributes: attributes.clone(),
            killed_at: None,
            unreachable_ms: None,
        };
        // Stored before Mesos hears of it: a Marathon that dies in between asks for it when it is back.
        self.instances.insert(task_id.clone(), instance);
        self.store_instance(&task_id);
        Some(task(&app, &task_id, offer, &ports, &needed, &self.settings.user))
    }
}

fn attributes(offer: &v1::Offer) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("hostname".to_owned(), offer.hostname.clone())]);
    for attribute in &offer.attributes {
        let value = match (&attribute.text, &attribute.scalar, &attribute.ranges, &attribute.set) {
            (Some(text), ..) => text.value.clone(),
            (_, Some(scalar), ..) => scalar.value.to_string(),
            (_, _, Some(ranges), _) => Ranges::from_proto(ranges).to_string(),
            (_, _, _, Some(set)) => format!("{{{}}}", set.item.join(",")),
            _ => continue,
        };
        all.insert(attribute.name.clone(), value);
    }
    all
}

/// The variables that every task gets (`EnvironmentHelper`); the user's win.
fn environment(app: &App, task_id: &str, host: &str, ports: &[u16]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut put = |name: &str, value: String| env.insert(name.to_owned(), value);
    put("HOST", host.to_owned());
    let mappings = app
        .container
        .as_ref()
        .filter(|_| !app.is_host_network())
        .map(|container| container.port_mappings.clone())
        .unwrap_or_default();
    for (index, port) in ports.iter().enumerate() {
        put(&format!("PORT{index}"), port.to_string());
        let (declared, name) = match (mappings.get(index), app.port_definitions.get(index)) {
            (Some(mapping), _) => (mapping.container_port, mapping.name.clone()),
            (None, Some(definition)) => (definition.port, definition.name.clone()),
            (None, None) => (0, None),
        };
        put(&format!("PORT_{}", if declared == 0 { *port } else { declared }), port.to_string());
        if let Some(name) = name {
            put(&format!("PORT_{}", name.to_uppercase()), port.to_string());
        }
    }
    if let Some(first) = ports.first() {
        put("PORT", first.to_string());
        put("PORTS", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
    }
    put("MESOS_TASK_ID", task_id.to_owned());
    put("MARATHON_APP_ID", app.id.clone());
    put("MARATHON_APP_VERSION", app.version.clone());
    put("MARATHON_APP_RESOURCE_CPUS", format!("{:?}", app.cpus));
    put("MARATHON_APP_RESOURCE_MEM", format!("{:?}", app.mem));
    put("MARATHON_APP_RESOURCE_DISK", format!("{:?}", app.disk));
    put("MARATHON_APP_RESOURCE_GPUS", app.gpus.to_string());
    if let Some(docker) = app.container.as_ref().and_then(|container| container.docker.as_ref()) {
        put("MARATHON_APP_DOCKER_IMAGE", docker.image.clone());
    }
    let clean = |name: &str| -> String {
        name.chars()
            .map(|c| if c.is_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect()
    };
    put(
        "MARATHON_APP_LABELS",
        app.labels.keys().map(|name| clean(name)).collect::<Vec<_>>().join(" "),
    );
    for (name, value) in app.labels.iter().filter(|(_, value)| value.len() <= 512) {
        put(&format!("MARATHON_APP_LABEL_{}", clean(name)), value.clone());
    }
    for (name, value) in &app.env {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        put(name, text);
    }
    env
}

fn health_check(check: &HealthCheck, app: &App, ports: &[u16]) -> v1::HealthCheck {
    let index = check.port_index.unwrap_or(0);
    // In a container of its own network the check runs inside: the container's port is the one.
    let inside = app
        .container
        .as_ref()
        .filter(|_| !app.is_host_network())
        .and_then(|container| container.port_mappings.get(index))
        .map(|mapping| mapping.container_port)
        .filter(|port| *port != 0);
    let port =
        u32::from(check.port.or(inside).or_else(|| ports.get(index).copied()).unwrap_or_default());
    let mut made = v1::HealthCheck {
        delay_seconds: Some(check.delay_seconds),
        interval_seconds: Some(check.interval_seconds),
        timeout_seconds: Some(check.timeout_seconds),
        consecutive_failures: Some(check.max_consecutive_failures),
        grace_period_seconds: Some(check.grace_period_seconds),
        ..Default::default()
    };
    match check.protocol.as_str() {
        "MESOS_HTTP" => {
            made.r#type = Some(health_check::Type::Http as i32);
            made.http = Some(health_check::HttpCheckInfo {
                port,
                path: Some(check.path.clone().unwrap_or_else(|| "/".to_owned())),
                scheme: Some("http".to_owned()),
                ..Default::default()
            });
        }
        "MESOS_TCP" => {
            made.r#type = Some(health_check::Type::Tcp as i32);
            made.tcp = Some(health_check::TcpCheckInfo { port, ..Default::default() });
        }
        _ => {
            made.r#type = Some(health_check::Type::Command as i32);
            let value = check
                .command
                .as_ref()
                .and_then(|command| command["value"].as_str().or(command.as_str()))
                .unwrap_or_default()
                .to_owned();
            made.command = Some(v1::CommandInfo {
                shell: Some(true),
                value: Some(value),
                ..Default::default()
            });
        }
    }
    made
}

fn task(
    app: &App,
    task_id: &str,
    offer: &v1::Offer,
    ports: &[u16],
    resources: &Resources,
    user: &str,
) -> v1::TaskInfo {
    let name: Vec<&str> = app.id.trim_start_matches('/').split('/').rev().collect();
    let variables = environment(app, task_id, &offer.hostname, ports)
        .into_iter()
        .map(|(name, value)| v1::environment::Variable {
            name,
            value: Some(value),
            ..Default::default()
        })
        .collect();
    let mut command = v1::CommandInfo {
        environment: Some(v1::Environment { variables }),
        user: Some(app.user.clone().unwrap_or_else(|| user.to_owned()))
            .filter(|user| !user.is_empty()),
        uris: app
            .fetch
            .iter()
            .map(|fetch| v1::command_info::Uri {
                value: fetch.uri.clone(),
                executable: Some(fetch.executable),
                extract: Some(fetch.extract),
                cache: Some(fetch.cache),
                output_file: None,
            })
            .collect(),
        ..Default::default()
    };
    match (&app.cmd, &app.args) {
        (Some(text), _) => {
            command.shell = Some(true);
            command.value = Some(text.clone());
        }
        (None, Some(words)) => {
            command.shell = Some(false);
            if app.container.as_ref().is_none_or(|container| container.docker.is_none()) {
                command.value = words.first().cloned();
            }
            command.arguments.clone_from(words);
        }
        (None, None) => command.shell = Some(false),
    }
    v1::TaskInfo {
        name: name.join("."),
        task_id: v1::TaskId { value: task_id.to_owned() },
        agent_id: offer.agent_id.clone(),
        resources: resources.to_protos(),
        command: Some(command),
        container: app.container.as_ref().map(|_| container(app, task_id, ports)),
        health_check: app.health_checks.first().map(|check| health_check(check, app, ports)),
        kill_policy: app.task_kill_grace_period_seconds.map(|seconds| v1::KillPolicy {
            grace_period: Some(v1::DurationInfo { nanoseconds: (seconds * 1e9) as i64 }),
        }),
        labels: (!app.labels.is_empty()).then(|| v1::Labels {
            labels: app
                .labels
                .iter()
                .map(|(key, value)| v1::Label { key: key.clone(), value: Some(value.clone()) })
                .collect(),
        }),
        ..Default::default()
    }
}

fn container(app: &App, task_id: &str, ports: &[u16]) -> v1::ContainerInfo {
    use v1::container_info::docker_info::Network;
    let Some(container) = &app.container else { return v1::ContainerInfo::default() };
    let volumes = container
        .volumes
        .iter()
        .map(|volume| v1::Volume {
            mode: if volume.mode == "RO" { v1::volume::Mode::Ro } else { v1::volume::Mode::Rw }
                as i32,
            container_path: volume.container_path.clone(),
            host_path: Some(volume.host_path.clone()),
            ..Default::default()
        })
        .collect();
    let network = app.networks.first();
    let mut made = v1::ContainerInfo {
        r#type: if container.kind == "DOCKER" {
            v1::container_info::Type::Docker
        } else {
            v1::container_info::Type::Mesos
        } as i32,
        volumes,
        network_infos: network
            .and_then(|network| network.name.clone())
            .map(|name| vec![v1::NetworkInfo { name: Some(name), ..Default::default() }])
            .unwrap_or_default(),
        ..Default::default()
    };
    let Some(docker) = container.docker.as_ref().filter(|_| container.kind == "DOCKER") else {
        return made;
    };
    let mode = match network.map(|network| network.mode.as_str()) {
        Some("container/bridge") => Network::Bridge,
        Some("container") => Network::User,
        _ => Network::Host,
    };
    let mut parameters: Vec<v1::Parameter> = docker
        .parameters
        .iter()
        .map(|parameter| v1::Parameter {
            key: parameter.key.clone(),
            value: parameter.value.clone(),
        })
        .collect();
    parameters
        .push(v1::Parameter { key: "label".to_owned(), value: format!("MESOS_TASK_ID={task_id}") });
    made.docker = Some(v1::container_info::DockerInfo {
        image: docker.image.clone(),
        network: Some(mode as i32),
        port_mappings: if mode == Network::Host {
            Vec::new()
        } else {
            container
                .port_mappings
                .iter()
                .zip(ports)
                .map(|(mapping, host_port)| v1::container_info::docker_info::PortMapping {
                    host_port: u32::from(*host_port),
                    container_port: u32::from(if mapping.container_port == 0 {
                        *host_port
                    } else {
                        mapping.container_port
                    }),
                    protocol: Some(mapping.protocol.clone()),
                })
                .collect()
        },
        privileged: Some(docker.privileged),
        parameters,
        force_pull_image: Some(docker.force_pull_image),
        ..Default::default()
    });
    made
}

/// When an instance began to run, as Marathon writes it.
pub(super) fn started(instance: &Instance) -> Option<String> {
    instance.started_ms.map(timestamp)
}
