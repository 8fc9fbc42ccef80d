//! The values of single arguments: addresses, sizes, numbers, hexadecimal bytes, durations.
//!
//! Each function takes the text of one argument and gives its value, or a sentence that names the
//! text and shows one that is right.

use std::time::Duration;

use mcomp_config::{Quantity, QuantityError, format_duration, parse_address, parse_duration, parse_size};

const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// An address: a number, or a size such as `64MiB`.
pub(crate) fn address(text: &str) -> Result<u64, String> {
    let quantity = Quantity::Address;
    match parse_address(text).or_else(|_| parse_size(text)) {
        Ok(address) => Ok(address),
        Err(QuantityError::TooLarge { text, .. }) => Err(QuantityError::TooLarge { quantity, text }.to_string()),
        Err(_) => {
            Err(format!("{text:?} is not an address: write a decimal or 0x number, or a whole size such as 64MiB"))
        }
    }
}

/// Where something lies: an address, or a name with a part of what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A number.
    Addr(u64),
    /// `NAME`, `NAME+FROM`, or `NAME[FROM:TO]`.
    Named {
        /// The name of an allocation.
        name: String,
        /// Bytes before the place.
        from: u64,
        /// Where the place ends, if that was said.
        to: Option<u64>,
    },
}

/// An address, `NAME`, `NAME+64`, or `NAME[0:64]`.
pub(crate) fn place(text: &str) -> Result<Place, String> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return address(text).map(Place::Addr);
    }
    let wrong = || format!("{text:?} is no place: write an address, or NAME, NAME+64, NAME[0:64]");
    let named = |name: &str, from, to| match mcomp_client::meta::is_name(name) {
        true => Ok(Place::Named { name: name.to_owned(), from, to }),
        false => Err(wrong()),
    };
    if let Some((name, from)) = text.split_once('+') {
        return named(name, address(from)?, None);
    }
    let Some((name, part)) = text.split_once('[') else { return named(text, 0, None) };
    let (from, to) = part.strip_suffix(']').and_then(|part| part.split_once(':')).ok_or_else(wrong)?;
    let from = if from.is_empty() { 0 } else { address(from)? };
    let to = if to.is_empty() { None } else { Some(address(to)?) };
    if to.is_some_and(|to| to < from) {
        return Err(wrong());
    }
    named(name, from, to)
}

/// One server of the configuration, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhichServer {
    /// The one with this id.
    One(u32),
    /// Every one that is local.
    All,
}

/// The id of a server, or `all`.
pub(crate) fn which_server(text: &str) -> Result<WhichServer, String> {
    match text {
        "all" => Ok(WhichServer::All),
        id => id
            .parse()
            .map(WhichServer::One)
            .map_err(|_| format!("{text:?} is not the id of a server: write a number such as 0, or all")),
    }
}

/// A number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// A number of 64 bits.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    magnitude(text).ok_or_else(|| match delta(text) {
        Ok(wrapped) => format!("{text:?} is negative, and values are unsigned: write {wrapped} for the same 64 bits"),
        Err(_) => {
            format!("{text:?} is not a number of 64 bits: write a decimal or 0x number from 0 to 18446744073709551615")
        }
    })
}

/// A number of 64 bits to be added modulo 2^64, so that -1 is 2^64 - 1.
pub(crate) fn delta(text: &str) -> Result<u64, String> {
    let wrapped = match text.strip_prefix('-') {
        Some(rest) => magnitude(rest).filter(|m| *m <= 1 << 63).map(u64::wrapping_neg),
        None => magnitude(text),
    };
    wrapped.ok_or_else(|| {
        format!(
            "{text:?} cannot be added: write a decimal or 0x number from -9223372036854775808 to 18446744073709551615"
        )
    })
}

/// One byte.
pub(crate) fn byte(text: &str) -> Result<u8, String> {
    let byte = magnitude(text).and_then(|number| u8::try_from(number).ok());
    byte.ok_or_else(|| format!("{text:?} is not a byte: write 0 to 255 or 0x00 to 0xff"))
}

/// Bytes that were typed as hexadecimal digits. A type of its own, because clap takes a `Vec` for a
/// repeated argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// Pairs of hexadecimal digits, with or without blanks or colons between the pairs.
pub(crate) fn hex(text: &str) -> Result<Bytes, String> {
    let malformed = || format!("{text:?} is not hexadecimal: write pairs of digits, such as deadbeef or 'de ad be ef'");
    let pairs = text.split([' ', ':']);
    let pairs: Option<Vec<Vec<u8>>> = pairs.map(hex_pairs).collect();
    Ok(Bytes(pairs.ok_or_else(malformed)?.concat()))
}

/// How long a request may take.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text).map_err(|error| error.to_string())?;
    match (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
        true => Ok(timeout),
        false => Err(format!(
            "{text:?} is out of range: write {} to {}",
            format_duration(TIMEOUT_MIN),
            format_duration(TIMEOUT_MAX)
        )),
    }
}

/// Bare digits, decimal or after `0x`; `from_str_radix` alone would let a sign pass.
fn magnitude(text: &str) -> Option<u64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((text, 10), |digits| (digits, 16));
    let all_digits = digits.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| all_digits)
}

fn hex_pairs(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_sizes() {
        for (text, value) in [("0", 0), ("4096", 4096), ("0x1000", 4096), ("64MiB", 64 << 20), ("1k", 1024)] {
            assert_eq!(address(text), Ok(value), "{text}");
        }
        for text in ["", "-1", "64KB", "1.5M", "0x", "0x1M", "18446744073709551616", "abc"] {
            let message = address(text).unwrap_err();
            assert!(message.contains(&format!("{text:?}")), "{message}");
        }
        for text in ["18446744073709551616", "99999999999TiB"] {
            let message = address(text).unwrap_err();
            assert!(message.contains("too large for an address"), "{message}");
        }
    }

    #[test]
    fn numbers_hold_64_bits_and_no_sign() {
        for (text, value) in [("0", 0), ("0xff", 255), ("18446744073709551615", u64::MAX), ("0XfF", 255)] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        for text in ["", "+5", "-5", "0x", "0x+5", "1_0", "18446744073709551616", "ten"] {
            assert!(number(text).unwrap_err().contains(&format!("{text:?}")));
        }
        for (text, same) in [("-1", "18446744073709551615"), ("-0x10", "18446744073709551600")] {
            let message = number(text).unwrap_err();
            assert!(message.contains("unsigned") && message.contains(same), "{message}");
        }
    }

    #[test]
    fn deltas_wrap() {
        for (text, value) in [
            ("5", 5),
            ("-1", u64::MAX),
            ("-0x10", 0u64.wrapping_sub(16)),
            ("-9223372036854775808", 1 << 63),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(delta(text), Ok(value), "{text}");
        }
        for text in ["-", "--1", "-9223372036854775809", "+1", "1.5"] {
            assert!(delta(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_0_to_255() {
        for (text, value) in [("0", 0), ("255", 255), ("0xAb", 0xab)] {
            assert_eq!(byte(text), Ok(value), "{text}");
        }
        for text in ["256", "-1", "0x100", "x", ""] {
            assert!(byte(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hex_is_pairs_of_digits() {
        for text in ["deadbeef", "DE AD BE EF", "de:ad:be:ef", "dead beef"] {
            assert_eq!(hex(text), Ok(Bytes(vec![0xde, 0xad, 0xbe, 0xef])), "{text}");
        }
        assert_eq!(hex(""), Ok(Bytes(Vec::new())));
        for text in ["d", "dea", "d ead", "zz", "0xff", "é1"] {
            assert!(hex(text).unwrap_err().contains(&format!("{text:?}")));
        }
    }

    #[test]
    fn timeouts_have_units_and_bounds() {
        assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
        for text in ["5", "0s", "0.5ms", "25h", "soon"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }
}
