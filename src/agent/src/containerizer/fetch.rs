//! Fetching a command's URIs into the sandbox (Mesos' `launcher/fetcher.cpp`): files of this host, http and https; by
//! `curl`, ftp and ftps; by `hadoop`, all else. What is to be cached goes through the [`Cache`]. What it does, it says in
//! the sandbox's `stderr`, where those look whose task did not begin.

mod cache;
mod programs;
mod unpack;
mod uri;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesos::v1::command_info::Uri;

use super::helper;
pub use cache::Cache;
use cache::{Found, Held};
use uri::{Source, shown, source};

/// What all fetching of an agent shares.
#[derive(Debug)]
pub struct Fetching {
    /// Of `--fetcher_cache_dir` and `--fetcher_cache_size`.
    pub cache: Cache,
    /// `--fetcher_stall_timeout`.
    pub stall_timeout: Duration,
    /// `--frameworks_home`, which relative paths are below.
    pub frameworks_home: Option<PathBuf>,
    /// `--hadoop_home`, or else the environment's `HADOOP_HOME`.
    pub hadoop_home: Option<PathBuf>,
    /// Containers whose URIs were all fetched.
    pub succeeded: AtomicU64,
    /// Containers of which one was not.
    pub failed: AtomicU64,
}

impl Fetching {
    /// The metrics `containerizer/fetcher/…` of the original.
    pub fn metrics(&self) -> [(&'static str, f64); 4] {
        [
            ("containerizer/fetcher/cache_size_total_bytes", self.cache.limit() as f64),
            ("containerizer/fetcher/cache_size_used_bytes", self.cache.used() as f64),
            (
                "containerizer/fetcher/task_fetches_failed",
                self.failed.load(Ordering::Relaxed) as f64,
            ),
            (
                "containerizer/fetcher/task_fetches_succeeded",
                self.succeeded.load(Ordering::Relaxed) as f64,
            ),
        ]
    }
}

/// Where and for whom files are fetched. All is written by that user: no file or link that an archive brings leads
/// further than the task itself could reach.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher<'a> {
    /// What is shared.
    pub shared: &'a Fetching,
    /// The sandbox.
    pub sandbox: &'a Path,
    /// The task's user, if it is not the agent's.
    pub user: Option<&'a str>,
    /// The sandbox's `stderr`.
    pub log: Option<&'a File>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// What is asked for can't be: nothing was fetched.
    Invalid(String),
    /// One could not be fetched.
    Failed(String),
}

/// How a line begins, as in glog.
#[derive(Debug, Clone, Copy)]
enum Severity {
    Info,
    Warning,
    Error,
}

/// Counts a container's fetching, which may also be given up because the container is.
struct Counted<'a>(&'a Fetching, bool);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let count = if self.1 { &self.0.succeeded } else { &self.0.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fetcher<'_> {
    /// Fetches all that a command names, one after another.
    ///
    /// # Errors
    /// What is wrong with what is asked for, or with the first that could not be fetched.
    pub async fn fetch_all(self, uris: &[Uri]) -> Result<(), Error> {
        // A container without URIs counts too, as in the original.
        let mut counted = Counted(self.shared, false);
        for uri in uris {
            uri::check(uri).map_err(Error::Invalid)?;
        }
        for uri in uris {
            let name = shown(&uri.value);
            self.say(Severity::Info, format_args!("Fetching URI '{name}'"));
            match self.fetch(uri).await {
                Ok(place) => self
                    .say(Severity::Info, format_args!("Fetched '{name}' to '{}'", place.display())),
                Err(reason) => {
                    self.say(Severity::Error, format_args!("Failed to fetch '{name}': {reason}"));
                    return Err(Error::Failed(format!("'{name}': {reason}")));
                }
            }
        }
        if !uris.is_empty() {
            let sandbox = self.sandbox.display();
            self.say(
                Severity::Info,
                format_args!("Successfully fetched all URIs into '{sandbox}'"),
            );
        }
        counted.1 = true;
        Ok(())
    }

    /// A line in the sandbox's `stderr`. That nobody can read it is no reason not to fetch.
    fn say(self, severity: Severity, text: std::fmt::Arguments<'_>) {
        let Some(mut log) = self.log else { return };
        let sign = match severity {
            Severity::Info => 'I',
            Severity::Warning => 'W',
            Severity::Error => 'E',
        };
        let now = jiff::ZonedDateTime::new(jiff::Timestamp::now(), jiff::tz::TimeZone::system());
        let time = now.strftime("%m%d %H:%M:%S.%6f");
        // In one piece: others write there too.
        let _ = log.write_all(format!("{sign}{time} fetcher] {text}\n").as_bytes());
    }

    /// Fetches one, and says where it is: a file, or the directory that it was unpacked into.
    async fn fetch(self, uri: &Uri) -> Result<PathBuf, String> {
        let target = uri::target(uri)?;
        let path = self.sandbox.join(&target);
        if let Some(directory) = path.parent() {
            self.run("mkdir", ["-p", "--"], &[directory]).await?;
        }
        let name = shown(&uri.value);
        if uri.cache() {
            match self.cached(uri).await {
                Ok(held) => {
                    self.say(Severity::Info, format_args!("Fetching URI '{name}' from cache"));
                    return self.place(uri, held.path(), path).await;
                }
                // Without Content-Length, or larger than the cache: as the original, it goes past the cache.
                Err(reason) => {
                    tracing::warn!(uri = &*name, reason, "not cached: fetched directly");
                    self.say(
                        Severity::Warning,
                        format_args!("Not fetching '{name}' through the cache: {reason}"),
                    );
                }
            }
        }
        self.say(
            Severity::Info,
            format_args!("Fetching '{name}' directly into the sandbox directory"),
        );
        self.bring(&uri.value, &path, None).await?;
        if uri.executable() {
            self.make_executable(&path).await?;
        } else if uri.extract() {
            self.extract_or_warn(uri, &path, &target.to_string_lossy()).await?;
        }
        Ok(path)
    }

    /// What the cache has of a URI, brought if it has nothing.
    async fn cached(self, uri: &Uri) -> Result<Held, String> {
        match self.shared.cache.find(self.user, &uri.value).await {
            Found::There(held) => Ok(held),
            Found::Vacant(vacant) => {
                let name = uri::base_name(&uri.value)?;
                self.bring(&uri.value, Path::new(name), Some(vacant)).await?.ok_or_else(|| {
                    // Only asked for with a vacancy.
                    "it was not cached".to_owned()
                })
            }
        }
    }

    /// From the cache into the sandbox. An archive is unpacked from where it is; whether it is one, the URI says, and not
    /// the name that it is given.
    async fn place(self, uri: &Uri, cached: &Path, path: PathBuf) -> Result<PathBuf, String> {
        let is_unpacked = !uri.executable()
            && uri.extract()
            && self.extract_or_warn(uri, cached, uri::base_name(&uri.value)?).await?;
        if is_unpacked {
            return Ok(self.sandbox.to_owned());
        }
        self.copy(cached, &path).await?;
        if uri.executable() {
            self.make_executable(&path).await?;
        }
        Ok(path)
    }

    /// Unpacks a file if its name is that of an archive. Whether it is.
    async fn extract_or_warn(self, uri: &Uri, file: &Path, name: &str) -> Result<bool, String> {
        let is_unpacked = self.extract(file, name).await?;
        let (file, uri) = (file.display(), shown(&uri.value));
        if is_unpacked {
            let sandbox = self.sandbox.display();
            self.say(Severity::Info, format_args!("Extracted '{file}' into '{sandbox}'"));
        } else {
            self.say(
                Severity::Warning,
                format_args!(
                    "Copying instead of extracting resource from URI with 'extract' flag, because it does not seem to be an archive: {uri}"
                ),
            );
        }
        Ok(is_unpacked)
    }

    async fn copy(self, from: &Path, to: &Path) -> Result<(), String> {
        self.run("cp", ["-f", "-T", "--"], &[from, to]).await
    }

    /// For everybody, whatever it was.
    async fn make_executable(self, path: &Path) -> Result<(), String> {
        self.run("chmod", ["755", "--"], &[path]).await
    }

    /// Brings what a URI names to `path`; where there is a vacancy in the cache, under that name into it.
    async fn bring(
        self,
        uri: &str,
        path: &Path,
        vacant: Option<cache::Vacant>,
    ) -> Result<Option<Held>, String> {
        let name = path.to_string_lossy();
        let uri = uri.trim_start();
        match source(uri, self.shared.frameworks_home.as_deref())? {
            Source::File(file) => {
                let Some(vacant) = vacant else {
                    self.copy(&file, path).await?;
                    return Ok(None);
                };
                let size = file.metadata().map_err(|error| format!("{}: {error}", file.display()));
                let filling = vacant.reserve(size?.len(), &name)?;
                self.copy(&file, filling.path()).await?;
                filling.done().map(Some)
            }
            Source::Web => {
                let response = self.open(uri).await?;
                let Some(vacant) = vacant else {
                    self.downloading(uri, path);
                    self.save(response, path).await?;
                    return Ok(None);
                };
                let size = response.content_length();
                let size = size.ok_or("No URL content-length available")?;
                if size == 0 {
                    return Err("URI reported content-length 0".to_owned());
                }
                let filling = vacant.reserve(size, &name)?;
                self.downloading(uri, filling.path());
                self.save(response, filling.path()).await?;
                filling.done().map(Some)
            }
            Source::Ftp => {
                if vacant.is_some() {
                    return Err("what comes by FTP is not cached".to_owned());
                }
                self.downloading(uri, path);
                self.download(uri, path).await?;
                Ok(None)
            }
            Source::Hadoop => {
                let hadoop = self.hadoop().await?;
                let Some(vacant) = vacant else {
                    self.downloading(uri, path);
                    self.copy_from_hadoop(&hadoop, uri, path).await?;
                    return Ok(None);
                };
                let size = self.size_in_hadoop(&hadoop, uri).await?;
                let filling = vacant.reserve(size, &name)?;
                self.downloading(uri, filling.path());
                self.copy_from_hadoop(&hadoop, uri, filling.path()).await?;
                filling.done().map(Some)
            }
        }
    }

    fn downloading(self, uri: &str, path: &Path) {
        let (uri, path) = (shown(uri), path.display());
        self.say(Severity::Info, format_args!("Downloading resource from '{uri}' to '{path}'"));
    }
}

/// The innermost reason says why.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if inner.to_string() == error.to_string() {
        error.to_string()
    } else {
        format!("{error}: {inner}")
    }
}

#[cfg(test)]
mod tests;
