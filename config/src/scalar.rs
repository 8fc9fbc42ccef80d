//! One value as typed, and its readings: a number, a word, a size, a duration. A reading checks the
//! type and the range, and its error is a phrase that names the value and the way out.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::duration::{format_duration, parse_duration};
use crate::endpoint::Endpoint;
use crate::size::{format_size, parse_size};

/// A value as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// From a default, a variable or a flag, where everything is text.
    Untyped(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer; saturated, because no key takes one that large.
    Integer(i128),
    /// A TOML boolean.
    Boolean(bool),
    /// Another TOML type, which no key takes.
    Other(&'static str),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untyped(text) | Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(yes) => yes.fmt(f),
            Self::Other(kind) => write!(f, "this {kind}"),
        }
    }
}

impl Scalar {
    pub(crate) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Untyped(text) | Self::Text(text) => Ok(text),
            _ => Err(format!("{self} is not a string: write it in quotes")),
        }
    }

    /// Text that can be a path: not empty and without the byte that ends one.
    pub(crate) fn path(&self) -> Result<&str, String> {
        let text = self.text()?;
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{self} is not a path"));
        }
        Ok(text)
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, String> {
        let endpoint = self.text()?.parse::<Endpoint>();
        endpoint.map_err(|error| error.to_string())
    }

    pub(crate) fn integer(&self, range: RangeInclusive<i64>) -> Result<i64, String> {
        let (least, most) = (range.start(), range.end());
        let number = match self {
            Self::Integer(number) => i64::try_from(*number).ok(),
            Self::Untyped(text) => text.trim().parse().ok(),
            Self::Text(_) => {
                return Err(format!("{self} is not a number: write it without quotes"));
            }
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{self} is not a whole number from {least} to {most}"))
    }

    /// As [`Scalar::integer`], with the word `off` for none.
    pub(crate) fn integer_or_off(&self, range: RangeInclusive<i64>) -> Result<Option<i64>, String> {
        match self {
            Self::Untyped(text) | Self::Text(text) if text == "off" => Ok(None),
            _ => self.integer(range).map(Some).map_err(|text| format!("{text}, or \"off\"")),
        }
    }

    pub(crate) fn size(&self) -> Result<u64, String> {
        match self {
            Self::Integer(bytes) => {
                u64::try_from(*bytes).map_err(|_| format!("{self} is not a size: write bytes, such as 67108864"))
            }
            Self::Untyped(text) | Self::Text(text) => parse_size(text).map_err(|error| error.to_string()),
            _ => Err(format!("{self} is not a size: write bytes, or a string such as \"64MiB\"")),
        }
    }

    pub(crate) fn size_of_at_least(&self, least_bytes: u64) -> Result<u64, String> {
        let bytes = self.size()?;
        if bytes < least_bytes {
            let least = format_size(least_bytes);
            return Err(format!("{self} is too small: the least is {least}"));
        }
        Ok(bytes)
    }

    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, String> {
        let text = self.text().map_err(|_| format!("{self} is not a duration: write a string such as \"5s\""))?;
        let duration = parse_duration(text).map_err(|error| error.to_string())?;
        if !range.contains(&duration) {
            let least = format_duration(*range.start());
            let most = format_duration(*range.end());
            return Err(format!("{self} is not between {least} and {most}"));
        }
        Ok(duration)
    }

    /// As [`Scalar::duration`], with the word `off` for none.
    pub(crate) fn duration_or_off(&self, range: RangeInclusive<Duration>) -> Result<Option<Duration>, String> {
        match self.text() {
            Ok("off") => Ok(None),
            _ => self.duration(range).map(Some).map_err(|text| format!("{text}, or \"off\"")),
        }
    }

    pub(crate) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Boolean(yes) => Ok(*yes),
            Self::Untyped(text) if text == "true" => Ok(true),
            Self::Untyped(text) if text == "false" => Ok(false),
            Self::Text(_) => Err(format!("{self} is neither true nor false: write it without quotes")),
            _ => Err(format!("{self} is neither true nor false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untyped(text: &str) -> Scalar {
        Scalar::Untyped(text.into())
    }

    #[test]
    fn variables_and_flags_are_read_as_the_type_that_is_wanted() {
        assert_eq!(untyped(" 3 ").integer(1..=5), Ok(3));
        assert_eq!(untyped("64K").size(), Ok(65536));
        assert_eq!(untyped("true").boolean(), Ok(true));
        assert_eq!(untyped("off").duration_or_off(second()), Ok(None));
        assert_eq!(untyped("off").integer_or_off(1..=5), Ok(None));
        assert_eq!(untyped("3").integer_or_off(1..=5), Ok(Some(3)));
    }

    #[test]
    fn the_file_must_use_the_right_type() {
        let text = Scalar::Text("3".into());
        assert!(text.integer(1..=5).unwrap_err().contains("without quotes"));
        let boolean = Scalar::Text("true".into()).boolean();
        assert!(boolean.unwrap_err().contains("without quotes"));
        let duration = Scalar::Integer(5).duration(second());
        assert!(duration.unwrap_err().contains("such as \"5s\""));
        assert!(Scalar::Integer(5).text().unwrap_err().contains("in quotes"));
        assert!(Scalar::Other("array").size().is_err());
        let number = Scalar::Integer(0).integer_or_off(1..=5).unwrap_err();
        assert!(number.contains("from 1 to 5, or \"off\""), "{number}");
    }

    #[test]
    fn ranges_are_inclusive_and_named() {
        assert_eq!(Scalar::Integer(5).integer(1..=5), Ok(5));
        for number in [0, 6, i128::MAX, i128::MIN] {
            let message = Scalar::Integer(number).integer(1..=5).unwrap_err();
            assert!(message.contains("from 1 to 5"), "{message}");
        }
        assert!(untyped("1s").duration(second()).is_ok());
        let message = untyped("2s").duration(second()).unwrap_err();
        assert!(message.contains("between 1ms and 1s"), "{message}");
        assert!(untyped("1K").size_of_at_least(2048).is_err());
    }

    fn second() -> RangeInclusive<Duration> {
        Duration::from_millis(1)..=Duration::from_secs(1)
    }
}
