//! The side of the running `mcomp up`: one thread that takes requests and hands them to the thread that owns the
//! children.
//!
//! It serves one connection after the other: what is asked is done one after the other anyway, and nobody can make it
//! start threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mcomp_config::Config;
use mcomp_net::{Listener, PeerProcess, Stream};

use super::line::Lines;
use super::{Answer, Call, Request, endpoint};
use crate::exit::Exit;
use crate::up::events::Event;

/// How long a visitor may take for a line, also for the end of the connection.
const LINE_PATIENCE: Duration = Duration::from_secs(5);

/// Pause after a connection could not be taken, as when file descriptors are used up.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// The listening side. It closes when this is dropped; a visitor that is there has its deadline.
#[derive(Debug)]
pub(in crate::up) struct Desk {
    listener: Arc<Listener>,
    /// Relaxed: it only says why the listener fails.
    is_closed: Arc<AtomicBool>,
}

impl Desk {
    /// Takes requests from now on, which become events.
    pub(in crate::up) fn open(config: &Config, events: Sender<Event>) -> io::Result<Desk> {
        let desk = Desk { listener: Arc::new(Listener::bind(&endpoint(config))?), is_closed: Arc::default() };
        let (listener, is_closed) = (Arc::clone(&desk.listener), Arc::clone(&desk.is_closed));
        let work = move || {
            while !is_closed.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A visitor that misbehaves or is gone is no matter of this process.
                    Ok(stream) => drop(serve(stream, &events)),
                    Err(_) => thread::sleep(EXHAUSTED_PAUSE),
                }
            }
        };
        thread::Builder::new().name("control".into()).spawn(work)?;
        Ok(desk)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.listener.close();
    }
}

/// Answers one visitor until it leaves.
fn serve(stream: Stream, events: &Sender<Event>) -> io::Result<()> {
    let peer = PeerProcess::of(&stream)?;
    let mut lines = Lines::new(stream);
    if !peer.is_own_user() {
        let message = format!("this `mcomp up` belongs to another user than {}, who asks", peer.user);
        return lines.send(&Answer::fail(Exit::NOT_PERMITTED, "denied", message));
    }
    loop {
        let line = match lines.next(Instant::now() + LINE_PATIENCE) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => return lines.send(&Answer::fail(Exit::USAGE, "usage", error.to_string())),
        };
        let answer = match serde_json::from_slice(&line) {
            Ok(request) => hand_on(request, events),
            Err(error) => Answer::fail(Exit::USAGE, "usage", format!("this is not a request: {error}")),
        };
        lines.send(&answer)?;
    }
}

/// Has the thread that owns the children do it.
fn hand_on(request: Request, events: &Sender<Event>) -> Answer {
    let (reply, answer) = sync_channel(1);
    let _ = events.send(Event::Called(Call { request, reply }));
    let ending = || Answer::fail(Exit::UNAVAILABLE, "unavailable", "this `mcomp up` is stopping");
    answer.recv().unwrap_or_else(|_| ending())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    use super::*;

    fn ask(lines: &str) -> Vec<String> {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (events, called) = channel();
        let desk = thread::spawn(move || serve(Stream::Unix(near.into()), &events));
        let owner = thread::spawn(move || {
            for event in called {
                let Event::Called(call) = event else { panic!("{event:?}") };
                let Request::Restart { id } = call.request else { panic!("{call:?}") };
                if id < 10 {
                    call.answer(Answer::fail(Exit::DONE, "test", format!("asked for {id}")));
                }
            }
        });
        far.write_all(lines.as_bytes()).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        let answers = BufReader::new(far).lines().map(Result::unwrap).collect();
        let _ = desk.join().unwrap();
        owner.join().unwrap();
        answers
    }

    #[test]
    fn each_line_has_its_answer_in_order() {
        let answers = ask("{\"op\":\"restart\",\"id\":1}\nnonsense\n{\"op\":\"restart\",\"id\":2}\n");
        assert_eq!(answers.len(), 3);
        let parts = ["asked for 1", "this is not a request", "asked for 2"];
        assert!(answers.iter().zip(parts).all(|(answer, part)| answer.contains(part)), "{answers:?}");
    }

    #[test]
    fn who_is_not_answered_is_told() {
        let answers = ask("{\"op\":\"restart\",\"id\":10}\n");
        assert!(answers.len() == 1 && answers[0].contains("is stopping"), "{answers:?}");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let answers = ask(&"x".repeat(super::super::line::LINE_BYTES_MAX + 1));
        assert!(answers.len() == 1 && answers[0].contains("too long"), "{answers:?}");
    }
}
