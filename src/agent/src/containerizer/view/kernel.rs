//! Making what a process sees, in its own mount namespace.
//!
//! The root is an image's, of which anything may be a symbolic link that leads anywhere: what is mounted in it is
//! mounted from inside, where no path leads out. What is mounted is opened before.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::{Mount, Root, Tree, View};

const NONE: Option<&str> = None;
/// Devices that a process has in a root of its own.
const DEVICES: &[&str] = &["full", "null", "random", "tty", "urandom", "zero"];
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// Parts of `/proc` that concern the whole host.
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Longest text of options that the kernel takes.
const OPTIONS_MAX: usize = 4000;

fn named<E: Into<io::Error>>(what: impl std::fmt::Display) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

/// A mount namespace of this process's own: what the host mounts is still seen, what is mounted here is not there.
///
/// # Errors
/// What the kernel says.
pub(in crate::containerizer) fn unshare_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(named("a mount namespace"))?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(NONE, "/", NONE, slave, NONE).map_err(named("mounts of its own"))
}

/// `/proc` of the process namespace that this process is in.
///
/// # Errors
/// What the kernel says.
pub(in crate::containerizer) fn mount_proc() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE).map_err(named("/proc"))
}

impl Tree {
    /// Mounts it if need be; where it is then.
    fn make(&self) -> io::Result<&Path> {
        let (lower, scratch, root) = match self {
            Self::Directory(path) | Self::Secret(path) => return Ok(path),
            Self::Layers { lower, scratch, root } => (lower, scratch, root),
        };
        // Paths of many layers are longer than the kernel's page: they are named from where short links to them are.
        let links = scratch.join("links");
        let mut names = Vec::new();
        for (number, layer) in lower.iter().enumerate() {
            let link = links.join(number.to_string());
            match symlink(layer, &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(named(link.display())(error));
                }
                _ => names.push(number.to_string()),
            }
        }
        names.reverse();
        let options =
            format!("lowerdir={},upperdir=../upperdir,workdir=../workdir", names.join(":"));
        if options.len() > OPTIONS_MAX {
            return Err(io::Error::other("too many layers for overlayfs"));
        }
        let before = open(".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        chdir(&links)?;
        let mounted =
            mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(&*options));
        fchdir(before)?;
        mounted.map_err(named(format_args!("overlayfs on {}", root.display())))?;
        Ok(root)
    }
}

/// A mount whose source is open.
struct Opened<'a> {
    own: &'a Mount,
    source: OwnedFd,
    is_directory: bool,
}

fn opened(own: &Mount) -> io::Result<Opened<'_>> {
    let path = own.source.make()?;
    let source = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(named(path.display()))?;
    let is_directory = fs::metadata(path).map_err(named(path.display()))?.is_dir();
    Ok(Opened { own, source, is_directory })
}

fn bind(source: &OwnedFd, target: &Path, is_read_only: bool) -> io::Result<()> {
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from.as_str()), target, NONE, flags, NONE).map_err(named(target.display()))?;
    if is_read_only {
        // What the host forbids there already must be said again.
        let held = rustix::fs::statvfs(target)?.f_flag;
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for (flag, own) in [
            (rustix::fs::StatVfsMountFlags::NOSUID, MsFlags::MS_NOSUID),
            (rustix::fs::StatVfsMountFlags::NODEV, MsFlags::MS_NODEV),
            (rustix::fs::StatVfsMountFlags::NOEXEC, MsFlags::MS_NOEXEC),
        ] {
            flags.set(own, held.contains(flag));
        }
        mount(NONE, target, NONE, flags, NONE).map_err(named(target.display()))?;
    }
    Ok(())
}

/// Makes what something can be mounted on, as far as it is not there.
fn make_target(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return fs::create_dir_all(path).map_err(named(path.display()));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(named(parent.display()))?;
    }
    if fs::metadata(path).is_err() {
        File::create(path).map_err(named(path.display()))?;
    }
    Ok(())
}

/// As [`make_target`], below a sandbox on the host: never through a link, which a task may have made.
fn make_below(sandbox: &Path, path: &Path, is_directory: bool) -> io::Result<PathBuf> {
    let mut at = sandbox.to_owned();
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(io::Error::other(format!("'{}' is not below the sandbox", path.display())));
        };
        at.push(name);
        let is_last = parts.peek().is_none();
        let made = if is_last && !is_directory {
            File::create_new(&at).map(drop)
        } else {
            fs::create_dir(&at)
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&at)?;
                if found.is_symlink() || found.is_dir() != (is_directory || !is_last) {
                    let text = format!("'{}' can't be mounted on", at.display());
                    return Err(io::Error::other(text));
                }
            }
            made => made.map_err(named(at.display()))?,
        }
    }
    Ok(at)
}

/// Takes secrets from their files into memory that only this namespace sees, under the same paths.
fn take_secrets<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    let mut taken = Vec::new();
    for path in paths {
        let content = fs::read(path).map_err(named(path.display()))?;
        taken.push((path, content, fs::metadata(path)?));
        fs::remove_file(path).map_err(named(path.display()))?;
    }
    let Some(directory) = taken.first().and_then(|(path, _, _)| path.parent()) else {
        return Ok(());
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // It is never swapped, which tmpfs might be.
    mount(Some("ramfs"), directory, Some("ramfs"), flags, Some("mode=0700"))
        .map_err(named(directory.display()))?;
    for (path, content, was) in taken {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&content)?;
        fchown(&file, Some(was.uid()), Some(was.gid()))?;
    }
    Ok(())
}

impl View {
    /// Has this process see it. It begins in the right directory then.
    ///
    /// # Errors
    /// What the kernel says, and of what.
    pub fn enter(&self) -> io::Result<()> {
        unshare_mounts()?;
        take_secrets(self.mounts.iter().filter_map(|own| match &own.source {
            Tree::Secret(path) => Some(path.as_path()),
            _ => None,
        }))?;
        match &self.root {
            Some(root) => self.enter_root(root),
            None => self.mount_on_host(),
        }
    }

    fn mount_on_host(&self) -> io::Result<()> {
        for own in &self.mounts {
            let Opened { source, is_directory, .. } = opened(own)?;
            let target = if own.target.is_absolute() {
                own.target.clone()
            } else {
                make_below(&self.sandbox, &own.target, is_directory)?
            };
            bind(&source, &target, own.is_read_only)?;
        }
        // The sandbox may be mounted on: what is seen from now on is.
        chdir(&self.sandbox).map_err(named(self.sandbox.display()))
    }

    fn enter_root(&self, root: &Root) -> io::Result<()> {
        let directory = root.tree.make()?;
        // What becomes the root must be mounted.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(directory), directory, NONE, flags, NONE).map_err(named(directory.display()))?;
        let sandbox = Mount {
            source: Tree::Directory(self.sandbox.clone()),
            target: root.sandbox_directory.clone(),
            is_read_only: false,
        };
        let all = std::iter::once(&sandbox).chain(&self.mounts).map(opened);
        let all = all.collect::<io::Result<Vec<_>>>()?;
        let devices = DEVICES.iter().map(|name| {
            let path = Path::new("/dev").join(name);
            let device = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            Ok((path.clone(), device.map_err(named(path.display()))?))
        });
        let devices = devices.collect::<io::Result<Vec<_>>>()?;
        let host = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        chdir(directory).and_then(|()| chroot(".")).map_err(named("chroot"))?;
        mount_system(&devices)?;
        for Opened { own, source, is_directory } in &all {
            // One that is absolute stays as it is.
            let target = Path::new("/").join(&root.sandbox_directory).join(&own.target);
            make_target(&target, *is_directory)?;
            bind(source, &target, own.is_read_only)?;
        }
        make_target(&root.directory, true)?;
        // From the host's root once more, so that it can be left for good.
        fchdir(host)?;
        chroot(".")?;
        chdir(directory)?;
        pivot_root(".", ".").map_err(named("pivot_root"))?;
        umount2(".", MntFlags::MNT_DETACH).map_err(named("the host's root"))?;
        chdir("/")?;
        chdir(&root.directory).map_err(named(root.directory.display()))
    }
}

/// `/proc`, `/sys` and `/dev` in a root that this process is in.
fn mount_system(devices: &[(PathBuf, OwnedFd)]) -> io::Result<()> {
    let closed = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    for path in ["/proc", "/sys", "/dev"] {
        make_target(Path::new(path), true)?;
    }
    mount_proc()?;
    for name in READ_ONLY {
        let path = Path::new("/proc").join(name);
        let Ok(source) = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) else {
            continue; // This kernel has none of it.
        };
        bind(&source, &path, true)?;
    }
    let read_only = closed | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), "/sys", Some("sysfs"), read_only, NONE).map_err(named("/sys"))?;
    if Path::new("/sys/fs/cgroup").is_dir() {
        mount(Some("tmpfs"), "/sys/fs/cgroup", Some("tmpfs"), closed, Some("mode=755"))
            .map_err(named("/sys/fs/cgroup"))?;
    }
    let open_to_devices = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_STRICTATIME;
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), open_to_devices, Some("mode=755"))
        .map_err(named("/dev"))?;
    for path in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(path).map_err(named(path))?;
    }
    let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some(terminals))
        .map_err(named("/dev/pts"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_STRICTATIME;
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), flags, Some("mode=1777"))
        .map_err(named("/dev/shm"))?;
    for (path, device) in devices {
        File::create(path).map_err(named(path.display()))?;
        bind(device, path, false)?;
    }
    for (target, link) in DEVICE_LINKS {
        symlink(target, link).map_err(named(link))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_on_is_made_below_the_sandbox_and_not_through_links() {
        let directory = tempfile::TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("sandbox")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        let make =
            |path: &str, is_directory| make_below(&at("sandbox"), Path::new(path), is_directory);
        assert_eq!(make("a/b", true).unwrap(), at("sandbox/a/b"));
        assert!(make("a/b", true).is_ok(), "it may be there");
        assert_eq!(make("a/file", false).unwrap(), at("sandbox/a/file"));
        assert!(make("a/file", true).is_err() && make("a/b", false).is_err());
        symlink(at("outside"), at("sandbox/link")).unwrap();
        for path in ["link/x", "link", "../outside/x", "a/../../outside"] {
            assert!(make(path, true).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
    }
}
