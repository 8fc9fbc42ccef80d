//! What a connection says on its own, heard by a listener that plays the server.

use super::*;
use crate::{Listener, Stream, begin_frame, finish_frame};

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

#[test]
fn the_goodbye_is_a_request_as_agreed() {
    for features in [0, features::CHECKSUM] {
        let endpoint = Endpoint::Unix(format!("mcomp-net-goodbye.{features}.{}", std::process::id()));
        let listener = Listener::bind(&endpoint).unwrap();
        let hello = Hello {
            cluster: "demo".into(),
            role: mcomp_wire::Role::Client,
            server: 0,
            k: 4096,
            n: 1,
            session: uuid::Uuid::nil(),
            features,
            auth: Vec::new(),
        };
        let timeouts = Timeouts { connect: Duration::from_secs(5), request: Duration::from_secs(5) };
        let goodbye = std::thread::scope(|scope| {
            let server = scope.spawn(|| greet(&listener));
            Connection::open(&endpoint, &hello, timeouts, None).unwrap().close();
            server.join().unwrap()
        });
        assert_eq!(goodbye.kind, Kind::Bye as u8);
        assert_eq!(goodbye.check_request(features == features::CHECKSUM), Ok(()), "{goodbye}");
    }
}
