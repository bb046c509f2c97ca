//! `/files/*`: looking into sandboxes (Mesos' `files/files.cpp`).
//!
//! Only what lies below an executor's sandbox is shown, whatever links or dots a path has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use axum::response::Response;
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, StatusCode};
use mesos::v1;
use serde_json::{Value, json};
use web::respond;

/// Most bytes that one read gives.
const READ_MAX: u64 = 16 * 4096;

/// Virtual paths and the directories that they stand for.
pub type Attached = BTreeMap<String, PathBuf>;

/// Why a file is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// There is none.
    NotFound,
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
            Self::Invalid(text) => respond::text(StatusCode::BAD_REQUEST, text),
            Self::System(text) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }
}

/// The real path of a virtual one.
fn resolve(attached: &Attached, path: &str) -> Result<PathBuf, FileError> {
    let asked = path;
    let path = path.trim_end_matches('/');
    let (prefix, root) = attached
        .iter()
        .filter(|(prefix, _)| {
            path == prefix.as_str()
                || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|(prefix, _)| prefix.len())
        .ok_or(FileError::NotFound)?;
    let canonical = |path: &Path| fs::canonicalize(path).map_err(|_| FileError::NotFound);
    let root = canonical(root)?;
    let real = canonical(&root.join(path[prefix.len()..].trim_start_matches('/')))?;
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(FileError::Invalid(format!("'{asked}' is inaccessible.\n")))
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
pub fn list(attached: &Attached, path: &str) -> Result<Vec<v1::FileInfo>, FileError> {
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
pub fn slice(
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
    let mut data = vec![0; wanted as usize];
    let count = fs::File::open(&real)
        .and_then(|file| file.read_at(&mut data, offset))
        .map_err(|error| FileError::System(error.to_string()))?;
    data.truncate(count);
    Ok((metadata.len(), data))
}

/// `/files/browse`.
pub fn browse(attached: &Attached, path: &str) -> Response {
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
    match list(attached, path) {
        Ok(files) => respond::json(files.into_iter().map(entry).collect::<Value>().to_string()),
        Err(error) => error.into_response(),
    }
}

/// `/files/read`.
pub fn read(
    attached: &Attached,
    path: &str,
    offset: Option<&str>,
    length: Option<&str>,
) -> Response {
    let number = |name: &str, text: Option<&str>| {
        let parsed = text.map(str::parse::<i64>).transpose();
        parsed.map(|number| number.and_then(|number| u64::try_from(number).ok())).map_err(|_| {
            let text = text.unwrap_or_default();
            FileError::Invalid(format!(
                "Failed to parse {name}: Failed to convert '{text}' to number.\n"
            ))
        })
    };
    let parsed = number("offset", offset)
        .and_then(|offset| number("length", length).map(|length| (offset, length)));
    let read = parsed.and_then(|(offset, length)| {
        slice(attached, path, offset, length).map(|(size, data)| (offset.unwrap_or(size), data))
    });
    match read {
        Ok((offset, data)) => respond::json(
            json!({"data": String::from_utf8_lossy(&data), "offset": offset}).to_string(),
        ),
        Err(error) => error.into_response(),
    }
}

/// `/files/download`.
pub async fn download(attached: &Attached, path: &str) -> Response {
    let real = match resolve(attached, path) {
        Ok(real) => real,
        Err(FileError::NotFound) => return respond::not_found(),
        Err(error) => return error.into_response(),
    };
    if real.is_dir() {
        return respond::text(StatusCode::BAD_REQUEST, "Cannot download a directory.\n");
    }
    let Ok(file) = tokio::fs::File::open(&real).await else {
        return respond::empty(StatusCode::NOT_FOUND);
    };
    let body = axum::body::Body::from_stream(tokio_util::io::ReaderStream::new(file));
    let mut response = respond::body(StatusCode::OK, "application/octet-stream", body);
    let name = Path::new(path)
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

    #[test]
    fn nothing_outside_a_sandbox_is_found() {
        let directory = tempfile::TempDir::new().unwrap();
        let sandbox = directory.path().join("sandbox");
        fs::create_dir_all(sandbox.join("d")).unwrap();
        fs::write(sandbox.join("stdout"), "hello").unwrap();
        fs::write(directory.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), sandbox.join("link")).unwrap();
        let attached = Attached::from([("/box".to_owned(), sandbox)]);
        assert!(resolve(&attached, "/box/stdout").is_ok());
        assert!(resolve(&attached, "/box/d/").is_ok());
        for path in ["/boxes", "/etc/passwd", "/box/none"] {
            assert_eq!(resolve(&attached, path), Err(FileError::NotFound), "{path}");
        }
        for path in ["/box/../secret", "/box/link"] {
            let refused = FileError::Invalid(format!("'{path}' is inaccessible.\n"));
            assert_eq!(resolve(&attached, path), Err(refused), "{path}");
        }
        assert_eq!(mode(0o040_750), "drwxr-x---");
    }
}
