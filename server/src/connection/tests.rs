//! What one connection does to the others, to the budget, and to a server that stops.

use mcomp_net::CallError;
use mcomp_wire::control::{RestoreAbort, RestoreBegin};
use mcomp_wire::{Ranges, Request};

use super::*;
use crate::fixture::{K_BYTES, Running};
use crate::outbox::SMALL;

/// A connection holds both at once: what it received last, and room for what it will answer.
#[test]
fn both_buffers_of_a_connection_are_counted() {
    let running = Running::start();
    let mut client = running.connect(Uuid::nil()).unwrap();
    let ranges: Vec<(u64, u64)> = vec![(0, K_BYTES); limits::MAX_PAYLOAD / K_BYTES as usize];
    let mut body = Vec::new();
    Ranges::emit(&ranges, &mut body);
    let mut with_data = body.clone();
    with_data.resize(body.len() + limits::MAX_PAYLOAD, 7);
    for _ in 0..4 {
        client.call_raw(Kind::ReadV, &body).unwrap();
        client.call_raw(Kind::WriteV, &with_data).unwrap();
        let taken = running.server.shared.budget.taken();
        let one_of_each = limits::MAX_PAYLOAD - SMALL..=limits::MAX_BODY + SMALL;
        assert!((2 * one_of_each.start()..=2 * one_of_each.end()).contains(&taken), "{taken} bytes");
    }
}

#[test]
fn a_client_that_comes_back_does_not_wait_for_a_shadow_area() {
    let running = Running::start();
    let session = Uuid::from_u128(7);
    let first = running.connect(session).unwrap();
    let allocating = running.server.shared.cuts.keep_busy();
    drop(first);
    let second = running.connect(session).expect("the broken connection let go of the session");
    assert!(second.greeting().welcome.resumed);
    drop(allocating);
}

#[test]
fn only_a_restore_that_wrote_leaves_the_memory_closed() {
    let running = Running::start();
    let write = |connection: &mut mcomp_net::Connection| {
        let mut body = Vec::new();
        Request::Write { addr: 0, data: b"x" }.emit(&mut body);
        match connection.call_raw(Kind::Write, &body) {
            Ok(_) => Status::Ok,
            Err(CallError::Refused { status, .. }) => status,
            Err(error) => panic!("{error}"),
        }
    };
    let mut client = running.connect(Uuid::nil()).unwrap();
    let mut admin = running.connect_as(Role::Admin, Uuid::nil()).unwrap();
    let restore = Uuid::from_u128(1);
    admin.call::<_, ()>(Kind::RestoreBegin, &RestoreBegin { restore }).unwrap();
    assert_eq!(write(&mut client), Status::Restoring);
    admin.call::<_, ()>(Kind::RestoreAbort, &RestoreAbort { restore }).unwrap();
    assert_eq!(write(&mut client), Status::Ok, "under the epoch that it knows");
    admin.call::<_, ()>(Kind::RestoreBegin, &RestoreBegin { restore }).unwrap();
    assert_eq!(write(&mut admin), Status::Ok);
    admin.call::<_, ()>(Kind::RestoreAbort, &RestoreAbort { restore }).unwrap_err();
    assert_eq!(write(&mut client), Status::Restoring);
}

#[test]
fn no_connection_keeps_the_segment_of_a_stopped_server() {
    for round in 0..50 {
        let mut running = Running::start();
        let clients: Vec<_> = (0..4).map(|_| running.connect(Uuid::nil()).unwrap()).collect();
        assert!(running.server.stop());
        assert_eq!(Arc::strong_count(&running.server.shared), 1, "round {round}");
        drop(clients);
    }
}
