use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::*;

fn uri(value: &Path) -> Uri {
    Uri { value: value.to_string_lossy().into_owned(), ..Default::default() }
}

fn shared(directory: &Path, cache: u64) -> Fetching {
    Fetching {
        cache: Cache::new(&directory.join("cache"), cache),
        stall_timeout: Duration::from_secs(60),
        frameworks_home: None,
        hadoop_home: None,
        succeeded: AtomicU64::new(0),
        failed: AtomicU64::new(0),
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
        let fetcher = Fetcher { shared: &shared, sandbox: &sandbox, user: None, log: None };
        let uris = [cached(&archive, false), cached(&tool, true)];
        fetcher.fetch_all(&uris[..1]).await.unwrap();
        assert_eq!(fs::read_to_string(sandbox.join("tool")).unwrap(), "content");
        assert!(!sandbox.join("a.tgz").exists(), "it stays in the cache");
        fs::remove_file(sandbox.join("tool")).unwrap();
        fetcher.fetch_all(&uris).await.unwrap();
        let mode = fs::metadata(sandbox.join("tool")).unwrap();
        assert_ne!(mode.mode() & 0o111, 0);
        // The second finds both in the cache.
        for path in [&tool, &archive] {
            let _ = fs::remove_file(path);
        }
    }
    let metrics: std::collections::BTreeMap<_, _> = shared.metrics().into_iter().collect();
    assert_eq!(metrics["containerizer/fetcher/task_fetches_succeeded"], 4.0);
    assert!(metrics["containerizer/fetcher/cache_size_used_bytes"] > 7.0);
}

#[tokio::test]
async fn two_containers_that_want_the_same_page_at_once_ask_for_it_once() {
    let directory = tempfile::TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/page", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU64::new(0));
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
        Fetcher { shared: &shared, sandbox, user: None, log: None }.fetch_all(&page)
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
    let fetcher = Fetcher { shared: &shared, sandbox: &sandbox, user: None, log: None };
    fetcher.fetch(&kept).await.unwrap();
    assert!(sandbox.join("all.tar.gz").exists() && !sandbox.join("file").exists());
    fetcher.fetch(&uri(&archive)).await.unwrap();
    assert_eq!(fs::read_to_string(sandbox.join("file")).unwrap(), "content");

    let broken = directory.path().join("broken.tar");
    fs::write(&broken, "no archive").unwrap();
    let text = fetcher.fetch(&uri(&broken)).await.unwrap_err();
    assert!(text.contains("/broken.tar' to '"), "{text}");
    assert!(text.contains("': tar ended with"), "{text}");
    let text = fetcher.fetch(&uri(&directory.path().join("none"))).await.unwrap_err();
    assert!(text.contains("none': No such file"), "{text}");
    let text = fetcher.fetch(&uri(&source)).await.unwrap_err();
    assert!(text.contains("omitting directory"), "{text}");
    // What doesn't fit into the cache is fetched all the same.
    let wanted = Uri { cache: Some(true), ..uri(&archive) };
    fetcher.fetch(&wanted).await.unwrap();
    assert_eq!(shared.cache.used(), 0);
}

/// A sandbox and what fetches into it.
struct Place {
    directory: tempfile::TempDir,
    sandbox: PathBuf,
    log: File,
    shared: Fetching,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let sandbox = directory.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let shared = shared(directory.path(), 1 << 20);
        Self { directory, sandbox, log, shared }
    }

    async fn fetch(&self, uri: Uri) -> Result<(), Error> {
        let log = Some(&self.log);
        Fetcher { shared: &self.shared, sandbox: &self.sandbox, user: None, log }
            .fetch_all(&[uri])
            .await
    }

    /// A file outside of the sandbox.
    fn file(&self, name: &str, content: &[u8]) -> Uri {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        uri(&path)
    }

    /// What is in the sandbox now, which is emptied.
    fn take(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.sandbox.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    found.push(path.strip_prefix(&self.sandbox).unwrap().display().to_string());
                }
            }
        }
        fs::remove_dir_all(&self.sandbox).unwrap();
        fs::create_dir(&self.sandbox).unwrap();
        found.sort();
        found
    }

    fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("log")).unwrap();
        let base = self.directory.path().display().to_string();
        let said = text.lines().map(|line| {
            let (head, said) = line.split_once(" fetcher] ").unwrap();
            format!("{} {}", &head[..1], said.replace(&base, "."))
        });
        said.collect()
    }
}

/// Packs a file `inner` by a shell's command; `$1` is where to.
async fn pack(name: &str, script: &str) -> Option<Vec<u8>> {
    let directory = tempfile::TempDir::new().unwrap();
    fs::write(directory.path().join("inner"), "content").unwrap();
    let path = directory.path().join(name);
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(&path).current_dir(directory.path());
    let status = shell.stderr(std::process::Stdio::null()).status().await.unwrap();
    status.success().then(|| fs::read(path).unwrap())
}

#[tokio::test]
async fn what_is_an_archive_its_name_says_and_where_it_lands_the_original_decides() {
    const TAR: &str = "tar -caf \"$1\" inner";
    const ZIP: &str = "python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], \"w\").write(\"inner\")' \"$1\"";
    const GZIP: &str = "gzip -c inner >\"$1\"";
    let place = Place::new();
    for (name, script, unpacked) in [
        ("a.tar", TAR, "inner"),
        ("a.tgz", TAR, "inner"),
        ("a.tar.gz", TAR, "inner"),
        ("a.tbz2", TAR, "inner"),
        ("a.tar.bz2", TAR, "inner"),
        ("a.txz", TAR, "inner"),
        ("a.tar.xz", TAR, "inner"),
        ("a.zip", ZIP, "inner"),
        ("b.gz", GZIP, "b"),
    ] {
        let Some(content) = pack(name, script).await else {
            println!("{name}: skipped, because nothing here packs it");
            continue;
        };
        let plain = place.file(name, &content);
        place.fetch(plain.clone()).await.unwrap();
        let content = fs::read_to_string(place.sandbox.join(unpacked)).unwrap();
        assert_eq!(content, "content", "{name}");
        let mut both = [name, unpacked];
        both.sort_unstable();
        assert_eq!(place.take(), both);
        // By the name that it is given, always into the sandbox itself.
        let renamed = Uri { output_file: Some(format!("d/c{name}")), ..plain.clone() };
        place.fetch(renamed).await.unwrap();
        let expected = if unpacked == "b" { "cb" } else { "inner" };
        let mut expected = [expected.to_owned(), format!("d/c{name}")];
        expected.sort();
        assert_eq!(place.take(), expected);
        let plainly_named = Uri { output_file: Some("d".to_owned()), ..plain.clone() };
        place.fetch(plainly_named.clone()).await.unwrap();
        assert_eq!(place.take(), ["d"], "{name}");
        // From the cache by the URI's own name.
        place.fetch(Uri { cache: Some(true), ..plainly_named }).await.unwrap();
        assert_eq!(place.take(), [unpacked], "{name}");
        for kept in [
            Uri { extract: Some(false), ..plain.clone() },
            Uri { executable: Some(true), ..plain.clone() },
        ] {
            place.fetch(kept).await.unwrap();
            assert_eq!(place.take(), [name]);
        }
    }
    let other = place.file("a.rar", b"what nobody unpacks");
    for uri in [other.clone(), Uri { cache: Some(true), ..other }] {
        place.fetch(uri).await.unwrap();
        assert_eq!(place.take(), ["a.rar"]);
        let last = place.said().into_iter().rev().nth(2).unwrap();
        assert_eq!(
            last,
            "W Copying instead of extracting resource from URI with 'extract' flag, because it does not seem to be an archive: ./a.rar"
        );
    }
}

#[tokio::test]
async fn what_is_executable_everybody_may_read_and_run_and_what_is_unpacked_is_the_users_own() {
    let place = Place::new();
    let tool = place.file("tool", b"x");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set(Path::new(&tool.value), 0o600).unwrap();
    let mode = |name: &str| fs::metadata(place.sandbox.join(name)).unwrap().mode() & 0o7777;
    for cache in [false, true] {
        let uri = Uri { executable: Some(true), cache: Some(cache), ..tool.clone() };
        place.fetch(uri).await.unwrap();
        assert_eq!(mode("tool"), 0o755);
    }
    let script = "chmod 4777 inner && tar --owner=4321 --group=4321 -cf \"$1\" inner";
    let archive = pack("a.tar", script).await.unwrap();
    place.fetch(place.file("a.tar", &archive)).await.unwrap();
    let inner = fs::metadata(place.sandbox.join("inner")).unwrap();
    assert_eq!(inner.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(inner.mode() & 0o4000, 0, "{:o}", inner.mode());
}

#[tokio::test]
async fn the_sandbox_tells_what_was_fetched_and_what_was_not_and_both_are_counted() {
    let place = Place::new();
    place.fetch(place.file("page", b"x")).await.unwrap();
    let text = place.fetch(uri(Path::new("page"))).await.unwrap_err();
    let Error::Failed(text) = text else { panic!("{text:?}") };
    assert!(text.starts_with("'page': A relative path was passed"), "{text}");
    let wrong = Uri { output_file: Some("/x".to_owned()), ..place.file("page", b"x") };
    let text = "URI output file must be within the sandbox directory".to_owned();
    assert_eq!(place.fetch(wrong).await, Err(Error::Invalid(text)));
    let fetcher = Fetcher { shared: &place.shared, sandbox: &place.sandbox, user: None, log: None };
    fetcher.fetch_all(&[]).await.unwrap();
    let said = place.said();
    assert_eq!(
        said[..5],
        [
            "I Fetching URI './page'",
            "I Fetching './page' directly into the sandbox directory",
            "W Copying instead of extracting resource from URI with 'extract' flag, because it does not seem to be an archive: ./page",
            "I Fetched './page' to './sandbox/page'",
            "I Successfully fetched all URIs into './sandbox'",
        ]
    );
    assert!(said[7].starts_with("E Failed to fetch 'page': A relative path"), "{said:?}");
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!((count(&place.shared.succeeded), count(&place.shared.failed)), (2, 2));
    // A container that is given up meanwhile is one that failed.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/page", listener.local_addr().unwrap());
    let never = place.fetch(Uri { value: url, ..Uri::default() });
    tokio::select! {
        _ = never => panic!("nobody answers"),
        accepted = listener.accept() => drop(accepted.unwrap()),
    }
    assert_eq!(count(&place.shared.failed), 3);
}

/// Answers each request by what the path says: `/404` by that code, others by as much content.
async fn web(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = vec![0; 4096];
        let size = stream.read(&mut request).await.unwrap_or_default();
        let request = String::from_utf8_lossy(&request[..size]).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let reply = match path {
            "404" | "204" | "503" => format!("HTTP/1.1 {path} No\r\nContent-Length: 0\r\n"),
            "moved" => "HTTP/1.1 302 Found\r\nLocation: /3\r\nContent-Length: 0\r\n".to_owned(),
            "short" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n".to_owned(),
            "unsaid" => "HTTP/1.1 200 OK\r\n".to_owned(),
            size => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n"),
        };
        let content = match path {
            "short" | "unsaid" => 3,
            size => size.parse().unwrap_or_default(),
        };
        let content = if matches!(path, "404" | "204" | "503") { 0 } else { content };
        let reply = format!("{reply}Connection: close\r\n\r\n{}", "x".repeat(content));
        let _ = stream.write_all(reply.as_bytes()).await;
    }
}

#[tokio::test]
async fn only_what_came_whole_is_fetched_and_only_what_says_its_size_is_cached() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://user:secret@{}", listener.local_addr().unwrap());
    let server = tokio::spawn(web(listener));
    let mut used = 0;
    for (path, caches, expected) in [
        ("3", 3, Ok(3)),
        ("moved", 3, Ok(3)),
        ("unsaid", 0, Ok(3)),
        ("0", 0, Ok(0)),
        ("2000000", 0, Ok(2_000_000)),
        ("404", 0, Err("Error downloading resource, received HTTP return code 404")),
        ("204", 0, Err("received HTTP return code 204")),
        ("503", 0, Err("received HTTP return code 503")),
        ("short", 0, Err("Error downloading resource: ")),
    ] {
        for cache in [false, true] {
            let value = format!("{base}/{path}");
            let fetched = place.fetch(Uri { value, cache: Some(cache), ..Uri::default() }).await;
            match (fetched, expected) {
                (Ok(()), Ok(size)) => {
                    let found = fs::metadata(place.sandbox.join(path)).unwrap();
                    assert_eq!(found.len(), size, "{path}");
                    assert_eq!(found.mode() & 0o777, 0o644, "{path}");
                }
                (Err(Error::Failed(text)), Err(part)) => assert!(text.contains(part), "{text}"),
                (fetched, _) => panic!("{path}: {fetched:?}"),
            }
        }
        used += caches;
        assert_eq!(place.shared.cache.used(), used, "{path}");
    }
    server.abort();
    let said = place.said().join("\n");
    assert!(!said.contains("secret"), "{said}");
    assert!(said.contains("W Not fetching 'http://user:...@"), "{said}");
}

/// A server of one file, as much of FTP as a client needs.
async fn ftp(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (input, mut output) = stream.split();
        let mut lines = BufReader::new(input).lines();
        let mut data: Option<TcpListener> = None;
        output.write_all(b"220 here\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
            let reply = match (command, argument) {
                ("USER", _) => "331 and?".to_owned(),
                ("PASS", "secret") => "230 in".to_owned(),
                ("PASS", _) => "530 no".to_owned(),
                ("PWD", _) => "257 \"/\"".to_owned(),
                ("CWD" | "TYPE", _) => "250 yes".to_owned(),
                ("SIZE", _) => "213 4".to_owned(),
                ("EPSV", _) => {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    let port = listener.local_addr().unwrap().port();
                    data = Some(listener);
                    format!("229 at (|||{port}|)")
                }
                ("RETR", "page") => {
                    let (mut stream, _) = data.take().unwrap().accept().await.unwrap();
                    output.write_all(b"150 comes\r\n").await.unwrap();
                    stream.write_all(b"page").await.unwrap();
                    drop(stream);
                    "226 sent".to_owned()
                }
                ("QUIT", _) => break,
                _ => "550 no".to_owned(),
            };
            output.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn files_come_by_ftp_past_the_cache() {
    if Command::new("curl").arg("--version").output().await.is_err() {
        println!("skipped, because curl is missing");
        return;
    }
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(ftp(listener));
    for cache in [false, true] {
        let value = format!("ftp://user:secret@{address}/page");
        place.fetch(Uri { value, cache: Some(cache), ..Uri::default() }).await.unwrap();
        assert_eq!(fs::read_to_string(place.sandbox.join("page")).unwrap(), "page");
        assert_eq!(place.take(), ["page"]);
    }
    assert_eq!(place.shared.cache.used(), 0);
    for (value, expected) in [
        (format!("ftp://user:secret@{address}/other"), "Error downloading resource: curl ended"),
        (format!("ftp://user:wrong@{address}/page"), "Error downloading resource: curl ended"),
        (format!("ftp://{address}/a\nb"), "Illegal characters in URI"),
    ] {
        let text = place.fetch(Uri { value, ..Uri::default() }).await.unwrap_err();
        let Error::Failed(text) = text else { panic!("{text:?}") };
        assert!(text.contains(expected) && !text.contains("wrong"), "{text}");
    }
    server.abort();
}

#[tokio::test]
async fn what_is_unknown_hadoop_is_asked_for() {
    let mut place = Place::new();
    let wanted = |cache| Uri {
        value: "hdfs://name/dir/file".to_owned(),
        cache: Some(cache),
        ..Uri::default()
    };
    place.shared.hadoop_home = Some(place.directory.path().join("hadoop"));
    let text = place.fetch(wanted(false)).await.unwrap_err();
    let Error::Failed(text) = text else { panic!("{text:?}") };
    assert!(text.contains("Failed to create HDFS client: Hadoop client is not"), "{text}");
    assert!(text.contains("--hadoop_home"), "{text}");

    // Stands for the client: what it is asked for, it writes.
    let script = r#"#!/bin/sh
[ "$HADOOP_HOME/bin/hadoop" = "$0" ] || exit 3
case "$*" in
    version) exit 0 ;;
    "fs -du "*) printf 'WARN: old
4   12 %s
' "$3" ;;
    "fs -copyToLocal "*/file\ *) printf 'page' >"$4" ;;
    *) echo "no $3" >&2; exit 1 ;;
esac
"#;
    let bin = place.directory.path().join("hadoop/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("hadoop"), script).unwrap();
    fs::set_permissions(bin.join("hadoop"), fs::Permissions::from_mode(0o755)).unwrap();
    for (cache, used) in [(false, 0), (true, 4), (true, 4)] {
        place.fetch(wanted(cache)).await.unwrap();
        assert_eq!(fs::read_to_string(place.sandbox.join("file")).unwrap(), "page");
        assert_eq!(place.shared.cache.used(), used);
    }
    let other = Uri { value: "s3://name/other".to_owned(), ..Uri::default() };
    let Err(Error::Failed(text)) = place.fetch(other).await else { panic!("is there") };
    assert!(text.contains("HDFS copyToLocal failed: "), "{text}");
    assert!(text.contains("no s3://name/other"), "{text}");
}
