//! Bytes as text that is safe to show, as a stream.
//!
//! UTF-8 stays as it is, with its newlines and tabs. Control characters, and bytes that are no
//! UTF-8, become `\xNN`, so that memory cannot drive the terminal that shows it.

use std::io::{self, Write};

/// Turns the bytes written to it into text. [`Text::finish`] writes what was held back.
#[derive(Debug)]
pub(crate) struct Text<W> {
    out: W,
    /// The beginning of a character whose end has not come yet: at most 3 bytes.
    begun: Vec<u8>,
    ends_line: bool,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(out: W) -> Text<W> {
        Text { out, begun: Vec::new(), ends_line: true }
    }

    /// Writes what is left; with `end_line`, also a newline unless one was last.
    pub(crate) fn finish(mut self, end_line: bool) -> io::Result<()> {
        let begun = std::mem::take(&mut self.begun);
        self.ends_line &= begun.is_empty();
        self.out.write_all(escaped(&begun).as_bytes())?;
        if end_line && !self.ends_line {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

impl<W: Write> Write for Text<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(last) = bytes.last() else { return Ok(0) };
        self.ends_line = *last == b'\n';
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| push(&mut text, c));
            match chunks.peek() {
                None if is_begun(chunk.invalid()) => self.begun = chunk.invalid().to_vec(),
                _ => text.push_str(&escaped(chunk.invalid())),
            }
        }
        self.out.write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn push(text: &mut String, c: char) {
    match c {
        '\n' | '\t' => text.push(c),
        c if c.is_control() => text.push_str(&escaped(c.encode_utf8(&mut [0; 4]).as_bytes())),
        c => text.push(c),
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// Whether more bytes could make a character of these.
fn is_begun(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: &[&[u8]], end_line: bool) -> String {
        let mut out = Vec::new();
        let mut text = Text::new(&mut out);
        pieces.iter().for_each(|piece| text.write_all(piece).unwrap());
        text.finish(end_line).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_and_the_rest_is_escaped() {
        assert_eq!(text(&["memória\n\t1".as_bytes()], false), "memória\n\t1");
        assert_eq!(text(&[b"a\0\x1b[2J\xff\x7f"], false), "a\\x00\\x1b[2J\\xff\\x7f");
    }

    #[test]
    fn a_character_survives_any_cut() {
        let whole = "é€𝄞".as_bytes();
        for at in 0..=whole.len() {
            assert_eq!(text(&[&whole[..at], &whole[at..]], false), "é€𝄞", "cut at {at}");
        }
        assert_eq!(text(&[b"a\xe2\x82"], false), "a\\xe2\\x82");
    }

    #[test]
    fn the_last_line_is_ended_once() {
        assert_eq!(text(&[b"a"], true), "a\n");
        assert_eq!(text(&[b"a\n"], true), "a\n");
        assert_eq!(text(&[b"a\n\xc3"], true), "a\n\\xc3\n");
        assert_eq!(text(&[], true), "");
    }
}
