//! The tables for people and the JSON for programs. A target that is missed is marked with `!`; at the end every figure
//! that has a target is listed beside it.

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
#[derive(Debug, Default)]
pub(crate) struct Report {
    values: Vec<Value>,
    judged: Vec<Judged>,
}

/// A figure with its target.
#[derive(Debug)]
struct Judged {
    name: String,
    ours: f64,
    apache: f64,
    /// The limit's, where it was measured.
    limit: Option<f64>,
    target: String,
    is_met: bool,
    note: String,
}

/// The kernel is the limit where ours does at least this part of what a server without a database does.
const OF_LIMIT: f64 = 0.9;

impl Cell {
    fn judged(
        &self,
        what: &str,
        of: impl Fn(&Found) -> f64,
        ours: &Found,
        apache: &Found,
    ) -> Judged {
        let servers = if self.servers == 1 { "" } else { "3 servers: " };
        Judged {
            name: format!(
                "{servers}{} {}×{}, {what}",
                self.mix.name(),
                self.connections,
                self.outstanding
            ),
            ours: of(ours),
            apache: of(apache),
            limit: self.limit.as_ref().map(of),
            target: String::new(),
            is_met: false,
            note: String::new(),
        }
    }

    fn rate(&self, ours: &Found, apache: &Found) -> Judged {
        let mut judged = self.judged("requests/s", Found::rate, ours, apache);
        let of_limit = judged.limit.map(|limit| judged.ours / limit);
        let by = if self.mix.is_durable() { "the sync" } else { "the kernel" };
        judged.target = match of_limit {
            Some(_) => format!("≥ 3, or ≥ {OF_LIMIT} of the limit"),
            None => "≥ 3".to_owned(),
        };
        let is_limited = of_limit.is_some_and(|part| part >= OF_LIMIT);
        judged.is_met = judged.ratio() >= 3.0 || is_limited;
        judged.note = match of_limit {
            Some(part) if is_limited => format!("{by} is the limit: {part:.2} of it"),
            Some(part) => format!("{part:.2} of the limit"),
            None => String::new(),
        };
        judged
    }

    fn tail(&self, ours: &Found, apache: &Found) -> Judged {
        let mut judged = self.judged("p99 in ms", |found| found.latency_ms(0.99), ours, apache);
        let (max, target) =
            if self.servers == 1 { (1.0 / 3.0, "≤ 1/3") } else { (1.0 / 5.0, "≤ 1/5") };
        target.clone_into(&mut judged.target);
        judged.is_met = judged.ratio() <= max;
        if let Some(limit) = judged.limit.filter(|_| !judged.is_met) {
            judged.note = format!("{:.2} of the limit's {limit:.2} ms", judged.ours / limit);
        }
        judged
    }

    fn cpu(&self, ours: &Found, apache: &Found) -> Judged {
        let mut judged = self.judged("CPU s/million", Found::cpu_per_million, ours, apache);
        "≤ 1/3".clone_into(&mut judged.target);
        judged.is_met = judged.ratio() <= 1.0 / 3.0;
        if let Some(limit) = judged.limit.filter(|_| !judged.is_met) {
            judged.note = format!("the limit server itself needs {limit:.1}");
        }
        judged
    }
}

impl Judged {
    fn ratio(&self) -> f64 {
        self.ours / self.apache
    }

    fn line(&self) -> String {
        let number = |value: f64| {
            if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
        };
        let limit = self.limit.map_or_else(|| "-".to_owned(), number);
        format!(
            "{:<48}{:>10}{:>10}{limit:>10}{:>8.3}  {:<28}{:<5}{}",
            self.name,
            number(self.ours),
            number(self.apache),
            self.ratio(),
            self.target,
            if self.is_met { "yes" } else { "NO" },
            self.note
        )
    }

    fn value(&self) -> Value {
        json!({
            "figure": self.name,
            "ours": self.ours,
            "apache": self.apache,
            "limit": self.limit,
            "ratio": self.ratio(),
            "target": self.target,
            "met": self.is_met,
            "note": self.note,
        })
    }
}

impl Report {
    fn judge(&mut self, judged: Judged) -> &'static str {
        let mark = if judged.is_met { " " } else { "!" };
        self.judged.push(judged);
        mark
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
        let (mut rate_mark, mut tail_mark, mut cpu_mark) = ("", "", "");
        if let Some(apache) = apache {
            rate_mark = self.judge(cell.rate(ours, apache));
            tail_mark = self.judge(cell.tail(ours, apache));
            cpu_mark = self.judge(cell.cpu(ours, apache));
        }
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
        /// What it is, how to get it, in which unit, and what it may be at most.
        type Line = (&'static str, fn(&Taken) -> f64, f64, Max);
        let lines: [Line; 7] = [
            ("start, ms", |taken| taken.start_ms, 1.0, Max::Part(20.0)),
            ("RAM idle, MB", |taken| taken.idle_bytes, MB, Max::Part(10.0)),
            (
                "RAM with 10,000 idle connections, MB",
                |taken| taken.connections_bytes,
                MB,
                Max::Part(3.0),
            ),
            ("RAM with the znodes, MB", |taken| taken.znodes_bytes, MB, Max::Part(3.0)),
            ("bytes a znode of 100 bytes", |taken| taken.bytes_per_znode, 1.0, Max::Value(280.0)),
            ("znodes made a second", |taken| taken.load_rate, 1.0, Max::None),
            ("recovery of the znodes, ms", |taken| taken.recovery_ms, 1.0, Max::Part(4.0)),
        ];
        writeln!(
            out,
            "\nStart and memory, with {znodes} znodes\n{:<40}{:>10}{:>10}{:>8}",
            "", "ours", "apache", "ratio"
        )?;
        for (name, get, unit, max) in lines {
            let own = get(ours);
            let ratio = apache.map(|apache| own / get(apache));
            let met = match max {
                Max::Part(part) => ratio.map(|ratio| (ratio <= 1.0 / part, format!("≤ 1/{part}"))),
                Max::Value(value) => Some((own <= value, format!("≤ {value}"))),
                Max::None => None,
            };
            let mark = met.map_or("", |(is_met, target)| {
                self.judge(Judged {
                    name: format!("{name} ({znodes} znodes)"),
                    ours: own / unit,
                    apache: apache.map_or(f64::NAN, |apache| get(apache) / unit),
                    limit: None,
                    target,
                    is_met,
                    note: String::new(),
                })
            });
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

    /// Every figure that has a target, beside it.
    pub(crate) fn summary(&self, out: &mut impl Write) -> anyhow::Result<()> {
        if self.judged.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<48}{:>10}{:>10}{:>10}{:>8}  {:<28}met",
            "figure", "ours", "apache", "limit", "ratio", "target"
        )?;
        for judged in &self.judged {
            writeln!(out, "{}", judged.line())?;
        }
        let met = self.judged.iter().filter(|judged| judged.is_met).count();
        writeln!(out, "{met} of {} targets are met.", self.judged.len())?;
        Ok(())
    }

    /// Everything, for programs.
    pub(crate) fn json(&self) -> String {
        let targets: Vec<Value> = self.judged.iter().map(Judged::value).collect();
        format!("{:#}\n", json!({ "measured": self.values, "targets": targets }))
    }
}

/// What a figure may be at most.
enum Max {
    /// One of so many parts of Apache's.
    Part(f64),
    /// This.
    Value(f64),
    /// Anything.
    None,
}
