//! This server's part of a cut across the cluster.
//!
//! The master prepares every server (shadow area allocated), switches every server (from then on
//! writes belong to the new epoch, and answers are held), and releases every server once all have
//! switched. So no client can learn of an operation that is outside the snapshot and then start one
//! that is inside: the snapshot is the memory at one instant of real time.
//!
//! Writers never wait for a dead master: a hold ends by itself after a cap, and a cut ends when its
//! connection closes or its time is up. Either way the snapshot has failed and the master learns it
//! from its next message, which the cut no longer knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use mcomp_shm::{Mutant, Segment, ShmError, mutant, step_back};
use mcomp_wire::Status;
use mcomp_wire::control::{CutEnd, CutPrepare, CutPrepared, CutRelease, CutReleased, CutSettle, CutSwitch};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::counters::Counters;
use crate::memory::Refusal;
use crate::replica::Replicas;

/// The cuts of a server, one at a time.
#[derive(Debug)]
pub(crate) struct Cuts {
    segment: Arc<Segment>,
    /// The blocks, if they are replicated: then requests are held up, and not their answers.
    replicas: Option<Arc<Replicas>>,
    counters: Arc<Counters>,
    hold_max: Duration,
    time_limit: Duration,
    /// Guards the cut in progress. Taken before `hold`; held across the allocation and the release
    /// of the shadow area, which is why no connection takes it to answer a data request.
    control: Mutex<Control>,
    /// Guards the hold. Taken last, never across anything slow.
    hold: Mutex<Hold>,
    /// Whether the server stops: then no shadow area is wanted any more. Relaxed: a flag, looked at again soon.
    stopping: AtomicBool,
    /// Signalled when a hold ends.
    released: Condvar,
    /// Signalled when there is something to time, or nothing any more.
    timer: Condvar,
}

#[derive(Debug, Default)]
struct Control {
    current: Option<Cut>,
    /// The last cut that was ended by this server, and why.
    lost: Option<(Uuid, String)>,
}

#[derive(Debug)]
struct Cut {
    id: Uuid,
    /// The master's: only it may go on with the cut.
    connection: u64,
    /// Whether the new epoch has begun; it begins once.
    switched: bool,
    /// The epoch that it begins.
    epoch: u64,
    /// For how long answers were held, once they were released.
    held: Option<Duration>,
}

#[derive(Debug, Default)]
struct Hold {
    since: Option<Instant>,
    /// The epoch whose hold ran out; the timer ends its cut.
    ran_out: bool,
    /// The cut in progress, and when it has to be over.
    cut_ends: Option<(Uuid, Instant)>,
    stop: bool,
}

impl Cuts {
    pub(crate) fn new(
        segment: Arc<Segment>,
        replicas: Option<Arc<Replicas>>,
        counters: Arc<Counters>,
        hold_max: Duration,
        time_limit: Duration,
    ) -> Arc<Cuts> {
        let (control, hold) = (Mutex::default(), Mutex::default());
        let (released, timer) = (Condvar::new(), Condvar::new());
        let stopping = AtomicBool::new(false);
        Arc::new(Cuts { segment, replicas, counters, hold_max, time_limit, control, hold, stopping, released, timer })
    }

    /// Waits until no answers are held. Called before any answer of a data request leaves.
    #[inline]
    pub(crate) fn pass(&self) {
        if self.segment.held() != 0 {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        if mutant::active() == Mutant::ColourOnly {
            return;
        }
        let mut hold = self.hold.lock();
        while let Some(since) = hold.since {
            // The timer ends an overdue hold. Waiters do too: a starved timer must not stop writers.
            if self.released.wait_until(&mut hold, since + self.hold_max).timed_out() {
                self.run_out(&mut hold);
            }
        }
    }

    /// Allocates the shadow area and makes `request.cut` the cut in progress. A cut that was in
    /// progress is ended: its master started again, or another one took over.
    pub(crate) fn prepare(&self, connection: u64, request: &CutPrepare) -> Result<CutPrepared, Refusal> {
        let mut control = self.control.lock();
        self.end_current(&mut control, "another snapshot was started");
        if self.segment.is_restoring() {
            return Err(Refusal::new(Status::Restoring, "a restore is under way: the memory is not whole"));
        }
        if !self.prepare_shadow().map_err(|error| Refusal::new(Status::Full, error.to_string()))? {
            return Err(Refusal::new(Status::Stopping, "this server is stopping: the snapshot was not begun"));
        }
        control.current = Some(Cut { id: request.cut, connection, switched: false, epoch: 0, held: None });
        let mut hold = self.hold.lock();
        hold.cut_ends = Some((request.cut, Instant::now() + self.time_limit));
        self.timer.notify_all();
        Ok(CutPrepared {
            epoch: self.segment.epoch(),
            segment: Uuid::from_bytes(self.segment.segment_id()),
            config_epoch: self.segment.config_epoch(),
            is_whole: self.replicas.as_ref().is_none_or(|replicas| replicas.is_whole()),
        })
    }

    /// Allocates the shadow area in a thread that steps back: the kernel zeroes all of it. False when the server stops
    /// meanwhile, which does not wait for the rest.
    fn prepare_shadow(&self) -> Result<bool, ShmError> {
        let prepare = || self.segment.prepare_shadow_while(|| !self.stopping.load(Ordering::Relaxed));
        std::thread::scope(|scope| {
            let thread = Builder::new().name("prepare".into()).stack_size(128 << 10);
            let preparing = thread.spawn_scoped(scope, || {
                step_back();
                prepare()
            });
            match preparing {
                Ok(preparing) => preparing.join().expect("allocating does not panic"),
                // Without a thread it is done here, and writers may feel it.
                Err(_) => prepare(),
            }
        })
    }

    /// Begins the new epoch. From here on answers are held.
    ///
    /// The gate of a restore is looked at after the epoch has begun, and both are sequentially consistent: a
    /// restore that is not seen here has not written yet, so all of it is outside the snapshot.
    pub(crate) fn switch(&self, connection: u64, request: &CutSwitch) -> Result<(), Refusal> {
        let mut control = self.control.lock();
        let cut = control.current_mut(connection, request.cut)?;
        if cut.switched {
            return Err(Refusal::new(Status::CutLost, "this cut has begun its epoch already"));
        }
        cut.epoch = request.epoch;
        if let Some(replicas) = &self.replicas {
            return self.hold_up(&mut control, replicas, request.epoch);
        }
        let mut hold = self.hold.lock();
        self.segment.switch(request.epoch).map_err(|error| Refusal::new(Status::CutLost, error.to_string()))?;
        // The segment's words are set first: whoever sees them waits for this lock, then for us.
        cut.switched = true;
        hold.since = Some(Instant::now());
        hold.ran_out = false;
        self.timer.notify_all();
        drop(hold);
        if self.segment.is_restoring() {
            let reason = "a restore has begun: the memory is not whole";
            self.end_current(&mut control, reason);
            return Err(Refusal::new(Status::Restoring, reason));
        }
        Ok(())
    }

    /// The switch of replicated memory: requests are held up. The epoch begins with the release.
    fn hold_up(&self, control: &mut Control, replicas: &Replicas, epoch: u64) -> Result<(), Refusal> {
        {
            let mut hold = self.hold.lock();
            hold.since = Some(Instant::now());
            hold.ran_out = false;
            self.timer.notify_all();
        }
        let is_quiet = replicas.hold(epoch, self.hold_max / 2);
        let is_held = self.hold.lock().since.is_some();
        let reason = match (is_quiet, is_held, self.segment.is_restoring()) {
            (true, true, false) => {
                control.current.iter_mut().for_each(|cut| cut.switched = true);
                return Ok(());
            }
            (_, _, true) => "a restore has begun: the memory is not whole",
            _ => "what was under way has not ended in time",
        };
        // Whatever the timer has done meanwhile, it was before the hold.
        replicas.resume();
        self.end_current(control, reason);
        Err(Refusal::new(Status::CutLost, reason))
    }

    /// Brings replicated blocks up to date that are to be copied here. Every server has switched.
    pub(crate) fn settle(&self, connection: u64, request: &CutSettle) -> Result<(), Refusal> {
        let mut control = self.control.lock();
        let cut = control.current_mut(connection, request.cut)?;
        match (&self.replicas, cut.switched) {
            (Some(replicas), true) => replicas.settle(&request.homes, self.hold_max / 2),
            (None, _) => Err(Refusal::new(Status::UnknownKind, "the blocks of this server are not replicated")),
            (_, false) => Err(Refusal::new(Status::CutLost, "this cut has not begun its epoch")),
        }
    }

    /// Lets answers go: every server has switched.
    pub(crate) fn release(&self, connection: u64, request: &CutRelease) -> Result<CutReleased, Refusal> {
        let mut control = self.control.lock();
        let cut = control.current_mut(connection, request.cut)?;
        let mut hold = self.hold.lock();
        let held = cut.held.or(hold.since.map(|since| since.elapsed()));
        match held {
            Some(held) if held <= self.hold_max => {
                if self.replicas.is_some() && cut.held.is_none() {
                    let begun = self.segment.switch(cut.epoch);
                    begun.map_err(|error| Refusal::new(Status::CutLost, error.to_string()))?;
                }
                self.let_go(&mut hold);
                cut.held = Some(held);
                Ok(CutReleased { held_us: held.as_micros() as u64 })
            }
            Some(_) => {
                self.run_out(&mut hold);
                Err(Refusal::new(Status::CutLost, self.ran_out_message()))
            }
            // The hold has run out and the timer is about to end the cut, or there never was a switch.
            None => {
                Err(Refusal::new(Status::CutLost, "no answers are held for this cut: they were let go, or never held"))
            }
        }
    }

    /// Ends the cut, and counts it.
    pub(crate) fn end(&self, connection: u64, request: &CutEnd) -> Result<(), Refusal> {
        let mut control = self.control.lock();
        control.current_mut(connection, request.cut)?;
        self.finish(&mut control, request.failure.as_deref());
        Ok(())
    }

    /// Ends the cut of a connection that is gone.
    pub(crate) fn connection_closed(&self, connection: u64) {
        let mut control = self.control.lock();
        if control.current.as_ref().is_some_and(|cut| cut.connection == connection) {
            self.end_current(&mut control, "the snapshot master's connection closed");
        }
    }

    /// Whether the shadow area is being allocated or given back, for which a stop would have to wait.
    pub(crate) fn is_allocating(&self) -> bool {
        self.control.try_lock().is_none()
    }

    /// Ends whatever is in progress: the server stops.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.end_current(&mut self.control.lock(), "the server was stopped");
        self.hold.lock().stop = true;
        self.timer.notify_all();
    }

    /// The timer's thread: ends holds and cuts that last too long.
    pub(crate) fn run_timer(&self) {
        let mut hold = self.hold.lock();
        while !hold.stop {
            let now = Instant::now();
            if hold.since.is_some_and(|since| now >= since + self.hold_max) {
                self.run_out(&mut hold);
            }
            let ran_out = std::mem::take(&mut hold.ran_out);
            if let Some((cut, _)) = hold.cut_ends.filter(|&(_, ends)| ran_out || now >= ends) {
                let reason = if ran_out { self.ran_out_message() } else { self.too_long_message() };
                parking_lot::MutexGuard::unlocked(&mut hold, || self.end_overdue(cut, &reason));
                continue;
            }
            let hold_ends = hold.since.map(|since| since + self.hold_max);
            match hold_ends.into_iter().chain(hold.cut_ends.map(|(_, ends)| ends)).min() {
                Some(next) => drop(self.timer.wait_until(&mut hold, next)),
                None => self.timer.wait(&mut hold),
            }
        }
    }

    /// Ends the cut that was found overdue, unless it is over by now: the next one is not to blame.
    fn end_overdue(&self, cut: Uuid, reason: &str) {
        let mut control = self.control.lock();
        if control.current.as_ref().is_some_and(|current| current.id == cut) {
            self.end_current(&mut control, reason);
        }
    }

    fn end_current(&self, control: &mut Control, reason: &str) {
        if let Some(cut) = &control.current {
            control.lost = Some((cut.id, reason.to_owned()));
            self.finish(control, Some(reason));
        }
    }

    /// Ends the cut in progress: answers go, writers leave the shadow area alone, its memory is freed.
    fn finish(&self, control: &mut Control, failure: Option<&str>) {
        control.current = None;
        let mut hold = self.hold.lock();
        self.let_go(&mut hold);
        hold.ran_out = false;
        hold.cut_ends = None;
        drop(hold);
        if let Err(error) = self.segment.end_cut() {
            tracing::error!(%error, "the shadow area could not be given back");
        }
        self.counters.cut_ended(failure);
        match failure {
            None => tracing::debug!("cut ended"),
            Some(reason) => tracing::warn!(reason, "cut given up"),
        }
    }

    /// As while a shadow area is being allocated.
    #[cfg(test)]
    pub(crate) fn keep_busy(&self) -> impl Sized + '_ {
        self.control.lock()
    }

    fn run_out(&self, hold: &mut Hold) {
        hold.ran_out |= hold.since.is_some();
        self.let_go(hold);
        self.timer.notify_all();
    }

    fn let_go(&self, hold: &mut Hold) {
        if let Some(since) = hold.since.take() {
            self.counters.held(since.elapsed());
            self.segment.release(self.segment.held());
            self.replicas.iter().for_each(|replicas| replicas.resume());
            self.released.notify_all();
        }
    }

    fn ran_out_message(&self) -> String {
        format!("answers were held for {:?}, the longest allowed: a server or the master was too slow", self.hold_max)
    }

    fn too_long_message(&self) -> String {
        format!("the snapshot was not done within {:?}", self.time_limit)
    }
}

impl Control {
    /// The cut in progress, if it is `id` and was begun on this connection.
    fn current_mut(&mut self, connection: u64, id: Uuid) -> Result<&mut Cut, Refusal> {
        match (&mut self.current, &self.lost) {
            (Some(cut), _) if cut.id == id && cut.connection == connection => Ok(cut),
            (_, Some((lost, reason))) if *lost == id => Err(Refusal::new(Status::CutLost, reason.clone())),
            _ => Err(Refusal::new(Status::CutLost, format!("cut {id} is not in progress here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{DEADLOCK, Scratch};

    const MASTER: u64 = 1;

    fn cuts(scratch: &Scratch) -> Arc<Cuts> {
        Cuts::new(Arc::clone(&scratch.segment), None, Arc::default(), DEADLOCK, DEADLOCK)
    }

    fn prepare(cuts: &Cuts, id: u128) -> CutSwitch {
        let cut = Uuid::from_u128(id);
        let prepared = cuts.prepare(MASTER, &CutPrepare { cut }).unwrap();
        CutSwitch { cut, epoch: prepared.epoch + 1 }
    }

    #[test]
    fn a_restore_that_begins_after_prepare_is_in_no_snapshot() {
        let scratch = Scratch::new();
        let cuts = cuts(&scratch);
        let switch = prepare(&cuts, 1);
        scratch.segment.set_restoring(true);
        let refused = cuts.switch(MASTER, &switch).unwrap_err();
        assert_eq!(refused.status, Status::Restoring, "{}", refused.message);
        assert!(!scratch.segment.is_cutting() && scratch.segment.held() == 0);
        assert!(cuts.release(MASTER, &CutRelease { cut: switch.cut }).is_err());
    }

    /// A released cut must not pass for exact after a second hold, which may have run out.
    #[test]
    fn a_cut_begins_its_epoch_once() {
        let scratch = Scratch::new();
        let cuts = cuts(&scratch);
        let switch = prepare(&cuts, 1);
        cuts.switch(MASTER, &switch).unwrap();
        cuts.release(MASTER, &CutRelease { cut: switch.cut }).unwrap();
        let again = CutSwitch { epoch: switch.epoch + 1, ..switch };
        assert_eq!(cuts.switch(MASTER, &again).unwrap_err().status, Status::CutLost);
        assert_eq!(scratch.segment.held(), 0);
    }

    #[test]
    fn an_overdue_cut_does_not_take_the_next_one_with_it() {
        let scratch = Scratch::new();
        let cuts = cuts(&scratch);
        let (first, second) = (prepare(&cuts, 1), prepare(&cuts, 2));
        cuts.end_overdue(first.cut, "it ran out just before the second one began");
        cuts.switch(MASTER, &second).unwrap();
        cuts.end_overdue(second.cut, "it ran out");
        assert_eq!(cuts.release(MASTER, &CutRelease { cut: second.cut }).unwrap_err().status, Status::CutLost);
    }
    #[test]
    fn a_stopping_server_prepares_no_cut() {
        let scratch = Scratch::new();
        let cuts = cuts(&scratch);
        cuts.stop();
        let refused = cuts.prepare(MASTER, &CutPrepare { cut: Uuid::from_u128(1) }).unwrap_err();
        assert_eq!(refused.status, Status::Stopping, "{}", refused.message);
        assert!(scratch.segment.switch(scratch.segment.epoch() + 1).is_err(), "there is no shadow area");
    }
}
