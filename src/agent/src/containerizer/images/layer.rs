//! Layers: unpacking one, and laying one over others. A layer names what it removes from those below it: `.wh.NAME` is
//! NAME, `.wh..wh..opq` all that is there.
//!
//! Whoever made an image is not trusted: nothing in it, no `..` and no symbolic link, leads out of the directory that
//! it is unpacked into.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::{XattrFlags, lsetxattr};
use sha2::{Digest as _, Sha256};

use super::spec::Digest;
use super::zstd;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Bytes of a layer, unpacked: what is beyond is no image but an attack.
const UNPACKED_MAX: u64 = 64 << 30;

struct Hashing<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.hash.update(&into[..count]);
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("it is larger than any layer may be"))?;
        Ok(count)
    }
}

/// A file's content, unpacked if it is packed.
///
/// # Errors
/// What the system says.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut start = [0; 4];
    let count = File::open(path)?.read(&mut start)?;
    let file = BufReader::with_capacity(1 << 16, File::open(path)?);
    match &start[..count] {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(file))),
        start if start == zstd::MAGIC => Ok(Box::new(zstd::Unpacking::new(file))),
        _ => Ok(Box::new(file)),
    }
}

/// Unpacks a file of tar into an empty directory; what the unpacked file hashes to.
///
/// # Errors
/// What is wrong with it, or what the system says.
pub(super) fn unpack(from: &Path, to: &Path) -> io::Result<Digest> {
    let mut reader = Hashing { inner: open(from)?, hash: Sha256::new(), left: UNPACKED_MAX };
    let mut archive = tar::Archive::new(&mut reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        // A container gets its devices from the agent, and nobody waits at the other end of a pipe.
        if kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
            continue;
        }
        let name = entry.path()?.into_owned();
        if !entry.unpack_in(to).map_err(|error| whole(&error))? {
            return Err(io::Error::other(format!("'{}' leads out of it", name.display())));
        }
    }
    // The end of the archive is before that of the file.
    io::copy(&mut reader, &mut io::sink())?;
    Ok(Digest::of(&reader.hash.finalize()))
}

/// An error with its reasons, which the library shows only one by one.
fn whole(error: &io::Error) -> io::Error {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        text = format!("{text}: {reason}");
        next = reason.source();
    }
    io::Error::new(error.kind(), text)
}

fn name_of(entry: &fs::DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

/// What a name removes.
enum Removal {
    None,
    All,
    One(String),
    /// A note of the file system that made the layer.
    Nothing,
}

fn removal(name: &str) -> Removal {
    match name.strip_prefix(WHITEOUT) {
        None => Removal::None,
        Some(_) if name == OPAQUE => Removal::All,
        Some(".." | "." | "") => Removal::Nothing,
        Some(rest) if rest.starts_with(WHITEOUT) => Removal::Nothing,
        Some(rest) => Removal::One(rest.to_owned()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lays a layer over what is in a directory.
///
/// # Errors
/// What the system says.
pub(super) fn lay(layer: &Path, over: &Path) -> io::Result<()> {
    lay_directory(layer, over, &mut HashMap::new())
}

fn lay_directory(
    from: &Path,
    to: &Path,
    linked: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        match removal(&name_of(&entry)) {
            Removal::None => others.push(entry),
            Removal::Nothing => {}
            Removal::One(name) => remove(&to.join(name))?,
            Removal::All => {
                for below in fs::read_dir(to)? {
                    remove(&below?.path())?;
                }
            }
        }
    }
    for entry in others {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let own = fs::symlink_metadata(&source)?;
        // Never through a link: what is there is either a directory itself, or makes room.
        let is_directory = fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir());
        if !(own.is_dir() && is_directory) {
            remove(&target)?;
        }
        if own.is_dir() {
            if !is_directory {
                fs::create_dir(&target)?;
            }
            lay_directory(&source, &target, linked)?;
        } else if let Some(first) = linked.get(&(own.dev(), own.ino())) {
            fs::hard_link(first, &target)?;
            continue;
        } else if own.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
            if own.nlink() > 1 {
                linked.insert((own.dev(), own.ino()), target.clone());
            }
        }
        dress(&target, &own)?;
    }
    Ok(())
}

/// Owner and mode, in this order: the first takes bits of the second.
fn dress(path: &Path, own: &Metadata) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        lchown(path, Some(own.uid()), Some(own.gid()))?;
    }
    if own.is_symlink() {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(own.mode()))
}

/// Has a layer name what it removes as overlayfs does it: devices without number, and an attribute.
///
/// # Errors
/// What the system says.
pub(super) fn convert(layer: &Path) -> io::Result<()> {
    for entry in fs::read_dir(layer)? {
        let entry = entry?;
        match removal(&name_of(&entry)) {
            Removal::None => {
                if entry.file_type()?.is_dir() {
                    convert(&entry.path())?;
                }
                continue;
            }
            Removal::All => {
                lsetxattr(layer, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
            }
            Removal::One(name) => {
                let path = layer.join(name);
                remove(&path)?;
                mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0)?;
            }
            Removal::Nothing => {}
        }
        remove(&entry.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    /// A file of tar: names with their content; a name that ends with `/` is a directory, one with `->` a link.
    fn archive(path: &Path, entries: &[(&str, &str)]) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
                set(&mut header, 0);
            }
            let (name, link) = name.split_once("->").map_or((*name, None), |(a, b)| (a, Some(b)));
            header.set_size(content.len() as u64);
            let kind = match link {
                Some(_) => tar::EntryType::Symlink,
                None if name.ends_with('/') => tar::EntryType::Directory,
                None => tar::EntryType::Regular,
            };
            header.set_entry_type(kind);
            // Past the builder's own checks: an attacker has none.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            if let Some(link) = link {
                header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        fs::write(path, builder.into_inner().unwrap()).unwrap();
    }

    #[test]
    fn a_layer_covers_and_removes_what_is_below_it() {
        let directory = tempfile::TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        archive(
            &at("1.tar"),
            &[
                ("a/", ""),
                ("a/x", "1"),
                ("a/y", "1"),
                ("b/", ""),
                ("b/z", "1"),
                ("l->/nowhere", ""),
                ("file", "1"),
            ],
        );
        archive(
            &at("2.tar"),
            &[
                ("a/", ""),
                ("a/.wh.x", ""),
                ("a/y", "2"),
                ("b/", ""),
                ("b/.wh..wh..opq", ""),
                ("b/new", "2"),
                ("l/", ""),
                ("l/in", "2"),
                (".wh.file", ""),
            ],
        );
        let root = at("root");
        fs::create_dir(&root).unwrap();
        for name in ["1", "2"] {
            fs::create_dir(at(name)).unwrap();
            let digest = unpack(&at(&format!("{name}.tar")), &at(name)).unwrap();
            let content = fs::read(at(&format!("{name}.tar"))).unwrap();
            assert_eq!(digest, Digest::of(&Sha256::digest(content)));
            lay(&at(name), &root).unwrap();
        }
        let read = |name: &str| fs::read_to_string(root.join(name)).ok();
        assert_eq!((read("a/x"), read("a/y").as_deref()), (None, Some("2")));
        assert_eq!((read("b/z"), read("b/new").as_deref()), (None, Some("2")));
        assert_eq!(read("l/in").as_deref(), Some("2"), "a directory takes a link's place");
        assert!(read("file").is_none() && !root.join(".wh.file").exists());
    }

    #[test]
    fn nothing_of_a_layer_lands_outside() {
        let directory = tempfile::TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("outside")).unwrap();
        let outside = at("outside").to_string_lossy().into_owned();
        for (index, entries) in [
            vec![("../outside/x".to_owned(), "1")],
            vec![(format!("l->{outside}"), ""), ("l/x".to_owned(), "1")],
            vec![("l->../../outside".to_owned(), ""), ("l/x".to_owned(), "1")],
        ]
        .iter()
        .enumerate()
        {
            let entries: Vec<(&str, &str)> =
                entries.iter().map(|(name, content)| (name.as_str(), *content)).collect();
            archive(&at("evil.tar"), &entries);
            let into = at(&format!("into{index}"));
            fs::create_dir(&into).unwrap();
            assert!(unpack(&at("evil.tar"), &into).is_err(), "{entries:?}");
        }
        // Below one that an earlier layer brought.
        archive(&at("1.tar"), &[(&format!("l->{outside}"), "")]);
        archive(&at("2.tar"), &[("l/", ""), ("l/x", "1"), ("l/.wh.y", "")]);
        fs::write(at("outside/y"), "kept").unwrap();
        fs::create_dir(at("root")).unwrap();
        for name in ["1", "2"] {
            fs::create_dir(at(name)).unwrap();
            unpack(&at(&format!("{name}.tar")), &at(name)).unwrap();
            lay(&at(name), &at("root")).unwrap();
        }
        let left: Vec<_> = fs::read_dir(at("outside")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(fs::read_to_string(at("outside/y")).unwrap(), "kept");
    }

    #[test]
    fn packed_layers_are_unpacked_and_broken_ones_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        archive(&at("1.tar"), &[("x", "1")]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&fs::read(at("1.tar")).unwrap()).unwrap();
        let packed = packed.finish().unwrap();
        fs::write(at("1.tgz"), &packed).unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(at(name)).unwrap();
        }
        assert_eq!(
            unpack(&at("1.tgz"), &at("a")).unwrap(),
            unpack(&at("1.tar"), &at("b")).unwrap()
        );
        fs::write(at("1.tgz"), &packed[..packed.len() / 2]).unwrap();
        assert!(unpack(&at("1.tgz"), &at("c")).is_err());
        let (tar, fastest) = (fs::read(at("1.tar")).unwrap(), CompressionLevel::Fastest);
        fs::write(at("1.zst"), compress_to_vec(&tar[..], fastest)).unwrap();
        fs::create_dir(at("d")).unwrap();
        assert_eq!(
            unpack(&at("1.zst"), &at("d")).unwrap(),
            unpack(&at("1.tar"), &at("b")).unwrap()
        );
        fs::write(at("1.zst"), [0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap();
        assert!(unpack(&at("1.zst"), &at("c")).is_err());
    }
}
