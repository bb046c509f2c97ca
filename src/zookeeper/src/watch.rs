//! Watches (`WatchManager`): two tables, of data and of children, by path and connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::ConnectionId;
use crate::path;

/// How long a watch lasts and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fires once.
    Standard,
    /// Stays.
    Persistent,
    /// Stays, and covers everything below.
    Recursive,
}

/// One of the two tables.
#[derive(Debug, Default)]
pub struct Table {
    by_path: HashMap<String, BTreeMap<ConnectionId, Mode>>,
    by_connection: HashMap<ConnectionId, BTreeSet<String>>,
    recursive: usize,
}

impl Table {
    /// Sets a watch, in place of one of the same connection there.
    pub fn add(&mut self, path: &str, connection: ConnectionId, mode: Mode) {
        let before = self.by_path.entry(path.to_owned()).or_default().insert(connection, mode);
        self.by_connection.entry(connection).or_default().insert(path.to_owned());
        self.recursive += usize::from(mode == Mode::Recursive);
        self.recursive -= usize::from(before == Some(Mode::Recursive));
    }

    /// Removes a connection's watch at a path; false if it had none.
    pub fn remove(&mut self, path: &str, connection: ConnectionId) -> bool {
        let Some(watchers) = self.by_path.get_mut(path) else { return false };
        let Some(mode) = watchers.remove(&connection) else { return false };
        if watchers.is_empty() {
            self.by_path.remove(path);
        }
        self.recursive -= usize::from(mode == Mode::Recursive);
        if let Some(paths) = self.by_connection.get_mut(&connection) {
            paths.remove(path);
            if paths.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
        true
    }

    /// Removes all watches of a connection.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        for path in self.by_connection.remove(&connection).unwrap_or_default() {
            if let Some(watchers) = self.by_path.get_mut(&path) {
                if watchers.remove(&connection) == Some(Mode::Recursive) {
                    self.recursive -= 1;
                }
                if watchers.is_empty() {
                    self.by_path.remove(&path);
                }
            }
        }
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Whether anybody watches a path.
    pub fn is_watched(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// Connections to tell of an event at a path; watches that fire once are gone then. Recursive ones hear of nodes,
    /// not of lists of children.
    pub fn trigger(&mut self, path: &str, of_children: bool) -> BTreeSet<ConnectionId> {
        let mut told = BTreeSet::new();
        let here: Vec<(ConnectionId, Mode)> = self
            .by_path
            .get(path)
            .map(|watchers| watchers.iter().map(|(id, mode)| (*id, *mode)).collect())
            .unwrap_or_default();
        for (connection, mode) in here {
            if mode == Mode::Recursive && of_children {
                continue;
            }
            told.insert(connection);
            if mode == Mode::Standard {
                self.remove(path, connection);
            }
        }
        if self.recursive > 0 && !of_children {
            let mut above = path;
            while !above.is_empty() && above != "/" {
                above = path::parent(above);
                let key = if above.is_empty() { "/" } else { above };
                let watchers = self.by_path.get(key).into_iter().flatten();
                told.extend(
                    watchers
                        .filter(|(_, mode)| **mode == Mode::Recursive)
                        .map(|(connection, _)| *connection),
                );
            }
        }
        told
    }

    /// Every watch: connection and path.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &str)> {
        self.by_connection
            .iter()
            .flat_map(|(id, paths)| paths.iter().map(|path| (*id, path.as_str())))
    }

    /// Numbers for `wchs`: connections, paths, watches.
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.by_connection.len(),
            self.by_path.len(),
            self.by_path.values().map(BTreeMap::len).sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_watches_fire_once_and_recursive_ones_below() {
        let mut table = Table::default();
        let id = ConnectionId;
        table.add("/a", id(1), Mode::Standard);
        table.add("/a", id(2), Mode::Persistent);
        table.add("/", id(3), Mode::Recursive);
        assert_eq!(table.trigger("/a", false), BTreeSet::from([id(1), id(2), id(3)]));
        assert_eq!(table.trigger("/a", false), BTreeSet::from([id(2), id(3)]));
        assert_eq!(table.trigger("/a/b/c", false), BTreeSet::from([id(3)]));
        assert_eq!(table.trigger("/", true), BTreeSet::new());
        table.remove_connection(id(3));
        assert_eq!(table.trigger("/x", false), BTreeSet::new());
        assert!(table.remove("/a", id(2)) && !table.remove("/a", id(2)));
        assert_eq!(table.counts(), (0, 0, 0));
    }
}
