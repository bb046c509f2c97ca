//! What is going on, for the person who waits: one line a host that is redrawn on a terminal, plain lines elsewhere. On
//! standard error, so that standard output is the answer alone.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far each host is.
#[derive(Debug)]
pub struct Progress {
    bars: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
    width: usize,
}

impl Progress {
    /// For these hosts.
    #[must_use]
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = hosts.into_iter().collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {prefix}  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bars = names
                .iter()
                .map(|name| {
                    let bar = all.add(ProgressBar::new_spinner().with_style(style.clone()));
                    bar.set_prefix(format!("{name:width$}"));
                    bar.enable_steady_tick(Duration::from_millis(120));
                    ((*name).to_owned(), bar)
                })
                .collect();
            (all, bars)
        });
        Self { bars, width }
    }

    /// What a host is at.
    pub fn say(&self, host: &str, message: &str) {
        match self.bars.as_ref().and_then(|(_, bars)| bars.get(host)) {
            Some(bar) => bar.set_message(message.to_owned()),
            None => self.line(host, message),
        }
    }

    /// What a host is done with, until it is at something else; no line of its own where lines are plain.
    pub fn done(&self, host: &str, message: &str) {
        if let Some(bar) = self.bars.as_ref().and_then(|(_, bars)| bars.get(host)) {
            bar.set_message(message.to_owned());
        }
    }

    /// Takes the lines away before the answer is printed.
    pub fn clear(&self) {
        if let Some((all, bars)) = &self.bars {
            for bar in bars.values() {
                bar.finish_and_clear();
            }
            let _ = all.clear();
        }
    }

    fn line(&self, host: &str, message: &str) {
        // Nobody may be reading any more.
        let _ = writeln!(std::io::stderr(), "{host:width$}  {message}", width = self.width);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
