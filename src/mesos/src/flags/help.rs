//! What a table says of itself: `--help` and the manual page.

use std::fmt::Write as _;

use super::{Flag, Kind, Table};

/// Width of the explanations, in characters.
const WIDTH: usize = 75;
/// Column in which explanations begin.
const COLUMN: usize = 45;

fn synopsis(flag: &Flag) -> String {
    let one = |name: &str| match flag.kind {
        Kind::Boolean => format!("--[no-]{name}"),
        _ => format!("--{name}=VALUE"),
    };
    if flag.alias.is_empty() {
        return one(flag.name);
    }
    format!("{}, {}", one(flag.name), one(flag.alias))
}

fn explanation(flag: &Flag) -> String {
    match flag.default {
        Some(default) => format!("{} (default: {default})", flag.help),
        None => flag.help.to_owned(),
    }
}

impl Table {
    fn sorted(&self) -> Vec<&Flag> {
        let mut flags: Vec<&Flag> = self.flags.iter().collect();
        flags.sort_by_key(|flag| flag.name);
        flags
    }

    /// The text of `--help`.
    pub fn help(&self) -> String {
        let mut text = format!("Usage: {} [options]\n\n", self.program);
        for flag in self.sorted() {
            let head = format!("  {}", synopsis(flag));
            text.push_str(&head);
            // A long head stands on a line of its own.
            let mut column = head.len();
            if column >= COLUMN {
                text.push('\n');
                column = 0;
            }
            let _ = write!(text, "{:width$}", "", width = COLUMN - column);
            let mut used = 0;
            for word in explanation(flag).split_whitespace() {
                if used > 0 && used + 1 + word.len() > WIDTH {
                    let _ = write!(text, "\n{:COLUMN$}", "");
                    used = 0;
                }
                if used > 0 {
                    text.push(' ');
                    used += 1;
                }
                text.push_str(word);
                used += word.len();
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "\nA flag can be given as an environment variable too: {}NAME=VALUE.\n\
             A value of file:///path stands for what is in that file.",
            self.prefix
        );
        text
    }

    /// A manual page in roff.
    pub fn man_page(&self, summary: &str) -> String {
        let escape = |text: &str| {
            let text = text.replace('\\', "\\e").replace('-', "\\-");
            // A line that begins with a point or an apostrophe would be a request.
            if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
        };
        let name = escape(self.program);
        let mut page = format!(
            ".TH {} 8\n.SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n.B {name}\n[\\-\\-flag=value ...]\n.SH OPTIONS\n",
            self.program.to_uppercase(),
            escape(summary)
        );
        for flag in self.sorted() {
            let text = explanation(flag).split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(page, ".TP\n.B {}\n{}", escape(&synopsis(flag)), escape(&text));
        }
        let _ = writeln!(
            page,
            ".SH ENVIRONMENT\nEach flag can be given as\n.B {}NAME\ntoo; arguments win.",
            escape(self.prefix)
        );
        page
    }
}
