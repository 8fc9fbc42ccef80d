//! The table of all scalar keys: the one place that knows their names and defaults.
//!
//! `[[server]]` is a list and stands apart: its entries have no defaults, and neither variables nor
//! flags reach them, because the map of the network must be the same for all.

use crate::suggest::nearest;

/// A scalar key of `mcomp.cfg`.
pub(crate) struct Key {
    /// `section.name`.
    pub(crate) dotted: &'static str,
    pub(crate) default: Fallback,
}

/// What stands when nobody sets a key.
pub(crate) enum Fallback {
    /// Nothing: it must be set.
    Required,
    /// Nothing: it is optional.
    Absent,
    /// This, checked like any other text.
    Text(&'static str),
}

use Fallback::{Absent, Required, Text};

/// In the order in which `config show` lists them.
pub(crate) const KEYS: [Key; 35] = [
    key("cluster.name", Required),
    key("cluster.k", Required),
    key("cluster.n", Required),
    key("cluster.replicas", Text("1")),
    key("snapshot.master", Text("0")),
    key("snapshot.every", Text("off")),
    key("snapshot.dir", Text("snapshots")),
    key("snapshot.keep", Text("10")),
    key("snapshot.full_every", Text("1")),
    key("snapshot.level", Text("1")),
    key("snapshot.hold_max", Text("100ms")),
    key("snapshot.time_limit", Text("10min")),
    key("metadata.dir", Text("metadata")),
    key("metadata.quarantine", Text("100ms")),
    key("metadata.placement", Text("pack")),
    key("limits.max_connections", Text("4096")),
    key("limits.max_connections_per_address", Text("off")),
    key("limits.handshake_timeout", Text("5s")),
    key("limits.frame_timeout", Text("10s")),
    key("limits.write_timeout", Text("10s")),
    key("limits.session_keep", Text("60s")),
    key("limits.buffer_budget", Text("256MiB")),
    key("client.timeout", Text("5s")),
    key("client.connect_timeout", Text("2s")),
    key("client.max_connections", Text("64")),
    key("client.unix", Text("true")),
    key("client.segment", Text("true")),
    key("client.checksum", Text("auto")),
    key("spin.server", Text("off")),
    key("spin.client", Text("off")),
    key("security.secret_file", Absent),
    key("security.tls_ca", Absent),
    key("security.tls_cert", Absent),
    key("security.tls_key", Absent),
    key("trace.op_log", Absent),
];

const fn key(dotted: &'static str, default: Fallback) -> Key {
    Key { dotted, default }
}

impl Key {
    pub(crate) fn section(&self) -> &'static str {
        self.split().0
    }

    pub(crate) fn name(&self) -> &'static str {
        self.split().1
    }

    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("MCOMP_{}", self.dotted.replace('.', "_").to_uppercase())
    }

    fn split(&self) -> (&'static str, &'static str) {
        self.dotted.split_once('.').expect("the dotted key of the table has a section")
    }
}

/// The names of the keys of a `[[server]]` entry.
pub(crate) const SERVER_KEYS: [&str; 3] = ["address", "snapshot", "http"];

/// The scalar sections, each once, in order.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().map(Key::section).collect();
    sections.dedup();
    sections
}

pub(crate) fn find(section: &str, name: &str) -> Option<&'static Key> {
    let is_it = |key: &&Key| key.section() == section && key.name() == name;
    KEYS.iter().find(is_it)
}

/// Why `section.name` is refused, with the key that was probably meant: one that is spelled almost
/// the same in that section, or the same in another.
pub(crate) fn unknown_key(section: &str, name: &str) -> String {
    let siblings = || KEYS.iter().filter(|key| key.section() == section);
    let elsewhere = || KEYS.iter().find(|key| key.name() == name);
    if let Some(sibling) = nearest(name, siblings().map(Key::name)) {
        format!("unknown key; did you mean {sibling:?}?")
    } else if let Some(key) = elsewhere() {
        format!("unknown key; {name:?} belongs in [{}]", key.section())
    } else {
        let names: Vec<&str> = siblings().map(Key::name).collect();
        format!("unknown key; [{section}] knows {}", names.join(", "))
    }
}

/// Why a name at the top of the file is refused.
pub(crate) fn unknown_section(name: &str) -> String {
    let known = sections();
    if let Some(section) = nearest(name, known.iter().copied()) {
        return format!("unknown section; did you mean [{section}]?");
    }
    if nearest(name, ["server"]).is_some() {
        return "unknown section; did you mean [[server]]?".into();
    }
    if let Some(key) = KEYS.iter().find(|key| key.name() == name) {
        return format!("stands outside of any section; it belongs in [{}]", key.section());
    }
    format!("unknown section; the sections are [{}] and [[server]]", known.join("], ["))
}

/// Variables of ours that set no key: they name the file, and what is logged.
const OTHER_VARIABLES: [&str; 3] = ["MCOMP_CONFIG", "MCOMP_FENCE", "MCOMP_LOG"];
/// Beginnings of those that tests and tortures have for themselves.
const FOREIGN: [&str; 3] = ["MCOMP_TEST_", "MCOMP_MUTANT", "MCOMP_STRETCH_"];

/// What `name` of the environment sets: nothing of ours, a key, or a mistake that is explained.
///
/// Ours are the names that begin with `MCOMP_` and a section, and those that look like a slip of one of
/// ours: other programs and tests may have variables of their own.
pub(crate) fn of_variable(name: &str) -> Option<Result<&'static Key, String>> {
    let rest = name.strip_prefix("MCOMP_")?;
    if OTHER_VARIABLES.contains(&name) || FOREIGN.iter().any(|beginning| name.starts_with(beginning)) {
        return None;
    }
    if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
        return Some(Ok(key));
    }
    let in_section = |section: &&str| {
        let after = rest.strip_prefix(section.to_uppercase().as_str());
        after.is_some_and(|after| after.starts_with('_'))
    };
    match sections().iter().chain(&["server"]).any(in_section) {
        true => Some(Err(unknown_variable(name, rest))),
        false => misspelled(rest).map(|meant| Err(format!("sets nothing; did you mean {meant}?"))),
    }
}

/// The variable of ours that was probably meant by `MCOMP_` and `rest`: one without its section, or one
/// that is spelled almost the same.
fn misspelled(rest: &str) -> Option<String> {
    let without_section = KEYS.iter().find(|key| key.name().to_uppercase() == rest);
    let variables: Vec<String> = KEYS.iter().map(Key::variable).chain(OTHER_VARIABLES.map(String::from)).collect();
    let rests = variables.iter().filter_map(|variable| variable.strip_prefix("MCOMP_"));
    without_section.map(Key::variable).or_else(|| nearest(rest, rests).map(|rest| format!("MCOMP_{rest}")))
}

fn unknown_variable(name: &str, rest: &str) -> String {
    let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
    let key_name = rest.split_once('_').map_or("", |(_, name)| name).to_lowercase();
    let same_name = KEYS.iter().find(|key| key.name() == key_name).map(Key::variable);
    let meant = nearest(name, variables.iter().map(String::as_str)).map(String::from);
    match same_name.or(meant) {
        Some(meant) => format!("sets no key; did you mean {meant}?"),
        None if rest.starts_with("SERVER_") => {
            "sets no key; [[server]] is the same for all and stands only in the file: unset it".into()
        }
        None => "sets no key: unset it, or see `mcomp config show` for the keys".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_name_and_by_its_variable() {
        for key in &KEYS {
            assert_eq!(find(key.section(), key.name()).unwrap().dotted, key.dotted);
            let by_variable = of_variable(&key.variable()).unwrap().unwrap();
            assert_eq!(by_variable.dotted, key.dotted);
        }
    }

    #[test]
    fn foreign_variables_are_left_alone() {
        for name in [
            "PATH",
            "MCOMP_CONFIG",
            "MCOMP_LOG",
            "MCOMP_MUTANT",
            "MCOMP_STRETCH_SWITCH_US",
            "MCOMP_TEST_SEED",
            "MCOMP_HOME",
            "MCOMP_",
        ] {
            assert!(of_variable(name).is_none(), "{name}");
        }
    }

    #[test]
    fn wrong_names_are_explained() {
        for (section, name, part) in [
            ("snapshot", "evry", "did you mean \"every\"?"),
            ("cluster", "every", "belongs in [snapshot]"),
            ("cluster", "password", "[cluster] knows name, k, n, replicas"),
        ] {
            let message = unknown_key(section, name);
            assert!(message.contains(part), "{message}");
        }
        for (name, part) in [
            ("snapshots", "did you mean [snapshot]?"),
            ("servers", "did you mean [[server]]?"),
            ("every", "belongs in [snapshot]"),
            ("colour", "the sections are [cluster], [snapshot]"),
        ] {
            let message = unknown_section(name);
            assert!(message.contains(part), "{message}");
        }
        for (name, part) in [
            ("MCOMP_SNAPSHOT_EVRY", "did you mean MCOMP_SNAPSHOT_EVERY?"),
            ("MCOMP_SERVER_FRAME_TIMEOUT", "did you mean MCOMP_LIMITS_FRAME_TIMEOUT?"),
            ("MCOMP_SERVER_0_ADDRESS", "stands only in the file"),
            ("MCOMP_CLIENT_PASSWORD", "sets no key"),
            ("MCOMP_CONFG", "did you mean MCOMP_CONFIG?"),
            ("MCOMP_TIMEOUT", "did you mean MCOMP_CLIENT_TIMEOUT?"),
            ("MCOMP_CLIENTTIMEOUT", "did you mean MCOMP_CLIENT_TIMEOUT?"),
        ] {
            let message = of_variable(name).unwrap().err().unwrap();
            assert!(message.contains(part), "{message}");
        }
    }
}
