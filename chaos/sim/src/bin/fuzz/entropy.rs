//! Takes the operating system's random numbers out of a run.
//!
//! tokio chooses at random which of several ready branches, or which waiters of a `watch` channel, come first, and
//! seeds that choice from the standard library's hash keys, as hash maps do theirs. On stable tokio there is no other
//! way to that seed than the system call the keys come from.

#![allow(unsafe_code)]

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// Replaces the C library's `getrandom` in this program: the n-th number drawn is always the same.
///
/// # Safety
/// As of the function it replaces: `buffer` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: the caller promises `length` writable bytes at `buffer`, which is not null. They may be uninitialized,
    // so they are only written, through a pointer of the alignment of a byte.
    unsafe {
        for at in 0..length {
            buffer.cast::<u8>().add(at).write(next_byte());
        }
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// SplitMix64, a byte at a time.
fn next_byte() -> u8 {
    let n = DRAWN.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 56) as u8
}
