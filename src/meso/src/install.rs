//! Packages onto a host, in two steps: sent and tried ([`stage`]), which changes nothing and says whether the host's RPM
//! would take them; then installed ([`Staged::install`]).

use std::time::Duration;

use crate::plan::{Install, sha256};
use crate::problem::{Kind, Problem};
use crate::progress::Progress;
use crate::ssh::{Connection, quoted};

/// How long sending a package may take.
const UPLOAD: Duration = Duration::from_secs(600);
/// How long installing may take, waiting for the package database's lock included.
const INSTALL: Duration = Duration::from_secs(600);
/// How long anything else may take.
const COMMAND: Duration = Duration::from_secs(60);

/// Packages in a directory of their own on a host.
#[derive(Debug)]
pub struct Staged<'a> {
    connection: &'a Connection,
    directory: String,
    /// Paths there, quoted for a shell.
    paths: String,
    names: String,
    /// Something that the packages need is missing, and yum may know where to get it.
    needs_yum: bool,
}

/// Sends packages to a host, and has its RPM try them without installing.
///
/// # Errors
/// When they can't be sent or RPM would refuse them; nothing is left on the host then.
pub async fn stage<'a>(
    connection: &'a Connection,
    installs: &[Install],
    progress: &Progress,
) -> Result<Staged<'a>, Problem> {
    let what = "no directory for the packages";
    let command = "umask 077; mktemp -d /var/tmp/meso.XXXXXX";
    let made = connection.succeed(what, command, Vec::new(), COMMAND).await?;
    let names: Vec<&str> = installs.iter().map(|install| install.package.name.as_str()).collect();
    let mut staged = Staged {
        connection,
        directory: made.text().trim().to_owned(),
        paths: String::new(),
        names: names.join(", "),
        needs_yum: false,
    };
    let result = async {
        for install in installs {
            staged.send(install, progress).await?;
        }
        staged.check_names(installs).await?;
        staged.rehearse().await
    };
    match result.await {
        Ok(()) => Ok(staged),
        Err(problem) => {
            staged.clear().await;
            Err(problem)
        }
    }
}

impl Staged<'_> {
    fn host(&self) -> &str {
        &self.connection.host.name
    }

    fn refused(&self, what: String, why: impl Into<String>, next: &str) -> Problem {
        Problem::on(self.host(), Kind::Preflight, what, why, next)
    }

    async fn send(&mut self, install: &Install, progress: &Progress) -> Result<(), Problem> {
        let package = &install.package;
        let name = &package.name;
        let content = tokio::fs::read(&package.path).await.map_err(|error| {
            let what = format!("{} can't be read", package.path.display());
            self.refused(what, error.to_string(), "run meso again with readable packages")
        })?;
        let size = content.len() as f64 / 1_000_000.0;
        progress.say(self.host(), &format!("sending {name} ({size:.1} MB)"));
        // Named anew, so that no file name reaches a shell or rpm.
        let target = quoted(&format!("{}/{name}.rpm", self.directory));
        let digest = sha256(&content);
        let command = format!("cat >{target} && sha256sum <{target}");
        let what = format!("{name} can't be sent");
        let said = self.connection.succeed(&what, &command, content, UPLOAD).await?.text();
        if said.split_whitespace().next() != Some(&digest) {
            return Err(self.refused(
                format!("{name} arrived damaged"),
                format!("its SHA-256 is {digest} here and {} there", said.trim()),
                "see that /var/tmp on the host has room and its disk is sound, then run meso again",
            ));
        }
        self.paths.push(' ');
        self.paths.push_str(&target);
        Ok(())
    }

    /// What a package is called decides whether it is installed again: its file's name must tell the truth.
    async fn check_names(&self, installs: &[Install]) -> Result<(), Problem> {
        let command = format!(
            "rpm -qp --nosignature --qf '%{{NAME}} %{{VERSION}}-%{{RELEASE}}\\n'{}",
            self.paths
        );
        let what = format!("{} can't be read by the host's rpm", self.names);
        let said = self.connection.run(&command, Vec::new(), COMMAND).await?;
        if said.status != Some(0) {
            return Err(self.refused(
                what,
                said.complaint(),
                "build the packages anew with `make rpm`",
            ));
        }
        for (install, line) in installs.iter().zip(said.text().lines()) {
            let package = &install.package;
            if line != format!("{} {}", package.name, package.version) {
                return Err(self.refused(
                    format!("{} is not what its name says", package.path.display()),
                    format!("it holds {line}"),
                    "give package files the names that they were built with",
                ));
            }
        }
        Ok(())
    }

    async fn rehearse(&mut self) -> Result<(), Problem> {
        let command = format!("rpm -U --test --nosignature{}", self.paths);
        let said = self.connection.run(&command, Vec::new(), INSTALL).await?;
        if said.status == Some(0) {
            return Ok(());
        }
        let why = said.complaint();
        // The packages need nothing that a minimal system lacks. Where one does, yum may know where to get it.
        let has_yum =
            self.connection.run("command -v yum", Vec::new(), COMMAND).await?.status == Some(0);
        if why.contains("is needed by") && has_yum {
            self.needs_yum = true;
            return Ok(());
        }
        Err(self.refused(
            format!("the host's rpm would not install {}", self.names),
            why,
            "remove what is in the way (an older or newer package of another maker, perhaps), then run meso again",
        ))
    }

    /// Installs the packages.
    ///
    /// # Errors
    /// When RPM or yum fails.
    pub async fn install(&self, progress: &Progress) -> Result<(), Problem> {
        progress.say(self.host(), &format!("installing {}", self.names));
        let installer =
            if self.needs_yum { "yum -y --nogpgcheck install" } else { "rpm -U --nosignature" };
        let command = format!("{installer}{}", self.paths);
        let what = format!("{} can't be installed", self.names);
        self.connection.succeed(&what, &command, Vec::new(), INSTALL).await?;
        Ok(())
    }

    /// Removes what was sent. Best effort: it lies where systemd clears old files away.
    pub async fn clear(&self) {
        let command = format!("rm -rf {}", quoted(&self.directory));
        let _ = self.connection.run(&command, Vec::new(), COMMAND).await;
    }
}
