//! The table for people and the JSON for programs. A target that is missed is marked with `!`.

use std::io::Write;

use serde_json::{Value, json};

/// What a figure must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Nothing: it is only shown.
    None,
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// All figures of a run, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    what: String,
    unit: &'static str,
    ours: f64,
    original: Option<f64>,
    target: Target,
}

impl Line {
    fn is_met(&self) -> Option<bool> {
        match self.target {
            Target::None => None,
            Target::AtLeast(least) => Some(self.ours >= least),
            Target::AtMost(most) => Some(self.ours <= most),
        }
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

impl Report {
    /// Adds a figure and shows it.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
        original: Option<f64>,
        target: Target,
    ) -> anyhow::Result<()> {
        let line = Line { what: what.into(), unit, ours, original, target };
        write_line(&line, &mut std::io::stdout())?;
        self.lines.push(line);
        Ok(())
    }

    /// The whole table, and how many targets were met.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn write(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "\n{:<62}{:>12}{:>12}{:>14}", "", "ours", "original", "target")?;
        for line in &self.lines {
            write_line(line, out)?;
        }
        let judged: Vec<bool> = self.lines.iter().filter_map(Line::is_met).collect();
        let met = judged.iter().filter(|met| **met).count();
        writeln!(out, "{met} of {} targets are met.", judged.len())?;
        Ok(())
    }

    /// Everything, for programs.
    pub(crate) fn json(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            let (least, most) = match line.target {
                Target::None => (None, None),
                Target::AtLeast(least) => (Some(least), None),
                Target::AtMost(most) => (None, Some(most)),
            };
            json!({
                "what": line.what,
                "unit": line.unit,
                "ours": line.ours,
                "original": line.original,
                "at_least": least,
                "at_most": most,
                "met": line.is_met(),
            })
        });
        format!("{:#}\n", Value::Array(lines.collect()))
    }
}

fn write_line(line: &Line, out: &mut impl Write) -> anyhow::Result<()> {
    let target = match line.target {
        Target::None => String::new(),
        Target::AtLeast(least) => format!(">= {}", number(least)),
        Target::AtMost(most) => format!("<= {}", number(most)),
    };
    let mark = if line.is_met() == Some(false) { "!" } else { " " };
    writeln!(
        out,
        "{:<62}{:>12}{:>12}{:>13}{mark}",
        format!("{}, {}", line.what, line.unit),
        number(line.ours),
        line.original.map_or_else(|| "-".to_owned(), number),
        target,
    )?;
    Ok(())
}
