//! GPUs of NVIDIA's (the original's `gpu/nvidia`): which there are, and which containers have them, each one container's.
//!
//! The original asks the driver's own library how many there are. Here they are counted by their device files,
//! `/dev/nvidia0` and so on: the number in the name is what `--nvidia_gpu_devices` means. A container reaches its own
//! through the whitelist of its cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::devices;

/// What every container with a GPU needs, and what it may have if it is there.
const CONTROLS: [&str; 2] = ["nvidiactl", "nvidia-uvm"];
const MORE_CONTROLS: &str = "nvidia-uvm-tools";

/// A device of characters: its major and its minor number.
type Device = (u64, u64);

/// The GPUs that containers may have.
#[derive(Debug, Default)]
pub struct Gpus {
    all: BTreeSet<Device>,
    /// What the driver is reached by, in the kernel's form.
    controls: Vec<String>,
    /// Where device files are.
    directory: PathBuf,
    held: Mutex<BTreeMap<String, BTreeSet<Device>>>,
}

/// What is to be changed in a container's whitelist, in the kernel's form.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What it may use from now on.
    pub allowed: Vec<String>,
    /// What it may not any more.
    pub denied: Vec<String>,
}

/// The GPUs of a directory of device files, by number.
pub fn find(directory: &Path) -> BTreeMap<u32, PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let gpus = entries.filter_map(|entry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("nvidia")?.parse().ok()?;
        devices::numbers(&entry.path()).ok().filter(|(is_char, ..)| *is_char)?;
        Some((number, entry.path()))
    });
    gpus.collect()
}

/// All device files of the driver in a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of_driver = entries.filter(|entry| entry.file_name().as_bytes().starts_with(b"nvidia"));
    let mut files: Vec<PathBuf> = of_driver.map(|entry| entry.path()).collect();
    // What is no device, as the directory of capabilities, is none of them.
    files.retain(|path| devices::numbers(path).is_ok_and(|(is_char, ..)| is_char));
    files.sort();
    files
}

/// How many GPUs an agent offers, of which the numbers are `chosen` by an operator or all: `given` is what he says of it in
/// `--resources`, `found` what there is (`enumerateGpuResources`).
///
/// # Errors
/// What does not fit together, in the original's words.
pub fn offered(given: Option<f64>, chosen: Option<&[u32]>, found: usize) -> Result<usize, String> {
    let refused = |text: &str| Err(text.to_owned());
    match (given, chosen) {
        (Some(0.0), Some(_)) => refused(
            "'--nvidia_gpus_devices' cannot be specified when '--resources' specifies 0 GPUs",
        ),
        (Some(0.0), None) => Ok(0),
        (None, Some(_)) => refused(
            "'--nvidia_gpus_devices' cannot be set without also setting 'gpus' in '--resources'",
        ),
        (Some(_), None) => {
            refused("The `gpus` resource cannot be set without also setting `--nvidia_gpu_devices`")
        }
        (None, None) => Ok(found),
        (Some(given), Some(_)) if given.fract() != 0.0 || given < 0.0 => {
            refused("The 'gpus' resource must be an non-negative integer")
        }
        (Some(given), Some(chosen)) => {
            let unique: BTreeSet<&u32> = chosen.iter().collect();
            if unique.len() != chosen.len() {
                return refused("'--nvidia_gpu_devices' contains duplicates");
            }
            if chosen.len() as f64 != given {
                return refused(
                    "'--resources' and '--nvidia_gpu_devices' specify different numbers of GPU devices",
                );
            }
            if chosen.len() > found {
                return refused(
                    "The number of GPUs requested is greater than the number of GPUs available on the machine",
                );
            }
            Ok(chosen.len())
        }
    }
}

impl Gpus {
    /// The GPUs of these numbers in a directory of device files, or all.
    ///
    /// # Errors
    /// Which device is missing.
    pub fn open(directory: &Path, chosen: Option<&[u32]>) -> Result<Self, String> {
        let found = find(directory);
        let mut paths = Vec::new();
        for number in chosen.map_or_else(|| found.keys().copied().collect(), <[u32]>::to_vec) {
            let path = found.get(&number);
            paths.push(path.ok_or_else(|| {
                format!("--nvidia_gpu_devices: there is no {}/nvidia{number}", directory.display())
            })?);
        }
        let device = |path: &Path| devices::numbers(path).map(|(_, major, minor)| (major, minor));
        let all = paths.into_iter().map(|path| device(path)).collect::<Result<_, _>>()?;
        let mut own = Self { all, directory: directory.to_owned(), ..Self::default() };
        if own.all.is_empty() {
            return Ok(own);
        }
        let more = directory.join(MORE_CONTROLS);
        let controls = CONTROLS.iter().map(|name| directory.join(name));
        for path in controls.chain(more.exists().then_some(more)) {
            let (major, minor) = device(&path)?;
            own.controls.push(format!("c {major}:{minor} rwm"));
        }
        Ok(own)
    }

    /// What a container with a root of its own is to find of the driver in `/dev`: all of it, as in the original, though
    /// of the GPUs it may use only its own.
    pub fn files(&self) -> Vec<PathBuf> {
        if self.all.is_empty() { Vec::new() } else { files(&self.directory) }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<Device>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a container has from the agent before: `list` is its whitelist, a line each.
    pub fn keep(&self, container: &str, list: &str) {
        let is_listed = |(major, minor): &Device| {
            let own = format!("{major}:{minor}");
            list.lines().any(|line| line.split_whitespace().nth(1) == Some(&own))
        };
        let own: BTreeSet<Device> = self.all.iter().copied().filter(is_listed).collect();
        if !own.is_empty() {
            self.held().insert(container.to_owned(), own);
        }
    }

    /// Gives a container so many GPUs, or takes what it has beyond that.
    ///
    /// # Errors
    /// When there are not as many, or it is no number of GPUs.
    pub fn assign(&self, container: &str, wanted: f64) -> Result<Change, String> {
        if wanted < 0.0 || wanted.fract() != 0.0 {
            return Err("The 'gpus' resource must be an unsigned integer".to_owned());
        }
        let wanted = wanted as usize;
        let mut held = self.held();
        let taken: BTreeSet<Device> = held.values().flatten().copied().collect();
        let own = held.entry(container.to_owned()).or_default();
        let mut change = Change::default();
        let line = |(major, minor): Device| format!("c {major}:{minor} rw");
        while own.len() > wanted {
            change.denied.extend(own.pop_last().map(line));
        }
        let missing = wanted - own.len();
        let free: Vec<Device> = self.all.difference(&taken).copied().collect();
        if free.len() < missing {
            let free = free.len();
            return Err(format!("Requested {missing} gpus but only {free} available"));
        }
        for device in free.into_iter().take(missing) {
            own.insert(device);
            change.allowed.push(line(device));
        }
        Ok(change)
    }

    /// What every container may use of the driver, in the kernel's form.
    pub fn controls(&self) -> &[String] {
        &self.controls
    }

    /// A container is gone.
    pub fn free(&self, container: &str) {
        self.held().remove(container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Gpus {
        Gpus { all: [(195, 0), (195, 1)].into(), ..Gpus::default() }
    }

    #[test]
    fn a_gpu_is_one_containers_until_that_gives_it_back() {
        let gpus = two();
        gpus.keep("before", "c 1:3 rwm\nc 195:0 rw\n");
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let first = gpus.assign("a", 1.0).unwrap();
        assert_eq!(first, Change { allowed: lines(&["c 195:1 rw"]), denied: Vec::new() });
        assert_eq!(gpus.assign("a", 1.0), Ok(Change::default()), "it has it");
        assert_eq!(gpus.assign("b", 1.0).unwrap_err(), "Requested 1 gpus but only 0 available");
        gpus.free("before");
        assert_eq!(gpus.assign("a", 2.0).unwrap().allowed, lines(&["c 195:0 rw"]));
        assert_eq!(gpus.assign("a", 0.0).unwrap().denied, lines(&["c 195:1 rw", "c 195:0 rw"]));
        assert_eq!(
            gpus.assign("b", 0.5).unwrap_err(),
            "The 'gpus' resource must be an unsigned integer"
        );
    }

    #[test]
    fn flags_and_what_there_is_must_fit_together() {
        for (given, chosen, found, expected) in [
            (None, None, 2, Ok(2)),
            (Some(0.0), None, 2, Ok(0)),
            (Some(1.0), Some(&[1][..]), 2, Ok(1)),
            (Some(0.0), Some(&[1]), 2, Err("specifies 0 GPUs")),
            (None, Some(&[1]), 2, Err("without also setting 'gpus'")),
            (Some(1.0), None, 2, Err("without also setting `--nvidia_gpu_devices`")),
            (Some(0.5), Some(&[1]), 2, Err("non-negative integer")),
            (Some(2.0), Some(&[1, 1]), 2, Err("contains duplicates")),
            (Some(2.0), Some(&[1]), 2, Err("different numbers")),
            (Some(2.0), Some(&[0, 1]), 1, Err("greater than the number of GPUs available")),
        ] {
            match (offered(given, chosen, found), expected) {
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                (Ok(count), expected) => assert_eq!(Ok(count), expected),
                (Err(text), Ok(_)) => panic!("{text}"),
            }
        }
    }

    #[test]
    fn what_is_no_device_is_no_gpu() {
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(directory.path().join("nvidia0"), "").unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.path().join("nvidia1")).unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.path().join("nvidiactl")).unwrap();
        let found: Vec<u32> = find(directory.path()).into_keys().collect();
        assert_eq!(found, [1]);
        let text = Gpus::open(directory.path(), None).unwrap_err();
        assert!(text.starts_with("Failed to obtain device ID for '"), "{text}");
        assert!(text.contains("nvidia-uvm"), "{text}");
        std::os::unix::fs::symlink("/dev/zero", directory.path().join("nvidia-uvm")).unwrap();
        let gpus = Gpus::open(directory.path(), None).unwrap();
        assert_eq!(gpus.controls(), ["c 1:3 rwm", "c 1:5 rwm"]);
        assert_eq!(gpus.assign("a", 1.0).unwrap().allowed, ["c 1:3 rw"]);
        assert!(Gpus::open(directory.path(), Some(&[7])).unwrap_err().contains("nvidia7"));
        let none = Gpus::open(Path::new("/proc/self"), None).unwrap();
        assert!(none.controls().is_empty(), "no GPU, no driver");
    }

    #[test]
    fn an_image_finds_the_devices_of_the_driver() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        // Devices like any others: who may make some is root.
        let names = ["nvidia-uvm", "nvidia0", "nvidiactl"];
        for (name, device) in names.into_iter().zip(["/dev/zero", "/dev/null", "/dev/full"]) {
            symlink(device, at(name)).unwrap();
        }
        std::fs::create_dir(at("nvidia-caps")).unwrap();
        std::fs::write(at("nvidia1"), "").unwrap();
        symlink("/dev/null", at("null")).unwrap();
        let gpus = Gpus::open(directory.path(), None).unwrap();
        assert_eq!(gpus.files(), names.map(at));
        assert_eq!(Gpus::default().files(), [""; 0].map(PathBuf::from));
    }
}
