//! Values that are cheap to copy and to compare: whoever changes a copy pays for what it changes.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, btree_map},
    ops::{Deref, DerefMut, Index},
    sync::Arc,
};

/// A value that copies have in common until one of them is changed.
#[derive(Clone, Debug, Default)]
pub struct CopyOnWrite<T>(Arc<T>);

impl<T> CopyOnWrite<T> {
    /// Makes one.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for CopyOnWrite<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for CopyOnWrite<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: PartialEq> PartialEq for CopyOnWrite<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl<T: Eq> Eq for CopyOnWrite<T> {}

/// A map whose values copies have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf<K: Ord, V>(BTreeMap<K, CopyOnWrite<V>>);

impl<K: Ord, V> Shelf<K, V> {
    /// Makes an empty one.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Returns a value.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(Deref::deref)
    }

    /// Returns a value with what copies have in common.
    pub fn shared(&self, key: &K) -> Option<&CopyOnWrite<V>> {
        self.0.get(key)
    }

    /// Returns whether there is a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Puts a value in.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, CopyOnWrite::new(value));
    }

    /// Puts a value in that another map has, too.
    pub fn share(&mut self, key: K, value: &CopyOnWrite<V>)
    where
        V: Clone,
    {
        self.0.insert(key, value.clone());
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the keys in order.
    pub fn keys(&self) -> btree_map::Keys<'_, K, CopyOnWrite<V>> {
        self.0.keys()
    }

    /// Returns the values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.values().map(Deref::deref)
    }

    /// Returns keys and values in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.iter())
    }

    /// Returns the keys whose values are not the same in two maps.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K>
    where
        V: PartialEq,
    {
        let changed = self.0.iter().filter(|(key, value)| other.0.get(*key) != Some(*value));
        let new = other.0.keys().filter(|key| !self.0.contains_key(*key));
        changed.map(|(key, _)| key).chain(new)
    }
}

impl<K: Ord, V: Clone> Shelf<K, V> {
    /// Returns a value to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(DerefMut::deref_mut)
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let CopyOnWrite(value) = self.0.remove(key)?;
        Some(Arc::unwrap_or_clone(value))
    }

    /// Returns keys and values to change; all values are copied that copies have in common.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (key, value.deref_mut()))
    }

    /// Returns values to change; all of them are copied that copies have in common.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.values_mut().map(DerefMut::deref_mut)
    }
}

impl<K: Ord, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Shelf<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        Self(items.into_iter().map(|(key, value)| (key, CopyOnWrite::new(value))).collect())
    }
}

impl<K: Ord, V> Index<&K> for Shelf<K, V> {
    type Output = V;
    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

/// Keys and values of a [`Shelf`].
#[derive(Debug)]
pub struct Iter<'a, K, V>(btree_map::Iter<'a, K, CopyOnWrite<V>>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, &**value))
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Shelf<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_changed_leaves_the_others_alone() {
        let first: Shelf<u8, String> =
            [(1, "a".to_owned()), (2, "b".to_owned())].into_iter().collect();
        let mut second = first.clone();
        second.get_mut(&2).unwrap().push('!');
        second.insert(3, "c".to_owned());
        assert_eq!(first.get(&2).map(String::as_str), Some("b"));
        assert_eq!(first.differences(&second).collect::<Vec<_>>(), [&2, &3]);
        assert_eq!(second.remove(&1).as_deref(), Some("a"));
        assert_eq!(second.differences(&first).collect::<Vec<_>>(), [&2, &3, &1]);
    }
}
