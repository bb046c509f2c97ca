//! Fetching a command's URIs into the sandbox (Mesos' `launcher/fetcher.cpp`): files of this host, http and https; what
//! is to be cached goes through the [`Cache`].

mod cache;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesos::v1::command_info::Uri;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::helper;
pub use cache::Cache;
use cache::{Found, Held};

/// What `tar` unpacks.
const TARS: &[&str] = &[".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz"];
/// Redirections that are followed, as curl's and the original's.
const REDIRECTS_MAX: usize = 50;

/// What all fetching of an agent shares.
#[derive(Debug)]
pub struct Fetching {
    /// Of `--fetcher_cache_dir` and `--fetcher_cache_size`.
    pub cache: Cache,
    /// `--fetcher_stall_timeout`.
    pub stall_timeout: Duration,
    /// `--frameworks_home`, which relative paths are below.
    pub frameworks_home: Option<PathBuf>,
    /// Containers whose URIs were all fetched, if they had any.
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
}

/// What a URI means.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Web,
}

fn source(uri: &str, frameworks_home: Option<&Path>) -> Result<Source, String> {
    let (is_file, path) = match uri.split_once("://") {
        Some(("http" | "https", _)) => return Ok(Source::Web),
        Some(("file", path)) => (true, path.strip_prefix("localhost").unwrap_or(path)),
        Some((scheme, _)) => {
            return Err(format!(
                "'{uri}': this agent fetches files, http and https, and has no program for '{scheme}' (the original runs 'hadoop fs' for what it doesn't know)"
            ));
        }
        None => (false, uri),
    };
    match (Path::new(path).is_absolute(), frameworks_home) {
        (true, _) => Ok(Source::File(PathBuf::from(path))),
        (false, _) if is_file => Err(format!("'{uri}': File URI only supports absolute paths")),
        (false, Some(home)) => Ok(Source::File(home.join(path))),
        (false, None) => Err(format!(
            "'{uri}': A relative path was passed for the resource but the Mesos framework home was not specified. Please either provide this config option or avoid using a relative path"
        )),
    }
}

impl Fetcher<'_> {
    /// Fetches all that a command names, one after another.
    ///
    /// # Errors
    /// What went wrong with the first that could not be fetched.
    pub async fn fetch_all(self, uris: &[Uri]) -> Result<(), String> {
        for uri in uris {
            if let Err(reason) = self.fetch(uri).await {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                return Err(reason);
            }
        }
        // The original counts those who want nothing as well.
        self.shared.succeeded.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn fetch(self, uri: &Uri) -> Result<(), String> {
        let target = target(uri)?;
        let path = self.sandbox.join(&target);
        if let Some(directory) = path.parent() {
            self.run("mkdir", ["-p", "--"], &[directory]).await?;
        }
        if uri.cache() {
            match self.cached(uri, &target).await {
                Ok(held) => return self.place(uri, held.path(), &path).await,
                // Without Content-Length, or larger than the cache: as the original, it goes past the cache.
                Err(reason) => {
                    tracing::warn!(uri = uri.value, reason, "not cached: fetched directly");
                }
            }
        }
        self.bring(&uri.value, &path, None).await?;
        if uri.executable() {
            self.run("chmod", ["a+x", "--"], &[&path]).await?;
        } else if uri.extract() {
            self.extract(&path, &path).await?;
        }
        Ok(())
    }

    /// What the cache has of a URI, brought if it has nothing.
    async fn cached(self, uri: &Uri, target: &Path) -> Result<Held, String> {
        match self.shared.cache.find(self.user, &uri.value).await {
            Found::There(held) => Ok(held),
            Found::Vacant(vacant) => {
                let name = target.file_name().unwrap_or_default().to_string_lossy();
                self.bring(&uri.value, Path::new(&*name), Some(vacant)).await?.ok_or_else(|| {
                    // Only asked for with a vacancy.
                    format!("'{}' was not cached", uri.value)
                })
            }
        }
    }

    /// From the cache into the sandbox. An archive is unpacked from where it is.
    async fn place(self, uri: &Uri, cached: &Path, path: &Path) -> Result<(), String> {
        if !uri.executable() && uri.extract() && self.extract(cached, path).await? {
            return Ok(());
        }
        self.run("cp", ["-f", "--"], &[cached, path]).await?;
        if uri.executable() {
            self.run("chmod", ["a+x", "--"], &[path]).await?;
        }
        Ok(())
    }

    /// Brings what a URI names to `path`; where there is a vacancy in the cache, under that name into it.
    async fn bring(
        self,
        uri: &str,
        path: &Path,
        vacant: Option<cache::Vacant>,
    ) -> Result<Option<Held>, String> {
        let name = path.to_string_lossy();
        match source(uri, self.shared.frameworks_home.as_deref())? {
            Source::File(file) => {
                let Some(vacant) = vacant else {
                    self.run("cp", ["-f", "--"], &[&file, path]).await?;
                    return Ok(None);
                };
                let size = file.metadata().map_err(|error| format!("{}: {error}", file.display()));
                let filling = vacant.reserve(size?.len(), &name)?;
                self.run("cp", ["-f", "--"], &[&file, filling.path()]).await?;
                filling.done().map(Some)
            }
            Source::Web => {
                let response = self.open(uri).await?;
                let Some(vacant) = vacant else {
                    self.save(uri, response, path).await?;
                    return Ok(None);
                };
                let size = response.content_length();
                let size = size.ok_or_else(|| format!("'{uri}' came without Content-Length"))?;
                let filling = vacant.reserve(size, &name)?;
                self.save(uri, response, filling.path()).await?;
                filling.done().map(Some)
            }
        }
    }

    /// Unpacks an archive into the sandbox, with the programs that the original uses; other files stay as they are.
    /// `path` is what it is in the sandbox, or would be. Whether it is one.
    async fn extract(self, archive: &Path, path: &Path) -> Result<bool, String> {
        let name = path.to_string_lossy();
        let unpacked = if TARS.iter().any(|suffix| name.ends_with(suffix)) {
            self.run("tar", ["-C"], &[self.sandbox, Path::new("-xf"), archive]).await
        } else if name.ends_with(".zip") {
            self.run("unzip", ["-q", "-o", "-d"], &[self.sandbox, archive]).await
        } else if name.ends_with(".gz") && archive == path {
            self.run("gzip", ["-d", "-k", "-f", "--"], &[path]).await
        } else if name.ends_with(".gz") {
            // Unpacked beside where it would be.
            self.run("cp", ["-f", "--"], &[archive, path]).await?;
            self.run("gzip", ["-d", "-f", "--"], &[path]).await
        } else {
            return Ok(false);
        };
        unpacked.map(|()| true).map_err(|reason| format!("'{name}' can't be unpacked: {reason}"))
    }

    /// A program that runs as the user, in the sandbox.
    fn command(self, program: &str, arguments: &[String]) -> Command {
        let mut command = match self.user {
            Some(_) => {
                let options = helper::Options { user: self.user, ..helper::Options::default() };
                let argv = [&[program.to_owned()], arguments].concat();
                Command::from(helper::command(&options, program, &argv))
            }
            None => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        command.current_dir(self.sandbox).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    async fn run<const N: usize>(
        self,
        program: &str,
        options: [&str; N],
        paths: &[&Path],
    ) -> Result<(), String> {
        let options = options.iter().map(|option| (*option).to_owned());
        let paths = paths.iter().map(|path| path.to_string_lossy().into_owned());
        let arguments: Vec<String> = options.chain(paths).collect();
        let output = self.command(program, &arguments).output().await;
        finished(program, output)
    }

    async fn open(self, url: &str) -> Result<reqwest::Response, String> {
        let error = |reason: reqwest::Error| format!("'{url}': {}", cause(&reason));
        let client = tls::client::builder(None)
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(self.shared.stall_timeout)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .build()
            .map_err(error)?;
        let response = client.get(url).send().await;
        response.and_then(reqwest::Response::error_for_status).map_err(error)
    }

    /// Writes what comes as the user.
    async fn save(
        self,
        url: &str,
        mut response: reqwest::Response,
        path: &Path,
    ) -> Result<(), String> {
        let error = |error: &dyn std::fmt::Display| format!("'{url}': {error}");
        let arguments = [format!("of={}", path.display()), "bs=64k".to_owned()];
        let mut command = self.command("dd", &arguments);
        let mut writer = command.stdin(Stdio::piped()).spawn().map_err(|reason| error(&reason))?;
        if let Some(mut input) = writer.stdin.take() {
            while let Some(chunk) = response.chunk().await.map_err(|reason| error(&reason))? {
                if input.write_all(&chunk).await.is_err() {
                    break; // It has ended, and says why.
                }
            }
        }
        finished("dd", writer.wait_with_output().await).map_err(|reason| error(&reason))
    }
}

fn finished(program: &str, output: io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("'{program}' can't be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} ended with {}: {}", output.status, said.trim()))
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
mod tests {
    use std::fs;

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

    fn shared(directory: &Path, cache: u64) -> Fetching {
        Fetching {
            cache: Cache::new(&directory.join("cache"), cache),
            stall_timeout: Duration::from_secs(60),
            frameworks_home: None,
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    #[test]
    fn what_is_not_fetched_is_said_with_its_reason() {
        let file = |path: &str| Ok(Source::File(PathBuf::from(path)));
        assert_eq!(source("https://h/x", None), Ok(Source::Web));
        assert_eq!(source("file://localhost/x", None), file("/x"));
        assert_eq!(source("a/b", Some(Path::new("/home"))), file("/home/a/b"));
        for (uri, expected) in [
            ("hdfs://h/x", "no program for 'hdfs'"),
            ("file://x", "only supports absolute paths"),
            ("a/b", "framework home was not specified"),
        ] {
            let text = source(uri, None).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_cached_outlives_its_source_and_archives_are_unpacked_from_the_cache() {
        let directory = tempfile::TempDir::new().unwrap();
        let (tool, archive) = (directory.path().join("tool"), directory.path().join("a.tgz"));
        fs::write(&tool, "content").unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(directory.path()).arg("-czf").arg(&archive).arg("tool");
        assert!(tar.status().await.unwrap().success());
        fs::write(directory.path().join("t.gz"), "").unwrap();
        let shared = shared(directory.path(), 1 << 20);
        let cached = |path: &Path, executable: bool| Uri {
            cache: Some(true),
            executable: Some(executable),
            ..uri(path)
        };
        for name in ["one", "two"] {
            let sandbox = directory.path().join(name);
            fs::create_dir(&sandbox).unwrap();
            let fetcher = Fetcher { shared: &shared, sandbox: &sandbox, user: None };
            let uris = [cached(&archive, false), cached(&tool, true)];
            fetcher.fetch_all(&uris[..1]).await.unwrap();
            assert_eq!(fs::read_to_string(sandbox.join("tool")).unwrap(), "content");
            assert!(!sandbox.join("a.tgz").exists(), "it stays in the cache");
            fs::remove_file(sandbox.join("tool")).unwrap();
            fetcher.fetch_all(&uris).await.unwrap();
            let mode = fs::metadata(sandbox.join("tool")).unwrap();
            assert_ne!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o111, 0);
            // The second finds both in the cache.
            for path in [&tool, &archive] {
                let _ = fs::remove_file(path);
            }
        }
        let sandbox = directory.path();
        Fetcher { shared: &shared, sandbox, user: None }.fetch_all(&[]).await.unwrap();
        let metrics: std::collections::BTreeMap<_, _> = shared.metrics().into_iter().collect();
        assert_eq!(metrics["containerizer/fetcher/task_fetches_succeeded"], 5.0);
        assert!(metrics["containerizer/fetcher/cache_size_used_bytes"] > 7.0);
    }

    #[tokio::test]
    async fn two_containers_that_want_the_same_page_at_once_ask_for_it_once() {
        use tokio::io::AsyncReadExt as _;
        let directory = tempfile::TempDir::new().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/page", listener.local_addr().unwrap());
        let asked = std::sync::Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                counted.fetch_add(1, Ordering::SeqCst);
                let reply = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage";
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        let shared = shared(directory.path(), 100);
        let page = [Uri { value: url, cache: Some(true), ..Uri::default() }];
        let sandboxes = ["one", "two"].map(|name| directory.path().join(name));
        let fetchers = sandboxes.each_ref().map(|sandbox| {
            fs::create_dir(sandbox).unwrap();
            Fetcher { shared: &shared, sandbox, user: None }.fetch_all(&page)
        });
        for fetched in futures::future::join_all(fetchers).await {
            fetched.unwrap();
        }
        for sandbox in sandboxes {
            assert_eq!(fs::read_to_string(sandbox.join("page")).unwrap(), "page");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
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
        let shared = shared(directory.path(), 0);
        let fetcher = Fetcher { shared: &shared, sandbox: &sandbox, user: None };
        fetcher.fetch(&kept).await.unwrap();
        assert!(sandbox.join("all.tar.gz").exists() && !sandbox.join("file").exists());
        fetcher.fetch(&uri(&archive)).await.unwrap();
        assert_eq!(fs::read_to_string(sandbox.join("file")).unwrap(), "content");

        let broken = directory.path().join("broken.tar");
        fs::write(&broken, "no archive").unwrap();
        let text = fetcher.fetch(&uri(&broken)).await.unwrap_err();
        assert!(text.contains("broken.tar' can't be unpacked: tar ended with"), "{text}");
        let text = fetcher.fetch(&uri(&directory.path().join("none"))).await.unwrap_err();
        assert!(text.contains("none': No such file"), "{text}");
        // What doesn't fit into the cache is fetched all the same.
        let wanted = Uri { cache: Some(true), ..uri(&archive) };
        fetcher.fetch(&wanted).await.unwrap();
        assert_eq!(shared.cache.used(), 0);
    }
}
