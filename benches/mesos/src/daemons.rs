//! The daemons that are measured: ours, beside this program, and the original's.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::process;

const START: Duration = Duration::from_secs(60);

/// Whose daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Ours,
    /// Mesos 1.11.
    Original,
}

impl Kind {
    /// As files are named.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Original => "original",
        }
    }

    fn binary(self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(match self {
            Self::Ours => std::env::current_exe()?.with_file_name(name),
            Self::Original => original().join("bin").join(name),
        })
    }
}

fn original() -> PathBuf {
    std::env::var_os("MESOS_ORACLE_CACHE")
        .map_or_else(|| PathBuf::from("/var/tmp/mesos-oracle"), PathBuf::from)
}

/// Whether the original is there.
pub(crate) fn has_original() -> bool {
    original().join("bin/mesos-master").is_file()
}

/// A master or an agent that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    command: Command,
    output: PathBuf,
    child: Option<Child>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Daemon {
    /// A master, with a registry on disk.
    ///
    /// # Errors
    /// When it doesn't start.
    pub(crate) fn master(kind: Kind, directory: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let directory = directory.join(format!("{}-master", kind.name()));
        let mut daemon = Self::new(kind, "mesos-master", &directory)?;
        daemon.command.arg("--hostname=master.example").args(flags);
        daemon.start()?;
        Ok(daemon)
    }

    /// An agent with process containers, and what every unprivileged run can have.
    ///
    /// # Errors
    /// When it doesn't start.
    pub(crate) fn agent(kind: Kind, directory: &Path, master: SocketAddr) -> anyhow::Result<Self> {
        let directory = directory.join(format!("{}-agent", kind.name()));
        let mut daemon = Self::new(kind, "mesos-agent", &directory)?;
        let launcher = match kind {
            Kind::Ours => directory.join("launcher"),
            Kind::Original => original().join("bin"),
        };
        if kind == Kind::Ours {
            fs::create_dir_all(&launcher)?;
            for name in ["mesos-executor", "mesos-docker-executor", "mesos-default-executor"] {
                std::os::unix::fs::symlink(kind.binary("mesos-agent")?, launcher.join(name))?;
            }
        }
        daemon
            .command
            .arg(format!("--master={master}"))
            .arg("--hostname=127.0.0.1")
            .arg("--no-systemd_enable_support")
            .args(["--launcher=posix", "--isolation=posix/cpu,posix/mem", "--containerizers=mesos"])
            .arg("--resources=cpus:64;mem:262144;disk:1000000;ports:[31000-32000]")
            .arg(format!("--launcher_dir={}", launcher.display()))
            .arg(format!("--runtime_dir={}", directory.join("runtime").display()));
        daemon.start()?;
        Ok(daemon)
    }

    fn new(kind: Kind, name: &str, directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory.join("work"))?;
        let port = process::free_ports(1)?[0];
        let mut command = Command::new(kind.binary(name)?);
        command
            .args(["--ip=127.0.0.1", "--logging_level=WARNING"])
            .arg(format!("--port={port}"))
            .arg(format!("--work_dir={}", directory.join("work").display()));
        let address = ([127, 0, 0, 1], port).into();
        Ok(Self { command, output: directory.join("output"), child: None, address })
    }

    /// Starts the program and waits until it listens.
    ///
    /// # Errors
    /// When it doesn't.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let output = File::options().create(true).append(true).open(&self.output)?;
        self.command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = self.command.spawn().context("the program does not start")?;
        self.child = Some(child);
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                bail!("does not serve:\n{}", fs::read_to_string(&self.output).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Kills it, as a failing host would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
