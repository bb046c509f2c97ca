//! Where the programs under test, and the clients that test them, are.

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Where `make rpm` leaves the programs that go into packages, if it ran.
#[must_use]
pub fn release_binaries() -> Option<PathBuf> {
    let directory = root().join("target/x86_64-unknown-linux-gnu/release");
    directory.join("meso").is_file().then_some(directory)
}

/// The built packages, if `make rpm` ran.
#[must_use]
pub fn packages() -> Option<PathBuf> {
    let directory = root().join("target/rpms");
    let has_packages = std::fs::read_dir(&directory).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|extension| extension == "rpm"))
    });
    has_packages.then_some(directory)
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

/// Runs a command to its end; its standard output, or everything it said when it failed.
///
/// # Errors
/// When it could not start or exited other than 0.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{} ended with {}\n{stdout}\n{stderr}",
        command.get_program().display(),
        output.status
    ))
}

/// Whether Debian's build of Apache's ZooKeeper server, and a Java to run it, are installed.
#[must_use]
pub fn has_original_zookeeper() -> bool {
    PathBuf::from("/usr/share/java/zookeeper.jar").is_file()
        && Command::new("java").arg("-version").output().is_ok()
}
