//! Metrics as text: keys and values for `mntr` and JSON (`DefaultMetricsProvider.dump`), and Prometheus's format 0.0.4
//! (`PrometheusMetricsProvider`, whose names have no prefix).

use std::fmt::Write as _;

use super::{Counter, Metrics, Set, Summary, Values};

/// A number as Java would print it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A `long`.
    Whole(i64),
    /// A `double`.
    Decimal(f64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(formatter),
            Self::Decimal(number) => formatter.write_str(&decimal(*number)),
        }
    }
}

/// A Java double with at most 4 decimals.
pub fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

/// Every metric as `mntr` has it, without its prefix.
pub fn key_values(metrics: &Metrics) -> Vec<(String, Number)> {
    let mut all = Vec::new();
    for counter in Counter::ALL {
        all.push((counter.name().to_owned(), whole(metrics.get(*counter))));
    }
    for summary in Summary::ALL {
        if let Some(values) = metrics.summary(*summary) {
            of_summary(summary.name(), values, summary.has_percentiles(), &mut all);
        }
    }
    for set in Set::ALL {
        for (key, values) in metrics.set(*set) {
            let name = format!("{key}_{}", set.name());
            of_summary(&name, &values, set.has_percentiles(), &mut all);
        }
    }
    all
}

fn whole(number: u64) -> Number {
    Number::Whole(number as i64)
}

fn of_summary(
    name: &str,
    values: &Values,
    has_percentiles: bool,
    into: &mut Vec<(String, Number)>,
) {
    let totals = values.totals();
    // Rounded as the original rounds it.
    let mean = (totals.mean() * 10_000.0).round() / 10_000.0;
    into.push((format!("avg_{name}"), Number::Decimal(mean)));
    for (kind, value) in
        [("min", totals.least), ("max", totals.most), ("cnt", totals.count), ("sum", totals.sum)]
    {
        into.push((format!("{kind}_{name}"), whole(value)));
    }
    if has_percentiles {
        for (kind, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)] {
            into.push((format!("{kind}_{name}"), whole(values.percentile(part))));
        }
    }
}

/// Every metric, these gauges, and what is told of the process, in Prometheus's text format.
pub fn prometheus(metrics: &Metrics, gauges: &[(&str, Number)], process: &[(&str, f64)]) -> String {
    let mut text = String::new();
    for (name, value) in gauges {
        let value = match value {
            Number::Whole(number) => *number as f64,
            Number::Decimal(number) => *number,
        };
        head(&mut text, name, "gauge");
        sample(&mut text, name, "", value);
    }
    for counter in Counter::ALL {
        // The client library of the original adds `_total` to samples of counters only in OpenMetrics.
        head(&mut text, counter.name(), "counter");
        sample(&mut text, counter.name(), "", metrics.get(*counter) as f64);
    }
    for summary in Summary::ALL {
        if let Some(values) = metrics.summary(*summary) {
            head(&mut text, summary.name(), "summary");
            summary_samples(&mut text, summary.name(), "", values, summary.has_percentiles());
        }
    }
    for set in Set::ALL {
        let all = metrics.set(*set);
        head(&mut text, set.name(), "summary");
        for (key, values) in all {
            let label = format!("key=\"{}\",", escape(&key));
            summary_samples(&mut text, set.name(), &label, &values, set.has_percentiles());
        }
    }
    for (name, value) in process {
        head(&mut text, name, if name.ends_with("_total") { "counter" } else { "gauge" });
        sample(&mut text, name, "", *value);
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str) {
    let _ = write!(text, "# HELP {name} {name}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &str, value: f64) {
    let labels = labels.trim_end_matches(',');
    let _ = if labels.is_empty() {
        writeln!(text, "{name} {}", double(value))
    } else {
        writeln!(text, "{name}{{{labels},}} {}", double(value))
    };
}

/// A double as `Double.toString` and Prometheus both read it.
fn double(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{value:?}") }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Of summaries without percentiles the original shows the median alone.
fn summary_samples(
    text: &mut String,
    name: &str,
    labels: &str,
    values: &Values,
    has_percentiles: bool,
) {
    let totals = values.totals();
    let shown = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];
    for (quantile, part) in &shown[..if has_percentiles { 3 } else { 1 }] {
        let value = if totals.count == 0 { f64::NAN } else { values.percentile(*part) as f64 };
        sample(text, name, &format!("{labels}quantile=\"{quantile}\""), value);
    }
    sample(text, &format!("{name}_count"), labels, totals.count as f64);
    sample(text, &format!("{name}_sum"), labels, totals.sum as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        assert_eq!([0.0, 6.0, 20.0 / 3.0, 0.5].map(decimal), ["0.0", "6.0", "6.6667", "0.5"]);
    }

    #[test]
    fn a_summary_has_the_originals_keys() {
        let metrics = Metrics::default();
        for value in [1, 2, 2] {
            metrics.note(Summary::ReadLatency, value);
        }
        let lines: Vec<String> = key_values(&metrics)
            .iter()
            .filter(|(key, _)| key.ends_with("_readlatency"))
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        assert_eq!(
            lines.join(", "),
            "avg_readlatency 1.6667, min_readlatency 1, max_readlatency 2, cnt_readlatency 3, sum_readlatency 5, p50_readlatency 2, p95_readlatency 2, p99_readlatency 2, p999_readlatency 2"
        );
    }

    #[test]
    fn prometheus_reads_what_is_written() {
        let metrics = Metrics::default();
        metrics.count(Counter::ProposalCount);
        metrics.note(Summary::UpdateLatency, 7);
        metrics.note_of(Set::AckLatency, "a\"b", 1);
        let text = prometheus(
            &metrics,
            &[("znode_count", Number::Whole(5))],
            &[("process_open_fds", 9.0)],
        );
        for line in [
            "# TYPE znode_count gauge\nznode_count 5.0\n",
            "# TYPE proposal_count counter\nproposal_count 1.0\n",
            "# TYPE updatelatency summary\nupdatelatency{quantile=\"0.5\",} 7.0\n",
            "updatelatency_count 1.0\nupdatelatency_sum 7.0\n",
            "ack_latency{key=\"a\\\"b\",quantile=\"0.5\",} 1.0\n",
            "ack_latency_count{key=\"a\\\"b\",} 1.0\n",
            "readlatency{quantile=\"0.99\",} NaN\n",
            "process_open_fds 9.0\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
