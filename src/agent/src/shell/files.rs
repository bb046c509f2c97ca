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
use serde_json::{Value, json};
use web::respond;

/// Most bytes that one read gives.
const READ_MAX: u64 = 16 * 4096;

/// Virtual paths and the directories that they stand for.
pub type Attached = BTreeMap<String, PathBuf>;

/// The real path of a virtual one; `None` if it is outside of what is attached.
fn resolve(attached: &Attached, path: &str) -> Option<PathBuf> {
    let path = path.trim_end_matches('/');
    let (prefix, root) = attached
        .iter()
        .filter(|(prefix, _)| {
            path == prefix.as_str()
                || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|(prefix, _)| prefix.len())?;
    let root = fs::canonicalize(root).ok()?;
    let real = fs::canonicalize(root.join(path[prefix.len()..].trim_start_matches('/'))).ok()?;
    real.starts_with(&root).then_some(real)
}

fn mode(metadata: &fs::Metadata) -> String {
    let bits = metadata.permissions().mode();
    let kind = if metadata.is_dir() { 'd' } else { '-' };
    let letter = |bit: u32, letter: char| if bits & bit != 0 { letter } else { '-' };
    [
        kind,
        letter(0o400, 'r'),
        letter(0o200, 'w'),
        letter(0o100, 'x'),
        letter(0o040, 'r'),
        letter(0o020, 'w'),
        letter(0o010, 'x'),
        letter(0o004, 'r'),
        letter(0o002, 'w'),
        letter(0o001, 'x'),
    ]
    .iter()
    .collect()
}

fn entry(virtual_path: &str, metadata: &fs::Metadata) -> Value {
    let user = nix::unistd::User::from_uid(metadata.uid().into())
        .ok()
        .flatten()
        .map_or_else(|| metadata.uid().to_string(), |user| user.name);
    let group = nix::unistd::Group::from_gid(metadata.gid().into())
        .ok()
        .flatten()
        .map_or_else(|| metadata.gid().to_string(), |group| group.name);
    json!({
        "gid": group,
        "mode": mode(metadata),
        "mtime": metadata.mtime() as f64,
        "nlink": metadata.nlink(),
        "path": virtual_path,
        "size": metadata.len(),
        "uid": user,
    })
}

/// `/files/browse`.
pub fn browse(attached: &Attached, path: &str) -> Response {
    let Some(real) = resolve(attached, path) else { return respond::empty(StatusCode::NOT_FOUND) };
    let Ok(entries) = fs::read_dir(&real) else { return respond::json("[]") };
    let mut list: Vec<(String, Value)> = entries
        .flatten()
        .filter_map(|file| {
            let shown =
                format!("{}/{}", path.trim_end_matches('/'), file.file_name().to_string_lossy());
            Some((shown.clone(), entry(&shown, &file.metadata().ok()?)))
        })
        .collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    respond::json(Value::Array(list.into_iter().map(|(_, value)| value).collect()).to_string())
}

/// `/files/read`.
pub fn read(
    attached: &Attached,
    path: &str,
    offset: Option<&str>,
    length: Option<&str>,
) -> Response {
    let number = |name: &str, text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("Failed to parse {name}: Failed to convert '{text}' to number.\n"))
    };
    let (offset, length) = match (
        offset.map(|text| number("offset", text)).transpose(),
        length.map(|text| number("length", text)).transpose(),
    ) {
        (Ok(offset), Ok(length)) => (offset.unwrap_or(-1), length.unwrap_or(-1)),
        (Err(text), _) | (_, Err(text)) => return respond::text(StatusCode::BAD_REQUEST, text),
    };
    let Some(real) = resolve(attached, path) else { return respond::empty(StatusCode::NOT_FOUND) };
    let Ok(metadata) = fs::metadata(&real) else { return respond::empty(StatusCode::NOT_FOUND) };
    if metadata.is_dir() {
        return respond::text(StatusCode::BAD_REQUEST, "Cannot read a directory.\n");
    }
    let Ok(offset) = u64::try_from(offset) else {
        return respond::json(json!({"data": "", "offset": metadata.len()}).to_string());
    };
    let wanted = u64::try_from(length)
        .map_or(READ_MAX, |length| length.min(READ_MAX))
        .min(metadata.len().saturating_sub(offset));
    let mut data = vec![0; wanted as usize];
    let read = fs::File::open(&real).and_then(|file| file.read_at(&mut data, offset));
    match read {
        Ok(count) => {
            data.truncate(count);
            respond::json(
                json!({"data": String::from_utf8_lossy(&data), "offset": offset}).to_string(),
            )
        }
        Err(error) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// `/files/download`.
pub async fn download(attached: &Attached, path: &str) -> Response {
    let Some(real) = resolve(attached, path) else { return respond::empty(StatusCode::NOT_FOUND) };
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
        assert!(resolve(&attached, "/box/stdout").is_some());
        assert!(resolve(&attached, "/box/d/").is_some());
        for path in ["/box/../secret", "/box/link", "/boxes", "/etc/passwd", "/box/none"] {
            assert!(resolve(&attached, path).is_none(), "{path}");
        }
    }
}
