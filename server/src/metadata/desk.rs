//! Who waits for what the metadata says.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use mcomp_meta::{Refusal, Ticket};
use mcomp_wire::meta::{Ask, Found, Query, Told};

/// How long a command or a question is under way before it is asked again, in milliseconds.
const AGAIN_MS: u64 = 500;
/// How long one is kept that nobody asks for again.
const KEEP_MS: u64 = 4000;

type Waiter<T> = SyncSender<Result<T, Refusal>>;

/// Commands and questions without an answer.
#[derive(Debug, Default)]
pub(super) struct Desk {
    commands: HashMap<Ticket, Command>,
    /// By the read that will tell when they may be answered.
    questions: HashMap<u64, Questions>,
    next_read: u64,
}

#[derive(Debug)]
struct Command {
    ask: Ask,
    waiters: Vec<Waiter<Told>>,
    submitted_ms: u64,
    wanted_ms: u64,
}

/// Questions that are answered together.
#[derive(Debug)]
struct Questions {
    waiters: Vec<(Query, Waiter<Found>)>,
    read_ms: u64,
    wanted_ms: u64,
}

impl Desk {
    /// Notes who waits for a command; whether it is to be submitted.
    pub(super) fn command(&mut self, ask: &Ask, waiter: Waiter<Told>, now_ms: u64) -> bool {
        let command = || Command { ask: ask.clone(), waiters: Vec::new(), submitted_ms: 0, wanted_ms: now_ms };
        let command = self.commands.entry(Ticket::of(ask)).or_insert_with(command);
        command.waiters.push(waiter);
        command.wanted_ms = now_ms;
        let is_due = command.waiters.len() == 1 || now_ms >= command.submitted_ms + AGAIN_MS;
        if is_due {
            command.submitted_ms = now_ms;
        }
        is_due
    }

    /// Tells whoever waits.
    pub(super) fn told(&mut self, ticket: Ticket, told: &Result<Told, Refusal>) {
        for waiter in self.commands.remove(&ticket).into_iter().flat_map(|command| command.waiters) {
            // It may have given up.
            let _ = waiter.try_send(told.clone());
        }
    }

    /// Notes who waits for the answers to questions, under a read of its own.
    pub(super) fn questions(&mut self, waiters: Vec<(Query, Waiter<Found>)>, now_ms: u64) -> u64 {
        self.next_read += 1;
        self.questions.insert(self.next_read, Questions { waiters, read_ms: now_ms, wanted_ms: now_ms });
        self.next_read
    }

    /// Answers the questions of a read.
    pub(super) fn readable(&mut self, read: u64, answer: impl Fn(&Query) -> Found) {
        for (query, waiter) in self.questions.remove(&read).into_iter().flat_map(|questions| questions.waiters) {
            let _ = waiter.try_send(Ok(answer(&query)));
        }
    }

    /// What is to be asked again: everything, when somebody else leads now, or what has taken long.
    pub(super) fn again(&mut self, now_ms: u64, has_new_leader: bool) -> (Vec<Ask>, Vec<u64>) {
        self.commands.retain(|_, command| now_ms < command.wanted_ms + KEEP_MS);
        self.questions.retain(|_, questions| now_ms < questions.wanted_ms + KEEP_MS);
        let mut asks = Vec::new();
        for command in self.commands.values_mut() {
            if has_new_leader || now_ms >= command.submitted_ms + AGAIN_MS {
                command.submitted_ms = now_ms;
                asks.push(command.ask.clone());
            }
        }
        let mut reads = Vec::new();
        for (read, questions) in &mut self.questions {
            if has_new_leader || now_ms >= questions.read_ms + AGAIN_MS {
                questions.read_ms = now_ms;
                reads.push(*read);
            }
        }
        (asks, reads)
    }
}
