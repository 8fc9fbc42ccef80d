//! What servers say to each other about replicated blocks, and the names of operations on them.
//!
//! Whatever is read is what its bytes say: written again it is the same.

use mcomp_wire::replica::{Envelope, Item, Kept, Name, PAGE, Shown, Value, Word};

use crate::Seed;

/// A whole frame: what could be read of it, written again, is the beginning of it.
pub fn replica_message(data: &[u8]) {
    let Ok((envelope, items)) = Envelope::parse(data) else { return };
    let mut again = Vec::new();
    envelope.emit(&mut again);
    for item in items.map_while(Result::ok) {
        let at = again.len();
        item.emit(&mut again);
        assert!(again.len() - at <= Item::MOST, "{item:?}");
    }
    assert_eq!(again, data[..again.len()]);
    if let Ok((name, rest)) = Name::parse(data) {
        assert_eq!([&name.emit()[..], rest].concat(), data);
    }
}

/// The seeds of [`replica_message`]: one of each word.
pub fn replica_message_seeds() -> Vec<Seed> {
    let results = Kept { session: 1, number: 2, previous: 3, applied: true, is_late: false }.emit();
    let page = [7; PAGE];
    let value = Value {
        clock: 5,
        forgotten: 3,
        generation: 2,
        fences: [Shown { id: 4, number: 9 }; 2],
        results: &results,
        page: Some(&page),
    };
    let empty =
        Value { clock: 0, forgotten: 0, generation: 0, fences: [Shown::default(); 2], results: &[], page: None };
    let words = [
        ("report", Word::Report),
        ("prepare", Word::Prepare(9)),
        ("accept", Word::Accept(9, value)),
        ("show", Word::Show),
        ("reported", Word::Reported(8)),
        ("promised", Word::Promised(8, empty)),
        ("accepted", Word::Accepted),
        ("shown", Word::Shown(9, 8, value)),
        ("refused", Word::Refused(11)),
        ("digest", Word::Digest),
        ("digested", Word::Digested(u64::MAX)),
    ];
    let frame = |word: Word<'_>| {
        let mut body = Vec::new();
        Envelope { from: 2, epoch: 3, config_epoch: 1, cut_epoch: 4, is_held: true }.emit(&mut body);
        Item { block: 6, attempt: 7, word }.emit(&mut body);
        body
    };
    words.into_iter().map(|(name, word)| (name, frame(word))).collect()
}
