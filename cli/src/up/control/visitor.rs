//! The side of `mcomp up --restart` and of `mcomp kill`, `freeze`, `thaw` and `revive`: it asks the `mcomp up` that
//! runs, and tells what came of it.

use std::io;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::{PeerProcess, Stream, own_user};

use super::line::Lines;
use super::{Answer, Outcome, Request, endpoint};
use crate::exit::{Exit, Failure};
use crate::globals::Globals;
use crate::output;

/// For a connection: the one who listens is on this machine.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of the `mcomp up` that runs.
#[derive(Debug)]
pub(in crate::up) struct Visit<'a> {
    pub(in crate::up) globals: &'a Globals,
    pub(in crate::up) config: &'a Config,
    /// How long each request may take.
    pub(in crate::up) patience: Duration,
    /// The command that starts an `mcomp up`.
    pub(in crate::up) start: &'a str,
}

/// Has `requests` done, one after the other, and says what came of each.
pub(in crate::up) fn visit(visit: &Visit<'_>, requests: &[Request]) -> anyhow::Result<Exit> {
    let mut lines = connect(visit.config, visit.start)?;
    for request in requests {
        match ask(&mut lines, request, visit.patience)? {
            Answer::Ok(outcome) => tell(visit.globals, &outcome)?,
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

fn tell(globals: &Globals, outcome: &Outcome) -> io::Result<()> {
    match globals.json {
        true => output::json(&output::Done::with(outcome)),
        false => output::line(outcome),
    }
}
