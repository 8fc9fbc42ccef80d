//! The protocol of blocks, cuts and semaphores under schedules and memory orders that a test chooses.
//!
//! The files of `src` that keep the protocol are compiled here once more, unchanged, over a machine of this test: its
//! threads go on only when the schedule says so, its loads return every value that the C++ memory model allows, its
//! threads die at any access, and it can make mistakes on purpose. So what is proved is the code itself and no copy of
//! it.
//!
//! Small models run under all schedules with a few preemptions, larger ones under random schedules. A failure of the
//! former repeats itself, one of the latter prints the seed that repeats it. `MCOMP_TEST_SCHEDULES=100` tries a hundred
//! times as many random schedules as a plain run.
//!
//! What it leaves out: compiler fences (the machine executes what is written, in that order), `rep movsb` (its copies
//! go by words), the kernel's part (`pread`, holes, futexes), of which `sync` and `shadow` say what is assumed, and what
//! stands at the head of `memory`.
#![allow(unsafe_code, dead_code, unreachable_pub)]
// UNSAFETY: the protocol's files copy through raw pointers. Here they point into an array of this process, which
// `map` makes and `copy` alone looks into.

// The protocol, as it is.
#[path = "../../src/block.rs"]
mod block;
#[path = "../../src/change.rs"]
mod change;
#[path = "../../src/client_read.rs"]
mod client_read;
#[path = "../../src/cut.rs"]
mod cut;
#[path = "../../src/cut_read.rs"]
mod cut_read;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/gate.rs"]
mod gate;
#[path = "../../src/mutant.rs"]
mod mutant;
#[path = "../../src/semaphore.rs"]
mod semaphore;
#[path = "../../src/settle.rs"]
mod settle;
#[path = "../../src/slot.rs"]
mod slot;
#[path = "../../src/span.rs"]
mod span;

// What stands in for the rest of `src`, with the same names.
mod copy; // copies by words of the model
mod layout; // the words, without their bytes
mod map; // blocks of two words, in an array
mod reader; // the read-only side, without a file
mod register; // blocks that are not replicated have none
mod segment; // the server's side, without a file
mod shadow; // the shadow area: whether it is allocated
mod sync; // atomics, futexes and threads of the machine

// The machine.
mod explore; // which schedules are run
mod machine; // threads: how they start, sleep and die
mod memory; // what a load may return
mod mistake; // what the machine does wrongly on purpose

// What is proved.
mod proof_blocks; // no reader sees half of a write, and no update is lost
mod proof_cut; // a cut is exact in both directions, and its pages are given back when nobody can touch them
mod proof_death; // a writer that dies at any access leaves what `finish` makes the old or the new block
mod proof_memory; // the machine allows what the memory model allows, and nothing else
mod proof_orders; // the models notice every memory order that is weakened, and every known mistake
mod proof_semaphore; // one holder at a time, and no wake is lost
