//! `mesos-containerizer launch`: the first process of a container, until it becomes the program that it is for.
//!
//! It waits for the agent, which puts it into its cgroups meanwhile: nothing that the program starts is outside of
//! them. An agent that died before has not done so; then nothing is run. Then it changes over to the user, with all
//! groups of that user, and becomes the program: the process id stays. `mesos-containerizer supervise` is
//! [`super::supervise`].

use std::ffi::CString;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, User};

use super::confinement::Confinement;
use super::{docker, first, namespaces, supervise, view};

/// The name that the helper is started under.
pub const NAME: &str = "mesos-containerizer";
/// What the agent says on standard input when the container is ready.
pub const GO: u8 = b'1';

const WAIT: &str = "--wait";
const OWN_PROCESSES: &str = "--own-processes";
const FIRST: &str = "--first=";

/// How the helper is started. It is this very program.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Whether to wait for [`GO`] on standard input.
    pub waits: bool,
    /// The user to become.
    pub user: Option<&'a str>,
    /// The process whose namespaces to share.
    pub beside: Option<i32>,
    /// What it gives up: [`Confinement::to_arguments`].
    pub confinement: &'a [String],
    /// Whether the program is the first process of a process namespace of its own.
    pub own_processes: bool,
    /// Whether this process is that, and stays it, with the program as its child; where it notes how that ended.
    pub is_first: Option<&'a Path>,
    /// Whether standard input is a terminal that is to be the program's own.
    pub has_terminal: bool,
    /// Where to begin, as it is seen by the process whose namespaces are shared.
    pub directory: Option<&'a Path>,
}

/// A command that starts the helper, which becomes `program`, told that its name is `argv[0]`.
pub fn command(options: &Options<'_>, program: &str, argv: &[String]) -> Command {
    // The link survives an upgrade that replaces the file.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg("launch");
    if options.waits {
        command.arg(WAIT);
    }
    if let Some(user) = options.user {
        command.arg(format!("--user={user}"));
    }
    if let Some(pid) = options.beside {
        command.arg(format!("--beside={pid}"));
    }
    if options.has_terminal {
        command.arg("--terminal");
    }
    if options.own_processes {
        command.arg(OWN_PROCESSES);
    }
    if let Some(status) = options.is_first {
        command.arg(format!("{FIRST}{}", status.display()));
    }
    if let Some(directory) = options.directory {
        command.arg(format!("--directory={}", directory.display()));
    }
    command.args(options.confinement);
    command.arg("--").arg(program).args(argv);
    command
}

/// A command that makes a network namespace, which stays at a path.
pub(super) fn namespace(path: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg("make-network").arg(path);
    command
}

/// The helper once more, with what is left to do of `options`, where `program` begins with `--`.
pub(super) fn again(options: &[String], program: &[String], is_first: bool) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let is_done =
        |option: &str| matches!(option, WAIT | OWN_PROCESSES) || option.starts_with(FIRST);
    let others = options.iter().filter(|option| !is_done(option));
    command.arg0(NAME).arg("launch").args(others);
    if is_first {
        command.arg(FIRST);
    }
    command.args(program);
    command
}

/// A command that starts the helper, which stays beside `program`, told that its name is `argv[0]`.
pub fn supervisor(options: &supervise::Options, program: &str, argv: &[String]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg("supervise").args(options.to_arguments());
    command.arg("--").arg(program).args(argv);
    command
}

/// A command that starts the helper, which stays beside a container of Docker's.
pub(super) fn follower(socket: &Path, name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(docker::run::FOLLOW).args(docker::run::follower(socket, name));
    command
}

/// Becomes the program, or stays beside it.
///
/// # Errors
/// When it is not started by an agent, the user is unknown, or the program can't be run.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    if let [name, rest @ ..] = arguments
        && name == "supervise"
    {
        return supervise::run(rest);
    }
    if let [name, rest @ ..] = arguments
        && name == docker::run::FOLLOW
    {
        let code = docker::run::follow(rest)?;
        #[expect(clippy::exit, reason = "the container's status is this process's")]
        std::process::exit(i32::from(code));
    }
    if let [name, path] = arguments
        && name == "make-network"
    {
        return Ok(namespaces::make_network(Path::new(path))?);
    }
    ensure!(
        arguments.first().is_some_and(|name| name == "launch"),
        "only 'launch' and 'supervise' are supported: this program is started by a Mesos agent"
    );
    // The program begins with no signal blocked, whatever its parent waits for.
    SigSet::empty().thread_set_mask()?;
    let end = arguments
        .iter()
        .position(|argument| argument == "--")
        .context("'--' is missing before the program")?;
    let (options, program) = arguments[1..].split_at(end - 1);
    let [_, program, argv @ ..] = program else { bail!("the program is missing") };
    let user = options.iter().find_map(|option| option.strip_prefix("--user="));
    // Before anything else: what another root says of users is nobody's business.
    let user = user.map(Account::of_host).transpose()?;
    let mut confinement = Confinement::default();
    for option in options {
        confinement.take(option).map_err(anyhow::Error::msg)?;
    }
    let waits = options.iter().any(|option| option == WAIT);
    if waits {
        let mut told = [0];
        let count = std::io::stdin().read(&mut told)?;
        ensure!(count == 1 && told[0] == GO, "the agent is gone: not started");
    }
    if options.iter().any(|option| option == OWN_PROCESSES) {
        return supervise::stand_in(options, &arguments[end..]);
    }
    if let Some(status) = options.iter().find_map(|option| option.strip_prefix(FIRST)) {
        view::kernel::unshare_mounts()?;
        view::kernel::mount_proc()?;
        return first::run(options, &arguments[end..], Path::new(status));
    }
    let filters = confinement.filters().map_err(anyhow::Error::msg)?;
    if options.iter().any(|option| option == "--terminal") {
        nix::unistd::setsid()?;
        rustix::process::ioctl_tiocsctty(std::io::stdin()).context("no terminal")?;
    }
    if let Some(pid) = options.iter().find_map(|option| option.strip_prefix("--beside=")) {
        namespaces::share_the_rest(pid.parse()?)?;
    }
    if let Some(path) = options.iter().find_map(|option| option.strip_prefix("--directory=")) {
        nix::unistd::chdir(path).with_context(|| path.to_owned())?;
    }
    if let Some(network) = &confinement.network {
        namespaces::join_network(network).context("Failed to join the container's network")?;
    }
    if let Some(view) = &confinement.view {
        view.enter().context("Failed to prepare what the container sees")?;
    }
    let mut command = Command::new(program);
    if let [name, rest @ ..] = argv {
        command.arg0(OsString::from(name)).args(rest);
    }
    if waits {
        command.stdin(Stdio::null());
    }
    confinement.before_user(&filters)?;
    if let Some(user) = user {
        let Account { user, groups } = user;
        become_user(&user, &groups).with_context(|| format!("cannot become '{}'", user.name))?;
    }
    confinement.after_user(&filters)?;
    Err(anyhow::Error::new(command.exec()).context(format!("Failed to execute '{program}'")))
}

/// A user of this host, with all groups.
struct Account {
    user: User,
    groups: Vec<Gid>,
}

impl Account {
    fn of_host(name: &str) -> anyhow::Result<Self> {
        let user =
            User::from_name(name)?.with_context(|| format!("no user '{name}' on this host"))?;
        let groups = nix::unistd::getgrouplist(&CString::new(name)?, user.gid)?;
        Ok(Self { user, groups })
    }
}

fn become_user(user: &User, groups: &[Gid]) -> anyhow::Result<()> {
    nix::unistd::setgroups(groups)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)?;
    Ok(())
}
