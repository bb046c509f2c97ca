//! Giving programs to the kernel, by its one system call for that (bpf(2)). Libraries for it bring loaders, maps and
//! relocations; a list of devices needs none of these.

#![expect(unsafe_code, reason = "bpf(2) has no safe form in the libraries at hand")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use nix::libc;

use super::super::named;
use super::list::List;
use super::program::{Instruction, program};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const TYPE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACHED: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: what is below may have programs too; all have to allow.
const MULTI: u32 = 2;
/// Programs of one group, of which the kernel takes as many.
const PROGRAMS_MAX: usize = 64;
/// Where the list is kept, beside the program: it can't be read from that.
const LIST: &str = "trusted.mesos.devices";
/// Bytes of a list that are read.
const LIST_MAX: usize = 1 << 16;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    unused: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// One call. `T` is the part of `union bpf_attr` that the command reads, and the size tells the kernel so.
fn bpf<T>(command: libc::c_int, argument: &mut T) -> io::Result<RawFd> {
    // SAFETY: `argument` outlives the call, is as large as said, and the addresses in it, where it has some, are of
    // memory that its maker holds for the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, argument, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made it for this process, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut name = [0; 16];
    name[..12].copy_from_slice(b"meso_devices");
    let mut argument = Load {
        kind: TYPE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        name,
        ..Load::default()
    };
    bpf(PROG_LOAD, &mut argument).map(owned)
}

/// Whether this kernel can be asked.
///
/// # Errors
/// Why not.
pub(in super::super) fn probe() -> io::Result<()> {
    let loaded = load(&program(&List::default()));
    loaded.map(drop).map_err(|error| {
        let text =
            format!("devices can't be limited, for the kernel takes no program for it: {error}");
        io::Error::new(error.kind(), text)
    })
}

fn attached(group: &File) -> io::Result<Vec<u32>> {
    let mut ids = [0; PROGRAMS_MAX];
    let mut query = Query {
        target: group.as_raw_fd() as u32,
        kind: ATTACHED,
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS_MAX as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}

/// Has the kernel allow a group what a list does, and no longer what another did.
///
/// # Errors
/// What the kernel says, with the group.
pub(in super::super) fn set(directory: &Path, list: &List) -> io::Result<()> {
    let named = named(directory);
    let group = File::open(directory).map_err(&named)?;
    let before = attached(&group).map_err(&named)?;
    let program = load(&program(list)).map_err(&named)?;
    let mut attach = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACHED,
        flags: MULTI,
    };
    bpf(PROG_ATTACH, &mut attach).map_err(&named)?;
    // For a moment only what both allow: never more than either.
    for id in before {
        let Ok(old) = bpf(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() }) else { continue };
        let old = owned(old);
        attach = Attach { program: old.as_raw_fd() as u32, flags: 0, ..attach };
        bpf(PROG_DETACH, &mut attach).map_err(&named)?;
    }
    let text = list.to_string();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&group, LIST, text.as_bytes(), flags).map_err(|error| named(error.into()))
}

/// The list of a group from [`set`], also of an agent before.
pub(in super::super) fn get(directory: &Path) -> Option<String> {
    let mut text = vec![0; LIST_MAX];
    let size = rustix::fs::getxattr(directory, LIST, &mut text[..]).ok()?;
    text.truncate(size);
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::*;

    /// A group of version 2, where this machine has them and lets this process make one.
    struct Group(PathBuf);

    impl Group {
        fn make() -> Option<Self> {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            let mount = mounts.lines().find(|line| line.starts_with("cgroup2 "))?;
            let root = mount.split(' ').nth(1)?;
            let path = Path::new(root).join(format!("meso-devices-{}", std::process::id()));
            fs::create_dir(&path).ok().map(|()| Self(path))
        }

        /// Whether a process of the group can do something, in a shell's words.
        fn can(&self, what: &str) -> bool {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("read go && {what}")]).stdin(Stdio::piped());
            let mut shell = shell.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            fs::write(self.0.join("cgroup.procs"), shell.id().to_string()).unwrap();
            shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
            shell.wait().unwrap().success()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn processes_of_a_group_use_the_devices_of_its_list_and_no_others() {
        let group = Group::make().filter(|_| probe().is_ok());
        let Some(group) = group else {
            println!(
                "skipped, because no groups of version 2 can be made here, or none with a program"
            );
            return;
        };
        let (zero, null) = ("head -c 1 </dev/zero >/dev/null", "echo >/dev/null");
        assert!(group.can(zero) && group.can(null), "no list");
        let mut list = List::of(["c 1:3 rw"]);
        for (change, can_read_zero) in [("", false), ("c 1:5 r", true), ("c 1:5 rw", false)] {
            if can_read_zero {
                list.allow(change);
            } else {
                list.deny(change);
            }
            set(&group.0, &list).unwrap();
            assert!(group.can(null), "{change}");
            assert_eq!(group.can(zero), can_read_zero, "{change}");
            assert_eq!(get(&group.0), Some(list.to_string()));
            let directory = File::open(&group.0).unwrap();
            assert_eq!(attached(&directory).unwrap().len(), 1, "one program at a time");
        }
    }
}
