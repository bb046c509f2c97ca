//! The devices that containers may use (the original's `cgroups/devices`): a few that every program expects, and those
//! that an operator allows. Version 1 of cgroups has a list of them for each group, version 2 asks a program.

mod kernel;
mod list;
mod program;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use mesos::v1;
use nix::sys::stat::{major, minor};

pub(super) use kernel::{get, probe, set};
pub(super) use list::List;

/// All devices, with all that may be done to one.
pub(super) const ALL: &str = "a *:* rwm";
/// What every container may do, in the kernel's form: kind, numbers, and reading, writing, making.
const COMMON: &[&str] = &[
    "c *:* m",
    "b *:* m",
    "c 5:1 rwm",    // console
    "c 4:0 rwm",    // tty0
    "c 4:1 rwm",    // tty1
    "c 136:* rwm",  // pts/*
    "c 5:2 rwm",    // ptmx
    "c 10:200 rwm", // net/tun
    "c 1:3 rwm",    // null
    "c 1:5 rwm",    // zero
    "c 1:7 rwm",    // full
    "c 5:0 rwm",    // tty
    "c 1:9 rwm",    // urandom
    "c 1:8 rwm",    // random
];

/// The numbers of a device file: whether it is one of characters, its major and its minor number.
///
/// # Errors
/// What the system says, or that it is no device.
pub(super) fn numbers(path: &Path) -> Result<(bool, u64, u64), String> {
    let name = path.display();
    let metadata = fs::metadata(path)
        .map_err(|error| format!("Failed to obtain device ID for '{name}': {error}"))?;
    let (kind, number) = (metadata.file_type(), metadata.rdev());
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(format!("Failed to determine device type for '{name}'"));
    }
    Ok((kind.is_char_device(), major(number), minor(number)))
}

/// What containers may do on this host, in the kernel's form.
///
/// # Errors
/// What is wrong with what an operator allows.
pub fn allowed(more: Option<&v1::DeviceWhitelist>) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = COMMON.iter().map(|line| (*line).to_owned()).collect();
    for own in more.into_iter().flat_map(|more| &more.allowed_devices) {
        let path = own.device.path.as_deref();
        let path = path.ok_or("Whitelisted device has no device path provided")?;
        let access = &own.access;
        let signs = [('r', access.read()), ('w', access.write()), ('m', access.mknod())];
        let signs: String = signs.iter().filter(|(_, may)| *may).map(|(sign, _)| *sign).collect();
        if signs.is_empty() {
            return Err(format!(
                "Could not whitelist device '{path}' without any access privileges"
            ));
        }
        let (is_char, major, minor) = numbers(Path::new(path))?;
        let kind = if is_char { 'c' } else { 'b' };
        all.push(format!("{kind} {major}:{minor} {signs}"));
    }
    Ok(all)
}

/// Whether groups of version 2 can be limited to some devices on this kernel.
pub fn can_be_limited() -> bool {
    probe().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::json::{self, Dialect};

    #[test]
    fn operators_allow_devices_by_their_paths() {
        let of = |text: &str| {
            let list = json::from_slice(text.as_bytes(), Dialect::V0).unwrap();
            allowed(Some(&list))
        };
        let null = r#"{"allowed_devices": [{"device": {"path": "/dev/null"}, "access": {"read": true, "mknod": true}}]}"#;
        assert_eq!(of(null).unwrap().last().unwrap(), "c 1:3 rm");
        assert_eq!(allowed(None).unwrap().len(), COMMON.len());
        for (text, expected) in [
            (r#"{"device": {}, "access": {"read": true}}"#, "has no device path"),
            (r#"{"device": {"path": "/dev/null"}, "access": {}}"#, "without any access privileges"),
            (r#"{"device": {"path": "/"}, "access": {"read": true}}"#, "device type for '/'"),
            (
                r#"{"device": {"path": "/no/such"}, "access": {"read": true}}"#,
                "'/no/such': No such",
            ),
        ] {
            let text = of(&format!(r#"{{"allowed_devices": [{text}]}}"#)).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }
}
