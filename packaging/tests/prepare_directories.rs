//! What ZooKeeper's unit does as root before the server starts: whose directories change hands, and whose never do.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Host {
    root: TempDir,
}

impl Host {
    /// A host whose `chown` only writes down what it was asked.
    fn new() -> Self {
        let root = TempDir::new().expect("a directory");
        let chown = root.path().join("chown");
        fs::write(&chown, format!("#!/bin/sh\necho \"$@\" >> {}/owners\n", root.path().display()))
            .expect("a program");
        fs::set_permissions(chown, fs::Permissions::from_mode(0o755)).expect("permissions");
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn file(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, "x").expect("a file");
    }

    /// Runs the script on a zoo.cfg in which `@` is the host's root; what changed hands, one `chown` a line.
    fn prepare(&self, zoo_cfg: &str) -> (Output, String) {
        let config = self.path("zoo.cfg");
        fs::write(&config, zoo_cfg.replace('@', &self.root.path().display().to_string()))
            .expect("zoo.cfg");
        let output = Command::new("/bin/sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("files/scripts/prepare-directories"))
            .arg(&config)
            .env("PATH", format!("{}:/usr/bin:/bin", self.root.path().display()))
            .output()
            .expect("sh");
        let owners = fs::read_to_string(self.path("owners")).unwrap_or_default();
        (output, owners.replace(&self.root.path().display().to_string(), "@"))
    }
}

#[test]
fn a_missing_directory_is_made_and_given_to_the_server() {
    let host = Host::new();
    let (output, owners) =
        host.prepare("tickTime=2000\n dataDir = @/data \ndataLogDir=@/log/deep\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(owners, "zookeeper:zookeeper @/data\nzookeeper:zookeeper @/log/deep\n");
    assert!(host.path("data").is_dir() && host.path("log/deep").is_dir());
}

#[test]
fn what_an_earlier_server_left_to_root_changes_hands_and_nothing_beside_it() {
    let host = Host::new();
    host.file("data/version-2/log.1");
    host.file("data/myid");
    host.file("data/notes.txt");
    let (output, owners) = host.prepare("dataDir=@/data\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        owners,
        "zookeeper:zookeeper @/data\n-hR zookeeper:zookeeper @/data/version-2\n-hR zookeeper:zookeeper @/data/myid\n"
    );
}

#[test]
fn a_directory_of_other_things_is_left_alone_and_named() {
    let host = Host::new();
    host.file("tmp/somebody-elses");
    let (output, owners) = host.prepare("dataDir=@/tmp\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(owners, "");
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("holds other things than ZooKeeper's data"),
        "{output:?}"
    );
}

#[test]
fn the_last_value_counts_and_one_that_is_no_path_is_left_to_the_server() {
    let host = Host::new();
    let (output, owners) =
        host.prepare("dataDir=@/first\n#dataDir=@/comment\ndataDir=@/last\ndataLogDir=relative\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(owners, "zookeeper:zookeeper @/last\n");
    assert!(!host.path("first").exists() && !host.path("comment").exists());
    let (output, _owners) = Host::new().prepare("clientPort=2181\n");
    assert!(output.status.success(), "{output:?}");
}
