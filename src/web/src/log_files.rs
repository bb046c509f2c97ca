//! Log files as glog keeps them, which is where operators of Mesos look: `mesos-master.INFO` names the newest of
//! `mesos-master.<host>.<user>.log.INFO.<date>-<time>.<pid>`, and has all; `.WARNING` and `.ERROR` have what is as bad or worse.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A file as long as this is followed by a new one, in bytes (glog's `max_log_size`).
const SIZE_MAX: u64 = 1800 << 20;

/// The newest file of one severity. It is made with the first line that is written to it.
#[derive(Debug)]
pub struct LogFile {
    directory: PathBuf,
    program: String,
    severity: &'static str,
    open: Option<(File, u64)>,
}

impl LogFile {
    /// Of a program's lines of a severity (`INFO`, `WARNING`, `ERROR`) or worse.
    pub fn new(directory: &Path, program: &str, severity: &'static str) -> Self {
        let (directory, program) = (directory.to_owned(), program.to_owned());
        Self { directory, program, severity, open: None }
    }

    /// The name of a file that is begun now.
    fn name(&self) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let user = std::env::var("USER").unwrap_or_else(|_| {
            let id = rustix::process::geteuid();
            if id.is_root() { "root".to_owned() } else { id.as_raw().to_string() }
        });
        let now = jiff::ZonedDateTime::new(jiff::Timestamp::now(), jiff::tz::TimeZone::system());
        let time = now.strftime("%Y%m%d-%H%M%S").to_string();
        let id = std::process::id();
        format!("{}.{host}.{user}.log.{}.{time}.{id}", self.program, self.severity)
    }

    fn begin(&self) -> io::Result<(File, u64)> {
        let name = self.name();
        let file = File::options().create(true).append(true).open(self.directory.join(&name))?;
        let length = file.metadata()?.len();
        // Best effort, as in glog: the file is there without it.
        let link = self.directory.join(format!("{}.{}", self.program, self.severity));
        let _ = fs::remove_file(&link);
        let _ = symlink(&name, &link);
        Ok((file, length))
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (mut file, length) = match self.open.take() {
            Some((file, length)) if length < SIZE_MAX => (file, length),
            _ => self.begin()?,
        };
        let written = file.write(line)?;
        self.open = Some((file, length + written as u64));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |(file, _)| file.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_is_found_by_its_short_name() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut log = LogFile::new(directory.path(), "mesos-master", "WARNING");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing to say yet");
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        let link = directory.path().join("mesos-master.WARNING");
        assert_eq!(fs::read_to_string(&link).unwrap(), "one\ntwo\n");
        let name = fs::read_link(&link).unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("mesos-master.") && name.contains(".log.WARNING."), "{name}");
        // As if it were long: the next line begins another.
        log.open.as_mut().unwrap().1 = SIZE_MAX;
        fs::remove_file(directory.path().join(&name)).unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "three\n");
    }
}
