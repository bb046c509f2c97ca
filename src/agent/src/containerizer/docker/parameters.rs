//! `parameters` of a `DockerInfo`: options of `docker run`, as fields of the call that makes the container.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointSettings, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, PortBinding, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum, ThrottleDevice,
};
use mesos::v1::Parameter;

/// What options fill in.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// The container.
    pub(super) body: ContainerCreateBody,
    /// What its host gives it.
    pub(super) host: HostConfig,
    /// Its environment.
    pub(super) env: Vec<String>,
    /// Its labels.
    pub(super) labels: HashMap<String, String>,
    /// What it is in its network.
    pub(super) endpoint: EndpointSettings,
}

/// Whether an option says how names are looked up.
pub(super) fn is_dns(key: &str) -> bool {
    matches!(key, "dns" | "dns-search" | "dns-opt" | "dns-option")
}

/// `KEY=VALUE`; without `=` the value is empty.
fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `64m`, `1g`, `1048576`, `-1`: bytes, as Docker's command line takes them.
fn bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

/// `nofile=1024:2048`.
fn ulimit(text: &str) -> Option<ResourcesUlimits> {
    let (name, limits) = text.split_once('=')?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    Some(ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft.parse().ok()?),
        hard: Some(hard.parse().ok()?),
    })
}

/// `/dev/x[:/dev/y[:rwm]]`.
fn device(text: &str) -> DeviceMapping {
    let mut parts = text.split(':').map(str::to_owned);
    let host = parts.next();
    let (container, permissions) = match (parts.next(), parts.next()) {
        (Some(only), None) if only.chars().all(|c| "rwm".contains(c)) => (host.clone(), Some(only)),
        (container, permissions) => (container.or_else(|| host.clone()), permissions),
    };
    let permissions = permissions.unwrap_or_else(|| "rwm".to_owned());
    DeviceMapping {
        path_on_host: host,
        path_in_container: container,
        cgroup_permissions: Some(permissions),
    }
}

/// `[[ip:]host:]container[/protocol]`: the container's port, and where it is on the host.
fn publish(text: &str) -> Option<(String, PortBinding)> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let mut parts = text.rsplitn(3, ':');
    let port = |text: &str| text.parse::<u16>().ok().map(|port| port.to_string());
    let container = port(parts.next()?)?;
    let host_port = match parts.next() {
        None | Some("") => None,
        Some(own) => Some(port(own)?),
    };
    let host_ip = parts.next().map(|ip| ip.trim_matches(['[', ']']).to_owned());
    Some((format!("{container}/{}", protocol.to_lowercase()), PortBinding { host_ip, host_port }))
}

/// `/dev/x:1mb`, `/dev/x:100`.
fn throttle(text: &str) -> Option<ThrottleDevice> {
    let (path, rate) = text.rsplit_once(':')?;
    Some(ThrottleDevice { path: Some(path.to_owned()), rate: Some(bytes(rate)?) })
}

/// `no`, `always`, `unless-stopped`, `on-failure[:3]`.
fn restart(text: &str) -> Option<RestartPolicy> {
    use RestartPolicyNameEnum as Name;
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count.parse().ok()?)),
        None => (text, None),
    };
    let name = match name {
        "" | "no" => Name::NO,
        "always" => Name::ALWAYS,
        "unless-stopped" => Name::UNLESS_STOPPED,
        "on-failure" => Name::ON_FAILURE,
        _ => return None,
    };
    (count.is_none() || name == Name::ON_FAILURE)
        .then_some(RestartPolicy { name: Some(name), maximum_retry_count: count })
}

/// Takes one option in.
///
/// # Errors
/// When it is unknown, or its value makes no sense.
pub(super) fn apply(filled: &mut Filled, parameter: &Parameter) -> Result<(), String> {
    let Parameter { key, value } = parameter;
    let wrong = || format!("the Docker parameter '{key}' can't have the value '{value}'");
    let size = || bytes(value).map(Some).ok_or_else(wrong);
    let number = || value.parse::<i64>().map(Some).map_err(|_| wrong());
    let truth = || match value.as_str() {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Some(false)),
        _ => Err(wrong()),
    };
    let text = || Some(value.clone());
    let limit = || throttle(value).ok_or_else(wrong);
    let Filled { body, host, env, labels, endpoint } = filled;
    let push = |list: &mut Option<Vec<String>>| list.get_or_insert_default().push(value.clone());
    match key.as_str() {
        "add-host" => push(&mut host.extra_hosts),
        "annotation" => host.annotations.get_or_insert_default().extend([pair(value)]),
        "blkio-weight" => host.blkio_weight = Some(value.parse().map_err(|_| wrong())?),
        "cap-add" => push(&mut host.cap_add),
        "cap-drop" => push(&mut host.cap_drop),
        "cgroup-parent" => host.cgroup_parent = text(),
        "cgroupns" => {
            host.cgroupns_mode = Some(match value.as_str() {
                "host" => HostConfigCgroupnsModeEnum::HOST,
                "private" => HostConfigCgroupnsModeEnum::PRIVATE,
                _ => return Err(wrong()),
            });
        }
        "cpu-period" => host.cpu_period = number()?,
        "cpu-quota" => host.cpu_quota = number()?,
        "cpu-rt-period" => host.cpu_realtime_period = number()?,
        "cpu-rt-runtime" => host.cpu_realtime_runtime = number()?,
        "cpu-shares" | "c" => host.cpu_shares = number()?,
        "cpus" => {
            let cpus: f64 = value.parse().map_err(|_| wrong())?;
            host.nano_cpus = Some((cpus * 1e9) as i64);
        }
        "cpuset-cpus" => host.cpuset_cpus = text(),
        "cpuset-mems" => host.cpuset_mems = text(),
        "device" => host.devices.get_or_insert_default().push(device(value)),
        "device-cgroup-rule" => push(&mut host.device_cgroup_rules),
        "device-read-bps" => host.blkio_device_read_bps.get_or_insert_default().push(limit()?),
        "device-read-iops" => host.blkio_device_read_iops.get_or_insert_default().push(limit()?),
        "device-write-bps" => host.blkio_device_write_bps.get_or_insert_default().push(limit()?),
        "device-write-iops" => host.blkio_device_write_iops.get_or_insert_default().push(limit()?),
        "dns" => push(&mut host.dns),
        "dns-opt" | "dns-option" => push(&mut host.dns_options),
        "dns-search" => push(&mut host.dns_search),
        "domainname" => body.domainname = text(),
        "entrypoint" => body.entrypoint = Some(vec![value.clone()]),
        "env" | "e" => env.push(value.clone()),
        "expose" => {
            let port = if value.contains('/') { value.clone() } else { format!("{value}/tcp") };
            body.exposed_ports.get_or_insert_default().push(port);
        }
        "group-add" => push(&mut host.group_add),
        "hostname" | "h" => body.hostname = text(),
        "init" => host.init = truth()?,
        "interactive" | "i" => body.open_stdin = truth()?,
        "ip" => endpoint.ipam_config.get_or_insert_default().ipv4_address = text(),
        "ip6" => endpoint.ipam_config.get_or_insert_default().ipv6_address = text(),
        "ipc" => host.ipc_mode = text(),
        "label" | "l" => labels.extend([pair(value)]),
        "link" => push(&mut host.links),
        "log-driver" => host.log_config.get_or_insert_default().typ = text(),
        "log-opt" => {
            let log: &mut HostConfigLogConfig = host.log_config.get_or_insert_default();
            log.config.get_or_insert_default().extend([pair(value)]);
        }
        "mac-address" => endpoint.mac_address = text(),
        "memory" | "m" => host.memory = size()?,
        "memory-reservation" => host.memory_reservation = size()?,
        "memory-swap" => host.memory_swap = size()?,
        "memory-swappiness" => host.memory_swappiness = number()?,
        "net-alias" | "network-alias" => push(&mut endpoint.aliases),
        "no-healthcheck" => {
            if truth()? == Some(true) {
                let test = Some(vec!["NONE".to_owned()]);
                body.healthcheck = Some(HealthConfig { test, ..Default::default() });
            }
        }
        "net" | "network" => host.network_mode = text(),
        "oom-kill-disable" => host.oom_kill_disable = truth()?,
        "oom-score-adj" => host.oom_score_adj = number()?,
        "pid" => host.pid_mode = text(),
        "pids-limit" => host.pids_limit = number()?,
        "privileged" => host.privileged = truth()?,
        "publish" | "p" => {
            let (port, binding) = publish(value).ok_or_else(wrong)?;
            body.exposed_ports.get_or_insert_default().push(port.clone());
            let all = host.port_bindings.get_or_insert_default();
            all.entry(port).or_default().get_or_insert_default().push(binding);
        }
        "publish-all" | "P" => host.publish_all_ports = truth()?,
        "read-only" => host.readonly_rootfs = truth()?,
        "restart" => host.restart_policy = Some(restart(value).ok_or_else(wrong)?),
        "rm" => host.auto_remove = truth()?,
        "runtime" => host.runtime = text(),
        "security-opt" => push(&mut host.security_opt),
        "shm-size" => host.shm_size = size()?,
        "stop-signal" => body.stop_signal = text(),
        "stop-timeout" => body.stop_timeout = number()?,
        "storage-opt" => host.storage_opt.get_or_insert_default().extend([pair(value)]),
        "sysctl" => host.sysctls.get_or_insert_default().extend([pair(value)]),
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            let all = host.tmpfs.get_or_insert_default();
            all.insert(path.to_owned(), options.to_owned());
        }
        "tty" | "t" => body.tty = truth()?,
        "ulimit" => {
            host.ulimits.get_or_insert_default().push(ulimit(value).ok_or_else(wrong)?);
        }
        "user" | "u" => body.user = text(),
        "userns" => host.userns_mode = text(),
        "uts" => host.uts_mode = text(),
        "volume" | "v" => push(&mut host.binds),
        "volume-driver" => host.volume_driver = text(),
        "volumes-from" => push(&mut host.volumes_from),
        "workdir" | "w" => body.working_dir = text(),
        other => {
            return Err(format!(
                "the Docker parameter '{other}' is not supported by this agent yet"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_all(pairs: &[(&str, &str)]) -> Result<Filled, String> {
        let mut filled = Filled::default();
        for (key, value) in pairs {
            apply(&mut filled, &Parameter { key: (*key).to_owned(), value: (*value).to_owned() })?;
        }
        Ok(filled)
    }

    #[test]
    fn options_become_fields() {
        let filled = apply_all(&[
            ("ulimit", "nofile=1024:2048"),
            ("shm-size", "64m"),
            ("memory-swap", "-1"),
            ("device", "/dev/fuse:rw"),
            ("log-driver", "syslog"),
            ("log-opt", "tag=x"),
            ("tmpfs", "/run:rw,size=1m"),
            ("cap-add", "NET_ADMIN"),
            ("env", "A=b"),
            ("privileged", "true"),
        ])
        .unwrap();
        let host = filled.host;
        let ulimit = &host.ulimits.unwrap()[0];
        assert_eq!((ulimit.soft, ulimit.hard), (Some(1024), Some(2048)));
        assert_eq!((host.shm_size, host.memory_swap), (Some(64 << 20), Some(-1)));
        let device = &host.devices.unwrap()[0];
        assert_eq!(device.path_in_container.as_deref(), Some("/dev/fuse"));
        assert_eq!(device.cgroup_permissions.as_deref(), Some("rw"));
        let log = host.log_config.unwrap();
        assert_eq!((log.typ.as_deref(), &*log.config.unwrap()["tag"]), (Some("syslog"), "x"));
        assert_eq!(host.tmpfs.unwrap()["/run"], "rw,size=1m");
        assert_eq!((host.privileged, filled.env), (Some(true), vec!["A=b".to_owned()]));
    }

    #[test]
    fn ports_networks_and_rates_become_fields() {
        let filled = apply_all(&[
            ("publish", "8080:80"),
            ("p", "127.0.0.1:53:53/udp"),
            ("expose", "9000"),
            ("ip", "10.0.0.9"),
            ("network-alias", "db"),
            ("device-read-bps", "/dev/sda:1mb"),
            ("restart", "on-failure:3"),
            ("no-healthcheck", "true"),
            ("privileged", "0"),
        ])
        .unwrap();
        let Filled { body, host, endpoint, .. } = filled;
        let ports = host.port_bindings.unwrap();
        let binding = |port: &str| ports[port].as_ref().unwrap()[0].clone();
        assert_eq!(binding("80/tcp").host_port.as_deref(), Some("8080"));
        assert_eq!(binding("53/udp").host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(body.exposed_ports.unwrap(), ["80/tcp", "53/udp", "9000/tcp"]);
        assert_eq!(endpoint.ipam_config.unwrap().ipv4_address.as_deref(), Some("10.0.0.9"));
        assert_eq!(endpoint.aliases.unwrap(), ["db"]);
        assert_eq!(host.blkio_device_read_bps.unwrap()[0].rate, Some(1 << 20));
        assert_eq!(host.restart_policy.unwrap().maximum_retry_count, Some(3));
        assert_eq!(body.healthcheck.unwrap().test.unwrap(), ["NONE"]);
        assert_eq!(host.privileged, Some(false));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        for (key, value) in [
            ("frobnicate", "x"),
            ("shm-size", "big"),
            ("ulimit", "nofile"),
            ("pids-limit", "many"),
            ("publish", "80-90:80-90"),
            ("restart", "always:3"),
            ("device-read-bps", "/dev/sda"),
            ("privileged", "perhaps"),
        ] {
            let text = apply_all(&[(key, value)]).unwrap_err();
            assert!(text.contains(&format!("'{key}'")), "{text}");
        }
    }
}
