//! An array of the kernel's as memory of ours: read and written without system calls.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    ptr::NonNull,
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::layout::Geometry;

/// A mapped array; the words of a slot are read and written one by one, each of them whole.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u64>,
    bytes: NonZeroUsize,
    slots: usize,
    words: usize,
}

// SAFETY: the mapping belongs to this value alone; the memory behind it is shared with the kernel, and
// touched by volatile, aligned accesses of single words only.
unsafe impl Send for Mapping {}
// SAFETY: as above; concurrent writers are excluded by those who offer writing.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps an array of this geometry, made with `BPF_F_MMAPABLE`.
    pub(super) fn new(array: &OwnedFd, geometry: &Geometry, writable: bool) -> io::Result<Self> {
        let slots = geometry.max_entries as usize;
        let words = geometry.value_size.div_ceil(8) as usize;
        let bytes = NonZeroUsize::new(slots * words * 8).ok_or(io::ErrorKind::InvalidInput)?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable);
        // SAFETY: a new mapping, at an address of the kernel's choice; the kernel refuses a length
        // beyond the array.
        let base =
            unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, array.as_fd(), 0) }?;
        Ok(Self { base: base.cast(), bytes, slots, words })
    }

    fn word(&self, slot: usize, word: usize) -> NonNull<u64> {
        assert!(slot < self.slots && word < self.words, "slot {slot}, word {word} of an array");
        // SAFETY: within the mapping, as just asserted; pages are aligned for words.
        unsafe { self.base.add(slot * self.words + word) }
    }

    /// Reads one word of a slot.
    pub(super) fn read(&self, slot: usize, word: usize) -> u64 {
        // SAFETY: a valid, aligned address; volatile because others write there.
        unsafe { self.word(slot, word).read_volatile() }
    }

    /// Writes one word of a slot of a writable mapping.
    pub(super) fn write(&self, slot: usize, word: usize, value: u64) {
        // SAFETY: a valid, aligned address; one store, so that a packet sees the old word or the new.
        unsafe { self.word(slot, word).write_volatile(value) }
    }

    /// Calls `each` with the number and bytes of every slot that is not all zero.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32, &[u8])) {
        let mut bytes = vec![0; self.words * 8];
        for slot in 0..self.slots {
            // Most are empty, of hundreds of thousands.
            if (0..self.words).all(|word| self.read(slot, word) == 0) {
                continue;
            }
            for (word, into) in bytes.chunks_exact_mut(8).enumerate() {
                into.copy_from_slice(&self.read(slot, word).to_ne_bytes());
            }
            each(slot as u32, &bytes);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and no reference into it outlives this.
        // A failure leaves a mapping behind, which is harmless.
        let _ = unsafe { munmap(self.base.cast(), self.bytes.get()) };
    }
}
