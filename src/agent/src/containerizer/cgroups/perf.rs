//! Events of the processors, as `perf stat` counts them for each container (`subsystems/perf_event.cpp`,
//! `linux/perf.cpp`). The newest sample is what is told.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesos::json::{self, Dialect};
use mesos::units::format_duration;
use mesos::v1::PerfStatistics;
use serde_json::{Map, Value};

use super::Cgroups;
use super::tree::place;

/// The first version that counts by cgroup, and can be read.
const VERSION_MIN: (u32, u32) = (2, 6);
/// How much longer than its sample `perf` may take.
const ALLOWANCE: Duration = Duration::from_secs(2);

/// What is counted, and how often.
#[derive(Debug)]
pub struct Perf {
    events: BTreeSet<String>,
    /// How long a sample takes.
    duration: Duration,
    /// From one sample's start to the next one's.
    interval: Duration,
    /// By cgroup.
    samples: Mutex<BTreeMap<String, PerfStatistics>>,
}

fn perf() -> Command {
    let mut perf = Command::new("perf");
    // Numbers are to have points, whatever the agent's own language.
    perf.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null());
    perf
}

/// `perf version 4.9.11-200.fc25`.
fn version(output: &str) -> Option<(u32, u32)> {
    let mut parts = output.trim().trim_start_matches("perf version ").split('.');
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?))
}

impl Perf {
    /// Checks that these events (`--perf_events`, parted by commas) can be counted here.
    ///
    /// # Errors
    /// Why not, in the original's words.
    pub fn prepare(events: &str, duration: Duration, interval: Duration) -> Result<Self, String> {
        let told = perf().arg("--version").output().ok();
        let version = told.and_then(|told| version(&String::from_utf8_lossy(&told.stdout)));
        if version.is_none_or(|version| version < VERSION_MIN) {
            return Err("Perf is not supported".to_owned());
        }
        if duration > interval {
            return Err(format!(
                "Sampling perf for duration ({}) > interval ({}) is not supported.",
                format_duration(duration),
                format_duration(interval)
            ));
        }
        let events: BTreeSet<String> =
            events.split(',').filter(|event| !event.is_empty()).map(str::to_owned).collect();
        let mut probe = perf();
        probe.arg("stat").args(events.iter().flat_map(|event| ["--event", event])).arg("true");
        if !probe.stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
            let events: Vec<&str> = events.iter().map(String::as_str).collect();
            return Err(format!("Invalid perf events: {{ {} }}", events.join(", ")));
        }
        Ok(Self { events, duration, interval, samples: Mutex::default() })
    }

    /// Takes a sample of these cgroups, and forgets those of others.
    async fn sample(&self, cgroups: &BTreeSet<String>) -> Result<(), String> {
        let mut taken = BTreeMap::new();
        if !cgroups.is_empty() {
            let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            taken = parse(&self.run(cgroups).await?)?;
            for sample in taken.values_mut() {
                sample.timestamp = start.as_secs_f64();
                sample.duration = self.duration.as_secs_f64();
            }
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.retain(|cgroup, _| cgroups.contains(cgroup));
        samples.extend(taken);
        Ok(())
    }

    async fn run(&self, cgroups: &BTreeSet<String>) -> Result<String, String> {
        let mut perf = perf();
        perf.args(["stat", "--all-cpus", "--field-separator", ",", "--log-fd", "1"]);
        for event in &self.events {
            for cgroup in cgroups {
                perf.args(["--event", event, "--cgroup", cgroup]);
            }
        }
        perf.args(["--", "sleep"]).arg(self.duration.as_secs_f64().to_string());
        let failed = |reason: String| format!("Failed to execute perf: {reason}");
        let mut perf = tokio::process::Command::from(perf);
        let output = perf.kill_on_drop(true).output();
        let output = tokio::time::timeout(self.duration + ALLOWANCE, output).await;
        let output = output.map_err(|_| failed("timeout".to_owned()))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Cgroups {
    /// A container's cgroup, as `perf` takes it and tells of it: below the file system.
    fn perf_name(&self, container: &str) -> String {
        place(&self.name, container).display().to_string()
    }

    /// The newest sample of a container; one of no duration where there is none yet.
    pub(super) fn perf_statistics(&self, container: &str, now: f64) -> PerfStatistics {
        let newest = self.extras.perf.as_ref().and_then(|perf| {
            let samples = perf.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.get(&self.perf_name(container)).copied()
        });
        newest.unwrap_or(PerfStatistics { timestamp: now, ..Default::default() })
    }

    /// From one sample's start to the next one's; `None` where nothing is counted.
    pub fn perf_interval(&self) -> Option<Duration> {
        self.extras.perf.as_ref().map(|perf| perf.interval)
    }

    /// Counts the processors' events of all containers, for as long as a sample takes.
    ///
    /// # Errors
    /// When `perf` can't be run, or doesn't end, or says what can't be read.
    pub async fn sample_perf(&self) -> Result<(), String> {
        let Some(perf) = &self.extras.perf else { return Ok(()) };
        let containers = self.all_containers();
        perf.sample(&containers.iter().map(|own| self.perf_name(own)).collect()).await
    }
}

/// Value, event and cgroup of a line, in any of the forms that versions of `perf` have had.
fn fields(line: &str) -> Option<(&str, String, &str)> {
    let words: Vec<&str> = line.split(',').collect();
    let (event, cgroup) = match words.len() {
        3 => (1, 2),
        4 | 6 | 8 => (2, 3),
        // Separators of what is empty: a mistake of some versions.
        10 if words[6..].iter().all(|word| word.is_empty()) => (2, 3),
        _ => return None,
    };
    Some((words[0], words[event].to_lowercase().replace('-', "_"), words[cgroup]))
}

/// A sample by cgroup.
fn parse(output: &str) -> Result<BTreeMap<String, PerfStatistics>, String> {
    let mut found: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let wrong = |what: &str| format!("Failed to parse perf sample: {what} at line: {line}");
        let (value, event, cgroup) =
            fields(line).ok_or_else(|| wrong("Unexpected number of fields"))?;
        // Others are ratios of these.
        if event.is_empty() {
            continue;
        }
        let counts = found.entry(cgroup.to_owned()).or_default();
        let value = match value {
            "<not supported>" => continue,
            "<not counted>" => Value::from(0),
            number => serde_json::from_str(number)
                .ok()
                .filter(Value::is_number)
                .ok_or_else(|| wrong("Unable to parse perf value"))?,
        };
        let one = Map::from_iter([(event.clone(), value.clone())]);
        if statistics(one).is_none_or(|own| json::to_value(&own, Dialect::V0)[&event].is_null()) {
            return Err(wrong(&format!("Unexpected event '{event}' in perf output")));
        }
        counts.insert(event, value);
    }
    let samples = found.into_iter().map(|(cgroup, counts)| Some((cgroup, statistics(counts)?)));
    samples.collect::<Option<_>>().ok_or_else(|| "Failed to parse perf sample".to_owned())
}

/// Counts by the names that the message has for them.
fn statistics(mut counts: Map<String, Value>) -> Option<PerfStatistics> {
    counts.extend(["timestamp", "duration"].map(|name| (name.to_owned(), Value::from(0.0))));
    json::from_slice(Value::Object(counts).to_string().as_bytes(), Dialect::V0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_all_versions_of_perf_are_read() {
        let output = "\
123,cycles,mesos/a
0.5,,task-clock,mesos/a
<not supported>,,instructions,mesos/a,0,100.00
<not counted>,,L1-dcache-loads,mesos/b,0,100.00,,
7,,context-switches,mesos/b,0,100.00,,,,
,,,,,,0.1,stalled cycles per insn
";
        let found = parse(output).unwrap();
        let a = PerfStatistics { cycles: Some(123), task_clock: Some(0.5), ..Default::default() };
        let b = PerfStatistics {
            l1_dcache_loads: Some(0),
            context_switches: Some(7),
            ..Default::default()
        };
        let expected = [("mesos/a".to_owned(), a), ("mesos/b".to_owned(), b)];
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn what_cant_be_read_is_said() {
        for (line, expected) in [
            ("1,cycles", "Unexpected number of fields"),
            ("1,,cycles,c,0,1,,,x,", "Unexpected number of fields"),
            ("1,,sunshine,c", "Unexpected event 'sunshine'"),
            ("one,,cycles,c", "Unable to parse perf value"),
        ] {
            let text = parse(line).unwrap_err();
            assert!(text.contains(expected) && text.contains(line), "{text}");
        }
    }

    #[test]
    fn versions_have_many_forms() {
        for (text, expected) in [
            ("perf version 3.10.0-1160.el7.x86_64.debug\n", Some((3, 10))),
            ("perf version 6.1.187", Some((6, 1))),
            ("perf version 4.gbfb3e5", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
