//! The global flags, ready to run: where the configuration is found, what is laid over it, and how
//! much a command says.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use mcomp_client::Cluster;
use mcomp_client::meta::Fence;
use mcomp_config::{Config, ConfigError, Search, format_duration};

use crate::flags::{GlobalFlags, LogFormat};

/// The global flags, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Globals {
    /// The file of `--config`.
    pub(crate) config_path: Option<PathBuf>,
    /// The folder of `--data`.
    pub(crate) data: Option<PathBuf>,
    /// Whether stdout is for machines.
    pub(crate) json: bool,
    /// The most that one request may take, when it was said.
    pub(crate) timeout: Option<Duration>,
    /// Whether servers of this machine are treated like others.
    pub(crate) remote: bool,
    /// What writes show.
    pub(crate) fence: Option<Fence>,
    /// Whether notes and progress are left out.
    pub(crate) quiet: bool,
    /// How much is logged.
    pub(crate) verbose: u8,
    /// How log events look.
    pub(crate) log_format: LogFormat,
}

impl From<GlobalFlags> for Globals {
    fn from(flags: GlobalFlags) -> Globals {
        let GlobalFlags { config, data, json, timeout, remote, fence, quiet, verbose, log_format } = flags;
        Globals { config_path: config, data, json, timeout, remote, fence, quiet, verbose, log_format }
    }
}

impl Globals {
    /// Finds and checks the configuration, with the flags laid over it.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let mut search = Search::of_process(self.config_path.clone());
        search.overrides.data = self.data.clone();
        if let Some(timeout) = self.timeout {
            search.overrides.flags.push(("client.timeout".into(), format_duration(timeout)));
        }
        if self.remote {
            let off = ["client.segment", "client.unix"].map(|key| (key.into(), "false".into()));
            search.overrides.flags.extend(off);
        }
        Config::load(&search)
    }

    /// The same for a process that keeps its data in the folder of `--data`, which is made if it is not there.
    pub(crate) fn config_of_process(&self) -> anyhow::Result<Config> {
        if let Some(data) = &self.data {
            fs::create_dir_all(data).with_context(|| format!("cannot make the folder {}", data.display()))?;
        }
        Ok(self.config()?)
    }

    /// The cluster of the configuration. Nothing is connected before it is needed.
    pub(crate) fn cluster(&self) -> anyhow::Result<Cluster> {
        let cluster = Cluster::connect(&self.config()?)?;
        Ok(match self.fence {
            Some(fence) => cluster.fenced(fence),
            None => cluster,
        })
    }

    /// The flags that make a child process of this program see the same configuration and log the
    /// same way.
    pub(crate) fn child_flags(&self, config: &Config) -> Vec<OsString> {
        let mut flags: Vec<OsString> = vec!["--config".into(), config.path().into()];
        if let Some(data) = &self.data {
            flags.extend(["--data".into(), data.into()]);
        }
        if self.quiet {
            flags.push("--quiet".into());
        }
        if self.log_format == LogFormat::Json {
            flags.extend(["--log-format".into(), "json".into()]);
        }
        flags.extend((0..self.verbose).map(|_| "--verbose".into()));
        flags
    }

    /// Whether long work shows how far it is: to a person, who did not ask for silence.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// Says something about the work on stderr, unless silence was asked for.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            // Who closed stderr does not want to hear it.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Says something that only a person at a terminal cares for.
    pub(crate) fn note_to_person(&self, text: impl Display) {
        if self.shows_progress() {
            self.note(text);
        }
    }
}
