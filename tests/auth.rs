//! A cluster with a secret: who has no key, the wrong one, or somebody else's words gets nothing, changes nothing, and is
//! counted. Also without its seals, which a test build can leave unchecked: then the same attacks must succeed, or the
//! tests that see them fail prove nothing.

use std::io::{Read, Write};
use std::process::Stdio;

use mcomp_client::{Cluster as Client, Error, Options};
use mcomp_net::auth::{Keyring, Opener, Prover, SEAL_LEN, Sealer};
use mcomp_net::{Endpoint, Inbox, Stream};
use mcomp_wire::control::{self, Challenge, CutPrepare, Hello, Prove, RestoreBegin};
use mcomp_wire::{AtomicOp, HEADER_LEN, Header, Kind, Request, Role, Status, flags, limits};
use uuid::Uuid;

use crate::harness::{Cluster, PATIENCE, Setup, wait_until};
use crate::raw::{self, Peer, hello, tcp, unix};

const K: &str = "64KiB";

fn with_secret(keyring: &Keyring) -> Cluster {
    Setup::new(1, K).secret(keyring).servers()
}

/// How often the server has refused for `cause`.
fn refused(cluster: &Cluster, cause: &str) -> u64 {
    let status = cluster.client().status(0).expect("a status");
    status.counters.rejected.get(cause).copied().unwrap_or(0)
}

/// A peer that shakes hands by hand, and keeps every byte that it sends and gets.
struct Attacker {
    stream: Stream,
    sent: Vec<u8>,
    got: Vec<u8>,
}

impl Attacker {
    fn connect(endpoint: &Endpoint) -> Attacker {
        let stream = Stream::connect(endpoint, PATIENCE).expect("the server listens");
        stream.set_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        Attacker { stream, sent: Vec::new(), got: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        // A server that has closed already takes none.
        let _ = self.stream.write_all(bytes);
    }

    /// Receives so many bytes more; fewer if the server closes.
    fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            match self.stream.read(&mut bytes[have..]) {
                Ok(0) | Err(_) => break,
                Ok(more) => have += more,
            }
        }
        bytes.truncate(have);
        self.got.extend_from_slice(&bytes);
        bytes
    }

    /// One frame that has no seal; none if the server closes.
    fn frame(&mut self) -> Option<(Header, Vec<u8>)> {
        let header = Header::parse(self.receive(HEADER_LEN).first_chunk()?).expect("a header");
        Some((header, self.receive(header.length as usize)))
    }

    /// Whatever comes until the server closes.
    fn rest(&mut self) -> Vec<u8> {
        self.receive(1 << 20)
    }
}

/// A connection after its handshake, with the words that made it.
struct Sealed {
    peer: Attacker,
    sealer: Sealer,
    opener: Opener,
    session: Uuid,
    epoch: u64,
}

impl Sealed {
    fn open(cluster: &Cluster, keyring: &Keyring, role: Role) -> Sealed {
        let mut peer = Attacker::connect(&tcp(cluster, 0));
        let session = Uuid::new_v4();
        let mut said = Hello { session, ..hello(cluster, 0, role) };
        let mut prover = Prover::new(keyring, &mut said).expect("random numbers");
        let body = control::encode(&said);
        peer.send(&raw::frame(Kind::Hello as u8, 1, 0, &body));
        let header = Header { kind: Kind::Hello as u8, request_id: 1, ..Header::default() };
        prover.sent(&header.for_body(&body, false), &body);
        let (header, body) = peer.frame().expect("a challenge");
        assert_eq!(header.kind, Kind::Challenge as u8);
        let challenge: Challenge = control::decode(&body).expect("a challenge");
        let (prove, sealer, opener) = prover.prove(&header, &body, &challenge).expect("a key that is known");
        peer.send(&raw::frame(Kind::Prove as u8, 2, 0, &control::encode(&prove)));
        let mut sealed = Sealed { peer, sealer, opener, session, epoch: 0 };
        let (header, _) = sealed.next().expect("a welcome");
        assert_eq!((header.kind, header.status), (Kind::Prove as u8, 0));
        sealed.epoch = header.config_epoch;
        sealed
    }

    /// The next answer, if there is one; its seal must fit.
    fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, body) = self.peer.frame()?;
        assert_ne!(header.flags & flags::SEALED, 0, "an answer without a seal: {header}");
        let seal = self.peer.receive(SEAL_LEN);
        let fits = self.opener.open(&header.emit(), &body, seal.first_chunk().expect("a whole seal"));
        assert!(fits, "a seal that does not fit: {header}");
        Some((header, body))
    }

    /// A request that adds one at `addr`, with its seal.
    fn add(&mut self, id: u64, addr: u64) -> Vec<u8> {
        let request = Request::Atomic { addr, op: AtomicOp::Add, operand: 1, expected: 0 };
        self.request(Kind::Atomic, id, &raw::body(&request))
    }

    fn request(&mut self, kind: Kind, request_id: u64, body: &[u8]) -> Vec<u8> {
        let (config_epoch, flags) = (self.epoch, flags::SEALED);
        let header = Header { kind: kind as u8, request_id, config_epoch, flags, ..Header::default() };
        let header = header.for_body(body, false).emit();
        let seal = self.sealer.seal(&header, &[body]);
        [&header[..], body, &seal].concat()
    }
}

#[test]
fn who_has_the_key_is_served_and_nobody_else() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    let client = cluster.client();
    client.write_at(0, b"secret").unwrap();
    let options = |change: fn(&mut Options)| {
        let mut options = Options::from_config(&cluster.config());
        change(&mut options);
        options
    };
    for unix in [true, false] {
        let client = Client::with_options(Options { unix, segment: false, ..options(|_| {}) }).unwrap();
        assert_eq!(client.read_vec(0, 6).unwrap(), b"secret");
        let large = vec![7; 3 * 4096 + 5];
        client.write_at(100, &large).unwrap();
        assert!(client.read_vec(100, large.len() as u64).unwrap() == large);
        assert_eq!(client.fetch_add(64, 0).unwrap(), client.fetch_add(64, 0).unwrap());

        let no_key = Client::with_options(Options { unix, ..options(|options| options.secret_file = None) }).unwrap();
        let error = no_key.read_vec(0, 6).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), ("denied", 77), "{error}");
        assert!(error.to_string().contains("set security.secret_file"), "no way out: {error}");
    }
    let without = refused(&cluster, "no_proof");
    assert!(without >= 2, "{without}");
    // A key of another secret, of the same shape.
    let elsewhere = cluster.dir.path().join("other.secret");
    Keyring::random().unwrap().store(&elsewhere, "", false).unwrap();
    let other = Client::with_options(Options { secret_file: Some(elsewhere), ..options(|_| {}) }).unwrap();
    let error = other.write_at(0, b"mine").unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), ("denied", 77), "{error}");
    client.write_at(0, b"secret").unwrap();
    wait_until("a wrong key is counted too", || refused(&cluster, "no_proof") > without);
}

/// As all commands do: what it takes is another secret, not a server.
#[test]
fn a_status_with_a_wrong_secret_is_not_permitted() {
    let cluster = with_secret(&Keyring::random().unwrap());
    cluster.ok(&["status"]);
    Keyring::random().unwrap().store(&cluster.secret_path(), "", true).unwrap();
    let output = cluster.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["servers"][0]["kind"], "denied", "{status}");
    assert_eq!(cluster.run(&["read", "0", "1"]).status.code(), Some(77));
}

#[test]
fn a_client_with_a_secret_does_not_talk_to_a_server_without() {
    let cluster = Setup::new(1, K).servers();
    let keys = cluster.dir.path().join("keys");
    Keyring::random().unwrap().store(&keys, "", false).unwrap();
    let options = Options { secret_file: Some(keys), ..Options::from_config(&cluster.config()) };
    let error = Client::with_options(options).unwrap().write_at(0, b"to whom?").unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), ("denied", 77), "{error}");
    assert_eq!(cluster.client().read_vec(0, 8).unwrap(), [0; 8]);
}

/// A program with the client's key alone can use the memory, and neither cut nor restore it.
#[test]
fn a_client_s_key_opens_no_other_door() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    let client_only = keyring.only(&[Role::Client]).unwrap();
    let path = cluster.dir.path().join("client.secret");
    client_only.store(&path, "", false).unwrap();
    let as_role = |role| {
        let options = Options { secret_file: Some(path.clone()), role, ..Options::from_config(&cluster.config()) };
        Client::with_options(options).unwrap().write_at(0, b"x")
    };
    as_role(Role::Client).unwrap();
    for role in [Role::Node, Role::Admin] {
        assert!(matches!(as_role(role), Err(ref error) if error.exit_code() == 77), "{role}");
        // The client's key under the other role's name, proved by hand.
        let mut peer = Attacker::connect(&tcp(&cluster, 0));
        let mut said = hello(&cluster, 0, role);
        let _ = Prover::new(&client_only, &mut said).unwrap();
        peer.send(&raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&said)));
        let (_, body) = peer.frame().expect("a challenge");
        let challenge: Challenge = control::decode(&body).unwrap();
        let prove = Prove { key: challenge.keys[0], proof: [0x5a; 32] };
        peer.send(&raw::frame(Kind::Prove as u8, 2, 0, &control::encode(&prove)));
        let (header, _) = peer.frame().expect("an answer");
        assert_eq!(Status::from_wire(header.status), Status::Denied);
        assert!(peer.rest().is_empty());
    }
    assert_eq!(refused(&cluster, "bad_proof"), 2);

    let cut = Uuid::from_bytes([7; 16]);
    let orders = [
        (Kind::CutPrepare, control::encode(&CutPrepare { cut })),
        (Kind::RestoreBegin, control::encode(&RestoreBegin { restore: cut })),
    ];
    let mut sealed = Sealed::open(&cluster, &client_only, Role::Client);
    for (id, (kind, body)) in (3..).zip(orders) {
        let request = sealed.request(kind, id, &body);
        sealed.peer.send(&request);
        let (header, _) = sealed.next().expect("an answer");
        assert_eq!(Status::from_wire(header.status), Status::Denied, "{kind}");
    }
}

/// What a peer hears before it has proved anything is never more than what it has said.
#[test]
fn nothing_larger_than_the_request_is_said_before_the_proof() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    let short = Hello { cluster: "x".into(), k: 1, ..hello(&cluster, 0, Role::Client) };
    let nonce = Hello { auth: vec![5; 32], ..short.clone() };
    let first = [
        raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&short)),
        raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&nonce)),
        raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&Hello { server: 9, ..nonce.clone() })),
        raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&hello(&cluster, 0, Role::Admin))),
        raw::frame(Kind::Hello as u8, 1, 0, b""),
        raw::frame(Kind::Hello as u8, 1, 0, &[0xff; 60]),
        raw::frame(Kind::Status as u8, 1, 0, b""),
        raw::frame(Kind::Read as u8, 1, 0, &[0; 16]),
        raw::frame(Kind::Prove as u8, 1, 0, &[0; 40]),
        raw::frame(0x77, 1, 0, b""),
        raw::frame(Kind::Hello as u8, 1, 0, &[0; limits::MAX_HELLO + 1]),
        vec![b'G'; HEADER_LEN],
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html; and so on\r\n\r\n".to_vec(),
    ];
    for endpoint in [tcp(&cluster, 0), unix(&cluster, 0)] {
        for bytes in &first {
            for second in [&b""[..], &raw::frame(Kind::Prove as u8, 2, 0, &[1; 40]), &[0xee; 100]] {
                let mut peer = Attacker::connect(&endpoint);
                peer.send(bytes);
                peer.send(second);
                peer.stream.finish_writing();
                peer.rest();
                let (said, heard) = (peer.sent.len(), peer.got.len());
                assert!(heard <= said, "{heard} bytes were sent for {said}: {bytes:02x?}");
            }
        }
    }
    cluster.client().write_at(0, b"served all the same").unwrap();
}

/// Neither is it when the server stops: who still owes a proof has asked for nothing that could be left undone.
#[test]
fn a_server_that_stops_says_nothing_to_strangers() {
    let keyring = Keyring::random().unwrap();
    let mut cluster = with_secret(&keyring);
    let mut peers = [(); 3].map(|()| Attacker::connect(&tcp(&cluster, 0)));
    let asks = Hello { auth: vec![5; 32], ..hello(&cluster, 0, Role::Client) };
    let asks = raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&asks));
    peers[1].send(&asks[..20]);
    peers[2].send(&asks);
    peers[2].frame().expect("a challenge");
    let client = cluster.client();
    wait_until("all are there", || client.status(0).expect("a status").connections > peers.len() as u64);
    cluster.stop_server(0);
    for peer in &mut peers {
        peer.rest();
        let (said, heard) = (peer.sent.len(), peer.got.len());
        assert!(heard <= said, "{heard} bytes were sent for {said}");
    }
}

/// Every word of a good connection, said again on another one.
#[test]
fn a_replayed_handshake_gets_nothing() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    let mut good = Sealed::open(&cluster, &keyring, Role::Client);
    let add = good.add(3, 8);
    good.peer.send(&add);
    assert_eq!(good.next().expect("an answer").0.status, 0);
    let said = good.peer.sent.clone();
    drop(good);
    for _ in 0..3 {
        let mut again = Attacker::connect(&tcp(&cluster, 0));
        again.send(&said);
        again.stream.finish_writing();
        again.rest();
    }
    assert_eq!(refused(&cluster, "bad_proof"), 3);
    assert_eq!(cluster.client().fetch_add(8, 0).unwrap(), 1, "the replayed add was done");
}

/// What the server says is of no use in the other direction, nor as somebody else's challenge.
#[test]
fn a_reflected_word_gets_nothing() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    let mut good = Sealed::open(&cluster, &keyring, Role::Client);
    let add = good.add(3, 8);
    good.peer.send(&add);
    good.next().expect("an answer");
    // The server's own sealed words, as if they were requests of this connection.
    let welcome_at = good.peer.got.len() - (HEADER_LEN + 16 + SEAL_LEN);
    let heard = good.peer.got[welcome_at..].to_vec();
    good.peer.send(&heard);
    good.peer.rest();

    // Its challenge, as the nonce of another connection whose challenge answers the first.
    let mut first = Attacker::connect(&tcp(&cluster, 0));
    let mut said = hello(&cluster, 0, Role::Client);
    said.auth = vec![3; 32];
    first.send(&raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&said)));
    let challenge: Challenge = control::decode(&first.frame().expect("a challenge").1).unwrap();
    let mut second = Attacker::connect(&tcp(&cluster, 0));
    said.auth = challenge.nonce.to_vec();
    second.send(&raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&said)));
    let reflected: Challenge = control::decode(&second.frame().expect("a challenge").1).unwrap();
    let prove = Prove { key: challenge.keys[0], proof: reflected.nonce };
    first.send(&raw::frame(Kind::Prove as u8, 2, 0, &control::encode(&prove)));
    assert_eq!(Status::from_wire(first.frame().expect("an answer").0.status), Status::Denied);
    assert_eq!(cluster.client().fetch_add(8, 0).unwrap(), 1);
}

/// What became of attacks on the frames of a good connection: how many changed the memory.
fn attack_frames(cluster: &Cluster, keyring: &Keyring) -> u64 {
    let client = cluster.client();
    let open = || Sealed::open(cluster, keyring, Role::Client);
    let mut changed = 0;
    let mut attempt = |attack: &mut dyn FnMut(&mut Sealed)| {
        let before = client.read_vec(0, 64 << 10).unwrap();
        let mut sealed = open();
        attack(&mut sealed);
        sealed.peer.stream.finish_writing();
        sealed.peer.rest();
        changed += u64::from(client.read_vec(0, 64 << 10).unwrap() != before);
    };
    let len = open().add(3, 0).len();
    // One bit of the body or of the seal: the header has a checksum of its own.
    for bit in (HEADER_LEN * 8..len * 8).step_by(5) {
        attempt(&mut |sealed| {
            let mut add = sealed.add(3, 0);
            add[bit / 8] ^= 1 << (bit % 8);
            sealed.peer.send(&add);
        });
    }
    // Another request in the same words, its checksum put right.
    attempt(&mut |sealed| {
        let mut add = sealed.add(3, 0);
        let mut header = Header::parse(add.first_chunk().unwrap()).unwrap();
        header.request_id += 1;
        add[..HEADER_LEN].copy_from_slice(&header.emit());
        sealed.peer.send(&add);
    });
    // One left out.
    attempt(&mut |sealed| {
        sealed.add(3, 0);
        let second = sealed.add(4, 8);
        sealed.peer.send(&second);
    });
    // Without a seal.
    attempt(&mut |sealed| {
        let request = Request::Atomic { addr: 0, op: AtomicOp::Add, operand: 1, expected: 0 };
        let bytes = raw::frame(Kind::Atomic as u8, 3, sealed.epoch, &raw::body(&request));
        sealed.peer.send(&bytes);
    });
    changed
}

#[test]
fn a_changed_frame_changes_nothing() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    assert_eq!(attack_frames(&cluster, &keyring), 0);
    wait_until("all are counted", || refused(&cluster, "bad_seal") > 80);
    let mut sealed = Sealed::open(&cluster, &keyring, Role::Client);
    let add = sealed.add(3, 0);
    // Said twice: it is done once, and the second ends the connection.
    sealed.peer.send(&add);
    sealed.peer.send(&add);
    assert_eq!(sealed.next().expect("an answer").0.status, 0);
    let (header, _) = sealed.next().expect("the last words");
    assert_eq!(Status::from_wire(header.status), Status::Denied);
    assert!(sealed.peer.rest().is_empty());
    assert_eq!(cluster.client().fetch_add(0, 0).unwrap(), 1);
}

/// A server that does not look at seals: the attacks above must get through, or they prove nothing.
#[test]
fn a_server_without_seals_is_caught() {
    let keyring = Keyring::random().unwrap();
    let cluster = Setup::new(1, K).secret(&keyring).env("MCOMP_MUTANT", "no-seal").servers();
    let changed = attack_frames(&cluster, &keyring);
    assert!(changed > 10, "only {changed} attacks got through");
}

/// A peer without a key does not so much as see what a peer with one sees: not even whether a session exists.
#[test]
fn an_unproved_peer_takes_nobody_s_session() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    let mut owner = Sealed::open(&cluster, &keyring, Role::Client);
    for _ in 0..5 {
        let mut thief = Attacker::connect(&tcp(&cluster, 0));
        let said = Hello { session: owner.session, auth: vec![1; 32], ..hello(&cluster, 0, Role::Client) };
        thief.send(&raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&said)));
        thief.frame().expect("a challenge");
        thief.send(&raw::frame(Kind::Prove as u8, 2, 0, &[0; 40]));
        thief.rest();
    }
    let add = owner.add(3, 16);
    owner.peer.send(&add);
    assert_eq!(owner.next().expect("the owner is still served").0.status, 0);
}

/// Snapshot processes want the same proof, and nodes prove themselves to each other.
#[test]
fn snapshots_are_made_among_those_who_have_the_key() {
    let keyring = Keyring::random().unwrap();
    let cluster = Setup::new(2, K).secret(&keyring).start();
    cluster.client().write_at(60_000, &[7; 10_000]).unwrap();
    let config = cluster.config();
    mcomp_snapshot::create(&config, false, &mut |_| {}).expect("a snapshot");
    let endpoint = Endpoint::Tcp(cluster.snapshot_address(0));
    let answer = Peer::try_greeted(&endpoint, &hello(&cluster, 0, Role::Admin)).expect_err("no key");
    assert_eq!(answer.expect("a refusal").status(), Status::Denied);
    let mut guess = Attacker::connect(&endpoint);
    let said = Hello { auth: vec![1; 32], ..hello(&cluster, 0, Role::Admin) };
    guess.send(&raw::frame(Kind::Hello as u8, 1, 0, &control::encode(&said)));
    guess.frame().expect("a challenge");
    guess.send(&raw::frame(Kind::Prove as u8, 2, 0, &[0; 40]));
    let (header, _) = guess.frame().expect("a refusal");
    let (kind, id, status) = (Kind::Prove as u8, 2, Status::Denied as u16);
    assert_eq!((header.kind, header.request_id, header.status), (kind, id, status), "of the frame with the proof");

    keyring.only(&[Role::Client]).unwrap().store(&cluster.secret_path(), "", true).unwrap();
    let error = mcomp_snapshot::create(&config, false, &mut |_| {}).expect_err("a client's key is not an admin's");
    assert_eq!(error.exit_code(), 77, "{error}");
}

/// A peer that proves itself and then talks garbage is cut off like any other.
#[test]
fn garbage_after_the_proof_is_cut_off() {
    let keyring = Keyring::random().unwrap();
    let cluster = with_secret(&keyring);
    for garbage in [&[0; 200][..], b"GET / HTTP/1.1\r\n\r\n this is no frame at all, not in the least"] {
        let mut sealed = Sealed::open(&cluster, &keyring, Role::Client);
        sealed.peer.send(garbage);
        let (header, _) = sealed.next().expect("the last words");
        assert_eq!(Status::from_wire(header.status), Status::Malformed);
        assert!(sealed.peer.rest().is_empty());
    }
    // The inbox of a peer by hand refuses a seal that was not agreed on.
    let mut sealed = Sealed::open(&cluster, &keyring, Role::Client);
    let add = sealed.add(3, 0);
    let mut inbox = Inbox::new(limits::MAX_BODY);
    inbox.fill(&mut &add[..]).unwrap();
    assert!(inbox.take().is_err());
}

#[test]
fn a_secret_that_cannot_be_trusted_starts_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let keyring = Keyring::random().unwrap();
    let cluster = Setup::new(1, K).secret(&keyring).prepare();
    std::fs::set_permissions(cluster.secret_path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    for command in [["server", "--id", "0"], ["snapshotter", "--id", "0"]] {
        let output = cluster.run(&command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("0644"), "{said}");
    }
    let error = Client::connect(&cluster.config()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Options(_)), "{error}");
}

/// Another user of the machine cannot open the segment, and is served through the socket like anybody else. Only root can
/// become another user; anybody else sees here that his own reads do not ask the server.
#[test]
fn another_user_of_the_machine_goes_through_the_socket() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let cluster = Setup::new(1, K).servers();
    cluster.client().write_at(0, b"for all").unwrap();
    let segment = std::path::PathBuf::from(format!("/dev/shm/mcomp.{}.0", cluster.name));
    assert_eq!(segment.metadata().unwrap().mode() & 0o7777, 0o600);
    let reads = || cluster.client().status(0).unwrap().counters.ops.get("read").copied().unwrap_or(0);
    // Ten reads of one process, because the first of them asks in any case.
    let read_as = |user: Option<u32>| {
        let before = reads();
        let mut command = cluster.command(&["shell"]);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("mcomp runs");
        let lines = "{\"op\":\"read\",\"addr\":0,\"len\":7}\n".repeat(10);
        shell.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("the shell reads");
        let output = shell.wait_with_output().expect("the shell ends");
        let told = String::from_utf8(output.stdout).expect("lines");
        assert_eq!(told.matches("Zm9yIGFsbA==").count(), 10, "{told}");
        reads() - before
    };
    let ours = read_as(None);
    if rustix::process::geteuid().is_root() {
        for path in [cluster.dir.path(), cluster.config_path()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(read_as(Some(54321)), 10, "another user has read without asking");
    }
    assert!(ours < 10, "{ours} of ten reads have asked");
}
