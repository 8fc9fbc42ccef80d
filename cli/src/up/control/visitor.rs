//! The side of `mcomp up --restart`: it asks the `mcomp up` that runs, and tells what came of it.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::{PeerProcess, Stream, own_user};

use super::line::Lines;
use super::{Answer, Request, Restarted, endpoint};
use crate::exit::{Exit, Failure};
use crate::globals::Globals;
use crate::output;

/// For a connection: the one who listens is on this machine.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Has the servers `ids` restarted, one after the other, by the `mcomp up` that runs them. Each may take `patience`.
pub(in crate::up) fn restart(
    globals: &Globals,
    config: &Config,
    ids: &[u32],
    patience: Duration,
    start: &str,
) -> anyhow::Result<Exit> {
    let mut lines = connect(config, start)?;
    for &id in ids {
        match ask(&mut lines, &Request::Restart { id }, patience)? {
            Answer::Ok(restarted) => tell(globals, &restarted)?,
            Answer::Fail { kind, error, exit } => {
                return Err(Failure::new(Exit::from_code(exit), known_word(&kind), error).into());
            }
        }
    }
    Ok(Exit::DONE)
}

fn connect(config: &Config, start: &str) -> Result<Lines, Failure> {
    let endpoint = endpoint(config);
    let stream = Stream::connect(&endpoint, CONNECT_PATIENCE).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            let text = format!("no `mcomp up` of cluster {} runs here as this user: {start} starts it", config.name());
            Failure::new(Exit::UNAVAILABLE, "unavailable", text)
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let text = format!("the `mcomp up` at {endpoint} does not take a connection; it may be frozen");
            Failure::new(Exit::TRY_AGAIN, "busy", text)
        }
        _ => Failure::io(format_args!("connect to {endpoint}"), &error),
    })?;
    let peer = PeerProcess::of(&stream).map_err(|error| Failure::io("ask who listens", &error))?;
    match peer.is_own_user() {
        true => Ok(Lines::new(stream)),
        false => {
            let text = format!("{endpoint} is held by user {}, and this is user {}", peer.user, own_user());
            Err(Failure::new(Exit::NOT_PERMITTED, "denied", text))
        }
    }
}

/// Without an answer it may have been done.
fn ask(lines: &mut Lines, request: &Request, patience: Duration) -> Result<Answer, Failure> {
    let unknown = |text: String| Failure::new(Exit::UNKNOWN, "unknown", text);
    lines.send(request).map_err(|error| unknown(format!("the request may not have arrived: {error}")))?;
    match lines.next(Instant::now() + patience) {
        Ok(Some(line)) => serde_json::from_slice(&line)
            .map_err(|error| unknown(format!("the answer of `mcomp up` cannot be read: {error}"))),
        Ok(None) => Err(unknown("`mcomp up` ended before it answered".to_owned())),
        Err(_) => {
            let after = patience.as_secs_f64();
            Err(unknown(format!("`mcomp up` has not answered within {after} s; `mcomp status` shows what runs")))
        }
    }
}

/// The stable word of an answer, if this version knows it.
fn known_word(kind: &str) -> &'static str {
    const WORDS: [&str; 7] = ["usage", "busy", "io", "start", "unavailable", "interrupted", "denied"];
    WORDS.into_iter().find(|word| *word == kind).unwrap_or("refused")
}

fn tell(globals: &Globals, restarted: &Restarted) -> io::Result<()> {
    match globals.json {
        true => output::json(&output::Done::with(restarted)),
        false => output::line(format_args!("mcomp up: {restarted}")),
    }
}

impl fmt::Display for Restarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restarted { id, pid, was, down_ms } = self;
        match was {
            Some(was) => write!(f, "server {id} restarted in {down_ms} ms: process {pid} after {was}"),
            None => write!(f, "server {id} started in {down_ms} ms: process {pid}"),
        }
    }
}
