//! A line into words, as a shell splits them: blanks part words, quotes keep them together, a backslash takes the next
//! character as it is, `#` at the beginning of a word begins a comment.
//!
//! Leaves out all that a shell would put in place of something else: variables, patterns, pipes, redirections.

use crate::exit::Failure;

/// The words of a line.
pub(super) fn words(line: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut rest = line.char_indices().peekable();
    while let Some((_, first)) = rest.peek().copied() {
        if first.is_whitespace() {
            rest.next();
        } else if first == '#' {
            break;
        } else {
            words.push(word(&mut rest)?);
        }
    }
    Ok(words)
}

fn word(rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> Result<String, Failure> {
    let mut word = String::new();
    while let Some((at, c)) = rest.next_if(|(_, c)| !c.is_whitespace()) {
        match c {
            '\'' | '"' => quoted(rest, (at, c), &mut word)?,
            '\\' => word.push(rest.next().ok_or_else(nothing_escaped)?.1),
            c => word.push(c),
        }
    }
    Ok(word)
}

/// What follows a quote, up to its second half.
fn quoted(
    rest: &mut impl Iterator<Item = (usize, char)>,
    (at, quote): (usize, char),
    word: &mut String,
) -> Result<(), Failure> {
    while let Some((_, c)) = rest.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match rest.next().ok_or_else(nothing_escaped)?.1 {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
    Err(Failure::usage(format!("the {quote} at byte {at} of the line is not closed: write a second one, or \\{quote}")))
}

fn nothing_escaped() -> Failure {
    Failure::usage("the line ends in a backslash, with nothing that it could stand before: write \\\\ for one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, expected) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("r 0 5", &["r", "0", "5"]),
            (" w\t0  5 'two words' ", &["w", "0", "5", "two words"]),
            (r#"a"b c"'d e'f"#, &["ab cd ef"]),
            (r#"'' """#, &["", ""]),
            (r"two\ words \' \\ \#", &["two words", "'", r"\", "#"]),
            (r#""\"quoted\" \\ \n""#, &[r#""quoted" \ \n"#]),
            (r"'\'", &[r"\"]),
            ("t # all of them", &["t"]),
            ("# nothing", &[]),
            ("a#b 'c # d'", &["a#b", "c # d"]),
            ("$HOME *.bin > x | y", &["$HOME", "*.bin", ">", "x", "|", "y"]),
            ("w 0 4 ä𝄞", &["w", "0", "4", "ä𝄞"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_open_is_named() {
        for (line, part) in [
            ("w 0 5 'two", "the ' at byte 6"),
            (r#"a "b 'c'"#, "the \" at byte 2"),
            (r#""a\""#, "the \" at byte 0"),
            ("a\\", "backslash"),
            ("\"a\\", "backslash"),
        ] {
            let message = words(line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
