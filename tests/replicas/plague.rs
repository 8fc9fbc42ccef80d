//! Servers are killed, frozen, cut off and emptied, one at a time, while clients are at work; in the end one of them stays
//! broken, and everything must go on.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::Signal;

use super::{SERVERS, lose_memory};
use crate::harness::{Cluster, Rule, wait_until};

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plague {
    Kill,
    Freeze,
    /// From the others, in one direction or both, or with messages that come twice.
    Cut,
    /// It comes back without its memory.
    Lose,
}

/// How often what was done.
#[derive(Debug, Default)]
pub(super) struct Plagues {
    pub(super) kills: u64,
    pub(super) freezes: u64,
    pub(super) cuts: u64,
    pub(super) losses: u64,
}

/// Says that it is over, also when a test fails.
pub(super) struct Stop<'a>(pub(super) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Has `threads` threads at work, and plagues among the servers, until `done` says `most`. Then one server is left frozen,
/// and the others go on without it; in the end all is well again.
pub(super) fn beside_plague(
    cluster: &mut Cluster,
    threads: usize,
    work: &(impl Fn(usize, &AtomicBool) + Sync),
    done: &(impl Fn() -> u64 + Sync),
    most: u64,
    seed: u64,
    kinds: &[Plague],
) -> Plagues {
    let stop = AtomicBool::new(false);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut plagues = Plagues::default();
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let stop = &stop;
                scope.spawn(move || {
                    // If one fails, the others have no reason to go on.
                    let _stop = Stop(stop);
                    work(thread, stop);
                })
            })
            .collect();
        let wait_for = |more: u64| {
            let enough = done() + more;
            wait_until("clients are at work", || done() >= enough || stop.load(Relaxed));
        };
        while done() < most && !stop.load(Relaxed) {
            wait_for(random.u64(20..200));
            let victim = random.u32(..SERVERS);
            let kind = kinds[random.usize(..kinds.len())];
            strike(cluster, victim, kind, &mut random, &wait_for, &mut plagues);
        }
        let broken = random.u32(..SERVERS);
        cluster.freeze_server(broken);
        wait_for(100);
        cluster.signal_server(broken, Signal::CONT);
        stop.store(true, Relaxed);
        workers.into_iter().for_each(|worker| worker.join().expect("a client found nothing wrong"));
    });
    cluster.wait_until_whole();
    plagues
}

fn strike(
    cluster: &mut Cluster,
    victim: u32,
    kind: Plague,
    random: &mut fastrand::Rng,
    wait_for: &impl Fn(u64),
    plagues: &mut Plagues,
) {
    match kind {
        Plague::Kill => {
            cluster.kill_server(victim);
            wait_for(random.u64(..60));
            cluster.start_server(victim);
            plagues.kills += 1;
        }
        Plague::Freeze => {
            cluster.freeze_server(victim);
            wait_for(random.u64(..60));
            cluster.signal_server(victim, Signal::CONT);
            plagues.freezes += 1;
        }
        Plague::Cut => {
            let rule = [Rule::Hold, Rule::Lose, Rule::Refuse, Rule::Repeat][random.usize(..4)];
            let (network, both) = (cluster.network(), random.bool());
            for other in (0..SERVERS).filter(|other| *other != victim) {
                network.rule(victim, other, rule);
                if both {
                    network.rule(other, victim, rule);
                }
            }
            wait_for(random.u64(..120));
            network.heal();
            plagues.cuts += 1;
        }
        Plague::Lose => {
            lose_memory(cluster, victim);
            // Until it is filled, another loss would be one too many.
            cluster.wait_until_whole();
            plagues.losses += 1;
        }
    }
}
