//! Watches that were set, and who tells of an event.
//!
//! The original has one watcher for all: an event is printed once, however many watches it sets off. Here each watch has a
//! receiver of its own, so for each event one of them speaks: see [`Table::speaks`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;
use zookeeper_client::{EventType, OneshotWatcher, PersistentWatcher, WatchedEvent};

use crate::output::Output;

/// What a watch is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A list of children, once.
    Child,
    /// Data, once.
    Data,
    /// A znode that is not there yet, once.
    Exist,
    /// Everything at one path.
    Persistent,
    /// Every znode from a path on.
    Recursive,
}

impl Kind {
    /// The event that tells of its removal (`Watcher.Event.EventType`).
    fn removed(self) -> &'static str {
        match self {
            Self::Child => "ChildWatchRemoved",
            Self::Data | Self::Exist => "DataWatchRemoved",
            Self::Persistent | Self::Recursive => "PersistentWatchRemoved",
        }
    }
}

type Key = (String, Kind);

#[derive(Debug, Default)]
struct Table {
    tasks: BTreeMap<Key, JoinHandle<()>>,
}

impl Table {
    fn has(&self, path: &str, kind: Kind) -> bool {
        self.tasks.contains_key(&(path.to_owned(), kind))
    }

    /// The lasting watch that tells of an event: the one at its path, else the nearest recursive one above.
    fn lasting_speaker(&self, path: &str, of_children: bool) -> Option<Key> {
        if self.has(path, Kind::Persistent) {
            return Some((path.to_owned(), Kind::Persistent));
        }
        if of_children {
            return None;
        }
        let mut at = path;
        loop {
            let shown = if at.is_empty() { "/" } else { at };
            if self.has(shown, Kind::Recursive) {
                return Some((shown.to_owned(), Kind::Recursive));
            }
            at = &at[..at.rfind('/')?];
        }
    }

    /// Whether the watch `key` is the one that tells of an event. A watch that fires once is gone then, and with a deletion
    /// all such watches of its path.
    fn speaks(&mut self, key: &Key, path: &str, of_children: bool, deleted: bool) -> bool {
        let lasting = self.lasting_speaker(path, of_children);
        if matches!(key.1, Kind::Persistent | Kind::Recursive) {
            return lasting.as_ref() == Some(key);
        }
        if self.tasks.remove(key).is_none() {
            return false;
        }
        if deleted {
            for kind in [Kind::Child, Kind::Data, Kind::Exist] {
                self.tasks.remove(&(key.0.clone(), kind));
            }
        }
        lasting.is_none()
    }
}

/// A session's watches.
#[derive(Clone)]
pub struct Watches {
    table: Arc<Mutex<Table>>,
    output: Output,
}

impl Watches {
    /// None; events will be printed to `output`.
    pub fn new(output: Output) -> Self {
        Self { table: Arc::default(), output }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        act(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn heard(&self, key: &Key, event: &WatchedEvent) {
        let kind = event.event_type;
        let of_children = kind == EventType::NodeChildrenChanged;
        let deleted = kind == EventType::NodeDeleted;
        if kind == EventType::Session {
            // The session's own watcher tells of it.
            self.with(|table| table.tasks.remove(key));
        } else if self.with(|table| table.speaks(key, &event.path, of_children, deleted)) {
            self.output.event("SyncConnected", &kind.to_string(), Some(&event.path));
        }
    }

    /// Keeps a watch that fires once; a second of its kind at a path is as good as the first.
    pub fn keep_once(&self, path: &str, kind: Kind, watcher: OneshotWatcher) {
        let (key, watches) = ((path.to_owned(), kind), self.clone());
        self.with(|table| {
            table.tasks.entry(key.clone()).or_insert_with(|| {
                tokio::spawn(async move {
                    let event = watcher.changed().await;
                    watches.heard(&key, &event);
                })
            });
        });
    }

    /// Keeps a watch that lasts.
    pub fn keep(&self, path: &str, kind: Kind, mut watcher: PersistentWatcher) {
        let (key, watches) = ((path.to_owned(), kind), self.clone());
        self.with(|table| {
            table.tasks.entry(key.clone()).or_insert_with(|| {
                tokio::spawn(async move {
                    loop {
                        let event = watcher.changed().await;
                        if event.event_type != EventType::Session {
                            watches.heard(&key, &event);
                        } else if event.session_state.is_terminated() {
                            break;
                        }
                    }
                })
            });
        });
    }

    /// Removes a path's watches of some kinds and tells of each sort once; whether there were any.
    pub async fn remove(&self, path: &str, kinds: &[Kind]) -> bool {
        let mut told = Vec::new();
        for kind in kinds {
            let Some(task) = self.with(|table| table.tasks.remove(&(path.to_owned(), *kind)))
            else {
                continue;
            };
            // A receiver that is dropped removes its watch from the server.
            task.abort();
            let _ = task.await;
            if !told.contains(&kind.removed()) {
                told.push(kind.removed());
            }
        }
        for event in &told {
            self.output.event("SyncConnected", event, Some(path));
        }
        !told.is_empty()
    }

    /// Forgets all, as the session has ended.
    pub fn clear(&self) {
        for task in self.with(|table| std::mem::take(&mut table.tasks)).into_values() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys: &[(&str, Kind)]) -> Table {
        let task = || tokio::spawn(async {});
        Table {
            tasks: keys.iter().map(|(path, kind)| (((*path).to_owned(), *kind), task())).collect(),
        }
    }

    fn key(path: &str, kind: Kind) -> Key {
        (path.to_owned(), kind)
    }

    #[tokio::test]
    async fn of_all_watches_that_an_event_sets_off_one_speaks() {
        let mut all = table(&[
            ("/", Kind::Recursive),
            ("/a", Kind::Recursive),
            ("/a", Kind::Persistent),
            ("/a", Kind::Data),
        ]);
        assert!(all.speaks(&key("/a", Kind::Persistent), "/a", false, false));
        assert!(!all.speaks(&key("/a", Kind::Recursive), "/a", false, false));
        assert!(!all.speaks(&key("/a", Kind::Data), "/a", false, false));
        assert!(all.speaks(&key("/a", Kind::Recursive), "/a/b/c", false, false));
        assert!(all.speaks(&key("/", Kind::Recursive), "/x", false, false));
        assert!(all.speaks(&key("/a", Kind::Persistent), "/a", true, false));
        assert_eq!(all.lasting_speaker("/x", true), None);
    }

    #[tokio::test]
    async fn a_deletion_is_told_once_where_data_and_children_are_watched() {
        let mut both = table(&[("/a", Kind::Data), ("/a", Kind::Child)]);
        assert!(both.speaks(&key("/a", Kind::Child), "/a", false, true));
        assert!(!both.speaks(&key("/a", Kind::Data), "/a", false, true));
        let mut both = table(&[("/a", Kind::Data), ("/a", Kind::Child)]);
        assert!(both.speaks(&key("/a", Kind::Data), "/a", false, false));
        assert!(both.speaks(&key("/a", Kind::Child), "/a", true, false));
    }
}
