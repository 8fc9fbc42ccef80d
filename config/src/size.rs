//! Sizes and addresses as people type and read them: one grammar for the file and the command line.
//!
//! Every unit is a power of two, so `64M` and `64MiB` are the same size. `KB` and its kin, which
//! mean 1000 to some and 1024 to others, are refused. What [`format_size`] prints is exact and
//! parses back to the same number.

use crate::quantity::{Quantity, QuantityError};

/// The units that [`format_size`] prints, with their powers of two, largest first.
const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Bytes from a text such as `4096`, `0x1000`, `64K`, `64 MiB` or `2gib`.
///
/// Units are B, K, M, G, T and KiB, MiB, GiB, TiB in any case, all powers of two; `_` may separate
/// digits; a hexadecimal number takes no unit.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let trimmed = text.trim();
    if hexadecimal(trimmed).is_some() {
        return parse_integer(Quantity::Size, text);
    }
    let (number, rest) = split_number(trimmed);
    if !number.is_empty() && rest.starts_with('.') {
        return Err(QuantityError::Fraction { text: text.into() });
    }
    let bytes = parse_digits(Quantity::Size, text, number, 10)?;
    let shift = unit_shift(rest.trim_start()).ok_or_else(|| QuantityError::Unit {
        quantity: Quantity::Size,
        text: text.into(),
        unit: rest.trim_start().into(),
    })?;
    bytes.checked_mul(1 << shift).ok_or_else(|| QuantityError::TooLarge { quantity: Quantity::Size, text: text.into() })
}

/// A byte address from decimal or `0x` hexadecimal digits; `_` may separate them.
pub fn parse_address(text: &str) -> Result<u64, QuantityError> {
    parse_integer(Quantity::Address, text)
}

/// The size in the largest unit that divides it: `64 MiB`, `16 KiB`, `12345 B`. Exact, and
/// [`parse_size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let whole = |shift: u32| bytes != 0 && bytes.trailing_zeros() >= shift;
    match UNITS.iter().find(|(_, shift)| whole(*shift)) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

fn parse_integer(quantity: Quantity, text: &str) -> Result<u64, QuantityError> {
    let trimmed = text.trim();
    match hexadecimal(trimmed) {
        Some(digits) => parse_digits(quantity, text, digits, 16),
        None => parse_digits(quantity, text, trimmed, 10),
    }
}

fn hexadecimal(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// The leading digits and separators, and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// `digits` as a number. Each separator must stand between two digits; `text` is what to blame.
fn parse_digits(quantity: Quantity, text: &str, digits: &str, radix: u32) -> Result<u64, QuantityError> {
    let grouped = |group: &str| !group.is_empty() && group.chars().all(|c| c.is_digit(radix));
    if !digits.split('_').all(grouped) {
        return Err(QuantityError::Malformed { quantity, text: text.into() });
    }
    // Only digits are left, so the one thing that can still be wrong is the magnitude.
    u64::from_str_radix(&digits.replace('_', ""), radix)
        .map_err(|_| QuantityError::TooLarge { quantity, text: text.into() })
}

fn unit_shift(unit: &str) -> Option<u32> {
    match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        "t" | "tib" => Some(40),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4_096", 4096),
            ("0x1000", 4096),
            ("12345 B", 12345),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("64KiB", 64 << 10),
            (" 64 MiB ", 64 << 20),
            ("2gib", 2 << 30),
            ("3T", 3 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn a_bad_size_says_what_is_wrong_with_it() {
        for (text, part) in [
            ("", "is not a size"),
            ("K", "is not a size"),
            ("-1", "is not a size"),
            ("_1", "is not a size"),
            ("1_", "is not a size"),
            ("1__0", "is not a size"),
            ("0x", "is not a size"),
            ("1.5M", "has a fraction"),
            ("64KB", "\"KB\", which is no unit"),
            ("64 MiBs", "\"MiBs\", which is no unit"),
            ("1 2", "\"2\", which is no unit"),
            ("18446744073709551616", "too large"),
            ("16777216T", "too large"),
            ("0x10000000000000000", "too large"),
        ] {
            let message = parse_size(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text:?}: {message}");
            assert!(message.contains(&format!("{text:?}")), "{message}");
        }
    }

    #[test]
    fn addresses_are_decimal_or_hexadecimal() {
        assert_eq!(parse_address("4096"), Ok(4096));
        assert_eq!(parse_address("0xdead_BEEF"), Ok(0xdead_beef));
        assert_eq!(parse_address("0X10"), Ok(16));
        for text in ["", "0x", "64K", "-1", "1.0", "0xg", "+1"] {
            assert!(parse_address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn formatted_sizes_are_exact() {
        for (bytes, text) in [
            (0, "0 B"),
            (12345, "12345 B"),
            (16 << 10, "16 KiB"),
            (64 << 20, "64 MiB"),
            ((1 << 20) + 1024, "1025 KiB"),
            (1 << 60, "1048576 TiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn a_formatted_size_parses_back(bytes in any::<u64>(), shift in 0u32..64) {
            for bytes in [bytes, bytes >> shift, (bytes >> shift) << shift] {
                prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            }
        }

        #[test]
        fn a_hexadecimal_address_parses_back(address in any::<u64>()) {
            prop_assert_eq!(parse_address(&format!("{address:#x}")), Ok(address));
            prop_assert_eq!(parse_address(&address.to_string()), Ok(address));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-+0-9xX_.kKmMiIbB ]{0,24}") {
            for text in [text, near] {
                let _ = parse_size(&text);
                let _ = parse_address(&text);
            }
        }
    }
}
