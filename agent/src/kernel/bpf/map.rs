//! Typed maps over a descriptor: whole contents as ordered maps, and single entries. One type for each
//! kind of map; which maps there are is said in `tables`.

use std::{
    collections::BTreeMap,
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use aya::Pod;
use bascule_common::abi::{Count, EndpointCounters, RuleCounters};

use super::{
    BpfError,
    layout::{Geometry, MAPPED},
    mapping::Mapping,
    sys,
};

/// Entries read or written by one call.
const CHUNK: usize = 4_096;

/// A map whose contents can be read, compared and written entry by entry.
pub trait Table {
    /// What an entry is found by.
    type Key: Copy + Ord;
    /// What it says.
    type Value: Copy + PartialEq;

    /// Reads everything.
    fn all(&self) -> Result<BTreeMap<Self::Key, Self::Value>, BpfError>;
    /// Writes an entry, replacing what was there.
    fn put(&self, key: &Self::Key, value: &Self::Value) -> Result<(), BpfError>;
    /// Removes an entry; false if it was not there.
    fn remove(&self, key: &Self::Key) -> Result<bool, BpfError>;
    /// Name of the map.
    fn name(&self) -> &'static str;
}

/// The bytes of a plain value.
pub(super) fn bytes<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: a Pod is plain bytes without padding, borrowed for as long as the slice.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The plain value in the first bytes of a slice.
pub(super) fn value<T: Pod>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>(), "a map value shorter than its type");
    // SAFETY: there are enough bytes, and any bytes are a Pod.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

/// A map by descriptor, whose sizes have been compared with its types.
#[derive(Debug)]
struct Handle {
    name: &'static str,
    fd: OwnedFd,
    geometry: Geometry,
}

impl Handle {
    fn new<K: Pod, V: Pod>(name: &'static str, fd: OwnedFd) -> Result<Self, BpfError> {
        let info = sys::map_info(&fd).map_err(|source| BpfError::Map {
            what: "describe",
            name,
            source,
        })?;
        let (key, value) = (size_of::<K>() as u32, size_of::<V>() as u32);
        if (info.key_size, info.value_size) != (key, value) {
            return Err(BpfError::Layout {
                name,
                found: Geometry::from(info).to_string(),
                expected: format!("key {key} B, value {value} B"),
            });
        }
        Ok(Self { name, fd, geometry: info.into() })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn error(&self, what: &'static str) -> impl FnOnce(io::Error) -> BpfError {
        let name = self.name;
        move |source| BpfError::Map { what, name, source }
    }

    /// Calls `each` with every entry's bytes; `stride` is what one value takes in memory.
    fn for_each(&self, stride: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), BpfError> {
        let key_size = self.geometry.key_size as usize;
        let mut chunk = CHUNK.min(self.geometry.max_entries as usize).max(1);
        let mut keys = vec![0; chunk * key_size];
        let mut values = vec![0; chunk * stride];
        let mut cursor = None;
        loop {
            let before = cursor.clone();
            // SAFETY: the buffers have been made for this map's sizes and this count.
            let batch = unsafe {
                sys::map_lookup_batch(
                    self.fd(),
                    &mut cursor,
                    key_size,
                    &mut keys,
                    &mut values,
                    chunk,
                )
            };
            let error = batch.error.as_ref().and_then(io::Error::raw_os_error);
            if error == Some(libc::ENOSPC) && chunk < 1 << 20 {
                // A single bucket of the hash holds more than the buffers do.
                chunk *= 4;
                keys.resize(chunk * key_size, 0);
                values.resize(chunk * stride, 0);
                cursor = before;
                continue;
            }
            for (key, value) in
                keys.chunks_exact(key_size).zip(values.chunks_exact(stride)).take(batch.count)
            {
                each(key, value);
            }
            match batch.error {
                None if batch.count > 0 => {}
                None => return Ok(()),
                Some(_) if error == Some(libc::ENOENT) => return Ok(()),
                Some(source) => return Err(self.error("read")(source)),
            }
        }
    }

    fn get<V: Pod>(&self, key: &[u8]) -> Result<Option<V>, BpfError> {
        let mut buffer = vec![0; size_of::<V>()];
        // SAFETY: new() compared the types' sizes with the map's.
        let found = unsafe { sys::map_lookup(self.fd(), key, &mut buffer) };
        Ok(found.map_err(self.error("read"))?.then(|| value(&buffer)))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), BpfError> {
        // SAFETY: new() compared the types' sizes with the map's.
        unsafe { sys::map_update(self.fd(), key, value) }.map_err(self.error("write"))
    }

    fn remove(&self, key: &[u8]) -> Result<bool, BpfError> {
        // SAFETY: new() compared the types' sizes with the map's.
        unsafe { sys::map_delete(self.fd(), key) }.map_err(self.error("delete from"))
    }

    fn remove_many(&self, keys: &[u8], key_size: usize) -> Result<usize, BpfError> {
        let mut removed = 0;
        let mut rest = keys;
        while !rest.is_empty() {
            let count = (rest.len() / key_size).min(CHUNK);
            // SAFETY: `rest` holds at least `count` keys of this map's size.
            let batch = unsafe { sys::map_delete_batch(self.fd(), rest, count) };
            removed += batch.count;
            let error = batch.error.as_ref().and_then(io::Error::raw_os_error);
            // The key after the removed ones went away by itself: an LRU, or the data plane.
            let skip = usize::from(error == Some(libc::ENOENT));
            if let (Some(source), 0) = (batch.error, skip) {
                return Err(self.error("delete from")(source));
            }
            rest = &rest[(batch.count + skip).min(count) * key_size..];
        }
        Ok(removed)
    }

    fn put_many(&self, keys: &[u8], values: &[u8], count: usize) -> Result<(), BpfError> {
        // SAFETY: the callers below gather the bytes of `count` entries.
        match unsafe { sys::map_update_batch(self.fd(), keys, values, count) }.error {
            None => Ok(()),
            Some(source) => Err(self.error("write")(source)),
        }
    }
}

macro_rules! common {
    ($type:ident<$($parameter:ident),+>, $key:ty, $value:ty) => {
        impl<$($parameter: Pod),+> $type<$($parameter),+> {
            /// Wraps the descriptor of a map, after comparing its sizes with the types'.
            pub fn new(name: &'static str, fd: OwnedFd) -> Result<Self, BpfError> {
                Ok(Self { map: Handle::new::<$key, $value>(name, fd)?, _types: PhantomData })
            }

            /// Geometry of the map in the kernel.
            pub fn geometry(&self) -> Geometry {
                self.map.geometry
            }
        }
    };
}

/// A hash, or a trie of prefixes.
#[derive(Debug)]
pub struct Hash<K, V> {
    map: Handle,
    _types: PhantomData<fn() -> (K, V)>,
}
common!(Hash<K, V>, K, V);

impl<K: Pod + Ord, V: Pod> Hash<K, V> {
    /// Reads one entry.
    pub fn get(&self, key: &K) -> Result<Option<V>, BpfError> {
        self.map.get(bytes(key))
    }

    /// Calls `each` with every entry, without collecting them.
    pub fn for_each(&self, mut each: impl FnMut(K, V)) -> Result<(), BpfError> {
        self.map.for_each(size_of::<V>(), |k, v| each(value(k), value(v)))
    }

    /// Removes many keys; returns how many were there.
    pub fn remove_many(&self, keys: &[K]) -> Result<usize, BpfError> {
        let gathered: Vec<u8> = keys.iter().flat_map(|key| bytes(key)).copied().collect();
        self.map.remove_many(&gathered, size_of::<K>())
    }
}

impl<K: Pod + Ord, V: Pod + PartialEq> Table for Hash<K, V> {
    type Key = K;
    type Value = V;

    fn all(&self) -> Result<BTreeMap<K, V>, BpfError> {
        let mut all = BTreeMap::new();
        self.for_each(|key, value| {
            all.insert(key, value);
        })?;
        Ok(all)
    }

    fn put(&self, key: &K, value: &V) -> Result<(), BpfError> {
        self.map.put(bytes(key), bytes(value))
    }

    fn remove(&self, key: &K) -> Result<bool, BpfError> {
        self.map.remove(bytes(key))
    }

    fn name(&self) -> &'static str {
        self.map.name
    }
}

/// An array whose all-zero slots are empty. All of one that can be mapped is read without a system call for each
/// slot; it is mapped no longer than that, for its pages would count as this process's memory.
#[derive(Debug)]
pub struct Slots<V> {
    map: Handle,
    _types: PhantomData<fn() -> V>,
}

impl<V: Pod> Slots<V> {
    /// Wraps the descriptor of a map, after comparing its sizes with the types'.
    pub fn new(name: &'static str, fd: OwnedFd) -> Result<Self, BpfError> {
        Ok(Self { map: Handle::new::<u32, V>(name, fd)?, _types: PhantomData })
    }
}

impl<V: Pod> Slots<V> {
    /// Reads one slot; none for an index past the end.
    pub fn get(&self, index: u32) -> Result<Option<V>, BpfError> {
        self.map.get(bytes(&index))
    }

    /// Writes many slots.
    pub fn put_many(&self, entries: &BTreeMap<u32, V>) -> Result<(), BpfError> {
        let entries: Vec<_> = entries.iter().collect();
        for chunk in entries.chunks(CHUNK) {
            let keys: Vec<u8> = chunk.iter().flat_map(|(k, _)| bytes(*k)).copied().collect();
            let values: Vec<u8> = chunk.iter().flat_map(|(_, v)| bytes(*v)).copied().collect();
            self.map.put_many(&keys, &values, chunk.len())?;
        }
        Ok(())
    }
}

impl<V: Pod + PartialEq> Table for Slots<V> {
    type Key = u32;
    type Value = V;

    fn all(&self) -> Result<BTreeMap<u32, V>, BpfError> {
        let mut all = BTreeMap::new();
        if self.map.geometry.flags & MAPPED != 0 {
            let mapping = Mapping::new(&self.map.fd, &self.map.geometry, false);
            mapping.map_err(self.map.error("map"))?.for_each(|slot, bytes| {
                all.insert(slot, value(bytes));
            });
            return Ok(all);
        }
        self.map.for_each(size_of::<V>(), |k, v| {
            if v.iter().any(|byte| *byte != 0) {
                all.insert(value(k), value(v));
            }
        })?;
        Ok(all)
    }

    fn put(&self, index: &u32, value: &V) -> Result<(), BpfError> {
        self.map.put(bytes(index), bytes(value))
    }

    fn remove(&self, index: &u32) -> Result<bool, BpfError> {
        let zero = vec![0_u8; size_of::<V>()];
        self.map.put(bytes(index), &zero).map(|()| true)
    }

    fn name(&self) -> &'static str {
        self.map.name
    }
}

/// Counters that add up over CPUs.
pub trait Sum: Pod + Default {
    /// Adds another CPU's share.
    fn add(&mut self, other: &Self);
}

impl Sum for u64 {
    fn add(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }
}

impl Sum for Count {
    fn add(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

impl Sum for EndpointCounters {
    fn add(&mut self, other: &Self) {
        self.received.add(&other.received);
        self.sent.add(&other.sent);
    }
}

impl Sum for RuleCounters {
    fn add(&mut self, other: &Self) {
        self.received.add(&other.received);
        self.sent.add(&other.sent);
        Sum::add(&mut self.connections, &other.connections);
    }
}

fn sum<V: Sum>(per_cpu: &[u8]) -> V {
    let mut total = V::default();
    for share in per_cpu.chunks_exact(size_of::<V>().next_multiple_of(8)) {
        total.add(&value(share));
    }
    total
}

/// Possible CPUs: read once, for they never change while a kernel runs.
fn cpus() -> Result<usize, io::Error> {
    static CPUS: OnceLock<usize> = OnceLock::new();
    if let Some(cpus) = CPUS.get() {
        return Ok(*cpus);
    }
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    Ok(*CPUS.get_or_init(|| cpus))
}

/// A per-CPU array of counters.
#[derive(Debug)]
pub struct CounterSlots<V> {
    map: Handle,
    _types: PhantomData<fn() -> V>,
}
common!(CounterSlots<V>, u32, V);

impl<V: Sum> CounterSlots<V> {
    fn stride(&self) -> Result<usize, BpfError> {
        Ok(size_of::<V>().next_multiple_of(8) * cpus().map_err(self.map.error("size"))?)
    }

    /// Reads and adds up one slot; none for an index past the end.
    pub fn get(&self, index: u32) -> Result<Option<V>, BpfError> {
        let mut buffer = vec![0; self.stride()?];
        // SAFETY: the buffer has room for every possible CPU.
        let found = unsafe { sys::map_lookup(self.map.fd(), bytes(&index), &mut buffer) };
        Ok(found.map_err(self.map.error("read"))?.then(|| sum(&buffer)))
    }

    /// Reads and adds up every slot that is not zero: the whole array, which may be long.
    pub fn all(&self) -> Result<BTreeMap<u32, V>, BpfError> {
        let mut all = BTreeMap::new();
        self.map.for_each(self.stride()?, |k, v| {
            if v.iter().any(|byte| *byte != 0) {
                all.insert(value(k), sum(v));
            }
        })?;
        Ok(all)
    }

    /// Sets one slot to zero on every CPU: the index has a new owner.
    pub fn reset(&self, index: u32) -> Result<(), BpfError> {
        if index >= self.map.geometry.max_entries {
            return Ok(());
        }
        self.map.put(bytes(&index), &vec![0; self.stride()?])
    }
}

/// A per-CPU hash of counters.
#[derive(Debug)]
pub struct CounterHash<K, V> {
    map: Handle,
    _types: PhantomData<fn() -> (K, V)>,
}
common!(CounterHash<K, V>, K, V);

impl<K: Pod + Ord, V: Sum> CounterHash<K, V> {
    /// Reads and adds up everything.
    pub fn all(&self) -> Result<BTreeMap<K, V>, BpfError> {
        let stride = size_of::<V>().next_multiple_of(8) * cpus().map_err(self.map.error("size"))?;
        let mut all = BTreeMap::new();
        self.map.for_each(stride, |k, v| {
            all.insert(value(k), sum(v));
        })?;
        Ok(all)
    }

    /// Removes many keys; returns how many were there.
    pub fn remove_many(&self, keys: &[K]) -> Result<usize, BpfError> {
        let gathered: Vec<u8> = keys.iter().flat_map(|key| bytes(key)).copied().collect();
        self.map.remove_many(&gathered, size_of::<K>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_cpus_add_up() {
        let shares = [Count { packets: 1, bytes: 100 }, Count { packets: 2, bytes: 300 }];
        let raw: Vec<u8> = shares.iter().flat_map(bytes).copied().collect();
        assert_eq!(sum::<Count>(&raw), Count { packets: 3, bytes: 400 });
    }
}
