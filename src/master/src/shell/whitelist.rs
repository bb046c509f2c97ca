//! `--whitelist`: a file with the names of hosts whose agents are offered, one a line (`whitelist_watcher.cpp`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

/// The hosts; `None` for all.
pub(super) type Hosts = Option<BTreeSet<String>>;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long the file may be, in bytes.
const FILE_MAX: u64 = 64 << 20;

fn read(path: &Path) -> std::io::Result<BTreeSet<String>> {
    if std::fs::metadata(path)?.len() > FILE_MAX {
        return Err(std::io::Error::other(format!("it is longer than {FILE_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// What the flag says, and what it says from now on. `*` is for all hosts.
///
/// # Errors
/// When the file can't be read now. Later that is logged, and what was read before stays.
pub(super) fn watch(given: Option<&str>) -> std::io::Result<watch::Receiver<Hosts>> {
    let Some(text) = given.filter(|text| *text != "*") else { return Ok(watch::channel(None).1) };
    let path = PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
    let (tell, hosts) = watch::channel(Some(read(&path)?));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match tokio::task::block_in_place(|| read(&path)) {
                Ok(read) => {
                    tell.send_if_modified(|hosts| {
                        let is_new = hosts.as_ref() != Some(&read);
                        *hosts = Some(read);
                        is_new
                    });
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "--whitelist can't be read: what was read before stays")
                }
            }
        }
    });
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a.example\n\n b.example \r\n").unwrap();
        let hosts: Vec<String> = read(file.path()).unwrap().into_iter().collect();
        assert_eq!(hosts, ["a.example", "b.example"]);
        assert_eq!(*watch(Some("*")).unwrap().borrow(), None);
        assert!(watch(Some("/no/such/file")).is_err());
    }
}
