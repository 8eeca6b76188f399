//! A sender: the kernel runs a small program on a frame of ours, again and again
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`). The program gives the frame another source each time and redirects it into
//! a device: no system call for each frame, and no socket buffer until the receiver makes one.

use std::{io, os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result};
use aya_obj::generated::{bpf_cmd, bpf_prog_type};

use crate::loader::{Attr, bpf, bpf_fd, raw};

/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE: u32 = 1 << 1;
/// Frames that are sent at a time: as many as a driver polls for.
const BATCH: u32 = 64;
/// Sources: 2 to this power.
const SOURCES_LOG2: u32 = 6;
/// Sources that frames come from: `10.H.L.7` for numbers `H * 256 + L`, evenly below a limit.
pub const SOURCES: u32 = 1 << SOURCES_LOG2;
/// The first two bytes of a source and the last two, as numbers, for the number 0.
const SOURCE: u32 = 0x0a00 + 0x0007;
/// Offsets in a frame: identification, and the second and third byte of the source.
const ID: u32 = 18;
const HIGH: u32 = 27;
const LOW: u32 = 28;

/// A sender into one device of the calling thread's network namespace.
pub struct Blaster(OwnedFd);

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}
impl Attr for Load {}

#[repr(C, align(8))]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    in_size: u32,
    out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}
impl Attr for TestRun {}

/// An instruction.
const fn op(code: u8, dst: u8, src: u8, offset: u32, value: u32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | ((offset & 0xffff) as u64) << 16
        | (value as u64) << 32
}

/// Source and identification of the frame, then the redirect. The identification takes back what the
/// source adds to the header's checksum.
fn instructions(ifindex: u32, prefixes: u32) -> Vec<u64> {
    const RANDOM: u32 = 7;
    const REDIRECT: u32 = 23;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const SET: u8 = 0xb7;
    const COPY: u8 = 0xbf;
    const LOAD32: u8 = 0x61;
    const STORE8: u8 = 0x73;
    const ADD: u8 = 0x07;
    const SHIFT_RIGHT: u8 = 0x77;
    vec![
        op(COPY, 6, 1, 0, 0),
        op(CALL, 0, 0, 0, RANDOM),
        // The number: (random % sources) * prefixes / sources.
        op(0x57, 0, 0, 0, SOURCES - 1),
        op(0x27, 0, 0, 0, prefixes),
        op(SHIFT_RIGHT, 0, 0, 0, SOURCES_LOG2),
        // The frame has to be 60 bytes long.
        op(LOAD32, 2, 6, 0, 0),
        op(LOAD32, 3, 6, 4, 0),
        op(COPY, 4, 2, 0, 0),
        op(ADD, 4, 0, 0, 60),
        op(0x2d, 4, 3, 20, 0),
        op(COPY, 5, 0, 0, 0),
        op(SHIFT_RIGHT, 5, 0, 0, 8),
        op(STORE8, 2, 5, HIGH, 0),
        op(COPY, 7, 0, 0, 0),
        op(0x57, 7, 0, 0, 0xff),
        op(STORE8, 2, 7, LOW, 0),
        // The identification: 0xffff less the two words of the source.
        op(0x67, 7, 0, 0, 8),
        op(0x0f, 7, 5, 0, 0),
        op(ADD, 7, 0, 0, SOURCE),
        op(0xb5, 7, 0, 1, 0xffff),
        op(0x17, 7, 0, 0, 0xffff),
        op(SET, 8, 0, 0, 0xffff),
        op(0x1f, 8, 7, 0, 0),
        op(STORE8, 2, 8, ID + 1, 0),
        op(SHIFT_RIGHT, 8, 0, 0, 8),
        op(STORE8, 2, 8, ID, 0),
        op(SET, 1, 0, 0, ifindex),
        op(SET, 2, 0, 0, 0),
        op(CALL, 0, 0, 0, REDIRECT),
        op(EXIT, 0, 0, 0, 0),
        op(SET, 0, 0, 0, 1),
        op(EXIT, 0, 0, 0, 0),
    ]
}

impl Blaster {
    /// Makes a sender into the device with this index, from sources in so many prefixes.
    pub fn new(ifindex: u32, prefixes: u32) -> Result<Self> {
        let instructions = instructions(ifindex, prefixes);
        let mut attr = Load {
            kind: bpf_prog_type::BPF_PROG_TYPE_XDP as u32,
            count: u32::try_from(instructions.len())?,
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
        };
        let program = bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr);
        program.map(Self).context("cannot load the program that sends")
    }

    /// Sends a frame so many times; returns how long the kernel took, without preparation.
    pub fn send(&self, frame: &[u8], times: u32) -> Result<Duration> {
        let mut attr = TestRun {
            program: raw(&self.0),
            in_size: u32::try_from(frame.len()).map_err(io::Error::other)?,
            data_in: frame.as_ptr() as u64,
            repeat: times,
            flags: LIVE,
            batch: BATCH,
            ..TestRun::default()
        };
        bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)
            .context("cannot send (BPF_F_TEST_XDP_LIVE_FRAMES)")?;
        Ok(Duration::from_nanos(u64::from(attr.duration) * u64::from(times)))
    }
}

/// A UDP datagram in a frame of the least length.
pub fn frame((to, from): ([u8; 6], [u8; 6]), dst: [u8; 4]) -> Vec<u8> {
    let [.., high, low] = (0xffff - SOURCE).to_be_bytes();
    let mut ip = vec![0x45, 0, 0, 46, high, low, 0, 0, 64, 17, 0, 0];
    ip.extend([10, 0, 0, 7]);
    ip.extend(dst);
    let words = ip.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // Ports, length, no checksum, payload.
    ip.extend([0x30, 0x39, 0, 9, 0, 26, 0, 0]);
    ip.resize(46, 0);
    [&to[..], &from, &[8, 0], &ip].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program makes of the frame.
    fn sent(number: u32) -> Vec<u8> {
        let mut frame = frame(([1; 6], [2; 6]), [198, 18, 0, 1]);
        let sum = SOURCE + (number >> 8) + ((number & 0xff) << 8);
        let sum = if sum > 0xffff { sum - 0xffff } else { sum };
        let [.., high, low] = number.to_be_bytes();
        (frame[HIGH as usize], frame[LOW as usize]) = (high, low);
        let [.., high, low] = (0xffff - sum).to_be_bytes();
        (frame[ID as usize], frame[ID as usize + 1]) = (high, low);
        frame
    }

    #[test]
    fn the_header_adds_up_whatever_the_source() {
        for number in [0, 1, 245, 255, 256, 999, 0x0fff] {
            let frame = sent(number);
            assert_eq!(frame.len(), 60);
            let words = frame[14..34].chunks_exact(2);
            let sum: u32 = words.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{number}");
        }
    }
}
