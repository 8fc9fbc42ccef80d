//! What other replicas ask and say.

use std::sync::atomic::Ordering;

use mcomp_quorum::{Ask, Ballot, Register, Reply, accept, answer};
use mcomp_wire::Status;
use mcomp_wire::replica::{Envelope, Item, Value, Word};

use super::held::Held;
use super::hold::is_question;
use super::page::{self, Page};
use super::{Outgoing, Replicas, View};
use crate::memory::Refusal;

impl Replicas {
    /// Takes a frame of another server. There is no answer; what there is to say goes over this server's own link.
    pub(crate) fn receive(&self, body: &[u8]) -> Result<(), Refusal> {
        let malformed = |error| Refusal::new(Status::Malformed, format!("a message about blocks: {error}"));
        let (envelope, items) = Envelope::parse(body).map_err(malformed)?;
        if envelope.from >= self.servers() {
            let message = format!("there is no server {} yet: `mcomp member add` adds one", envelope.from);
            return Err(Refusal::new(Status::Unavailable, message));
        }
        if envelope.from == self.id {
            let message = format!("server {} does not speak to server {}", envelope.from, self.id);
            return Err(Refusal::new(Status::Malformed, message));
        }
        let view = self.view.read();
        // A server that is behind hears of the epoch soon, and is asked again.
        if envelope.epoch != view.epoch || view.own.is_none() {
            if envelope.epoch < view.epoch {
                // Relaxed: a count.
                self.counts.stale.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        self.links.heard(envelope.from);
        // Of what is not held as this server is, only answers are taken.
        let is_aside = self.put_aside(&view, &envelope, body);
        let mut out = self.outgoing(&view);
        for item in items {
            let item = item.map_err(malformed)?;
            if !(is_aside && is_question(&item.word)) {
                self.take(&view, &envelope, &item, &mut out);
            }
        }
        Ok(())
    }

    pub(super) fn take(&self, view: &View, envelope: &Envelope, item: &Item<'_>, out: &mut Outgoing<'_>) {
        let block = item.block;
        let replicas = (self.replica_of(self.id, block), self.replica_of(envelope.from, block));
        // Servers whose configurations differ may not agree who keeps it.
        let (Some(me), Some(from)) = replicas else { return };
        match heard(&item.word) {
            Heard::Digest => {
                if let Some(digest) = self.digest(view, block) {
                    let (attempt, word) = (item.attempt, Word::Digested(digest));
                    out.push(envelope.from, &Item { block, attempt, word });
                }
            }
            Heard::Digested(digest) => self.digested(from, block, item.attempt, digest),
            Heard::Accept(ballot, value) => {
                let _shard = self.shard(block).lock();
                let hold = |held: &mut Held<'_>, promised| held.hold(ballot, promised, value);
                out.reply(envelope.from, item, accept(&mut self.held(view, me, block), ballot, hold));
            }
            Heard::Ask(ask) => {
                let _shard = self.shard(block).lock();
                out.reply(envelope.from, item, answer(&mut self.held(view, me, block), ask));
            }
            Heard::Reply(reply @ Reply::Shown(..)) => self.shown(view, me, from, block, reply),
            Heard::Reply(reply) => {
                let mut shard = self.shard(block).lock();
                if shard.coordinators.contains_key(&block) {
                    self.with(view, &mut shard, block, out, |coordinator, held| {
                        coordinator.heard(held, from, item.attempt, reply);
                    });
                }
            }
        }
    }
}

impl Outgoing<'_> {
    /// Answers a question, if there is an answer.
    fn reply(&mut self, to: u32, question: &Item<'_>, reply: Option<Reply<Register<Page>>>) {
        if let Some(reply) = reply {
            with_reply(&reply, |word| self.push(to, &Item { word, ..*question }));
        }
    }
}

enum Heard<'a> {
    /// It is held as the frame has it.
    Accept(Ballot, &'a Value<'a>),
    Ask(Ask<Register<Page>>),
    Reply(Reply<Register<Page>>),
    Digest,
    Digested(u64),
}

fn heard<'a>(word: &'a Word<'a>) -> Heard<'a> {
    let ballot = |bits: u64| Ballot::from_bits(bits);
    match word {
        Word::Report => Heard::Ask(Ask::Report),
        Word::Prepare(at) => Heard::Ask(Ask::Prepare(ballot(*at))),
        Word::Accept(at, value) => Heard::Accept(ballot(*at), value),
        Word::Show => Heard::Ask(Ask::Show),
        Word::Reported(at) => Heard::Reply(Reply::Reported(ballot(*at))),
        Word::Promised(at, value) => Heard::Reply(Reply::Promised(ballot(*at), page::from_value(value))),
        Word::Accepted => Heard::Reply(Reply::Accepted),
        Word::Shown(promised, accepted, value) => {
            Heard::Reply(Reply::Shown(ballot(*promised), ballot(*accepted), page::from_value(value)))
        }
        Word::Refused(at) => Heard::Reply(Reply::Refused(ballot(*at))),
        Word::Digest => Heard::Digest,
        Word::Digested(digest) => Heard::Digested(*digest),
    }
}

/// Calls `see` with a question as a frame holds it.
pub(super) fn with_ask(ask: &Ask<Register<Page>>, see: impl FnOnce(Word<'_>)) {
    match ask {
        Ask::Report => see(Word::Report),
        Ask::Prepare(ballot) => see(Word::Prepare(ballot.to_bits())),
        Ask::Accept(ballot, value) => page::with_value(value, |value| see(Word::Accept(ballot.to_bits(), value))),
        Ask::Show => see(Word::Show),
    }
}

fn with_reply(reply: &Reply<Register<Page>>, see: impl FnOnce(Word<'_>)) {
    match reply {
        Reply::Reported(ballot) => see(Word::Reported(ballot.to_bits())),
        Reply::Promised(ballot, value) => {
            page::with_value(value, |value| see(Word::Promised(ballot.to_bits(), value)));
        }
        Reply::Accepted => see(Word::Accepted),
        Reply::Shown(promised, accepted, value) => page::with_value(value, |value| {
            see(Word::Shown(promised.to_bits(), accepted.to_bits(), value));
        }),
        Reply::Refused(ballot) => see(Word::Refused(ballot.to_bits())),
    }
}
