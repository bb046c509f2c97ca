//! `mesos`.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use mesos_cli::cli::{Cli, Command};
use mesos_cli::commands;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "mesos", &mut stdout());
            return ExitCode::SUCCESS;
        }
        Command::Man => {
            let page = clap_mangen::Man::new(Cli::command()).render(&mut stdout());
            return if page.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    let done = runtime.block_on(commands::run(cli));
    // A read of the terminal can't be called off; it must not keep the program.
    runtime.shutdown_background();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error),
    }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    use owo_colors::OwoColorize as _;
    let coloured = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let head = if coloured { "error:".red().bold().to_string() } else { "error:".to_owned() };
    // Nothing can be done where this can't be written.
    let _ = writeln!(stderr(), "{head} {error:#}");
    ExitCode::FAILURE
}
