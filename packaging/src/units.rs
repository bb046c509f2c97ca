//! Whether systemd 219 knows every directive of a unit. It ignores what it doesn't know, and with it the protection or limit.

use std::collections::{BTreeMap, BTreeSet};

const DIRECTIVES: &str = include_str!("../../systemd/directives-219.txt");

/// The units, by file name.
pub const UNITS: &[(&str, &str)] = &[
    ("marathon.service", include_str!("../../systemd/marathon.service")),
    ("mesos-master.service", include_str!("../../systemd/mesos-master.service")),
    ("mesos-slave.service", include_str!("../../systemd/mesos-slave.service")),
    ("zookeeper.service", include_str!("../../systemd/zookeeper.service")),
];

/// Directives by section.
fn known() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut known = BTreeMap::new();
    let mut section = "";
    for line in DIRECTIVES.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = section_name(line) {
            section = name;
            continue;
        }
        known.entry(section).or_insert_with(BTreeSet::new).extend(line.split_whitespace());
    }
    known
}

fn section_name(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// What systemd 219 would not understand in the text of a unit, one sentence each with the line's number.
#[must_use]
pub fn faults(unit: &str) -> Vec<String> {
    let known = known();
    let mut faults = Vec::new();
    let mut section = None;
    for (number, line) in unit.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = section_name(line) {
            section = known.get(name);
            if section.is_none() {
                faults.push(format!("line {number}: no section of a service: [{name}]"));
            }
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            faults.push(format!("line {number}: neither a section nor Directive=value: {line}"));
            continue;
        };
        match section {
            None => faults.push(format!("line {number}: outside of any known section: {line}")),
            Some(directives) if !directives.contains(name) => {
                faults.push(format!("line {number}: systemd 219 doesn't know {name}="));
            }
            Some(_) => faults
                .extend(newer_value(name, value).map(|fault| format!("line {number}: {fault}"))),
        }
    }
    faults
}

/// Values of old directives that came later than 219.
fn newer_value(name: &str, value: &str) -> Option<String> {
    let newer = match name {
        "Type" => ["exec", "notify-reload"].contains(&value),
        "Delegate" => !["yes", "no", "true", "false"].contains(&value),
        "ProtectSystem" => value == "strict",
        "StandardOutput" | "StandardError" => {
            ["append:", "file:", "truncate:"].iter().any(|form| value.starts_with(form))
        }
        _ if name.starts_with("Exec") => {
            value.trim_start_matches(['-', '@']).starts_with(['+', '!', ':'])
        }
        _ => false,
    };
    newer.then(|| format!("systemd 219 doesn't know {name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_units_are_understood() {
        for (name, text) in UNITS {
            assert_eq!(faults(text), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn newer_directives_and_values_are_found() {
        for line in [
            "StateDirectory=x",
            "ProtectSystem=strict",
            "Type=exec",
            "ExecStartPre=+/bin/true",
            "StandardOutput=append:/var/log/x",
            "Delegate=cpu memory",
            "no directive",
            "Description=in the wrong section",
        ] {
            assert_eq!(faults(&format!("[Service]\n{line}\n")).len(), 1, "{line}");
        }
        assert_eq!(faults("[Unit]\nStartLimitIntervalSec=1\n").len(), 1);
        assert_eq!(faults("[Services]\n").len(), 1);
        assert_eq!(faults("Type=simple\n").len(), 1);
    }

    #[test]
    fn what_219_knows_passes() {
        let unit = "# why\n[Unit]\nAfter=network.target\n[Service]\nType=notify\nDelegate=yes\nExecStart=-/bin/true\n[Install]\nWantedBy=x\n";
        assert_eq!(faults(unit), Vec::<String>::new());
    }
}
