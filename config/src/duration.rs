//! Durations as people type and read them: a number, whole or decimal, and its unit. A bare number
//! is refused, because seconds and milliseconds are mistaken for each other too easily.
//! What [`format_duration`] prints is exact and parses back.

use std::time::Duration;

use crate::quantity::{Quantity, QuantityError};

const NS_PER_MS: u64 = 1_000_000;

/// The units that [`format_duration`] prints, in nanoseconds, largest first.
const UNITS_NS: [(&str, u64); 5] = [
    ("h", 3600 * 1000 * NS_PER_MS),
    ("min", 60 * 1000 * NS_PER_MS),
    ("s", 1000 * NS_PER_MS),
    ("ms", NS_PER_MS),
    ("us", 1000),
];

/// More decimals than any exact number of nanoseconds needs; beyond it the arithmetic could overflow.
const DECIMALS_MAX: usize = 18;

/// A duration from a text such as `20us`, `500ms`, `5s`, `1.5s`, `5m`, `10min` or `1h`.
///
/// It must be a whole number of nanoseconds, of which 64 bits hold 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || decimals.is_empty() || decimals.contains('.') {
        return Err(QuantityError::Malformed { quantity: Quantity::Duration, text: text.into() });
    }
    let unit_ns = unit_ns(text, unit.trim_start())?;
    Ok(Duration::from_nanos(scale(text, whole, decimals, unit_ns)?))
}

/// The duration in the largest unit that divides it, else in decimal milliseconds: `1h`, `90s`,
/// `100ms`, `250us`. [`parse_duration`] reads it back as long as it is below 584 years.
pub fn format_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let whole = |unit_ns: u64| ns != 0 && ns.is_multiple_of(u128::from(unit_ns));
    if let Some((unit, unit_ns)) = UNITS_NS.iter().find(|(_, unit_ns)| whole(*unit_ns)) {
        return format!("{}{unit}", ns / u128::from(*unit_ns));
    }
    let (ms, rest_ns) = (ns / u128::from(NS_PER_MS), ns % u128::from(NS_PER_MS));
    if rest_ns == 0 {
        return format!("{ms}ms");
    }
    let decimals = format!("{rest_ns:06}");
    format!("{ms}.{}ms", decimals.trim_end_matches('0'))
}

fn unit_ns(text: &str, unit: &str) -> Result<u64, QuantityError> {
    let printed = match unit {
        "m" => "min",
        unit => unit,
    };
    let known = UNITS_NS.iter().find(|(name, _)| *name == printed);
    known.map(|(_, unit_ns)| *unit_ns).ok_or_else(|| {
        let (quantity, text, unit) = (Quantity::Duration, text.into(), unit.into());
        match printed {
            "" => QuantityError::NoUnit { quantity, text },
            _ => QuantityError::Unit { quantity, text, unit },
        }
    })
}

/// `whole.decimals` units in nanoseconds.
fn scale(text: &str, whole: &str, decimals: &str, unit_ns: u64) -> Result<u64, QuantityError> {
    let too_large = || QuantityError::TooLarge { quantity: Quantity::Duration, text: text.into() };
    let too_fine = || QuantityError::TooFine { text: text.into() };

    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > DECIMALS_MAX {
        return Err(too_fine());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction = match decimals {
        "" => 0,
        digits => digits.parse::<u128>().map_err(|_| too_fine())?,
    };
    // At most 10^18 times an hour in nanoseconds: 10^31, far below 2^128.
    let fraction_scaled = fraction * u128::from(unit_ns);
    let divisor = 10u128.pow(u32::try_from(decimals.len()).expect("at most DECIMALS_MAX"));
    if !fraction_scaled.is_multiple_of(divisor) {
        return Err(too_fine());
    }
    let ns = u128::from(whole) * u128::from(unit_ns) + fraction_scaled / divisor;
    u64::try_from(ns).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("5s", 5_000),
            (" 5 s ", 5_000),
            ("1.5s", 1_500),
            ("1.500s", 1_500),
            ("5m", 300_000),
            ("10min", 600_000),
            ("0.5h", 1_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text:?}");
        }
    }

    #[test]
    fn a_bad_duration_says_what_is_wrong_with_it() {
        for (text, part) in [
            ("", "is not a duration"),
            ("s", "is not a duration"),
            ("-5s", "is not a duration"),
            ("5.s", "is not a duration"),
            (".5s", "is not a duration"),
            ("1.2.3s", "is not a duration"),
            ("5", "has no unit"),
            ("5d", "\"d\", which is no unit"),
            ("5S", "\"S\", which is no unit"),
            ("0.0000001ms", "finer than a nanosecond"),
            ("0.00000000000000000000000000000001h", "finer"),
            ("99999999999999999999s", "too large"),
            ("18446744073709551615h", "too large"),
        ] {
            let message = parse_duration(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn formatted_durations_are_exact() {
        for (us, text) in [
            (0, "0ms"),
            (250, "250us"),
            (100_000, "100ms"),
            (1_500_000, "1500ms"),
            (60_000_000, "1min"),
            (90_000_000, "90s"),
            (7_200_000_000, "2h"),
        ] {
            assert_eq!(format_duration(Duration::from_micros(us)), text);
        }
    }

    proptest! {
        #[test]
        fn a_formatted_duration_parses_back(ns in any::<u64>(), round in 0u32..19) {
            let rounded_ns = ns - ns % 10u64.pow(round);
            for ns in [ns, rounded_ns] {
                let duration = Duration::from_nanos(ns);
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-0-9.]{0,40}(ms|s|m|min|h)?") {
            let _ = parse_duration(&text);
            let _ = parse_duration(&near);
        }
    }
}
