//! Carrying a plan out: packages and files on all hosts at once, then units in the order in which the cluster starts.
//!
//! Nothing is installed before every host's RPM has tried its packages, and nothing is started before all hosts have their
//! packages and files. A step that fails ends the run; done steps stay done,
//! and the next run plans from what it finds.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;

use crate::gather::{AT_ONCE, Known, each};
use crate::install::{Staged, stage};
use crate::plan::{HostPlan, Plan, UnitStep, Write};
use crate::problem::{Problem, Problems, all};
use crate::progress::Progress;
use crate::ssh::{Connection, quoted};

/// How long writing files may take.
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
    let staged = stage_all(&pairs, progress).await?;
    let result = each(pairs.iter().zip(&staged), async |((host, known), staged)| {
        if let Some(staged) = staged {
            staged.install(progress).await?;
        }
        if !host.files.is_empty() {
            progress.say(&host.host, &format!("writing {} files", host.files.len()));
            write_files(&known.connection, &host.files).await?;
        }
        progress.done(&host.host, "packages and files are in place");
        Ok(())
    })
    .await;
    clear(staged.iter().flatten()).await;
    result?;
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

/// Packages on all hosts that need some, or on none.
async fn stage_all<'a>(
    pairs: &[(&HostPlan, &'a Known)],
    progress: &Progress,
) -> Result<Vec<Option<Staged<'a>>>, Problems> {
    let results = futures::stream::iter(pairs)
        .map(async |(host, known)| {
            if host.packages.is_empty() {
                return Ok(None);
            }
            stage(&known.connection, &host.packages, progress).await.map(Some)
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    if results.iter().any(Result::is_err) {
        clear(results.iter().flatten().flatten()).await;
    }
    all(results)
}

async fn clear<'a>(staged: impl Iterator<Item = &'a Staged<'a>>) {
    futures::future::join_all(staged.map(Staged::clear)).await;
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
    use std::path::Path;
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
