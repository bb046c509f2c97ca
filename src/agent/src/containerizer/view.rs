//! What a container's process sees of files: a root of its own with the sandbox in it, or the host's; and volumes
//! (Mesos' isolators `filesystem/linux` and `volume/…`). The agent decides it, the process itself makes it
//! ([`View::enter`]), in a mount namespace of its own: nothing of it is left when the last of its processes has ended.

pub(super) mod kernel;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A directory of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tree {
    /// That is there.
    Directory(PathBuf),
    /// A file with a secret, which is taken over and is not there afterwards.
    Secret(PathBuf),
    /// That overlayfs makes.
    Layers {
        /// What is below, lowest first.
        lower: Vec<PathBuf>,
        /// Where what is written goes: `upperdir`, `workdir`; and in `links` short names for the layers.
        scratch: PathBuf,
        /// Where it is mounted.
        root: PathBuf,
    },
}

/// Something that is seen at another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: Tree,
    /// Where; without a root, below the sandbox if it is relative, else a path that is there.
    pub target: PathBuf,
    /// Whether it can't be written to.
    pub is_read_only: bool,
}

/// A container's own root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Its files.
    pub tree: Tree,
    /// Where the sandbox is in it (`--sandbox_directory`).
    pub sandbox_directory: PathBuf,
    /// Where the process begins.
    pub directory: PathBuf,
}

/// What a process sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its root, if it is not the host's.
    pub root: Option<Root>,
    /// Its sandbox, on the host.
    pub sandbox: PathBuf,
    /// What is mounted, in order.
    pub mounts: Vec<Mount>,
}

impl View {
    /// As the value of an argument.
    pub fn to_argument(&self) -> String {
        // Paths that are no text come to nobody: messages carry text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the value of an argument.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(argument: &str) -> Result<Self, String> {
        serde_json::from_str(argument).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_says_all_of_it() {
        let view = View {
            root: Some(Root {
                tree: Tree::Layers {
                    lower: vec!["/l/a\nb=c".into()],
                    scratch: "/s".into(),
                    root: "/r".into(),
                },
                sandbox_directory: "/mnt/mesos/sandbox".into(),
                directory: "/".into(),
            }),
            sandbox: "/w".into(),
            mounts: vec![Mount {
                source: Tree::Directory("/a".into()),
                target: "b".into(),
                is_read_only: true,
            }],
        };
        let argument = view.to_argument();
        assert!(!argument.contains('\n'), "a line: {argument}");
        assert_eq!(View::parse(&argument), Ok(view));
        assert!(View::parse("{}").is_err());
    }
}
