//! What containers read from and write to block devices (`isolators/cgroups/subsystems/blkio.cpp`).
//!
//! The kernel counts by device and by operation; sums over all devices have a line without device.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mesos::v1::cgroup_info::blkio::{Operation, Statistics, Value, cfq, throttling};
use mesos::v1::device;

/// Major and minor number; `None` for the sum over all devices, which comes last.
type Device = Option<(u64, u64)>;

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    device: Device,
    operation: Option<Operation>,
    value: u64,
}

fn device(text: &str) -> Device {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn operation(text: &str) -> Option<Operation> {
    Operation::from_str_name(&text.to_ascii_uppercase())
}

/// `8:0 Read 4096`, `8:0 17`, `Total 4096` or `17`.
fn entry(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (value, words) = words.split_last()?;
    let value = value.parse().ok()?;
    let (device, operation) = match words {
        [] => (None, None),
        [word] => match device(word) {
            Some(device) => (Some(device), None),
            None => (None, Some(operation(word)?)),
        },
        [first, second] => (Some(device(first)?), Some(operation(second)?)),
        _ => return None,
    };
    Some(Entry { device, operation, value })
}

fn entries(path: &Path) -> Vec<Entry> {
    // A kernel without one of the schedulers has no files of it.
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(entry).collect()
}

fn counted(entry: &Entry) -> Value {
    let operation = entry.operation.unwrap_or(Operation::Unknown);
    Value { op: Some(operation as i32), value: Some(entry.value) }
}

fn number(device: Device) -> Option<device::Number> {
    device.map(|(major_number, minor_number)| device::Number { major_number, minor_number })
}

/// What is told of one device.
trait OfDevice: Default {
    /// Nothing yet.
    fn of(device: Option<device::Number>) -> Self;
}

impl OfDevice for cfq::Statistics {
    fn of(device: Option<device::Number>) -> Self {
        Self { device, ..Self::default() }
    }
}

impl OfDevice for throttling::Statistics {
    fn of(device: Option<device::Number>) -> Self {
        Self { device, ..Self::default() }
    }
}

/// Statistics of each device, the sum last, which is there in any case.
struct ByDevice<S>(BTreeMap<Device, S>);

impl<S: OfDevice> ByDevice<S> {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn of(&mut self, device: Device) -> &mut S {
        self.0.entry(device).or_insert_with(|| S::of(number(device)))
    }

    fn in_order(mut self) -> Vec<S> {
        let sum = self.0.remove(&None).unwrap_or_default();
        self.0.into_values().chain([sum]).collect()
    }
}

type Counts<S> = fn(&mut S) -> &mut Vec<Value>;

const CFQ: [(&str, Counts<cfq::Statistics>); 6] = [
    ("io_service_bytes", |own| &mut own.io_service_bytes),
    ("io_serviced", |own| &mut own.io_serviced),
    ("io_service_time", |own| &mut own.io_service_time),
    ("io_wait_time", |own| &mut own.io_wait_time),
    ("io_merged", |own| &mut own.io_merged),
    ("io_queued", |own| &mut own.io_queued),
];

/// Of the scheduler of kernels before 5.0; the recursive ones count for what is nested as well.
fn of_cfq(directory: &Path, suffix: &str) -> Vec<cfq::Statistics> {
    let of = |name: &str| entries(&directory.join(format!("blkio.{name}{suffix}")));
    let mut all = ByDevice::<cfq::Statistics>::new();
    for entry in of("time") {
        all.of(entry.device).time = Some(entry.value);
    }
    for entry in of("sectors") {
        all.of(entry.device).sectors = Some(entry.value);
    }
    for (name, counts) in CFQ {
        for entry in of(name) {
            counts(all.of(entry.device)).push(counted(&entry));
        }
    }
    all.in_order()
}

/// Of a group of version 1.
pub(super) fn statistics(directory: &Path) -> Statistics {
    let mut throttling = ByDevice::<throttling::Statistics>::new();
    for entry in entries(&directory.join("blkio.throttle.io_serviced")) {
        throttling.of(entry.device).io_serviced.push(counted(&entry));
    }
    for entry in entries(&directory.join("blkio.throttle.io_service_bytes")) {
        throttling.of(entry.device).io_service_bytes.push(counted(&entry));
    }
    Statistics {
        cfq: of_cfq(directory, ""),
        cfq_recursive: of_cfq(directory, "_recursive"),
        throttling: throttling.in_order(),
    }
}

/// The operations that version 2 counts, and by what names: how often, how many bytes.
const UNIFIED: [(Operation, &str, &str); 3] = [
    (Operation::Read, "rios", "rbytes"),
    (Operation::Write, "wios", "wbytes"),
    (Operation::Discard, "dios", "dbytes"),
];

/// Of `io.stat` of version 2, as version 1 has it.
pub(super) fn unified(text: &str) -> Statistics {
    let mut throttling = ByDevice::<throttling::Statistics>::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().and_then(device) else { continue };
        let counts: BTreeMap<&str, u64> = words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
            .collect();
        let of = |name: &str| counts.get(name).copied().unwrap_or_default();
        let count = |operation, value| Value { op: Some(operation as i32), value: Some(value) };
        let own = throttling.of(Some(device));
        for (operation, times, bytes) in UNIFIED {
            own.io_serviced.push(count(operation, of(times)));
            own.io_service_bytes.push(count(operation, of(bytes)));
        }
        own.io_serviced.push(count(Operation::Total, UNIFIED.iter().map(|own| of(own.1)).sum()));
        let bytes = UNIFIED.iter().map(|own| of(own.2)).sum();
        own.io_service_bytes.push(count(Operation::Total, bytes));
    }
    Statistics { throttling: throttling.in_order(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use mesos::json::{Dialect, to_value};
    use serde_json::json;

    use super::*;

    #[test]
    fn each_device_is_told_of_and_the_sum_last() {
        let directory = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("blkio.time", "8:16 7\n8:0 5\n");
        write("blkio.sectors_recursive", "8:0 3\n");
        write("blkio.io_merged", "8:0 Read 1\n8:0 Total 1\nTotal 1\n");
        write("blkio.throttle.io_serviced", "254:0 Read 2\n254:0 Sync 2\nTotal 2\nnonsense\n");
        write("blkio.throttle.io_service_bytes", "Total 0\n");
        let found = to_value(&statistics(directory.path()), Dialect::V0);
        let device = |minor: u64| json!({"major_number": 8, "minor_number": minor});
        let counted = |op: &str, value: u64| json!({"op": op, "value": value});
        let merged = json!([counted("READ", 1), counted("TOTAL", 1)]);
        let throttled = json!({
            "device": {"major_number": 254, "minor_number": 0},
            "io_serviced": [counted("READ", 2), counted("SYNC", 2)],
        });
        let expected = json!({
            "cfq": [
                {"device": device(0), "time": 5, "io_merged": merged},
                {"device": device(16), "time": 7},
                {"io_merged": [counted("TOTAL", 1)]},
            ],
            "cfq_recursive": [{"device": device(0), "sectors": 3}, {}],
            "throttling": [
                throttled,
                {"io_serviced": [counted("TOTAL", 2)], "io_service_bytes": [counted("TOTAL", 0)]},
            ],
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_unified_hierarchy_counts_less() {
        let found = unified("8:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n8:1 \n");
        let own = &found.throttling[0];
        let values = |all: &[Value]| all.iter().filter_map(|own| own.value).collect::<Vec<_>>();
        assert_eq!(values(&own.io_serviced), [1, 2, 0, 3]);
        assert_eq!(values(&own.io_service_bytes), [4096, 512, 0, 4608]);
        assert_eq!(found.throttling.len(), 3, "two devices, and the sum");
    }
}
