//! Work on memory that everything else on the machine goes before.
//!
//! A snapshot zeroes and copies a whole segment, which keeps all cores busy for a while, and writers are not to
//! feel it. So the threads that do it step back. Those that cut do not: answers are held until they are done.

/// How nice: a thread of the usual priority gets about thirty times the share of the same core.
const NICE: i32 = 15;

/// Lowers the priority of the calling thread for good: on Linux it is the thread's own, see `setpriority(2)`.
pub fn step_back() {
    // Where that is refused the work is done at the priority that there is.
    let _ = rustix::process::nice(NICE);
}
