//! Mutations of seeds: what a run of the tests tries where libFuzzer is not at hand.
//!
//! The same generator in the same state gives the same mutation, so a seed repeats a whole run.

use fastrand::Rng;

/// The longest mutation. Longer ones cost time and find nothing that shorter ones do not.
const LEN_MAX: usize = 16 << 10;

/// Bytes at which numbers of one byte, and the bytes of longer numbers, turn around.
const EDGES: [u8; 8] = [0, 1, 0x0f, 0x10, 0x7f, 0x80, 0xfe, 0xff];

/// A mutation of one of `seeds`: one to eight small changes, so that half of them stay near a seed.
pub fn mutation(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..1 << rng.u32(0..4) {
        change(&mut bytes, seeds, rng);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.push(rng.u8(..));
        return;
    }
    let at = rng.usize(..bytes.len());
    match rng.u8(..9) {
        0 => bytes[at] ^= 1 << rng.u32(..8),
        1 => bytes[at] = rng.u8(..),
        2 => bytes[at] = EDGES[rng.usize(..EDGES.len())],
        3 => bytes[at] = bytes[at].wrapping_add(rng.u8(..5)).wrapping_sub(2),
        4 => put_number(&mut bytes[at..], rng),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..at + piece(bytes.len() - at, rng))),
        7 => {
            let copied = bytes[at..at + piece(bytes.len() - at, rng)].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, copied);
        }
        _ => {
            let other = rng.choice(seeds).map(Vec::as_slice).unwrap_or_default();
            let from = rng.usize(..=other.len());
            let taken = &other[from..from + piece(other.len() - from, rng)];
            let replaced = piece(bytes.len() - at, rng);
            bytes.splice(at..at + replaced, taken.iter().copied());
        }
    }
}

/// A length of at most `most`, short ones more often.
fn piece(most: usize, rng: &mut Rng) -> usize {
    rng.usize(..=most).min(1 << rng.u32(..12))
}

/// Puts a number that is near a power of two, little-endian, in two, four or eight bytes.
fn put_number(bytes: &mut [u8], rng: &mut Rng) {
    let number = (1u64 << rng.u32(..64)).wrapping_add(rng.u64(..3)).wrapping_sub(1);
    let len = (2usize << rng.u32(..3)).min(bytes.len());
    bytes[..len].copy_from_slice(&number.to_le_bytes()[..len]);
}
