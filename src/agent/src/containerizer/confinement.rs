//! What a process gives up before it becomes a container's program: Linux capabilities, privileges of programs with
//! the setuid bit, resources of a process, the host's System V IPC. Decided as the isolators `linux/capabilities`,
//! `linux/nnp`, `posix/rlimits` and `namespaces/ipc` of the original do (`slave/containerizer/mesos/isolators`).

mod kernel;
mod seccomp;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use mesos::v1;
use mesos::v1::capability_info::Capability;
use mesos::v1::linux_info::IpcMode;
use mesos::v1::r_limit_info::r_limit;

use super::cni::Network;
use super::isolation::Isolation;
use super::view::View;

/// Numbers of capabilities in messages are the kernel's and this.
const CAPABILITY_BASE: i32 = 1000;

/// A set of capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    fn of(info: &v1::CapabilityInfo) -> Self {
        Self(info.capabilities().filter(|own| *own != Capability::Unknown).collect())
    }

    /// Reads a flag: JSON of a CapabilityInfo.
    ///
    /// # Errors
    /// What isn't one.
    pub fn parse(json: &serde_json::Value) -> Result<Self, String> {
        let names = json["capabilities"].as_array().ok_or("expecting {\"capabilities\": […]}")?;
        let each = names.iter().map(|name| {
            name.as_str()
                .and_then(Capability::from_str_name)
                .ok_or_else(|| format!("{name} is no capability"))
        });
        each.collect::<Result<_, _>>().map(Self)
    }

    fn has_all(&self, others: &Self) -> bool {
        others.0.is_subset(&self.0)
    }

    /// The kernel's bits.
    fn bits(&self) -> u64 {
        self.0.iter().map(|own| 1_u64 << (*own as i32 - CAPABILITY_BASE)).sum()
    }
}

impl std::fmt::Display for Capabilities {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.0.iter().map(Capability::as_str_name).collect();
        write!(out, "{{ {} }}", names.join(", "))
    }
}

/// What the operator chose for all containers.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// `--isolation`.
    pub isolation: Isolation,
    /// `--effective_capabilities`: of containers that ask for none.
    pub effective: Option<Capabilities>,
    /// `--bounding_capabilities`: no container has more.
    pub bounding: Option<Capabilities>,
    /// `--seccomp_config_dir`: where profiles are.
    pub profiles: Option<PathBuf>,
    /// `--seccomp_profile_name`: of containers that ask for none.
    pub profile: Option<String>,
    /// `--disallow_sharing_agent_pid_namespace`.
    pub keeps_processes_apart: bool,
    /// `--disallow_sharing_agent_ipc_namespace`.
    pub keeps_ipc_apart: bool,
    /// `--host_path_volume_force_creation`: below which of the host's directories volumes may be made.
    pub host_paths: Vec<PathBuf>,
    /// `--default_container_shm_size`, in bytes.
    pub shared_memory: Option<u64>,
}

impl Policy {
    /// Checks what the operator chose.
    ///
    /// # Errors
    /// What contradicts itself, or needs another isolator.
    pub fn check(self) -> Result<Self, String> {
        let has_any = self.effective.is_some() || self.bounding.is_some();
        if has_any && !self.isolation.has("linux/capabilities") {
            return Err("--effective_capabilities and --bounding_capabilities need --isolation=linux/capabilities".to_owned());
        }
        if self.isolation.has("linux/seccomp") {
            if self.profiles.is_none() {
                return Err("Missing required `--seccomp_config_dir` flag".to_owned());
            }
            if let Some(path) = self.profile.as_ref().map(|name| self.profile_path(name)) {
                seccomp::load(&path?, 0)?;
            }
        } else if self.profiles.is_some() || self.profile.is_some() {
            return Err(
                "--seccomp_config_dir and --seccomp_profile_name need --isolation=linux/seccomp"
                    .to_owned(),
            );
        }
        if self.isolation.has("namespaces/pid") && !self.isolation.has("filesystem/linux") {
            return Err("'filesystem/linux' must be used to enable pid namespace".to_owned());
        }
        if self.keeps_processes_apart && !self.isolation.has("namespaces/pid") {
            return Err("--disallow_sharing_agent_pid_namespace needs --isolation=namespaces/pid"
                .to_owned());
        }
        if (self.keeps_ipc_apart || self.shared_memory.is_some())
            && !self.isolation.has("namespaces/ipc")
        {
            return Err("--disallow_sharing_agent_ipc_namespace and --default_container_shm_size need --isolation=namespaces/ipc".to_owned());
        }
        if let (Some(effective), Some(bounding)) = (&self.effective, &self.bounding)
            && !bounding.has_all(effective)
        {
            return Err(
                "Allowed capabilities are not a subset of the bounding capabilites".to_owned()
            );
        }
        Ok(self)
    }

    /// The file of a profile; its name leads nowhere else.
    fn profile_path(&self, name: &str) -> Result<PathBuf, String> {
        let is_below =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let directory = self.profiles.as_ref().filter(|_| is_below && !name.is_empty());
        let found = directory.map(|directory| directory.join(name));
        found.ok_or_else(|| format!("'{name}' is no name of a Seccomp profile"))
    }

    /// The profile that a container has, if it has one.
    fn profile_of(&self, linux: Option<&v1::LinuxInfo>) -> Result<Option<PathBuf>, String> {
        let asked = linux.and_then(|linux| linux.seccomp.as_ref());
        let name = match asked.map(|asked| (asked.unconfined(), asked.profile_name.as_ref())) {
            None => self.profile.as_ref(),
            Some((true, None)) => None,
            Some((true, Some(_))) => {
                return Err("Invalid Seccomp configuration: 'profile_name' given even though 'unconfined' Seccomp setting is enabled".to_owned());
            }
            Some((false, None)) => return Err("Missing Seccomp profile name".to_owned()),
            Some((false, name)) => name,
        };
        let path = name.map(|name| self.profile_path(name)).transpose()?;
        if let Some(path) = &path {
            // What is wrong with it is told now rather than by the process.
            seccomp::load(path, 0)?;
        }
        Ok(path)
    }

    /// Whether a container has a process namespace of its own.
    ///
    /// # Errors
    /// When it asks for the host's, and may not.
    pub fn has_own_processes(
        &self,
        container: Option<&v1::ContainerInfo>,
        is_nested: bool,
    ) -> Result<bool, String> {
        if !self.isolation.has("namespaces/pid") {
            return Ok(false);
        }
        let linux = container.and_then(|container| container.linux_info.as_ref());
        let shares = linux.is_some_and(v1::LinuxInfo::share_pid_namespace);
        if shares && !is_nested && self.keeps_processes_apart {
            return Err(
                "Sharing agent pid namespace with top-level container is not allowed".to_owned()
            );
        }
        Ok(!shares)
    }

    /// The IPC namespace of a container's process, where that is its own: one that is nested shares its parent's, if
    /// nothing else is said (`isolators/namespaces/ipc.cpp`).
    ///
    /// # Errors
    /// When it asks for what it may not have, or for what makes no sense.
    pub(super) fn ipc(
        &self,
        container: Option<&v1::ContainerInfo>,
        is_nested: bool,
        is_session: bool,
    ) -> Result<Option<Ipc>, String> {
        if !self.isolation.has("namespaces/ipc") {
            return Ok(None);
        }
        let linux = container.and_then(|container| container.linux_info.as_ref());
        let mode = linux.and_then(|linux| linux.ipc_mode.map(|_| linux.ipc_mode()));
        let size = linux.and_then(|linux| linux.shm_size);
        match mode {
            Some(IpcMode::Private) if is_session => {
                Err("Private IPC mode is not supported for DEBUG containers".to_owned())
            }
            Some(IpcMode::Private) => {
                let asked = size.map(|megabytes| u64::from(megabytes) << 20);
                Ok(Some(Ipc::WithMemory(asked.or(self.shared_memory))))
            }
            _ if size.is_some() => {
                Err("Only support specifying the size of /dev/shm when the IPC mode is `PRIVATE`"
                    .to_owned())
            }
            Some(IpcMode::Unknown) => Err("Unknown IPC mode".to_owned()),
            Some(IpcMode::ShareParent) if !is_nested && self.keeps_ipc_apart => {
                Err("Sharing agent IPC namespace with top-level container is not allowed"
                    .to_owned())
            }
            None if !is_nested => Ok(Some(Ipc::Objects)),
            Some(IpcMode::ShareParent) | None => Ok(None),
        }
    }
}

/// A limit of a process, in the kernel's unit of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    kind: r_limit::Type,
    /// Soft and hard; without, there is none.
    range: Option<(u64, u64)>,
}

/// An IPC namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ipc {
    /// Semaphores, queues and segments; `/dev/shm` is the one that it sees anyway.
    Objects,
    /// `/dev/shm` as well, of so many bytes; else as large as the kernel chooses.
    WithMemory(Option<u64>),
}

/// What is given up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    limits: Vec<Limit>,
    /// Bits of capabilities.
    effective: Option<u64>,
    bounding: Option<u64>,
    has_no_new_privileges: bool,
    pub(super) ipc: Option<Ipc>,
    /// The file of the system calls that it may make.
    profile: Option<PathBuf>,
    /// Its network, if that is not the host's.
    pub network: Option<Network>,
    /// What it sees of files, if not what the agent sees.
    pub view: Option<View>,
}

impl Confinement {
    /// What a container's process gives up.
    ///
    /// # Errors
    /// When it asks for more than the operator allows, or for what can't be.
    pub fn of(policy: &Policy, container: Option<&v1::ContainerInfo>) -> Result<Self, String> {
        let linux = container.and_then(|container| container.linux_info.as_ref());
        let mut own =
            Self { has_no_new_privileges: policy.isolation.has("linux/nnp"), ..Self::default() };
        if policy.isolation.has("linux/capabilities") {
            (own.effective, own.bounding) = capabilities(policy, linux)?;
        }
        if policy.isolation.has("linux/seccomp") {
            own.profile = policy.profile_of(linux)?;
        }
        if policy.isolation.has("posix/rlimits") {
            let given = container.and_then(|container| container.rlimit_info.as_ref());
            let given = given.map(|info| &info.rlimits[..]).unwrap_or_default();
            own.limits = given.iter().map(limit).collect::<Result<_, _>>()?;
        }
        Ok(own)
    }

    /// As arguments of the process that gives it up.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for Limit { kind, range } in &self.limits {
            let range = range.map_or(String::new(), |(soft, hard)| format!(":{soft}:{hard}"));
            all.push(format!("--rlimit={}{range}", kind.as_str_name()));
        }
        all.extend(self.effective.map(|bits| format!("--effective={bits}")));
        all.extend(self.bounding.map(|bits| format!("--bounding={bits}")));
        all.extend(self.has_no_new_privileges.then(|| "--no-new-privileges".to_owned()));
        all.extend(self.ipc.map(|ipc| match ipc {
            Ipc::Objects => "--own-ipc".to_owned(),
            Ipc::WithMemory(size) => format!("--private-ipc={}", size.unwrap_or(0)),
        }));
        all.extend(self.profile.as_ref().map(|path| format!("--seccomp={}", path.display())));
        // Text only: a message's.
        let network = self.network.as_ref().and_then(|own| serde_json::to_string(own).ok());
        all.extend(network.map(|network| format!("--network={network}")));
        all.extend(self.view.as_ref().map(|view| format!("--view={}", view.to_argument())));
        all
    }

    /// Takes an argument, if it is one of these.
    ///
    /// # Errors
    /// When it is, and is wrong.
    pub fn take(&mut self, argument: &str) -> Result<bool, String> {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        if name == "--view" {
            self.view = Some(View::parse(value)?);
            return Ok(true);
        }
        if name == "--network" {
            self.network = Some(serde_json::from_str(value).map_err(|error| error.to_string())?);
            return Ok(true);
        }
        if name == "--seccomp" {
            self.profile = Some(PathBuf::from(value));
            return Ok(true);
        }
        self.take_number(name, value).map_err(|error| format!("{argument}: {error}"))
    }

    fn take_number(&mut self, name: &str, value: &str) -> Result<bool, std::num::ParseIntError> {
        match name {
            "--rlimit" => {
                let mut parts = value.split(':');
                let kind = r_limit::Type::from_str_name(parts.next().unwrap_or_default());
                let range = match (parts.next(), parts.next()) {
                    (Some(soft), Some(hard)) => Some((soft.parse()?, hard.parse()?)),
                    _ => None,
                };
                self.limits.push(Limit { kind: kind.unwrap_or_default(), range });
            }
            "--effective" => self.effective = Some(value.parse()?),
            "--bounding" => self.bounding = Some(value.parse()?),
            "--no-new-privileges" => self.has_no_new_privileges = true,
            "--own-ipc" => self.ipc = Some(Ipc::Objects),
            "--private-ipc" => {
                let size: u64 = value.parse()?;
                self.ipc = Some(Ipc::WithMemory(Some(size).filter(|size| *size > 0)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The effective and the bounding set, in the order of who may say so.
fn capabilities(
    policy: &Policy,
    linux: Option<&v1::LinuxInfo>,
) -> Result<(Option<u64>, Option<u64>), String> {
    let refused = |what: &str, asked: &Capabilities, allowed: &Capabilities| {
        Err(format!("{what} capabilities '{asked}', but only '{allowed}' are allowed"))
    };
    // The older name, which frameworks still use.
    let former = linux.and_then(|linux| linux.capability_info.as_ref());
    let asked = linux.and_then(|linux| linux.effective_capabilities.as_ref());
    if former.is_some() && asked.is_some() {
        return Err(
            "Only one of 'capability_info' or 'effective_capabilities' is allowed".to_owned()
        );
    }
    let effective = former.or(asked).map(Capabilities::of).or_else(|| policy.effective.clone());
    let bounding = linux.and_then(|linux| linux.bounding_capabilities.as_ref());
    let bounding = bounding.map(Capabilities::of);
    if let (Some(asked), Some(allowed)) = (&bounding, &policy.bounding)
        && !allowed.has_all(asked)
    {
        return refused("Bounding", asked, allowed);
    }
    let bounding = bounding.or_else(|| policy.bounding.clone()).or_else(|| effective.clone());
    if let (Some(asked), Some(allowed)) = (&effective, &bounding)
        && !allowed.has_all(asked)
    {
        return refused("Requested", asked, allowed);
    }
    let bits = |set: &Option<Capabilities>| set.as_ref().map(Capabilities::bits);
    Ok((bits(&effective), bits(&bounding)))
}

fn limit(given: &v1::r_limit_info::RLimit) -> Result<Limit, String> {
    let kind = given.r#type();
    let range = match (given.soft, given.hard) {
        (Some(soft), Some(hard)) => Some((soft, hard)),
        (None, None) => None,
        _ => return Err(format!("Invalid rlimit values: {}", kind.as_str_name())),
    };
    if kind == r_limit::Type::Unknown {
        return Err("Invalid rlimit type".to_owned());
    }
    Ok(Limit { kind, range })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(isolation: &str) -> Policy {
        Policy { isolation: Isolation::parse(isolation).unwrap(), ..Policy::default() }
    }

    fn set(names: &[&str]) -> Capabilities {
        Capabilities::parse(&serde_json::json!({ "capabilities": names })).unwrap()
    }

    fn info(names: &[&str]) -> Option<v1::CapabilityInfo> {
        let numbers = set(names).0.into_iter().map(|own| own as i32);
        Some(v1::CapabilityInfo { capabilities: numbers.collect() })
    }

    fn container(linux: v1::LinuxInfo) -> v1::ContainerInfo {
        v1::ContainerInfo { linux_info: Some(linux), ..Default::default() }
    }

    #[test]
    fn a_container_gets_what_it_asks_for_within_what_is_allowed() {
        let allowed = Policy {
            effective: Some(set(&["KILL"])),
            bounding: Some(set(&["KILL", "NET_RAW"])),
            ..policy("linux/capabilities")
        };
        let of = |linux| Confinement::of(&allowed, Some(&container(linux)));
        let own = Confinement::of(&allowed, None).unwrap();
        assert_eq!((own.effective, own.bounding), (Some(1 << 5), Some(1 << 5 | 1 << 13)));
        let asked =
            v1::LinuxInfo { effective_capabilities: info(&["NET_RAW"]), ..Default::default() };
        assert_eq!(of(asked).unwrap().effective, Some(1 << 13));
        let more = v1::LinuxInfo {
            effective_capabilities: info(&["KILL", "SYS_ADMIN"]),
            ..Default::default()
        };
        assert_eq!(
            of(more).unwrap_err(),
            "Requested capabilities '{ KILL, SYS_ADMIN }', but only '{ KILL, NET_RAW }' are allowed"
        );
        let wider = v1::LinuxInfo { bounding_capabilities: info(&["CHOWN"]), ..Default::default() };
        assert!(of(wider).unwrap_err().starts_with("Bounding capabilities '{ CHOWN }', but only"));
        // Without operator's sets, what is asked for bounds as well.
        let asked = v1::LinuxInfo { effective_capabilities: info(&[]), ..Default::default() };
        let own = Confinement::of(&policy("linux/capabilities"), Some(&container(asked))).unwrap();
        assert_eq!((own.effective, own.bounding), (Some(0), Some(0)));
    }

    #[test]
    fn without_an_isolator_nothing_is_given_up() {
        let limits = vec![v1::r_limit_info::RLimit {
            r#type: Some(r_limit::Type::RlmtNofile as i32),
            soft: Some(1),
            hard: None,
        }];
        let asked = v1::ContainerInfo {
            rlimit_info: Some(v1::RLimitInfo { rlimits: limits }),
            ..container(v1::LinuxInfo {
                effective_capabilities: info(&[]),
                ipc_mode: Some(IpcMode::Private as i32),
                ..Default::default()
            })
        };
        let own = Confinement::of(&policy("posix/cpu"), Some(&asked)).unwrap();
        assert_eq!(own, Confinement::default());
        let text = Confinement::of(&policy("posix/rlimits"), Some(&asked)).unwrap_err();
        assert_eq!(text, "Invalid rlimit values: RLMT_NOFILE");
    }

    #[test]
    fn ipc_is_as_the_container_and_the_operator_say() {
        let of = |policy: &Policy, mode: Option<IpcMode>, size: Option<u32>, is_nested: bool| {
            let info = v1::LinuxInfo {
                ipc_mode: mode.map(|mode| mode as i32),
                shm_size: size,
                ..Default::default()
            };
            policy.ipc(Some(&container(info)), is_nested, false)
        };
        let plain = policy("namespaces/ipc");
        let strict =
            Policy { keeps_ipc_apart: true, shared_memory: Some(5 << 20), ..plain.clone() };
        let (private, shared) = (Some(IpcMode::Private), Some(IpcMode::ShareParent));
        assert_eq!(of(&policy("posix/cpu"), private, Some(1), false), Ok(None));
        assert_eq!(of(&plain, private, None, false), Ok(Some(Ipc::WithMemory(None))));
        assert_eq!(of(&plain, private, Some(8), true), Ok(Some(Ipc::WithMemory(Some(8 << 20)))));
        assert_eq!(of(&strict, private, None, true), Ok(Some(Ipc::WithMemory(Some(5 << 20)))));
        assert_eq!(of(&plain, None, None, false), Ok(Some(Ipc::Objects)));
        assert_eq!(of(&plain, None, None, true), Ok(None), "its parent's");
        assert_eq!(of(&plain, shared, None, false), Ok(None));
        assert_eq!(of(&strict, shared, None, true), Ok(None));
        let text = of(&strict, shared, None, false).unwrap_err();
        assert_eq!(text, "Sharing agent IPC namespace with top-level container is not allowed");
        assert!(of(&plain, None, Some(8), false).unwrap_err().contains("`PRIVATE`"));
        assert!(Policy { keeps_ipc_apart: true, ..policy("posix/cpu") }.check().is_err());
    }

    #[test]
    fn arguments_say_all_of_it() {
        let own = Confinement {
            limits: vec![
                Limit { kind: r_limit::Type::RlmtNofile, range: Some((16, 32)) },
                Limit { kind: r_limit::Type::RlmtCore, range: None },
            ],
            effective: Some(0),
            bounding: Some(1 << 37),
            has_no_new_privileges: true,
            ipc: Some(Ipc::WithMemory(Some(64 << 20))),
            profile: Some("/p/a=b.json".into()),
            network: Some(Network { namespace: "/n s".into(), hostname: "h".into(), ip: None }),
            view: None,
        };
        let mut taken = Confinement::default();
        for argument in own.to_arguments() {
            assert!(taken.take(&argument).unwrap(), "{argument}");
        }
        assert_eq!(taken, own);
        assert!(!taken.take("--other").unwrap());
        assert!(taken.take("--effective=x").is_err());
    }

    #[test]
    fn a_container_has_the_profile_that_it_asks_for_or_the_operators() {
        let directory = tempfile::TempDir::new().unwrap();
        for name in ["own.json", "other.json"] {
            std::fs::write(directory.path().join(name), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)
                .unwrap();
        }
        let policy = Policy {
            profiles: Some(directory.path().into()),
            profile: Some("own.json".into()),
            ..policy("linux/seccomp")
        };
        let policy = policy.check().unwrap();
        let of = |name: Option<&str>, unconfined| {
            let seccomp = v1::SeccompInfo { profile_name: name.map(str::to_owned), unconfined };
            let linux = v1::LinuxInfo { seccomp: Some(seccomp), ..Default::default() };
            Confinement::of(&policy, Some(&container(linux))).map(|own| own.profile)
        };
        let path = |name: &str| Some(directory.path().join(name));
        assert_eq!(Confinement::of(&policy, None).unwrap().profile, path("own.json"));
        assert_eq!(of(Some("other.json"), None), Ok(path("other.json")));
        assert_eq!(of(None, Some(true)), Ok(None));
        assert_eq!(of(None, None).unwrap_err(), "Missing Seccomp profile name");
        assert!(of(Some("own.json"), Some(true)).unwrap_err().contains("even though 'unconfined'"));
        for name in ["../own.json", "/etc/passwd", "", "none.json"] {
            assert!(of(Some(name), None).is_err(), "{name}");
        }
        let missing = Policy { profile: Some("none.json".into()), ..policy.clone() };
        assert!(missing.check().unwrap_err().contains("none.json"));
    }

    #[test]
    fn who_shares_the_hosts_processes_must_be_let() {
        let policy =
            Policy { keeps_processes_apart: true, ..policy("namespaces/pid,filesystem/linux") };
        let shares = v1::LinuxInfo { share_pid_namespace: Some(true), ..Default::default() };
        let shares = container(shares);
        assert_eq!(policy.has_own_processes(None, false), Ok(true));
        assert_eq!(policy.has_own_processes(Some(&shares), true), Ok(false));
        assert!(
            policy.has_own_processes(Some(&shares), false).unwrap_err().contains("not allowed")
        );
    }

    #[test]
    fn the_operators_sets_must_fit_together() {
        let of = |effective: &[&str], isolation: &str| {
            Policy {
                effective: Some(set(effective)),
                bounding: Some(set(&["KILL"])),
                ..policy(isolation)
            }
            .check()
        };
        assert!(of(&["KILL"], "linux/capabilities").is_ok());
        assert!(of(&["CHOWN"], "linux/capabilities").unwrap_err().contains("not a subset"));
        assert!(of(&["KILL"], "").unwrap_err().contains("need --isolation=linux/capabilities"));
        let wrong = serde_json::json!({"capabilities": ["FLY"]});
        assert!(Capabilities::parse(&wrong).unwrap_err().contains("\"FLY\" is no capability"));
    }
}
