//! `mcomp gateway`: the memory over HTTP/1.1, for programs that speak nothing else. docs/gateway.md says what it
//! promises; docs/openapi.json lists all of it.
//!
//! Promises
//! - It keeps nothing: any number of gateways serve one cluster, and one that dies takes nothing with it.
//! - One thread for each connection, and no more connections than it was told; who comes too late hears 503.
//! - It listens on loopback. Elsewhere only where the cluster has a secret and the gateway a token, because whoever
//!   reaches it acts with its key.
//! - It stops in good order: what is under way is answered, and nothing else is begun.
//!
//! Leaves out TLS: what stands before a web server elsewhere can stand before this one.

mod answer;
mod conversation;
mod door;
mod head;
mod layout;
mod memory;
mod problem;
mod range;
mod register;
mod route;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mcomp_client::Cluster;
use mcomp_config::Config;
use mcomp_net::{Endpoint, Listener, Places, Stream, Watchdog, WatchdogLimits, is_open_to_others};

use crate::exit::{Exit, Failure};
use crate::flags::GatewayArgs;
use door::Door;
use problem::Problem;

/// Pause after a connection could not be taken, as when descriptors are used up.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long a stopping gateway waits for the answers that are under way, and then for its threads.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Refused sockets that are kept open for a moment, so that the peer can read why.
const LINGERING: usize = 64;

/// The shortest token: what can be guessed is none.
const TOKEN_LEN_MIN: usize = 16;

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of a gateway share.
#[derive(Debug)]
struct Shared {
    door: Door,
    watchdog: Watchdog,
    places: Arc<Places>,
    /// Set before the connections are ended: one that is watched after that sees it.
    is_stopping: AtomicBool,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}

impl Gateway {
    /// Listens, and answers from threads of its own. No server needs to run yet.
    pub(crate) fn start(config: Config, cluster: Cluster, args: &GatewayArgs) -> anyhow::Result<Gateway> {
        let token = args.token_file.as_deref().map(token_in).transpose()?;
        let listener = Arc::new(listen(&args.listen, config.secret_file().is_some(), token.is_some())?);
        let limits = config.limits();
        let watchdog = Watchdog::start(WatchdogLimits {
            handshake: limits.handshake_timeout,
            frame: limits.frame_timeout,
            write: limits.write_timeout,
            request: args.idle_timeout,
        });
        let watchdog = watchdog.map_err(|error| Failure::io("start a thread", &error))?;
        let most = args.max_connections as usize;
        let patience = config.client().timeout;
        let door = Door { config, cluster, max_body: args.max_body, patience, token };
        let shared = Shared { door, watchdog, places: Places::new(most, most), is_stopping: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let (to_accept, host) = (Arc::clone(&listener), Arc::clone(&shared));
        let acceptor = thread::Builder::new().name("accept-http".into()).spawn(move || accept(&to_accept, &host));
        let acceptor = acceptor.map_err(|error| Failure::io("start a thread", &error))?;
        Ok(Gateway { listener, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens, with the port that it got.
    pub(crate) fn address(&self) -> String {
        match &*self.listener {
            Listener::Tcp(socket) => socket.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Listener::Unix(_) | Listener::Tls(..) => unreachable!("it listens on TCP"),
        }
    }

    /// Answers what was received, and ends. False when a connection did not end in time.
    pub(crate) fn stop(mut self) -> bool {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.listener.close();
        if let Some(acceptor) = self.acceptor.take() {
            // If it panicked, it has said so on stderr.
            let _ = acceptor.join();
        }
        self.shared.watchdog.finish_reading_all();
        self.shared.places.wait_until_none(LAST_ANSWERS) || {
            self.shared.watchdog.shutdown_all();
            self.shared.places.wait_until_none(LAST_ANSWERS)
        }
    }
}

/// Listens where it is safe to.
fn listen(address: &str, has_secret: bool, has_token: bool) -> Result<Listener, Failure> {
    let check = |is_open: bool| match is_open && !(has_secret && has_token) {
        true => Err(exposed(address, has_secret)),
        false => Ok(()),
    };
    check(is_open_to_others(address))?;
    let listener = Listener::bind(&Endpoint::Tcp(address.to_owned())).map_err(|error| {
        let (exit, kind) = match error.kind() {
            io::ErrorKind::AddrInUse => (Exit::TRY_AGAIN, "busy"),
            io::ErrorKind::PermissionDenied => (Exit::NOT_PERMITTED, "denied"),
            _ => (Exit::CONFIG, "config"),
        };
        Failure::new(exit, kind, format!("the gateway cannot listen on {address}: {error}"))
    })?;
    // A name may stand for another address by now than a moment ago.
    check(listener.is_open_to_others())?;
    Ok(listener)
}

fn exposed(address: &str, has_secret: bool) -> Failure {
    let lacks = match has_secret {
        false => "there is no secret: make one with `mcomp secret create`, and name it in mcomp.cfg as secret_file",
        true => "it asks for no token: write one to a file, and start it with --token-file FILE",
    };
    let sentence = format!(
        "the gateway would listen on {address}, which is not a loopback address, where anybody who reaches it could \
         read and change the memory, and {lacks}"
    );
    Failure::new(Exit::CONFIG, "config", sentence)
}

/// The hash of the token in a file.
fn token_in(path: &Path) -> Result<blake3::Hash, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io(format!("read the token {shown}"), &error))?;
    let token = text.trim();
    if token.len() < TOKEN_LEN_MIN || token.contains(char::is_whitespace) {
        let sentence = format!("{shown} holds no token: write one word of at least {TOKEN_LEN_MIN} characters");
        return Err(Failure::new(Exit::CONFIG, "config", sentence));
    }
    Ok(blake3::hash(token.as_bytes()))
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    let mut refused = VecDeque::new();
    while !shared.is_stopping() {
        match listener.accept() {
            Ok(stream) => admit(stream, shared, &mut refused),
            Err(_) if shared.is_stopping() => return,
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                // What was refused holds descriptors.
                refused.clear();
                thread::sleep(EXHAUSTED_PAUSE);
            }
        }
    }
}

/// Serves a connection on a thread of its own, or says why not.
fn admit(stream: Stream, shared: &Arc<Shared>, refused: &mut VecDeque<Stream>) {
    // A peer that is gone already has no address, and needs no answer.
    let Ok(origin) = stream.origin() else { return };
    let socket = stream.handle();
    let served = shared.places.take(origin).map_err(|_| {
        let most = shared.places.most();
        format!("all {most} connections of this gateway are taken: try again")
    });
    let served = served.and_then(|place| {
        let shared = Arc::clone(shared);
        let work = move || {
            // Peers that leave or are cut off are no matter of the gateway.
            let ended = conversation::run(stream, &shared);
            tracing::debug!(?ended, "a connection has ended");
            drop(place);
        };
        let spawned = thread::Builder::new().name("http".into()).spawn(work);
        spawned.map(drop).map_err(|error| format!("this gateway cannot start another thread: {error}: try again"))
    });
    if let Err(sentence) = served {
        refuse(socket, sentence, refused);
    }
}

/// Says 503 without having read anything.
fn refuse(mut socket: Stream, sentence: String, refused: &mut VecDeque<Stream>) {
    let problem = Problem::new(503, "busy", sentence).with("retry-after", "1");
    // It fits into any socket buffer; a peer that is gone needs none.
    let _ = socket.write_all(&problem.answer().bytes(false, false));
    socket.finish_writing();
    refused.push_back(socket);
    if refused.len() > LINGERING {
        refused.pop_front();
    }
}
