//! What a container has of cgroups beside limits: its devices, its GPUs, the mark of its packets.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mesos::resources::Resources;

use super::gpus::{Change, Gpus};
use super::handles::Handles;
use super::perf::Perf;
use super::tree::place;
use super::{Cgroups, Controller, Mounted, devices, inherit_processors, write};

fn is_nested(container: &str) -> bool {
    container.contains('.')
}

/// What goes by more than a container's resources.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// What containers may do to devices, in the kernel's form.
    pub devices: Vec<String>,
    /// The GPUs that they may have.
    pub gpus: Option<Arc<Gpus>>,
    /// The marks of their packets; without, operators give them.
    pub handles: Option<Arc<Handles>>,
    /// What is counted of the processors' events, if anything.
    pub perf: Option<Arc<Perf>>,
}

impl Extras {
    /// A container is gone.
    pub(super) fn free(&self, container: &str) {
        if let Some(handles) = &self.handles {
            handles.free(container);
        }
        if let Some(gpus) = &self.gpus {
            gpus.free(container);
        }
    }
}

impl Cgroups {
    /// With what goes by more than resources; what containers of the agent before have of it stays theirs.
    #[must_use]
    pub fn with(self, extras: Extras) -> Self {
        let of = |controller, container: &str, name: &str| {
            let root = self.v1(controller)?;
            fs::read_to_string(place(root, container).join(name)).ok()
        };
        for container in self.all_containers() {
            let handle = of(Controller::NetCls, &container, "net_cls.classid");
            let handle = handle.and_then(|text| text.trim().parse().ok());
            if let (Some(handles), Some(handle @ 1..)) = (&extras.handles, handle) {
                handles.keep(&container, handle);
            }
            let list = match &self.mounted {
                Mounted::V1(_) => of(Controller::Devices, &container, "devices.list"),
                Mounted::V2(root) => devices::get(&place(root, &container)),
            };
            let list = list.filter(|_| !is_nested(&container));
            if let (Some(gpus), Some(list)) = (&extras.gpus, list) {
                gpus.keep(&container, &list);
            }
        }
        Self { extras, ..self }
    }

    /// Device files that a container with a root of its own is to find there.
    pub fn device_files(&self) -> Vec<PathBuf> {
        self.extras.gpus.as_ref().map(|gpus| gpus.files()).unwrap_or_default()
    }

    pub(super) fn prepare_extras(&self, container: &str) -> io::Result<()> {
        if let Some(cpuset) = self.v1(Controller::Cpuset) {
            let own = place(cpuset, container);
            if let Some(above) = own.parent().filter(|_| is_nested(container)) {
                inherit_processors(above)?;
            }
            inherit_processors(&own)?;
        }
        // A nested one has the devices, and the GPUs among them, of what it is nested in.
        if self.limits.devices && !is_nested(container) {
            let controls = self.extras.gpus.iter().flat_map(|gpus| gpus.controls());
            let lines = self.extras.devices.iter().chain(controls);
            match &self.mounted {
                Mounted::V1(_) => {
                    let file = |name| self.file(container, (Controller::Devices, name), name);
                    write(&file("devices.deny"), devices::ALL)?;
                    for line in lines {
                        write(&file("devices.allow"), line)?;
                    }
                }
                Mounted::V2(root) => {
                    let list = devices::List::of(lines.map(String::as_str));
                    devices::set(&place(root, container), &list)?;
                }
            }
        }
        if let (Some(net_cls), Some(handles)) = (self.v1(Controller::NetCls), &self.extras.handles)
        {
            let handle = handles.take(container).map_err(io::Error::other)?;
            write(&place(net_cls, container).join("net_cls.classid"), &handle.to_string())?;
        }
        Ok(())
    }

    /// Gives a container the GPUs among its resources.
    pub(super) fn assign_gpus(&self, container: &str, resources: &Resources) -> io::Result<()> {
        let Some(gpus) = self.extras.gpus.as_ref().filter(|_| self.limits.devices) else {
            return Ok(());
        };
        if is_nested(container) {
            return Ok(());
        }
        let Change { allowed, denied } =
            gpus.assign(container, resources.gpus()).map_err(io::Error::other)?;
        if allowed.is_empty() && denied.is_empty() {
            return Ok(());
        }
        match &self.mounted {
            Mounted::V1(_) => {
                for (name, lines) in [("devices.allow", allowed), ("devices.deny", denied)] {
                    let path = self.file(container, (Controller::Devices, name), name);
                    lines.iter().try_for_each(|line| write(&path, line))?;
                }
                Ok(())
            }
            Mounted::V2(root) => {
                let own = place(root, container);
                let text = devices::get(&own).unwrap_or_default();
                let mut list = devices::List::of(text.lines());
                for line in &allowed {
                    list.allow(line);
                }
                for line in &denied {
                    list.deny(line);
                }
                devices::set(&own, &list)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::resource_limits::ResourceLimits;
    use super::super::Limits;
    use super::*;

    fn resources(text: &str) -> Resources {
        Resources::parse(text, "*").unwrap()
    }

    #[test]
    fn containers_have_their_marks_devices_and_processors() {
        let hierarchy = tempfile::TempDir::new().unwrap();
        let at = |file: &str| hierarchy.path().join(file);
        fs::create_dir_all(at("cpuset")).unwrap();
        for name in ["cpus", "mems"] {
            fs::write(at(&format!("cpuset/cpuset.{name}")), "0-1\n").unwrap();
        }
        let limits = Limits { cpuset: true, devices: true, net_cls: true, ..Limits::default() };
        let cgroups = || Cgroups::prepare(hierarchy.path(), "mesos", limits).unwrap();
        let extras = || Extras {
            devices: vec!["c 1:3 rwm".to_owned()],
            handles: Some(Arc::new(Handles::parse("2", Some("1,1")).unwrap())),
            gpus: Some(Arc::default()),
            perf: None,
        };
        let first = cgroups().with(extras());
        first.create("c", &resources("cpus:1"), &ResourceLimits::default()).unwrap();
        for (file, expected) in [
            ("cpuset/mesos/c/cpuset.cpus", "0-1"),
            ("devices/mesos/c/devices.deny", "a *:* rwm"),
            ("devices/mesos/c/devices.allow", "c 1:3 rwm"),
            ("net_cls/mesos/c/net_cls.classid", "131073"),
        ] {
            assert_eq!(fs::read_to_string(at(file)).unwrap(), expected, "{file}");
        }
        // The next agent knows whose the one mark is.
        let next = cgroups().with(extras());
        let create = |container: &str, asked: &str| {
            let created = next.create(container, &resources(asked), &ResourceLimits::default());
            created.map_err(|error| error.to_string())
        };
        let text = create("d", "cpus:1").unwrap_err();
        assert!(text.contains("No free handles remaining for primary handle 0x2"), "{text}");
        next.destroy("c");
        create("d", "cpus:1").unwrap();
        let text = create("e", "gpus:1").unwrap_err();
        assert!(text.contains("No free handles"), "{text}");
        next.destroy("d");
        let text = create("e", "gpus:1").unwrap_err();
        assert_eq!(text, "Requested 1 gpus but only 0 available");
    }
}
