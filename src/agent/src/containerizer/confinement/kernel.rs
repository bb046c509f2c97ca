//! Giving it up: the system calls, in the order in which each is still allowed (`launcher`, `linux/capabilities.cpp`).

#![expect(
    unsafe_code,
    reason = "capset and these prctls have no safe form in the libraries at hand"
)]

use std::fs;
use std::io;

use mesos::v1::r_limit_info::r_limit::Type;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::{Confinement, Ipc, Limit, seccomp};

/// The version of `capset` with 64 bits.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Where shared memory is.
const SHARED_MEMORY: &str = "/dev/shm";

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn checked(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn prctl(option: libc::c_int, argument: libc::c_ulong, more: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used here take numbers only: no memory is passed.
    checked(unsafe { libc::prctl(option, argument, more, 0, 0) }.into())
}

/// The capabilities that this kernel knows, as bits.
fn known() -> u64 {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    let last: Option<u32> = last.ok().and_then(|text| text.trim().parse().ok());
    // CAP_AUDIT_READ, the last of those that messages name.
    let last = last.unwrap_or(37).min(63);
    u64::MAX >> (63 - last)
}

fn each(bits: u64) -> impl Iterator<Item = libc::c_ulong> {
    (0..64).filter(move |number| bits >> number & 1 == 1)
}

fn get() -> io::Result<[Sets; 2]> {
    let mut header = Header { version: CAPABILITY_VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: both outlive the call and are what this version of it reads and writes: a header and two sets.
    checked(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    Ok(sets)
}

fn set(sets: [Sets; 2]) -> io::Result<()> {
    let mut header = Header { version: CAPABILITY_VERSION, pid: 0 };
    // SAFETY: as for `capget`; the sets are only read.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })
}

fn resource(kind: Type) -> Option<Resource> {
    Some(match kind {
        Type::Unknown => return None,
        Type::RlmtAs => Resource::RLIMIT_AS,
        Type::RlmtCore => Resource::RLIMIT_CORE,
        Type::RlmtCpu => Resource::RLIMIT_CPU,
        Type::RlmtData => Resource::RLIMIT_DATA,
        Type::RlmtFsize => Resource::RLIMIT_FSIZE,
        Type::RlmtLocks => Resource::RLIMIT_LOCKS,
        Type::RlmtMemlock => Resource::RLIMIT_MEMLOCK,
        Type::RlmtMsgqueue => Resource::RLIMIT_MSGQUEUE,
        Type::RlmtNice => Resource::RLIMIT_NICE,
        Type::RlmtNofile => Resource::RLIMIT_NOFILE,
        Type::RlmtNproc => Resource::RLIMIT_NPROC,
        Type::RlmtRss => Resource::RLIMIT_RSS,
        Type::RlmtRtprio => Resource::RLIMIT_RTPRIO,
        Type::RlmtRttime => Resource::RLIMIT_RTTIME,
        Type::RlmtSigpending => Resource::RLIMIT_SIGPENDING,
        Type::RlmtStack => Resource::RLIMIT_STACK,
    })
}

/// Programs that the kernel asks of each system call.
pub struct Filters(Vec<seccompiler::BpfProgram>);

impl Filters {
    /// Loads them: from now on they count.
    fn load(&self) -> io::Result<()> {
        for program in &self.0 {
            let length = u16::try_from(program.len()).map_err(io::Error::other)?;
            let program =
                libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
            // SAFETY: the program outlives the call, is as long as it is said to be, and is only read.
            checked(unsafe {
                libc::syscall(
                    libc::SYS_prctl,
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER as libc::c_ulong,
                    &raw const program,
                    0,
                    0,
                )
            })
            .map_err(|error| io::Error::new(error.kind(), format!("seccomp: {error}")))?;
        }
        Ok(())
    }
}

impl Confinement {
    /// Reads the profile of system calls, which may not be there any more when the rest is given up.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn filters(&self) -> Result<Filters, String> {
        let capabilities = self.bounding.or(self.effective).unwrap_or(u64::MAX) & known();
        let filters = self.profile.as_ref().map(|path| seccomp::load(path, capabilities));
        Ok(Filters(filters.transpose()?.unwrap_or_default()))
    }

    /// What only root may do, before the process becomes another user.
    ///
    /// # Errors
    /// What the kernel says, and of what.
    pub fn before_user(&self, filters: &Filters) -> io::Result<()> {
        let of = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        for Limit { kind, range } in &self.limits {
            let name = kind.as_str_name();
            let resource = resource(*kind).ok_or_else(|| io::Error::other("unknown rlimit"))?;
            let (soft, hard) = range.unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
            setrlimit(resource, soft, hard).map_err(|error| of(name)(error.into()))?;
        }
        match self.ipc {
            None => {}
            Some(Ipc::Objects) => {
                let own = unshare(CloneFlags::CLONE_NEWIPC).map_err(io::Error::from);
                own.map_err(of("an IPC namespace"))?;
            }
            Some(Ipc::WithMemory(size)) => {
                own_shared_memory(size).map_err(of("a private IPC namespace"))?;
            }
        }
        if let Some(bounding) = self.bounding {
            for capability in each(known() & !bounding) {
                prctl(libc::PR_CAPBSET_DROP, capability, 0).map_err(of("bounding capabilities"))?;
            }
        }
        if self.effective.is_some() {
            nix::sys::prctl::set_keepcaps(true)?;
        }
        if !self.has_no_new_privileges {
            // Later it might not be let.
            filters.load()?;
        }
        Ok(())
    }

    /// The rest, when it has become the user.
    ///
    /// # Errors
    /// What the kernel says, and of what.
    pub fn after_user(&self, filters: &Filters) -> io::Result<()> {
        let of = |error: io::Error| io::Error::new(error.kind(), format!("capabilities: {error}"));
        if let Some(bits) = self.effective.map(|bits| bits & known()) {
            let half = |bits: u64| {
                let bits = bits as u32;
                Sets { effective: bits, permitted: bits, inheritable: bits }
            };
            set([half(bits), half(bits >> 32)]).map_err(of)?;
            for capability in each(bits) {
                let raised = prctl(
                    libc::PR_CAP_AMBIENT,
                    libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
                    capability,
                );
                match raised {
                    // Linux 3.10 has none of these: there only root keeps what it has.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                    raised => raised.map_err(of)?,
                }
            }
        } else if let Some(bounding) = self.bounding {
            // What files of programs grant goes by this.
            let mut sets = get().map_err(of)?;
            for (half, own) in sets.iter_mut().enumerate() {
                own.inheritable &= (bounding >> (32 * half)) as u32;
            }
            set(sets).map_err(of)?;
        }
        if self.has_no_new_privileges {
            nix::sys::prctl::set_no_new_privs()?;
            filters.load()?;
        }
        Ok(())
    }
}

/// IPC objects and shared memory that nobody else sees; `size` is in bytes.
fn own_shared_memory(size: Option<u64>) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS)?;
    // What is mounted here stays here; what the host mounts is still seen.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)?;
    let size = size.map_or(String::new(), |size| format!(",size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=1777{size}");
    mount(Some("tmpfs"), SHARED_MEMORY, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(())
}
