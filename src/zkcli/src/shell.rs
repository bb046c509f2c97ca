//! Line by line: history, the commands that need no server, exit codes (`ZooKeeperMain.executeLine`).

use serde_json::{Value, json};

use crate::commands::{self, Outcome};
use crate::failure::Failure;
use crate::session::Session;
use crate::{table, words};

/// How many lines of the history can be done again.
const HISTORY_MAX: usize = 10_000;

/// What to do after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Read the next one.
    Continue,
    /// End.
    Quit,
}

/// Executes lines.
pub struct Shell {
    /// What they are executed in.
    pub session: Session,
    history: Vec<String>,
    exit_code: u8,
}

impl Shell {
    /// Nothing executed yet.
    pub fn new(session: Session) -> Self {
        Self { session, history: Vec::new(), exit_code: 0 }
    }

    /// The last command's: 0, 1 for a failure, 127 for a command that doesn't exist.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// What is printed in front of a line that is typed.
    pub fn prompt(&self) -> String {
        format!("[zk: {}({}) {}] ", self.session.host, self.session.state(), self.history.len())
    }

    /// Executes a line of a script or of the terminal.
    pub async fn line(&mut self, line: &str) -> Flow {
        let words = words::split(line);
        if words.is_empty() {
            return Flow::Continue;
        }
        if self.history.len() < HISTORY_MAX {
            self.history.push(line.to_owned());
        }
        self.words(&words).await
    }

    /// Executes a command. Its outcome is printed, and is the program's exit code if no other follows.
    pub async fn words(&mut self, words: &[String]) -> Flow {
        let mut words = words.to_vec();
        let mut outcome = self.redone(&mut words);
        let (name, rest) =
            words.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
        let quits = outcome.is_ok() && name == "quit";
        if outcome.is_ok() {
            outcome = self.execute(name, rest).await;
        }
        // The original's exit code at `quit` is the last command's.
        if !quits {
            self.exit_code = outcome.as_ref().err().map_or(0, Failure::exit_code);
        }
        if matches!(outcome, Err(Failure::NotFound(_))) {
            self.session.output.remark(&table::usage());
        }
        self.session.output.outcome(name, &outcome);
        // What the server told before it answered is printed before the next command is executed.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        if quits { Flow::Quit } else { Flow::Continue }
    }

    /// Puts the words of a command of the history in place of `redo`.
    fn redone(&mut self, words: &mut Vec<String>) -> Outcome {
        if words.len() < 2 || words[0] != "redo" {
            return Ok(Value::Null);
        }
        let malformed = |text: &str| Err(Failure::Malformed(text.to_owned()));
        let own = self.history.len().saturating_sub(1);
        let Some(line) = words[1]
            .parse::<usize>()
            .ok()
            .filter(|index| *index < own)
            .and_then(|index| self.history.get(index).cloned())
        else {
            return malformed("Command index out of range");
        };
        *words = words::split(&line);
        if words.first().is_some_and(|name| name == "redo") {
            return malformed("No redoing redos");
        }
        if let Some(last) = self.history.last_mut() {
            *last = line;
        }
        Ok(Value::Null)
    }

    async fn execute(&mut self, name: &str, rest: &[String]) -> Outcome {
        let command = table::find(name)?;
        match name {
            "quit" => {
                self.session.close().await;
                Ok(Value::Null)
            }
            "redo" => Ok(Value::Null),
            "history" => Ok(self.print_history()),
            "printwatches" => {
                let output = &self.session.output;
                match rest.first() {
                    None => {
                        let state = if output.print_watches() { "on" } else { "off" };
                        output.say(&format!("printwatches is {state}"));
                    }
                    Some(word) => output.set_print_watches(word == "on"),
                }
                Ok(json!({ "printwatches": output.print_watches() }))
            }
            "connect" => {
                let host = rest.first().cloned().unwrap_or_else(|| self.session.host.clone());
                self.session.connect(&host).await?;
                Ok(json!({ "server": host }))
            }
            "version" => {
                command.parse(rest)?;
                if !rest.is_empty() {
                    return Err(Failure::Malformed(command.usage()));
                }
                let version = concat!("3.8.4-meso-", env!("CARGO_PKG_VERSION"));
                self.session.output.say(&format!("ZooKeeper CLI version: {version}"));
                Ok(json!({ "version": version }))
            }
            _ => commands::execute(&mut self.session, command, rest).await,
        }
    }

    fn print_history(&self) -> Value {
        let from = self.history.len().saturating_sub(11);
        let mut lines = serde_json::Map::new();
        for (index, line) in self.history.iter().enumerate().skip(from) {
            self.session.output.say(&format!("{index} - {line}"));
            lines.insert(index.to_string(), Value::from(line.as_str()));
        }
        Value::Object(lines)
    }
}
