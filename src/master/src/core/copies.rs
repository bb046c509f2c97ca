//! Values by name of which the whole can be copied at little cost: somebody may look at a hundred thousand tasks at
//! leisure while the master goes on.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Index;
use std::sync::Arc;

use hashbrown::HashTable;

/// Values that are copied together when one of them changes while a copy has them.
const CHUNK: usize = 64;
/// Names that are copied together, on average at most, when one of them comes or goes.
const SHARD: usize = 512;
/// Places may be so many times as many as values before those that are empty are given up.
const SPARSE: usize = 4;

/// A name with its value.
type Entry<V> = (Arc<str>, Arc<V>);
/// Places of values that came one after another; those of which the value is gone are empty.
type Chunk<V> = Vec<Option<Entry<V>>>;

/// Values by name, in the order in which they came. A copy shares all values and most of what holds them: it takes
/// hundreds of times less than one step a value. What is changed while a copy has it is cloned then, with its neighbours'
/// pointers.
#[derive(Debug)]
pub struct Copies<V> {
    chunks: VecDeque<Arc<Chunk<V>>>,
    /// Chunks that were given up in front of the first.
    gone: usize,
    /// The places of names, by part of their hash. Their number is a power of two, or 0 while there are no names.
    shards: Vec<Arc<HashTable<usize>>>,
    hasher: RandomState,
    len: usize,
}

impl<V> Clone for Copies<V> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            gone: self.gone,
            shards: self.shards.clone(),
            hasher: self.hasher.clone(),
            len: self.len,
        }
    }
}

impl<V> Default for Copies<V> {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            gone: 0,
            shards: Vec::new(),
            hasher: RandomState::new(),
            len: 0,
        }
    }
}

/// The entry at a place, in chunks of which the first is number `gone`.
fn at<V>(chunks: &VecDeque<Arc<Chunk<V>>>, gone: usize, place: usize) -> Option<&Entry<V>> {
    chunks.get((place / CHUNK).checked_sub(gone)?)?.get(place % CHUNK)?.as_ref()
}

impl<V> Copies<V> {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is one of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        at(&self.chunks, self.gone, self.place(name)?).map(|(_, value)| &**value)
    }

    /// Adds one, or puts it in the place of the one that has its name; whether there was one.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: V) -> bool {
        let name = name.into();
        if let Some(entry) = self.place(&name).and_then(|place| self.entry_mut(place)) {
            entry.1 = Arc::new(value);
            return true;
        }
        self.push((name, Arc::new(value)));
        false
    }

    /// All names.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.entries().map(|(name, _)| &**name)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.entries().map(|(_, value)| &**value)
    }

    /// All, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> + Clone {
        self.entries().map(|(name, value)| (&**name, &**value))
    }

    /// Takes out the oldest.
    pub fn remove_first(&mut self) {
        let oldest = self.entries().next().map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.take(&name);
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<V>> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flatten()
    }

    /// Which shard names of a hash are in. Tables look at the lowest and the highest bits.
    fn shard(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.shards.len().wrapping_sub(1)
    }

    fn place(&self, name: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(name);
        let is_it = |place: &usize| {
            at(&self.chunks, self.gone, *place).is_some_and(|(own, _)| **own == *name)
        };
        self.shards.get(self.shard(hash))?.find(hash, is_it).copied()
    }

    /// The entry at a place, in a chunk that is nobody else's.
    fn entry_mut(&mut self, place: usize) -> Option<&mut Entry<V>> {
        let chunk = self.chunks.get_mut((place / CHUNK).checked_sub(self.gone)?)?;
        Arc::make_mut(chunk).get_mut(place % CHUNK)?.as_mut()
    }

    /// Adds one of a name that is not there.
    fn push(&mut self, entry: Entry<V>) {
        if self.len >= self.shards.len() * SHARD {
            self.index((self.shards.len() * 2).max(1));
        }
        if self.chunks.back().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push_back(Arc::default());
        }
        let hash = self.hasher.hash_one(&*entry.0);
        let shard = self.shard(hash);
        let last = self.chunks.len().saturating_sub(1);
        if let Some(chunk) = self.chunks.back_mut() {
            let place = (self.gone + last) * CHUNK + chunk.len();
            Arc::make_mut(chunk).push(Some(entry));
            self.len += 1;
            self.note(shard, hash, place);
        }
    }

    fn note(&mut self, shard: usize, hash: u64, place: usize) {
        let (chunks, gone, hasher) = (&self.chunks, self.gone, &self.hasher);
        // What is in a table is in its place.
        let hash_of = |place: &usize| {
            at(chunks, gone, *place).map_or(0, |(name, _)| hasher.hash_one(&**name))
        };
        if let Some(shard) = self.shards.get_mut(shard) {
            Arc::make_mut(shard).insert_unique(hash, place, hash_of);
        }
    }

    /// Notes all places anew, in so many shards.
    fn index(&mut self, shards: usize) {
        self.shards = vec![Arc::default(); shards];
        for chunk in 0..self.chunks.len() {
            for slot in 0..self.chunks[chunk].len() {
                let place = (self.gone + chunk) * CHUNK + slot;
                if let Some((name, _)) = &self.chunks[chunk][slot] {
                    let hash = self.hasher.hash_one(&**name);
                    self.note(self.shard(hash), hash, place);
                }
            }
        }
    }

    /// Takes one out; those behind it move up.
    fn take(&mut self, name: &str) -> Option<Arc<V>> {
        let place = self.place(name)?;
        let hash = self.hasher.hash_one(name);
        let shard = self.shard(hash);
        let found =
            Arc::make_mut(self.shards.get_mut(shard)?).find_entry(hash, |own| *own == place);
        found.ok()?.remove();
        let chunk = self.chunks.get_mut((place / CHUNK).checked_sub(self.gone)?)?;
        let (_, value) = Arc::make_mut(chunk).get_mut(place % CHUNK)?.take()?;
        self.len -= 1;
        if chunk.iter().all(Option::is_none) {
            *chunk = Arc::default();
        }
        while self.chunks.front().is_some_and(|first| first.is_empty()) {
            self.chunks.pop_front();
            self.gone += 1;
        }
        if self.chunks.len() > SPARSE * (self.len / CHUNK + 1) {
            self.close_ranks();
        }
        Some(value)
    }

    /// Gives empty places up.
    fn close_ranks(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        (self.gone, self.len) = (0, 0);
        self.shards.clear();
        for chunk in chunks {
            for entry in Arc::unwrap_or_clone(chunk).into_iter().flatten() {
                self.push(entry);
            }
        }
    }
}

impl<V: Clone> Copies<V> {
    /// The one of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        let place = self.place(name)?;
        self.entry_mut(place).map(|(_, value)| Arc::make_mut(value))
    }

    /// Takes one out; those behind it move up.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        self.take(name).map(Arc::unwrap_or_clone)
    }

    /// All values, taken out.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        let entries = self.chunks.into_iter().flat_map(Arc::unwrap_or_clone).flatten();
        entries.map(|(_, value)| Arc::unwrap_or_clone(value))
    }
}

impl<V, N: AsRef<str> + ?Sized> Index<&N> for Copies<V> {
    type Output = V;

    fn index(&self, name: &N) -> &V {
        match self.get(name.as_ref()) {
            Some(value) => value,
            None => panic!("no {}", name.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexmap::IndexMap;
    use proptest::prelude::*;

    #[test]
    fn a_copy_stays_as_it_was_and_shares_what_did_not_change() {
        let mut own: Copies<Vec<u8>> = Copies::new();
        for name in ["a", "b", "c"] {
            assert!(!own.insert(name, name.as_bytes().to_vec()));
        }
        let copy = own.clone();
        own.get_mut("a").unwrap().push(b'!');
        assert_eq!(own.remove("b"), Some(b"b".to_vec()));
        assert!(own.insert("c", Vec::new()));
        assert_eq!(copy.values().map(Vec::as_slice).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(own.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(own["a"], b"a!");
        let again = own.clone();
        assert!(std::ptr::eq(own.get("a").unwrap(), again.get("a").unwrap()));
        own.remove_first();
        assert!(!own.contains_key("a") && again.contains_key("a") && own.len() == 1);
    }

    #[test]
    fn places_of_what_is_gone_are_given_up() {
        let mut own: Copies<usize> = Copies::new();
        for number in 0..100_000 {
            own.insert(number.to_string(), number);
            if number >= 1000 {
                // Some stay for long.
                own.remove(&(number - if number % 500 == 0 { 999 } else { 1000 }).to_string());
            }
        }
        assert!(own.chunks.len() <= SPARSE * (own.len() / CHUNK + 1), "{}", own.chunks.len());
        assert!(own.shards.len() <= own.len() / SHARD * 2 + 2, "{}", own.shards.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// `3000` names are some shards, and some chunks.
        #[test]
        fn it_is_a_map_in_order_whatever_is_done(
            start in 0..3000_usize,
            steps in prop::collection::vec((0..6_u8, 0..3000_usize), 0..300),
        ) {
            let (mut own, mut model): (Copies<usize>, IndexMap<String, usize>) =
                (Copies::new(), IndexMap::new());
            let mut copies = Vec::new();
            for number in 0..start {
                own.insert(number.to_string(), number);
                model.insert(number.to_string(), number);
            }
            for (step, number) in steps {
                let name = number.to_string();
                match step {
                    0 => prop_assert_eq!(own.insert(name.as_str(), 1), model.insert(name, 1).is_some()),
                    1 => prop_assert_eq!(own.remove(&name), model.shift_remove(&name)),
                    2 => {
                        own.remove_first();
                        model.shift_remove_index(0);
                    }
                    3 => {
                        for gone in number..number + 200 {
                            let name = gone.to_string();
                            prop_assert_eq!(own.remove(&name), model.shift_remove(&name));
                        }
                    }
                    4 => {
                        let found = own.get_mut(&name).map(|value| { *value += 1; *value });
                        let expected = model.get_mut(&name).map(|value| { *value += 1; *value });
                        prop_assert_eq!(found, expected);
                    }
                    _ => copies.push((own.clone(), model.clone())),
                }
            }
            copies.push((own, model));
            for (own, model) in copies {
                prop_assert_eq!(own.len(), model.len());
                let entries = model.iter().map(|(name, value)| (name.as_str(), value));
                prop_assert!(own.iter().eq(entries));
                prop_assert!(model.keys().all(|name| own.get(name) == model.get(name)));
                prop_assert!(own.into_values().eq(model.into_values()));
            }
        }
    }
}
