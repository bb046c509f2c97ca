//! Quotas (`Quotas`, `StatsTrack`): what a subtree may hold and what it does hold, in znodes below `/zookeeper/quota`.
//!
//! A client makes the two znodes; the counts in the second follow every change in the subtree, without a transaction
//! of their own.

use std::collections::BTreeMap;

use super::Tree;
use crate::path;

const QUOTA: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// Counts or limits; −1 for none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    count: i64,
    bytes: i64,
    /// By name: hard limits, and whatever else a client wrote, which is kept.
    further: BTreeMap<String, i64>,
}

impl Track {
    fn new(count: i64, bytes: i64) -> Self {
        Self { count, bytes, further: BTreeMap::new() }
    }

    fn parse(data: Option<&[u8]>) -> Self {
        let mut track = Self::new(-1, -1);
        let text = String::from_utf8_lossy(data.unwrap_or_default());
        for part in text.split([',', ';']) {
            let mut words = part.split('=');
            let (Some(key), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) else {
                continue;
            };
            match key {
                "count" => track.count = value,
                "bytes" => track.bytes = value,
                _ => {
                    track.further.insert(key.to_owned(), value);
                }
            }
        }
        track
    }

    fn hard(&self, name: &str) -> i64 {
        self.further.get(name).copied().unwrap_or(-1)
    }

    fn text(&self) -> String {
        let further = self.further.iter().map(|(key, value)| format!(";{key}={value}"));
        let further: Vec<String> = further.collect();
        // The stray `=` keeps parsers before 3.7 content.
        let stray = if further.is_empty() { "" } else { "=" };
        format!("count={},bytes={}{stray}{}", self.count, self.bytes, further.concat())
    }
}

/// The path that a limit or statistics znode is about.
fn subject<'a>(znode: &'a str, name: &str) -> Option<&'a str> {
    znode.strip_prefix(QUOTA)?.strip_suffix(name)?.strip_suffix('/')
}

impl Tree {
    /// Longest path with a quota that covers `path`. The root has none.
    fn quota_over<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.quotas.is_empty() {
            return None;
        }
        let mut covering = path;
        while !covering.is_empty() {
            if self.quotas.contains(covering) {
                return Some(covering);
            }
            covering = path::parent(covering);
        }
        None
    }

    /// A znode is there or is not: notices quotas that come and go.
    pub(super) fn note_quota(&mut self, path: &str, is_there: bool) {
        if let Some(subject) = subject(path, LIMITS) {
            if is_there {
                self.quotas.insert(subject.to_owned());
            } else {
                self.quotas.remove(subject);
            }
        }
    }

    /// A znode came, went or changed: adjusts what its quota says.
    pub(super) fn account(&mut self, path: &str, count: i64, bytes: i64) {
        if let (1, Some(subject)) = (count, subject(path, STATS)) {
            self.recount(subject);
        }
        let Some(covering) = self.quota_over(path) else { return };
        let statistics = format!("{QUOTA}{covering}/{STATS}");
        let Some(id) = self.find(&statistics) else { return };
        self.change(&statistics, id, |slot| {
            let mut track = Track::parse(slot.data());
            track.count += count;
            track.bytes += bytes;
            slot.set_data(Some(track.text().as_bytes()));
        });
    }

    fn recount(&mut self, subject: &str) {
        let statistics = format!("{QUOTA}{subject}/{STATS}");
        let Some(id) = self.find(&statistics) else { return };
        let covered = self.find(subject).into_iter().flat_map(|top| self.subtree(top));
        let (count, bytes) = covered.fold((0, 0), |(count, bytes), id| {
            (count + 1, bytes + self.nodes.get(id).data().map_or(0, <[u8]>::len) as i64)
        });
        let track = Track::new(count, bytes);
        self.change(&statistics, id, |slot| slot.set_data(Some(track.text().as_bytes())));
    }

    /// Counts anew what the quotas of a tree that was loaded cover.
    pub fn recount_quotas(&mut self) {
        for subject in self.quotas.clone() {
            self.recount(&subject);
        }
    }

    /// Whether a change would go over a hard limit.
    pub fn exceeds_quota(&self, path: &str, count: i64, bytes: i64) -> bool {
        let Some(covering) = self.quota_over(path) else { return false };
        let track = |name: &str| {
            let node = self.get(&format!("{QUOTA}{covering}/{name}"))?;
            Some(Track::parse(node.data()))
        };
        let (Some(limits), Some(now)) = (track(LIMITS), track(STATS)) else { return false };
        let over = |limit: i64, value: i64| limit > -1 && value > limit;
        // What a change leaves as it is is not checked, even where it is over the limit.
        (count != 0 && over(limits.hard("countHardLimit"), now.count + count))
            || (bytes != 0 && over(limits.hard("byteHardLimit"), now.bytes + bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::open_acl;

    fn create(tree: &mut Tree, path: &str, data: &str) {
        tree.create(path, Some(data.as_bytes()), &open_acl(), 0, -1, 1, 1);
    }

    fn statistics(tree: &Tree) -> String {
        let node = tree.get("/zookeeper/quota/a/zookeeper_stats").unwrap();
        String::from_utf8(node.data().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_a_client_wrote_beside_the_counts_is_kept() {
        let text = "count=3,bytes=9=;byteHardLimit=30;countHardLimit=-1";
        assert_eq!(Track::parse(Some(text.as_bytes())).text(), text);
        assert_eq!(Track::parse(None).text(), "count=-1,bytes=-1");
    }

    #[test]
    fn counts_follow_the_subtree() {
        let mut tree = Tree::new();
        create(&mut tree, "/a", "12");
        create(&mut tree, "/ab", "not below");
        create(&mut tree, "/zookeeper/quota/a", "");
        create(
            &mut tree,
            "/zookeeper/quota/a/zookeeper_limits",
            "count=1,bytes=-1=;countHardLimit=3",
        );
        create(&mut tree, "/zookeeper/quota/a/zookeeper_stats", "count=0,bytes=0");
        assert_eq!(statistics(&tree), "count=1,bytes=2");
        create(&mut tree, "/a/b", "345");
        assert_eq!(statistics(&tree), "count=2,bytes=5");
        assert!(!tree.exceeds_quota("/a/c", 1, 0) && tree.exceeds_quota("/a/c", 2, 0));
        tree.set_data("/a/b", Some(&[]), 1, 2, 2);
        tree.begin();
        tree.delete("/a/b", 3);
        assert_eq!(statistics(&tree), "count=1,bytes=2");
        tree.roll_back();
        assert_eq!(statistics(&tree), "count=2,bytes=2");
        tree.recount_quotas();
        assert_eq!(statistics(&tree), "count=2,bytes=2");
        let bytes = "count=-1,bytes=-1=;byteHardLimit=1;countHardLimit=-1";
        tree.set_data("/zookeeper/quota/a/zookeeper_limits", Some(bytes.as_bytes()), 1, 4, 4);
        assert!(!tree.exceeds_quota("/a/c", 1, 0) && tree.exceeds_quota("/a/c", 1, 1));
        tree.delete("/zookeeper/quota/a/zookeeper_limits", 4);
        assert!(!tree.exceeds_quota("/a/c", 9, 0));
    }

    #[test]
    fn texts_are_the_originals() {
        let text = "count=5,bytes=-1=;byteHardLimit=10;countHardLimit=7";
        assert_eq!(Track::parse(Some(text.as_bytes())).text(), text);
    }
}
