//! The bytes of a register, and what a write exchanges in them. Words in, words out, no IO.
//!
//! A register is text of up to 1268 bytes with a tag, in one block of the memory. Register n is the block of 4096 bytes
//! at address 4096·n, so everybody who reaches the memory shares it, and whoever knows the layout can take part.
//!
//! # Layout
//! All numbers are little-endian. A block of zeros is a register that was never written.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | the tag: how often the register was written |
//! | 8..14 | the turn: odd while somebody writes, even at rest |
//! | 14..16 | the letters `RG` |
//! | 16..2048 | slot 0: 127 words of 16 bytes |
//! | 2048..4080 | slot 1: the same |
//! | 4080..4096 | nothing |
//!
//! The value of tag t stands in slot t mod 2. A word is the turn of the write that put it there (6 bytes) and 10 bytes
//! of content. The content of a slot is the length of the text (2 bytes), then the text.
//!
//! # A write
//! 1. Read the block, whole and atomic. If its turn is odd, somebody else writes: wait a little, but not for ever.
//! 2. *Claim*: exchange the head (tag t, turn u) for (t, v), v the next odd number after u.
//! 3. *Stage*: exchange each word of slot (t + 1) mod 2 that is needed, from what step 1 read to (v, content).
//! 4. *Publish*: exchange the head (t, v) for (t + 1, v + 1).
//!
//! Each exchange is a compare-and-swap of 16 bytes. One that finds something else in 2 or 4 begins again at 1.
//!
//! # Why it is right
//! Turns only rise, and every claim has one of its own, since two claims from one head cannot both succeed. The head
//! changes only by claims and publications.
//!
//! *Tags.* Only a publication changes the tag, from t to t + 1, and it is one exchange: no tag is given twice, none is
//! left out, and a reader that has seen t never sees less.
//!
//! *The value belongs to its tag.* Let v publish tag t + 1. From its claim to its publication the head was (t, v), and
//! between them v put all its words into the other slot, each in place of what it had read there. Could another writer w
//! change one of them while t + 1 is the tag? Either w read the block before v staged that word. Then it expects what
//! stood there before, and that never comes back, as turns do not: it fails. Or w read the block after that, and so a
//! head of turn v or later, which it claimed from. Had that been (t, v), then w's claim or v's publication would have
//! found another head, and failed. So it was (t + 1, v + 1) or later, and w stages the slot that is not read; this one
//! not before tag t + 2 is published.
//!
//! *Atomic.* A read takes the whole block at one instant, where the published slot is complete. A write happens at its
//! publication. Both are linearizable because a read of a block, and a compare-and-swap, are.
//!
//! *A writer that dies* leaves an odd turn and the published value whole. The next one waits a moment, claims past it,
//! and nothing that the dead one has sent changes what is read. How long it waits decides nothing but speed.
//!
//! *A restore* takes turns back. What was sent before it is refused by the servers. A write that goes on after it may
//! share its turn with another one; both need the first word of the slot, and only one of them gets it.
//!
//! Leaves out: what others put into the block by other means. What cannot be a register is refused; a block that only
//! begins with 16 zeros is taken for one that was never written.

/// Bytes of a register's block.
pub(crate) const BLOCK: usize = 4096;
/// The longest text.
pub(crate) const TEXT_LEN_MAX: usize = WORDS * CONTENT - 2;
/// Bytes of a word: what is exchanged at once.
pub(crate) const WORD: usize = 16;

/// Words of a slot.
const WORDS: usize = 127;
/// Bytes of content in a word.
const CONTENT: usize = 10;
const TURN_BITS: u32 = 48;
const TURN_MASK: u64 = (1 << TURN_BITS) - 1;
/// The letters `RG` at the end of a head.
const MAGIC: u128 = 0x4752;

/// What a register holds. Tag 0: it was never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    pub(crate) tag: u64,
    pub(crate) text: Option<String>,
}

/// The head of a block. No two states of a block have the same one, but for slots that are being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    tag: u64,
    turn: u64,
}

/// A block as it was read.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    bytes: &'a [u8; BLOCK],
    head: Head,
}

/// One compare-and-swap of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Which word of the block.
    pub(crate) at: usize,
    pub(crate) expected: u128,
    pub(crate) new: u128,
}

/// A write over a block that was read. It is done when `claim`, then all of `stage` in any order, then `publish` have
/// succeeded, and it has done nothing that a reader sees when one of them failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) claim: Exchange,
    pub(crate) stage: Vec<Exchange>,
    pub(crate) publish: Exchange,
    /// The tag of what is published.
    pub(crate) tag: u64,
}

impl<'a> Block<'a> {
    /// The block, if it can be a register's.
    pub(crate) fn parse(bytes: &'a [u8; BLOCK]) -> Option<Block<'a>> {
        Some(Block { bytes, head: Head::of(word_at(bytes, 0))? })
    }

    /// Its head.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// What is published; none if something else stands there than a text.
    pub(crate) fn register(&self) -> Option<Register> {
        let tag = self.head.tag;
        match tag {
            0 => Some(Register { tag, text: None }),
            _ => Some(Register { tag, text: Some(self.text(first_word(tag))?) }),
        }
    }

    /// How `text`, of at most [`TEXT_LEN_MAX`] bytes, comes into this block. A writer that is at work is claimed past.
    /// None if the numbers of the head are used up: 2^47 writes do not come to pass, but a block that only looks like a
    /// register may hold any.
    pub(crate) fn plan(&self, text: &str) -> Option<Plan> {
        let Head { tag, turn } = self.head;
        let claimed = Head { tag, turn: (turn + 1) | 1 };
        let published = Head { tag: tag.checked_add(1)?, turn: claimed.turn + 1 };
        if published.turn > TURN_MASK {
            return None;
        }
        let words = (first_word(published.tag)..).zip(words_of(text, claimed.turn));
        Some(Plan {
            claim: Exchange { at: 0, expected: word_at(self.bytes, 0), new: claimed.word() },
            stage: words.map(|(at, new)| Exchange { at, expected: word_at(self.bytes, at), new }).collect(),
            publish: Exchange { at: 0, expected: claimed.word(), new: published.word() },
            tag: published.tag,
        })
    }

    /// The text of the slot that begins at a word, if one stands there.
    fn text(&self, first: usize) -> Option<String> {
        let slot = &self.bytes[first * WORD..][..WORDS * WORD];
        let content: Vec<u8> = slot.chunks(WORD).flat_map(|word| &word[WORD - CONTENT..]).copied().collect();
        let len = usize::from(u16::from_le_bytes([content[0], content[1]]));
        let text = content.get(2..2 + len)?;
        let mut turns = slot.chunks(WORD).take((2 + len).div_ceil(CONTENT)).map(|word| &word[..WORD - CONTENT]);
        let turn = turns.next()?;
        let is_whole = turn[0] % 2 == 1 && turns.all(|other| other == turn);
        String::from_utf8(text.to_vec()).ok().filter(|_| is_whole)
    }
}

impl Head {
    /// Whether somebody is at work, or has died of it.
    pub(crate) fn is_claimed(self) -> bool {
        !self.turn.is_multiple_of(2)
    }

    fn word(self) -> u128 {
        u128::from(self.tag) | u128::from(self.turn) << 64 | MAGIC << (64 + TURN_BITS)
    }

    fn of(word: u128) -> Option<Head> {
        let head = Head { tag: word as u64, turn: (word >> 64) as u64 & TURN_MASK };
        let is_head = word == 0 || word >> (64 + TURN_BITS) == MAGIC;
        is_head.then_some(head)
    }
}

/// The first word of the slot of a tag.
fn first_word(tag: u64) -> usize {
    1 + (tag % 2) as usize * WORDS
}

/// The words of a slot that hold `text`.
fn words_of(text: &str, turn: u64) -> Vec<u128> {
    let len = u16::try_from(text.len()).expect("a text that fits").to_le_bytes();
    let content = [&len[..], text.as_bytes()].concat();
    let word = |part: &[u8]| {
        let mut bytes = [0; WORD];
        bytes[..WORD - CONTENT].copy_from_slice(&turn.to_le_bytes()[..WORD - CONTENT]);
        bytes[WORD - CONTENT..][..part.len()].copy_from_slice(part);
        u128::from_le_bytes(bytes)
    };
    content.chunks(CONTENT).map(word).collect()
}

fn word_at(bytes: &[u8; BLOCK], index: usize) -> u128 {
    u128::from_le_bytes(bytes[index * WORD..][..WORD].try_into().expect("a word of the block"))
}

// Its path is said because the fuzz package builds this file from elsewhere.
#[cfg(test)]
#[path = "layout/tests.rs"]
mod tests;
