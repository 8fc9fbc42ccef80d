//! Lines of the REPL: from words to a request that is ready to run, or a sentence about what is wrong with it.
//!
//! A word means the same wherever it stands: an address is a number or the name of an allocation, with or without a
//! part of it, as everywhere in mcomp; a size is a number of bytes. What comes after the address of `w` and `r` is a
//! SIZE when it reads as one, and otherwise a FILE; a file of such a name is written `./64`.

use std::path::PathBuf;

use super::words::words;
use crate::exit::{Exit, Failure};
use crate::flags::value::{self, Place};

/// The most that `w ADDR SIZE DATA` writes: it goes out whole, in one request to each server.
pub(super) const DATA_LEN_MAX: u64 = 16 << 20;

const W: &str = "w ADDR SIZE DATA, or w ADDR FILE [SIZE]";
const R: &str = "r ADDR SIZE, or r ADDR FILE [SIZE]";
const D: &str = "d ADDR, or d net";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Nothing stands in it.
    Nothing,
    /// The list of commands.
    Help,
    /// The end.
    Exit,
    /// `w ADDR SIZE DATA`, the data as long as it was said.
    Write { place: Place, data: Vec<u8> },
    /// `w ADDR FILE [SIZE]`.
    WriteFile { place: Place, path: PathBuf, len: Option<u64> },
    /// `r ADDR SIZE`.
    Read { place: Place, len: u64 },
    /// `r ADDR FILE [SIZE]`.
    ReadFile { place: Place, path: PathBuf, len: Option<u64> },
    /// `d ADDR`.
    Dump { place: Place },
    /// `d net`.
    Net,
    /// Words for the command line of mcomp.
    Command(Vec<String>),
}

impl Request {
    /// The request of a line.
    pub(super) fn parse(line: &str) -> Result<Request, Failure> {
        let mut words = words(line)?;
        // As one would type it, and as every example has it, outside the REPL.
        if words.first().is_some_and(|word| word == "mcomp") {
            words.remove(0);
        }
        let typed: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((first, rest)) = typed.split_first() else { return Ok(Request::Nothing) };
        match (*first, rest) {
            ("h" | "help" | "?", []) => Ok(Request::Help),
            ("exit" | "quit", []) => Ok(Request::Exit),
            ("exit" | "quit", [..]) => Err(Failure::usage(format!("{first} stands alone"))),
            ("w", rest) => write(rest),
            ("r", rest) => read(rest),
            ("d", ["net"]) => Ok(Request::Net),
            ("d", [place]) => Ok(Request::Dump { place: parsed(value::place, place)? }),
            ("d", _) => Err(form(D)),
            _ => Ok(Request::Command(long(words))),
        }
    }
}

/// The words with the command's long name.
fn long(mut words: Vec<String>) -> Vec<String> {
    if let Some(first) = words.first_mut() {
        let name = match first.as_str() {
            "h" | "?" => "help",
            "t" => "ls",
            "m" => "alloc",
            "f" => "free",
            _ => return words,
        };
        *first = name.to_owned();
    }
    words
}

fn write(words: &[&str]) -> Result<Request, Failure> {
    let [place, second, rest @ ..] = words else { return Err(form(W)) };
    let place = parsed(value::place, place)?;
    match (value::size(second), rest) {
        (Ok(len), [data]) => Ok(Request::Write { place, data: padded(data, len)? }),
        (Ok(_), []) => {
            let text = format!("{second:?} is a size, and what to write is missing: {W}; a file is ./{second}");
            Err(Failure::usage(text))
        }
        (Ok(_), _) => Err(Failure::usage(format!("data with blanks needs quotes, such as 'a b': {W}"))),
        (Err(_), []) => Ok(Request::WriteFile { place, path: second.into(), len: None }),
        (Err(_), [size]) => {
            let len = sized(second, size, W)?;
            Ok(Request::WriteFile { place, path: second.into(), len: Some(len) })
        }
        (Err(_), _) => Err(form(W)),
    }
}

fn read(words: &[&str]) -> Result<Request, Failure> {
    let [place, second, rest @ ..] = words else { return Err(form(R)) };
    let place = parsed(value::place, place)?;
    match (value::size(second), rest) {
        (Ok(len), []) => Ok(Request::Read { place, len }),
        (Ok(_), _) => {
            let text = format!("{second:?} is a size, and nothing comes after it: {R}; a file is ./{second}");
            Err(Failure::usage(text))
        }
        (Err(_), []) => Ok(Request::ReadFile { place, path: second.into(), len: None }),
        (Err(_), [size]) => {
            let len = sized(second, size, R)?;
            Ok(Request::ReadFile { place, path: second.into(), len: Some(len) })
        }
        (Err(_), _) => Err(form(R)),
    }
}

/// The size behind a file.
fn sized(file: &str, size: &str, form: &str) -> Result<u64, Failure> {
    value::size(size).map_err(|message| Failure::usage(format!("{file:?} is taken for a file, and {message}: {form}")))
}

/// Data with zeros behind it up to a length.
fn padded(data: &str, len: u64) -> Result<Vec<u8>, Failure> {
    let mut data = data.as_bytes().to_vec();
    let too_large = |text| Failure::new(Exit::USAGE, "too_large", text);
    if len > DATA_LEN_MAX {
        let text = format!("{len} bytes are more than the {DATA_LEN_MAX} that one line can write: use a file, or fill");
        return Err(too_large(text));
    }
    if data.len() as u64 > len {
        return Err(too_large(format!("the data has {} bytes, which are more than the {len} of SIZE", data.len())));
    }
    data.resize(len as usize, 0);
    Ok(data)
}

fn parsed<T>(parse: fn(&str) -> Result<T, String>, text: &str) -> Result<T, Failure> {
    parse(text).map_err(Failure::usage)
}

fn form(form: &str) -> Failure {
    Failure::usage(format!("its form is {form}; h shows all commands"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &str) -> Request {
        Request::Command(words.split_whitespace().map(str::to_owned).collect())
    }

    fn named(name: &str) -> Place {
        Place::Named { name: name.to_owned(), from: 0, to: None }
    }

    #[test]
    fn short_commands_and_long_ones() {
        for (line, request) in [
            ("", Request::Nothing),
            ("  # nothing", Request::Nothing),
            ("mcomp", Request::Nothing),
            ("h", Request::Help),
            ("?", Request::Help),
            ("exit", Request::Exit),
            ("t", command("ls")),
            ("t --json", command("ls --json")),
            ("m 64KiB --name a", command("alloc 64KiB --name a")),
            ("f 0x1000", command("free 0x1000")),
            ("h lease", command("help lease")),
            ("kill 1", command("kill 1")),
            ("mcomp read 0 5", command("read 0 5")),
            ("frobnicate", command("frobnicate")),
        ] {
            assert_eq!(Request::parse(line).unwrap(), request, "{line}");
        }
    }

    #[test]
    fn a_size_behind_the_address_says_data_and_anything_else_a_file() {
        let place = || Place::Addr(4096);
        let data = b"a b".to_vec();
        for (line, request) in [
            ("w 0x1000 3 'a b'", Request::Write { place: place(), data: data.clone() }),
            ("w 4KiB 5 'a b'", Request::Write { place: place(), data: [&data[..], &[0, 0]].concat() }),
            ("w 4096 2 64", Request::Write { place: place(), data: b"64".to_vec() }),
            ("w 4096 0 ''", Request::Write { place: place(), data: Vec::new() }),
            ("w a a.bin", Request::WriteFile { place: named("a"), path: "a.bin".into(), len: None }),
            ("w 4096 ./64", Request::WriteFile { place: place(), path: "./64".into(), len: None }),
            ("w 4096 a.bin 1K", Request::WriteFile { place: place(), path: "a.bin".into(), len: Some(1024) }),
            ("r 4096 1K", Request::Read { place: place(), len: 1024 }),
            ("r 4096 'a b'", Request::ReadFile { place: place(), path: "a b".into(), len: None }),
            ("r a a.bin 7", Request::ReadFile { place: named("a"), path: "a.bin".into(), len: Some(7) }),
            ("d a", Request::Dump { place: named("a") }),
            ("d net", Request::Net),
            ("d net+0", Request::Dump { place: named("net") }),
        ] {
            assert_eq!(Request::parse(line).unwrap(), request, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out() {
        for (line, part) in [
            ("w", "w ADDR SIZE DATA"),
            ("w 0", "w ADDR FILE [SIZE]"),
            ("w 0 5", "./5"),
            ("w 0 5 two words", "needs quotes"),
            ("w 0 2 abc", "3 bytes, which are more than the 2"),
            ("w 0 17MiB x", "use a file"),
            ("w 0 a.bin five", "\"five\""),
            ("w 0 a.bin 5 6", "w ADDR FILE [SIZE]"),
            ("w -1 5 x", "\"-1\""),
            ("r 0", "r ADDR SIZE"),
            ("r 0 5 6", "./5"),
            ("r 0 a.bin x", "\"x\""),
            ("d", "d net"),
            ("d 0 5", "d ADDR"),
            ("d 1x", "\"1x\""),
            ("exit 0", "stands alone"),
            ("w 0 5 'x", "not closed"),
        ] {
            let message = Request::parse(line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
