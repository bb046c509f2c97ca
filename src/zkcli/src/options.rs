//! The program's own options. The original writes them with one dash (`-server`); both ways are taken.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser};

/// What follows `--help`.
const AFTER: &str = "With a command it is executed, and the program ends with its exit code: 0, 1 for a failure, 127 for a command that \
doesn't exist. Without one, commands are read from the terminal, or from standard input until its end. The original's way of \
writing options with one dash (-server, -timeout, -waitforconnection, -client-configuration) is taken as well.";

/// An interactive ZooKeeper client with the commands of Apache's zkCli.sh.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "zkcli", version, after_long_help = AFTER)]
pub struct Options {
    /// The servers, and the path that stands for the root.
    #[arg(long, value_name = "HOST:PORT[,…][/CHROOT]", default_value = "localhost:2181")]
    pub server: String,
    /// The session timeout that is asked for, in ms.
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub timeout: u32,
    /// Take a server that has lost its quorum and only reads.
    #[arg(short = 'r', long)]
    pub readonly: bool,
    /// Wait for a connection before anything else, for as long as the session timeout.
    #[arg(long)]
    pub waitforconnection: bool,
    /// The original's properties of clients: zookeeper.client.secure and zookeeper.ssl.* for TLS, and for SASL
    /// java.security.auth.login.config, whose section Client has the user. CLIENT_JVMFLAGS may have them too, as -D flags.
    #[arg(long, value_name = "FILE")]
    pub client_configuration: Option<PathBuf>,
    /// Print a JSON object a line: a command's result or error, or an event.
    #[arg(long)]
    pub json: bool,
    /// Print a shell's completions.
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<clap_complete::Shell>,
    /// Print the man page.
    #[arg(long, exclusive = true)]
    pub man: bool,
    /// A command and its words.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Options that take a value.
const WITH_VALUE: [&str; 4] = ["server", "timeout", "client-configuration", "completions"];

/// The arguments with two dashes where the original has one.
fn normalised(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<String> = Options::command()
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect();
    let mut found = vec!["zkcli".to_owned()];
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next_if(|argument| argument.starts_with('-')) {
        let name = argument.trim_start_matches('-').to_owned();
        if known.contains(&name) {
            found.push(format!("--{name}"));
        } else {
            found.push(argument);
        }
        if WITH_VALUE.contains(&name.as_str()) {
            found.extend(arguments.next());
        }
    }
    found.extend(arguments);
    found
}

/// Reads the program's arguments, without its name.
///
/// # Errors
/// What to print, also for `--help` and `--version`.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, clap::Error> {
    let options = Options::try_parse_from(normalised(arguments))?;
    match options.command.first().filter(|word| word.starts_with('-')) {
        None => Ok(options),
        Some(word) => Err(Options::command()
            .error(clap::error::ErrorKind::UnknownArgument, format!("there is no option {word}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn one_dash_and_two_are_the_same_and_a_commands_own_options_stay() {
        let options =
            parsed("-server a:1,b:2/c -timeout 5 -r -waitforconnection get -s /x").unwrap();
        assert_eq!(
            options,
            parsed("--server a:1,b:2/c --timeout 5 -r --waitforconnection get -s /x").unwrap()
        );
        assert_eq!((options.server.as_str(), options.timeout), ("a:1,b:2/c", 5));
        assert_eq!(options.command, ["get", "-s", "/x"]);
        assert_eq!(parsed("ls -server").unwrap().command, ["ls", "-server"]);
        assert_eq!(parsed("").unwrap().server, "localhost:2181");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in ["-server", "-timeout soon ls /", "-timeout 0", "-nosuch ls /"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
