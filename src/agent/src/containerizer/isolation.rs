//! What `--isolation` asks for: every isolator that Mesos 1.11 knows, and which of them are built.
//!
//! A name that 1.11 doesn't know is refused as it refuses it (`slave/containerizer/mesos/containerizer.cpp`); one that
//! it knows and this agent doesn't have is refused by its name and the reason, rather than passed over: who asks for a
//! restriction gets it, or no agent.

use std::collections::BTreeSet;

/// Whether this agent has an isolator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// Yes.
    Built,
    /// Yes; it needs root.
    Root,
    /// Yes; it needs `--launcher=linux`, and with it root.
    Linux,
    /// No, because.
    Missing(&'static str),
}

use Support::{Built, Linux, Missing, Root};

const NOT_YET: &str = "it is not built yet";

/// The isolators of 1.11 on Linux.
const ISOLATORS: &[(&str, Support)] = &[
    ("appc/runtime", Missing("images of the appc format are no longer made")),
    ("cgroups/all", Linux),
    ("cgroups/blkio", Linux),
    ("cgroups/cpu", Linux),
    ("cgroups/cpuset", Linux),
    ("cgroups/devices", Linux),
    ("cgroups/hugetlb", Linux),
    ("cgroups/mem", Linux),
    ("cgroups/net_cls", Linux),
    ("cgroups/net_prio", Linux),
    ("cgroups/perf_event", Linux),
    ("cgroups/pids", Linux),
    ("disk/du", Built),
    ("disk/xfs", Missing(NOT_YET)),
    ("docker/runtime", Root),
    ("docker/volume", Missing(NOT_YET)),
    ("environment_secret", Built),
    ("filesystem/linux", Root),
    ("filesystem/posix", Built),
    ("filesystem/shared", Missing("'filesystem/linux' takes its place")),
    ("gpu/nvidia", Linux),
    ("linux/capabilities", Root),
    ("linux/devices", Missing(NOT_YET)),
    ("linux/nnp", Built),
    ("linux/seccomp", Root),
    ("namespaces/ipc", Root),
    ("namespaces/pid", Root),
    ("network/cni", Root),
    ("network/port_mapping", Missing("'network/cni' takes its place")),
    ("network/ports", Linux),
    ("posix/cpu", Built),
    ("posix/mem", Built),
    ("posix/rlimits", Built),
    ("volume/csi", Missing(NOT_YET)),
    ("volume/host_path", Root),
    ("volume/image", Root),
    ("volume/sandbox_path", Built),
    ("volume/secret", Root),
];

/// Names of before 0.28, which 1.11 still takes.
const FORMER: &[(&str, &[&str])] = &[
    ("process", &["posix/cpu", "posix/mem"]),
    ("cgroups", &["cgroups/cpu", "cgroups/mem"]),
    ("posix/disk", &["disk/du"]),
];

/// The isolators that are in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Isolation {
    names: BTreeSet<&'static str>,
}

impl Isolation {
    /// Reads `--isolation`.
    ///
    /// # Errors
    /// Which name is unknown, not built, or there twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        let mut given = BTreeSet::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !given.insert(name) {
                return Err(format!("Duplicate entries found in --isolation flag '{text}'"));
            }
            let former = FORMER.iter().find(|(former, _)| *former == name);
            for name in former.map_or(&[name][..], |(_, names)| names) {
                names.insert(known(name)?);
            }
        }
        if names.contains("filesystem/linux") {
            names.extend(["volume/host_path", "volume/image", "volume/sandbox_path"]);
        }
        names.insert("environment_secret");
        only_one(&names, "filesystem", |name| name.starts_with("filesystem/"))?;
        only_one(&names, "network", |name| {
            name.starts_with("network/") && name != "network/ports"
        })?;
        Ok(Self { names })
    }

    /// Whether an isolator is in use; `cgroups/all` stands for all those of cgroups.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
            || name.starts_with("cgroups/") && self.names.contains("cgroups/all")
    }

    /// Whether an isolator is named.
    pub fn names(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// One that only the linux launcher has, if there is one.
    pub fn needs_linux(&self) -> Option<&'static str> {
        self.first(&[Linux])
    }

    /// One that only root has, if there is one.
    pub fn needs_root(&self) -> Option<&'static str> {
        self.first(&[Linux, Root])
    }

    fn first(&self, kinds: &[Support]) -> Option<&'static str> {
        let is_one =
            |name: &&str| ISOLATORS.iter().any(|(own, kind)| own == name && kinds.contains(kind));
        self.names.iter().copied().find(is_one)
    }
}

/// Refuses isolators that do the same thing in different ways.
fn only_one(
    names: &BTreeSet<&'static str>,
    kind: &str,
    is_one: impl Fn(&str) -> bool,
) -> Result<(), String> {
    if names.iter().filter(|name| is_one(name)).count() > 1 {
        return Err(format!("Using multiple {kind} isolators simultaneously is disallowed"));
    }
    Ok(())
}

/// An isolator that this agent has.
fn known(name: &str) -> Result<&'static str, String> {
    match ISOLATORS.iter().find(|(own, _)| *own == name) {
        Some((name, Built | Linux | Root)) => Ok(name),
        Some((_, Missing(reason))) => {
            Err(format!("the isolator '{name}' is not supported by this agent: {reason}"))
        }
        None => {
            let built = ISOLATORS.iter().filter(|(_, support)| !matches!(support, Missing(_)));
            let built: Vec<&str> = built.map(|(name, _)| *name).collect();
            Err(format!(
                "Unknown or unsupported isolator '{name}'; these are there: {}",
                built.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_names_and_all_stand_for_what_they_did() {
        let of = |text: &str| Isolation::parse(text).unwrap();
        assert_eq!(of("process"), of("posix/cpu,posix/mem"));
        assert_eq!(of("cgroups, posix/disk"), of("disk/du,cgroups/mem,cgroups/cpu"));
        assert!(of("cgroups/all").has("cgroups/pids") && !of("cgroups/all").has("disk/du"));
        assert!(!of("cgroups/cpu").has("cgroups/pids"));
        assert_eq!(of("posix/cpu,cgroups/pids").needs_linux(), Some("cgroups/pids"));
        assert_eq!(of("").needs_linux(), None);
    }

    #[test]
    fn some_come_with_others_or_always() {
        let of = |text: &str| Isolation::parse(text).unwrap();
        assert!(of("").has("environment_secret") && !of("").has("volume/host_path"));
        for name in ["volume/host_path", "volume/image", "volume/sandbox_path"] {
            assert!(of("filesystem/linux").has(name), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (text, expected) in [
            ("filesystem/linux,filesystem/posix", "Using multiple filesystem isolators"),
            ("posix/cpu,what", "Unknown or unsupported isolator 'what'; these are there: cgroups/"),
            ("appc/runtime", "'appc/runtime' is not supported by this agent: images of"),
            ("cgroups/cpu,cgroups/cpu", "Duplicate entries found in --isolation flag"),
        ] {
            let text = Isolation::parse(text).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
        let mut names: Vec<&str> = ISOLATORS.iter().map(|(name, _)| *name).collect();
        let given = names.clone();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, given, "in order, each once");
    }
}
