//! The error shared by sizes, addresses and durations as people type them, in the file and on the
//! command line. Each message stands alone: it names the text and shows one that is right.

use std::fmt;

/// What a text was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// A number of bytes, such as `64MiB`.
    Size,
    /// A byte address, such as `0x1000`.
    Address,
    /// A length of time, such as `500ms`.
    Duration,
}

impl Quantity {
    fn form(self) -> &'static str {
        match self {
            Self::Size => "write bytes, or a whole number with K, M, G or T, such as 64MiB",
            Self::Address => "write a decimal or 0x number, such as 4096 or 0x1000",
            Self::Duration => "write a number and ms, s, min or h, such as 500ms or 1.5s",
        }
    }

    fn units(self) -> &'static str {
        match self {
            Self::Size => "the units are B, K, M, G, T and KiB, MiB, GiB, TiB, powers of two",
            Self::Address => "an address is plain bytes, without a unit",
            Self::Duration => "the units are ms, s, m or min, and h",
        }
    }

    fn limit(self) -> &'static str {
        match self {
            Self::Size | Self::Address => "the most is 18446744073709551615, 64 bits",
            Self::Duration => "the most is 5000000h",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "a size",
            Self::Address => "an address",
            Self::Duration => "a duration",
        })
    }
}

/// Why a text is not the quantity it was meant to be. The remedy is always to mend the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// It does not begin with a number, or the number is badly formed.
    #[error("{text:?} is not {quantity}: {}", .quantity.form())]
    Malformed {
        /// What it was meant to be.
        quantity: Quantity,
        /// As typed.
        text: String,
    },
    /// Bytes cannot be halved, so sizes are whole numbers of their unit.
    #[error("{text:?} has a fraction: write a whole number of a smaller unit, such as 1536K")]
    Fraction {
        /// As typed.
        text: String,
    },
    /// The unit is missing where one is needed, or unknown.
    #[error("{text:?} ends in {unit:?}, which is no unit of {quantity}: {}", .quantity.units())]
    Unit {
        /// What it was meant to be.
        quantity: Quantity,
        /// As typed.
        text: String,
        /// The part after the number; empty when there is none.
        unit: String,
    },
    /// The unit is missing where one is needed.
    #[error("{text:?} has no unit: {}", .quantity.units())]
    NoUnit {
        /// What it was meant to be.
        quantity: Quantity,
        /// As typed.
        text: String,
    },
    /// It does not fit.
    #[error("{text:?} is too large for {quantity}: {}", .quantity.limit())]
    TooLarge {
        /// What it was meant to be.
        quantity: Quantity,
        /// As typed.
        text: String,
    },
    /// Durations are whole nanoseconds.
    #[error("{text:?} is finer than a nanosecond: write fewer decimals")]
    TooFine {
        /// As typed.
        text: String,
    },
}
