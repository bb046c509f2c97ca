//! What is printed: text as the original prints it, or a JSON object a line (`--json`).

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use crate::failure::Failure;

/// What is printed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The original's text.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Prints text above the line that is being edited.
pub type Above = Box<dyn FnMut(String) + Send>;

struct Inner {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    above: Option<Above>,
    print_watches: bool,
}

/// Where everything is printed; clones print to the same place.
#[derive(Clone)]
pub struct Output {
    format: Format,
    colour: bool,
    inner: Arc<Mutex<Inner>>,
}

impl Output {
    /// Prints to `out`, and complaints to `err`, in colour if told so.
    pub fn new(
        format: Format,
        colour: bool,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        let inner = Inner { out, err, above: None, print_watches: true };
        Self { format, colour, inner: Arc::new(Mutex::new(inner)) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether JSON is printed.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether colours are.
    pub fn is_coloured(&self) -> bool {
        self.colour
    }

    /// From now on events go through the editor.
    pub fn set_above(&self, above: Above) {
        self.with(|inner| inner.above = Some(above));
    }

    /// Whether events are printed.
    pub fn print_watches(&self) -> bool {
        self.with(|inner| inner.print_watches)
    }

    /// See [`Self::print_watches`].
    pub fn set_print_watches(&self, on: bool) {
        self.with(|inner| inner.print_watches = on);
    }

    /// A line of plain text; nothing under `--json`.
    pub fn say(&self, line: &str) {
        if !self.is_json() {
            self.print(line, "\n");
        }
    }

    /// Text without an end of line; nothing under `--json`.
    pub fn say_part(&self, text: &str) {
        if !self.is_json() {
            self.print(text, "");
        }
    }

    /// What nobody reads any more is not printed: a closed pipe is no error.
    fn print(&self, text: &str, end: &str) {
        self.with(|inner| {
            let _ = write!(inner.out, "{text}{end}").and_then(|()| inner.out.flush());
        });
    }

    /// A line on standard error.
    pub fn complain(&self, line: &str) {
        self.with(|inner| {
            let _ = if self.colour {
                writeln!(inner.err, "{}", line.red())
            } else {
                writeln!(inner.err, "{line}")
            };
        });
    }

    /// A remark on standard error that is no failure; nothing under `--json`.
    pub fn remark(&self, line: &str) {
        if !self.is_json() {
            self.with(|inner| {
                let _ = writeln!(inner.err, "{line}");
            });
        }
    }

    /// What came of a command.
    pub fn outcome(&self, command: &str, outcome: &Result<Value, Failure>) {
        let object = match outcome {
            Ok(value) => json!({ "command": command, "result": value }),
            Err(failure) if self.is_json() => {
                json!({ "command": command, "error": failure.to_json() })
            }
            Err(failure) => {
                self.complain(&failure.message());
                return;
            }
        };
        if self.is_json() {
            self.print(&object.to_string(), "\n");
        }
    }

    /// An event, as it arrives (`WatchedEvent.toString`).
    pub fn event(&self, state: &str, kind: &str, path: Option<&str>) {
        if !self.print_watches() {
            return;
        }
        let text = if self.is_json() {
            json!({ "event": { "state": state, "type": kind, "path": path } }).to_string()
        } else {
            let path = path.unwrap_or("null");
            let event = format!("WatchedEvent state:{state} type:{kind} path:{path}");
            let event = if self.colour { event.cyan().to_string() } else { event };
            format!("\nWATCHER::\n\n{event}")
        };
        let printed = self
            .with(|inner| inner.above.as_mut().map(|above| above(format!("{text}\n"))).is_some());
        if !printed {
            self.print(&text, "\n");
        }
    }
}
