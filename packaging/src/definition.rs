//! What a package is, before it is a file: names, versions, entries, scriptlets.

use std::borrow::Cow;

/// A package to build.
#[derive(Debug, Clone)]
pub struct Package {
    /// Name, as `yum install` takes it.
    pub name: &'static str,
    /// Version: for the daemons, that of the original which they are compatible with.
    pub version: String,
    /// Release: ours. See [`crate::catalogue::release`].
    pub release: String,
    /// Whether it holds machine code.
    pub architecture: Architecture,
    /// One line for `yum list`.
    pub summary: &'static str,
    /// Some sentences for `yum info`.
    pub description: &'static str,
    /// Requirements beside those that are read from the binaries.
    pub requires: Vec<Requirement>,
    /// Files, directories and links.
    pub entries: Vec<Entry>,
    /// What runs on the host when the package comes and goes.
    pub scriptlets: Scriptlets,
}

/// What machines a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Any.
    Any,
    /// 64-bit x86.
    X86_64,
}

impl Architecture {
    /// RPM's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "noarch",
            Self::X86_64 => "x86_64",
        }
    }
}

/// Something that must be on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// A package, file or capability by name, needed to run.
    Name(String),
    /// The same, needed already when the scriptlet before installation runs.
    BeforeInstall(&'static str),
    /// The same, needed when the scriptlets after installation and before removal run.
    AroundInstall(&'static str),
}

/// One path of a package.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Absolute path on the host.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Owning user; its group has the same name.
    pub owner: &'static str,
    /// What is there.
    pub kind: Kind,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub enum Kind {
    /// One of our programs, by its name in the build directory.
    Program(&'static str),
    /// A file that belongs to the package.
    File(Cow<'static, [u8]>),
    /// What one of our programs prints of itself, such as its man page, for these arguments.
    Printed {
        /// Its name in the build directory.
        program: &'static str,
        /// What it is asked.
        arguments: &'static [&'static str],
        /// Whether it is to be compressed.
        gzipped: bool,
    },
    /// A file that the operator edits: upgrades keep the edits.
    Config(Cow<'static, [u8]>),
    /// A licence text.
    License(Cow<'static, [u8]>),
    /// A directory.
    Directory,
    /// A symbolic link to a target.
    Link(String),
}

/// Shell texts that RPM runs as root. Each gets how many of the package will be installed afterwards as `$1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scriptlets {
    /// Before the files come.
    pub before_install: Option<String>,
    /// After the files came.
    pub after_install: Option<String>,
    /// Before the files go.
    pub before_remove: Option<String>,
    /// After the files went.
    pub after_remove: Option<String>,
}

impl Entry {
    fn new(path: impl Into<String>, mode: u16, kind: Kind) -> Self {
        Self { path: path.into(), mode, owner: "root", kind }
    }

    /// A program of ours.
    pub fn program(path: impl Into<String>, binary: &'static str) -> Self {
        Self::new(path, 0o755, Kind::Program(binary))
    }

    /// A script.
    pub fn script(path: impl Into<String>, text: &'static str) -> Self {
        Self::new(path, 0o755, Kind::File(Cow::Borrowed(text.as_bytes())))
    }

    /// A file that belongs to the package.
    pub fn file(path: impl Into<String>, content: impl Into<Cow<'static, [u8]>>) -> Self {
        Self::new(path, 0o644, Kind::File(content.into()))
    }

    /// A program's man page, compressed.
    pub fn man_page(
        path: impl Into<String>,
        program: &'static str,
        arguments: &'static [&'static str],
    ) -> Self {
        Self::new(path, 0o644, Kind::Printed { program, arguments, gzipped: true })
    }

    /// What a program prints.
    pub fn printed(
        path: impl Into<String>,
        program: &'static str,
        arguments: &'static [&'static str],
    ) -> Self {
        Self::new(path, 0o644, Kind::Printed { program, arguments, gzipped: false })
    }

    /// A file that the operator edits.
    pub fn config(path: impl Into<String>, text: impl Into<Cow<'static, str>>) -> Self {
        let content = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self::new(path, 0o644, Kind::Config(content))
    }

    /// A directory.
    pub fn directory(path: impl Into<String>) -> Self {
        Self::new(path, 0o755, Kind::Directory)
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(path, 0o777, Kind::Link(target.into()))
    }

    /// The licence of the project, as the package's.
    pub fn license(package: &str) -> Self {
        let text = include_bytes!("../../LICENSE").as_slice();
        Self::new(
            format!("/usr/share/licenses/{package}/LICENSE"),
            0o644,
            Kind::License(text.into()),
        )
    }

    /// The same entry, owned by a user and its group.
    pub fn owned_by(mut self, user: &'static str) -> Self {
        self.owner = user;
        self
    }

    /// The same entry with other permission bits.
    pub fn mode(mut self, mode: u16) -> Self {
        self.mode = mode;
        self
    }
}
