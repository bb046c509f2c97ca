//! Checkpoint files: a 4-byte little-endian length and a message, written whole or not at all (Mesos'
//! `slave/state.cpp`, stout's `protobuf::write`).
//!
//! What one batch of decisions writes is committed together: every file written, then every file synced, then
//! renamed, then the directories synced. A file system that commits its journal once does so for all of them.

pub mod found;
pub mod paths;
pub mod resources;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use prost::Message;

/// Longest message in a file.
const MESSAGE_MAX: usize = 64 << 20;

/// A message framed as on disk.
pub fn frame<M: Message>(message: &M) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut framed = Vec::with_capacity(4 + body.len());
    framed.extend_from_slice(&(body.len() as u32).to_le_bytes());
    framed.extend_from_slice(&body);
    framed
}

/// An error that names the file.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Changes that are committed together.
#[derive(Debug, Default)]
pub struct Batch {
    replaced: IndexMap<PathBuf, Vec<u8>>,
    appended: IndexMap<PathBuf, Vec<u8>>,
    links: IndexMap<PathBuf, PathBuf>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.appended.is_empty() && self.links.is_empty()
    }

    /// Replaces a file.
    pub fn replace(&mut self, path: PathBuf, content: Vec<u8>) {
        self.replaced.insert(path, content);
    }

    /// Appends to a file.
    pub fn append(&mut self, path: PathBuf, content: &[u8]) {
        self.appended.entry(path).or_default().extend_from_slice(content);
    }

    /// Points a symbolic link at `target`, whatever it pointed at before.
    pub fn link(&mut self, target: PathBuf, path: PathBuf) {
        self.links.insert(path, target);
    }

    /// Writes everything; when it returns, everything is on disk.
    ///
    /// # Errors
    /// What the system says, with the file. Replaced files are whole then, old or new.
    pub fn commit(self) -> io::Result<()> {
        let mut directories = BTreeSet::new();
        let mut files = Vec::new();
        for (path, content) in &self.replaced {
            make_parent(path, &mut directories)?;
            let temporary = beside(path);
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary);
            let written = file.and_then(|mut file| file.write_all(content).map(|()| file));
            files.push((temporary.clone(), written.map_err(|error| named(&temporary, &error))?));
        }
        for (path, content) in &self.appended {
            make_parent(path, &mut directories)?;
            let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
            let written = file.and_then(|mut file| file.write_all(content).map(|()| file));
            files.push((path.clone(), written.map_err(|error| named(path, &error))?));
        }
        for (path, file) in &files {
            file.sync_all().map_err(|error| named(path, &error))?;
        }
        for path in self.replaced.keys() {
            fs::rename(beside(path), path).map_err(|error| named(path, &error))?;
        }
        for (path, target) in &self.links {
            make_parent(path, &mut directories)?;
            let temporary = beside(path);
            // Left over from a crash, or not there.
            let _ = fs::remove_file(&temporary);
            std::os::unix::fs::symlink(target, &temporary)
                .and_then(|()| fs::rename(&temporary, path))
                .map_err(|error| named(path, &error))?;
        }
        for directory in directories {
            File::open(&directory)
                .and_then(|file| file.sync_all())
                .map_err(|error| named(&directory, &error))?;
        }
        Ok(())
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Makes the directory of a file; notes each directory that gets a new entry.
fn make_parent(path: &Path, touched: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    touched.insert(directory.to_owned());
    for ancestor in directory.ancestors().skip(1) {
        if directory.exists() {
            break;
        }
        touched.insert(ancestor.to_owned());
        if ancestor.exists() {
            break;
        }
    }
    fs::create_dir_all(directory).map_err(|error| named(directory, &error))
}

/// Replaces one file, on disk when it returns.
///
/// # Errors
/// What the system says; the old file is intact then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.replace(path.to_owned(), content.to_vec());
    batch.commit()
}

/// Reads the one message in a file; `None` if there is no such file.
///
/// # Errors
/// When it can't be read or is no such message.
pub fn read<M: Message + Default>(path: &Path) -> io::Result<Option<M>> {
    match fs::read(path) {
        Ok(content) => match read_all::<M>(&content) {
            (mut messages, 0) if messages.len() == 1 => Ok(messages.pop()),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: damaged", path.display()),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

/// All whole messages in a row, and how many bytes are left over (a torn tail).
pub fn read_all<M: Message + Default>(content: &[u8]) -> (Vec<M>, usize) {
    let (mut messages, mut rest) = (Vec::new(), content);
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((body, next)) = body.split_at_checked(length).filter(|_| length <= MESSAGE_MAX)
        else {
            break;
        };
        let Ok(message) = M::decode(body) else { break };
        messages.push(message);
        rest = next;
    }
    (messages, rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::v1::TaskId;
    use proptest::prelude::*;

    fn id(value: &str) -> TaskId {
        TaskId { value: value.to_owned() }
    }

    #[test]
    fn a_batch_replaces_appends_and_links() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        for value in ["one", "two"] {
            let mut batch = Batch::default();
            batch.replace(path("x/y/slave.info"), frame(&id(value)));
            batch.append(path("x/task.updates"), &frame(&id(value)));
            batch.append(path("x/task.updates"), &frame(&id("again")));
            batch.link(path("x/y"), path("x/latest"));
            batch.commit().unwrap();
        }
        assert_eq!(read::<TaskId>(&path("x/latest/slave.info")).unwrap(), Some(id("two")));
        let content = fs::read(path("x/task.updates")).unwrap();
        let expected = ["one", "again", "two", "again"].map(id).to_vec();
        assert_eq!(read_all::<TaskId>(&content), (expected, 0));
        assert!(read::<TaskId>(&path("none")).unwrap().is_none());
        assert_eq!(fs::read_dir(path("x")).unwrap().count(), 3, "nothing temporary is left");
    }

    #[test]
    fn an_error_names_the_file() {
        let directory = tempfile::TempDir::new().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let path = directory.path().join("file/slave.info");
        let error = replace(&path, b"x").unwrap_err().to_string();
        assert!(error.contains("/file"), "{error}");
    }

    proptest! {
        #[test]
        fn a_cut_file_gives_the_whole_messages_before_the_cut(values in proptest::collection::vec("[a-z]{0,9}", 0..9), cut in 0usize..100) {
            let ids: Vec<TaskId> = values.iter().map(|value| id(value)).collect();
            let content: Vec<u8> = ids.iter().flat_map(frame).collect();
            let cut = cut.min(content.len());
            let (read, rest) = read_all::<TaskId>(&content[..cut]);
            prop_assert_eq!(&read[..], &ids[..read.len()]);
            let whole: usize = read.iter().map(|id| frame(id).len()).sum();
            prop_assert_eq!(whole + rest, cut);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(content in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_all::<TaskId>(&content);
        }
    }
}
