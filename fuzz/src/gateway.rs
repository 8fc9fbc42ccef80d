//! What strangers send to `mcomp gateway`: heads of HTTP requests, ranges, paths; and blocks that may be registers.
//!
//! As with the shell, the sources of the command are built here again.

#[path = "../../cli/src/gateway/head.rs"]
mod head;
#[path = "../../cli/src/gateway/layout.rs"]
mod layout;
#[path = "../../cli/src/gateway/range.rs"]
mod range;
#[path = "../../cli/src/gateway/route.rs"]
mod route;

use crate::Seed;
use head::{HEAD_BYTES_MAX, Head};
use layout::{BLOCK, Block, Exchange, Plan, TEXT_LEN_MAX, WORD};
use range::Asked;

/// The beginning of a connection: a head is found at its own length and not before, whatever follows it, and leads to
/// something that stands there or nowhere. One that goes on for ever is not waited for.
pub fn gateway_head(data: &[u8]) {
    let parsed = Head::parse(data);
    let Ok(Some(head)) = parsed else {
        assert!(parsed.is_err() || data.len() < HEAD_BYTES_MAX, "{} bytes, and no end", data.len());
        return;
    };
    assert!(head.len <= data.len().min(HEAD_BYTES_MAX));
    assert_eq!(Head::parse(&data[..head.len]).as_ref(), Ok(&Some(head.clone())), "it ends where it ends");
    assert_eq!(Head::parse(&data[..head.len - 1]), Ok(None), "and not before");
    if let Ok(route) = route::find(&head.method, &head.path) {
        assert!(matches!(head.method.as_str(), "GET" | "HEAD" | "PUT" | "PATCH" | "POST"), "{} {route:?}", head.method);
    }
}

/// The fields that name bytes, of a whole whose size are the first 8: what is understood lies inside.
pub fn gateway_range(data: &[u8]) {
    let Some((size, text)) = data.split_first_chunk() else { return };
    let (size, Ok(text)) = (u64::from_le_bytes(*size), std::str::from_utf8(text)) else { return };
    if let Asked::Part(first, len) = range::asked(Some(text), size) {
        assert!(len > 0 && first.checked_add(len).is_some_and(|end| end <= size), "{first}, {len} of {size}");
    }
    if let Some((first, len)) = range::claimed(text) {
        assert!(len > 0 && first.checked_add(len - 1).is_some());
    }
    assert!(!range::names(text, "\"a\"") || text.contains(['*', 'a']));
}

/// A block that anybody may have written: what is taken for a register can be written, and is read then.
pub fn gateway_register(data: &[u8]) {
    let mut bytes = [0; BLOCK];
    let len = data.len().min(BLOCK);
    bytes[..len].copy_from_slice(&data[..len]);
    let Some(block) = Block::parse(&bytes) else { return };
    // One of the last tag is read as well, and not written any more.
    let before = block.register().map(|register| register.tag);
    let is_claimed = block.head().is_claimed();
    let text = "written over it, in a few words";
    let Some(Plan { claim, stage, publish, tag }) = block.plan(text) else { return };
    assert!(before.is_none_or(|before| before + 1 == tag), "{before:?} and then {tag}, claimed: {is_claimed}");
    for Exchange { at, expected, new } in [&[claim], &stage[..], &[publish]].concat() {
        let word = &mut bytes[at * WORD..][..WORD];
        assert_eq!(word, expected.to_le_bytes(), "nobody else writes");
        word.copy_from_slice(&new.to_le_bytes());
    }
    let after = Block::parse(&bytes).and_then(|block| block.register()).expect("a register");
    assert_eq!((after.tag, after.text.as_deref()), (tag, Some(text)));
    assert!(text.len() <= TEXT_LEN_MAX);
}

/// The seeds of [`gateway_head`].
pub fn gateway_head_seeds() -> Vec<Seed> {
    let heads = [
        ("read", "GET /read/7?x HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n"),
        ("write", "POST /write HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        ("put", "PUT /v1/memory/results%5B0:64%5D HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nIf-Match: \"a\"\r\n\r\n"),
        ("patch", "PATCH http://a/v1/memory/0x40 HTTP/1.1\r\nHost: a\r\nContent-Range: bytes 0-4/*\r\n\r\n"),
        ("expect", "PUT /v1/memory/0 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"),
        ("old", "GET /status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        ("two_lengths", "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("chunked", "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (
            "lists",
            "GET /a HTTP/1.1\r\nHost: a\r\nIf-Match: \"a\"\r\nif-match: W/\"b\"\r\nConnection: close, TE\r\n\r\n",
        ),
        ("unfinished", "GET /status HTTP/1.1\r\nHost:"),
    ];
    heads.map(|(name, head)| (name, head.as_bytes().to_vec())).to_vec()
}

/// The seeds of [`gateway_range`].
pub fn gateway_range_seeds() -> Vec<Seed> {
    let fields = [
        ("part", 4096u64, "bytes=16-31"),
        ("rest", 4096, "bytes=4000-"),
        ("last", 4096, "bytes=-16"),
        ("several", 4096, "bytes=0-1,4-5"),
        ("largest", u64::MAX, "bytes=0-18446744073709551615"),
        ("nothing", 0, "bytes=-1"),
        ("claimed", 4096, "bytes 16-31/4096"),
        ("claimed_open", 4096, "bytes 16-31/*"),
        ("tags", 0, "\"a\", W/\"b\" , *"),
    ];
    fields.map(|(name, size, field)| (name, [&size.to_le_bytes(), field.as_bytes()].concat())).to_vec()
}

/// The seeds of [`gateway_register`].
pub fn gateway_register_seeds() -> Vec<Seed> {
    let head = |tag: u64, turn: u8| [&tag.to_le_bytes()[..], &[turn, 0, 0, 0, 0, 0], b"RG"].concat();
    let slot = b"\x01\0\0\0\0\0\x0c\0hello, w\x01\0\0\0\0\0orld\0\0\0\0\0\0";
    let at_rest = |head: Vec<u8>| [&head[..], &[0; 2032], &slot[..]].concat();
    vec![
        ("never_written", Vec::new()),
        ("written", at_rest(head(1, 2))),
        ("claimed", at_rest(head(1, 3))),
        ("claimed_first", head(0, 1)),
        ("without_its_text", head(2, 4)),
        ("last_tag", head(u64::MAX, 2)),
        ("something_else", b"not a register, but a sentence".to_vec()),
    ]
}
