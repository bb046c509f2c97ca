//! What a URI of a command means: where it comes from, and what it is called in the sandbox (`Fetcher::basename`,
//! `Fetcher::uriToLocalPath`, `Fetcher::validateOutputFile`).

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use mesos::v1::command_info::Uri;

/// Where something comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file of this host.
    File(PathBuf),
    /// http or https.
    Web,
    /// ftp or ftps.
    Ftp,
    /// Whatever Hadoop's client knows.
    Hadoop,
}

/// Where a URI comes from.
///
/// # Errors
/// When it is a path that leads from nowhere; the text is the original's.
pub(super) fn source(uri: &str, frameworks_home: Option<&Path>) -> Result<Source, String> {
    let (is_file, path) = match uri.split_once("://") {
        Some(("http" | "https", _)) => return Ok(Source::Web),
        Some(("ftp" | "ftps", _)) => return Ok(Source::Ftp),
        Some(("file", path)) => (true, path.strip_prefix("localhost").unwrap_or(path)),
        Some(_) => return Ok(Source::Hadoop),
        None => (false, uri),
    };
    match (Path::new(path).is_absolute(), frameworks_home) {
        (true, _) => Ok(Source::File(PathBuf::from(path))),
        (false, _) if is_file => Err("File URI only supports absolute paths".to_owned()),
        (false, Some(home)) => Ok(Source::File(home.join(path))),
        (false, None) => Err("A relative path was passed for the resource but the Mesos framework home was not specified. Please either provide this config option or avoid using a relative path".to_owned()),
    }
}

/// What a URI's last part is. As in the original, what follows a `?` is part of it: `output_file` is for those who want
/// another name.
///
/// # Errors
/// When there is none, in the original's words.
pub(super) fn base_name(uri: &str) -> Result<&str, String> {
    if uri.contains(['\\', '\'', '\0']) {
        return Err("Illegal characters in URI".to_owned());
    }
    match uri.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.len() > 1 => {
            match rest.split_once('/') {
                Some((_, path)) if !path.is_empty() => {
                    Ok(path.rsplit('/').next().unwrap_or_default())
                }
                _ => Err(format!("Malformed URI (missing path): {}", shown(uri))),
            }
        }
        _ => Ok(uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default()),
    }
}

/// Whether a URI may be asked for.
///
/// # Errors
/// What is wrong with it, in the original's words. A way out of the sandbox is refused, which the original lets pass.
pub(super) fn check(uri: &Uri) -> Result<(), String> {
    base_name(&uri.value)?;
    let Some(path) = &uri.output_file else { return Ok(()) };
    if path.is_empty() {
        return Err("URI output file path is empty".to_owned());
    }
    let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(path).components().all(is_inside) {
        Ok(())
    } else {
        Err("URI output file must be within the sandbox directory".to_owned())
    }
}

/// Where a URI lands, relative to the sandbox and never outside it.
///
/// # Errors
/// When that is no file.
pub(super) fn target(uri: &Uri) -> Result<PathBuf, String> {
    check(uri)?;
    let name = match &uri.output_file {
        Some(name) => name,
        None => base_name(&uri.value)?,
    };
    let is_normal = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let path: PathBuf = Path::new(name).components().filter(is_normal).collect();
    if path.as_os_str().is_empty()
        || name.ends_with('/')
        || name.split('/').any(|part| part == "..")
    {
        return Err(format!("'{name}' is no name of a file"));
    }
    Ok(path)
}

/// A URI as others may see it: without the password in it.
pub(super) fn shown(uri: &str) -> Cow<'_, str> {
    let place = uri.split_once("://").map_or("", |(_, rest)| rest);
    let place = place.split(['/', '?', '#']).next().unwrap_or_default();
    match place.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((_, password)) if !password.is_empty() => {
            Cow::Owned(uri.replacen(&format!(":{password}@"), ":...@", 1))
        }
        _ => Cow::Borrowed(uri),
    }
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
        for (value, output, expected) in [
            ("http://h/a/b.bin", None, "b.bin"),
            // Not what one would like, but what the original does.
            ("http://h/a/b.bin?x=y", None, "b.bin?x=y"),
            ("http://h/a/b.bin?x=/y", None, "y"),
            ("http://h/b", Some("d/c"), "d/c"),
            ("http://h/b", Some("./d//c"), "d/c"),
            ("/a/b/", None, "b"),
            ("b", None, "b"),
            ("hdfs:///b", None, "b"),
        ] {
            assert_eq!(of(value, output), Ok(PathBuf::from(expected)), "{value} {output:?}");
        }
        for (value, output, expected) in [
            ("http://h/", None, "Malformed URI (missing path): http://h/"),
            ("http://u:p@h", None, "Malformed URI (missing path): http://u:...@h"),
            ("http://h/a/", None, "no name of a file"),
            ("http://h/..", None, "no name of a file"),
            ("/", None, "no name of a file"),
            ("", None, "no name of a file"),
            ("http://h/it's", None, "Illegal characters in URI"),
            ("http://h/a\\b", None, "Illegal characters in URI"),
            ("/x", Some(""), "URI output file path is empty"),
            ("/x", Some("d/"), "no name of a file"),
            ("/x", Some("."), "no name of a file"),
            ("/x", Some("../y"), "must be within the sandbox"),
            ("/x", Some("d/../../y"), "must be within the sandbox"),
            ("/x", Some("/etc/passwd"), "must be within the sandbox"),
        ] {
            let text = of(value, output).unwrap_err();
            assert!(text.contains(expected), "{value} {output:?}: {text}");
        }
    }

    #[test]
    fn what_a_uri_names_is_told_by_its_scheme() {
        let file = |path: &str| Ok(Source::File(PathBuf::from(path)));
        for (uri, expected) in [
            ("https://h/x", Ok(Source::Web)),
            ("ftps://h/x", Ok(Source::Ftp)),
            ("hdfs://h/x", Ok(Source::Hadoop)),
            ("s3n://h/x", Ok(Source::Hadoop)),
            ("file:///x", file("/x")),
            ("file://localhost/x", file("/x")),
            ("/x", file("/x")),
        ] {
            assert_eq!(source(uri, None), expected);
        }
        assert_eq!(source("a/b", Some(Path::new("/home"))), file("/home/a/b"));
        for (uri, expected) in [
            ("file://x", "only supports absolute paths"),
            ("a/b", "framework home was not specified"),
        ] {
            let text = source(uri, None).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (uri, expected) in [
            ("http://u:secret@h/x", "http://u:...@h/x"),
            ("ftp://u:se@cret@h:21/a:b@c", "ftp://u:...@h:21/a:b@c"),
            ("http://u@h/x", "http://u@h/x"),
            ("http://h:80/x:y@z", "http://h:80/x:y@z"),
            ("/a:b@c", "/a:b@c"),
        ] {
            assert_eq!(shown(uri), expected);
        }
    }
}
