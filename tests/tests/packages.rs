//! The packages, as files: what they hold, ask for and run, and whether CentOS 7 would take them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use end_to_end::need;
use end_to_end::programs::{binary, packaged_binaries, packages, run};
use packaging::binaries::Binaries;
use packaging::builder::{Build, DEFAULT_SOURCE_DATE};
use packaging::{build_all, catalogue, check, repository};
use rpm::{FileFlags, FileType, PackageMetadata};
use tempfile::TempDir;

const NAMES: [&str; 5] =
    ["marathon", "meso", "mesos", "mesosphere-el-repo", "mesosphere-zookeeper"];
const MISSING: &str = "there are no packages; run: make rpm";

/// The built package of that name.
fn package(name: &str) -> PathBuf {
    let directory = packages().expect("checked before");
    let found: Vec<PathBuf> = repository::packages_in(&directory)
        .expect("a readable directory")
        .into_iter()
        .filter(|path| metadata(path).get_name().is_ok_and(|found| found == name))
        .collect();
    let [path] = found.try_into().unwrap_or_else(|found| panic!("one package {name}: {found:?}"));
    path
}

fn metadata(path: &Path) -> PackageMetadata {
    PackageMetadata::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_package_is_there_and_fit_for_centos_7() {
    need!(packages().is_some(), "{MISSING}");
    for name in NAMES {
        let path = package(name);
        assert_eq!(check::faults(&path).expect("a package"), Vec::<String>::new(), "{name}");
    }
}

/// Mode, owner, marks and path of every entry, and the scriptlets.
fn description(metadata: &PackageMetadata) -> String {
    let mut text = String::new();
    for entry in metadata.get_file_entries().expect("files") {
        let kind = match entry.file_type() {
            FileType::Dir => "directory",
            FileType::SymbolicLink => "link",
            _ if entry.flags().contains(FileFlags::CONFIG | FileFlags::NOREPLACE) => {
                "config(noreplace)"
            }
            _ if entry.flags().contains(FileFlags::CONFIG) => "config",
            _ if entry.flags().contains(FileFlags::LICENSE) => "license",
            _ => "file",
        };
        let target = entry.linkto().filter(|target| !target.is_empty());
        let target = target.map(|target| format!(" -> {target}")).unwrap_or_default();
        let (mode, owner, group) = (entry.permissions(), entry.user(), entry.group());
        let path = entry.path();
        writeln!(text, "{mode:04o} {owner}:{group} {kind} {}{target}", path.display())
            .expect("a string");
    }
    for (when, script) in [
        ("before installation", metadata.get_pre_install_script()),
        ("after installation", metadata.get_post_install_script()),
        ("before removal", metadata.get_pre_uninstall_script()),
        ("after removal", metadata.get_post_uninstall_script()),
    ] {
        if let Ok(script) = script {
            write!(
                text,
                "\n# {when}, by {:?}\n{}",
                script.program.unwrap_or_default(),
                script.script
            )
            .expect("a string");
        }
    }
    text
}

#[test]
fn packages_hold_and_run_what_is_recorded() {
    need!(packages().is_some(), "{MISSING}");
    let release = catalogue::release();
    for name in NAMES {
        let text = description(&metadata(&package(name))).replace(&release, "RELEASE");
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let binaries = packaged_binaries();
    need!(binaries.is_some(), "{MISSING}");
    let build = Build {
        binaries: Binaries::new(&binaries.expect("checked before")),
        source_date: DEFAULT_SOURCE_DATE,
    };
    let [first, second] = [(), ()].map(|()| {
        let out = TempDir::new().expect("a directory");
        let paths =
            build_all(&build, catalogue::DEFAULT_BASE_URL, &[], out.path()).expect("packages");
        assert_eq!(paths.len(), NAMES.len());
        let _count =
            repository::write(out.path(), out.path(), build.source_date).expect("a repository");
        out
    });
    let mut compared = 0;
    for directory in ["", "repodata"] {
        for entry in std::fs::read_dir(first.path().join(directory)).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let twin = second.path().join(path.strip_prefix(first.path()).expect("below it"));
                let same = std::fs::read(&path).expect("a file")
                    == std::fs::read(&twin).unwrap_or_default();
                assert!(same, "{} differs from build to build", path.display());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, NAMES.len() + 4, "packages, repomd.xml and three documents");
}

#[test]
fn the_programs_say_the_version_of_their_package() {
    for (program, version) in [
        ("zookeeper-server", catalogue::ZOOKEEPER_VERSION),
        ("mesos-master", catalogue::MESOS_VERSION),
        ("mesos-agent", catalogue::MESOS_VERSION),
        ("marathon", catalogue::MARATHON_VERSION),
        ("meso", env!("CARGO_PKG_VERSION")),
    ] {
        let said = run(Command::new(binary(program)).arg("--version")).expect("its version");
        assert!(said.contains(version), "{program}: {said}");
    }
}

#[test]
fn packages_follow_the_originals_of_the_same_version_and_precede_later_ones() {
    need!(Command::new("rpm").arg("--version").output().is_ok(), "rpm is not installed");
    let ours = catalogue::release();
    let newer = |one: (&str, &str), other: (&str, &str)| {
        let ask = format!(
            "%{{lua: print(rpm.vercmp('{}-{}', '{}-{}'))}}",
            one.0, one.1, other.0, other.1
        );
        let answer = run(Command::new("rpm").args(["--eval", &ask])).expect("rpm compares");
        answer.trim() == "1"
    };
    assert!(newer((catalogue::MESOS_VERSION, &ours), (catalogue::MESOS_VERSION, "2.0.1.el7")));
    assert!(newer(("1.11.1", "1"), (catalogue::MESOS_VERSION, &ours)));
    assert!(newer((catalogue::ZOOKEEPER_VERSION, &ours), ("3.4.6", "0.1.20141204175332.centos7")));
    assert!(newer((catalogue::MARATHON_VERSION, &ours), ("1.4.9", "1.0.659.el7")));
}

/// Lines of a metadata document, decompressed, that hold `what`.
fn lines(repository: &Path, kind: &str, what: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(repository.join("repodata")).expect("repodata");
    let ending = format!("-{kind}.xml.gz");
    let path = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(&ending))
        .unwrap_or_else(|| panic!("no {kind} in {}", repository.display()));
    run(Command::new("zcat").arg(path))
        .expect("gzip")
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(what))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metadata_says_what_createrepo_says() {
    need!(packages().is_some(), "{MISSING}");
    need!(
        Command::new("createrepo_c").arg("--version").output().is_ok(),
        "createrepo-c is not installed"
    );
    let [ours, theirs] = [(), ()].map(|()| TempDir::new().expect("a directory"));
    let rpms = packages().expect("checked before");
    let _count = repository::write(&rpms, ours.path(), DEFAULT_SOURCE_DATE).expect("a repository");
    for path in repository::packages_in(&rpms).expect("packages") {
        let _size = std::fs::copy(&path, theirs.path().join(path.file_name().expect("a name")))
            .expect("a copy");
    }
    let said = run(Command::new("createrepo_c")
        .args(["--quiet", "--no-database", "--general-compress-type=gz"])
        .arg(theirs.path()));
    said.expect("createrepo_c");

    for (kind, what) in [
        ("primary", "<name>"),
        ("primary", "<version "),
        ("primary", "<checksum "),
        ("primary", "<location "),
        ("primary", "<rpm:header-range "),
        ("primary", "<file"),
        ("filelists", "<package "),
        ("filelists", "<file"),
        ("other", "<package "),
    ] {
        assert_eq!(
            lines(ours.path(), kind, what),
            lines(theirs.path(), kind, what),
            "{what} of {kind}"
        );
    }
    // createrepo leaves out what a package provides itself and all but the newest symbol version of libc. We leave out weak
    // dependencies (the users that scriptlets make), which no yum of CentOS 7 knows.
    let (ours, theirs) = (
        lines(ours.path(), "primary", "<rpm:entry "),
        lines(theirs.path(), "primary", "<rpm:entry "),
    );
    let missing: Vec<&String> = theirs
        .difference(&ours)
        .filter(|line| !line.contains("\"user(") && !line.contains("\"group("))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
    let more: Vec<&String> =
        ours.difference(&theirs).filter(|line| !line.contains("libc.so.6")).collect();
    assert_eq!(more, Vec::<&String>::new());
}

#[test]
fn a_missing_program_or_package_is_named_and_nothing_is_written() {
    let (empty, out) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let build = Build { binaries: Binaries::new(empty.path()), source_date: DEFAULT_SOURCE_DATE };
    let error =
        build_all(&build, catalogue::DEFAULT_BASE_URL, &[], out.path()).expect_err("no programs");
    assert!(
        format!("{error:#}").contains("zookeeper-server: not built; run: make rpm"),
        "{error:#}"
    );
    let error = build_all(&build, catalogue::DEFAULT_BASE_URL, &["mesoss".to_owned()], out.path());
    assert!(
        format!("{:#}", error.expect_err("no such package")).contains("no package is named mesoss")
    );
    let error =
        repository::write(empty.path(), out.path(), DEFAULT_SOURCE_DATE).expect_err("no packages");
    assert!(format!("{error:#}").contains("no packages; run: make rpm"), "{error:#}");
    assert_eq!(std::fs::read_dir(out.path()).expect("a directory").count(), 0);
}
