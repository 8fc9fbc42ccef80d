//! The one thread that owns the node: messages, commands and time in; disk, links, answers and orders out.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use mcomp_consensus::{Advanced, Node, TICK_MS};
use mcomp_wire::Shape;
use mcomp_wire::meta::{Found, MembersReport, Query};
use rustix::time::{ClockId, clock_gettime};

use super::desk::Desk;
use super::hands::Order;
use super::links::Links;
use super::store::Store;
use super::{Input, MetadataError};
use crate::grown::OnGrown;
use crate::replica::Replicas;

/// Inputs that are taken before the disk is asked: they share one write.
const BATCH: usize = 512;

/// The thread's whole state.
pub(super) struct Driver {
    node: Node,
    store: Store,
    desk: Desk,
    orders: SyncSender<Order>,
    links: Links,
    replicas: Option<Arc<Replicas>>,
    on_grown: Option<OnGrown>,
    /// How far the cluster had grown when this server was started, and how many servers were added.
    grown: (Shape, usize),
    next_tick_ms: u64,
    /// Who led when it was looked last, and in which term.
    leader: (Option<u32>, u64),
    /// The entry that the memory was told of last.
    ordered: u64,
}

impl Driver {
    pub(super) fn new(
        node: Node,
        store: Store,
        orders: SyncSender<Order>,
        links: Links,
        replicas: Option<Arc<Replicas>>,
        on_grown: Option<OnGrown>,
    ) -> Driver {
        let next_tick_ms = boot_time_ms() + TICK_MS;
        let desk = Desk::default();
        let (grown, leader) = (grown(node.state().members()), (None, 0));
        Driver { node, store, desk, orders, links, replicas, on_grown, grown, next_tick_ms, leader, ordered: 0 }
    }

    /// Has the memory told what the log on disk says, as far as it is known to be agreed on. Before anybody is served:
    /// a fence that this server had refused before it was restarted is refused again.
    pub(super) fn begin(&mut self) -> Result<(), MetadataError> {
        self.node.set_time(boot_time_ms());
        self.order(Order::whole(self.node.state()));
        self.work()
    }

    /// Runs until it is told to stop, or the disk fails: what was promised might not be there then.
    pub(super) fn run(mut self, inputs: &Receiver<Input>) {
        while let Some(goes_on) = self.step(inputs) {
            if let Err(error) = goes_on {
                tracing::error!(%error, "this server takes no part in the metadata any more");
                return;
            }
        }
    }

    fn step(&mut self, inputs: &Receiver<Input>) -> Option<Result<(), MetadataError>> {
        let mut questions = Vec::new();
        self.node.set_time(boot_time_ms());
        let mut input = match inputs.recv_timeout(self.patience()) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        self.node.set_time(boot_time_ms());
        for _ in 0..BATCH {
            match input {
                None => break,
                Some(Input::Stop) => return None,
                Some(Input::Query(query, waiter)) => questions.push((query, waiter)),
                Some(input) => {
                    if let Err(error) = self.take(input) {
                        return Some(Err(error));
                    }
                }
            }
            input = inputs.try_recv().ok();
        }
        self.ask(questions);
        self.tick();
        Some(self.work())
    }

    /// How long there is nothing to do by itself.
    fn patience(&self) -> Duration {
        let now_ms = boot_time_ms();
        let wake_ms = self.node.next_due_local_ms().unwrap_or(u64::MAX).min(self.next_tick_ms);
        Duration::from_millis(wake_ms.saturating_sub(now_ms))
    }

    fn take(&mut self, input: Input) -> Result<(), MetadataError> {
        match input {
            Input::Command(ask, waiter) => {
                if self.desk.command(&ask, waiter, boot_time_ms()) {
                    self.node.submit(ask);
                }
            }
            Input::Peer(from, message) => {
                let before = self.node.peer().seat;
                self.node.receive(from, message).map_err(|source| self.store.corrupt(source))?;
                let seat = self.node.peer().seat;
                if seat != before {
                    tracing::info!(seat, "this server was moved here");
                    self.replicas.iter().for_each(|replicas| replicas.take_seat(seat));
                }
            }
            Input::Connected(peer) => self.node.connected(peer),
            Input::Unreachable(peer) => self.node.unreachable(peer),
            Input::Query(..) | Input::Stop => unreachable!("taken before"),
        }
        Ok(())
    }

    /// Questions about this server itself are answered at once, all others together.
    fn ask(&mut self, questions: Vec<(Query, SyncSender<Result<Found, mcomp_meta::Refusal>>)>) {
        let is_own = |query: &Query| matches!(query, Query::Consensus | Query::MembersHere);
        let (own, shared): (Vec<_>, Vec<_>) = questions.into_iter().partition(|(query, _)| is_own(query));
        for (query, waiter) in own {
            let _ = waiter.try_send(Ok(self.node.query(&query)));
        }
        if !shared.is_empty() {
            let read = self.desk.questions(shared, boot_time_ms());
            self.node.read(read);
        }
    }

    /// A thread that was held up does not make up for the ticks that it has missed: nobody else was idle meanwhile.
    fn tick(&mut self) {
        let now_ms = boot_time_ms();
        if now_ms >= self.next_tick_ms {
            self.next_tick_ms = now_ms + TICK_MS;
            self.node.tick();
        }
        self.node.propose_due();
        let Found::Consensus(report) = self.node.query(&Query::Consensus) else { return };
        let leader = (report.leader, report.term);
        let has_new_leader = leader != self.leader && leader.0.is_some();
        if has_new_leader {
            tracing::info!(leader = report.leader, term = report.term, "the metadata has a leader");
        }
        self.leader = leader;
        let (asks, reads) = self.desk.again(now_ms, has_new_leader);
        asks.into_iter().for_each(|ask| self.node.submit(ask));
        reads.into_iter().for_each(|read| self.node.read(read));
    }

    /// Does what is ready, until nothing is.
    fn work(&mut self) -> Result<(), MetadataError> {
        while let Some(ready) = self.node.ready() {
            self.links.send(self.node.peer(), ready.send);
            self.store.write(&ready.persist)?;
            self.node.set_time(boot_time_ms());
            let advanced = self.node.advance().map_err(|source| self.store.corrupt(source))?;
            self.spread(advanced);
        }
        Ok(())
    }

    fn spread(&mut self, advanced: Advanced) {
        self.links.send(self.node.peer(), advanced.send);
        for (ticket, told) in &advanced.told {
            self.desk.told(*ticket, told);
        }
        for read in advanced.readable {
            self.desk.readable(read, |query| self.node.query(query));
        }
        if advanced.is_new_state {
            self.order(Order::whole(self.node.state()));
        } else if self.node.state().index() > self.ordered {
            self.order(Order::of(self.node.state(), advanced.effects));
        }
    }

    fn order(&mut self, order: Order) {
        self.ordered = self.node.state().index();
        let members = self.node.state().members();
        if grown(members) != self.grown {
            // Nothing that it knows of other servers holds for those that there are now, and what memory is its own may
            // be something else: the next start does what the log says.
            tracing::info!(servers = members.shape.servers(), step = members.shape.step, "the cluster has grown");
            return self.on_grown.iter().for_each(OnGrown::call);
        }
        self.links.follow(members);
        // Not by the other thread, which may wait for replicas.
        let seat = self.node.peer().seat;
        self.replicas.iter().for_each(|replicas| replicas.note(members, seat));
        // When the other thread is gone, the server stops.
        let _ = self.orders.send(order);
    }
}

fn grown(members: &MembersReport) -> (Shape, usize) {
    (members.shape, members.added.len())
}

/// Milliseconds since the machine started, those in which it slept included.
fn boot_time_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}
