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

/// One command's page. The command must be built, so that it knows its whole name.
fn page(command: Command) -> Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(String::from_utf8(text)?)
}

/// The page `meso(1)`, with a section for each command: the one page that is installed.
fn whole_page(command: &Command) -> Result<String> {
    let mut text = page(command.clone())?;
    for sub in command.get_subcommands() {
        let sub_page = page(sub.clone())?;
        if let Some((_, rest)) = sub_page.split_once(".SH SYNOPSIS") {
            let name = sub.get_name().to_uppercase();
            let rest = rest.replace("\n.SH ", "\n.SS ");
            text.push_str(&[".SH MESO ", &name, "\n.SS SYNOPSIS", &rest].concat());
        }
    }
    Ok(text)
}

/// Prints the page `meso(1)`.
///
/// # Errors
/// When standard output can't be written.
pub fn print_man_page(command: &Command) -> Result<()> {
    Ok(std::io::stdout().lock().write_all(whole_page(command)?.as_bytes())?)
}

/// Writes `meso.1` and a page for each command.
///
/// # Errors
/// When the directory can't be made or written.
pub fn write_man_pages(command: &Command, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let mut pages = vec![("meso".to_owned(), whole_page(command)?)];
    for sub in command.get_subcommands() {
        pages.push((format!("meso-{}", sub.get_name()), page(sub.clone())?));
    }
    for (name, text) in pages {
        let path = directory.join(format!("{name}.1"));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_page_tells_of_every_command_and_is_the_same_twice() {
        let mut command = crate::cli::Cli::command();
        command.build();
        let text = whole_page(&command).unwrap();
        for name in ["BOOTSTRAP", "STATUS", "COMPLETIONS", "MAN"] {
            assert!(text.contains(&format!("\n.SH MESO {name}\n.SS SYNOPSIS\n")), "{name}: {text}");
        }
        assert!(text.contains("known\\-hosts") && text.starts_with(".ie"));
        assert_eq!(text, whole_page(&command).unwrap());
    }

    #[test]
    fn pages_are_written_for_all_commands() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = crate::cli::Cli::command();
        command.build();
        write_man_pages(&command, &directory.path().join("man1")).unwrap();
        let text = std::fs::read_to_string(directory.path().join("man1/meso-bootstrap.1")).unwrap();
        assert!(text.contains(".TH meso-bootstrap 1"));
    }
}
