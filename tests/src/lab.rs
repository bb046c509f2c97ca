//! Real systemd hosts (`../shared/lab`): booted for a test, gone with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::programs::{run, shared};
use crate::{skip, wait};

/// A lab of hosts `h1`..`hN`, taken down when dropped, and also when the test process dies.
#[derive(Debug)]
pub struct Lab {
    name: String,
    program: PathBuf,
}

/// What keeps lab tests from running here, if anything.
#[must_use]
pub fn missing() -> Option<String> {
    if !shared().join("lab/lab").is_file() {
        return Some("../shared/lab is not here".to_owned());
    }
    if !skip::is_root() {
        return Some("lab hosts need root".to_owned());
    }
    for program in ["debootstrap", "systemd-nspawn", "ip", "ssh"] {
        if !std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path)
                .chain([PathBuf::from("/usr/sbin")])
                .any(|directory| directory.join(program).is_file())
        }) {
            return Some(format!("{program} is not installed"));
        }
    }
    None
}

impl Lab {
    /// Boots `hosts` hosts that say they are CentOS 7.
    ///
    /// # Panics
    /// When the lab does not come up.
    #[must_use]
    pub fn up(name: &str, hosts: usize) -> Self {
        let lab = Self {
            name: format!("{name}-{}", std::process::id()),
            program: shared().join("lab/lab"),
        };
        lab.lab(&[
            "up",
            &hosts.to_string(),
            "--as",
            "centos7",
            "--owner",
            &std::process::id().to_string(),
        ]);
        lab
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("MESO_LAB_NAME", &self.name);
        command
    }

    /// Runs a `lab` command and gives its output.
    ///
    /// # Panics
    /// When it fails.
    pub fn lab(&self, arguments: &[&str]) -> String {
        self.try_lab(arguments).unwrap_or_else(|error| panic!("lab {arguments:?}: {error}"))
    }

    /// Runs a `lab` command.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_lab(&self, arguments: &[&str]) -> Result<String, String> {
        run(self.command().args(arguments))
    }

    /// Runs a shell command on a host over ssh, as root, as an operator would type it.
    ///
    /// # Panics
    /// When it fails.
    pub fn ssh(&self, host: &str, command: &str) -> String {
        self.try_ssh(host, command).unwrap_or_else(|error| panic!("{host}: {command}: {error}"))
    }

    /// [`Lab::ssh`] that may fail.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_ssh(&self, host: &str, command: &str) -> Result<String, String> {
        self.try_lab(&["ssh", host, command])
    }

    /// Copies a directory's content onto a host, into a directory that is made if need be.
    ///
    /// # Panics
    /// When it can't be copied.
    pub fn copy(&self, host: &str, from: &Path, to: &str) {
        let root = self.lab(&["root", host]);
        let target = format!("{}{to}", root.trim());
        run(Command::new("mkdir").args(["-p", &target])).expect("a directory on the host");
        run(Command::new("cp").arg("-r").arg(from.join(".")).arg(&target))
            .expect("a copy on the host");
    }

    /// A host's address.
    #[must_use]
    pub fn ip(&self, host: &str) -> String {
        self.lab(&["ip", host]).trim().to_owned()
    }

    /// Addresses, key, `known_hosts` and `ssh_config` of the lab.
    #[must_use]
    pub fn inventory(&self) -> Value {
        serde_json::from_str(&self.lab(&["inventory", "json"]))
            .expect("the lab's inventory is JSON")
    }

    /// Serves a directory of packages to all hosts; its URL.
    pub fn repository(&self, directory: &Path) -> String {
        self.lab(&["repo", &directory.to_string_lossy()])
            .lines()
            .last()
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Makes the image `busybox` known to a host's Docker: no registry is in reach.
    ///
    /// # Panics
    /// When Docker does not start.
    pub fn import_busybox(&self, host: &str) {
        wait::until("docker on the host", Duration::from_secs(30), || {
            self.try_ssh(host, "docker import /usr/share/lab/busybox.tar busybox")
        });
    }
}

impl Drop for Lab {
    #[expect(
        clippy::print_stderr,
        reason = "the journal of a failed test is for the person who runs it"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in ["h1", "h2"] {
                for unit in ["zookeeper", "mesos-master", "mesos-slave", "marathon"] {
                    if let Ok(journal) = self.try_lab(&[
                        "exec",
                        host,
                        &format!("journalctl -u {unit} -n 30 --no-pager -o cat"),
                    ]) {
                        eprintln!("--- {host}, {unit}\n{journal}");
                    }
                }
            }
        }
        // An error here must not hide the test's own.
        let _ = self.try_lab(&["down"]);
    }
}
