//! One request before it has an id: what is sent, again if it must be, and what its answer weighs.

use mcomp_wire::replica::Name;
use mcomp_wire::{HEADER_LEN, Kind, Request, limits};

/// Bodies above this are sent from where they lie; copying smaller ones costs less than a second
/// part in the system call.
const COPIED: usize = 4 << 10;

/// A request that can be sent as often as it takes.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    /// The caller's own number for it.
    pub(crate) tag: u64,
    /// Its kind.
    pub(crate) kind: Kind,
    /// Whether it may change memory.
    pub(crate) modifies: bool,
    /// What replicas know it by, once it was sent to one.
    pub(crate) name: Option<Name>,
    answer_len: usize,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    Request(Request<'a>),
    Bytes(Vec<u8>),
}

impl<'a> Ask<'a> {
    /// A request of fixed shape.
    pub(crate) fn new(tag: u64, request: Request<'a>) -> Ask<'a> {
        let answer_len = request.answer_len() as usize;
        let (kind, modifies, body) = (request.kind(), request.modifies(), Body::Request(request));
        Ask { tag, kind, modifies, name: None, answer_len, body }
    }

    /// A request whose body was built by the caller. The answer of a batch may be longer, when items
    /// of it are refused.
    pub(crate) fn of_bytes(tag: u64, kind: Kind, body: Vec<u8>, answer_len: usize, modifies: bool) -> Ask<'a> {
        debug_assert!(body.len() <= limits::MAX_BODY, "body of {} bytes", body.len());
        Ask { tag, kind, modifies, name: None, answer_len, body: Body::Bytes(body) }
    }

    /// Bytes of the request's and of the answer's frame.
    pub(crate) fn weights(&self) -> (usize, usize) {
        let body = match &self.body {
            Body::Bytes(bytes) => bytes.len(),
            Body::Request(Request::Write { data, .. } | Request::Compare { data, .. }) => 8 + data.len(),
            // The fixed fields of the others; 40 is the longest.
            Body::Request(_) => 40,
        };
        (HEADER_LEN + body, HEADER_LEN + self.answer_len)
    }

    /// Bytes of its answer's body; of a batch's, if nothing in it is refused.
    pub(crate) fn answer_len(&self) -> usize {
        self.answer_len
    }

    /// Whether an answer's body may be this long.
    pub(crate) fn expects(&self, answer_len: usize) -> bool {
        self.kind == Kind::Batch || answer_len == self.answer_len
    }

    /// The body in two parts that are sent from where they lie, when it is large.
    pub(crate) fn large(&self) -> Option<(Fields, &[u8])> {
        let (fields, bytes) = match &self.body {
            Body::Request(Request::Write { addr, data } | Request::Compare { addr, data }) => {
                (Fields(Some(addr.to_le_bytes())), *data)
            }
            Body::Bytes(bytes) => (Fields(None), bytes.as_slice()),
            Body::Request(_) => return None,
        };
        (bytes.len() > COPIED).then_some((fields, bytes))
    }

    /// Appends the body.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        match &self.body {
            Body::Request(request) => request.emit(out),
            Body::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// The address in front of a large body, if its kind has one there.
pub(crate) struct Fields(Option<[u8; 8]>);

impl Fields {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |addr| addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_has_the_same_bytes_in_parts() {
        let data = vec![7; COPIED + 1];
        let ask = Ask::new(0, Request::Write { addr: 0x1234, data: &data });
        let mut whole = Vec::new();
        ask.emit(&mut whole);
        let (fields, bytes) = ask.large().unwrap();
        assert_eq!([fields.bytes(), bytes].concat(), whole);
        assert_eq!(ask.weights(), (HEADER_LEN + whole.len(), HEADER_LEN));
        assert!(Ask::new(0, Request::Write { addr: 0, data: &data[..COPIED] }).large().is_none());
    }
}
