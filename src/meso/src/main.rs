//! `meso`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meso::cli::main()
}
