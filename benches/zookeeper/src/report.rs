//! The table for people and the JSON for programs. A target that is missed is marked with `!`.

use std::io::Write;

use serde_json::{Value, json};

use crate::load::{Found, Mix};
use crate::memory::Taken;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Cell {
    /// Servers that form an ensemble, or one.
    pub(crate) servers: usize,
    /// What the requests are.
    pub(crate) mix: Mix,
    /// From how many connections.
    pub(crate) connections: usize,
    /// How many each has outstanding.
    pub(crate) outstanding: usize,
    /// Of ours.
    pub(crate) ours: Option<Found>,
    /// Of Apache's.
    pub(crate) apache: Option<Found>,
    /// Of the limit.
    pub(crate) limit: Option<Found>,
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    values: Vec<Value>,
    /// Targets met.
    pub(crate) met: usize,
    /// Targets that there were figures for.
    pub(crate) judged: usize,
}

/// The kernel is the limit where ours does at least this part of what a server without a database does.
const OF_LIMIT: f64 = 0.9;

impl Report {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { values: Vec::new(), met: 0, judged: 0 }
    }

    fn judge(&mut self, is_met: bool) -> &'static str {
        self.judged += 1;
        self.met += usize::from(is_met);
        if is_met { " " } else { "!" }
    }

    /// What a file takes that is only synced.
    pub(crate) fn synced(
        &mut self,
        entries: usize,
        rate: f64,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        writeln!(
            out,
            "fdatasync after each {entries:>4} entries of 200 bytes: {rate:>9.0} entries/s"
        )?;
        self.values.push(json!({ "what": "synced", "entries": entries, "rate": rate }));
        Ok(())
    }

    /// The head of a table.
    pub(crate) fn begin_cells(
        &mut self,
        servers: usize,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let title = if servers == 1 { "One server" } else { "Three servers" };
        writeln!(
            out,
            "\n{title}: requests/s; latencies in ms; server CPU in s per million requests\n{:<7}{:>10} |{:>8}{:>8}{:>7} {:>8}{:>7} |{:>21}{:>23}{:>7} |{:>6}{:>7}{:>7}{:>7}",
            "mix",
            "conn×out",
            "ours",
            "apache",
            "ratio",
            "limit",
            "of it",
            "ours p50/p99/p99.9",
            "apache p50/p99/p99.9",
            "p99",
            "CPU",
            "apache",
            "limit",
            "ratio"
        )?;
        Ok(())
    }

    /// One line.
    pub(crate) fn cell(&mut self, cell: &Cell, out: &mut impl Write) -> anyhow::Result<()> {
        let Some(ours) = &cell.ours else { return Ok(()) };
        let apache = cell.apache.as_ref();
        let ratio = |of: fn(&Found) -> f64| apache.map(|apache| of(ours) / of(apache));
        let p99 = |found: &Found| found.latency_ms(0.99);
        let (rate, tail, cpu) = (ratio(Found::rate), ratio(p99), ratio(Found::cpu_per_million));
        let of_limit = cell.limit.as_ref().map(|limit| ours.rate() / limit.rate());
        let rate_mark = rate.map_or("", |rate| {
            self.judge(rate >= 3.0 || of_limit.is_some_and(|part| part >= OF_LIMIT))
        });
        let tail_max = if cell.servers == 1 { 1.0 / 3.0 } else { 1.0 / 5.0 };
        let tail_mark = tail.map_or("", |tail| self.judge(tail <= tail_max));
        let cpu_mark = cpu.map_or("", |cpu| self.judge(cpu <= 1.0 / 3.0));
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let latencies = |found: &Found| {
            let [a, b, c] = [0.5, 0.99, 0.999].map(|quantile| found.latency_ms(quantile));
            format!("{a:.2}/{b:.2}/{c:.2}")
        };
        writeln!(
            out,
            "{:<7}{:>10} |{:>8.0}{:>8}{:>6}{rate_mark:1} {:>8}{:>7} |{:>21}{:>23}{:>6}{tail_mark:1} |{:>6.1}{:>7}{:>7}{:>6}{cpu_mark:1}",
            cell.mix.name(),
            format!("{}×{}", cell.connections, cell.outstanding),
            ours.rate(),
            number(apache.map(Found::rate), 0),
            number(rate, 2),
            number(cell.limit.as_ref().map(Found::rate), 0),
            number(of_limit, 2),
            latencies(ours),
            apache.map_or_else(|| "-".to_owned(), latencies),
            number(tail, 2),
            ours.cpu_per_million(),
            number(apache.map(Found::cpu_per_million), 1),
            number(cell.limit.as_ref().map(Found::cpu_per_million), 1),
            number(cpu, 2),
        )?;
        let figures = |found: &Option<Found>| {
            found.as_ref().map(|found| {
                json!({
                    "rate": found.rate(),
                    "p50_ms": found.latency_ms(0.5),
                    "p99_ms": found.latency_ms(0.99),
                    "p999_ms": found.latency_ms(0.999),
                    "cpu_seconds_per_million": found.cpu_per_million(),
                })
            })
        };
        self.values.push(json!({
            "what": "speed",
            "servers": cell.servers,
            "mix": cell.mix.name(),
            "durable": cell.mix.is_durable(),
            "connections": cell.connections,
            "outstanding": cell.outstanding,
            "ours": figures(&cell.ours),
            "apache": figures(&cell.apache),
            "limit": figures(&cell.limit),
        }));
        Ok(())
    }

    /// Start, memory and recovery.
    pub(crate) fn memory(
        &mut self,
        znodes: usize,
        ours: &Taken,
        apache: Option<&Taken>,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        const MB: f64 = 1e6;
        /// What it is, how to get it, in which unit, and which part of Apache's it may be.
        type Line = (&'static str, fn(&Taken) -> f64, f64, Option<f64>);
        let lines: [Line; 7] = [
            ("start, ms", |taken| taken.start_ms, 1.0, Some(1.0 / 20.0)),
            ("RAM idle, MB", |taken| taken.idle_bytes, MB, Some(1.0 / 10.0)),
            (
                "RAM with 10,000 idle connections, MB",
                |taken| taken.connections_bytes,
                MB,
                Some(1.0 / 3.0),
            ),
            ("RAM with the znodes, MB", |taken| taken.znodes_bytes, MB, Some(1.0 / 3.0)),
            ("bytes a znode of 100 bytes", |taken| taken.bytes_per_znode, 1.0, None),
            ("znodes made a second", |taken| taken.load_rate, 1.0, None),
            ("recovery of the znodes, ms", |taken| taken.recovery_ms, 1.0, Some(1.0 / 4.0)),
        ];
        writeln!(
            out,
            "\nStart and memory, with {znodes} znodes\n{:<40}{:>10}{:>10}{:>8}",
            "", "ours", "apache", "ratio"
        )?;
        for (name, get, unit, target) in lines {
            let own = get(ours);
            let ratio = apache.map(|apache| own / get(apache));
            let mark = match (ratio, target) {
                (Some(ratio), Some(target)) => self.judge(ratio <= target),
                _ => "",
            };
            writeln!(
                out,
                "{name:<40}{:>10.1}{:>10}{:>7}{mark}",
                own / unit,
                apache
                    .map_or_else(|| "-".to_owned(), |apache| format!("{:.1}", get(apache) / unit)),
                ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            )?;
            let other = apache.map(get);
            self.values
                .push(json!({ "what": name, "znodes": znodes, "ours": own, "apache": other }));
        }
        Ok(())
    }

    /// Everything, for programs.
    pub(crate) fn json(&self) -> String {
        format!("{:#}\n", Value::Array(self.values.clone()))
    }
}
