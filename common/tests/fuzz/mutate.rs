//! What is done to cases.

use bascule_common::testing::Walk;

use crate::case::{Case, Step};

/// Frames of a case at most, and bytes of a frame.
const STEPS: usize = 6;
const BYTES: usize = 400;

/// A small generator: a seed makes the same cases everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Never 0, where it would stay.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below this one, or 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// A hash for names (FNV-1a).
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// One of the cases, changed some times.
pub fn mutated(cases: &[Case], random: &mut Random) -> Case {
    let mut case = cases[random.below(cases.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(case.0.len());
        if random.below(8) == 0 {
            arrange(&mut case, at, cases, random);
        } else {
            spoil(&mut case.0[at], random);
        }
    }
    case
}

/// Changes which frames there are.
fn arrange(case: &mut Case, at: usize, cases: &[Case], random: &mut Random) {
    match random.below(4) {
        0 if case.0.len() > 1 => {
            case.0.remove(at);
        }
        1 if case.0.len() < STEPS => case.0.push(case.0[at].clone()),
        2 if case.0.len() < STEPS => {
            let other = &cases[random.below(cases.len())].0;
            case.0.push(other[random.below(other.len())].clone());
        }
        _ => answer(case, at),
    }
}

/// Adds a frame that goes the other way.
fn answer(case: &mut Case, at: usize) {
    let mut step = case.0[at].clone();
    let (addresses, length) = match step.bytes.get(12..14) {
        Some([0x08, 0x00]) => (26, 4),
        Some([0x86, 0xdd]) => (22, 16),
        _ => return,
    };
    // The ports follow the addresses, where there is nothing between.
    if case.0.len() >= STEPS || step.bytes.len() < addresses + 2 * length + 4 {
        return;
    }
    let (front, behind) = step.bytes[addresses..].split_at_mut(length);
    front.swap_with_slice(&mut behind[..length]);
    let ports = addresses + 2 * length;
    step.bytes[ports..ports + 4].rotate_left(2);
    step.walk = match step.walk {
        Walk::FromContainer => Walk::FromUplink,
        Walk::FromUplink => Walk::FromContainer,
        other => other,
    };
    case.0.push(step);
}

/// Changes a frame.
fn spoil(step: &mut Step, random: &mut Random) {
    const EDGES: [u8; 16] = [0, 1, 2, 4, 6, 17, 43, 44, 51, 58, 60, 127, 128, 135, 136, 255];
    let at = random.below(step.bytes.len());
    match random.below(12) {
        0 => step.bytes.truncate(at),
        1 if step.bytes.len() < BYTES => {
            let part = step.bytes[at..].to_vec();
            step.bytes.extend(&part[..part.len().min(64)]);
        }
        2 if step.bytes.len() < BYTES => {
            let byte = random.byte();
            step.bytes.splice(at..at, [byte; 8]);
        }
        3 => step.endpoint = 1 + u32::try_from(random.below(3)).unwrap_or(0),
        4 => step.segment_size = [0, 1, 1400, 65_535][random.below(4)],
        5 => step.bare = !step.bare,
        6 => step.walk = Walk::ALL[random.below(Walk::ALL.len())],
        7 | 8 => {
            if let Some(byte) = step.bytes.get_mut(at) {
                *byte = EDGES[random.below(EDGES.len())];
            }
        }
        9 => {
            if let Some(byte) = step.bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {
            if let Some(byte) = step.bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
    }
}
