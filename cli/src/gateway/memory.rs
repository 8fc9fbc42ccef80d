//! `/v1/memory`: the bytes at a place, read and replaced, with ranges and conditions.
//!
//! Promises
//! - The ETag of an answer is that of the bytes in it, by their blake3: equal tags mean equal bytes.
//! - A conditional change of bytes inside 16 aligned ones is one compare-and-swap: it is done when the condition held at
//!   that very instant, whoever else writes. The answer says `mcomp-if-match: atomic`.
//! - For longer ranges the condition is looked at just before the bytes are written, and somebody else may write between.
//!   The answer says `mcomp-if-match: checked`. What must not be lost there is written under a lock.
//!
//! Leaves out what is longer than the gateway's maximum: it is asked for in ranges.

use std::time::{Duration, Instant};

use mcomp_client::Cluster;

use super::answer::{Answer, OCTETS};
use super::head::Head;
use super::problem::Problem;
use super::range::{self, Asked};
use crate::flags::value;

/// Bytes that are exchanged at once.
const WORD: usize = 16;

/// Bytes that are asked for or changed.
struct Whole {
    addr: u64,
    /// How many there are from `addr` on.
    size: u64,
    /// Whether a name said where they end.
    is_named: bool,
}

impl Whole {
    fn find(cluster: &Cluster, place: &str) -> Result<Whole, Problem> {
        let (addr, room) = value::place(place)?.span(cluster)?;
        let left = cluster.size().checked_sub(addr);
        let left = left.ok_or(mcomp_client::Error::OutOfRange { addr, len: 0, size: cluster.size() })?;
        Ok(Whole { addr, size: room.unwrap_or(left), is_named: room.is_some() })
    }

    /// The address of a part, if it lies inside.
    fn part(&self, first: u64, len: u64) -> Result<u64, Problem> {
        match first.checked_add(len).is_some_and(|end| end <= self.size) {
            true => Ok(self.addr + first),
            false => {
                let sentence = format!("{len} bytes from byte {first} on do not fit into the {} there", self.size);
                Err(Problem::new(400, "out_of_range", sentence))
            }
        }
    }

    fn content_range(&self, first: u64, len: u64) -> String {
        format!("bytes {first}-{}/{}", first + len - 1, self.size)
    }
}

/// The bytes at a place, or a range of them.
pub(super) fn get(cluster: &Cluster, place: &str, head: &Head, most: u64) -> Result<Answer, Problem> {
    let whole = Whole::find(cluster, place)?;
    // HEAD has no range, and nothing is known of the version that `If-Range` names.
    let has_range = head.method == "GET" && head.field("if-range").is_none();
    let field = head.field("range").filter(|_| has_range);
    let (first, len, status) = match range::asked(field, whole.size) {
        Asked::Part(first, len) => (first, len, 206),
        Asked::Whole if whole.is_named => (0, whole.size, 200),
        Asked::Whole => return Err(Problem::usage("an address alone has no end: say `Range: bytes=0-N`")),
        Asked::Unsatisfiable => {
            let sentence = format!("{:?} is no range of the {} bytes there", field.unwrap_or_default(), whole.size);
            let problem = Problem::new(416, "out_of_range", sentence);
            return Err(problem.with("content-range", format!("bytes */{}", whole.size)));
        }
    };
    if len > most {
        let sentence = format!("{len} bytes are more than one answer has, at most {most}: ask for them in ranges");
        return Err(Problem::new(if status == 206 { 416 } else { 400 }, "too_large", sentence));
    }
    let bytes = cluster.read_vec(whole.addr + first, len)?;
    let tag = tag_of(&bytes);
    if head.field("if-match").is_some_and(|list| !range::names(list, &tag)) {
        return Err(lost(&tag));
    }
    if head.field("if-none-match").is_some_and(|list| range::names(list, &tag)) {
        return Ok(Answer::empty(304).with("etag", tag));
    }
    let answer = Answer::new(status, OCTETS, bytes).with("accept-ranges", "bytes").with("etag", tag);
    Ok(if status == 206 { answer.with("content-range", whole.content_range(first, len)) } else { answer })
}

/// Puts the body at a place.
pub(super) fn put(
    cluster: &Cluster,
    place: &str,
    head: &Head,
    body: &[u8],
    patience: Duration,
) -> Result<Answer, Problem> {
    if head.field("content-range").is_some() {
        return Err(Problem::usage("PUT writes from its address on: a part is written with PATCH"));
    }
    let addr = Whole::find(cluster, place)?.part(0, body.len() as u64)?;
    replace(cluster, addr, &Condition::of(head), body, patience)
}

/// Puts the body where its `Content-Range` says.
pub(super) fn patch(
    cluster: &Cluster,
    place: &str,
    head: &Head,
    body: &[u8],
    patience: Duration,
) -> Result<Answer, Problem> {
    let claimed = head.field("content-range").and_then(range::claimed);
    let (first, len) = claimed.ok_or_else(|| Problem::usage("PATCH says where: `Content-Range: bytes 0-4/*`"))?;
    if len != body.len() as u64 {
        let sentence = format!("Content-Range is of {len} bytes, and the body has {}", body.len());
        return Err(Problem::usage(sentence));
    }
    let addr = Whole::find(cluster, place)?.part(first, len)?;
    replace(cluster, addr, &Condition::of(head), body, patience)
}

/// What must be there for a change to be made.
struct Condition<'a> {
    if_match: Option<&'a str>,
    if_none_match: Option<&'a str>,
}

impl<'a> Condition<'a> {
    fn of(head: &'a Head) -> Condition<'a> {
        Condition { if_match: head.field("if-match"), if_none_match: head.field("if-none-match") }
    }

    fn is_none(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Refuses unless these bytes are meant.
    fn check(&self, bytes: &[u8]) -> Result<(), Problem> {
        let tag = tag_of(bytes);
        let is_wanted = self.if_match.is_none_or(|list| range::names(list, &tag));
        let is_unwanted = self.if_none_match.is_some_and(|list| range::names(list, &tag));
        if is_wanted && !is_unwanted { Ok(()) } else { Err(lost(&tag)) }
    }
}

fn replace(
    cluster: &Cluster,
    addr: u64,
    condition: &Condition<'_>,
    body: &[u8],
    patience: Duration,
) -> Result<Answer, Problem> {
    let done = Answer::empty(204).with("etag", tag_of(body));
    if condition.is_none() {
        cluster.write_at(addr, body)?;
        return Ok(done);
    }
    let at = (addr % WORD as u64) as usize;
    if !body.is_empty() && at + body.len() <= WORD {
        exchange(cluster, addr - at as u64, at, condition, body, patience)?;
        return Ok(done.with("mcomp-if-match", "atomic"));
    }
    condition.check(&cluster.read_vec(addr, body.len() as u64)?)?;
    cluster.write_at(addr, body)?;
    Ok(done.with("mcomp-if-match", "checked"))
}

/// Puts the body at byte `at` of the word at `addr` if the condition holds. Where others change the rest of the word,
/// it is tried again.
fn exchange(
    cluster: &Cluster,
    addr: u64,
    at: usize,
    condition: &Condition<'_>,
    body: &[u8],
    patience: Duration,
) -> Result<(), Problem> {
    let begun = Instant::now();
    let mut found = [0; WORD];
    cluster.read_at(addr, &mut found)?;
    loop {
        condition.check(&found[at..at + body.len()])?;
        let mut new = found;
        new[at..at + body.len()].copy_from_slice(body);
        let (expected, new) = (u128::from_le_bytes(found), u128::from_le_bytes(new));
        let exchanged = cluster.compare_exchange_16(addr, expected, new)?;
        if exchanged.swapped {
            return Ok(());
        }
        if begun.elapsed() >= patience {
            let sentence = format!("the bytes around address {addr} change all the time: try again");
            return Err(Problem::new(503, "busy", sentence));
        }
        found = exchanged.previous.to_le_bytes();
    }
}

/// The condition did not hold; `tag` is what is there.
fn lost(tag: &str) -> Problem {
    Problem::new(412, "precondition", format!("the bytes there have the ETag {tag}")).with("etag", tag)
}

/// The strong entity tag of bytes.
fn tag_of(bytes: &[u8]) -> String {
    let hash = blake3::hash(bytes).to_hex();
    format!("\"{}\"", &hash[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> Head {
        let text = format!("PUT /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        Head::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn tags_are_those_of_the_bytes() {
        assert_eq!(tag_of(b"hello"), "\"ea8f163db38682925e4491c5e58d4bb3\"");
        assert_ne!(tag_of(b""), tag_of(b"\0"));
    }

    #[test]
    fn conditions_hold_for_the_bytes_that_they_name() {
        let tag = tag_of(b"hello");
        let holds = |fields: &str| Condition::of(&head(fields)).check(b"hello").is_ok();
        assert!(holds("") && holds("If-Match: *\r\n") && holds(&format!("If-Match: \"x\", {tag}\r\n")));
        assert!(holds("If-None-Match: \"x\"\r\n"));
        assert!(!holds("If-Match: \"x\"\r\n") && !holds(&format!("If-Match: W/{tag}\r\n")));
        assert!(!holds("If-None-Match: *\r\n") && !holds(&format!("If-None-Match: {tag}\r\n")));
        assert!(!holds(&format!("If-Match: {tag}\r\nIf-None-Match: {tag}\r\n")));
    }

    #[test]
    fn a_part_lies_inside() {
        let whole = Whole { addr: 100, size: 10, is_named: true };
        assert_eq!(whole.part(2, 8).unwrap(), 102);
        assert_eq!(whole.content_range(2, 8), "bytes 2-9/10");
        for (first, len) in [(2, 9), (11, 0), (u64::MAX, 2)] {
            assert_eq!(whole.part(first, len).unwrap_err().kind, "out_of_range");
        }
    }
}
