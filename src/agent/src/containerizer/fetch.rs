//! Fetching a command's URIs into the sandbox (Mesos' `launcher/fetcher.cpp`).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mesos::v1::command_info::Uri;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What `tar` unpacks.
const TARS: &[&str] = &[".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz"];

/// Fetches one URI: a file of the host, or over http.
///
/// # Errors
/// What went wrong, in words.
pub async fn fetch(uri: &Uri, sandbox: &Path) -> Result<(), String> {
    let target = target(uri)?;
    let path = sandbox.join(&target);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    if uri.value.starts_with("http://") {
        download(&uri.value, &path).await?;
    } else if let Some(file) = uri
        .value
        .strip_prefix("file://")
        .or_else(|| uri.value.starts_with('/').then_some(uri.value.as_str()))
    {
        fs::copy(file, &path).map_err(|error| format!("'{file}': {error}"))?;
    } else {
        return Err(format!(
            "'{}': only http:// and files are supported by this agent yet",
            uri.value
        ));
    }
    if !uri.executable() && uri.extract() {
        extract(&path, sandbox).await?;
    }
    if uri.executable() {
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Unpacks an archive into the sandbox, with the programs that the original uses; other files stay as they are.
async fn extract(path: &Path, sandbox: &Path) -> Result<(), String> {
    let name = path.to_string_lossy();
    let mut command = if TARS.iter().any(|suffix| name.ends_with(suffix)) {
        let mut command = Command::new("tar");
        command.arg("-C").arg(sandbox).arg("-xf").arg(path).stdout(Stdio::null());
        command
    } else if name.ends_with(".zip") {
        let mut command = Command::new("unzip");
        command.arg("-o").arg("-d").arg(sandbox).arg(path).stdout(Stdio::null());
        command
    } else if let Some(plain) = name.strip_suffix(".gz") {
        let output = fs::File::create(plain).map_err(|error| format!("{plain}: {error}"))?;
        let mut command = Command::new("gzip");
        command.arg("-dc").arg(path).stdout(output);
        command
    } else {
        return Ok(());
    };
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let output = match output {
        Ok(child) => child.wait_with_output().await,
        Err(error) => Err(error),
    };
    let output = output.map_err(|error| format!("'{program}' can't be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "'{name}' can't be unpacked: {program} ended with {}: {}",
        output.status,
        said.trim()
    ))
}

/// Where a URI lands, relative to the sandbox and never outside it.
fn target(uri: &Uri) -> Result<PathBuf, String> {
    let name = uri.output_file.clone().unwrap_or_else(|| {
        let path = uri.value.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    });
    let path = PathBuf::from(&name);
    let is_inside =
        !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_inside {
        Ok(path)
    } else {
        Err(format!("'{}' has no file name inside the sandbox", uri.value))
    }
}

async fn download(url: &str, path: &Path) -> Result<(), String> {
    let error = |error: &dyn std::fmt::Display| format!("'{url}': {error}");
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(30))
        .read_timeout(Duration::from_secs(60))
        .build()
        .map_err(|reason| error(&reason))?;
    let mut response = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|reason| error(&reason))?;
    let mut file = tokio::fs::File::create(path).await.map_err(|reason| error(&reason))?;
    while let Some(chunk) = response.chunk().await.map_err(|reason| error(&reason))? {
        file.write_all(&chunk).await.map_err(|reason| error(&reason))?;
    }
    file.sync_all().await.map_err(|reason| error(&reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_lands_outside_the_sandbox() {
        let of = |value: &str, output: Option<&str>| {
            target(&Uri {
                value: value.into(),
                output_file: output.map(str::to_owned),
                ..Default::default()
            })
        };
        assert_eq!(of("http://h/a/b.bin?x=/y", None), Ok(PathBuf::from("b.bin")));
        assert_eq!(of("http://h/b", Some("d/c")), Ok(PathBuf::from("d/c")));
        for (value, output) in [
            ("http://h/", None),
            ("http://h/..", None),
            ("/x", Some("../y")),
            ("/x", Some("/etc/passwd")),
        ] {
            assert!(of(value, output).is_err(), "{value} {output:?}");
        }
    }

    fn uri(value: &Path) -> Uri {
        Uri { value: value.to_string_lossy().into_owned(), ..Default::default() }
    }

    #[tokio::test]
    async fn archives_are_unpacked_unless_they_are_to_stay() {
        let directory = tempfile::TempDir::new().unwrap();
        let (source, sandbox) = (directory.path().join("source"), directory.path().join("box"));
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(&sandbox).unwrap();
        fs::write(source.join("file"), "content").unwrap();
        let archive = directory.path().join("all.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&source).arg("-czf").arg(&archive).arg("file");
        assert!(tar.status().await.unwrap().success());
        let kept = Uri { extract: Some(false), ..uri(&archive) };
        fetch(&kept, &sandbox).await.unwrap();
        assert!(sandbox.join("all.tar.gz").exists() && !sandbox.join("file").exists());
        fetch(&uri(&archive), &sandbox).await.unwrap();
        assert_eq!(fs::read_to_string(sandbox.join("file")).unwrap(), "content");

        let broken = directory.path().join("broken.tar");
        fs::write(&broken, "no archive").unwrap();
        let text = fetch(&uri(&broken), &sandbox).await.unwrap_err();
        assert!(text.contains("broken.tar' can't be unpacked: tar ended with"), "{text}");
        let text = fetch(&uri(&directory.path().join("none")), &sandbox).await.unwrap_err();
        assert!(text.contains("none': No such file"), "{text}");
    }
}
