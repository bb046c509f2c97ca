//! Man pages and shell completions, made from the command line's own definition.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Command;

/// Prints a shell's completions.
///
/// # Errors
/// When standard output can't be written.
pub fn completions(command: &mut Command, shell: clap_complete::Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "meso", &mut text);
    Ok(std::io::stdout().lock().write_all(&text)?)
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    // Fixed, so that the same source gives the same bytes.
    clap_mangen::Man::new(command).date("").render(&mut text)?;
    Ok(text)
}

/// Prints the page `meso(1)`.
///
/// # Errors
/// When standard output can't be written.
pub fn print_man_page(command: &Command) -> Result<()> {
    Ok(std::io::stdout().lock().write_all(&page(command.clone())?)?)
}

/// Writes `meso.1` and a page for each command.
///
/// # Errors
/// When the directory can't be made or written.
pub fn write_man_pages(command: &Command, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let commands =
        command.get_subcommands().map(|sub| (format!("meso-{}", sub.get_name()), sub.clone()));
    for (name, command) in std::iter::once(("meso".to_owned(), command.clone())).chain(commands) {
        let path = directory.join(format!("{name}.1"));
        let named: &'static str = Box::leak(name.into_boxed_str());
        std::fs::write(&path, page(command.name(named))?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
