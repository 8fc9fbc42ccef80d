//! What a server tells a monitor over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! A fixed number of threads takes connections, one request each, so whoever asks cannot make it start anything; more
//! wait with the kernel. The head of a request is bounded, its body is not read, and both directions have the deadlines
//! that `[limits]` sets for connections. It changes nothing, and shares no lock with data requests.
//!
//! It leaves out who asks: it listens on loopback, or with a secret where its address says, and tells everybody there
//! the same. It leaves out keeping connections open, because a monitor asks every few seconds.

mod head;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mcomp_net::{Listener, Phase, Stream};

use crate::metrics;
use crate::server::Spawn;
use crate::shared::Shared;
use head::{HEAD_BYTES_MAX, Unfit};

/// Threads that answer: a slow monitor or two hinder nobody.
const THREADS: usize = 4;

/// Pause after a connection could not be taken, as when descriptors are used up.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

const TEXT: &str = "text/plain; charset=utf-8";

/// The listening side. It goes on while the server stops, to say so, and ends when it is closed.
#[derive(Debug)]
pub(crate) struct Http {
    listener: Arc<Listener>,
    /// Set before the connections are shut down: one that is watched after that sees it.
    is_closed: Arc<AtomicBool>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Http {
    /// Answers on `listener` from now on. If it fails, nothing of it is left.
    pub(crate) fn start(listener: Listener, shared: &Arc<Shared>, spawn: Spawn) -> io::Result<Http> {
        let mut http = Http {
            listener: Arc::new(listener),
            is_closed: Arc::default(),
            shared: Arc::clone(shared),
            threads: Vec::new(),
        };
        for number in 0..THREADS {
            let (listener, is_closed) = (Arc::clone(&http.listener), Arc::clone(&http.is_closed));
            let shared = Arc::clone(shared);
            let work = move || run(&listener, &is_closed, &shared);
            http.threads.push(spawn(&format!("http-{number}"), Box::new(work))?);
        }
        Ok(http)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.listener.close();
        self.shared.watchdog.shutdown_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

fn run(listener: &Listener, is_closed: &AtomicBool, shared: &Arc<Shared>) {
    while !is_closed.load(Ordering::SeqCst) {
        match listener.accept() {
            // A monitor that misbehaves or is gone is no matter of this server.
            Ok(stream) => drop(serve(stream, is_closed, shared)),
            Err(_) if is_closed.load(Ordering::SeqCst) => return,
            Err(_) => std::thread::sleep(EXHAUSTED_PAUSE),
        }
    }
}

/// Answers one request.
fn serve(mut stream: Stream, is_closed: &AtomicBool, shared: &Arc<Shared>) -> io::Result<()> {
    let mut watch = shared.watchdog.watch(&stream, Phase::Handshake);
    if is_closed.load(Ordering::SeqCst) {
        return Ok(());
    }
    let Some(answer) = receive(&mut stream, shared)? else { return Ok(()) };
    watch.enter(Phase::Write);
    stream.write_all(&answer)?;
    // It may have sent a body, or more requests.
    stream.linger();
    Ok(())
}

/// Reads a head, and makes its answer; none if the peer leaves before.
fn receive(stream: &mut Stream, shared: &Arc<Shared>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; HEAD_BYTES_MAX];
    let mut filled = 0;
    loop {
        match head::parse(&bytes[..filled]) {
            Ok(Some(asked)) => return Ok(Some(answer_to(asked.path, shared).bytes(asked.head_only))),
            Ok(None) => {}
            Err(unfit) => return Ok(Some(Answer::to_unfit(unfit).bytes(false))),
        }
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn answer_to(path: &str, shared: &Arc<Shared>) -> Answer {
    match path {
        "/metrics" => Answer { status: "200 OK", content_type: metrics::CONTENT_TYPE, body: metrics::page(shared) },
        "/healthz" => Answer::text("200 OK", "this server lives"),
        "/readyz" => match shared.readiness() {
            Ok(()) => Answer::text("200 OK", "this server serves the memory"),
            Err(why) => Answer::text("503 Service Unavailable", why),
        },
        _ => Answer::text("404 Not Found", "there are /metrics, /healthz and /readyz"),
    }
}

struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: &'static str, sentence: &str) -> Answer {
        Answer { status, content_type: TEXT, body: format!("{sentence}\n") }
    }

    fn to_unfit(unfit: Unfit) -> Answer {
        match unfit {
            Unfit::Malformed => Answer::text("400 Bad Request", "this is not an HTTP/1 request"),
            Unfit::Method => Answer::text("405 Method Not Allowed", "there is GET and HEAD"),
            Unfit::TooLong => {
                Answer::text("431 Request Header Fields Too Large", &format!("at most {HEAD_BYTES_MAX} bytes"))
            }
        }
    }

    fn bytes(self, head_only: bool) -> Vec<u8> {
        let Answer { status, content_type, body } = self;
        let allow = if status.starts_with("405") { "allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{allow}\
             cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        .into_bytes();
        if !head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use mcomp_net::Endpoint;

    use super::*;
    use crate::fixture::Running;

    /// Answers for a server at a port of its own.
    fn start(running: &Running) -> (Http, String) {
        let listener = Listener::bind(&Endpoint::Tcp("127.0.0.1:0".into())).unwrap();
        let Listener::Tcp(socket) = &listener else { unreachable!("as bound above") };
        let address = socket.local_addr().unwrap().to_string();
        (Http::start(listener, &running.server.shared, crate::server::spawn).unwrap(), address)
    }

    fn asked(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn who_does_not_serve_is_alive_and_not_ready() {
        let mut running = Running::start();
        let (_http, address) = start(&running);
        assert!(asked(&address, "/readyz").starts_with("HTTP/1.1 200 "));
        running.server.shared.segment.set_restoring(true);
        let said = asked(&address, "/readyz");
        assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("a restore is under way"), "{said}");
        assert!(asked(&address, "/metrics").contains("\nmcomp_ready 0\n"));
        running.server.shared.segment.set_restoring(false);
        running.server.stop();
        let said = asked(&address, "/readyz");
        assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("is stopping"), "{said}");
        assert!(asked(&address, "/healthz").starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn the_end_waits_for_nobody() {
        let running = Running::start();
        let before = Arc::strong_count(&running.server.shared);
        for round in 0..20 {
            let (http, address) = start(&running);
            let silent: Vec<_> = (0..round % 8).map(|_| TcpStream::connect(&address).unwrap()).collect();
            drop(http);
            TcpStream::connect(&address).expect_err("nobody listens any more");
            drop(silent);
        }
        assert_eq!(Arc::strong_count(&running.server.shared), before, "no thread is left");
    }

    /// The machine has no thread left for the last one.
    #[test]
    fn a_start_that_fails_leaves_no_thread() {
        let running = Running::start();
        let before = Arc::strong_count(&running.server.shared);
        let listener = Listener::bind(&Endpoint::Tcp("127.0.0.1:0".into())).unwrap();
        let few: Spawn = |name, work| match name {
            "http-3" => Err(io::ErrorKind::WouldBlock.into()),
            _ => crate::server::spawn(name, work),
        };
        Http::start(listener, &running.server.shared, few).unwrap_err();
        assert_eq!(Arc::strong_count(&running.server.shared), before);
    }
}
