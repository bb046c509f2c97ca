//! `/files/*`: looking into sandboxes and logs (Mesos' `files/files.cpp`).
//!
//! A daemon attaches directories and files under virtual paths, for each caller anew. Only what lies below one of them is
//! shown, whatever links or dots a path has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use axum::response::Response;
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, StatusCode};
use mesos::flags::Values;
use mesos::v1;
use serde_json::{Value, json};

use crate::respond;

/// Most bytes that one read gives.
const READ_MAX: u64 = 16 * 4096;

/// What one caller may look into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached(BTreeMap<String, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    is_allowed: bool,
}

impl Attached {
    /// Attaches a directory or a file under a virtual path; one that the caller must not see is refused, not missing.
    pub fn attach(&mut self, virtual_path: String, path: PathBuf, is_allowed: bool) {
        self.0.insert(virtual_path, Entry { path, is_allowed });
    }
}

/// Where the log of a daemon is that is named `program` there: what others write (`--external_log_file`), or else the newest
/// file in `--log_dir` that has all that is logged.
pub fn log_file(values: &Values, program: &str) -> Option<PathBuf> {
    let external = values.text("external_log_file").map(PathBuf::from);
    let level = values.text("logging_level").unwrap_or("INFO");
    external.or_else(|| Some(Path::new(values.text("log_dir")?).join(format!("{program}.{level}"))))
}

/// Why a file is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// There is none.
    NotFound,
    /// The caller must not see it.
    Forbidden,
    /// It is not to be shown, and why.
    Invalid(String),
    /// What the system says.
    System(String),
}

impl FileError {
    /// The refusal, as the old endpoints and the operator API give it.
    pub fn into_response(self) -> Response {
        match self {
            Self::NotFound => respond::text(StatusCode::NOT_FOUND, ""),
            Self::Forbidden => respond::text(StatusCode::FORBIDDEN, ""),
            Self::Invalid(text) => respond::text(StatusCode::BAD_REQUEST, text),
            Self::System(text) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }
}

/// The real path of a virtual one.
fn resolve(attached: &Attached, path: &str) -> Result<PathBuf, FileError> {
    let path = path.trim_end_matches('/');
    let (prefix, Entry { path: root, is_allowed }) = attached
        .0
        .iter()
        .filter(|(prefix, _)| {
            path == prefix.as_str()
                || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|(prefix, _)| prefix.len())
        .ok_or(FileError::NotFound)?;
    if !is_allowed {
        return Err(FileError::Forbidden);
    }
    let canonical = |path: &Path| fs::canonicalize(path).map_err(|_| FileError::NotFound);
    let root = canonical(root)?;
    let rest = path[prefix.len()..].trim_start_matches('/');
    if rest.is_empty() {
        return Ok(root);
    }
    let asked = root.join(rest);
    let real = canonical(&asked)?;
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(FileError::Invalid(format!("'{}' is inaccessible.\n", asked.display())))
    }
}

/// `drwxr-xr-x`.
fn mode(bits: u32) -> String {
    let kind = if bits & 0o170_000 == 0o040_000 { 'd' } else { '-' };
    let letter = |(index, letter): (u32, char)| {
        if bits & (0o400 >> index) != 0 { letter } else { '-' }
    };
    std::iter::once(kind).chain((0..).zip("rwxrwxrwx".chars()).map(letter)).collect()
}

fn info(virtual_path: String, metadata: &fs::Metadata) -> v1::FileInfo {
    let user = nix::unistd::User::from_uid(metadata.uid().into())
        .ok()
        .flatten()
        .map_or_else(|| metadata.uid().to_string(), |user| user.name);
    let group = nix::unistd::Group::from_gid(metadata.gid().into())
        .ok()
        .flatten()
        .map_or_else(|| metadata.gid().to_string(), |group| group.name);
    v1::FileInfo {
        path: virtual_path,
        nlink: i32::try_from(metadata.nlink()).ok(),
        size: Some(metadata.len()),
        mtime: Some(v1::TimeInfo { nanoseconds: metadata.mtime().saturating_mul(1_000_000_000) }),
        mode: Some(metadata.permissions().mode()),
        uid: Some(user),
        gid: Some(group),
    }
}

/// What is in a directory, by name; nothing in a file.
///
/// # Errors
/// When there is no such path, or it leaves the sandbox.
fn list(attached: &Attached, path: &str) -> Result<Vec<v1::FileInfo>, FileError> {
    let real = resolve(attached, path)?;
    let Ok(entries) = fs::read_dir(&real) else { return Ok(Vec::new()) };
    let mut list: Vec<v1::FileInfo> = entries
        .flatten()
        .filter_map(|file| {
            let shown =
                format!("{}/{}", path.trim_end_matches('/'), file.file_name().to_string_lossy());
            Some(info(shown, &file.metadata().ok()?))
        })
        .collect();
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}

/// A file's size, and up to `length` bytes of it from `offset` on; none without an offset.
///
/// # Errors
/// When there is no such file, it leaves the sandbox, or it is a directory.
fn slice(
    attached: &Attached,
    path: &str,
    offset: Option<u64>,
    length: Option<u64>,
) -> Result<(u64, Vec<u8>), FileError> {
    let real = resolve(attached, path)?;
    let metadata = fs::metadata(&real).map_err(|_| FileError::NotFound)?;
    if metadata.is_dir() {
        return Err(FileError::Invalid("Cannot read a directory.\n".to_owned()));
    }
    let Some(offset) = offset else { return Ok((metadata.len(), Vec::new())) };
    let wanted = length
        .map_or(READ_MAX, |length| length.min(READ_MAX))
        .min(metadata.len().saturating_sub(offset));
    // What is no file has no length, and may not even be openable: a task can make a pipe that nobody writes to.
    if wanted == 0 {
        return Ok((metadata.len(), Vec::new()));
    }
    let mut data = vec![0; wanted as usize];
    let count = fs::File::open(&real)
        .and_then(|file| file.read_at(&mut data, offset))
        .map_err(|error| FileError::System(error.to_string()))?;
    data.truncate(count);
    Ok((metadata.len(), data))
}

/// [`list`], where waiting for a disk holds nobody up.
///
/// # Errors
/// As there.
pub async fn listed(attached: Attached, path: String) -> Result<Vec<v1::FileInfo>, FileError> {
    apart(move || list(&attached, &path)).await
}

/// [`slice`], where waiting for a disk holds nobody up.
///
/// # Errors
/// As there.
pub async fn sliced(
    attached: Attached,
    path: String,
    offset: Option<u64>,
    length: Option<u64>,
) -> Result<(u64, Vec<u8>), FileError> {
    apart(move || slice(&attached, &path, offset, length)).await
}

async fn apart<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let found = tokio::task::spawn_blocking(look).await;
    found.unwrap_or_else(|error| Err(FileError::System(error.to_string())))
}

/// Whether an endpoint is one of these.
pub fn is_ours(endpoint: &str) -> bool {
    matches!(endpoint, "/files/debug" | "/files/browse" | "/files/read" | "/files/download")
}

/// Answers the endpoints `/files/{browse,read,download,debug}`.
pub async fn answer(endpoint: &str, query: Option<&str>, attached: Attached) -> Response {
    if endpoint == "/files/debug" {
        let seen = attached.0.iter().filter(|(_, entry)| entry.is_allowed);
        let paths: BTreeMap<_, _> = seen.map(|(name, entry)| (name, &entry.path)).collect();
        return respond::jsonp(json!(paths).to_string(), query);
    }
    let asked = match Asked::parse(endpoint, query) {
        Ok(asked) => asked,
        Err(error) => return error.into_response(),
    };
    if endpoint == "/files/download" {
        return download(&attached, &asked.path).await;
    }
    let is_read = endpoint == "/files/read";
    let look =
        move || if is_read { read(&attached, &asked) } else { browse(&attached, &asked.path) };
    match apart(look).await {
        Ok(value) => respond::jsonp(value.to_string(), query),
        Err(error) => error.into_response(),
    }
}

/// What a request asks for.
struct Asked {
    path: String,
    offset: Option<u64>,
    length: Option<u64>,
}

impl Asked {
    fn parse(endpoint: &str, query: Option<&str>) -> Result<Self, FileError> {
        let parameter = |name: &str| respond::query_parameter(query, name);
        let path = parameter("path")
            .filter(|path| !path.is_empty())
            .ok_or_else(|| FileError::Invalid("Expecting 'path=value' in query.\n".to_owned()))?;
        let number = |name: &str| {
            let Some(text) = parameter(name).filter(|_| endpoint == "/files/read") else {
                return Ok(None);
            };
            match text.parse::<i64>() {
                Err(_) => Err(FileError::Invalid(format!(
                    "Failed to parse {name}: Failed to convert '{text}' to number.\n"
                ))),
                Ok(number) if number < -1 => {
                    Err(FileError::Invalid(format!("Negative {name} provided: {number}.\n")))
                }
                // -1 is as if nothing were said.
                Ok(number) => Ok(u64::try_from(number).ok()),
            }
        };
        Ok(Self { path, offset: number("offset")?, length: number("length")? })
    }
}

fn browse(attached: &Attached, path: &str) -> Result<Value, FileError> {
    let entry = |file: v1::FileInfo| {
        json!({
            "gid": file.gid(),
            "mode": mode(file.mode()),
            "mtime": (file.mtime.unwrap_or_default().nanoseconds / 1_000_000_000) as f64,
            "nlink": file.nlink(),
            "path": file.path,
            "size": file.size(),
            "uid": file.uid(),
        })
    };
    Ok(list(attached, path)?.into_iter().map(entry).collect())
}

fn read(attached: &Attached, asked: &Asked) -> Result<Value, FileError> {
    let (size, data) = slice(attached, &asked.path, asked.offset, asked.length)?;
    let offset = asked.offset.unwrap_or(size);
    Ok(json!({"data": String::from_utf8_lossy(&data), "offset": offset}))
}

async fn download(attached: &Attached, path: &str) -> Response {
    let real = match resolve(attached, path) {
        Ok(real) => real,
        Err(FileError::NotFound) => return respond::not_found(),
        Err(FileError::Forbidden) => return respond::forbidden(),
        Err(error) => return error.into_response(),
    };
    if real.is_dir() {
        return respond::text(StatusCode::BAD_REQUEST, "Cannot download a directory.\n");
    }
    // A task can make a pipe that nobody writes to.
    if !real.is_file() {
        return respond::text(StatusCode::BAD_REQUEST, "Cannot download what is no file.\n");
    }
    let Ok(file) = tokio::fs::File::open(&real).await else {
        return respond::empty(StatusCode::NOT_FOUND);
    };
    let body = axum::body::Body::from_stream(tokio_util::io::ReaderStream::new(file));
    let kind = mime_guess::from_path(&real).first_raw().unwrap_or("application/octet-stream");
    let mut response = respond::body(StatusCode::OK, kind, body);
    let name = real
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace(['"', '\\', '\r', '\n'], "_");
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename={name}")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[test]
    fn nothing_outside_a_sandbox_is_found() {
        let directory = tempfile::TempDir::new().unwrap();
        let sandbox = directory.path().join("sandbox");
        fs::create_dir_all(sandbox.join("d")).unwrap();
        fs::write(sandbox.join("stdout"), "hello").unwrap();
        fs::write(directory.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), sandbox.join("link")).unwrap();
        let mut attached = Attached::default();
        attached.attach("/box".to_owned(), sandbox.clone(), true);
        attached.attach("/box/d".to_owned(), sandbox.clone(), false);
        attached.attach("/file".to_owned(), sandbox.join("stdout"), true);
        assert!(resolve(&attached, "/box/stdout").is_ok());
        assert!(resolve(&attached, "/file").is_ok() && resolve(&attached, "/file/").is_ok());
        for path in ["/boxes", "/etc/passwd", "/box/none", "/file/x"] {
            assert_eq!(resolve(&attached, path), Err(FileError::NotFound), "{path}");
        }
        for path in ["/box/d", "/box/d/", "/box/d/none"] {
            assert_eq!(resolve(&attached, path), Err(FileError::Forbidden), "{path}");
        }
        let root = fs::canonicalize(&sandbox).unwrap();
        for path in ["../secret", "link"] {
            let asked = root.join(path).display().to_string();
            let refused = FileError::Invalid(format!("'{asked}' is inaccessible.\n"));
            assert_eq!(resolve(&attached, &format!("/box/{path}")), Err(refused), "{path}");
        }
        assert_eq!(mode(0o040_750), "drwxr-x---");
    }

    #[tokio::test]
    async fn the_endpoints_check_what_they_are_asked_for() {
        let directory = tempfile::TempDir::new().unwrap();
        fs::write(directory.path().join("a.txt"), "hello").unwrap();
        let mut attached = Attached::default();
        attached.attach("/box".to_owned(), directory.path().to_owned(), true);
        attached.attach("/other".to_owned(), directory.path().to_owned(), false);
        for (endpoint, query, status, expected) in [
            ("/files/browse", "", 400, "Expecting 'path=value' in query.\n"),
            ("/files/browse", "path=", 400, "Expecting 'path=value' in query.\n"),
            ("/files/read", "path=/box/a.txt&offset=x", 400, "Failed to parse offset: "),
            ("/files/read", "path=/box/a.txt&length=-2", 400, "Negative length provided: -2.\n"),
            ("/files/read", "path=/box/a.txt", 200, r#"{"data":"","offset":5}"#),
            (
                "/files/read",
                "path=/box/a.txt&offset=-1&length=-1",
                200,
                r#"{"data":"","offset":5}"#,
            ),
            (
                "/files/read",
                "path=/box/a.txt&offset=1&length=2",
                200,
                r#"{"data":"el","offset":1}"#,
            ),
            (
                "/files/read",
                "path=/box/a.txt&offset=9&jsonp=f",
                200,
                r#"f({"data":"","offset":9})"#,
            ),
            ("/files/read", "path=/box", 400, "Cannot read a directory.\n"),
            ("/files/read", "path=/other/a.txt&offset=0", 403, ""),
            ("/files/browse", "path=/none", 404, ""),
            ("/files/download", "path=/other", 403, "403 Forbidden."),
            ("/files/download", "path=/none", 404, "404 Not Found."),
            ("/files/download", "path=/box", 400, "Cannot download a directory.\n"),
            ("/files/download", "path=/box/a.txt", 200, "hello"),
        ] {
            let response = answer(endpoint, Some(query), attached.clone()).await;
            assert_eq!(response.status().as_u16(), status, "{endpoint}?{query}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body);
            assert!(text.starts_with(expected), "{endpoint}?{query}: {text}");
        }
        let response = answer("/files/debug", None, attached).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let shown: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(shown, json!({"/box": directory.path()}), "what is forbidden is not shown");
    }

    #[test]
    fn what_others_write_comes_before_the_own_log() {
        let of = |arguments: &[&str]| {
            use mesos::flags::{Kind, Table, flag};
            let all = ["external_log_file", "log_dir", "logging_level"];
            let all = all.map(|name| flag(name, Kind::Text, None, ""));
            let table = Table::new("p", "MESOS_", &[&all]);
            let arguments = arguments.iter().map(|own| (*own).to_owned());
            log_file(&table.load(arguments, std::iter::empty()).unwrap(), "p")
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["--log_dir=/l"]), Some("/l/p.INFO".into()));
        let warnings = of(&["--log_dir=/l", "--logging_level=WARNING"]);
        assert_eq!(warnings, Some("/l/p.WARNING".into()));
        assert_eq!(of(&["--log_dir=/l", "--external_log_file=/e"]), Some("/e".into()));
    }
}
