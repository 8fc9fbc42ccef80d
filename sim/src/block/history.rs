//! What clients wanted and were told, and whether one register could have told them that.

use std::fmt;
use std::time::Duration;

use mcomp_quorum::Object;
use porcupine_rs::{CheckResult, Model, Operation};

use super::object::{Fields, Told, Wish};

/// The register as one thread would have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequential;

/// A wish and what came of it; nothing when nobody knows.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) wish: Wish,
    pub(super) told: Option<Told>,
}

impl Model for Sequential {
    type State = Fields;
    type Op = Seen;
    type Metadata = ();

    fn init() -> Fields {
        Fields::default()
    }

    fn step(state: &Fields, seen: &Seen) -> (bool, Fields) {
        let mut next = state.clone();
        let told = next.apply(&seen.wish);
        (seen.told.as_ref().is_none_or(|seen| *seen == told), next)
    }
}

/// Everything that clients saw, in the time of the simulation.
#[derive(Debug, Default)]
pub(super) struct History(Vec<Operation<Sequential>>);

impl History {
    /// An operation was answered, or given up without an answer: then it may be done at any time, or never.
    pub(super) fn saw(&mut self, client: usize, asked_at: u64, told_at: u64, wish: Wish, told: Option<Told>) {
        let return_time = if told.is_some() { told_at as i64 } else { i64::MAX };
        let client_id = Some(client as u32);
        let op = Seen { wish, told };
        self.0.push(Operation { client_id, call_time: asked_at as i64, return_time, op, metadata: None });
    }

    /// Whether it is linearizable. No verdict within `patience` is none that passes.
    pub(super) fn check(&self, patience: Duration) -> Result<(), String> {
        match porcupine_rs::check_operations_timeout(&self.0, patience) {
            CheckResult::Ok => Ok(()),
            verdict => Err(format!("the history is {verdict:?}{self}")),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Operation { client_id, call_time, return_time, op, .. } in &self.0 {
            let client = client_id.unwrap_or_default();
            match &op.told {
                Some(told) => write!(f, "\n{call_time}..{return_time} client {client}: {:?} {told:?}", op.wish)?,
                None => write!(f, "\n{call_time}.. client {client}: {:?}", op.wish)?,
            }
        }
        Ok(())
    }
}
