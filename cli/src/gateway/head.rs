//! The head of an HTTP request: bytes in, what is asked for or why it is refused out. No IO.
//!
//! Promises
//! - Where a request ends is never a guess: what two readers could frame differently (two lengths, a length beside a
//!   transfer coding, a sign in a number) is refused, and the connection closed.
//! - A field that stands for one thing stands there once; lists that were sent in several lines are joined.
//!
//! Leaves out chunked bodies: who sends one is asked for its length.

use httparse::{EMPTY_HEADER, Error, Header, Status};

/// The longest head.
pub(crate) const HEAD_BYTES_MAX: usize = 8 << 10;

/// The most header lines.
const HEADERS_MAX: usize = 64;

/// The fields that the gateway looks at, and whether each is a list that may be sent in several lines.
const FIELDS: [(&str, bool); 11] = [
    ("authorization", false),
    ("connection", true),
    ("content-length", false),
    ("content-range", false),
    ("content-type", false),
    ("expect", false),
    ("host", false),
    ("if-match", true),
    ("if-none-match", true),
    ("if-range", false),
    ("range", false),
];

/// A whole head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// As it was sent.
    pub(crate) method: String,
    /// The path as it was sent, without a query.
    pub(crate) path: String,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// Bytes of the body; none where none was said.
    pub(crate) body_len: Option<u64>,
    /// Whether the peer waits to hear that its body is wanted.
    pub(crate) waits_for_continue: bool,
    /// Bytes of the head itself.
    pub(crate) len: usize,
    fields: Vec<(&'static str, String)>,
}

/// Why a request is not looked at any further. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is no request of HTTP/1, for this reason.
    Malformed(&'static str),
    /// Its head is too long.
    TooLong,
    /// Its body has no length that is known before its end.
    NoLength,
    /// It expects what the gateway does not know.
    Expectation,
}

impl Head {
    /// The head that stands at the beginning of these bytes; none while it goes on.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, Unfit> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let len = match request.parse(bytes) {
            Ok(Status::Complete(len)) if len <= HEAD_BYTES_MAX => len,
            Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(_) | Err(Error::TooManyHeaders) => return Err(Unfit::TooLong),
            Err(_) => return Err(Unfit::Malformed("this is not an HTTP/1 request")),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Unfit::Malformed("this is not an HTTP/1 request"));
        };
        let fields = known_fields(request.headers)?;
        let mut head = Head {
            method: method.to_owned(),
            path: path_of(target).to_owned(),
            keep_alive: version == 1,
            body_len: None,
            waits_for_continue: false,
            len,
            fields,
        };
        head.frame(version)?;
        Ok(Some(head))
    }

    /// The value of a field, if it was sent.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Reads from the fields where the request ends, and what follows it.
    fn frame(&mut self, version: u8) -> Result<(), Unfit> {
        if version == 1 && self.field("host").is_none() {
            return Err(Unfit::Malformed("a request of HTTP/1.1 has a Host"));
        }
        let said = |word: &str| {
            let options = self.field("connection").unwrap_or_default().split(',');
            options.into_iter().any(|option| option.trim().eq_ignore_ascii_case(word))
        };
        self.keep_alive = version == 1 && !said("close");
        self.body_len = self.field("content-length").map(length_of).transpose()?;
        self.waits_for_continue = match self.field("expect") {
            None => false,
            Some(expected) if expected.eq_ignore_ascii_case("100-continue") => version == 1,
            Some(_) => return Err(Unfit::Expectation),
        };
        Ok(())
    }
}

/// The fields of [`FIELDS`] with their values as text.
fn known_fields(headers: &[Header<'_>]) -> Result<Vec<(&'static str, String)>, Unfit> {
    let mut fields: Vec<(&'static str, String)> = Vec::new();
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Unfit::NoLength);
        }
        let known = FIELDS.iter().find(|(name, _)| header.name.eq_ignore_ascii_case(name));
        let Some(&(name, is_list)) = known else { continue };
        let value = std::str::from_utf8(header.value).map_err(|_| Unfit::Malformed("a field is not UTF-8"))?.trim();
        match fields.iter_mut().find(|(before, _)| *before == name) {
            None => fields.push((name, value.to_owned())),
            Some((_, before)) if is_list => {
                before.push_str(", ");
                before.push_str(value);
            }
            Some(_) => return Err(Unfit::Malformed("a field that may stand once stands there twice")),
        }
    }
    Ok(fields)
}

/// Digits alone: a sign or a blank would be read in more than one way.
fn length_of(text: &str) -> Result<u64, Unfit> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| is_number);
    length.ok_or(Unfit::Malformed("Content-Length is no number"))
}

/// The path of a target, which a proxy may write with the host before it.
fn path_of(target: &str) -> &str {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    target.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: &str = "PUT /v1/memory/64?x HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\nif-match: \"a\"\r\n\
                       IF-MATCH: \"b\"\r\nExpect: 100-continue\r\n\r\n";

    fn parse(text: &str) -> Result<Option<Head>, Unfit> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_read_however_it_is_cut() {
        for end in 0..PUT.len() {
            assert_eq!(parse(&PUT[..end]), Ok(None), "{end} bytes");
        }
        let head = parse(&format!("{PUT}hello")).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str(), head.len), ("PUT", "/v1/memory/64", PUT.len()));
        assert_eq!((head.keep_alive, head.body_len, head.waits_for_continue), (true, Some(5), true));
        assert_eq!(head.field("if-match"), Some("\"a\", \"b\""));
        assert_eq!(head.field("range"), None);
    }

    #[test]
    fn a_connection_goes_on_unless_somebody_said_otherwise() {
        for (text, keeps) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            assert_eq!(parse(text).unwrap().unwrap().keep_alive, keeps, "{text:?}");
        }
        assert_eq!(parse("GET http://a:1 HTTP/1.0\r\n\r\n").unwrap().unwrap().path, "/");
        assert_eq!(parse("GET http://a/b?c HTTP/1.0\r\n\r\n").unwrap().unwrap().path, "/b");
    }

    #[test]
    fn what_could_be_framed_in_two_ways_is_refused() {
        let head = |fields: &str| parse(&format!("PUT /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        for fields in [
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length : 5\r\n",
            "Host: b\r\n",
            "Range: \u{fe}\r\nRange: a\r\n",
        ] {
            assert!(matches!(head(fields), Err(Unfit::Malformed(_))), "{fields:?}: {:?}", head(fields));
        }
        assert_eq!(head("Transfer-Encoding: chunked\r\n"), Err(Unfit::NoLength));
        assert_eq!(head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(Unfit::NoLength));
        assert_eq!(head("Expect: gold\r\n"), Err(Unfit::Expectation));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in
            ["GET / HTTP/1.1\r\n\r\n", "MCMP\x01\x00\x00\x00", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "\r\n\r\n\0"]
        {
            assert!(matches!(parse(text), Err(Unfit::Malformed(_))), "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX));
        assert_eq!(parse(&many), Err(Unfit::TooLong));
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse(&long[..HEAD_BYTES_MAX - 1]), Ok(None));
        assert_eq!(parse(&long[..HEAD_BYTES_MAX]), Err(Unfit::TooLong));
        assert_eq!(parse(&long), Err(Unfit::TooLong));
    }
}
