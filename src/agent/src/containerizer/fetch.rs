//! Fetching a command's URIs into the sandbox (Mesos' `launcher/fetcher.cpp`).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use mesos::v1::command_info::Uri;
use tokio::io::AsyncWriteExt as _;

/// Archives that the original unpacks and this fetcher does not yet.
const ARCHIVES: &[&str] =
    &[".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".gz"];

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
    let is_archive = uri.extract()
        && !uri.executable()
        && ARCHIVES.iter().any(|suffix| target.to_string_lossy().ends_with(suffix));
    if is_archive {
        return Err(format!(
            "'{}' would have to be extracted, which this agent does not support yet; set 'extract' to false",
            uri.value
        ));
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
    if uri.executable() {
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
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
}
