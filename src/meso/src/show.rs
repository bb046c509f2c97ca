//! What is printed for people: plans, tables, colours where they are wanted.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use owo_colors::OwoColorize as _;

use crate::inventory::Roles;
use crate::plan::{HostPlan, Plan, Why};

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colours: bool,
}

impl Style {
    /// No colours.
    #[must_use]
    pub fn plain() -> Self {
        Self { colours: false }
    }

    fn on(is_terminal: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colours: is_terminal && !no_color && !dumb }
    }

    /// Colours where standard output is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn of_stdout() -> Self {
        Self::on(std::io::stdout().is_terminal())
    }

    /// The same for standard error.
    #[must_use]
    pub fn of_stderr() -> Self {
        Self::on(std::io::stderr().is_terminal())
    }

    /// Something that is wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        if self.colours { text.red().to_string() } else { text.to_owned() }
    }

    /// Something that is well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        if self.colours { text.green().to_string() } else { text.to_owned() }
    }

    /// Something that matters.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        if self.colours { text.bold().to_string() } else { text.to_owned() }
    }
}

/// Lines of a table with aligned columns, without trailing blanks.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// What a host becomes, in words.
#[must_use]
pub fn roles(roles: Roles) -> &'static str {
    match (roles.master, roles.agent) {
        (true, true) => "zookeeper, master, marathon, agent",
        (true, false) => "zookeeper, master, marathon",
        (false, _) => "agent",
    }
}

/// A plan for people.
#[must_use]
pub fn plan(plan: &Plan, style: Style) -> String {
    plan.hosts.iter().map(|host| host_plan(host, style)).collect()
}

// Writing to a String can't fail.
fn host_plan(host: &HostPlan, style: Style) -> String {
    let mut text = String::new();
    let name = if host.host == host.address.to_string() {
        host.host.clone()
    } else {
        format!("{} ({})", host.host, host.address)
    };
    let _ = writeln!(text, "{}: {}", style.strong(&name), roles(host.roles));
    for note in &host.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    if host.is_empty() {
        let _ = writeln!(text, "  nothing to change");
    }
    for install in &host.packages {
        let package = &install.package;
        let _ = match &install.installed {
            None => writeln!(text, "  install {} {}", package.name, package.version),
            Some(installed) => {
                writeln!(text, "  install {} {} over {installed}", package.name, package.version)
            }
        };
    }
    for write in &host.files {
        let why = match write.why {
            Why::Missing => "new",
            Why::Differs => "changed",
            Why::Access => "owner or mode",
        };
        let content = write.file.content.trim_end();
        let shown = if content.contains('\n') {
            format!("{} lines", content.lines().count())
        } else {
            content.to_owned()
        };
        let _ = writeln!(text, "  write {} ({why}): {shown}", write.file.path);
    }
    for step in &host.units {
        let _ = writeln!(text, "  {} {}: {}", step.action.word(), step.unit, step.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["A".to_owned(), "BB".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&rows), ["A     BB", "long"]);
    }
}
