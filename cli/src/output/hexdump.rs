//! Bytes as `hexdump -C` shows them, as a stream.
//!
//! Written here because the addresses are those of the memory, their column must keep its width
//! over a dump of any length, and equal rows, which memory is full of, are shown once.

use std::io::{self, Write};

const ROW_LEN: usize = 16;

/// Turns the bytes written to it into rows of text. [`Hexdump::finish`] writes the last one.
#[derive(Debug)]
pub(crate) struct Hexdump<W> {
    out: W,
    /// The address of the first byte of `row`.
    addr: u64,
    /// Bytes that do not fill a row yet: fewer than 16.
    row: Vec<u8>,
    last: Option<[u8; ROW_LEN]>,
    /// Whether a star stands for the rows that equal the last one.
    starred: bool,
}

impl<W: Write> Hexdump<W> {
    /// `addr` is that of the first byte.
    pub(crate) fn new(out: W, addr: u64) -> Hexdump<W> {
        Hexdump { out, addr, row: Vec::with_capacity(ROW_LEN), last: None, starred: false }
    }

    /// Writes what is left, and the address after it.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.row);
        if !rest.is_empty() {
            self.print(&rest)?;
        }
        if self.last.is_some() || !rest.is_empty() {
            writeln!(self.out, "{:08x}", self.addr)?;
        }
        self.out.flush()
    }

    fn full_row(&mut self, row: [u8; ROW_LEN]) -> io::Result<()> {
        if self.last != Some(row) {
            self.last = Some(row);
            self.starred = false;
            return self.print(&row);
        }
        if !self.starred {
            self.starred = true;
            writeln!(self.out, "*")?;
        }
        self.addr += ROW_LEN as u64;
        Ok(())
    }

    fn print(&mut self, row: &[u8]) -> io::Result<()> {
        let mut line = format!("{:08x} ", self.addr);
        for at in 0..ROW_LEN {
            line.push_str(if at % 8 == 0 { " " } else { "" });
            match row.get(at) {
                Some(byte) => line.push_str(&format!("{byte:02x} ")),
                None => line.push_str("   "),
            }
        }
        let shown = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        let ascii: String = row.iter().map(shown).collect();
        self.addr += row.len() as u64;
        writeln!(self.out, "{line} |{ascii}|")
    }
}

impl<W: Write> Write for Hexdump<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(ROW_LEN - self.row.len()));
            self.row.extend_from_slice(now);
            rest = later;
            if let Ok(row) = <[u8; ROW_LEN]>::try_from(self.row.as_slice()) {
                self.row.clear();
                self.full_row(row)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(addr: u64, pieces: &[&[u8]]) -> String {
        let mut text = Vec::new();
        let mut hexdump = Hexdump::new(&mut text, addr);
        pieces.iter().for_each(|piece| hexdump.write_all(piece).unwrap());
        hexdump.finish().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_short_row_is_padded() {
        let row = "00001000  68 65 6c 6c 6f 00                                 |hello.|\n00001006\n";
        assert_eq!(dump(0x1000, &[b"hel", b"lo\0"]), row);
        assert_eq!(dump(0, &[]), "");
    }

    #[test]
    fn equal_rows_are_shown_once() {
        let zeros = "00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|";
        let text = dump(0, &[&[0; 64], &[1; 16], &[0; 16]]);
        let ones = "01 01 01 01 01 01 01 01  01 01 01 01 01 01 01 01  |................|";
        assert_eq!(text, format!("00000000  {zeros}\n*\n00000040  {ones}\n00000050  {zeros}\n00000060\n"));
    }
}
