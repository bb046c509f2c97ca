//! Tables and JSON.

use std::io::{IsTerminal as _, Write, stdout};

use anyhow::Result;
use mesos::json::{self, Dialect, Json};
use mesos::v1;

/// Prints a message of the API as JSON.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn message<M: Json>(message: &M) -> Result<()> {
    value(&json::to_value(message, Dialect::V1))
}

/// Prints JSON.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn value(value: &serde_json::Value) -> Result<()> {
    Ok(writeln!(stdout().lock(), "{value:#}")?)
}

/// Prints rows below their heads.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> Result<()> {
    use owo_colors::OwoColorize as _;
    let coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut out = stdout().lock();
    let head = line(heads.to_vec());
    if coloured {
        writeln!(out, "{}", head.bold())?;
    } else {
        writeln!(out, "{head}")?;
    }
    for row in rows {
        writeln!(out, "{}", line(row.iter().map(String::as_str).collect()))?;
    }
    Ok(())
}

/// A number without needless digits.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        // What a sum of nothing is.
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// The sum of a scalar resource.
pub(crate) fn scalar(resources: &[v1::Resource], name: &str) -> f64 {
    resources
        .iter()
        .filter(|resource| resource.name == name)
        .filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_without_a_sign() {
        assert_eq!(number(scalar(&[], "cpus")), "0");
        assert_eq!(
            (number(-0.0001), number(0.5), number(2048.0)),
            ("0".into(), "0.5".into(), "2048".into())
        );
    }
}
