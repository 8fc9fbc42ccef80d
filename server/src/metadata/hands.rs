//! What entries say to this server's memory, done in their order by a thread of its own.
//!
//! Bytes that have a new owner are zeroed, after every request that was admitted under the old rules has ended. Only
//! then is the entry's index published, and an owner may be told that the memory is his. The segment notes how far it
//! is, so that a restart zeroes nothing twice.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mcomp_meta::{Effect, State};
use mcomp_shm::Segment;
use mcomp_wire::{BLOCK_SIZE, Space};

use super::guards::Guards;
use crate::connections::Connections;
use crate::replica::Replicas;

/// Orders that may wait: a driver that is ahead by more waits for the memory.
const QUEUE: usize = 256;
/// Bytes that are zeroed at a time.
const STEP_BYTES: u64 = 16 << 20;

/// What came of some entries.
pub(super) struct Order {
    log_id: u64,
    index: u64,
    serial: u64,
    effects: Vec<(u64, Effect)>,
    /// The whole state, when the effects of single entries are not known.
    whole: Option<State>,
}

impl Order {
    pub(super) fn of(state: &State, effects: Vec<(u64, Effect)>) -> Order {
        Order { log_id: state.log_id(), index: state.index(), serial: state.serial(), effects, whole: None }
    }

    pub(super) fn whole(state: &State) -> Order {
        Order { whole: Some(state.clone()), ..Order::of(state, Vec::new()) }
    }
}

/// The thread's whole state.
pub(super) struct Hands {
    /// This server's part of the address space.
    first: u64,
    end: u64,
    segment: Arc<Segment>,
    connections: Arc<Connections>,
    replicas: Option<Arc<Replicas>>,
    guards: Arc<Guards>,
    orders: Receiver<Order>,
}

impl Hands {
    /// The hands, and where their orders go.
    pub(super) fn new(
        id: u32,
        space: Space,
        segment: Arc<Segment>,
        connections: Arc<Connections>,
        replicas: Option<Arc<Replicas>>,
        guards: Arc<Guards>,
    ) -> (Hands, SyncSender<Order>) {
        let (orders_in, orders) = sync_channel(QUEUE);
        let first = u64::from(id) * space.k();
        (Hands { first, end: first + space.k(), segment, connections, replicas, guards, orders }, orders_in)
    }

    /// Runs until nobody gives orders any more.
    pub(super) fn run(self) {
        while let Ok(order) = self.orders.recv() {
            self.obey(order);
        }
        self.guards.close();
    }

    fn obey(&self, order: Order) {
        let done = self.segment.agreed_index(order.log_id);
        let effects = match order.whole {
            None => order.effects,
            Some(state) => {
                // What the image says of zeroing has no order among itself; guards come first.
                let zeroes = state.zeroed_since(done).into_iter().map(|effect| (u64::MAX, effect));
                state.guards().into_iter().map(|effect| (0, effect)).chain(zeroes).collect()
            }
        };
        self.guards.learn(effects.iter().map(|(_, effect)| effect));
        if !effects.is_empty() {
            // Whoever was admitted before is done after this.
            self.connections.wait_for_requests(0);
        }
        self.guards.know(order.serial);
        for (index, effect) in effects {
            match effect {
                // Other replicas know what was zeroed, whatever this server's memory has come to.
                Effect::Zero { addr, len } if index > done || self.replicas.is_some() => {
                    self.zero(addr, len, if index == u64::MAX { order.index } else { index });
                }
                _ => {}
            }
        }
        // After a start the log is told again, from its last image or its beginning on: the memory was further.
        if order.log_id != 0 && order.index > done {
            self.segment.set_agreed_index(order.log_id, order.index);
        }
        self.guards.publish(order.index);
    }

    /// Zeroes this server's part of a range.
    fn zero(&self, addr: u64, len: u64, index: u64) {
        let (mut from, to) = (addr.max(self.first), (addr + len).min(self.end));
        if let Some(replicas) = &self.replicas {
            return replicas.zero(from, to.saturating_sub(from), index);
        }
        while from < to {
            let step = STEP_BYTES.min(to - from);
            let span = self.segment.span(from - self.first, step).expect("this server's own part");
            if let Err(torn) = self.segment.fill(span, 0) {
                let block = self.first + torn.block * BLOCK_SIZE;
                tracing::warn!(block, "memory with a new owner has a torn block, and stays as it is there");
            }
            from += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use mcomp_meta::{Entry, Stamp};
    use uuid::Uuid;

    use super::*;
    use crate::fixture::{K_BYTES, Scratch};

    /// Obeys orders one after the other, as a server that has just started does.
    fn obey(scratch: &Scratch, orders: Vec<Order>) {
        let space = Space::new(K_BYTES, 1).unwrap();
        let connections = Connections::new(4, None, 0);
        let (hands, _) = Hands::new(0, space, Arc::clone(&scratch.segment), connections, None, Arc::default());
        orders.into_iter().for_each(|order| hands.obey(order));
    }

    fn byte(scratch: &Scratch) -> u8 {
        let mut byte = [0];
        scratch.segment.read_into(scratch.segment.span(0, 1).unwrap(), &mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn memory_is_zeroed_once_also_when_the_log_is_told_again() {
        let scratch = Scratch::new();
        let mut state = State::new(Space::new(K_BYTES, 1).unwrap());
        let stamp = Stamp { random: Uuid::from_u128(7), ..Stamp::default() };
        state.apply(1, Entry { stamp, ask: None });
        let early = Order::whole(&state);
        state.skip(5);
        let zero = || vec![(5, Effect::Zero { addr: 0, len: 1 })];
        scratch.segment.fill(scratch.segment.span(0, 1).unwrap(), 9).unwrap();
        obey(&scratch, vec![Order::of(&state, zero())]);
        assert_eq!(byte(&scratch), 0);
        scratch.segment.fill(scratch.segment.span(0, 1).unwrap(), 9).unwrap();
        obey(&scratch, vec![early, Order::of(&state, zero())]);
        assert_eq!(byte(&scratch), 9, "what the owner wrote is there after a restart");
        assert_eq!(scratch.segment.agreed_index(state.log_id()), 5);
    }
}
