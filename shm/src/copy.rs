//! Copies between private memory and memory that other processes are writing.
//!
//! Such a copy may see any mix of old and new bytes; the block protocol throws the mixed ones away. The language
//! has no racing copy, and a plain one would be undefined behaviour, so bytes move either by relaxed atomic words
//! or by `rep movsb` in inline assembly.
//!
//! The weak point, said openly: inline assembly stands outside the memory model, and we rely on the compiler
//! treating it as it documents, as a call to code that it cannot see, which could have been relaxed atomic byte
//! copies. The fences that order the copy stand around it, in `block`.
//!
//! A loop of words costs 50 to 90 % more than `rep movsb` at 4 KiB, and `rep movsb` about as much as 20 words
//! before it moves its first byte: hence the limit between them. One trap is left to
//! the caller: a target that starts a few bytes after its source, modulo 4096, makes the processor wait for its own
//! stores, and the copy takes twice as long.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Up to here words are faster than starting `rep movsb`.
const WORDS_MAX_BYTES: usize = 256;

/// Copies `len_bytes` out of shared memory.
///
/// # Safety
/// `shared` is readable and `private` writable for `len_bytes`; no Rust reference covers the shared bytes; nobody
/// else touches the private ones.
#[inline]
pub(crate) unsafe fn from_shared(shared: *const u8, private: *mut u8, len_bytes: usize) {
    if cfg!(not(target_arch = "x86_64")) || len_bytes <= WORDS_MAX_BYTES {
        // SAFETY: the caller's promise, passed on.
        unsafe { words_from_shared(shared, private, len_bytes) }
    } else {
        // SAFETY: the caller's promise, passed on.
        unsafe { move_bytes(shared, private, len_bytes) }
    }
}

/// Copies `len_bytes` into shared memory.
///
/// # Safety
/// `private` is readable and `shared` writable for `len_bytes`; no Rust reference covers the shared bytes; nobody
/// else changes the private ones.
#[inline]
pub(crate) unsafe fn to_shared(private: *const u8, shared: *mut u8, len_bytes: usize) {
    if cfg!(not(target_arch = "x86_64")) || len_bytes <= WORDS_MAX_BYTES {
        // SAFETY: the caller's promise, passed on.
        unsafe { words_to_shared(private, shared, len_bytes) }
    } else {
        // SAFETY: the caller's promise, passed on.
        unsafe { move_bytes(private, shared, len_bytes) }
    }
}

/// Copies one block from shared memory to shared memory.
///
/// # Safety
/// Both are valid for `len_bytes`, a multiple of 8, aligned to 8, do not overlap, and no Rust reference covers
/// them.
#[inline]
pub(crate) unsafe fn between_shared(from: *const u8, to: *mut u8, len_bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise, passed on.
    unsafe {
        move_bytes(from, to, len_bytes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    for at in (0..len_bytes).step_by(8) {
        // SAFETY: `at` stays below the length for which the caller vouches, and keeps the alignment.
        unsafe { word_at(to, at).store(word_at(from, at).load(Relaxed), Relaxed) }
    }
}

/// `rep movsb`: the processor's own copy, the fastest for more than a few cache lines.
///
/// # Safety
/// `from` is readable and `to` writable for `len_bytes`, and they do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn move_bytes(from: *const u8, to: *mut u8, len_bytes: usize) {
    // SAFETY: the instruction reads and writes exactly the ranges that the caller vouches for. The direction flag
    // is clear by the ABI, and the assembly clobbers memory by default, so the compiler moves no access across.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len_bytes => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn move_bytes(_from: *const u8, _to: *mut u8, _len_bytes: usize) {
    unreachable!("other targets copy by words")
}

/// How many bytes come before the next multiple of eight, at most `len_bytes`.
#[inline]
fn head_bytes(shared: *const u8, len_bytes: usize) -> usize {
    (shared.addr().wrapping_neg() & 7).min(len_bytes)
}

/// The atomic byte at `base + at`.
///
/// # Safety
/// The byte is mapped for as long as the result is used, and no Rust reference covers it.
#[inline]
unsafe fn byte_at<'a>(base: *const u8, at: usize) -> &'a AtomicU8 {
    // SAFETY: the caller's promise; an atomic may be shared with any number of racing accesses.
    unsafe { AtomicU8::from_ptr(base.add(at).cast_mut()) }
}

/// The atomic word at `base + at`.
///
/// # Safety
/// As [`byte_at`], for eight bytes at a multiple of eight.
#[inline]
unsafe fn word_at<'a>(base: *const u8, at: usize) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; an atomic may be shared with any number of racing accesses.
    unsafe { AtomicU64::from_ptr(base.add(at).cast_mut().cast()) }
}

/// # Safety
/// As [`from_shared`].
#[inline]
unsafe fn words_from_shared(shared: *const u8, private: *mut u8, len_bytes: usize) {
    let head = head_bytes(shared, len_bytes);
    let words_end = head + (len_bytes - head) / 8 * 8;
    // SAFETY: every index is below `len_bytes`; words start at the first multiple of eight of the shared side,
    // and the private side takes them unaligned.
    unsafe {
        for at in 0..head {
            *private.add(at) = byte_at(shared, at).load(Relaxed);
        }
        for at in (head..words_end).step_by(8) {
            private.add(at).cast::<u64>().write_unaligned(word_at(shared, at).load(Relaxed));
        }
        for at in words_end..len_bytes {
            *private.add(at) = byte_at(shared, at).load(Relaxed);
        }
    }
}

/// # Safety
/// As [`to_shared`].
#[inline]
unsafe fn words_to_shared(private: *const u8, shared: *mut u8, len_bytes: usize) {
    let head = head_bytes(shared, len_bytes);
    let words_end = head + (len_bytes - head) / 8 * 8;
    // SAFETY: as in `words_from_shared`.
    unsafe {
        for at in 0..head {
            byte_at(shared, at).store(*private.add(at), Relaxed);
        }
        for at in (head..words_end).step_by(8) {
            word_at(shared, at).store(private.add(at).cast::<u64>().read_unaligned(), Relaxed);
        }
        for at in words_end..len_bytes {
            byte_at(shared, at).store(*private.add(at), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every alignment and the lengths around each limit, both directions, with guard bytes on both sides.
    #[test]
    fn copies_exactly_the_bytes_asked_for() {
        let source: Vec<u8> = (0..1024u32).map(|i| (i * 7 + 1) as u8).collect();
        for offset in 0..16 {
            for len in (0..40).chain([WORDS_MAX_BYTES - 1, WORDS_MAX_BYTES, WORDS_MAX_BYTES + 1, 700]) {
                let mut out = vec![0xee; 1024];
                // SAFETY: both vectors hold 1024 bytes and `offset + len` is below that.
                unsafe { from_shared(source.as_ptr().add(offset), out.as_mut_ptr().add(3), len) };
                assert_eq!(out[3..3 + len], source[offset..offset + len]);
                assert!(out[..3].iter().chain(&out[3 + len..]).all(|&byte| byte == 0xee));

                let mut out = vec![0xee; 1024];
                // SAFETY: as above.
                unsafe { to_shared(source.as_ptr().add(5), out.as_mut_ptr().add(offset), len) };
                assert_eq!(out[offset..offset + len], source[5..5 + len]);
                assert!(out[..offset].iter().chain(&out[offset + len..]).all(|&byte| byte == 0xee));
            }
        }
    }
}
