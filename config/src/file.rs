//! The file as typed: TOML with the line of every value. Each name that nobody knows is noted, and
//! values are left as they are.
//!
//! The tables are walked by hand. A derived deserialiser stops at the first unknown name, and the
//! user would mend the file one error at a time.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::error::{Place, Problem};
use crate::keys::{self, SERVER_KEYS};
use crate::origin::Origin;
use crate::scalar::Scalar;
use crate::suggest::nearest;
use crate::written::{Entry, Written, WrittenServer};

/// The most characters of a line that a message repeats.
const SHOWN_LEN_MAX: usize = 60;

impl Written {
    /// Lays the file over what is there. Fails when it is not TOML.
    pub(crate) fn lay_file(&mut self, text: &str) -> Result<(), Problem> {
        let lines = Lines::new(text);
        let table = DeTable::parse(text).map_err(|error| Problem {
            place: Place::File { path: self.path.clone(), line: error.span().map(|span| lines.line(span.start)) },
            key: String::new(),
            text: syntax(text, &error),
        })?;
        for (name, value) in table.get_ref() {
            let line = Some(lines.line(name.span().start));
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("server", value) => self.lay_servers(value, line, &lines),
                (section, DeValue::Table(table)) if keys::sections().contains(&section) => {
                    self.lay_section(section, table, &lines);
                }
                (section, _) if keys::sections().contains(&section) => {
                    let text = format!("is a section: write [{section}] and its keys below it");
                    self.refuse_in_file(line, section, text);
                }
                (name, _) => self.refuse_in_file(line, name, keys::unknown_section(name)),
            }
        }
        Ok(())
    }

    fn lay_section(&mut self, section: &str, table: &DeTable<'_>, lines: &Lines) {
        for (name, value) in table {
            match keys::find(section, name.get_ref()) {
                Some(key) => {
                    self.entries.insert(key.dotted, Entry::typed(value, lines));
                }
                None => self.refuse_in_file(
                    Some(lines.line(name.span().start)),
                    &format!("{section}.{}", name.get_ref()),
                    keys::unknown_key(section, name.get_ref()),
                ),
            }
        }
    }

    fn lay_servers(&mut self, value: &DeValue<'_>, line: Option<usize>, lines: &Lines) {
        let not_a_list = "is a list: write [[server]] once for each server, \
                          and what holds for all of them in [limits]";
        let DeValue::Array(servers) = value else {
            return self.refuse_in_file(line, "server", not_a_list);
        };
        for (id, server) in servers.iter().enumerate() {
            match server.get_ref() {
                DeValue::Table(table) => self.lay_server(id, server, table, lines),
                _ => self.refuse_in_file(line, "server", not_a_list),
            }
        }
    }

    fn lay_server(&mut self, id: usize, server: &Spanned<DeValue<'_>>, table: &DeTable<'_>, lines: &Lines) {
        let mut typed = WrittenServer { line: Some(lines.line(server.span().start)), ..WrittenServer::default() };
        for (name, value) in table {
            let entry = Entry::typed(value, lines);
            match name.get_ref().as_ref() {
                "address" => typed.address = Some(entry),
                "snapshot" => typed.snapshot = Some(entry),
                "http" => typed.http = Some(entry),
                other => {
                    let line = Some(lines.line(name.span().start));
                    self.refuse_in_file(line, &format!("server.{id}.{other}"), unknown_of_server(other));
                }
            }
        }
        self.servers.push(typed);
    }
}

impl Entry {
    fn typed(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Self {
        Self { value: scalar(value.get_ref()), origin: Origin::File, line: Some(lines.line(value.span().start)) }
    }
}

/// Byte offsets of the starts of lines, to tell the line of a byte without counting from the top.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// Counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}

fn scalar(value: &DeValue<'_>) -> Scalar {
    match value {
        DeValue::String(text) => Scalar::Text(text.as_ref().into()),
        DeValue::Integer(integer) => Scalar::Integer(saturated(integer)),
        DeValue::Boolean(yes) => Scalar::Boolean(*yes),
        other => Scalar::Other(other.type_str()),
    }
}

/// TOML's parser leaves only digits and a sign, so magnitude is the one thing that can be wrong.
fn saturated(integer: &DeInteger<'_>) -> i128 {
    let most = match integer.as_str().starts_with('-') {
        true => i128::MIN,
        false => i128::MAX,
    };
    i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(most)
}

/// The parser's words, the line they are about, and the way out of the one trap of this file: in
/// TOML, `[server]` cannot stand beside `[[server]]`.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().next().unwrap_or_default();
    let before = error.span().and_then(|span| text.get(..span.start));
    let line_start = before.map_or(0, |before| before.rfind('\n').map_or(0, |at| at + 1));
    let line = text[line_start..].lines().next().unwrap_or_default();
    let shown: String = line.trim().chars().take(SHOWN_LEN_MAX).collect();
    let way_out = match shown.starts_with("[server]") {
        true => "; what holds for all servers stands in [limits]",
        false => "",
    };
    format!("is not TOML: {message} in {shown:?}{way_out}")
}

fn unknown_of_server(name: &str) -> String {
    match nearest(name, SERVER_KEYS) {
        Some(known) => format!("unknown key; did you mean {known:?}?"),
        None => format!("unknown key; [[server]] knows {}", SERVER_KEYS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Overrides;
    use std::path::Path;

    fn written(text: &str) -> Written {
        Written::new(text, Path::new("mcomp.cfg"), &Overrides::default()).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        let written = written(text);
        written.problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn values_keep_type_line_and_origin() {
        let text = "[cluster]\nname = \"demo\"\nk = 0x1_000\n\n[client]\nunix = false\ntimeout = 2.5";
        let written = written(text);
        for (dotted, value, line) in [
            ("cluster.name", Scalar::Text("demo".into()), 2),
            ("cluster.k", Scalar::Integer(4096), 3),
            ("client.unix", Scalar::Boolean(false), 6),
            ("client.timeout", Scalar::Other("float"), 7),
        ] {
            let entry = &written.entries[dotted];
            assert_eq!((&entry.value, entry.line), (&value, Some(line)), "{dotted}");
            assert_eq!(entry.origin, Origin::File);
        }
        assert_eq!(written.entries["snapshot.keep"].origin, Origin::Default);
        assert!(written.problems.is_empty());
    }

    #[test]
    fn integers_keep_their_sign_and_saturate() {
        for (typed, number) in [
            ("-5", -5),
            ("+5", 5),
            ("0o17", 15),
            ("0b11", 3),
            ("99999999999999999999999999999999999999999", i128::MAX),
            ("-99999999999999999999999999999999999999999", i128::MIN),
        ] {
            let written = written(&format!("[cluster]\nk = {typed}"));
            assert_eq!(written.entries["cluster.k"].value, Scalar::Integer(number));
        }
    }

    #[test]
    fn every_unknown_name_is_reported() {
        let text = "colour = 1\n[cluster]\nnmae = \"demo\"\n[[server]]\nadress = \"a:1\"\n[snapshots]\n";
        assert_eq!(
            problems(text),
            [
                "mcomp.cfg:3: cluster.nmae: unknown key; did you mean \"name\"?",
                "mcomp.cfg:1: colour: unknown section; the sections are [cluster], [snapshot], [metadata], \
                 [limits], [client], [spin], [security], [trace] and [[server]]",
                "mcomp.cfg:5: server.0.adress: unknown key; did you mean \"address\"?",
                "mcomp.cfg:6: snapshots: unknown section; did you mean [snapshot]?",
            ]
        );
    }

    #[test]
    fn sections_and_lists_must_have_their_shape() {
        assert!(problems("cluster = 5")[0].contains("write [cluster] and its keys"));
        for text in ["[server]\nmax_connections = 5", "server = 5", "server = [5]"] {
            assert!(problems(text)[0].contains("write [[server]] once for each"), "{text}");
        }
    }

    #[test]
    fn what_is_not_toml_is_blamed_on_its_line() {
        for (text, start, part) in [
            (
                "[cluster]
name = demo
",
                "mcomp.cfg:2: is not TOML: ",
                "in \"name = demo\"",
            ),
            (
                "[client]
unix = true
unix = true",
                "mcomp.cfg:3: ",
                "duplicate key in \"unix",
            ),
            (
                "[[server]]
[server]
",
                "mcomp.cfg:2: ",
                "for all servers stands in [limits]",
            ),
        ] {
            let problem = Written::new(text, Path::new("mcomp.cfg"), &Overrides::default());
            let message = problem.err().unwrap().to_string();
            assert!(message.starts_with(start) && message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_hostile_key_does_not_reach_the_terminal() {
        let message = &problems("\"\\u001b[2J\\n\" = 1")[0];
        assert!(message.contains("\\u{1b}[2J\\n"), "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
    }
}
