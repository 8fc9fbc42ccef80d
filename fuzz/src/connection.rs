//! The client's end of a connection, against a server that says anything.

use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use std::io::{Read, Write};

use mcomp_net::auth::Keyring;
use mcomp_net::{CallError, ConnectError, Connection, Endpoint, Listener, Timeouts, Trust, error_frame};
use mcomp_wire::control::{Challenge, ServerStatus, encode};
use mcomp_wire::{Header, Kind, Status, flags, limits};

use crate::Seed;
use crate::control::{a_hello, a_status, a_welcome};
use crate::frames::{frame, mend};

/// Nobody waits for so long: what is said ends, and then the connection does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of memory that the client asks for.
const READ_LEN: usize = 64;

/// What the server says from the first byte on: the answers to the handshake, to a control request, to one with
/// several answers, and to a read whose bytes go straight to the caller. Each ends in an answer or an error, and
/// what a refusal says is as short as the protocol has it.
///
/// The lowest bit of the first byte says whether checksums are mended, the next one whether the client has a secret,
/// which nobody can prove to know who has not heard it: then nothing is believed but a refusal.
pub fn connection(data: &[u8]) {
    let Some((mended, stream)) = data.split_first() else { return };
    let mut stream = stream.to_vec();
    if mended & 1 != 0 {
        mend(&mut stream);
    }
    // One at a time: the next to connect meets the next that was said.
    let speaker = SPEAKER.lock().unwrap_or_else(PoisonError::into_inner);
    speaker.said.send(stream).expect("the speaker lives as long as the process");
    let timeouts = Timeouts { connect: TIMEOUT, request: TIMEOUT };
    let keyring = (mended & 2 != 0).then(a_secret);
    match Connection::open(&speaker.endpoint, &a_hello(), timeouts, Trust { keyring: keyring.as_ref(), tls: None }) {
        Ok(_) if keyring.is_some() => panic!("a server without a key was believed"),
        Ok(connection) => converse(connection),
        Err(ConnectError::Refused { message, .. }) => check_sentence(&message),
        Err(_) => {}
    }
}

fn a_secret() -> Keyring {
    Keyring::parse(&format!("client {}", "1".repeat(64))).expect("a secret")
}

fn converse(mut connection: Connection) {
    if let Err(error) = ask(&mut connection) {
        match error {
            CallError::Refused { message, .. } => check_sentence(&message),
            CallError::TimedOut(after) => panic!("{after:?} went by after the end of the stream"),
            _ => {}
        }
    }
}

fn ask(connection: &mut Connection) -> Result<(), CallError> {
    let _: ServerStatus = connection.call(Kind::Status, &())?;
    connection.start(Kind::SnapshotCreate, &[0])?;
    loop {
        let (header, body) = connection.next_answer()?;
        assert!(body.len() <= limits::MAX_BODY && body.len() == header.length as usize);
        if !header.has_more() {
            break;
        }
    }
    let id = connection.start(Kind::Read, &[0; 16])?;
    let mut target = [0; READ_LEN];
    let deadline = std::time::Instant::now() + TIMEOUT;
    let received = connection.receive_into(deadline, id, Kind::Read, &mut target)?;
    if let Some(received) = received {
        assert_eq!(connection.body(&received).len(), received.header.length as usize);
    }
    Ok(())
}

fn check_sentence(message: &str) {
    // A byte that is no text is shown as three.
    assert!(message.len() <= 3 * limits::MAX_MESSAGE, "a refusal of {} bytes", message.len());
    assert!(!message.contains(char::is_control), "{message:?} could drive a terminal");
}

/// A server that says what it is told to, whatever it hears.
struct Speaker {
    endpoint: Endpoint,
    said: Sender<Vec<u8>>,
}

static SPEAKER: LazyLock<Mutex<Speaker>> = LazyLock::new(|| Mutex::new(Speaker::start()));

impl Speaker {
    /// On a name in the abstract namespace, which goes with the process.
    fn start() -> Speaker {
        let endpoint = Endpoint::Unix(format!("mcomp-fuzz.{}", std::process::id()));
        let listener = Listener::bind(&endpoint).expect("a name of our own");
        let (said, hears) = channel::<Vec<u8>>();
        let speak = move || {
            for words in hears {
                let mut stream = listener.accept().expect("the connection of the one who sent the words");
                // A client that has heard enough is gone.
                let _ = stream.write_all(&words);
                stream.finish_writing();
                // Bytes that nobody reads would take back those that were written.
                let mut heard = [0; 4096];
                while stream.read(&mut heard).is_ok_and(|count| count > 0) {}
            }
        };
        thread::Builder::new().name("speaker".into()).spawn(speak).expect("a thread");
        Speaker { endpoint, said }
    }
}

/// The seeds of [`connection`].
pub fn connection_seeds() -> Vec<Seed> {
    let answer = |kind: Kind, id: u64, more: u16| Header {
        kind: kind as u8,
        flags: flags::ANSWER | more,
        request_id: id,
        config_epoch: 1,
        ..Header::default()
    };
    let welcome = frame(answer(Kind::Hello, 1, 0), &encode(&a_welcome()), false);
    let status = frame(answer(Kind::Status, 2, 0), &encode(&a_status()), true);
    let progress = frame(answer(Kind::SnapshotProgress, 3, flags::MORE), &[1, 2], true);
    let created = frame(answer(Kind::SnapshotCreate, 3, 0), &[0], true);
    let read = frame(answer(Kind::Read, 4, 0), &[7; READ_LEN], true);
    let refusal = |kind: Kind, id, message| {
        let mut out = Vec::new();
        error_frame(&mut out, kind as u8, id, Status::Busy, message);
        out
    };
    let asked = [&welcome[..], &status, &progress, &created].concat();
    let asks = encode(&Challenge { nonce: [3; 32], keys: vec![[4; 8], [5; 8]] });
    let asks = frame(answer(Kind::Challenge, 1, 0), &asks, false);
    let long = frame(Header { status: 6, ..answer(Kind::Hello, 1, 0) }, &[b'x'; 2000], false);
    let seed = |mended: u8, stream: &[u8]| [&[mended], stream].concat();
    vec![
        ("all_is_well", seed(1, &[&asked[..], &read].concat())),
        ("unmended", seed(0, &[&asked[..], &read].concat())),
        ("read_refused", seed(1, &[&asked[..], &refusal(Kind::Read, 4, "address 9 is outside")].concat())),
        ("another_length", seed(1, &[&asked[..], &frame(answer(Kind::Read, 4, 0), b"short", true)].concat())),
        ("refused", seed(1, &refusal(Kind::Hello, 1, "too many connections"))),
        ("refused_at_length", seed(1, &long)),
        ("welcome_only", seed(1, &welcome)),
        ("no_proof_is_asked_for", seed(3, &asked)),
        ("unknown_keys", seed(3, &asks)),
        ("secret_refused", seed(3, &refusal(Kind::Hello, 1, "this server has no secret"))),
    ]
}
