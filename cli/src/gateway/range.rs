//! The fields that name bytes: `Range`, `Content-Range`, and lists of entity tags. Text in, numbers out, no IO.
//!
//! One range at a time: what asks for several is refused, because nobody needs an answer in several parts here.

/// Which bytes of a whole are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of them: no range, or one in a unit that is not bytes, which has to be ignored.
    Whole,
    /// From the first number on, so many as the second.
    Part(u64, u64),
    /// Bytes that the whole does not have, or something that is no range.
    Unsatisfiable,
}

/// What a `Range` asks of a whole of `size` bytes. It is cut off at the end of the whole, as HTTP has it.
pub(crate) fn asked(field: Option<&str>, size: u64) -> Asked {
    let Some((unit, set)) = field.and_then(|field| field.split_once('=')) else {
        return if field.is_some() { Asked::Unsatisfiable } else { Asked::Whole };
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    part(set.trim(), size).map_or(Asked::Unsatisfiable, |(first, len)| Asked::Part(first, len))
}

/// The first byte and the length of `a-b`, `a-` or `-n`.
fn part(spec: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let len = number(last)?.min(size);
        return (len > 0).then_some((size - len, len));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first || first >= size {
        return None;
    }
    Some((first, last.min(size - 1) - first + 1))
}

/// The first byte and the length that `Content-Range: bytes a-b/*` claims; a size in place of the star must hold them.
pub(crate) fn claimed(field: &str) -> Option<(u64, u64)> {
    let (unit, rest) = field.split_once(' ')?;
    let (bytes, size) = rest.trim().split_once('/')?;
    let (first, last) = bytes.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let holds = size == "*" || number(size)? > last;
    let len = last.checked_sub(first)?.checked_add(1)?;
    (unit.eq_ignore_ascii_case("bytes") && holds).then_some((first, len))
}

/// Whether a list of entity tags, or the star, names `tag` strongly. One that is not understood names nothing.
pub(crate) fn names(list: &str, tag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|one| one.trim() == tag)
}

/// Digits alone.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_off_at_the_end_and_refused_behind_it() {
        for (field, size, expected) in [
            ("bytes=0-0", 10, Asked::Part(0, 1)),
            ("bytes=2-5", 10, Asked::Part(2, 4)),
            ("Bytes = 2-5", 10, Asked::Part(2, 4)),
            ("bytes=2-", 10, Asked::Part(2, 8)),
            ("bytes=2-100", 10, Asked::Part(2, 8)),
            ("bytes=-3", 10, Asked::Part(7, 3)),
            ("bytes=-30", 10, Asked::Part(0, 10)),
            ("bytes=0-18446744073709551615", u64::MAX, Asked::Part(0, u64::MAX)),
            ("rows=0-5", 10, Asked::Whole),
            ("bytes=10-", 10, Asked::Unsatisfiable),
            ("bytes=5-4", 10, Asked::Unsatisfiable),
            ("bytes=-0", 10, Asked::Unsatisfiable),
            ("bytes=-3", 0, Asked::Unsatisfiable),
            ("bytes=0-0", 0, Asked::Unsatisfiable),
            ("bytes=0-1,3-4", 10, Asked::Unsatisfiable),
            ("bytes=-", 10, Asked::Unsatisfiable),
            ("bytes=+1-2", 10, Asked::Unsatisfiable),
            ("bytes=0-18446744073709551616", 10, Asked::Unsatisfiable),
            ("bytes", 10, Asked::Unsatisfiable),
            ("", 10, Asked::Unsatisfiable),
        ] {
            assert_eq!(asked(Some(field), size), expected, "{field:?} of {size}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
    }

    #[test]
    fn a_content_range_claims_whole_bytes() {
        for (field, expected) in [
            ("bytes 0-0/*", Some((0, 1))),
            ("bytes 4-7/8", Some((4, 4))),
            ("BYTES 4-7/*", Some((4, 4))),
            ("bytes 4-7/7", None),
            ("bytes 7-4/*", None),
            ("bytes */8", None),
            ("bytes 4-/*", None),
            ("bytes 0-18446744073709551615/*", None),
            ("rows 0-1/*", None),
            ("bytes 0-1", None),
            ("", None),
        ] {
            assert_eq!(claimed(field), expected, "{field:?}");
        }
    }

    #[test]
    fn only_strong_tags_match() {
        assert!(names("\"a\"", "\"a\"") && names("\"b\" , \"a\"", "\"a\"") && names(" * ", "\"a\""));
        for list in ["W/\"a\"", "a", "\"A\"", "\"b\"", "", "\"a", "**"] {
            assert!(!names(list, "\"a\""), "{list:?}");
        }
    }
}
