//! Where the file is looked for, and what is laid over it. The first place that holds a file wins;
//! a file that was named and is missing is an error, never a reason to try the next place.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::ConfigError;
use crate::written::misspelled_variables;

/// The variable that names the file.
const CONFIG_VARIABLE: &str = "MCOMP_CONFIG";
/// Hundreds of servers with a page of comments each fit; a device or a memory image does not.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is laid over the file, and where relative folders of it begin.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Environment variables, as `std::env::vars_os` gives them. An empty one counts as unset. Those
    /// that are not `MCOMP_CONFIG` or `MCOMP_<SECTION>_<KEY>`, nor a slip of one, are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Dotted keys and values, such as `("client.timeout", "3s")`. The last one of a key wins.
    pub flags: Vec<(String, String)>,
    /// The folder that holds the data, in place of the file's own (`--data`).
    pub data: Option<PathBuf>,
}

impl Overrides {
    /// The environment of this process, no flags, data beside the file.
    pub fn of_process() -> Self {
        Self { environment: std::env::vars_os().collect(), ..Self::default() }
    }
}

/// Which file to load.
#[derive(Clone, Debug)]
pub struct Search {
    /// The file of `--config`. If there is one, no other place is tried.
    pub explicit: Option<PathBuf>,
    /// Tried in order when neither `--config` nor `$MCOMP_CONFIG` names a file.
    pub places: Vec<PathBuf>,
    /// What is laid over the file.
    pub overrides: Overrides,
}

impl Search {
    /// The usual search: `explicit`, `$MCOMP_CONFIG`, `./mcomp.cfg`, `/etc/mcomp/mcomp.cfg`.
    pub fn of_process(explicit: Option<PathBuf>) -> Self {
        Self {
            explicit,
            places: vec!["mcomp.cfg".into(), "/etc/mcomp/mcomp.cfg".into()],
            overrides: Overrides::of_process(),
        }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        match self.explicit.clone().or_else(|| self.named_by_variable()) {
            Some(named) => vec![named],
            None => self.places.clone(),
        }
    }

    fn named_by_variable(&self) -> Option<PathBuf> {
        let mut environment = self.overrides.environment.iter();
        let (_, path) = environment.find(|(name, path)| name == CONFIG_VARIABLE && !path.is_empty())?;
        Some(PathBuf::from(path))
    }
}

impl Config {
    /// Finds, reads and checks the file.
    pub fn load(search: &Search) -> Result<Self, ConfigError> {
        search.overrides.data.as_deref().map_or(Ok(()), check_folder)?;
        let looked = search.candidates();
        for path in &looked {
            match File::open(path) {
                Ok(file) => return Self::parse(&read(file, path)?, path, &search.overrides),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(path, error)),
            }
        }
        // A variable that was to name the file may be the one that is spelled wrong.
        match misspelled_variables(&search.overrides) {
            problems if problems.is_empty() => Err(ConfigError::NotFound { looked }),
            problems => Err(ConfigError::Invalid(problems)),
        }
    }
}

/// A folder that was named must be there: a slip must not look like a folder without snapshots.
fn check_folder(path: &Path) -> Result<(), ConfigError> {
    let is_folder = path.metadata().and_then(|facts| match facts.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    is_folder.map_err(|source| ConfigError::Data { path: path.into(), source })
}

fn read(file: File, path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Err(error) => Err(unreadable(path, error)),
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => {
            Err(ConfigError::TooLong { path: path.into(), limit_bytes: FILE_BYTES_MAX })
        }
        Ok(_) => Ok(text),
    }
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Unreadable { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_SERVER: &str = "cluster = { name = 'one', k = '1M', n = 1 }\n\
                              [[server]]\n\
                              address = '127.0.0.1:7401'\n";

    fn search(places: &[&Path]) -> Search {
        Search { explicit: None, places: places.iter().map(PathBuf::from).collect(), overrides: Overrides::default() }
    }

    fn folder_with_file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcomp.cfg");
        std::fs::write(&path, ONE_SERVER).unwrap();
        (folder, path)
    }

    #[test]
    fn the_first_place_that_holds_a_file_wins() {
        let (folder, path) = folder_with_file();
        let missing = folder.path().join("missing.cfg");
        let config = Config::load(&search(&[&missing, &path])).unwrap();
        assert_eq!(config.path(), path);
        assert_eq!(config.snapshot().dir, folder.path().join("snapshots"));
    }

    #[test]
    fn a_named_file_that_is_missing_ends_the_search() {
        let (folder, path) = folder_with_file();
        let missing = folder.path().join("missing.cfg");
        let mut by_flag = search(&[&path]);
        by_flag.explicit = Some(missing.clone());
        let mut by_variable = search(&[&path]);
        by_variable.overrides.environment = vec![("MCOMP_CONFIG".into(), missing.clone().into())];
        for search in [by_flag, by_variable] {
            let error = Config::load(&search).unwrap_err();
            assert!(matches!(&error, ConfigError::NotFound { looked } if *looked == [missing.clone()]));
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_an_empty_variable_is_unset() {
        let (folder, path) = folder_with_file();
        let mut search = search(&[&path]);
        search.overrides.environment = vec![("MCOMP_CONFIG".into(), "".into())];
        assert_eq!(Config::load(&search).unwrap().path(), path);
        search.overrides.environment = vec![("MCOMP_CONFIG".into(), folder.path().into())];
        search.explicit = Some(path.clone());
        assert_eq!(Config::load(&search).unwrap().path(), path);
    }

    #[test]
    fn no_file_at_all_names_every_place() {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("a"), folder.path().join("b")];
        let error = Config::load(&search(&[&places[0], &places[1]])).unwrap_err();
        let message = error.to_string();
        for place in &places {
            assert!(message.contains(&place.display().to_string()), "{message}");
        }
    }

    #[test]
    fn the_folder_of_the_data_must_be_there() {
        let (folder, path) = folder_with_file();
        let mut search = search(&[&path]);
        search.overrides.data = Some(folder.path().into());
        assert_eq!(Config::load(&search).unwrap().snapshot().dir, folder.path().join("snapshots"));
        for wrong in [folder.path().join("missing"), path.clone()] {
            search.overrides.data = Some(wrong.clone());
            let message = Config::load(&search).unwrap_err().to_string();
            assert!(message.contains("--data") && message.contains(&wrong.display().to_string()), "{message}");
        }
    }

    #[test]
    fn a_misspelled_variable_is_told_where_no_file_is_found() {
        let mut search = search(&[Path::new("/no/such/mcomp.cfg")]);
        search.overrides.environment = vec![("MCOMP_CONFG".into(), "mcomp.cfg".into())];
        let message = Config::load(&search).unwrap_err().to_string();
        assert_eq!(message, "$MCOMP_CONFG: sets nothing; did you mean MCOMP_CONFIG?");
    }

    #[test]
    fn what_is_no_text_file_of_a_sane_length_is_refused() {
        let (folder, path) = folder_with_file();
        let error = Config::load(&search(&[folder.path()])).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");

        std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
        let error = Config::load(&search(&[&path])).unwrap_err();
        assert!(matches!(error, ConfigError::TooLong { .. }), "{error}");

        std::fs::write(&path, b"\xff\xfe").unwrap();
        let message = Config::load(&search(&[&path])).unwrap_err().to_string();
        assert!(message.contains("UTF-8"), "{message}");
    }
}
