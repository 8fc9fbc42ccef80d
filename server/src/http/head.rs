//! The head of an HTTP request, as far as a monitor's matters: bytes in, what is asked for or why it is refused out.

use httparse::{EMPTY_HEADER, Error, Status};

/// The longest head. A monitor's has a few hundred bytes.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;

/// The most header lines.
const HEADERS_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// Without a query.
    pub(super) path: &'a str,
    /// Whether only the head of the answer is wanted.
    pub(super) head_only: bool,
}

/// Why a request is not answered with what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is no HTTP/1 request.
    Malformed,
    /// Its head is too long.
    TooLong,
    /// It is to change something.
    Method,
}

/// What the bytes so far ask for; none while the head goes on.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Asked<'_>>, Unfit> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Err(Unfit::TooLong),
        Err(_) => return Err(Unfit::Malformed),
    }
    let has_host = request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("host"));
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Unfit::Malformed);
    };
    if version == 1 && !has_host {
        return Err(Unfit::Malformed);
    }
    match method {
        "GET" | "HEAD" => Ok(Some(Asked { path: path_of(target), head_only: method == "HEAD" })),
        _ => Err(Unfit::Method),
    }
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

    fn asked(text: &str) -> Result<Option<(&str, bool)>, Unfit> {
        parse(text.as_bytes()).map(|asked| asked.map(|Asked { path, head_only }| (path, head_only)))
    }

    #[test]
    fn requests_are_read_however_they_are_cut() {
        let text = "GET /metrics?name[]=up HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(asked(&text[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(asked(text), Ok(Some(("/metrics", false))));
        assert_eq!(asked("HEAD / HTTP/1.0\r\n\r\n"), Ok(Some(("/", true))));
        assert_eq!(asked("GET http://a:1/readyz HTTP/1.1\r\nhost: a:1\r\n\r\n"), Ok(Some(("/readyz", false))));
        assert_eq!(asked("GET http://a:1 HTTP/1.0\r\n\r\n"), Ok(Some(("/", false))));
    }

    #[test]
    fn what_is_no_request_for_something_is_refused() {
        for (text, why) in [
            ("POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Unfit::Method),
            ("GET /metrics HTTP/1.1\r\n\r\n", Unfit::Malformed),
            ("MCMP\x01\x00\x00\x00", Unfit::Malformed),
            ("GET /metrics HTTP/2.0\r\n\r\n", Unfit::Malformed),
            ("GET  HTTP/1.1\r\nHost: a\r\n\r\n", Unfit::Malformed),
            ("\r\n\r\n\0", Unfit::Malformed),
        ] {
            assert_eq!(asked(text), Err(why), "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX));
        assert_eq!(asked(&many), Err(Unfit::TooLong));
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(asked(&long[..HEAD_BYTES_MAX - 1]), Ok(None));
        assert_eq!(asked(&long[..HEAD_BYTES_MAX]), Err(Unfit::TooLong));
    }
}
