//! The global flags, ready to run: where the configuration is found, what is laid over it, and how
//! much a command says.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mcomp_client::meta::Fence;
use mcomp_client::{Cluster, Error};
use mcomp_config::{Config, ConfigError, Search, format_duration};

use crate::flags::{GlobalFlags, LogFormat};
use crate::kept::{Kept, Member};

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
    /// The cluster and the session of the REPL that the command is a line of.
    pub(crate) kept: Option<Arc<Kept>>,
}

impl From<GlobalFlags> for Globals {
    fn from(flags: GlobalFlags) -> Globals {
        let GlobalFlags { config, data, json, timeout, remote, fence, quiet, verbose, log_format } = flags;
        Globals { config_path: config, data, json, timeout, remote, fence, quiet, verbose, log_format, kept: None }
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

    /// The flags of a line of a REPL, laid over those of the REPL itself. A line that means another cluster, or the
    /// same in another way, uses nothing that the REPL keeps.
    pub(crate) fn with_line(&self, line: GlobalFlags) -> Globals {
        let own = line.config.is_some() || line.data.is_some() || line.timeout.is_some() || line.fence.is_some();
        let keeps = !own && (self.remote || !line.remote);
        Globals {
            config_path: line.config.or_else(|| self.config_path.clone()),
            data: line.data.or_else(|| self.data.clone()),
            json: line.json || self.json,
            timeout: line.timeout.or(self.timeout),
            remote: line.remote || self.remote,
            fence: line.fence.or(self.fence),
            quiet: line.quiet || self.quiet,
            verbose: self.verbose,
            log_format: self.log_format,
            kept: self.kept.clone().filter(|_| keeps),
        }
    }

    /// The cluster of the configuration. Nothing is connected before it is needed.
    pub(crate) fn cluster(&self) -> anyhow::Result<Cluster> {
        if let Some(kept) = &self.kept {
            return Ok(kept.cluster().clone());
        }
        let cluster = Cluster::connect(&self.config()?)?;
        Ok(match self.fence {
            Some(fence) => cluster.fenced(fence),
            None => cluster,
        })
    }

    /// A session for one command, which closes it when it is done.
    pub(crate) fn session(&self, cluster: &Cluster) -> Result<Member, Error> {
        match &self.kept {
            Some(kept) => kept.session().map(Member::Kept),
            None => cluster.session().map(Member::Own),
        }
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
