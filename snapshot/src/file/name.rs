//! The name of a snapshot file, and the proof that a string is one.
//!
//! `demo-20260102T030405.678Z-full-0123abcd.mcs`: cluster, UTC time of the cut, full or incr, the
//! first 8 hexadecimal digits of the cut id. It sorts by time within a cluster and needs no quoting.
//! It is a label: what a file is stands in its header.

use std::fmt;
use std::str::FromStr;

use super::error::Part;
use super::{FileError, Meta};

/// The ending of every snapshot file.
pub(super) const SUFFIX: &str = ".mcs";

/// The time of the cut: the length is fixed so that the parts can be told apart from the right.
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S%.3fZ";

/// A checked snapshot file name: never a path, whoever sent it.
///
/// - It is `<cluster>-<yyyymmddThhmmss.mmmZ>-<full|incr>-<8 hex digits>.mcs`, at most 87 bytes;
/// - so it has no slash, no NUL, no leading dot, and is safe to join to a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the file for these facts.
    pub(super) fn of(meta: &Meta) -> Name {
        let kind = if meta.is_full() { "full" } else { "incr" };
        let time = meta.created().strftime(TIME_FORMAT).to_string();
        let cut = meta.cut.simple().to_string();
        Name(format!("{}-{time}-{kind}-{}{SUFFIX}", meta.cluster, &cut[..8]))
    }
}

impl FromStr for Name {
    type Err = FileError;

    fn from_str(text: &str) -> Result<Name, FileError> {
        if is_name(text) {
            return Ok(Name(text.to_owned()));
        }
        // The text came from outside: shown escaped, and not beyond what a name could be.
        let shown: String = text.chars().take(96).collect();
        let why = format!("{shown:?} is not <cluster>-<yyyymmddThhmmss.mmmZ>-<full|incr>-<8 hex digits>{SUFFIX}");
        Err(FileError::Refused { part: Part::Name, why })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(text: &str) -> bool {
    // From the right, because a cluster's name may itself have dashes.
    let Some(stem) = text.strip_suffix(SUFFIX) else { return false };
    let mut parts = stem.rsplitn(4, '-');
    let (Some(cut), Some(kind), Some(time), Some(cluster)) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    is_cut(cut) && matches!(kind, "full" | "incr") && is_time(time) && super::meta::is_cluster(cluster)
}

fn is_cut(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_time(text: &str) -> bool {
    const SHAPE: &[u8; 20] = b"00000000T000000.000Z";
    text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == *s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_also_when_the_cluster_has_dashes() {
        for good in ["demo-20260102T030405.678Z-full-0123abcd.mcs", "a-b--c-20260102T030405.678Z-incr-ffffffff.mcs"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let long = format!("{}-20260102T030405.678Z-full-0123abcd.mcs", "x".repeat(49));
        for bad in [
            "",
            "demo.mcs",
            "-20260102T030405.678Z-full-0123abcd.mcs",
            ".demo-20260102T030405.678Z-full-0123abcd.mcs",
            "../demo-20260102T030405.678Z-full-0123abcd.mcs",
            "a/b-20260102T030405.678Z-full-0123abcd.mcs",
            "de\0mo-20260102T030405.678Z-full-0123abcd.mcs",
            "demo-20260102T030405.678Z-half-0123abcd.mcs",
            "demo-20260102T030405.678Z-full-0123ABCD.mcs",
            "demo-20260102T030405.678Z-full-0123abc.mcs",
            "demo-2026010ßT03040.678Z-full-0123abcd.mcs",
            "demo-20260102T030405.678Z-full-0123abcd.mcs.tmp",
            long.as_str(),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was taken for a name");
        }
    }
}
