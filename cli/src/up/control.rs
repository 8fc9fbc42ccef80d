//! The control socket of `mcomp up`: what a running one is asked, and what it answers.
//!
//! It is an abstract Unix socket, named after the cluster and the user, and takes one JSON object a line. Anybody on
//! the machine can connect to it, so both sides ask the kernel whether the other is of their own user, and speak to
//! nobody else. Lines are bounded, and so is every wait for one. What is asked is done by the thread that owns the
//! children, one thing after the other: the thread here only hands it on.
//!
//! docs/protocol.md says what stands in a line.

mod desk;
mod line;
mod visitor;

use std::sync::mpsc::SyncSender;

use mcomp_config::Config;
use mcomp_net::{Endpoint, own_user};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;

pub(super) use desk::Desk;
pub(super) use visitor::restart;

/// What a running `mcomp up` can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Request {
    /// To stop a server in good order, if it runs, and to start it.
    Restart {
        /// Which.
        id: u32,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(super) enum Answer {
    /// It is done.
    Ok(Restarted),
    /// It is not.
    Fail {
        /// The stable word.
        kind: String,
        /// A sentence that names the way out.
        error: String,
        /// The exit code for whoever asked.
        exit: u8,
    },
}

/// A server that was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restarted {
    /// Which.
    pub(crate) id: u32,
    /// Its process.
    pub(crate) pid: u32,
    /// The process before, if there was one to stop.
    pub(crate) was: Option<u32>,
    /// Milliseconds from the request to stop, or from the start if nothing was to be stopped, until it was ready.
    pub(crate) down_ms: u64,
}

impl Answer {
    pub(super) fn fail(exit: Exit, kind: &str, error: impl Into<String>) -> Answer {
        Answer::Fail { kind: kind.to_owned(), error: error.into(), exit: exit.code() }
    }
}

/// A request that waits for its answer. If it is dropped without one, whoever asked is told that there will be none.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) request: Request,
    reply: SyncSender<Answer>,
}

impl Call {
    pub(super) fn answer(self, answer: Answer) {
        // Who asked may have left; what was asked is done all the same.
        let _ = self.reply.send(answer);
    }
}

/// Where the `mcomp up` of this cluster and user listens. Ids of servers are numbers, so this is the name of none.
fn endpoint(config: &Config) -> Endpoint {
    Endpoint::Unix(format!("mcomp.{}.up.{}", config.name(), own_user()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_documented_ones() {
        let request = Request::Restart { id: 3 };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"op":"restart","id":3}"#);
        assert_eq!(serde_json::from_str::<Request>(r#"{"id":3,"op":"restart"}"#).unwrap(), request);
        for wrong in [r#"{"op":"restart"}"#, r#"{"op":"restart","id":-1}"#, r#"{"op":"stop","id":1}"#, "{}", "[]"] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
        let done = Answer::Ok(Restarted { id: 3, pid: 8, was: Some(7), down_ms: 21 });
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"outcome":"ok","id":3,"pid":8,"was":7,"down_ms":21}"#);
        let failed = Answer::fail(Exit::USAGE, "usage", "no");
        let line = r#"{"outcome":"fail","kind":"usage","error":"no","exit":64}"#;
        assert_eq!(serde_json::to_string(&failed).unwrap(), line);
        assert_eq!(serde_json::from_str::<Answer>(line).unwrap(), failed);
    }
}
