//! What to do with a host's units, given what is installed and written before.

use std::collections::BTreeSet;

use super::{Action, Install, UNITS, UnitStep, Write, is_wanted};
use crate::facts::{Facts, UnitFact};
use crate::inventory::Roles;
use crate::templates;

/// A host, and what happens to it before its units' turn.
pub(super) struct Before<'a> {
    pub(super) roles: Roles,
    pub(super) facts: &'a Facts,
    pub(super) installs: &'a [Install],
    pub(super) files: &'a [Write],
}

impl Before<'_> {
    /// The steps for all units, and what the operator should know of them.
    pub(super) fn steps(&self) -> (Vec<UnitStep>, Vec<String>) {
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        for (unit, package, _) in UNITS {
            steps.extend(self.unit(unit, package, &mut notes));
        }
        (steps, notes)
    }

    fn unit(&self, unit: &'static str, package: &str, notes: &mut Vec<String>) -> Vec<UnitStep> {
        let install = self.installs.iter().find(|install| install.package.name == package);
        let known = self.facts.units.get(unit).cloned().unwrap_or_default();
        let now = if !known.exists && install.is_some_and(|install| install.installed.is_none()) {
            // Packages enable their units when they are first installed, and start none.
            let active = "inactive".to_owned();
            UnitFact { exists: true, enabled: true, active, ..UnitFact::default() }
        } else {
            known
        };
        let mut steps = Vec::new();
        if !now.exists && install.is_none() {
            return steps;
        }
        // One that died and waits to be started again by systemd has failed, too.
        let failed = now.active == "failed" || now.sub == "auto-restart";
        let runs = !failed && !matches!(now.active.as_str(), "" | "inactive");
        let mut step = |action, why: String| steps.push(UnitStep { unit, action, why });
        if is_wanted(unit, self.roles) {
            if !now.enabled {
                step(Action::Enable, "it does not start at boot".to_owned());
            }
            if !runs {
                let why = if failed { "it failed" } else { "it does not run" };
                step(Action::Start, why.to_owned());
            } else if let Some(why) = self.unread(unit, package, install.is_some(), now.started_us)
            {
                step(Action::Restart, why);
            }
        } else if package == "mesos" {
            // The mesos package enables master and agent; a host that is only one of them has no use for the other.
            let role = if unit == "mesos-slave.service" { "agent" } else { "master" };
            if now.enabled {
                step(Action::Disable, format!("the host is no {role}"));
            }
            if runs || now.sub == "auto-restart" {
                step(Action::Stop, format!("the host is no {role}"));
            }
        } else if runs {
            notes.push(format!(
                "{unit} runs here though the host is no master: it is left alone, as it holds data; stop it by hand if it is not needed"
            ));
        }
        steps
    }

    /// Why a running unit must be restarted: what it was started from is not what it would be started from. That holds for
    /// what is about to change, and for what a run that was cut short, or a person, changed since the unit was started.
    fn unread(
        &self,
        unit: &str,
        package: &str,
        is_installed: bool,
        started_us: u64,
    ) -> Option<String> {
        let installed_us = self.facts.packages.get(package).map_or(0, |fact| fact.installed_us);
        if is_installed || installed_us > started_us {
            return Some(format!("{package} is upgraded"));
        }
        let written = self.files.iter().map(|write| write.file.path);
        let newer = self.facts.files.iter().filter(|(_, fact)| fact.written_us > started_us);
        let changed: BTreeSet<&str> = written
            .chain(newer.map(|(path, _)| path.as_str()))
            .filter(|path| templates::is_read_by(path, unit))
            .collect();
        let paths = changed.into_iter().collect::<Vec<_>>().join(", ");
        if paths.is_empty() { None } else { Some(format!("changed: {paths}")) }
    }
}
