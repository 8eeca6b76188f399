//! What the process keeps of the memory that it has used.

/// Keeps the memory that one thread has used from being lost to the others; for the first thread, while there is
/// no other.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives the system back what is free: loading the programs takes more than all that comes after it.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator locks itself, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
