//! Carrying a plan out: packages and files on all hosts at once, then units in the order in which the cluster starts.
//!
//! Nothing is started before all hosts have their packages and files. A step that fails ends the run; done steps stay done,
//! and the next run plans from what it finds.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::gather::{Known, each};
use crate::plan::{HostPlan, Install, Plan, UnitStep, Write};
use crate::problem::{Kind, Problem, Problems};
use crate::progress::Progress;
use crate::ssh::{Connection, quoted};

/// How long sending a package may take.
const UPLOAD: Duration = Duration::from_secs(600);
/// How long installing may take, waiting for the package database's lock included.
const INSTALL: Duration = Duration::from_secs(600);
/// How long anything else may take.
const COMMAND: Duration = Duration::from_secs(60);

/// Writes files: all beside their targets first, then each is renamed into place.
const WRITE: &str = r#"
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH
umask 077
staged=
trap 'for t in $staged; do rm -f "$t"; done' EXIT
stage() { # PATH MODE OWNER BASE64
    d=${1%/*}
    [ -d "$d" ] || (umask 022; mkdir -p "$d")
    t=$(mktemp "$d/.${1##*/}.meso-XXXXXX")
    staged="$staged $t"
    printf %s "$4" | base64 -d >"$t"
    chmod "$2" "$t"
    chown "$3:" "$t"
}
place() { # PATH, in the order of stage
    set -- "$1" $staged
    mv -fT "$2" "$1"
    staged=${staged# }
    case $staged in *' '*) staged=" ${staged#* }" ;; *) staged= ;; esac
    # A new file has the label of its temporary name.
    if command -v restorecon >/dev/null 2>&1; then restorecon "$1" >/dev/null 2>&1 || :; fi
}
"#;

/// Carries a plan out.
///
/// # Errors
/// The problems of all hosts on which a step failed.
pub async fn apply(plan: &Plan, hosts: &[Known], progress: &Progress) -> Result<(), Problems> {
    let known =
        |host: &HostPlan| hosts.iter().find(|known| known.connection.host.name == host.host);
    let pairs: Vec<(&HostPlan, &Known)> =
        plan.hosts.iter().filter_map(|host| Some((host, known(host)?))).collect();
    each(&pairs, async |(host, known): &(&HostPlan, &Known)| {
        if !host.packages.is_empty() {
            install(&known.connection, &host.packages, progress).await?;
        }
        if !host.files.is_empty() {
            progress.say(&host.host, &format!("writing {} files", host.files.len()));
            write_files(&known.connection, &host.files).await?;
        }
        progress.done(&host.host, "packages and files are in place");
        Ok(())
    })
    .await?;
    // Masters one after the other, as agents and Marathon need them; then the rest at once.
    let (masters, agents): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(host, _)| host.roles.master);
    for (host, known) in masters {
        act(host, known, progress).await?;
    }
    each(agents, async |(host, known): (&HostPlan, &Known)| act(host, known, progress).await)
        .await?;
    Ok(())
}

async fn act(host: &HostPlan, known: &Known, progress: &Progress) -> Result<(), Problem> {
    let Some(systemd) = &known.systemd else { return Ok(()) };
    for UnitStep { unit, action, .. } in &host.units {
        progress.say(&host.host, &format!("{} {unit}", action.word()));
        systemd.act(unit, *action).await?;
    }
    progress.done(&host.host, "units are as they should be");
    Ok(())
}

async fn install(
    connection: &Connection,
    installs: &[Install],
    progress: &Progress,
) -> Result<(), Problem> {
    let host = &connection.host.name;
    let made = connection
        .succeed(
            "no directory for the packages",
            "umask 077; mktemp -d /var/tmp/meso.XXXXXX",
            Vec::new(),
            COMMAND,
        )
        .await?;
    let directory = made.text().trim().to_owned();
    let result = upload_and_install(connection, installs, &directory, progress).await;
    // What failed is told; what could not be cleared away is beside the point then.
    let cleared =
        connection.run(&format!("rm -rf {}", quoted(&directory)), Vec::new(), COMMAND).await;
    result?;
    cleared?;
    for install in installs {
        let (name, version) = (&install.package.name, &install.package.version);
        let command = format!("rpm -q --qf '%{{VERSION}}-%{{RELEASE}}' {}", quoted(name));
        let now = connection.run(&command, Vec::new(), COMMAND).await?.text();
        if now != *version {
            return Err(Problem::on(
                host,
                Kind::Failed,
                format!("{name} is not what was installed"),
                format!(
                    "{} is named {version}, and the host has {}",
                    install.package.path.display(),
                    now.trim()
                ),
                "give package files the names that they were built with",
            ));
        }
    }
    Ok(())
}

async fn upload_and_install(
    connection: &Connection,
    installs: &[Install],
    directory: &str,
    progress: &Progress,
) -> Result<(), Problem> {
    let host = &connection.host.name;
    let mut paths = Vec::new();
    for install in installs {
        let package = &install.package;
        let content = tokio::fs::read(&package.path).await.map_err(|error| {
            Problem::on(
                host,
                Kind::Failed,
                format!("{} can't be read", package.path.display()),
                error.to_string(),
                "run meso again with readable packages",
            )
        })?;
        let size = content.len() as f64 / 1_000_000.0;
        progress.say(host, &format!("sending {} ({size:.1} MB)", package.name));
        let target = format!("{directory}/{}", file_name(&package.path));
        let digest = crate::plan::sha256(&content);
        let command = format!("cat >{target} && sha256sum <{target}", target = quoted(&target));
        let said = connection
            .succeed(&format!("{} can't be sent", package.name), &command, content, UPLOAD)
            .await?
            .text();
        if said.split_whitespace().next() != Some(&digest) {
            return Err(Problem::on(
                host,
                Kind::Failed,
                format!("{} arrived damaged", package.name),
                format!("its SHA-256 is {digest} here and {} there", said.trim()),
                "see that /var/tmp on the host has room and its disk is sound, then run meso again",
            ));
        }
        paths.push(quoted(&target));
    }
    let names: Vec<&str> = installs.iter().map(|install| install.package.name.as_str()).collect();
    let names = names.join(", ");
    progress.say(host, &format!("installing {names}"));
    let paths = paths.join(" ");
    // The packages need nothing that a minimal system lacks. Where one does, yum may know where to get it.
    let command = format!(
        "if rpm -U --test {paths} >/dev/null 2>&1 || ! command -v yum >/dev/null; then rpm -U {paths}; else yum -y --nogpgcheck install {paths}; fi"
    );
    connection
        .succeed(&format!("{names} can't be installed"), &command, Vec::new(), INSTALL)
        .await?;
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The program that writes these files.
fn script(files: &[Write]) -> String {
    let mut script = WRITE.to_owned();
    // Writing to a String can't fail.
    for Write { file, .. } in files {
        let content = STANDARD.encode(&file.content);
        let _ = writeln!(
            script,
            "stage {} {:o} {} {content}",
            quoted(file.path),
            file.mode,
            file.owner
        );
    }
    // Content is on the disk before names point to it.
    script.push_str("sync\n");
    for Write { file, .. } in files {
        let _ = writeln!(script, "place {}", quoted(file.path));
    }
    script
}

async fn write_files(connection: &Connection, files: &[Write]) -> Result<(), Problem> {
    connection
        .succeed("files can't be written", "sh -s", script(files).into_bytes(), COMMAND)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Why;
    use crate::templates::File;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Output};

    fn write(path: &Path, content: &str, mode: u32, owner: &'static str) -> Write {
        let path: &'static str = Box::leak(path.to_str().unwrap().to_owned().into_boxed_str());
        Write { file: File { path, content: content.into(), mode, owner }, why: Why::Missing }
    }

    fn sh(script: &str) -> Output {
        Command::new("sh").args(["-c", script]).output().unwrap()
    }

    /// Names in a directory, hidden ones included.
    fn listing(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn me() -> &'static str {
        Box::leak(
            String::from_utf8(sh("id -un").stdout).unwrap().trim().to_owned().into_boxed_str(),
        )
    }

    #[test]
    fn files_are_written_with_content_mode_and_directories() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("a"), root.path().join("new/b"));
        std::fs::write(&first, "old").unwrap();
        let odd = "it's $HOME; `x`\n\n";
        let output =
            sh(&script(&[write(&first, "new\n", 0o600, me()), write(&second, odd, 0o644, me())]));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "new\n");
        assert_eq!(std::fs::read_to_string(&second).unwrap(), odd);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&first), mode(&second), mode(&root.path().join("new"))),
            (0o600, 0o644, 0o755)
        );
        assert_eq!(
            (listing(root.path()), listing(&root.path().join("new"))),
            (vec!["a".into(), "new".into()], vec!["b".into()])
        );
    }

    #[test]
    fn one_file_that_fails_leaves_all_as_they_were() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        std::fs::write(&path, "old").unwrap();
        let output = sh(&script(&[
            write(&path, "new", 0o644, me()),
            write(&root.path().join("b"), "b", 0o644, "no-such-user"),
        ]));
        assert!(!output.status.success());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(listing(root.path()), ["a"]);
    }
}
