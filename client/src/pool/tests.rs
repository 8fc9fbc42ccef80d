//! The pool's rules one by one, with no other thread that could blur them. The server only greets.

use std::net::TcpListener;
use std::thread::JoinHandle;

use mcomp_net::{Endpoint, Inbox, Listener, Stream, begin_frame, finish_frame};
use mcomp_wire::control::{self, Hello, Welcome};
use mcomp_wire::{BLOCK_SIZE, Header, Space, flags, limits};

use super::*;

/// Greets whoever comes, and closes when it is dropped.
struct Greeter {
    listener: Arc<Listener>,
    thread: Option<JoinHandle<()>>,
}

impl Greeter {
    fn start() -> (Greeter, Options) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        drop(socket);
        let listener = Arc::new(Listener::bind(&Endpoint::Tcp(address.clone())).unwrap());
        let of_thread = Arc::clone(&listener);
        let thread = std::thread::spawn(move || {
            let mut greeted = Vec::new();
            while let Ok(stream) = of_thread.accept() {
                greeted.push(greet(stream));
            }
        });
        let mut options = Options::new("greeter", Space::new(BLOCK_SIZE, 1).unwrap(), [address]);
        (options.unix, options.segment) = (false, false);
        (Greeter { listener, thread: Some(thread) }, options)
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.listener.close();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn greet(mut stream: Stream) -> Stream {
    let mut inbox = Inbox::new(limits::MAX_BODY);
    let frame = loop {
        if let Some(frame) = inbox.take().unwrap() {
            break frame;
        }
        inbox.fill(&mut stream).unwrap();
    };
    let hello: Hello = control::decode(inbox.body(&frame)).unwrap();
    let welcome = Welcome {
        server: hello.server,
        block_size: BLOCK_SIZE as u32,
        config_epoch: 1,
        incarnation: 1,
        segment: Uuid::nil(),
        features: 0,
        resumed: false,
        auth: Vec::new(),
    };
    let mut out = Vec::new();
    let at = begin_frame(&mut out);
    out.extend_from_slice(&control::encode(&welcome));
    finish_frame(&mut out, at, Header { flags: flags::ANSWER, body_crc: 0, ..frame.header }, false);
    std::io::Write::write_all(&mut stream, &out).unwrap();
    stream
}

/// A pool of at most `max` links, and its server.
fn pool(max: usize) -> (Greeter, Pool) {
    let (greeter, mut options) = Greeter::start();
    (options.max_connections, options.timeout) = (max, Duration::from_millis(200));
    (greeter, Pool::new(0, options.servers[0].clone(), Arc::new(options), None, None))
}

/// Links in the list and in all.
fn counts(pool: &Pool) -> (usize, usize) {
    let state = pool.state.lock();
    (state.idle.len(), state.open)
}

#[test]
fn a_link_rests_where_its_thread_finds_it_without_the_lock() {
    let (_greeter, pool) = pool(4);
    let session = pool.checkout(0).unwrap().session();
    assert_eq!(counts(&pool), (0, 1));
    let locked = pool.state.lock();
    let lease = pool.checkout(0).unwrap();
    assert_eq!(lease.session(), session);
    drop(lease);
    drop(locked);
    assert_eq!(counts(&pool), (0, 1));
}

#[test]
fn a_second_link_of_a_thread_rests_in_the_list() {
    let (_greeter, pool) = pool(2);
    let both = [pool.checkout(0).unwrap(), pool.checkout(0).unwrap()];
    drop(both);
    assert_eq!(counts(&pool), (1, 2));
    let _both = [pool.checkout(0).unwrap(), pool.checkout(0).unwrap()];
    assert_eq!(counts(&pool), (0, 2));
}

#[test]
fn a_link_of_an_era_gone_by_is_closed_wherever_it_turns_up() {
    let (_greeter, pool) = pool(4);
    let on_loan = pool.checkout(0).unwrap();
    drop(pool.checkout(0).unwrap());
    assert_eq!(counts(&pool), (0, 2));
    pool.renew(1);
    assert_eq!(counts(&pool), (0, 1), "the one that was at rest");
    drop(on_loan);
    assert_eq!(counts(&pool), (0, 0), "the one on loan");
    // As if a thread had put one back just after the slots were swept.
    let mut late = pool.checkout(1).unwrap();
    late.parked.as_mut().unwrap().era = 0;
    assert!(pool.slots.put(late.parked.take().unwrap()).is_none());
    // Its end would count it as given up.
    std::mem::forget(late);
    let fresh = pool.checkout(1).unwrap();
    assert_eq!((fresh.era, fresh.parked.as_ref().unwrap().era), (1, 1));
    assert_eq!(counts(&pool), (0, 1), "the late one is not counted any more");
}

#[test]
fn a_call_of_an_era_gone_by_leaves_the_links_of_the_next_alone() {
    let (_greeter, pool) = pool(4);
    let session = pool.checkout(1).unwrap().session();
    assert!(matches!(pool.checkout(0), Err(Error::Reconnected)));
    assert_eq!(pool.checkout(1).unwrap().session(), session);
    assert_eq!(counts(&pool).1, 1);
}

#[test]
fn no_link_rests_in_a_slot_while_somebody_waits() {
    let (_greeter, pool) = pool(1);
    let lease = pool.checkout(0).unwrap();
    pool.waiting.fetch_add(1, Ordering::Relaxed);
    drop(lease);
    assert!(pool.slots.take().is_none());
    assert_eq!((counts(&pool), pool.state.lock().promised), ((1, 1), 1));
    // Who comes later queues up, and takes nothing but what was promised: here, when nobody else came for it.
    let lease = pool.checkout(0).unwrap();
    assert_eq!((counts(&pool), pool.state.lock().promised), ((0, 1), 0));
    pool.waiting.fetch_sub(1, Ordering::Relaxed);
    drop(lease);
    assert_eq!(counts(&pool), (0, 1), "with nobody waiting it rests in a slot again");
}

#[test]
fn room_that_a_broken_link_leaves_is_promised_too() {
    let (_greeter, pool) = pool(1);
    let mut lease = pool.checkout(0).unwrap();
    pool.waiting.fetch_add(1, Ordering::Relaxed);
    lease.break_off();
    drop(lease);
    assert_eq!((counts(&pool), pool.state.lock().promised), ((0, 0), 1));
}

#[test]
fn who_lags_behind_does_not_move_a_server_back() {
    let (_greeter, pool) = pool(1);
    let first = pool.address();
    assert!(!pool.move_to(0, "h:1") && pool.address() == first, "it has not been moved");
    assert!(pool.move_to(2, "h:2"));
    assert!(!pool.move_to(1, "h:1") && !pool.move_to(2, "h:2"));
    assert_eq!(pool.address(), "h:2");
    assert!(pool.move_to(3, &first), "it may come back");
}
