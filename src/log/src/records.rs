//! A file of checksummed records: opened with a visit of each, appended to, replaced by one record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::LogError;
use crate::format::{self, Found, MAGIC, PAYLOAD_MAX};

/// The file, open for appending.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Records {
    /// Opens `<directory>/<name>`, made if missing; `visit` sees each record, the oldest first. Also gives how many
    /// bytes of a torn tail were cut.
    pub(crate) fn open(
        directory: &Path,
        name: &str,
        mut visit: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(Self, u64), LogError> {
        let path = directory.join(name);
        let at = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { action, path, source }
        };
        fs::create_dir_all(directory).map_err(at("create", directory))?;
        // A rewrite that didn't come to its end never counted.
        let _ = fs::remove_file(path.with_extension("new"));
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(at("open", &path))?;
        let content = fs::read(&path).map_err(at("read", &path))?;
        if content.len() < MAGIC.len() && MAGIC.starts_with(&content) {
            file.set_len(0).map_err(at("truncate", &path))?;
            file.write_all(MAGIC).and_then(|()| file.sync_all()).map_err(at("write", &path))?;
            sync_directory(directory).map_err(at("sync", directory))?;
            return Ok((Self { path, file, length: MAGIC.len() as u64 }, 0));
        }
        if !content.starts_with(MAGIC) {
            return Err(LogError::Foreign { path });
        }
        let mut offset = MAGIC.len();
        loop {
            match format::look(&content, offset) {
                Found::Record(payload, next) => {
                    if let Err(reason) = visit(payload) {
                        return Err(LogError::Unreadable { path, offset: offset as u64, reason });
                    }
                    offset = next;
                }
                Found::End => break,
                Found::Torn => {
                    file.set_len(offset as u64)
                        .and_then(|()| file.sync_all())
                        .map_err(at("truncate", &path))?;
                    break;
                }
                Found::Corrupt => return Err(LogError::Corrupt { path, offset: offset as u64 }),
            }
        }
        let cut_bytes = (content.len() - offset) as u64;
        Ok((Self { path, file, length: offset as u64 }, cut_bytes))
    }

    /// Appends a record; when this returns, it is on disk. What was half written is cut again, so that a later append
    /// may succeed.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), LogError> {
        let bytes = encode(payload)?;
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            // If this fails too, the next open cuts the tail.
            let _ = self.file.set_len(self.length);
            return Err(LogError::Io { action: "append to", path: self.path.clone(), source });
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the content by one record; after a crash either the old or the new content is found.
    pub(crate) fn rewrite(&mut self, payload: &[u8]) -> Result<(), LogError> {
        let bytes = encode(payload)?;
        let new = self.path.with_extension("new");
        let replace = || -> io::Result<File> {
            let mut file = OpenOptions::new().append(true).create_new(true).open(&new)?;
            file.write_all(MAGIC)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
            Ok(file)
        };
        match replace() {
            Ok(file) => {
                self.file = file;
                self.length = (MAGIC.len() + bytes.len()) as u64;
                Ok(())
            }
            Err(source) => {
                let _ = fs::remove_file(&new);
                Err(LogError::Io { action: "rewrite", path: self.path.clone(), source })
            }
        }
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.length
    }
}

fn encode(payload: &[u8]) -> Result<Vec<u8>, LogError> {
    if payload.len() > PAYLOAD_MAX {
        return Err(LogError::TooLong(payload.len()));
    }
    Ok(format::encode(payload))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
