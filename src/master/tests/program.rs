//! The program as init systems start it: flags that can't be, log files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesos-master"));
    command.env_remove("RUST_LOG").args(["--ip=127.0.0.1", "--port=0"]);
    command
}

#[test]
fn flags_that_can_not_be_are_refused_at_the_start() {
    for (flags, reason) in [
        (
            &["--registry=in_memory", "--logging_level=loud"][..],
            "'loud' is not a valid logging level. Possible values for 'logging_level' flag are: 'INFO', 'WARNING', 'ERROR'.",
        ),
        (
            &["--registry=in_memory", "--acls={\"nosuch\":[]}"],
            "mesos-master: --acls: the ACLs are not valid: there is no action 'nosuch'\n",
        ),
        (
            &["--registry=in_memory", "--credentials=/nosuch"],
            "--credentials: cannot read the credentials in /nosuch: No such file or directory (os error 2)\n",
        ),
        (&["--registry=in_memory", "--domain={}"], "`domain` must define `fault_domain`"),
        (&["--work_dir="], "--work_dir needed for replicated log based registry"),
    ] {
        let output = program().args(flags).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(reason), "{flags:?}: {text}");
    }
}

#[test]
fn logs_are_where_operators_look() {
    let directory = tempfile::TempDir::new().unwrap();
    let logs = directory.path().join("made/on/the/way");
    let mut master = program()
        .args(["--registry=in_memory", "--quiet"])
        .arg(format!("--log_dir={}", logs.display()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let newest = logs.join("mesos-master.INFO");
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_there = || fs::read_to_string(&newest).is_ok_and(|text| text.contains("elected"));
    while !is_there() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = fs::read_to_string(&newest);
    master.kill().unwrap();
    let output = master.wait_with_output().unwrap();
    assert!(found.unwrap().contains("elected as the leading master"));
    assert!(!logs.join("mesos-master.ERROR").exists(), "nothing went wrong");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
