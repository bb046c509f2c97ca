//! How long something took, lately: what `/metrics/snapshot` says of timers.

use std::collections::VecDeque;

/// Measurements that are remembered.
const WINDOW: usize = 1000;

/// The last measurements of one kind, in milliseconds.
#[derive(Debug, Default)]
pub struct Series {
    last: VecDeque<f64>,
}

impl Series {
    /// Adds a measurement.
    pub fn add(&mut self, milliseconds: f64) {
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(milliseconds);
    }

    /// The last one, and what is said of all that are remembered if there are several, by suffix of the metric's name;
    /// nothing while there is no measurement.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let Some(last) = self.last.back() else { return Vec::new() };
        if self.last.len() < 2 {
            // The original tells nothing of one alone.
            return vec![("", *last)];
        }
        let mut sorted: Vec<f64> = self.last.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (part * (sorted.len() - 1) as f64).round() as usize;
            sorted.get(index).copied().unwrap_or_default()
        };
        vec![
            ("", *last),
            ("/count", sorted.len() as f64),
            ("/max", at(1.0)),
            ("/min", at(0.0)),
            ("/p50", at(0.5)),
            ("/p90", at(0.9)),
            ("/p95", at(0.95)),
            ("/p99", at(0.99)),
            ("/p999", at(0.999)),
            ("/p9999", at(0.9999)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_measurements_count() {
        let mut series = Series::default();
        assert!(series.metrics().is_empty());
        series.add(7.0);
        assert_eq!(series.metrics(), [("", 7.0)]);
        for value in 0..2000 {
            series.add(f64::from(value));
        }
        let metrics = series.metrics();
        let get = |suffix: &str| {
            metrics.iter().find(|(name, _)| *name == suffix).map(|(_, value)| *value)
        };
        assert_eq!(
            (get(""), get("/count"), get("/min"), get("/max")),
            (Some(1999.0), Some(1000.0), Some(1000.0), Some(1999.0))
        );
        assert_eq!(get("/p50"), Some(1500.0));
    }
}
