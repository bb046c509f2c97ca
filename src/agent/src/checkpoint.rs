//! Checkpoint files: a 4-byte little-endian length and a message, written whole or not at all (Mesos'
//! `slave/state.cpp`, stout's `protobuf::write`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use prost::Message;

/// A message framed as on disk.
pub fn frame<M: Message>(message: &M) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut framed = Vec::with_capacity(4 + body.len());
    framed.extend_from_slice(&(body.len() as u32).to_le_bytes());
    framed.extend_from_slice(&body);
    framed
}

/// Replaces a file: written beside it, synced, renamed.
///
/// # Errors
/// What the system says; the old file is intact then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// Appends to a file and syncs it.
///
/// # Errors
/// What the system says.
pub fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
    file.write_all(content)?;
    file.sync_data()
}

/// Points `link` at `target`, whatever it pointed at before.
///
/// # Errors
/// What the system says.
pub fn link(target: &Path, link: &Path) -> io::Result<()> {
    if let Some(directory) = link.parent() {
        fs::create_dir_all(directory)?;
    }
    let temporary = link.with_extension("new");
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, link)
}

/// Reads the one message in a file; `None` if there is no such file.
///
/// # Errors
/// When it can't be read or is no such message.
pub fn read<M: Message + Default>(path: &Path) -> io::Result<Option<M>> {
    match fs::read(path) {
        Ok(content) => match read_all::<M>(&content) {
            (mut messages, true) if messages.len() == 1 => Ok(messages.pop()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All whole messages in a row, and whether nothing was left over (a torn tail is).
pub fn read_all<M: Message + Default>(content: &[u8]) -> (Vec<M>, bool) {
    let (mut messages, mut rest) = (Vec::new(), content);
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let Some((body, next)) = body.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        let Ok(message) = M::decode(body) else { break };
        messages.push(message);
        rest = next;
    }
    (messages, rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::v1::TaskId;

    #[test]
    fn messages_are_read_back_and_torn_tails_noticed() {
        let id = |value: &str| TaskId { value: value.to_owned() };
        let mut content = [frame(&id("a")), frame(&id("b"))].concat();
        assert_eq!(read_all::<TaskId>(&content), (vec![id("a"), id("b")], true));
        content.pop();
        assert_eq!(read_all::<TaskId>(&content), (vec![id("a")], false));
    }

    #[test]
    fn a_replaced_file_is_whole() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("x/slave.info");
        for value in ["one", "two"] {
            replace(&path, &frame(&TaskId { value: value.to_owned() })).unwrap();
        }
        assert_eq!(read::<TaskId>(&path).unwrap().unwrap().value, "two");
        assert!(read::<TaskId>(&directory.path().join("y")).unwrap().is_none());
    }
}
