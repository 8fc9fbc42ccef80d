//! Lines of JSON over a socket, of bounded length and in bounded time.

use std::io::{self, BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use mcomp_net::Stream;
use serde::Serialize;

/// The longest line. An answer has one sentence.
pub(super) const LINE_BYTES_MAX: usize = 16 << 10;

/// What the other side gets to take a line.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// A socket on which both sides send lines.
pub(super) struct Lines(BufReader<Stream>);

impl Lines {
    pub(super) fn new(stream: Stream) -> Lines {
        Lines(BufReader::new(stream))
    }

    /// The next line without its newline, or none when the other side has ended.
    pub(super) fn next(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.0.get_ref().set_timeout(Some(left))?;
            let bytes = match self.0.fill_buf() {
                Ok([]) => return Ok(None),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len());
            if line.len() + taken > LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
            }
            line.extend_from_slice(&bytes[..taken]);
            self.0.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }

    /// Sends one line.
    pub(super) fn send(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(value)?;
        bytes.push(b'\n');
        self.0.get_ref().set_timeout(Some(WRITE_PATIENCE))?;
        self.0.get_mut().write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn lines() -> (Lines, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Lines::new(Stream::Unix(near.into())), far)
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let (mut lines, mut far) = lines();
        far.write_all(b"first\nsec").unwrap();
        assert_eq!(lines.next(soon()).unwrap().unwrap(), b"first");
        far.write_all(b"ond\n\nrest").unwrap();
        assert_eq!(lines.next(soon()).unwrap().unwrap(), b"second");
        assert_eq!(lines.next(soon()).unwrap().unwrap(), b"");
        drop(far);
        assert_eq!(lines.next(soon()).unwrap(), None, "what has no end is no line");
    }

    #[test]
    fn a_line_has_a_most_length_and_a_most_time() {
        let (mut lines, mut far) = lines();
        far.write_all(&vec![b'x'; LINE_BYTES_MAX + 1]).unwrap();
        assert_eq!(lines.next(soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut lines, mut far) = self::lines();
        far.write_all(b"trickle").unwrap();
        let late = lines.next(Instant::now() + Duration::from_millis(20)).unwrap_err();
        assert!(matches!(late.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{late}");
    }
}
