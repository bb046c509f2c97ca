//! `mesos-executor`: runs one command (Mesos' `launcher/executor.cpp`).

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mesos::units::parse_duration;
use mesos::v1;
use mesos::v1::agent::response::WaitContainer;
use mesos::v1::executor::{Event, event};
use mesos::v1::task_status::Reason;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::{Client, Heard, TOKEN};
use super::health::{self, Commands, Found, Place};
use super::pod::{Action, Ended, Pod};
use crate::containerizer::cgroups::memory::{MemoryFiles, Watch};
use crate::containerizer::confinement::Confinement;
use crate::containerizer::images::spec::{self, Runtime};
use crate::containerizer::processes::{kill_tree, signal_tree};
use crate::containerizer::{
    MEMORY_EVENTS, MEMORY_LIMIT, Problem, TASK_CONFINEMENT, TASK_IMAGE, TASK_SECRETS, TASK_USER,
    helper,
};

/// Variables that concern the executor, never its task.
pub(super) const OWN: [&str; 7] =
    [TASK_USER, TASK_CONFINEMENT, TASK_IMAGE, TASK_SECRETS, MEMORY_EVENTS, MEMORY_LIMIT, TOKEN];
const SIGKILL: i32 = 9;
/// The first signal without a name, as the C library has it.
const REAL_TIME: i32 = 34;
/// How long the agent lets an executor take to end, when it doesn't say.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// How long to wait for the last acknowledgement.
const FAREWELL: Duration = Duration::from_secs(60);

/// "Command exited with status 0", "Command terminated with signal Killed" (`WSTRINGIFY`).
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("Command exited with status {code}"),
        (None, Some(signal)) => {
            let name = match Signal::try_from(signal) {
                Ok(signal) => name(signal).to_owned(),
                Err(_) => match signal.checked_sub(REAL_TIME) {
                    Some(number @ 0..=30) => format!("Real-time signal {number}"),
                    _ => format!("Unknown signal {signal}"),
                },
            };
            let dumped = if status.core_dumped() { " (core dumped)" } else { "" };
            format!("Command terminated with signal {name}{dumped}")
        }
        (None, None) => "Command ended".to_owned(),
    }
}

/// A signal, as the C library calls it in English.
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::SIGHUP => "Hangup",
        Signal::SIGINT => "Interrupt",
        Signal::SIGQUIT => "Quit",
        Signal::SIGILL => "Illegal instruction",
        Signal::SIGTRAP => "Trace/breakpoint trap",
        Signal::SIGABRT => "Aborted",
        Signal::SIGBUS => "Bus error",
        Signal::SIGFPE => "Floating point exception",
        Signal::SIGKILL => "Killed",
        Signal::SIGUSR1 => "User defined signal 1",
        Signal::SIGSEGV => "Segmentation fault",
        Signal::SIGUSR2 => "User defined signal 2",
        Signal::SIGPIPE => "Broken pipe",
        Signal::SIGALRM => "Alarm clock",
        Signal::SIGTERM => "Terminated",
        Signal::SIGSTKFLT => "Stack fault",
        Signal::SIGXCPU => "CPU time limit exceeded",
        Signal::SIGXFSZ => "File size limit exceeded",
        Signal::SIGVTALRM => "Virtual timer expired",
        Signal::SIGPROF => "Profiling timer expired",
        Signal::SIGIO => "I/O possible",
        Signal::SIGPWR => "Power failure",
        Signal::SIGSYS => "Bad system call",
        // They end nobody.
        other => other.as_str(),
    }
}

/// The grace period of a kill: the call's policy, else the task's, else the default.
pub fn grace(call: Option<&v1::KillPolicy>, task: &v1::TaskInfo, default: Duration) -> Duration {
    let of = |policy: &v1::KillPolicy| policy.grace_period.map(|period| period.duration());
    call.and_then(of).or_else(|| task.kill_policy.as_ref().and_then(of)).unwrap_or(default)
}

/// What the agent says of the task's container, in the executor's environment.
struct Told {
    user: Option<String>,
    /// What the task's process gives up, and sees, as the helper takes it.
    confinement: Vec<String>,
    /// What the image of the task's container says.
    image: Result<Option<Runtime>, String>,
    secrets: Result<BTreeMap<String, String>, String>,
    /// What hears whether its container runs out of memory.
    memory: Option<Watch>,
}

impl Told {
    fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let image = text(TASK_IMAGE).map(|text| serde_json::from_str(&text)).transpose();
        let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let files = file(MEMORY_EVENTS).zip(file(MEMORY_LIMIT));
        let memory = files.map(|(events, limit)| MemoryFiles { events, limit });
        Self {
            user: text(TASK_USER),
            confinement: text(TASK_CONFINEMENT)
                .map(|text| text.lines().map(str::to_owned).collect())
                .unwrap_or_default(),
            image: image.map_err(|error| format!("{TASK_IMAGE}: {error}")),
            secrets: secrets(),
            memory: memory.map(Watch::begin),
        }
    }

    /// What the task's process gives up, and sees.
    fn confined(&self) -> Confinement {
        let mut own = Confinement::default();
        for argument in &self.confinement {
            // The helper says what is wrong with it.
            let _ = own.take(argument);
        }
        own
    }

    /// What the task finds in its environment beside what the executor finds: of its image, its command, its secrets.
    fn given(&self, command: &v1::CommandInfo) -> Vec<(String, String)> {
        let image = self.image.as_ref().ok().and_then(Option::as_ref);
        let mut all: Vec<(String, String)> =
            image.into_iter().flat_map(Runtime::environment).collect();
        let root = self.confined().view.and_then(|view| view.root);
        let directory = root.map(|root| root.sandbox_directory);
        all.extend(directory.map(|path| ("MESOS_SANDBOX".to_owned(), path.display().to_string())));
        all.extend(environment(command));
        all.extend(self.secrets.clone().unwrap_or_default());
        all
    }

    /// What is to be said if the container has run out of memory.
    fn out_of_memory(&self) -> Option<Problem> {
        self.memory.as_ref()?.exceeded().map(Problem::from)
    }
}

fn spawn(info: &v1::TaskInfo, told: &Told) -> Result<Child, String> {
    let command = info.command.clone().unwrap_or_default();
    let image = told.image.as_ref().map_err(Clone::clone)?;
    let (program, argv) = spec::program(image.as_ref(), &command)?;
    let (user, confinement) = (&told.user, &told.confinement);
    // Its container's, which becomes the task's own.
    let has_terminal = std::io::stdin().is_terminal();
    let mut words: Command = if user.is_some() || !confinement.is_empty() || has_terminal {
        let (user, confinement) = (user.as_deref(), &confinement[..]);
        let options =
            helper::Options { user, confinement, has_terminal, ..helper::Options::default() };
        helper::command(&options, &program, &argv).into()
    } else {
        let mut words = Command::new(&program);
        if let [name, rest @ ..] = &argv[..] {
            words.arg0(name).args(rest);
        }
        words
    };
    told.secrets.as_ref().map_err(Clone::clone)?;
    words.envs(told.given(&command)).envs([super::allocation_role(info)]);
    for own in OWN {
        words.env_remove(own);
    }
    if !has_terminal {
        words.stdin(Stdio::null()).process_group(0);
    }
    words.spawn().map_err(|error| format!("Failed to start '{program}': {error}"))
}

/// The task's variables that are secrets.
pub(super) fn secrets() -> Result<BTreeMap<String, String>, String> {
    let Ok(text) = std::env::var(TASK_SECRETS) else { return Ok(BTreeMap::new()) };
    // What is wrong with it is not told: that would tell of it.
    serde_json::from_str(&text).map_err(|_| format!("{TASK_SECRETS} can't be read"))
}

/// A command's own variables.
pub(crate) fn environment(command: &v1::CommandInfo) -> Vec<(String, String)> {
    command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables)
        .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
        .collect()
}

struct Session {
    client: Client,
    told: Told,
    pod: Pod,
    child: Option<Child>,
    pid: i32,
    checks: Vec<JoinHandle<()>>,
    found: mpsc::Sender<Found>,
    started: Instant,
    /// Set when the task is over: then the agent is waited for until then.
    farewell: Option<Instant>,
}

/// Runs until the task is over and the agent knows.
///
/// # Errors
/// When it wasn't started by an agent.
pub async fn run() -> anyhow::Result<()> {
    let (found, mut next) = mpsc::channel(16);
    let grace = std::env::var("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD").ok();
    let grace = grace.and_then(|text| parse_duration(&text).ok()).unwrap_or(SHUTDOWN_GRACE);
    let mut session = Session {
        client: Client::from_environment()?,
        told: Told::from_environment(),
        pod: Pod::of_command(grace),
        child: None,
        pid: 0,
        checks: Vec::new(),
        found,
        started: Instant::now(),
        farewell: None,
    };
    let mut task: Option<String> = None;
    loop {
        let farewell = session.farewell;
        if farewell.is_some_and(|until| session.client.is_settled() || Instant::now() >= until) {
            return Ok(());
        }
        let due = session.pod.due().map(|due| session.started + due);
        let id = task.clone().unwrap_or_default();
        tokio::select! {
            heard = session.client.next() => match heard {
                Heard::Reconnect => {}
                Heard::Shutdown => {
                    if session.child.is_some() {
                        kill_tree(session.pid);
                    }
                    return Ok(());
                }
                Heard::Event(event) => session.event(*event, &mut task),
            },
            status = wait(&mut session.child) => session.ended(&id, status),
            Some(found) = next.recv() => session.found(&id, found),
            () = at(due) => session.pod.tick(session.started.elapsed()),
            () = at(farewell) => {}
        }
        session.act().await;
    }
}

impl Session {
    fn event(&mut self, event: Event, task: &mut Option<String>) {
        let now = self.started.elapsed();
        self.pod.set_knows_killing(self.client.framework_knows_killing());
        match event.r#type() {
            event::Type::Launch if task.is_none() => {
                let info = event.launch.unwrap_or_default().task;
                *task = Some(info.task_id.value.clone());
                self.pod.launch_group(vec![info], String::new);
            }
            event::Type::Kill => {
                let kill = event.kill.unwrap_or_default();
                self.pod.kill_task(now, &kill.task_id.value, kill.kill_policy.as_ref());
            }
            event::Type::Shutdown => self.pod.shut_down(now),
            _ => {}
        }
    }

    /// The task's process has ended.
    fn ended(&mut self, task: &str, status: std::io::Result<ExitStatus>) {
        self.child = None;
        // What it started must not outlive it.
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        let now = self.started.elapsed();
        let ended = match (status, self.told.out_of_memory()) {
            (Ok(status), Some(exceeded)) if !status.success() => Ended::Failed(exceeded),
            (Ok(status), _) => Ended::Known(Box::new(WaitContainer {
                exit_status: Some(status.into_raw()),
                ..Default::default()
            })),
            (Err(error), _) => {
                let problem = Problem::new(Reason::CommandExecutorFailed, error.to_string());
                Ended::Failed(problem)
            }
        };
        self.pod.ended(now, task, ended);
    }

    fn found(&mut self, task: &str, found: Found) {
        let now = self.started.elapsed();
        match found {
            Found::Health(health) => self.pod.health(now, task, health.healthy, health.kill),
            Found::Check(result) => self.pod.checked(task, result),
        }
    }

    async fn act(&mut self) {
        // Starting the task gives more to do.
        loop {
            let actions = self.pod.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action).await;
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::Update(status) => {
                // The agent knows the container.
                self.client.report(v1::TaskStatus { container_status: None, ..*status }).await;
            }
            Action::Launch(_, task) => {
                let (now, id) = (self.started.elapsed(), task.task_id.value.clone());
                match spawn(&task, &self.told) {
                    Ok(child) => {
                        self.pid = child.id().and_then(|pid| pid.try_into().ok()).unwrap_or(0);
                        self.child = Some(child);
                        self.pod.launched(now, &id, Ok(()));
                    }
                    Err(message) => {
                        let problem = Problem::new(Reason::CommandExecutorFailed, message);
                        self.pod.ended(now, &id, Ended::Failed(problem));
                    }
                }
            }
            Action::Signal(_, signal) if self.child.is_some() => {
                let is_last = signal == SIGKILL;
                let signal = if is_last { Signal::SIGKILL } else { Signal::SIGTERM };
                signal_tree(self.pid, signal);
            }
            Action::Check(_, task) => {
                let command = task.command.clone().unwrap_or_default();
                let commands = Commands::InTask {
                    pid: self.pid,
                    user: self.told.user.clone(),
                    environment: self.told.given(&command),
                };
                let network = self.told.confined().network;
                let place = Place {
                    ip: network.as_ref().and_then(|own| own.ip).unwrap_or([127, 0, 0, 1].into()),
                    network: network.map(|own| own.namespace),
                    commands,
                };
                self.checks = health::watch_all(&task, &place, &self.found);
            }
            Action::StopChecks(_) => self.checks.drain(..).for_each(|check| check.abort()),
            Action::Done => self.farewell = Some(Instant::now() + FAREWELL),
            // The process is a child: its end is heard of.
            Action::Wait(..) | Action::Signal(..) => {}
        }
    }
}

async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever without a time.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_the_originals_words() {
        for (status, expected) in [
            (0, "exited with status 0"),
            (7 << 8, "exited with status 7"),
            (9, "terminated with signal Killed"),
            (1, "terminated with signal Hangup"),
            (13, "terminated with signal Broken pipe"),
            (0x8b, "terminated with signal Segmentation fault (core dumped)"),
            (35, "terminated with signal Real-time signal 1"),
            (33, "terminated with signal Unknown signal 33"),
        ] {
            assert_eq!(describe(ExitStatus::from_raw(status)), format!("Command {expected}"));
        }
    }
}
