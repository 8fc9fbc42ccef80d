//! One run: starts its threads, waits for them, and merges what they measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mcomp_client::{Cluster, Options};

use super::plan::{Amount, Plan, Shape};
use super::tally::Tally;
use super::worker::{Done, Shared, Task, Worker};
use crate::exit::{Exit, Failure};

/// How often somebody who waits is told how far it is.
const TICK: Duration = Duration::from_millis(100);

/// One run and what came of it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) shape: Shape,
    pub(super) tally: Tally,
}

/// Measures one run. `progress` is told which part of it is over, from 0 to 1.
pub(super) fn run(
    plan: &Plan,
    shape: Shape,
    options: &Options,
    random: &mut Rng,
    stop: &AtomicBool,
    mut progress: impl FnMut(f64),
) -> anyhow::Result<Run> {
    let done: Vec<Done> = (0..shape.connections).map(|_| Done::default()).collect();
    let started = Instant::now();
    let mut workers = Vec::new();
    for (index, done) in (0..).zip(&done) {
        let cluster = Cluster::with_options(Options { max_connections: 1, ..options.clone() })?;
        let task = task(plan, shape, index, started)?;
        workers.push(Worker::new(task, Shared { stop, done }, cluster, random.fork()));
    }
    let tally = run_threads(workers, stop, || progress(part_done(plan, started, &done)))?;
    Ok(Run { shape, tally })
}

/// What thread number `index` is to do. A count is divided among the threads.
fn task(plan: &Plan, shape: Shape, index: u64, started: Instant) -> Result<Task, Failure> {
    let threads = u64::from(shape.connections);
    let (time, count) = match plan.amount {
        Amount::Time(time) => (Some(time), u64::MAX),
        Amount::Count(count) => (None, count / threads + u64::from(index < count % threads)),
    };
    Ok(Task {
        places: plan.places(&shape)?,
        size_bytes: shape.size_bytes as usize,
        depth: shape.depth,
        reads_percent: plan.reads_percent,
        warm_until: started + plan.warm_up,
        time,
        count,
    })
}

fn run_threads(workers: Vec<Worker<'_>>, stop: &AtomicBool, tick: impl FnMut()) -> Result<Tally, Failure> {
    let (sender, tallies) = channel();
    thread::scope(|scope| {
        for worker in workers {
            let sender = sender.clone();
            // A receiver that has left has an error to report.
            let body = move || drop(sender.send(worker.run()));
            let spawned = thread::Builder::new().name("bench".into()).spawn_scoped(scope, body);
            if let Err(error) = spawned {
                stop.store(true, Ordering::Relaxed);
                let text = format!("this machine gives no further thread: {error}; choose fewer --connections");
                return Err(Failure::new(Exit::TRY_AGAIN, "busy", text));
            }
        }
        drop(sender);
        Ok(collect(&tallies, tick))
    })
}

/// Merges the tallies of all threads as they end.
fn collect(tallies: &Receiver<Tally>, mut tick: impl FnMut()) -> Tally {
    let mut whole = Tally::default();
    loop {
        match tallies.recv_timeout(TICK) {
            Ok(tally) => whole.merge(tally),
            Err(RecvTimeoutError::Timeout) => tick(),
            Err(RecvTimeoutError::Disconnected) => return whole,
        }
    }
}

fn part_done(plan: &Plan, started: Instant, done: &[Done]) -> f64 {
    let (is, will_be) = match plan.amount {
        Amount::Time(time) => (started.elapsed().as_secs_f64(), (plan.warm_up + time).as_secs_f64()),
        Amount::Count(count) => {
            let done: u64 = done.iter().map(|done| done.0.load(Ordering::Relaxed)).sum();
            (done as f64, count as f64)
        }
    };
    (is / will_be).min(1.0)
}
