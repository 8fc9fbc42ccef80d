//! A block as crate `quorum` sees it: its contents, what can be done to them, and the bytes in which a segment and a
//! frame hold them.

use std::collections::VecDeque;
use std::sync::Arc;

use mcomp_quorum::{Ballot, Object, OpId, Register};
use mcomp_shm::REGISTER_BYTES;
use mcomp_wire::AtomicOp;
use mcomp_wire::replica::{Kept, MAX_FENCES, MAX_RESULTS, PAGE, Shown, Value};

/// The contents of a block.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Page {
    pub(super) bytes: Arc<[u8; PAGE]>,
    /// The entry of the metadata for which it was zeroed last.
    pub(super) generation: u64,
    /// The last fences that were shown, the newest first. What shows a lower one of the same lock or lease comes too
    /// late, whoever has let it in.
    pub(super) fences: [Shown; MAX_FENCES],
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// What is to be done to a block, under a fence if its number is not 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) op: Op,
    pub(super) fence: Shown,
}

/// What can be done to a block. Each keeps inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// All of it.
    Page(Arc<[u8; PAGE]>),
    Patch {
        within: usize,
        bytes: Box<[u8]>,
    },
    Fill {
        within: usize,
        len: usize,
        byte: u8,
    },
    Atomic {
        within: usize,
        op: AtomicOp,
        operand: u64,
        expected: u64,
    },
    Cas16 {
        within: usize,
        expected: u128,
        new: u128,
    },
    /// Nothing: its fence is shown, so that no earlier holder writes any more.
    Touch,
    /// Memory that has a new owner since the entry `generation`: it is zeroed for that once.
    Zero {
        within: usize,
        len: usize,
        generation: u64,
    },
}

/// What an operation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) previous: u128,
    pub(super) applied: bool,
    /// Nothing was done: the fence is lower than one that was shown before.
    pub(super) is_late: bool,
}

impl Answer {
    fn of(previous: u128, applied: bool) -> Answer {
        Answer { previous, applied, is_late: false }
    }
}

impl Page {
    /// Whether a fence is at least as new as those that were shown of its lock or lease; it is noted then.
    fn admits(&mut self, shown: Shown) -> bool {
        if shown.number == 0 {
            return true;
        }
        match self.fences.iter_mut().find(|fence| fence.number != 0 && fence.id == shown.id) {
            Some(fence) if shown.number < fence.number => return false,
            Some(fence) => fence.number = shown.number,
            None => {
                self.fences.rotate_right(1);
                self.fences[0] = shown;
            }
        }
        true
    }
}

impl Object for Page {
    type Op = Change;
    type Answer = Answer;

    fn apply(&mut self, Change { op, fence }: &Change) -> Answer {
        if !self.admits(*fence) {
            return Answer { previous: 0, applied: false, is_late: true };
        }
        if let Op::Page(new) = op {
            self.bytes = Arc::clone(new);
            return Answer::of(0, true);
        }
        let bytes = Arc::make_mut(&mut self.bytes);
        match op {
            Op::Page(_) => {}
            Op::Patch { within, bytes: new } => bytes[*within..][..new.len()].copy_from_slice(new),
            Op::Touch => {}
            Op::Fill { within, len, byte } => bytes[*within..][..*len].fill(*byte),
            Op::Zero { within, len, generation } => {
                if self.generation >= *generation {
                    return Answer::of(0, false);
                }
                self.generation = *generation;
                bytes[*within..][..*len].fill(0);
            }
            Op::Atomic { within, op, operand, expected } => {
                let word: &mut [u8; 8] = (&mut bytes[*within..][..8]).try_into().expect("eight bytes");
                let previous = u64::from_le_bytes(*word);
                let new = op.apply(previous, *operand, *expected);
                *word = new.unwrap_or(previous).to_le_bytes();
                return Answer::of(previous.into(), new.is_some());
            }
            Op::Cas16 { within, expected, new } => {
                let word: &mut [u8; 16] = (&mut bytes[*within..][..16]).try_into().expect("sixteen bytes");
                let previous = u128::from_le_bytes(*word);
                let applied = previous == *expected;
                if applied {
                    *word = new.to_le_bytes();
                }
                return Answer::of(previous, applied);
            }
        }
        Answer::of(0, true)
    }
}

/// Where the parts of a register stand in its bytes, behind the two ballots.
const CLOCK: usize = 16;
const FORGOTTEN: usize = 24;
const GENERATION: usize = 32;
const COUNT: usize = 40;
const FENCES: usize = 48;
const RESULTS: usize = FENCES + 16 * MAX_FENCES;
const _: () = assert!(RESULTS + MAX_RESULTS * Kept::LEN <= REGISTER_BYTES);
const _: () = assert!(MAX_RESULTS == mcomp_quorum::RESULTS);

/// What a segment keeps of a value beside the block.
pub(super) fn to_segment(promised: Ballot, accepted: Ballot, value: &Value<'_>) -> [u8; REGISTER_BYTES] {
    let mut bytes = [0; REGISTER_BYTES];
    let mut put = |at: usize, number: u64| bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    put(0, promised.to_bits());
    put(8, accepted.to_bits());
    put(CLOCK, value.clock);
    put(FORGOTTEN, value.forgotten);
    put(GENERATION, value.generation);
    for (index, fence) in value.fences.iter().enumerate() {
        put(FENCES + 16 * index, fence.id);
        put(FENCES + 16 * index + 8, fence.number);
    }
    put(COUNT, (value.results.len() / Kept::LEN) as u64);
    bytes[RESULTS..][..value.results.len()].copy_from_slice(value.results);
    bytes
}

/// What [`to_segment`] has kept. Bytes that it cannot have written count for none.
pub(super) fn from_segment(bytes: Arc<[u8; PAGE]>, register: &[u8; REGISTER_BYTES]) -> Register<Page> {
    let number = |at: usize| u64::from_le_bytes(register[at..at + 8].try_into().expect("eight bytes"));
    let count = (number(COUNT) as usize).min(MAX_RESULTS);
    let fence = |index: usize| Shown { id: number(FENCES + 16 * index), number: number(FENCES + 16 * index + 8) };
    let fences = std::array::from_fn(fence);
    let page = Page { bytes, generation: number(GENERATION), fences };
    let results = &register[RESULTS..RESULTS + count * Kept::LEN];
    Register::kept(page, number(CLOCK), number(FORGOTTEN), parse_results(results))
}

/// Calls `see` with a register as a frame holds it.
pub(super) fn with_value<T>(register: &Register<Page>, see: impl FnOnce(Value<'_>) -> T) -> T {
    let mut bytes = [0; MAX_RESULTS * Kept::LEN];
    let mut len = 0;
    for kept in results(register) {
        bytes[len..len + Kept::LEN].copy_from_slice(&kept);
        len += Kept::LEN;
    }
    let Page { generation, fences, .. } = *register.object();
    // Most of a new cluster is as it was made.
    let is_new = register.clock() == 0 && generation == 0;
    see(Value {
        clock: register.clock(),
        forgotten: register.forgotten(),
        generation,
        fences,
        results: &bytes[..len],
        page: (!is_new).then_some(&register.object().bytes),
    })
}

/// A page of its own, copied once, to where it stays.
pub(super) fn copied(page: &[u8; PAGE]) -> Arc<[u8; PAGE]> {
    Arc::<[u8]>::from(&page[..]).try_into().expect("a page")
}

/// A register that came in a frame.
pub(super) fn from_value(value: &Value<'_>) -> Register<Page> {
    let page: &[u8; PAGE] = value.page.unwrap_or(&[0; PAGE]);
    let page = Page { bytes: copied(page), generation: value.generation, fences: value.fences };
    Register::kept(page, value.clock, value.forgotten, parse_results(value.results))
}

fn results(register: &Register<Page>) -> impl Iterator<Item = [u8; Kept::LEN]> {
    register.results().map(|(id, answer)| {
        let Answer { previous, applied, is_late } = *answer;
        Kept { session: id.session, number: id.number, previous, applied, is_late }.emit()
    })
}

fn parse_results(bytes: &[u8]) -> VecDeque<(OpId, Answer)> {
    let kept = bytes.as_chunks().0.iter().map(Kept::parse);
    kept.map(|Kept { session, number, previous, applied, is_late }| {
        (OpId { session, number }, Answer { previous, applied, is_late })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use mcomp_quorum::{Incarnation, Told};

    use super::*;

    fn blank() -> Register<Page> {
        Register::new(Page { bytes: Arc::new([0; PAGE]), generation: 0, fences: [Shown::default(); 2] })
    }

    fn of(op: Op, number: u64) -> Change {
        Change { op, fence: Shown { id: number & 1, number } }
    }

    /// A server that does not know yet that a lock has passed on lets its former holder in.
    #[test]
    fn what_shows_a_lower_fence_than_before_is_not_done() {
        let mut register = blank();
        let id = |number| OpId { session: 1, number };
        let write = |byte, fence| of(Op::Fill { within: 0, len: 1, byte }, fence);
        let is_late = |told| matches!(told, Told::Done(Answer { is_late: true, applied: false, .. }));
        assert!(!is_late(register.apply(id(1), &write(1, 5))));
        assert!(!is_late(register.apply(id(2), &of(Op::Touch, 7))), "who reads under it shows it, too");
        assert!(is_late(register.apply(id(3), &write(3, 3))));
        assert!(!is_late(register.apply(id(4), &write(4, 0))), "it shows none");
        assert!(is_late(register.apply(id(3), &write(3, 3))), "the same again hears the same");
        assert!(!is_late(register.apply(id(5), &write(5, 2))), "of another lock");
        assert_eq!((register.object().bytes[0], register.object().fences[1].number), (5, 7));
    }

    #[test]
    fn a_whole_page_is_written_as_a_patch_of_all_of_it_is() {
        let (mut whole, mut patched) = (blank(), blank());
        let id = |number| OpId { session: 1, number };
        for (number, fence) in [(1, 5), (2, 7), (3, 3)] {
            let new = [number as u8; PAGE];
            let told = whole.apply(id(number), &of(Op::Page(copied(&new)), fence));
            assert_eq!(told, patched.apply(id(number), &of(Op::Patch { within: 0, bytes: new.into() }, fence)));
            assert_eq!(whole, patched);
        }
        assert_eq!(whole.object().bytes[PAGE - 1], 2, "the last one shows a lower fence");
        // It shares the page with what was asked for until something else is done to it.
        let page = copied(&[9; PAGE]);
        whole.apply(id(4), &of(Op::Page(Arc::clone(&page)), 0));
        whole.apply(id(5), &of(Op::Fill { within: 0, len: 1, byte: 1 }, 0));
        assert_eq!((page[0], whole.object().bytes[0], whole.object().bytes[1]), (9, 1, 9));
    }

    #[test]
    fn a_register_is_the_same_after_a_segment_and_after_a_frame() {
        let mut register = blank();
        for number in 1..=20 {
            let op = of(Op::Atomic { within: 8, op: AtomicOp::Add, operand: number, expected: 0 }, number);
            register.apply(OpId { session: 7, number }, &op);
            let ballot = Ballot::ZERO.next(Incarnation(3));
            let kept = with_value(&register, |value| to_segment(ballot.next(Incarnation(3)), ballot, &value));
            assert_eq!(from_segment(Arc::clone(&register.object().bytes), &kept), register);
            assert_eq!(with_value(&register, |value| from_value(&value)), register);
        }
        assert_eq!(with_value(&blank(), |value| (value.page.is_none(), from_value(&value))), (true, blank()));
    }

    #[test]
    fn memory_is_zeroed_once_for_each_owner() {
        let mut register = blank();
        let id = |number| OpId { session: 1, number };
        let write = of(Op::Patch { within: 0, bytes: vec![9; 10].into() }, 0);
        let zero = |generation| of(Op::Zero { within: 0, len: 5, generation }, 0);
        let applied = |told| matches!(told, Told::Done(Answer { applied: true, .. }));
        assert!(applied(register.apply(id(1), &write)));
        assert!(applied(register.apply(id(2), &zero(3))));
        assert_eq!(register.object().bytes[..10], [0, 0, 0, 0, 0, 9, 9, 9, 9, 9]);
        assert!(applied(register.apply(id(3), &write)));
        assert!(!applied(register.apply(id(4), &zero(3))), "a server that starts says it again");
        assert_eq!(register.object().bytes[0], 9);
        assert!(applied(register.apply(id(5), &zero(4))));
    }

    #[test]
    fn atomics_tell_what_was_there() {
        let mut register = blank();
        let id = |number| OpId { session: 1, number };
        let cas = |expected, new| of(Op::Cas16 { within: 16, expected, new }, 0);
        assert_eq!(register.apply(id(1), &cas(0, 5)), Told::Done(Answer::of(0, true)));
        assert_eq!(register.apply(id(2), &cas(4, 6)), Told::Done(Answer::of(5, false)));
        let add = of(Op::Atomic { within: 16, op: AtomicOp::Add, operand: 2, expected: 0 }, 0);
        assert_eq!(register.apply(id(3), &add), Told::Done(Answer::of(5, true)));
        assert_eq!(register.apply(id(3), &add), Told::Done(Answer::of(5, true)));
        assert_eq!(register.object().bytes[16], 7);
    }
}
