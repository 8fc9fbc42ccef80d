//! What a connection says on its own, heard by a listener that plays the server.

use super::*;
use crate::{Listener, Stream, Trust, begin_frame, finish_frame};

/// Takes one frame.
fn receive(inbox: &mut Inbox, stream: &mut Stream) -> Received {
    loop {
        match inbox.take().unwrap() {
            Some(frame) => return frame,
            None => assert_ne!(inbox.fill(stream).unwrap(), 0, "the client left without a frame"),
        }
    }
}

/// Greets one client with all the features that it asks for, and takes its next frame.
fn greet(listener: &Listener) -> Header {
    let mut stream = listener.accept().unwrap();
    let mut inbox = Inbox::new(limits::MAX_BODY);
    let frame = receive(&mut inbox, &mut stream);
    let Hello { server, features, .. } = control::decode(inbox.body(&frame)).unwrap();
    let (block_size, config_epoch, incarnation, segment) = (4096, 1, 1, uuid::Uuid::nil());
    let (resumed, auth) = (false, Vec::new());
    let welcome = Welcome { server, block_size, config_epoch, incarnation, segment, features, resumed, auth };
    let mut answer = Vec::new();
    let at = begin_frame(&mut answer);
    answer.extend_from_slice(&control::encode(&welcome));
    let flags = flags::ANSWER;
    finish_frame(&mut answer, at, Header { flags, cut_epoch: 0, ..frame.header }, false);
    stream.write_all(&answer).unwrap();
    receive(&mut inbox, &mut stream).header
}

const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(5), request: Duration::from_secs(5) };

fn hello(features: u32) -> Hello {
    Hello {
        cluster: "demo".into(),
        role: mcomp_wire::Role::Client,
        server: 0,
        k: 4096,
        n: 1,
        session: uuid::Uuid::nil(),
        features,
        auth: Vec::new(),
    }
}

#[test]
fn the_goodbye_is_a_request_as_agreed() {
    for features in [0, features::CHECKSUM] {
        let endpoint = Endpoint::Unix(format!("mcomp-net-goodbye.{features}.{}", std::process::id()));
        let listener = Listener::bind(&endpoint).unwrap();
        let goodbye = std::thread::scope(|scope| {
            let server = scope.spawn(|| greet(&listener));
            Connection::open(&endpoint, &hello(features), TIMEOUTS, Trust::default()).unwrap().close();
            server.join().unwrap()
        });
        assert_eq!(goodbye.kind, Kind::Bye as u8);
        assert_eq!(goodbye.check_request(features == features::CHECKSUM), Ok(()), "{goodbye}");
    }
}

#[test]
fn a_refusal_is_one_sentence_however_long_the_server_talks() {
    let endpoint = Endpoint::Unix(format!("mcomp-net-talker.{}", std::process::id()));
    let listener = Listener::bind(&endpoint).unwrap();
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = listener.accept().unwrap();
            let hello = receive(&mut Inbox::new(limits::MAX_HELLO), &mut stream);
            let answer = Header { flags: flags::ANSWER, status: Status::Busy as u16, ..hello.header };
            let mut body = vec![b'x'; limits::MAX_BODY];
            body[..4].copy_from_slice(b"\x1b[2J");
            stream.write_all(&[&answer.for_body(&body, false).emit()[..], &body].concat()).unwrap();
        });
        Connection::open(&endpoint, &hello(0), TIMEOUTS, Trust::default())
    });
    let Err(ConnectError::Refused { message, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(message.chars().count(), limits::MAX_MESSAGE);
    assert!(message.starts_with("\u{fffd}[2Jx"), "{message:?}");
}
