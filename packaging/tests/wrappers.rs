//! The wrappers turn files and defaults into the command lines that the originals' wrappers make of them.
//!
//! Each test runs a copy of a wrapper in which `/etc` and the daemon are the test's own.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A wrapper with its own `/etc` and a daemon that prints its arguments, one a line.
struct Host {
    root: TempDir,
    wrapper: PathBuf,
}

/// What the stand-in for a daemon does: its arguments one a line, and what the tests look for in its environment.
const DAEMON: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\"\nprintf 'pid %s\\n' $$ >&2\nenv | grep -E '^(MESOS|MARATHON)_' >&2\nexit 0\n";

impl Host {
    fn new(wrapper: &str) -> Self {
        let root = TempDir::new().expect("a directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("files/scripts").join(wrapper);
        let etc = root.path().join("etc");
        let text = fs::read_to_string(source)
            .expect("the wrapper")
            .replace("/etc/", &format!("{}/", etc.display()))
            .replace("/usr/sbin/", &format!("{}/", root.path().display()))
            .replace("/usr/share/marathon/bin/", &format!("{}/", root.path().display()));
        let host = Self { wrapper: root.path().join("wrapper"), root };
        fs::write(&host.wrapper, text).expect("a copy of the wrapper");
        for daemon in ["mesos-master", "mesos-slave", "marathon"] {
            host.executable(daemon, DAEMON);
        }
        fs::create_dir_all(etc).expect("etc");
        host
    }

    fn executable(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.root.path().join(name);
        fs::write(&path, text).expect("a program");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }

    /// Writes a file below `/etc`.
    fn etc(self, name: &str, content: &str) -> Self {
        let path = self.root.path().join("etc").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, content).expect("a file");
        self
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        Command::new("/bin/bash")
            .arg(&self.wrapper)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied())
            .output()
            .expect("bash")
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        self.arguments_with(arguments, &[])
    }

    fn arguments_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        let output = self.run_with(arguments, environment);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

fn packaged_mesos() -> Host {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("files/etc");
    let text = |name: &str| fs::read_to_string(files.join(name)).expect("a packaged file");
    let host = Host::new("mesos-init-wrapper");
    let zk = host.root.path().join("etc/mesos/zk").display().to_string();
    let here =
        |name: &str| text(name).replace("/etc/mesos/zk", &zk).replace("ULIMIT=\"-n 8192\"", "");
    host.etc("mesos/zk", &text("mesos-zk"))
        .etc("default/mesos", &here("default-mesos"))
        .etc("default/mesos-master", &here("default-mesos-master"))
        .etc("default/mesos-slave", &here("default-mesos-slave"))
        .etc("mesos-master/quorum", "1\n")
        .etc("mesos-master/work_dir", "/var/lib/mesos\n")
        .etc("mesos-slave/work_dir", "/var/lib/mesos\n")
}

#[test]
fn the_guides_master_gets_its_flags() {
    let host = packaged_mesos()
        .etc("mesos/zk", "zk://10.0.0.1:2181/mesos\n")
        .etc("mesos-master/hostname", "10.0.0.1\n");
    assert_eq!(
        host.arguments(&["master", "--no-logger"]),
        [
            "--zk=zk://10.0.0.1:2181/mesos",
            "--port=5050",
            "--log_dir=/var/log/mesos",
            "--hostname=10.0.0.1",
            "--quorum=1",
            "--work_dir=/var/lib/mesos",
        ]
    );
}

#[test]
fn the_guides_agent_gets_its_flags() {
    let host = packaged_mesos()
        .etc("mesos-slave/containerizers", "docker,mesos\n")
        .etc("mesos-slave/executor_registration_timeout", "15mins\n");
    assert_eq!(
        host.arguments(&["slave", "--no-logger"]),
        [
            "--master=zk://localhost:2181/mesos",
            "--log_dir=/var/log/mesos",
            "--containerizers=docker,mesos",
            "--executor_registration_timeout=15mins",
            "--work_dir=/var/lib/mesos",
        ]
    );
}

#[test]
fn file_names_say_the_form_of_the_flag() {
    let host = Host::new("mesos-init-wrapper")
        .etc("mesos-master/?no-hostname_lookup", "ignored")
        .etc("mesos-master/acls", "{\n}\n\n")
        .etc("mesos-master/cluster", "two words\n")
        .etc("mesos-master/quiet", "")
        .etc("mesos-master/.hidden", "1")
        .etc("mesos-master/directory/file", "1");
    assert_eq!(
        host.arguments(&["master", "--no-logger", "--port=1"]),
        ["--no-hostname_lookup", "--acls={", "}", "--cluster=two words", "--quiet=", "--port=1"]
    );
}

#[test]
fn attributes_and_resources_are_joined() {
    let host = Host::new("mesos-init-wrapper")
        .etc("mesos-slave/attributes/rack", "r1\n")
        .etc("mesos-slave/attributes/zone", "a\n")
        .etc("mesos-slave/attributes/empty", "")
        .etc("mesos-slave/resources/ports", "[31000-31100]\n");
    assert_eq!(
        host.arguments(&["slave", "--no-logger"]),
        ["--attributes=rack:r1;zone:a", "--resources=ports:[31000-31100]"]
    );
}

#[test]
fn mesos_variables_of_the_defaults_reach_the_daemon() {
    let host = Host::new("mesos-init-wrapper")
        .etc("default/mesos", "MESOS_CLUSTER=`echo one`\nIP=10.0.0.9\n");
    let output = host.run_with(&["master", "--no-logger"], &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("MESOS_CLUSTER=one"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--ip=10.0.0.9\n");
}

#[test]
fn what_an_upgrade_leaves_behind_is_no_flag_and_is_told() {
    let host = Host::new("mesos-init-wrapper")
        .etc("mesos-master/quorum", "2")
        .etc("mesos-master/quorum.rpmnew", "1");
    let output = host.run_with(&["master", "--no-logger"], &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--quorum=2\n");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("quorum.rpmnew is left over"),
        "{output:?}"
    );
}

#[test]
fn a_limit_that_is_refused_does_not_keep_the_daemon_down() {
    let host = Host::new("mesos-init-wrapper").etc("default/mesos", "ULIMIT='-n 999999999999'\n");
    let output = host.run_with(&["master", "--no-logger"], &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("ULIMIT in"), "{output:?}");
}

#[test]
fn another_role_is_refused() {
    let output = Host::new("mesos-init-wrapper").run_with(&["boss"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("must be master or slave, not 'boss'")
    );
}

#[test]
fn the_wrapper_becomes_the_daemon() {
    // systemd expects the message from the process that it started.
    for (wrapper, arguments) in
        [("mesos-init-wrapper", &["master", "--no-logger"][..]), ("marathon", &["--no-logger"])]
    {
        let host = Host::new(wrapper);
        let script = format!(
            "echo started $$ >&2; exec /bin/bash {} {}",
            host.wrapper.display(),
            arguments.join(" ")
        );
        let output = Command::new("/bin/bash").args(["-c", &script]).output().expect("bash");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let number =
            |word: &str| errors.lines().find_map(|line| line.strip_prefix(word)).map(str::to_owned);
        assert_eq!(number("started "), number("pid "), "{wrapper}: {errors}");
        assert!(number("pid ").is_some(), "{wrapper}: {errors}");
    }
}

#[test]
fn marathon_finds_zookeeper_and_the_masters_by_the_mesos_file() {
    let host = Host::new("marathon")
        .etc("mesos/zk", "zk://10.0.0.1:2181,10.0.0.2:2181/mesos\n")
        .etc("marathon/conf/hostname", "10.0.0.1\n");
    assert_eq!(
        host.arguments(&["--no-logger"]),
        [
            "--hostname",
            "10.0.0.1",
            "--zk",
            "zk://10.0.0.1:2181,10.0.0.2:2181/marathon",
            "--master",
            "zk://10.0.0.1:2181,10.0.0.2:2181/mesos",
            "--mesos_user",
            "root",
        ]
    );
}

#[test]
fn marathons_options_are_given_once() {
    let host = Host::new("marathon")
        .etc("mesos/zk", "zk://h:2181/mesos\n")
        .etc("marathon/conf/zk", "zk://h:2181/other\n")
        .etc("marathon/conf/hostname", "from-file\n")
        .etc("marathon/conf/?disable_ha", "")
        .etc("default/marathon", "MARATHON_MESOS_USER=nobody\n");
    assert_eq!(
        host.arguments_with(
            &["--no-logger", "--hostname", "typed"],
            &[("MARATHON_MASTER", "h:5050")]
        )
        .join(" "),
        "--hostname typed --disable_ha --zk zk://h:2181/other"
    );
    let output = host.run_with(&["--no_logger", "--hostname=typed"], &[]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("MARATHON_MESOS_USER=nobody"),
        "{output:?}"
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("--hostname=typed\n--disable_ha\n"),
        "{output:?}"
    );
}
