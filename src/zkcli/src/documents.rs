//! The man page and the shells' completions, made from the options and the table of commands.

use clap::{Arg, ArgAction, Args as _, Command, CommandFactory as _, ValueHint};

use crate::options::Options;
use crate::table::COMMANDS;

/// A shell's completions, commands and their options included.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut program = Options::augment_args(Command::new("zkcli"))
        .mut_arg("command", |argument| argument.hide(true).value_hint(ValueHint::Other));
    for command in COMMANDS {
        let mut sub = Command::new(command.name).about(command.about).disable_help_flag(true);
        for option in command.options.iter().filter(|option| option.name.len() == 1) {
            let Some(letter) = option.name.chars().next().filter(char::is_ascii_alphabetic) else {
                continue;
            };
            let action = if option.takes_value { ArgAction::Set } else { ArgAction::SetTrue };
            sub = sub.arg(Arg::new(option.name).short(letter).action(action).help(option.about));
        }
        program = program.subcommand(sub);
    }
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut program, "zkcli", &mut text);
    text
}

/// The page `zkcli(1)`.
///
/// # Errors
/// Never, as memory takes all that is written.
pub fn man_page() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Options::command()).render(&mut text)?;
    text.extend_from_slice(b".SH COMMANDS\n");
    let escaped = |line: &str| line.replace('\\', "\\\\").replace('-', "\\-");
    for command in COMMANDS {
        let (usage, about) = (escaped(&command.usage()), escaped(command.about));
        text.extend_from_slice(format!(".TP\n{usage}\n{about}.\n").as_bytes());
        for option in command.options {
            let (name, about) = (escaped(option.name), escaped(option.about));
            text.extend_from_slice(format!(".br\n\\-{name}: {about}\n").as_bytes());
        }
    }
    text.extend_from_slice(
        b".SH ENVIRONMENT\n.TP\nZKCLI_HISTORY\nThe file of the interactive history; $HOME/.zkcli_history if not set. Lines with secrets (addauth) are not kept.\n.TP\nNO_COLOR\nIf set, no colours.\n",
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_the_completions_know_every_command() {
        let page = String::from_utf8(man_page().unwrap()).unwrap();
        assert!(page.starts_with(".ie") && page.contains("waitforconnection"), "{page}");
        for shell in
            [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
        {
            let text = String::from_utf8(completions(shell)).unwrap();
            for command in COMMANDS {
                assert!(page.contains(&format!("\n.TP\n{}", command.name)), "{}", command.name);
                assert!(text.contains(command.name), "{shell}: {}", command.name);
            }
        }
    }
}
