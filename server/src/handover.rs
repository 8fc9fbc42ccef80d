//! The giving side of a hand-over: at most one successor, which was told yes.
//!
//! A server does not end its own process: whoever runs it says with [`OnHandover`] how it is stopped. Without that,
//! it hands nothing over.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mcomp_wire::Status;

use crate::memory::Refusal;

/// How a server is stopped that hands over: called with the process id of the successor, which was told so. It must
/// have the server stopped and its process ended soon, and return at once.
#[derive(Clone)]
pub struct OnHandover(Arc<dyn Fn(u32) + Send + Sync>);

impl OnHandover {
    /// Does `act`.
    pub fn new(act: impl Fn(u32) + Send + Sync + 'static) -> OnHandover {
        OnHandover(Arc::new(act))
    }
}

impl fmt::Debug for OnHandover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnHandover")
    }
}

/// Whether and to whom a server hands over.
#[derive(Debug)]
pub(crate) struct Handover {
    act: Option<OnHandover>,
    /// SeqCst only for want of a reason: it is taken once in a server's life.
    is_promised: AtomicBool,
}

impl Handover {
    pub(crate) fn new(act: Option<OnHandover>) -> Handover {
        Handover { act, is_promised: AtomicBool::new(false) }
    }

    /// Promises the segment to one successor; what comes back carries it out.
    pub(crate) fn promise(&self) -> Result<Promise<'_>, Refusal> {
        let Some(act) = &self.act else {
            let message = "this server is a part of another program, which does not hand it over";
            return Err(Refusal::new(Status::Denied, message));
        };
        if self.is_promised.swap(true, Ordering::SeqCst) {
            return Err(Refusal::new(Status::Busy, "it is being handed over to another process already"));
        }
        Ok(Promise { handover: self, act })
    }
}

/// A hand-over that was promised, and is not promised any more if this is dropped.
#[must_use]
pub(crate) struct Promise<'h> {
    handover: &'h Handover,
    act: &'h OnHandover,
}

impl Promise<'_> {
    /// Has the server stopped for the successor.
    pub(crate) fn keep(self, successor: u32) {
        (self.act.0)(successor);
        std::mem::forget(self);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.handover.is_promised.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use mcomp_net::{CallError, Connection};
    use mcomp_shm::{Opened, ShmError};
    use mcomp_wire::control::RestoreBegin;
    use mcomp_wire::{Kind, Role};
    use uuid::Uuid;

    use super::*;
    use crate::fixture::{DEADLOCK, Running, config, remove_folder};
    use crate::{Options, Server, StartError};

    /// A server that tells who is to take it over.
    fn obliging() -> (Running, Receiver<u32>) {
        let (asked, successors) = channel();
        let on_handover = OnHandover::new(move |pid| asked.send(pid).expect("the test listens"));
        (Running::start_with(&Options { on_handover: Some(on_handover), ..Options::default() }), successors)
    }

    fn refusal(connection: &mut Connection) -> Status {
        match connection.call::<_, ()>(Kind::Handover, &()) {
            Err(CallError::Refused { status, .. }) => status,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    #[test]
    fn it_is_for_an_admin_of_this_user_and_machine() {
        let (running, successors) = obliging();
        for role in [Role::Client, Role::Node] {
            assert_eq!(refusal(&mut running.connect_here(role)), Status::Denied);
        }
        let mut from_afar = running.connect_as(Role::Admin, Uuid::nil()).unwrap();
        assert_eq!(refusal(&mut from_afar), Status::Denied, "TCP does not say who asks");
        let mut first = running.connect_here(Role::Admin);
        first.call::<_, ()>(Kind::Handover, &()).expect("it is allowed");
        assert_eq!(successors.recv_timeout(DEADLOCK), Ok(std::process::id()), "the refused ones have not stopped it");
        assert_eq!(refusal(&mut running.connect_here(Role::Admin)), Status::Busy, "there is one successor");
        assert!(successors.try_recv().is_err());
    }

    /// A restart must not cut off a restore, nor agree to a stop that has to wait for all of a shadow area.
    #[test]
    fn it_waits_for_what_would_be_lost() {
        let (running, successors) = obliging();
        let restore = Uuid::from_u128(1);
        let mut admin = running.connect_here(Role::Admin);
        let epoch = admin.greeting().welcome.config_epoch;
        running.server.shared.restores.begin(u64::MAX, epoch, &RestoreBegin { restore }).expect("nobody restores");
        assert_eq!(refusal(&mut admin), Status::Busy, "a restore");
        running.server.shared.restores.connection_closed(u64::MAX);
        let allocating = running.server.shared.cuts.keep_busy();
        assert_eq!(refusal(&mut admin), Status::Busy, "a shadow area");
        drop(allocating);
        assert!(successors.try_recv().is_err());
        admin.call::<_, ()>(Kind::Handover, &()).expect("nothing is in the way");
        successors.recv_timeout(DEADLOCK).expect("it is asked");
    }

    #[test]
    fn a_server_inside_another_program_stays() {
        let running = Running::start();
        assert_eq!(refusal(&mut running.connect_here(Role::Admin)), Status::Denied);
    }

    #[test]
    fn a_promise_that_is_not_kept_binds_nobody() {
        let (running, successors) = obliging();
        let handover = &running.server.shared.handover;
        drop(handover.promise().expect("nobody has it"));
        handover.promise().expect("nobody has it").keep(7);
        assert_eq!(successors.try_recv(), Ok(7));
        assert!(handover.promise().is_err());
    }

    #[test]
    fn a_server_takes_over_from_a_running_one() {
        let (asked, successors) = channel();
        let on_handover = OnHandover::new(move |pid| asked.send(pid).expect("the test listens"));
        let config = config();
        let giving = Options { on_handover: Some(on_handover), ..Options::default() };
        let taking = Options { takes_over: true, ..Options::default() };
        let mut first = Server::start(&config, &giving).expect("a server");
        let held = Server::start(&config, &Options::default()).unwrap_err();
        assert!(matches!(held, StartError::Segment(ShmError::Busy { .. })), "{held}");
        let scratch = config.clone();
        let second = std::thread::spawn(move || Server::start(&config, &taking));
        successors.recv_timeout(DEADLOCK).expect("it is asked");
        assert!(first.stop());
        drop(first);
        let second = second.join().unwrap().expect("the segment is free");
        std::fs::remove_file(second.shared.segment.path()).expect("nobody else has removed it");
        assert!(matches!(second.opened(), Opened::TakenOver { clean: true, .. }), "{:?}", second.opened());
        drop(second);
        remove_folder(&scratch);
    }
}
