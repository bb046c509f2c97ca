//! Values by name of which the whole can be copied at little cost: somebody may look at a hundred thousand tasks at
//! leisure while the master goes on.

use std::ops::Index;
use std::sync::Arc;

use indexmap::IndexMap;

/// Values by name, in the order in which they came. A copy shares all values; one that is changed while a copy has it
/// is cloned then.
#[derive(Debug)]
pub struct Copies<V>(IndexMap<Arc<str>, Arc<V>>);

impl<V> Clone for Copies<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Default for Copies<V> {
    fn default() -> Self {
        Self(IndexMap::new())
    }
}

impl<V> Copies<V> {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name).map(Arc::as_ref)
    }

    /// Adds one, or puts it in the place of the one that has its name; whether there was one.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: V) -> bool {
        self.0.insert(name.into(), Arc::new(value)).is_some()
    }

    /// All names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(Arc::as_ref)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().map(Arc::as_ref)
    }

    /// All, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Takes out the oldest.
    pub fn remove_first(&mut self) {
        self.0.shift_remove_index(0);
    }
}

impl<V: Clone> Copies<V> {
    /// The one of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.0.get_mut(name).map(Arc::make_mut)
    }

    /// Takes one out; the newest takes its place.
    pub fn swap_remove(&mut self, name: &str) -> Option<V> {
        self.0.swap_remove(name).map(Arc::unwrap_or_clone)
    }

    /// Takes one out; those behind it move up.
    pub fn shift_remove(&mut self, name: &str) -> Option<V> {
        self.0.shift_remove(name).map(Arc::unwrap_or_clone)
    }

    /// All values, taken out.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_values().map(Arc::unwrap_or_clone)
    }
}

impl<V, N: AsRef<str> + ?Sized> Index<&N> for Copies<V> {
    type Output = V;

    fn index(&self, name: &N) -> &V {
        &self.0[name.as_ref()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_as_it_was_and_shares_what_did_not_change() {
        let mut own: Copies<Vec<u8>> = Copies::new();
        for name in ["a", "b", "c"] {
            assert!(!own.insert(name, name.as_bytes().to_vec()));
        }
        let copy = own.clone();
        own.get_mut("a").unwrap().push(b'!');
        assert_eq!(own.swap_remove("b"), Some(b"b".to_vec()));
        assert!(own.insert("c", Vec::new()));
        assert_eq!(copy.values().map(Vec::as_slice).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(own.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(own["a"], b"a!");
        let again = own.clone();
        assert!(std::ptr::eq(own.get("a").unwrap(), again.get("a").unwrap()));
        own.remove_first();
        assert!(!own.contains_key("a") && again.contains_key("a") && own.len() == 1);
    }
}
