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

use std::fmt;
use std::sync::mpsc::SyncSender;

use mcomp_config::Config;
use mcomp_net::{Endpoint, own_user};
use serde::{Deserialize, Serialize};

use super::Role;
use crate::exit::Exit;

pub(super) use desk::Desk;
pub(super) use visitor::{Visit, visit};

/// What a running `mcomp up` can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// To stop a server in good order, if it runs, and to start it.
    Restart {
        /// Which.
        id: u32,
    },
    /// To end a process on the spot.
    Kill(Role),
    /// To have a process stand still.
    Freeze(Role),
    /// To let it go on.
    Thaw(Role),
    /// To start it again after its death.
    Revive(Role),
}

impl Request {
    /// Which process it is about.
    pub(super) fn role(self) -> Role {
        match self {
            Request::Restart { id } => Role::Server(id),
            Request::Kill(role) | Request::Freeze(role) | Request::Thaw(role) | Request::Revive(role) => role,
        }
    }
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(super) enum Answer {
    /// It is done.
    Ok(Outcome),
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

/// What has come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// Of a restart.
    Restarted(Restarted),
    /// Of all others.
    Is(Condition),
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

/// How a process is after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// Which process.
    #[serde(flatten)]
    pub(crate) role: Role,
    /// Its process id; of a dead one, that of its last process.
    pub(crate) pid: u32,
    /// What it is like now.
    pub(crate) state: Life,
    /// Whether the request has made it so.
    pub(crate) changed: bool,
}

/// What a process can be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Life {
    /// There is no process.
    Dead,
    /// There is one that does nothing.
    Frozen,
    /// There is one, and it was ready once.
    Running,
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

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Restarted(restarted) => write!(f, "mcomp up: {restarted}"),
            Outcome::Is(condition) => condition.fmt(f),
        }
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

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition { role, pid, state, changed } = self;
        let is = match (state, changed) {
            (Life::Dead, true) => "was killed",
            (Life::Dead, false) => "is dead already",
            (Life::Frozen, true) => "is frozen",
            (Life::Frozen, false) => "is frozen already",
            (Life::Running, true) => "runs again",
            (Life::Running, false) => "runs already",
        };
        write!(f, "{role} (pid {pid}) {is}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_documented_ones() {
        let request = Request::Restart { id: 3 };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"op":"restart","id":3}"#);
        assert_eq!(serde_json::from_str::<Request>(r#"{"id":3,"op":"restart"}"#).unwrap(), request);
        let wrong = [
            r#"{"op":"restart"}"#,
            r#"{"op":"restart","id":-1}"#,
            r#"{"op":"stop","id":1}"#,
            r#"{"op":"kill","id":1}"#,
            r#"{"op":"kill","role":"master","id":1}"#,
            r#"{"op":"kill","role":"server","id":1,"signal":9}"#,
            "{}",
            "[]",
        ];
        for wrong in wrong {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
        let done = Answer::Ok(Outcome::Restarted(Restarted { id: 3, pid: 8, was: Some(7), down_ms: 21 }));
        let line = r#"{"outcome":"ok","id":3,"pid":8,"was":7,"down_ms":21}"#;
        assert_eq!(serde_json::to_string(&done).unwrap(), line);
        assert_eq!(serde_json::from_str::<Answer>(line).unwrap(), done);
        let failed = Answer::fail(Exit::USAGE, "usage", "no");
        let line = r#"{"outcome":"fail","kind":"usage","error":"no","exit":64}"#;
        assert_eq!(serde_json::to_string(&failed).unwrap(), line);
        assert_eq!(serde_json::from_str::<Answer>(line).unwrap(), failed);
    }

    #[test]
    fn processes_are_named_by_role_and_id() {
        let (server, snapshotter) = (Role::Server(1), Role::Snapshotter(0));
        for (request, line) in [
            (Request::Kill(server), r#"{"op":"kill","role":"server","id":1}"#),
            (Request::Freeze(server), r#"{"op":"freeze","role":"server","id":1}"#),
            (Request::Thaw(snapshotter), r#"{"op":"thaw","role":"snapshotter","id":0}"#),
            (Request::Revive(snapshotter), r#"{"op":"revive","role":"snapshotter","id":0}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        let killed = Condition { role: server, pid: 7, state: Life::Dead, changed: true };
        let line = r#"{"outcome":"ok","role":"server","id":1,"pid":7,"state":"dead","changed":true}"#;
        let answer = Answer::Ok(Outcome::Is(killed));
        assert_eq!(serde_json::to_string(&answer).unwrap(), line);
        assert_eq!(serde_json::from_str::<Answer>(line).unwrap(), answer);
        assert_eq!(killed.to_string(), "server 1 (pid 7) was killed");
    }
}
