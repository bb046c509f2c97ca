//! Quality of service: the original's load controller (`qos_controllers/load.cpp`), chosen by the name and configured by
//! the parameters of its module. While the host's load is above a threshold, executors on revocable resources end.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mesos::flags::Values;
use tokio_util::sync::CancellationToken;

use super::actor::{self, Handle};
use super::modules;

const LOAD: &str = "org_apache_mesos_LoadQoSController";
/// Looks at the load that follow each other without a pause would only add to it.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Loads above which there is too much to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Thresholds {
    five_minutes: Option<f64>,
    fifteen_minutes: Option<f64>,
}

impl Thresholds {
    /// What is exceeded, in words.
    fn exceeded(&self, five: f64, fifteen: f64) -> Option<String> {
        let averages = [(5, five, self.five_minutes), (15, fifteen, self.fifteen_minutes)];
        averages.into_iter().find_map(|(minutes, load, threshold)| {
            let threshold = threshold.filter(|threshold| load > *threshold)?;
            Some(format!(
                "System {minutes} minutes load average {load} exceeds threshold {threshold}"
            ))
        })
    }
}

/// What an operator chose; none without `--qos_controller`.
pub(super) fn check(values: &Values) -> anyhow::Result<Option<Thresholds>> {
    match values.text("qos_controller") {
        None => return Ok(None),
        Some(LOAD) => {}
        Some(other) => {
            bail!("--qos_controller: '{other}' is not supported by this agent: there is {LOAD}")
        }
    }
    let threshold = |key: &str| {
        let text = modules::parameter(values, LOAD, key);
        let number = text.map(|text| {
            let number = text.parse::<f64>();
            number.with_context(|| format!("--modules: '{key}' of {LOAD}: '{text}' is no number"))
        });
        number.transpose()
    };
    let five_minutes = threshold("load_threshold_5min")?;
    let fifteen_minutes = threshold("load_threshold_15min")?;
    ensure!(
        five_minutes.is_some() || fifteen_minutes.is_some(),
        "No load thresholds are configured for LoadQoSController: --modules must give 'load_threshold_5min' or 'load_threshold_15min' of {LOAD}"
    );
    Ok(Some(Thresholds { five_minutes, fifteen_minutes }))
}

/// The averages of five and of fifteen minutes in `/proc/loadavg`.
fn load_of(text: &str) -> Option<(f64, f64)> {
    let mut averages = text.split_whitespace().skip(1);
    Some((averages.next()?.parse().ok()?, averages.next()?.parse().ok()?))
}

/// Looks at the load every `interval`.
pub(super) fn watch(
    handle: Handle,
    thresholds: Thresholds,
    interval: Duration,
    started: std::time::Instant,
    shutdown: CancellationToken,
) {
    let interval = interval.max(INTERVAL_MIN);
    tokio::spawn(async move {
        while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let Some((five, fifteen)) = load_of(&text) else {
                tracing::warn!("/proc/loadavg can't be read: the load is not known");
                continue;
            };
            if let Some(reason) = thresholds.exceeded(five, fifteen) {
                let now = actor::now(started);
                handle.look(move |agent| agent.preempt(now, &reason)).await;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(controller: &str, key: &str, value: &str) -> Result<Option<Thresholds>, String> {
        let modules = format!(
            r#"--modules={{"libraries": [{{"modules": [{{"name": "{LOAD}", "parameters": [{{"key": "{key}", "value": "{value}"}}]}}]}}]}}"#
        );
        let chosen = format!("--qos_controller={controller}");
        let given = ["--master=127.0.0.1:5050", "--work_dir=/w", &modules, &chosen];
        let given = given.map(str::to_owned);
        let values = crate::flags::table().load(given, std::iter::empty()).unwrap();
        check(&values).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn thresholds_are_the_modules_parameters() {
        let one = Thresholds { five_minutes: Some(1.5), fifteen_minutes: None };
        assert_eq!(of(LOAD, "load_threshold_5min", "1.5"), Ok(Some(one)));
        for (controller, key, value, expected) in [
            (LOAD, "other", "1", "No load thresholds are configured for LoadQoSController"),
            (LOAD, "load_threshold_15min", "x", "'x' is no number"),
            ("what", "load_threshold_5min", "1", "'what' is not supported"),
        ] {
            let text = of(controller, key, value).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_load_is_too_high_above_either_threshold() {
        assert_eq!(load_of("0.10 2.50 3.75 1/200 4711\n"), Some((2.5, 3.75)));
        assert_eq!(load_of("what"), None);
        let both = Thresholds { five_minutes: Some(2.5), fifteen_minutes: Some(3.0) };
        assert_eq!(both.exceeded(2.5, 3.0), None);
        let text = both.exceeded(2.6, 3.0).unwrap();
        assert_eq!(text, "System 5 minutes load average 2.6 exceeds threshold 2.5");
        assert!(both.exceeded(0.0, 4.0).unwrap().contains("15 minutes load average 4"));
    }
}
