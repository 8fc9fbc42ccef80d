//! The configuration as typed: which text or number stands on top for each key, and where it was
//! typed. Names are checked here, values are not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Place, Problem};
use crate::keys::{self, Fallback, KEYS, Key};
use crate::origin::Origin;
use crate::scalar::Scalar;
use crate::search::Overrides;

/// What was typed, layer over layer.
///
/// - `entries` has every key that has a default or was set, under its dotted name from [`KEYS`].
/// - `servers` are in the order of the file.
/// - `problems` are the names that nobody knows; with one of them there is no configuration.
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    pub(crate) entries: BTreeMap<&'static str, Entry>,
    pub(crate) servers: Vec<WrittenServer>,
    pub(crate) problems: Vec<Problem>,
}

/// A value and where it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Scalar,
    pub(crate) origin: Origin,
    /// Counted from 1; only values of the file have one.
    pub(crate) line: Option<usize>,
}

/// One `[[server]]` as typed.
#[derive(Default)]
pub(crate) struct WrittenServer {
    pub(crate) line: Option<usize>,
    pub(crate) address: Option<Entry>,
    pub(crate) snapshot: Option<Entry>,
    pub(crate) http: Option<Entry>,
}

impl Written {
    /// Lays variables over the file over the defaults, and flags over all. Fails when `text` is not
    /// TOML, because then nothing in it can be trusted.
    pub(crate) fn new(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, Problem> {
        let mut written =
            Self { path: path.into(), entries: BTreeMap::new(), servers: Vec::new(), problems: Vec::new() };
        written.lay_defaults();
        written.lay_file(text)?;
        written.lay_environment(overrides);
        written.lay_flags(overrides);
        Ok(written)
    }

    /// Notes what is wrong with the value of `entry`.
    pub(crate) fn refuse(&mut self, key: &str, entry: &Entry, text: impl Into<String>) {
        let place = Place::new(self.path.clone(), entry.line, &entry.origin);
        self.refuse_at(place, key, text);
    }

    /// Notes what is wrong with the file, at a line or, when something is missing, nowhere.
    pub(crate) fn refuse_in_file(&mut self, line: Option<usize>, key: &str, text: impl Into<String>) {
        let path = self.path.clone();
        self.refuse_at(Place::File { path, line }, key, text);
    }

    fn refuse_at(&mut self, place: Place, key: &str, text: impl Into<String>) {
        self.problems.push(Problem { place, key: key.into(), text: text.into() });
    }

    fn lay_defaults(&mut self) {
        for key in &KEYS {
            if let Fallback::Text(text) = key.default {
                self.lay(key, text, Origin::Default);
            }
        }
    }

    fn lay_environment(&mut self, overrides: &Overrides) {
        for (name, value) in &overrides.environment {
            let set = |value: &&OsStr| !value.is_empty();
            if let (Some(name), Some(value)) = (name.to_str(), Some(value.as_os_str()).filter(set)) {
                self.lay_variable(name, value);
            }
        }
    }

    fn lay_variable(&mut self, name: &str, value: &OsStr) {
        let place = Place::Variable(name.into());
        match (keys::of_variable(name), value.to_str()) {
            (None, _) => {}
            (Some(Ok(key)), Some(text)) => self.lay(key, text, Origin::Variable(name.into())),
            (Some(Ok(key)), None) => self.refuse_at(place, key.dotted, "is not UTF-8 text"),
            (Some(Err(why)), _) => self.refuse_at(place, "", why),
        }
    }

    fn lay_flags(&mut self, overrides: &Overrides) {
        for (dotted, text) in &overrides.flags {
            let (section, name) = dotted.split_once('.').unwrap_or((dotted, ""));
            match keys::find(section, name) {
                Some(key) => self.lay(key, text, Origin::Flag),
                None => self.refuse_at(Place::Flag, dotted, unknown_flag(section, name)),
            }
        }
    }

    fn lay(&mut self, key: &Key, text: &str, origin: Origin) {
        let entry = Entry { value: Scalar::Untyped(text.into()), origin, line: None };
        self.entries.insert(key.dotted, entry);
    }
}

/// What is wrong with the names of variables, whatever the file says.
pub(crate) fn misspelled_variables(overrides: &Overrides) -> Vec<Problem> {
    let set = overrides.environment.iter().filter(|(_, value)| !value.is_empty());
    let names = set.filter_map(|(name, _)| name.to_str());
    let problem = |name: &str| {
        let text = keys::of_variable(name)?.err()?;
        Some(Problem { place: Place::Variable(name.into()), key: String::new(), text })
    };
    names.filter_map(problem).collect()
}

fn unknown_flag(section: &str, name: &str) -> String {
    match section {
        "server" => "[[server]] is the same for all and stands only in the file".into(),
        _ if keys::sections().contains(&section) => keys::unknown_key(section, name),
        _ => keys::unknown_section(section),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, overrides: &Overrides) -> Written {
        Written::new(text, Path::new("mcomp.cfg"), overrides).unwrap()
    }

    #[test]
    fn the_later_layer_wins() {
        let file = "[client]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"\nunix = true";
        let overrides = Overrides {
            environment: [
                ("MCOMP_CLIENT_TIMEOUT", "2s"),
                ("MCOMP_CLIENT_CONNECT_TIMEOUT", "2s"),
                ("MCOMP_CLIENT_UNIX", ""),
                ("HOME", "/root"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
            flags: [("client.timeout", "3s"), ("client.timeout", "4s")]
                .map(|(key, value)| (key.into(), value.into()))
                .to_vec(),
            data: None,
        };
        let written = written(file, &overrides);
        let variable = |name: &str| Origin::Variable(name.into());
        for (dotted, text, origin) in [
            ("client.timeout", "\"4s\"", Origin::Flag),
            ("client.connect_timeout", "\"2s\"", variable("MCOMP_CLIENT_CONNECT_TIMEOUT")),
            ("client.unix", "true", Origin::File),
            ("client.checksum", "\"auto\"", Origin::Default),
        ] {
            let entry = &written.entries[dotted];
            assert_eq!((entry.value.to_string().as_str(), &entry.origin), (text, &origin));
        }
    }

    #[test]
    fn names_of_variables_and_flags_are_checked() {
        let overrides = Overrides {
            environment: vec![("MCOMP_SNAPSHOT_EVRY".into(), "1s".into())],
            flags: vec![
                ("client.tmieout".into(), "3s".into()),
                ("server.0.address".into(), "a:1".into()),
                ("keep".into(), "3".into()),
            ],
            data: None,
        };
        let written = written("", &overrides);
        let messages: Vec<String> = written.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            messages,
            [
                "$MCOMP_SNAPSHOT_EVRY: sets no key; did you mean MCOMP_SNAPSHOT_EVERY?",
                "flag: client.tmieout: unknown key; did you mean \"timeout\"?",
                "flag: server.0.address: [[server]] is the same for all and stands only in the file",
                "flag: keep: stands outside of any section; it belongs in [snapshot]",
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_must_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let value = std::ffi::OsString::from_vec(vec![0xff]);
        let overrides = Overrides { environment: vec![("MCOMP_CLUSTER_NAME".into(), value)], ..Overrides::default() };
        let message = written("", &overrides).problems[0].to_string();
        assert_eq!(message, "$MCOMP_CLUSTER_NAME: cluster.name: is not UTF-8 text");
    }
}
