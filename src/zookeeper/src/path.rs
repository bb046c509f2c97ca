//! Paths of znodes (`PathUtils.validatePath`).

/// Whether a path is one that a znode may have.
pub fn is_valid(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let Some(rest) = path.strip_prefix('/') else { return false };
    rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.encode_utf16().any(is_forbidden)
}

fn is_forbidden(unit: u16) -> bool {
    matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff)
}

/// The parent of a path that has a slash: "" stands for the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_judged_as_the_original_does() {
        for path in ["/", "/a", "/a/b.c", "/a/...", "/zookeeper/x", "/ä"] {
            assert!(is_valid(path), "{path}");
        }
        for path in [
            "",
            "a",
            "/a/",
            "//a",
            "/a//b",
            "/a/./b",
            "/..",
            "/a\0",
            "/\u{1}",
            "/\u{e000}",
            "/\u{1f600}",
            "/\u{85}",
        ] {
            assert!(!is_valid(path), "{path:?}");
        }
        assert_eq!((parent("/a"), parent("/a/b"), name("/a/b")), ("", "/a", "b"));
    }
}
