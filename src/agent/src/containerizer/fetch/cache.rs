//! The fetcher's cache (`slave/containerizer/fetcher.cpp`): files that URIs with `cache` brought, kept a user, up to
//! `--fetcher_cache_size`; the longest unused go first. Two containers that want the same URI download it once.
//!
//! A user's files are written and read by that user, in a directory that nobody else may enter: the agent only makes
//! the directory, counts, and removes.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::{User, chown};
use tokio::sync::OwnedMutexGuard;

/// Most characters of a file's own name in the cache: its end says how it is to be unpacked.
const NAME_MAX: usize = 100;
/// Where those of the agent's own user are.
const OWN: &str = ".agent";

/// Who fetched what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    user: Option<String>,
    uri: String,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    size: u64,
    /// How many are reading it, or writing it: it stays meanwhile.
    holders: usize,
    used: u64,
}

#[derive(Debug, Default)]
struct Files {
    all: HashMap<Key, File>,
    /// Held while a key's file is being brought.
    filling: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
    clock: u64,
}

impl Files {
    fn taken(&self) -> u64 {
        self.all.values().map(|file| file.size).sum()
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Takes out what has been unused for longest until there is room; nothing if there can't be.
    fn make_room(&mut self, size: u64, limit: u64) -> Result<Vec<PathBuf>, String> {
        let held: u64 =
            self.all.values().filter(|file| file.holders > 0).map(|file| file.size).sum();
        if held.saturating_add(size) > limit {
            return Err(format!("{size} bytes don't fit into the cache of {limit} bytes"));
        }
        let mut removed = Vec::new();
        while self.taken() + size > limit {
            let free = self.all.iter().filter(|(_, file)| file.holders == 0);
            let oldest = free.min_by_key(|(_, file)| file.used).map(|(key, _)| key.clone());
            let Some(file) = oldest.and_then(|key| self.all.remove(&key)) else { break };
            removed.push(file.path);
        }
        Ok(removed)
    }
}

/// The cache of an agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
    limit: u64,
    files: Arc<Mutex<Files>>,
}

/// A file of the cache, which stays for as long as this is held.
#[derive(Debug)]
pub struct Held {
    cache: Cache,
    key: Key,
    path: PathBuf,
}

/// Whoever has it brings the file, while others who want the same wait.
#[derive(Debug)]
struct Turn {
    cache: Cache,
    key: Key,
    filling: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut files = self.cache.files();
        let is_wanted = self.filling.take().is_some_and(|turn| {
            // Theirs, the map's and this one.
            Arc::strong_count(OwnedMutexGuard::mutex(&turn)) > 2
        });
        if !is_wanted {
            files.filling.remove(&self.key);
        }
    }
}

/// The right to bring a file that is not there yet.
#[derive(Debug)]
pub struct Vacant(Turn);

/// A file that is being brought. Dropped before [`Filling::done`], there is none.
#[derive(Debug)]
pub struct Filling {
    held: Option<Held>,
    path: PathBuf,
    _turn: Turn,
}

/// What the cache has of a URI.
#[derive(Debug)]
pub enum Found {
    /// A file.
    There(Held),
    /// Nothing.
    Vacant(Vacant),
}

impl Cache {
    /// An empty cache of `limit` bytes: what an agent before has left in `directory` is removed, as the original does.
    pub fn new(directory: &Path, limit: u64) -> Self {
        let cache = Self { directory: directory.to_owned(), limit, files: Arc::default() };
        if untrusted(directory).is_some() {
            return cache;
        }
        // Only what is named as caches name it: somebody may have given a directory with something else in it.
        for user in fs::read_dir(directory).into_iter().flatten().flatten() {
            for file in fs::read_dir(user.path()).into_iter().flatten().flatten() {
                if is_cached(&file.file_name().to_string_lossy()) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        cache
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that files in the cache take.
    pub fn used(&self) -> u64 {
        self.files().taken()
    }

    /// Bytes that they may take.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn look(&self, key: &Key) -> Option<Held> {
        let mut files = self.files();
        let now = files.tick();
        let file = files.all.get_mut(key)?;
        // Somebody may have cleaned up.
        if !file.path.exists() {
            files.all.remove(key);
            return None;
        }
        (file.used, file.holders) = (now, file.holders + 1);
        Some(Held { cache: self.clone(), key: key.clone(), path: file.path.clone() })
    }

    /// What there is of a URI for a user (`None`: the agent's own). Waits while another brings it.
    pub async fn find(&self, user: Option<&str>, uri: &str) -> Found {
        let key = Key { user: user.map(str::to_owned), uri: uri.to_owned() };
        let filling = self.files().filling.entry(key.clone()).or_default().clone();
        let filling = filling.lock_owned().await;
        let turn = Turn { cache: self.clone(), key, filling: Some(filling) };
        match self.look(&turn.key) {
            Some(held) => Found::There(held),
            None => Found::Vacant(Vacant(turn)),
        }
    }

    fn user_directory(&self, user: Option<&str>) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        if let Some(path) = untrusted(&self.directory) {
            return Err(io::Error::other(format!("others may write to {}", path.display())));
        }
        let path = self.directory.join(user.unwrap_or(OWN));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        if let Some(name) = user {
            let user = User::from_name(name)?
                .ok_or_else(|| io::Error::other(format!("no user '{name}' on this host")))?;
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(path)
    }
}

/// The part of a path that others than this user and root could put something else in the place of.
fn untrusted(path: &Path) -> Option<PathBuf> {
    let own = nix::unistd::geteuid().as_raw();
    let mut parts = path.ancestors().filter(|part| !part.as_os_str().is_empty());
    let is_bad = |part: &&Path| {
        // What is not there yet, this agent makes.
        let Ok(part) = fs::symlink_metadata(part) else { return false };
        let is_shared = part.mode() & 0o022 != 0 && part.mode() & 0o1000 == 0;
        part.is_symlink() || is_shared || ![0, own].contains(&part.uid())
    };
    parts.find(is_bad).map(Path::to_owned)
}

fn is_cached(name: &str) -> bool {
    let number = name.strip_prefix('c').and_then(|rest| rest.split_once('-'));
    number.is_some_and(|(number, _)| number.parse::<u64>().is_ok())
}

impl Vacant {
    /// Makes room for a file of `size` bytes that ends in `name`, and says where it is to be written.
    ///
    /// # Errors
    /// When there can be no room, or no directory.
    pub fn reserve(self, size: u64, name: &str) -> Result<Filling, String> {
        let Turn { cache, key, .. } = &self.0;
        let directory = cache.user_directory(key.user.as_deref());
        let directory =
            directory.map_err(|error| format!("{}: {error}", cache.directory.display()))?;
        let mut files = cache.files();
        for old in files.make_room(size, cache.limit)? {
            let _ = fs::remove_file(old);
        }
        let now = files.tick();
        let end = name.char_indices().rev().nth(NAME_MAX - 1).map_or(name, |(at, _)| &name[at..]);
        let path = directory.join(format!("c{now}-{end}"));
        let file = File { path: path.clone(), size, holders: 1, used: now };
        files.all.insert(key.clone(), file);
        drop(files);
        let held = Held { cache: cache.clone(), key: key.clone(), path: path.clone() };
        Ok(Filling { held: Some(held), path, _turn: self.0 })
    }
}

impl Filling {
    /// Where it is to be written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is there.
    ///
    /// # Errors
    /// When it isn't, or has another size than was said.
    pub fn done(mut self) -> Result<Held, String> {
        let size = fs::metadata(&self.path).map(|file| file.len());
        let size = size.map_err(|error| format!("{}: {error}", self.path.display()))?;
        let said = self.held.as_ref().and_then(Held::size).unwrap_or_default();
        if size != said {
            return Err(format!("{size} bytes came where {said} were said"));
        }
        self.held.take().ok_or_else(|| "the file is gone".to_owned())
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.cache.files().all.remove(&held.key);
            let _ = fs::remove_file(&held.path);
        }
    }
}

impl Held {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Option<u64> {
        self.cache.files().all.get(&self.key).map(|file| file.size)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(file) = self.cache.files().all.get_mut(&self.key) {
            file.holders = file.holders.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(limit: u64) -> (tempfile::TempDir, Cache) {
        let directory = tempfile::TempDir::new().unwrap();
        let cache = Cache::new(directory.path(), limit);
        (directory, cache)
    }

    async fn bring(cache: &Cache, uri: &str, content: &str) -> Result<Held, String> {
        match cache.find(None, uri).await {
            Found::There(held) => Ok(held),
            Found::Vacant(vacant) => {
                let filling = vacant.reserve(content.len() as u64, "x.tar")?;
                fs::write(filling.path(), content).unwrap();
                filling.done()
            }
        }
    }

    #[tokio::test]
    async fn the_longest_unused_go_and_what_is_held_stays() {
        let (directory, cache) = cache(10);
        let first = bring(&cache, "a", "1234").await.unwrap();
        drop(bring(&cache, "b", "1234").await.unwrap());
        let path = first.path().to_owned();
        assert_eq!(cache.used(), 8);
        let text = bring(&cache, "c", "1234567").await.unwrap_err();
        assert!(text.contains("don't fit"), "{text}");
        drop(first);
        // Used again, `a` is younger than `b`.
        drop(bring(&cache, "a", "").await.unwrap());
        drop(bring(&cache, "d", "12").await.unwrap());
        assert_eq!(cache.used(), 10);
        drop(bring(&cache, "e", "12").await.unwrap());
        assert!(path.exists());
        assert!(matches!(cache.find(None, "b").await, Found::Vacant(_)));
        assert!(matches!(cache.find(Some("other"), "a").await, Found::Vacant(_)));
        assert!(matches!(cache.find(None, "a").await, Found::There(_)));
        assert_eq!(cache.files().filling.len(), 0, "nobody waits");

        fs::write(directory.path().join(".agent/kept"), "").unwrap();
        let emptied = Cache::new(directory.path(), 10);
        assert_eq!((emptied.used(), path.exists()), (0, false));
        assert!(directory.path().join(".agent/kept").exists(), "not of a cache");
    }

    #[tokio::test]
    async fn a_directory_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let (directory, cache) = cache(100);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let text = bring(&cache, "a", "1").await.unwrap_err();
        assert!(text.contains("others may write to"), "{text}");
    }

    #[tokio::test]
    async fn two_who_want_the_same_bring_it_once_and_a_failed_one_is_brought_again() {
        let (_directory, cache) = cache(100);
        let Found::Vacant(vacant) = cache.find(None, "a").await else { panic!("is empty") };
        let filling = vacant.reserve(3, "a").unwrap();
        let (other, waits) = (cache.clone(), Arc::new(tokio::sync::Notify::new()));
        let started = waits.clone();
        let second = tokio::spawn(async move {
            started.notify_one();
            matches!(other.find(None, "a").await, Found::There(_))
        });
        waits.notified().await;
        assert!(!second.is_finished());
        fs::write(filling.path(), "123").unwrap();
        drop(filling.done().unwrap());
        assert!(second.await.unwrap());

        let Found::Vacant(vacant) = cache.find(None, "b").await else { panic!("is empty") };
        let filling = vacant.reserve(3, "b").unwrap();
        fs::write(filling.path(), "12").unwrap();
        assert!(filling.done().unwrap_err().contains("2 bytes came where 3"));
        assert!(matches!(cache.find(None, "b").await, Found::Vacant(_)));
        assert_eq!(cache.used(), 3);
    }
}
