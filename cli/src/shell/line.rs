//! Lines of bounded length: those of the shell, and of a REPL that reads no terminal.

use std::io::{self, BufRead, Read};

/// Holds the largest request: a write of 16 MiB in base64 with room to spare.
pub(crate) const LINE_LEN_MAX: usize = 32 << 20;

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It is longer than the most, and was thrown away.
    TooLong,
}

/// The lines of a reader. One that does not end with a newline counts.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    len_max: usize,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Lines<R> {
        Lines { reader, len_max: LINE_LEN_MAX, line: Vec::new() }
    }

    /// The next line, or none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let most = self.len_max as u64 + 1;
        if self.reader.by_ref().take(most).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > self.len_max {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong));
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_or_skipped() {
        let mut lines = Lines { len_max: 4, ..Lines::new(&b"abcd\n\nabcde\nabcdefghij\nx"[..]) };
        for expected in [Line::Whole(b"abcd"), Line::Whole(b""), Line::TooLong, Line::TooLong, Line::Whole(b"x")] {
            assert_eq!(lines.next().unwrap(), Some(expected));
        }
        assert_eq!(lines.next().unwrap(), None);
    }
}
