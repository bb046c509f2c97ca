//! `mesos-containerizer supervise`: the process that stays beside a container without executor.
//!
//! It outlives the agent: it notes how the container's process ended where the next agent finds it, ends what that process
//! left behind, passes signals on, and serves its input and output. It plays the parts of the original's
//! `mesos-containerizer launch` as a container's first process, and of `mesos-io-switchboard`.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::confinement::Confinement;
use super::processes::{kill_children, send};
use super::switchboard::Switchboard;
use super::terminal::Terminal;
use super::{first, helper, namespaces};
use crate::checkpoint;

/// How long output may still flow when the process and all that it started are gone.
const DRAIN: Duration = Duration::from_secs(10);

/// Signals without names.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Where the first process of a namespace notes how the program ended.
pub(super) const INNER_STATUS: &str = "status.inner";

/// How the supervisor is started.
#[derive(Debug, Default)]
pub struct Options {
    /// The container's id, with its parents': the supervisor is recognised by it.
    pub container: String,
    /// Where to note the end, and to serve input and output.
    pub runtime: PathBuf,
    /// Whether input and output are served.
    pub serves: bool,
    /// Whether output is held until somebody listens, and kept nowhere.
    pub is_session: bool,
    /// Rows and columns of the terminal, if there is to be one.
    pub window: Option<(u16, u16)>,
    /// Whether the program passes the terminal on to one that it starts, rather than being controlled by it.
    pub lends_terminal: bool,
    /// The process whose namespaces the container shares.
    pub beside: Option<i32>,
    /// Where to begin, as that process sees it.
    pub directory: Option<PathBuf>,
    /// The process whose process namespace it is in, if it has none of its own.
    pub processes_of: Option<i32>,
    /// The process whose IPC namespace it is in, if it has none of its own.
    pub ipc_of: Option<i32>,
    /// Whether it has a process namespace of its own.
    pub own_processes: bool,
    /// The user to become.
    pub user: Option<String>,
    /// What the program's process gives up: [`Confinement::to_arguments`].
    pub confinement: Vec<String>,
}

impl Options {
    /// As arguments.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--container={}", self.container),
            format!("--runtime={}", self.runtime.display()),
        ];
        arguments.extend(self.serves.then(|| "--serve".to_owned()));
        arguments.extend(self.is_session.then(|| "--session".to_owned()));
        let window = self.window.map(|(rows, columns)| format!("--window={rows}x{columns}"));
        arguments.extend(window);
        arguments.extend(self.lends_terminal.then(|| "--lend-terminal".to_owned()));
        arguments.extend(self.beside.map(|pid| format!("--beside={pid}")));
        let directory = self.directory.as_ref();
        arguments.extend(directory.map(|path| format!("--directory={}", path.display())));
        let processes_of = self.processes_of.map(|pid| format!("--processes-of={pid}"));
        arguments.extend(processes_of);
        arguments.extend(self.ipc_of.map(|pid| format!("--ipc-of={pid}")));
        arguments.extend(self.own_processes.then(|| "--own-processes".to_owned()));
        arguments.extend(self.user.as_ref().map(|user| format!("--user={user}")));
        arguments.extend(self.confinement.iter().cloned());
        arguments
    }

    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        for argument in arguments {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            match name {
                "--container" => value.clone_into(&mut options.container),
                "--runtime" => options.runtime = PathBuf::from(value),
                "--serve" => options.serves = true,
                "--session" => options.is_session = true,
                "--window" => {
                    let (rows, columns) = value.split_once('x').context("--window")?;
                    options.window = Some((rows.parse()?, columns.parse()?));
                }
                "--lend-terminal" => options.lends_terminal = true,
                "--beside" => options.beside = Some(value.parse()?),
                "--processes-of" => options.processes_of = Some(value.parse()?),
                "--ipc-of" => options.ipc_of = Some(value.parse()?),
                "--own-processes" => options.own_processes = true,
                "--directory" => options.directory = Some(PathBuf::from(value)),
                "--user" => options.user = Some(value.to_owned()),
                _ if Confinement::default().take(argument).map_err(anyhow::Error::msg)? => {
                    options.confinement.push(argument.clone());
                }
                other => bail!("unknown option {other}"),
            }
        }
        ensure!(!options.runtime.as_os_str().is_empty(), "--runtime is missing");
        Ok(options)
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it is not started by an agent, or the program can't be started.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let end = arguments.iter().position(|argument| argument == "--");
    let (options, program) = arguments.split_at(end.context("'--' is missing")?);
    let [_, program, argv @ ..] = program else { bail!("the program is missing") };
    let options = Options::parse(options)?;
    let mut told = [0];
    let count = std::io::stdin().read(&mut told)?;
    ensure!(count == 1 && told[0] == helper::GO, "the agent is gone: not started");
    // What the program leaves behind becomes a child of this process, which can end it then.
    nix::sys::prctl::set_child_subreaper(true)?;
    if let Some(pid) = options.ipc_of {
        namespaces::share_ipc(pid)?;
    }
    if let Some(pid) = options.beside.or(options.processes_of) {
        namespaces::share_processes(pid)?;
    }
    if options.own_processes {
        unshare(CloneFlags::CLONE_NEWPID).context("a process namespace")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(supervise(&options, program, argv));
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// The ends of a program's input and output that are this process's.
enum Ours {
    /// It has the sandbox's files.
    None,
    Pipes,
    Terminal(OwnedFd),
}

fn spawn(options: &Options, program: &str, argv: &[String]) -> anyhow::Result<(Child, Ours)> {
    let inner = Some(options.runtime.join(INNER_STATUS));
    let helper = helper::Options {
        waits: false,
        user: options.user.as_deref(),
        beside: options.beside,
        confinement: &options.confinement,
        has_terminal: options.window.is_some() && !options.lends_terminal,
        own_processes: false,
        is_first: inner.as_deref().filter(|_| options.own_processes),
        directory: options.directory.as_deref(),
    };
    let mut command: Command = helper::command(&helper, program, argv).into();
    let ours = match (options.window, options.serves) {
        (Some((rows, columns)), _) => {
            let Terminal { ours, theirs } = Terminal::open(rows, columns)?;
            command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
            if options.lends_terminal {
                command.process_group(0);
            }
            Ours::Terminal(ours)
        }
        (None, true) => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.process_group(0);
            Ours::Pipes
        }
        (None, false) => {
            command.stdin(Stdio::null()).process_group(0);
            Ours::None
        }
    };
    let child = command.spawn().with_context(|| format!("cannot start '{program}'"))?;
    Ok((child, ours))
}

async fn supervise(options: &Options, program: &str, argv: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    // Signals are to be passed on from the first moment.
    let mut signals = passed_on()?;
    let (mut child, ours) = spawn(options, program, argv)?;
    let board = match ours {
        Ours::None => None,
        Ours::Pipes => Some(Switchboard::of_pipes(options, &mut child)?),
        Ours::Terminal(ours) => Some(Switchboard::of_terminal(options, ours)?),
    };
    let status = wait(&mut child, &mut signals).await?;
    // Within a namespace of its own the program is not a child of this process.
    let inner = std::fs::read_to_string(options.runtime.join(INNER_STATUS)).ok();
    let inner = inner.filter(|_| options.own_processes).and_then(|text| text.parse().ok());
    let status = inner.unwrap_or(status.into_raw());
    kill_children();
    let path = options.runtime.join("status");
    checkpoint::replace(&path, status.to_string().as_bytes())?;
    if let Some(board) = board {
        // Somebody may not read: the container has ended all the same.
        let _ = tokio::time::timeout(DRAIN, board.finish()).await;
    }
    Ok(())
}

/// Waits for a process's end, and passes on what it is told meanwhile.
async fn wait(child: &mut Child, signals: &mut mpsc::Receiver<i32>) -> std::io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    loop {
        tokio::select! {
            status = child.wait() => return status,
            Some(signal) = signals.recv() => {
                // It has just ended: fine.
                let _ = send(pid, signal);
            }
        }
    }
}

/// Stands in the host's process namespace for a program that has one of its own: is told what it is told, and ends as
/// it ends. `program` begins with `--`.
pub(super) fn stand_in(options: &[String], program: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    unshare(CloneFlags::CLONE_NEWPID).context("a process namespace")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let mut signals = passed_on()?;
        let (mut told, tells) = std::io::pipe()?;
        let mut command: Command = helper::again(options, program, true).into();
        let mut child = command.stdin(tells).spawn()?;
        // Its own copy of what the first process writes to.
        drop(command);
        let status = wait(&mut child, &mut signals).await?;
        // The first process of a namespace can't end by a signal of its own.
        let mut text = String::new();
        told.read_to_string(&mut text)?;
        anyhow::Ok(text.parse().map_or(status, ExitStatus::from_raw))
    })?;
    if let Some(signal) = status.signal().and_then(|number| Signal::try_from(number).ok()) {
        end_by(signal);
    }
    #[expect(clippy::exit, reason = "the program's status is this process's")]
    std::process::exit(status.code().unwrap_or(1))
}

/// Ends this process by a signal, also one that is caught.
#[expect(unsafe_code, reason = "handlers of signals have no safe form")]
fn end_by(signal: Signal) {
    // SAFETY: the default handler is no code of this process.
    let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    let _ = nix::sys::signal::raise(signal);
}

/// The signals that are the container's rather than this process's.
fn passed_on() -> anyhow::Result<mpsc::Receiver<i32>> {
    let (tell, told) = mpsc::channel(16);
    let named = first::SIGNALS.iter().map(|own| *own as i32);
    for own in named.chain(REAL_TIME) {
        let mut stream = signal(SignalKind::from_raw(own))?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if tell.send(own).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_command_line() {
        let options = Options {
            container: "a.b".to_owned(),
            runtime: "/r/containers/a/containers/b".into(),
            serves: true,
            is_session: true,
            window: Some((24, 80)),
            lends_terminal: true,
            beside: Some(7),
            directory: Some("/mnt".into()),
            processes_of: Some(8),
            ipc_of: Some(5),
            own_processes: true,
            user: Some("nobody".to_owned()),
            confinement: vec!["--no-new-privileges".to_owned()],
        };
        let parsed = Options::parse(&options.to_arguments()).unwrap();
        assert_eq!(format!("{parsed:?}"), format!("{options:?}"));
        assert!(Options::parse(&["--frobnicate".to_owned()]).is_err());
        assert!(Options::parse(&[]).is_err());
    }
}
