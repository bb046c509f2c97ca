//! Where the programs under test, and the clients that test them, are.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The project's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// What every developer has at hand beside the project: references, the lab, the original to test against.
#[must_use]
pub fn shared() -> PathBuf {
    root().join("../shared")
}

/// A built binary: from `MESO_BIN_DIR`, else `target/debug`.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let directory =
        std::env::var_os("MESO_BIN_DIR").map_or_else(|| root().join("target/debug"), PathBuf::from);
    let path = directory.join(name);
    assert!(path.is_file(), "{} is missing; run: cargo build --workspace --bins", path.display());
    path
}

/// The programs that went into the newest packages, if `make rpm` or `make test` ran.
#[must_use]
pub fn packaged_binaries() -> Option<PathBuf> {
    let target = root().join("target/x86_64-unknown-linux-gnu");
    newest([target.join("release/meso"), target.join("trial/meso")])
}

/// The newest packages, if `make rpm` or `make test` built any.
#[must_use]
pub fn packages() -> Option<PathBuf> {
    let found = ["target/rpms", "target/trial/rpms"].map(|directory| {
        let entries = std::fs::read_dir(root().join(directory)).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|is| is == "rpm"))
    });
    newest(found.into_iter().flatten())
}

/// The directory of the file that was written last.
fn newest(paths: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let written = paths.into_iter().filter_map(|path| {
        let time = path.metadata().ok()?.modified().ok()?;
        Some((time, path))
    });
    written.max()?.1.parent().map(Path::to_path_buf)
}

/// The Python that has the clients of `tests/requirements.txt`, if `make test` made it.
#[must_use]
pub fn python() -> Option<PathBuf> {
    let path = root().join("target/venv/bin/python");
    path.is_file().then_some(path)
}

/// Debian's `zkCli.sh`, if installed.
#[must_use]
pub fn zk_cli() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/share/zookeeper/bin/zkCli.sh");
    path.is_file().then_some(path)
}

/// A real Mesos 1.11 (`../shared/oracle`), built on first use.
#[must_use]
pub fn original_mesos() -> Option<PathBuf> {
    let build = shared().join("oracle/build.sh");
    if !build.is_file() {
        return None;
    }
    let cache = std::env::var_os("MESOS_ORACLE_CACHE")
        .map_or_else(|| PathBuf::from("/var/tmp/mesos-oracle"), PathBuf::from);
    let ready = cache.join("bin/mesos-master");
    if !ready.is_file() {
        let build_run = Command::new("flock")
            .arg(std::env::temp_dir().join("mesos-oracle.lock"))
            .arg(&build)
            .env("MESOS_ORACLE_CACHE", &cache)
            .output()
            .ok()?;
        if !build_run.status.success() {
            return None;
        }
    }
    ready.is_file().then_some(cache)
}

/// The original's v0 driver as a program that other languages can talk to (`tests/clients/v0_driver.cpp`), built in a directory
/// from the `libmesos` that was published.
///
/// # Panics
/// When it does not compile.
#[must_use]
pub fn original_driver(directory: &Path) -> Option<PathBuf> {
    let original = original_mesos()?;
    let (program, libraries) = (directory.join("v0_driver"), original.join("lib"));
    let mut compiler = Command::new("g++");
    compiler
        .args(["-std=c++14", "-fvisibility=hidden"])
        .arg("-I")
        .arg(shared().join("oracle/src"))
        .arg("-o")
        .arg(&program)
        .arg(root().join("tests/clients/v0_driver.cpp"))
        .arg(format!("-L{}", libraries.display()))
        .args(["-Wl,--no-as-needed", "-l:libpystub.so", "-l:libmesos-oracle.so", "-lpthread"])
        .args(["-Wl,--allow-shlib-undefined", "-Wl,-z,lazy", "-Wl,--disable-new-dtags"])
        .arg(format!("-Wl,-rpath,{}", libraries.display()));
    if let Err(error) = run(&mut compiler) {
        panic!("the original's driver does not compile: {error}");
    }
    Some(program)
}

/// How long a program may run: less than a test, so that what it said is told.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// Runs a command to its end; its standard output, or everything it said when it failed.
///
/// # Errors
/// When it could not start, exited other than 0, or took too long: then it is killed, and whatever it had started.
pub fn run(command: &mut Command) -> Result<String, String> {
    run_within(RUN_LIMIT, command)
}

/// [`run`] with another limit.
///
/// # Errors
/// As there.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let failed = |error: io::Error| format!("{program}: {error}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: it may be a script whose children hold the pipes open.
    let mut child = command.process_group(0).spawn().map_err(failed)?;
    let (told, ended) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| read(pipe, told.clone())),
        child.stderr.take().map(|pipe| read(pipe, told)),
    ];
    let deadline = Instant::now() + limit;
    // Both pipes are closed when nobody is left who could write.
    let is_late = (0..readers.len()).any(|_| {
        let left = deadline.saturating_duration_since(Instant::now());
        ended.recv_timeout(left).is_err()
    });
    if is_late {
        // An error means that it has ended already.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    }
    let status = child.wait().map_err(failed)?;
    let [stdout, stderr] = readers.map(|reader| {
        let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    if is_late {
        return Err(format!("{program} was killed after {limit:?}\n{stdout}\n{stderr}"));
    }
    if status.success() {
        return Ok(stdout);
    }
    Err(format!("{program} ended with {status}\n{stdout}\n{stderr}"))
}

/// Reads a pipe to its end, and tells when that is.
fn read(mut pipe: impl io::Read + Send + 'static, told: mpsc::Sender<()>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth telling too.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = told.send(());
        bytes
    })
}

/// Whether Debian's build of Apache's ZooKeeper server, and a Java to run it, are installed.
#[must_use]
pub fn has_original_zookeeper() -> bool {
    PathBuf::from("/usr/share/java/zookeeper.jar").is_file()
        && Command::new("java").arg("-version").output().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children_and_what_it_said_is_told() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo said; echo wrong >&2; sleep 1000 & wait"]);
        let began = Instant::now();
        let error = run_within(Duration::from_millis(300), &mut shell).expect_err("too long");
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(error, "sh was killed after 300ms\nsaid\n\nwrong\n");
        assert_eq!(run(Command::new("sh").args(["-c", "echo fine"])), Ok("fine\n".to_owned()));
        let error = run(Command::new("sh").args(["-c", "echo out; exit 3"])).expect_err("3");
        assert_eq!(error, "sh ended with exit status: 3\nout\n\n");
    }
}
