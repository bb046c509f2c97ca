//! The command line: what there is, where it goes, and how its end is told.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use serde_json::json;

use crate::inventory::{self, Host, Request, Target};
use crate::problem::{Kind, Problem, Problems};
use crate::progress::Progress;
use crate::show::Style;
use crate::ssh;
use crate::{bootstrap, documents, gather, status, up};

const EXAMPLES: &str = "\
Examples:
  meso bootstrap --hosts h1,h2,h3              h1: ZooKeeper, master, Marathon; h2 and h3: agents
  meso bootstrap --hosts h1,h2 --dry-run       what would be done
  meso status --hosts h1,h2,h3                 how it is
  meso up                                      a cluster on this machine

Exit codes:
  0  done, or nothing to do
  1  something failed on a host, or is not well
  2  the command line or the inventory is wrong
  4  a host can't be reached or logged in to
  5  a host or the packages are not fit; nothing was changed";

/// Turns a list of hosts into a Mesos cluster.
#[derive(Debug, Parser)]
#[command(name = "meso", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes hosts a cluster: installs packages, writes files, starts units; run again, it changes only what differs.
    Bootstrap(bootstrap::Options),
    /// Shows hosts, units, their health and who leads.
    Status(status::Options),
    /// Runs a whole cluster on this machine, unprivileged, until Ctrl-C.
    Up(up::Options),
    /// Prints a shell's completions.
    #[command(visible_alias = "completion")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the man page, or writes it and those of all commands into a directory.
    Man {
        /// The directory.
        directory: Option<PathBuf>,
    },
}

impl Command {
    fn wants_json(&self) -> bool {
        match self {
            Self::Bootstrap(options) => options.json,
            Self::Status(options) => options.json,
            _ => false,
        }
    }
}

const FILE_HELP: &str = "\
TOML file of hosts: `user`, `port`, `key`, `known_hosts` and `packages` for all, and a `[[hosts]]` table for each with `name`, and \
where needed `user`, `port`, `address` (that other hosts reach it at) and `roles` (\"master\", \"agent\").";

/// Which hosts, and how to log in to them.
#[derive(Debug, Args)]
pub struct HostOptions {
    /// Hosts, as `[user@]host[:port]`, separated by commas.
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', env = "MESO_HOSTS")]
    hosts: Vec<Target>,
    /// Those that are masters [default: the first; of five hosts or more the first three].
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    masters: Vec<Target>,
    /// Those that are agents [default: all but the masters; a single host is both].
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    agents: Vec<Target>,
    #[arg(long, value_name = "FILE", conflicts_with = "hosts", help = FILE_HELP)]
    inventory: Option<PathBuf>,
    /// User to log in as; other users than root need sudo without a password [default: root].
    #[arg(long)]
    user: Option<String>,
    /// Port of sshd [default: 22].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Private key; else the SSH agent and the usual files in ~/.ssh are tried.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Known host keys [default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts].
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// File whose first line is the password to log in with; on a terminal it is asked for where it is needed.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Seconds that reaching a host, and each of its answers, may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,
}

impl HostOptions {
    /// The hosts with their roles, and how to log in.
    ///
    /// # Errors
    /// When the options or the files that they name can't be used.
    pub fn resolve(self) -> Result<Chosen, Problem> {
        let file = self.inventory.as_deref().map(inventory::read_file).transpose()?;
        let file = file.unwrap_or_default();
        let key = self.key.or_else(|| file.key.clone());
        if let Some(key) = &key
            && let Err(error) = std::fs::File::open(key)
        {
            let why = format!("{}: {error}", key.display());
            let next = "give an existing private key to --key";
            return Err(Problem::usage("the private key can't be read", why, next));
        }
        let known_hosts = self.known_hosts.or_else(|| file.known_hosts.clone());
        let login = ssh::Login {
            key,
            password: self.password_file.as_deref().map(read_password).transpose()?,
            known_hosts: gather::known_hosts(known_hosts)?,
            timeout: Duration::from_secs(self.timeout.into()),
        };
        let packages = file.packages.clone();
        let (hosts, masters, agents) = (self.hosts, self.masters, self.agents);
        let request = Request { hosts, masters, agents, user: self.user, port: self.port, file };
        Ok(Chosen { hosts: inventory::resolve(&request)?, login, packages })
    }
}

/// What the options say.
#[derive(Debug)]
pub struct Chosen {
    /// The hosts with their roles.
    pub hosts: Vec<Host>,
    /// How to log in.
    pub login: ssh::Login,
    /// Directory of packages that the inventory names.
    pub packages: Option<PathBuf>,
}

impl Chosen {
    /// Connects to all hosts and looks at them; what each came to, in order. Where some refuse to log in without a
    /// password, and there is a terminal, it is asked for, once for all.
    pub async fn look(&self) -> Vec<Result<gather::Known, Problem>> {
        let progress = || Progress::new(self.hosts.iter().map(|host| host.name.as_str()));
        let results = gather::gather(&self.hosts, &self.login, &progress()).await;
        let problems = results.iter().filter_map(|result| result.as_ref().err());
        let refused = problems.filter(|problem| problem.kind == Kind::Refused);
        let names: Vec<&str> = refused.filter_map(|problem| problem.host.as_deref()).collect();
        let can_ask = self.login.password.is_none() && std::io::stdin().is_terminal();
        if names.is_empty() || !can_ask {
            return results;
        }
        let Ok(password) = ask(&format!("password for {}: ", names.join(", "))) else {
            return results;
        };
        let login = ssh::Login { password: Some(password), ..self.login.clone() };
        gather::gather(&self.hosts, &login, &progress()).await
    }
}

fn read_password(path: &Path) -> Result<Arc<str>, Problem> {
    let why = |why: String| {
        Problem::usage(
            "the password file can't be used",
            format!("{}: {why}", path.display()),
            "give a readable file whose first line is the password",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| why(error.to_string()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.into()),
        _ => Err(why("its first line is empty".to_owned())),
    }
}

/// Reads a line from the terminal that isn't shown.
fn ask(prompt: &str) -> std::io::Result<Arc<str>> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(std::io::Error::other("standard input is no terminal"));
    }
    write!(std::io::stderr(), "{prompt}")?;
    let before = tcgetattr(&input)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSAFLUSH, &hidden)?;
    let mut line = String::new();
    let read = input.read_line(&mut line);
    tcsetattr(&input, SetArg::TCSAFLUSH, &before)?;
    writeln!(std::io::stderr())?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).into())
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // `meso up` starts executors, which are this program under another name.
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(ended) = agent::executor::multicall(&arguments) {
        return ended;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(error.into()), false),
    };
    let json = cli.command.wants_json();
    let result = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended(result, json)
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bootstrap(options) => bootstrap::run(options).await?,
        Command::Status(options) => {
            if !status::run(options).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Up(options) => up::run(options).await?,
        Command::Completions { shell } => documents::completions(&mut Cli::command(), shell)?,
        Command::Man { directory: Some(directory) } => {
            documents::write_man_pages(&built(), &directory)?
        }
        Command::Man { directory: None } => documents::print_man_page(&built())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The command line's definition, where each command knows its whole name.
fn built() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Tells how it ended.
fn ended(result: anyhow::Result<ExitCode>, json: bool) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    // A reader that has seen enough is no failure.
    if error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    let problems = match error.downcast::<Problems>() {
        Ok(problems) => Some(problems),
        Err(error) => match error.downcast::<Problem>() {
            Ok(problem) => Some(problem.into()),
            Err(error) => {
                let _ =
                    writeln!(std::io::stderr(), "{} {error:#}", Style::of_stderr().bad("error:"));
                None
            }
        },
    };
    let Some(problems) = problems else { return ExitCode::FAILURE };
    for problem in &problems.0 {
        let _ = writeln!(std::io::stderr(), "{} {problem}", Style::of_stderr().bad("error:"));
    }
    if json {
        let _ = writeln!(std::io::stdout(), "{:#}", json!({"version": 1, "problems": problems.0}));
    }
    problems.exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_recorded() {
        let mut command = Cli::command();
        command.build();
        let bootstrap = command.find_subcommand_mut("bootstrap").unwrap().clone().term_width(110);
        insta::assert_snapshot!(bootstrap.clone().render_long_help().to_string());
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "meso bootstrap --hosts h1,,h2",
            "meso bootstrap --hosts h1:x",
            "meso bootstrap --hosts h1 --port 0",
            "meso bootstrap --hosts h1 --inventory f",
            "meso bootstrap --hosts h1 --timeout 0",
            "meso bootstrap h1",
            "meso frobnicate",
            "meso",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
