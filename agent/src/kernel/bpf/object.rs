//! The eBPF object, built by `build.rs` and carried in the binary.

/// The object's bytes: an ELF file for the BPF machine, aligned as its parser wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bascule-ebpf"));
