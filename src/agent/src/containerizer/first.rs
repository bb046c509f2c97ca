//! The first process of a process namespace: it passes signals on to the program, which is its child and would not hear
//! most of them in its place, and takes away processes that nobody waits for.

use std::path::Path;
use std::process::Stdio;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::helper;
use crate::checkpoint;

/// What is passed on to a container's program: all that can be caught, but for what tells a process of its children,
/// of what it writes to, and of its own mistakes.
pub(super) const SIGNALS: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGABRT,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGIO,
    Signal::SIGPROF,
    Signal::SIGPWR,
    Signal::SIGTSTP,
    Signal::SIGURG,
    Signal::SIGVTALRM,
    Signal::SIGWINCH,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
];
/// What shells add to a signal's number.
const SIGNALLED: i32 = 128;

/// Runs a program to its end; its wait status is in the file `status` then, or, if that has no name, was written to
/// standard input. All other processes of the namespace end with this one.
///
/// # Errors
/// When the program can't be started.
pub(super) fn run(options: &[String], program: &[String], status: &Path) -> anyhow::Result<()> {
    let mut heard = SIGNALS.iter().copied().collect::<SigSet>();
    heard.add(Signal::SIGCHLD);
    // The helper that becomes the program blocks none of them.
    heard.thread_block()?;
    let mut command = helper::again(options, program, false);
    if status.as_os_str().is_empty() {
        command.stdin(Stdio::null());
    }
    let child = Pid::from_raw(i32::try_from(command.spawn()?.id())?);
    loop {
        match heard.wait()? {
            Signal::SIGCHLD => {
                if let Some((raw, code)) = ended(child) {
                    let text = raw.to_string();
                    if status.as_os_str().is_empty() {
                        // Who waits for it may be gone.
                        let _ = nix::unistd::write(std::io::stdin(), text.as_bytes());
                    } else {
                        checkpoint::replace(status, text.as_bytes())?;
                    }
                    #[expect(clippy::exit, reason = "the program's status is this process's")]
                    std::process::exit(code);
                }
            }
            signal => {
                // It has just ended: fine.
                let _ = kill(child, signal);
            }
        }
    }
}

/// Takes away all processes that have ended; how the program did, if it is among them: as `waitpid` gives it, and as a
/// process exits.
fn ended(program: Pid) -> Option<(i32, i32)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Some((code << 8, code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Some((signal as i32, SIGNALLED + signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}
