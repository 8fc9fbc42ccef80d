//! Log events on stderr, one a line.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::flags::LogFormat;
use crate::globals::Globals;

/// Says which events are wanted, in the grammar of `RUST_LOG`.
const VARIABLE: &str = "MCOMP_LOG";

/// Sends log events to stderr from now on. `$MCOMP_LOG` wins over `-q` and `-v`.
pub(crate) fn start(globals: &Globals) {
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    match globals.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
