//! A clock for what is looked at often and need not be exact.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, up to 10 ms old: it costs a few nanoseconds and no system call.
#[inline]
pub(crate) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
}
