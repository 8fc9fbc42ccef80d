//! What replicas ask each other about blocks, and say: many blocks in one frame.
//!
//! A body is a [`Envelope`] and then items, one after the other, to its end. What the words mean is decided in crate
//! `quorum`; here they are numbers and bytes. Everything is little-endian.

use crate::{BLOCK_SIZE, Malformed};

/// Bytes of a block.
pub const PAGE: usize = BLOCK_SIZE as usize;

/// Results that are kept of one block at most.
pub const MAX_RESULTS: usize = 12;

/// Who speaks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Which server.
    pub from: u32,
    /// The epoch of the replicas that the sender lives in.
    pub epoch: u64,
    /// The config epoch of its memory.
    pub config_epoch: u64,
    /// The epoch of the cut that holds it up, or of the last one.
    pub cut_epoch: u64,
    /// Whether a cut holds it up: then nothing but what was begun before is under way.
    pub is_held: bool,
}

impl Envelope {
    /// Bytes on the wire.
    pub const LEN: usize = 32;

    /// Appends its bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.from) | u64::from(self.is_held) << 32);
        put(out, self.epoch);
        put(out, self.config_epoch);
        put(out, self.cut_epoch);
    }

    /// Takes it off the front of a body.
    pub fn parse(body: &[u8]) -> Result<(Envelope, Items<'_>), Malformed> {
        let mut rest = Fields(body);
        let head = rest.u64()?;
        let (from, is_held) = match head >> 32 {
            0 => (head as u32, false),
            1 => (head as u32, true),
            _ => return Err(Malformed::Reserved),
        };
        let (epoch, config_epoch, cut_epoch) = (rest.u64()?, rest.u64()?, rest.u64()?);
        Ok((Envelope { from, epoch, config_epoch, cut_epoch, is_held }, Items(rest)))
    }
}

/// Something about one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Counted over all servers.
    pub block: u64,
    /// Chosen by who asks; the answer carries it back.
    pub attempt: u64,
    /// The question or the answer.
    pub word: Word<'a>,
}

/// A question or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// Under which ballot was your value accepted?
    Report,
    /// Obey nothing below this ballot, and say what you hold.
    Prepare(u64),
    /// Hold this under this ballot.
    Accept(u64, Value<'a>),
    /// Show everything that you keep.
    Show,
    /// The ballot of the value.
    Reported(u64),
    /// Obeyed; the ballot of the value, and the value.
    Promised(u64, Value<'a>),
    /// It is held.
    Accepted,
    /// What is promised, what was accepted, and the value of that.
    Shown(u64, u64, Value<'a>),
    /// This ballot was promised, and the one that was asked for is lower.
    Refused(u64),
    /// What do the accepted ballots of [`DIGEST_BLOCKS`] blocks from this one on come to?
    Digest,
    /// They come to this; nothing is said of blocks that do not vote.
    Digested(u64),
}

/// Blocks whose ballots are compared at once.
pub const DIGEST_BLOCKS: u64 = 256;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The greatest number of an operation that was done.
    pub clock: u64,
    /// The greatest number of an operation whose result was dropped.
    pub forgotten: u64,
    /// The entry of the metadata for which it was zeroed last.
    pub generation: u64,
    /// The last fences that were shown to it, the newest first.
    pub fences: [Shown; MAX_FENCES],
    /// What came of the last operations, as [`Kept::emit`] wrote it: a whole number of them, at most [`MAX_RESULTS`].
    pub results: &'a [u8],
    /// The contents; none stands for nothing but zeros.
    pub page: Option<&'a [u8; PAGE]>,
}

/// Fences that are kept of one block.
pub const MAX_FENCES: usize = 2;

/// A fence as a block knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shown {
    /// Of which lease or lock: the last eight bytes of its id.
    pub id: u64,
    /// Its number; 0 for none.
    pub number: u64,
}

/// What came of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose operation it was.
    pub session: u64,
    /// Which of theirs.
    pub number: u64,
    /// What was there before, of an atomic.
    pub previous: u128,
    /// Whether it changed anything.
    pub applied: bool,
    /// Whether it was refused, because it showed a lower fence than one before it.
    pub is_late: bool,
}

impl Kept {
    /// Bytes on the wire, and in a segment.
    pub const LEN: usize = 33;

    /// Its bytes.
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.session.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.previous.to_le_bytes());
        bytes[32] = u8::from(self.applied) | u8::from(self.is_late) << 1;
        bytes
    }

    /// Reads the bytes of [`Kept::emit`].
    pub fn parse(bytes: &[u8; Self::LEN]) -> Kept {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let previous = u128::from_le_bytes(std::array::from_fn(|i| bytes[16 + i]));
        Kept { session: word(0), number: word(8), previous, applied: bytes[32] & 1 != 0, is_late: bytes[32] & 2 != 0 }
    }
}

const REPORT: u8 = 1;
const PREPARE: u8 = 2;
const ACCEPT: u8 = 3;
const SHOW: u8 = 4;
const REPORTED: u8 = 5;
const PROMISED: u8 = 6;
const ACCEPTED: u8 = 7;
const SHOWN: u8 = 8;
const REFUSED: u8 = 9;
const DIGEST: u8 = 10;
const DIGESTED: u8 = 11;

impl Item<'_> {
    /// Bytes that an item takes at most.
    pub const MOST: usize = 12 * 8 + MAX_RESULTS * Kept::LEN + PAGE;

    /// Bytes that this one takes.
    pub fn size(&self) -> usize {
        let value = |value: &Value<'_>| 7 * 8 + value.results.len() + value.page.map_or(0, |page| page.len());
        3 * 8
            + match &self.word {
                Word::Report | Word::Show | Word::Accepted | Word::Digest => 0,
                Word::Prepare(_) | Word::Reported(_) | Word::Refused(_) | Word::Digested(_) => 8,
                Word::Accept(_, kept) | Word::Promised(_, kept) => 8 + value(kept),
                Word::Shown(_, _, kept) => 16 + value(kept),
            }
    }

    /// Appends its bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (code, ballots, value): (u8, &[u64], Option<&Value<'_>>) = match &self.word {
            Word::Report => (REPORT, &[], None),
            Word::Prepare(ballot) => (PREPARE, &[*ballot], None),
            Word::Accept(ballot, value) => (ACCEPT, &[*ballot], Some(value)),
            Word::Show => (SHOW, &[], None),
            Word::Reported(ballot) => (REPORTED, &[*ballot], None),
            Word::Promised(ballot, value) => (PROMISED, &[*ballot], Some(value)),
            Word::Accepted => (ACCEPTED, &[], None),
            Word::Shown(promised, accepted, value) => (SHOWN, &[*promised, *accepted], Some(value)),
            Word::Refused(ballot) => (REFUSED, &[*ballot], None),
            Word::Digest => (DIGEST, &[], None),
            Word::Digested(digest) => (DIGESTED, &[*digest], None),
        };
        put(out, self.block);
        put(out, self.attempt);
        let (results, has_page) =
            value.map_or((0, false), |value| (value.results.len() / Kept::LEN, value.page.is_some()));
        out.extend_from_slice(&[code, results as u8, has_page.into(), 0, 0, 0, 0, 0]);
        ballots.iter().for_each(|ballot| put(out, *ballot));
        if let Some(value) = value {
            put(out, value.clock);
            put(out, value.forgotten);
            put(out, value.generation);
            for Shown { id, number } in value.fences {
                put(out, id);
                put(out, number);
            }
            out.extend_from_slice(value.results);
            out.extend_from_slice(value.page.map_or(&[], |page| page));
        }
    }
}

/// The items of a body.
#[derive(Clone, Debug)]
pub struct Items<'a>(Fields<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Result<Item<'a>, Malformed>> {
        if self.0.0.is_empty() {
            return None;
        }
        let item = self.0.item();
        if item.is_err() {
            self.0.0 = &[];
        }
        Some(item)
    }
}

#[derive(Clone, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    /// A ballot. No number comes near the end of what eight bytes hold; who says so would stop the block for ever.
    fn ballot(&mut self) -> Result<u64, Malformed> {
        let ballot = self.u64()?;
        if ballot >> 63 == 0 { Ok(ballot) } else { Err(Malformed::Reserved) }
    }

    fn item(&mut self) -> Result<Item<'a>, Malformed> {
        let (block, attempt) = (self.u64()?, self.u64()?);
        let head = self.take(8)?;
        let (code, results, has_page) = (head[0], usize::from(head[1]), head[2]);
        let carries = matches!(code, ACCEPT | PROMISED | SHOWN);
        if head[3..] != [0; 5] || has_page > 1 || !carries && (results > 0 || has_page > 0) {
            return Err(Malformed::Reserved);
        }
        if results > MAX_RESULTS {
            return Err(Malformed::TooMany { count: results, max: MAX_RESULTS });
        }
        let value = |fields: &mut Fields<'a>| -> Result<Value<'a>, Malformed> {
            let (clock, forgotten) = (fields.u64()?, fields.u64()?);
            let generation = fields.u64()?;
            let mut fences = [Shown::default(); MAX_FENCES];
            for fence in &mut fences {
                *fence = Shown { id: fields.u64()?, number: fields.u64()? };
            }
            let results = fields.take(results * Kept::LEN)?;
            let page = match has_page {
                1 => Some(fields.take(PAGE)?.try_into().expect("a page")),
                _ => None,
            };
            Ok(Value { clock, forgotten, generation, fences, results, page })
        };
        let word = match code {
            REPORT => Word::Report,
            PREPARE => Word::Prepare(self.ballot()?),
            ACCEPT => Word::Accept(self.ballot()?, value(self)?),
            SHOW => Word::Show,
            REPORTED => Word::Reported(self.ballot()?),
            PROMISED => Word::Promised(self.ballot()?, value(self)?),
            ACCEPTED => Word::Accepted,
            SHOWN => Word::Shown(self.ballot()?, self.ballot()?, value(self)?),
            REFUSED => Word::Refused(self.ballot()?),
            DIGEST => Word::Digest,
            DIGESTED => Word::Digested(self.u64()?),
            _ => return Err(Malformed::Kind(code)),
        };
        Ok(Item { block, attempt, word })
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Names an operation for ever, whichever server is asked: before the body of a request with the flag
/// [`crate::flags::NAMED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The asker, a random number.
    pub session: u64,
    /// Which of theirs. A batch takes as many numbers as it has items.
    pub number: u64,
}

impl Name {
    /// Bytes on the wire.
    pub const LEN: usize = 16;

    /// Its bytes.
    pub fn emit(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.session.to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Takes a name off the front of a body.
    pub fn parse(body: &[u8]) -> Result<(Name, &[u8]), Malformed> {
        let mut fields = Fields(body);
        Ok((Name { session: fields.u64()?, number: fields.u64()? }, fields.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(results: &[u8]) -> Vec<Word<'_>> {
        const PAGE_OF_SEVENS: &[u8; PAGE] = &[7; PAGE];
        let value = Value {
            clock: 5,
            forgotten: 3,
            generation: 2,
            fences: [Shown { id: 4, number: 9 }; 2],
            results,
            page: Some(PAGE_OF_SEVENS),
        };
        let empty =
            Value { clock: 0, forgotten: 0, generation: 0, fences: [Shown::default(); 2], results: &[], page: None };
        vec![
            Word::Report,
            Word::Prepare(9),
            Word::Accept(9, value),
            Word::Show,
            Word::Reported(8),
            Word::Promised(8, empty),
            Word::Accepted,
            Word::Shown(9, 8, value),
            Word::Refused(11),
            Word::Digest,
            Word::Digested(u64::MAX),
        ]
    }

    #[test]
    fn golden_bytes() {
        let mut body = Vec::new();
        Envelope { from: 2, epoch: 3, config_epoch: 4, cut_epoch: 5, is_held: true }.emit(&mut body);
        Item { block: 6, attempt: 7, word: Word::Prepare(0x0809) }.emit(&mut body);
        let word = |number: u64| number.to_le_bytes();
        let expected =
            [word(2 | 1 << 32), word(3), word(4), word(5), word(6), word(7), word(PREPARE.into()), word(0x0809)]
                .concat();
        assert_eq!(body, expected);
        let kept = Kept { session: 1, number: 2, previous: 3, applied: true, is_late: false };
        let expected = [&word(1)[..], &word(2), &3_u128.to_le_bytes(), &[1]].concat();
        assert_eq!((kept.emit().to_vec(), Kept::parse(&kept.emit())), (expected, kept));
        assert_eq!(Name { session: 1, number: 2 }.emit().to_vec(), [word(1), word(2)].concat());
    }

    #[test]
    fn what_is_said_is_heard() {
        let kept = Kept { session: 1, number: 2, previous: 3, applied: true, is_late: false }.emit();
        let envelope = Envelope { from: 2, epoch: 3, config_epoch: 4, cut_epoch: 5, is_held: false };
        let said: Vec<Item<'_>> =
            words(&kept).into_iter().zip(10..).map(|(word, block)| Item { block, attempt: 1, word }).collect();
        let mut body = Vec::new();
        envelope.emit(&mut body);
        for item in &said {
            let at = body.len();
            item.emit(&mut body);
            assert!(body.len() - at == item.size() && item.size() <= Item::MOST);
        }
        let (heard, items) = Envelope::parse(&body).unwrap();
        assert_eq!((heard, items.collect::<Result<Vec<_>, _>>().unwrap()), (envelope, said));
        // Whatever is cut off is missed, unless it is whole items.
        let whole: Vec<Item<'_>> = Envelope::parse(&body[..body.len() - 1]).unwrap().1.filter_map(Result::ok).collect();
        assert_eq!(whole.len(), 10);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let item = |code: u8, results: u8, page: u8| {
            let mut body = vec![0; Envelope::LEN + 16];
            body.extend_from_slice(&[code, results, page, 0, 0, 0, 0, 0]);
            body.resize(body.len() + 2 * Item::MOST, 0);
            Envelope::parse(&body).unwrap().1.next().unwrap().map(drop)
        };
        assert_eq!(item(ACCEPT, 12, 1), Ok(()));
        assert_eq!(item(ACCEPT, 13, 1), Err(Malformed::TooMany { count: 13, max: MAX_RESULTS }));
        assert_eq!(item(PREPARE, 1, 0), Err(Malformed::Reserved));
        assert_eq!(item(ACCEPT, 0, 2), Err(Malformed::Reserved));
        assert_eq!(item(12, 0, 0), Err(Malformed::Kind(12)));
        assert_eq!(Envelope::parse(&[0; 31]).map(drop), Err(Malformed::Short));
    }
}
