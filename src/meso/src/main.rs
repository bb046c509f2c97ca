//! `meso`, and under other names the executors of the agent that `meso up` runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(ended) = agent::multicall(&arguments) {
        return ended;
    }
    meso::cli::main()
}
