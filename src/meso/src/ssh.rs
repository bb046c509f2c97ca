//! One SSH connection to a host: commands, streams to commands, and streams to the host's own ports, side by side.
//!
//! libssh2 has one lock a session, so one thread owns the session and moves the bytes of all channels ([`session`]);
//! the rest of the program talks to that thread. Host keys are checked in [`known_hosts`], logging in is in [`login`].

pub mod known_hosts;
pub mod login;
mod session;

use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::inventory::Host;
use crate::problem::{Kind, Problem};
pub use login::Login;

/// What a command said and how it ended.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
}

impl Output {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last lines of what it said, errors first.
    #[must_use]
    pub fn complaint(&self) -> String {
        let said = if self.stderr.trim_ascii().is_empty() { &self.stdout } else { &self.stderr };
        let text = String::from_utf8_lossy(said);
        let lines: Vec<&str> = text.trim().lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n");
        match self.status {
            Some(_) if !tail.is_empty() => tail,
            Some(status) => format!("it ended with status {status} and said nothing"),
            None => format!("a signal ended it\n{tail}").trim_end().to_owned(),
        }
    }
}

/// What the owning thread is asked for.
enum Request {
    Run { command: String, input: Vec<u8>, reply: oneshot::Sender<Result<Output, String>> },
    Command { command: String, far: UnixStream, reply: oneshot::Sender<Result<(), String>> },
    Port { address: String, port: u16, far: UnixStream, reply: oneshot::Sender<Result<(), String>> },
}

/// Requests that wait for the owning thread; whoever has more of them waits.
const REQUESTS: usize = 16;

/// A logged-in connection. Dropping it ends it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The host.
    pub host: Host,
    requests: mpsc::Sender<Request>,
}

impl Connection {
    /// Connects, checks the host's key and logs in; as another user than root, makes sure of `sudo -n` too.
    ///
    /// # Errors
    /// When any of these fails, or takes longer than the login's timeout allows.
    pub async fn open(host: &Host, login: Login) -> Result<Self, Problem> {
        let (requests, inbox) = mpsc::channel(REQUESTS);
        let (opened, told) = oneshot::channel();
        let (owned, login) = (host.clone(), login);
        std::thread::Builder::new()
            .name(format!("ssh {}", host.name))
            .spawn(move || match login::open(&owned, &login) {
                Ok((session, socket)) => {
                    // Nobody listens any more where the program is ending.
                    if opened.send(Ok(())).is_ok() {
                        session::serve(&session, socket, inbox);
                    }
                }
                Err(problem) => {
                    let _ = opened.send(Err(problem));
                }
            })
            .map_err(|error| {
                Problem::on(
                    &host.name,
                    Kind::Unreachable,
                    "no thread for the connection",
                    error.to_string(),
                    "name fewer hosts at once, or raise the limit of processes (ulimit -u)",
                )
            })?;
        match told.await {
            Ok(result) => result?,
            Err(_) => return Err(lost(&host.name, "its thread ended")),
        }
        let connection = Self { host: host.clone(), requests };
        connection.check_root().await?;
        Ok(connection)
    }

    async fn check_root(&self) -> Result<(), Problem> {
        if self.host.user == "root" {
            return Ok(());
        }
        let output = self.raw("sudo -n true", Vec::new(), Duration::from_secs(15)).await?;
        if output.status == Some(0) {
            return Ok(());
        }
        Err(Problem::on(
            &self.host.name,
            Kind::Preflight,
            format!("{} can't become root", self.host.user),
            output.complaint(),
            format!(
                "let {user} use sudo without a password ('{user} ALL=(ALL) NOPASSWD: ALL' in /etc/sudoers.d), or use --user root",
                user = self.host.user
            ),
        ))
    }

    /// A shell command as root would run it.
    fn as_root(&self, command: &str) -> String {
        let quoted = quoted(command);
        // Which address was connected to is known before sudo only.
        let shell = format!("env MESO_SSH_CONNECTION=\"$SSH_CONNECTION\" sh -c {quoted}");
        if self.host.user == "root" { shell } else { format!("sudo -n {shell}") }
    }

    async fn ask<T>(
        &self,
        limit: Duration,
        request: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Request,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let name = &self.host.name;
        let asked = async {
            self.requests.send(request(reply)).await.map_err(|_| lost(name, "it was closed"))?;
            match answer.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(why)) => Err(lost(name, &why)),
                Err(_) => Err(lost(name, "it was closed")),
            }
        };
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(Problem::on(
                name,
                Kind::Failed,
                "a command did not end in time",
                format!("no answer within {} s", limit.as_secs()),
                "look at the host's load and at what holds its package database, then run meso again",
            ))
        })
    }

    async fn raw(&self, command: &str, input: Vec<u8>, limit: Duration) -> Result<Output, Problem> {
        let command = command.to_owned();
        self.ask(limit, |reply| Request::Run { command, input, reply }).await
    }

    /// Runs a shell command as root, with `input` as its standard input.
    ///
    /// # Errors
    /// When the connection is lost or `limit` passes; a command that fails is an [`Output`].
    pub async fn run(
        &self,
        command: &str,
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<Output, Problem> {
        self.raw(&self.as_root(command), input, limit).await
    }

    /// [`Connection::run`], where a command that fails is an error that says `what`.
    ///
    /// # Errors
    /// When the command fails, too.
    pub async fn succeed(
        &self,
        what: &str,
        command: &str,
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<Output, Problem> {
        let output = self.run(command, input, limit).await?;
        if output.status == Some(0) {
            return Ok(output);
        }
        Err(Problem::on(
            &self.host.name,
            Kind::Failed,
            what,
            output.complaint(),
            "correct that on the host, then run meso again: it goes on where it ended",
        ))
    }

    /// A stream to the standard input and output of a command that runs as root.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn command_stream(&self, command: &str) -> Result<UnixStream, Problem> {
        let (near, far) = self.pair()?;
        let command = self.as_root(command);
        self.ask(OPEN, |reply| Request::Command { command, far, reply }).await?;
        Ok(near)
    }

    /// A stream to a port, connected to by the host itself.
    ///
    /// # Errors
    /// What sshd says when nothing listens there.
    pub async fn port_stream(&self, address: &str, port: u16) -> Result<UnixStream, Problem> {
        let (near, far) = self.pair()?;
        let address = address.to_owned();
        self.ask(OPEN, |reply| Request::Port { address, port, far, reply }).await?;
        Ok(near)
    }

    fn pair(&self) -> Result<(UnixStream, UnixStream), Problem> {
        let pair = UnixStream::pair().and_then(|(near, far)| {
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            Ok((near, far))
        });
        pair.map_err(|error| lost(&self.host.name, &error.to_string()))
    }
}

/// How long a channel may take to open.
const OPEN: Duration = Duration::from_secs(20);

fn lost(host: &str, why: &str) -> Problem {
    Problem::on(
        host,
        Kind::Failed,
        "the SSH connection failed",
        why,
        "see that the host is up and its sshd runs, then run meso again: it goes on where it ended",
    )
}

/// A word that every shell takes as it stands.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_one_word_of_a_shell() {
        for word in ["plain", "it's", "$HOME `id` \"x\" \\ !", "", "two\nlines"] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn a_complaint_is_the_end_of_what_was_said() {
        let output = |stdout: &str, stderr: &str, status| Output {
            stdout: stdout.into(),
            stderr: stderr.into(),
            status,
        };
        let lines: Vec<String> = (0..20).map(|line| line.to_string()).collect();
        for (output, expected) in [
            (output("out", "err\n", Some(1)), "err"),
            (output("out", " \n", Some(1)), "out"),
            (output("", "", Some(7)), "it ended with status 7 and said nothing"),
            (output("", "cut", None), "a signal ended it\ncut"),
            (output("", &lines.join("\n"), Some(1)), "12\n13\n14\n15\n16\n17\n18\n19"),
        ] {
            assert_eq!(output.complaint(), expected);
        }
    }
}
