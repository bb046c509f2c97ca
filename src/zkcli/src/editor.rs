//! The terminal: lines that are edited, completed and kept (`rustyline`), on a thread of its own.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter as _, Helper};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::output::Output;
use crate::session::Shared;
use crate::table::COMMANDS;

/// How many lines the file of the history holds.
const LINES_MAX: usize = 1000;
/// How long a completion waits for the server.
const COMPLETION_LIMIT: Duration = Duration::from_secs(1);

/// Completes commands, and paths by asking the server.
struct Completion {
    runtime: Handle,
    session: Shared,
}

/// The word that is being typed, and where it begins.
fn last_word(line: &str) -> (usize, &str) {
    let start = line.rfind(char::is_whitespace).map_or(0, |space| space + 1);
    (start, &line[start..])
}

/// The directory of a path that is being typed, and the beginning of the name in it.
fn directory_of(path: &str) -> (&str, &str) {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    (if directory.is_empty() { "/" } else { directory }, name)
}

impl Completion {
    fn children(&self, directory: &str) -> Vec<String> {
        let client = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(client) = client else { return Vec::new() };
        let (sender, receiver) = std::sync::mpsc::channel();
        let directory = directory.to_owned();
        self.runtime.spawn(async move {
            // The editor may have stopped waiting.
            let _ = sender.send(client.list_children(&directory).await.unwrap_or_default());
        });
        receiver.recv_timeout(COMPLETION_LIMIT).unwrap_or_default()
    }

    fn candidates(&self, word: &str, is_first: bool) -> Vec<String> {
        let mut found: Vec<String> = if word.starts_with('/') {
            let (directory, name) = directory_of(word);
            let names = self.children(directory).into_iter();
            names
                .filter(|child| child.starts_with(name))
                .map(|child| crate::path::join(directory, &child))
                .collect()
        } else if is_first {
            let names = COMMANDS.iter().map(|command| command.name.to_owned());
            names.filter(|command| command.starts_with(word)).collect()
        } else {
            Vec::new()
        };
        found.sort();
        found
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, word) = last_word(&line[..at]);
        let candidates = self.candidates(word, line[..start].trim().is_empty());
        // A path may go on.
        let end = if word.starts_with('/') { "" } else { " " };
        let pair = |text: String| Pair { replacement: format!("{text}{end}"), display: text };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

/// The file of the history: `ZKCLI_HISTORY`, else in the home directory.
fn history_file() -> Option<PathBuf> {
    std::env::var_os("ZKCLI_HISTORY")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".zkcli_history")))
}

/// Whether a line may be kept: not one with a secret.
fn may_be_kept(line: &str) -> bool {
    crate::words::split(line).first().is_none_or(|name| name != "addauth")
}

/// Lines from the terminal.
pub struct Terminal {
    prompts: Sender<String>,
    lines: Receiver<String>,
}

impl Terminal {
    /// Begins to read the terminal; events are printed above the line from now on. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the terminal can't be used.
    pub fn open(session: Shared, output: &Output) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(LINES_MAX)?
            .history_ignore_space(true)
            .auto_add_history(false)
            .build();
        let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config)?;
        editor.set_helper(Some(Completion { runtime: Handle::current(), session }));
        let mut printer = editor.create_external_printer()?;
        output.set_above(Box::new(move |text| {
            // An error means that the terminal is gone.
            let _ = printer.print(text);
        }));
        let file = history_file();
        if let Some(file) = &file {
            // Made beforehand, so that others can't read it. Errors show when it is used.
            let _ = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
            // There may be none yet.
            let _ = editor.load_history(file);
        }
        let (prompts, mut asked) = channel::<String>(1);
        let (typed, lines) = channel::<String>(1);
        thread::spawn(move || {
            while let Some(prompt) = asked.blocking_recv() {
                let line = loop {
                    match editor.readline(&prompt) {
                        Ok(line) => break Some(line),
                        // Ctrl-C empties the line.
                        Err(ReadlineError::Interrupted) => {}
                        Err(_) => break None,
                    }
                };
                let Some(line) = line else { break };
                if may_be_kept(&line)
                    && editor.add_history_entry(&line).unwrap_or(false)
                    && let Some(file) = &file
                {
                    // What can't be kept is still executed.
                    let _ = editor.append_history(file);
                }
                if typed.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { prompts, lines })
    }

    /// The next line; `None` at the end of input (Ctrl-D).
    pub async fn line(&mut self, prompt: String) -> Option<String> {
        self.prompts.send(prompt).await.ok()?;
        self.lines.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_are_completed_and_secrets_not_kept() {
        let completion = Completion { runtime: Handle::current(), session: Shared::default() };
        assert_eq!(completion.candidates("set", true), ["set", "setAcl", "setquota"]);
        assert_eq!(completion.candidates("set", false), [""; 0]);
        assert_eq!(completion.candidates("/a", false), [""; 0]);
        assert_eq!(last_word("get -s /a/b"), (7, "/a/b"));
        assert_eq!(last_word("ge"), (0, "ge"));
        assert_eq!((directory_of("/a"), directory_of("/a/b/c")), (("/", "a"), ("/a/b", "c")));
        assert!(may_be_kept("get /a") && !may_be_kept("  addauth digest a:b"));
    }
}
