//! A daemon under test: a child process with its output in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A running child process. Dropping it kills it, and prints the end of its output when the test is failing.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, its output appended to `<directory>/<name>.log`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(name: &str, directory: &Path, command: &mut Command) -> Self {
        let log = directory.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file in the test's directory");
        let errors = output.try_clone().expect("the log file again");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process can't be signalled.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{}: {signal}: {error}", self.name));
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it doesn't end within 15 s.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_for_end(Duration::from_secs(15))
    }

    /// Waits for the end of a process that ends by itself.
    ///
    /// # Panics
    /// When it doesn't end within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        wait::until(&format!("the end of {}", self.name), limit, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }

    fn end(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    #[expect(
        clippy::print_stderr,
        reason = "the log of a failed test is for the person who runs it"
    )]
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            eprintln!("--- the end of {}'s output", self.name);
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// Kills every process whose working directory, or an argument, lies under `directory`: executors and tasks that
/// outlive their agent by design. Whether there were any.
pub fn kill_all_under(directory: &Path) -> bool {
    let mut found = false;
    let Some(text) = directory.to_str() else { return false };
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    let own = std::process::id().to_string();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let below = std::fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|path| path.starts_with(directory));
        let named = std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text));
        if let (true, Ok(number)) = (below || named, name.parse()) {
            // An error means that it has ended already.
            let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
            found = true;
        }
    }
    found
}
