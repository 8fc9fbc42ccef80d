//! What a peer cannot have too much of.

use std::os::unix::net::UnixStream;
use std::path::Path;

use mcomp_config::Overrides;
use mcomp_net::{Watchdog, WatchdogLimits};

use super::*;
use uuid::Uuid;

/// A cluster that no server has a segment of.
fn service() -> Arc<Service> {
    let server = "[[server]]\naddress = \"127.0.0.1:1\"\nsnapshot = \"127.0.0.1:2\"\n";
    let text = format!("[cluster]\nname = \"copies-{}\"\nk = 4096\nn = 1\n{server}", std::process::id());
    let config = Config::parse(&text, Path::new("/nowhere/mcomp.cfg"), &Overrides::default()).unwrap();
    Arc::new(Service {
        config,
        id: 0,
        keyring: None,
        tally: Tally::default(),
        refusals: Refusals::default(),
        copies: Places::new(MOST_COPIES),
        master: None,
    })
}

#[test]
fn a_segment_is_copied_a_few_times_at_once() {
    let service = service();
    let limit = Duration::from_secs(60);
    let watchdog =
        Watchdog::start(WatchdogLimits { handshake: limit, frame: limit, write: limit, request: limit }).unwrap();
    let stream = Stream::from(UnixStream::pair().unwrap().0);
    let watch = watchdog.watch(&stream, Phase::Idle);
    let mut peer = Peer::new(stream, watch, Arc::clone(&service));
    let request = SnapshotCollect { cut: Uuid::nil(), epoch: 1, segment: Uuid::nil(), since: 0, level: 0, home: 0 };
    let mut collect = || match peer.collect(Header::default(), request.clone()) {
        Err(Failed::Refused(refusal)) => refusal.status,
        _ => panic!("there is no segment to copy"),
    };
    let taken: Vec<_> = std::iter::from_fn(|| service.copies.take()).collect();
    assert_eq!((taken.len(), collect()), (MOST_COPIES, Status::Busy));
    drop(taken);
    for _ in 0..=MOST_COPIES {
        assert_eq!(collect(), Status::CutLost, "the place of a copy that failed is free again");
    }
}
