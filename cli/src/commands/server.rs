//! `mcomp server`: one memory server, until a signal stops it, another process takes it over, or another machine its place.
//! When the cluster has grown the server begins anew, in the same process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mcomp_config::{Config, format_size};
use mcomp_server::{OnGrown, OnHandover, OnMoved, Options, Server};
use mcomp_shm::Opened;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::process::{StopSignals, own_id, say_ready};
use crate::exit::Exit;
use crate::flags::ServerArgs;
use crate::globals::Globals;

/// How the last line calls the end of a server for the process whose id follows.
pub(crate) const HANDED_OVER: &str = "handed over to process ";

/// How often a server that waits for a long request looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// How the ready line calls a segment that was there before.
pub(crate) const TAKEN_OVER: &str = "taken over";

pub(crate) fn run(globals: &Globals, args: &ServerArgs) -> anyhow::Result<Exit> {
    let mut signals = StopSignals::catch(args.parent)?;
    let config = globals.config_of_process()?;
    let id = own_id(&config, args.id)?;
    raise_open_files();
    let mut is_first = true;
    loop {
        let (successor, moved_to) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let options = Options {
            id,
            op_log: args.op_log.clone(),
            takes_over: is_first && !args.no_takeover,
            serves_again: !is_first,
            on_handover: Some(hand_over(&successor, &signals)),
            on_moved: Some(make_room(&moved_to, &signals)),
            on_grown: Some(begin_anew(&signals)),
        };
        let mut server = Server::start(&config, &options)?;
        if std::mem::take(&mut is_first) {
            say_serving(globals, &config, id, &server)?;
        }
        let was_signalled = signals.wait();
        if let Some(pid) = successor.get() {
            tracing::warn!(server = id, successor = pid, "stopping: another process takes this server over");
            let text = format!("mcomp server {id} {HANDED_OVER}{pid}");
            say_ready(globals, &text, &json!({"handed_over": id, "successor": pid}));
        }
        if let Some(to) = moved_to.get() {
            let text = format!("mcomp server {id} was replaced: it is at {to} now");
            say_ready(globals, &text, &json!({"replaced": id, "address": to}));
        }
        let ends = was_signalled || successor.get().is_some() || moved_to.get().is_some();
        if !server.stop() {
            tracing::warn!("a connection did not end in time: the next start checks the segment");
            // As long as it runs the memory is held.
            while !ends && !server.wait_for_requests(LOOK) {
                if signals.has_come() {
                    return Ok(Exit::DONE);
                }
            }
        }
        drop(server);
        // Otherwise the cluster has grown. Whoever was promised the segment meanwhile has it.
        if ends || successor.get().is_some() {
            return Ok(Exit::DONE);
        }
        match signals.again()? {
            Some(next) => signals = next,
            None => return Ok(Exit::DONE),
        }
    }
}

fn say_serving(globals: &Globals, config: &Config, id: u32, server: &Server) -> anyhow::Result<()> {
    let address = config.server(id)?.address.as_str();
    let segment = segment_word(server.opened());
    let text = format!("mcomp server {id} ready on {address} ({}, segment {segment})", format_size(config.k()));
    let pid = std::process::id();
    let fields =
        json!({"ready": "server", "id": id, "address": address, "k": config.k(), "segment": segment, "pid": pid});
    say_ready(globals, &text, &fields);
    Ok(())
}

/// Notes the successor, and has the wait for signals end as if one had come.
fn hand_over(successor: &Arc<OnceLock<u32>>, signals: &StopSignals) -> OnHandover {
    let (successor, closer) = (Arc::clone(successor), signals.closer());
    OnHandover::new(move |pid| {
        // A server promises its segment once.
        let _ = successor.set(pid);
        closer.close();
    })
}

/// Notes where the server is now, and has the wait for signals end as if one had come.
fn make_room(moved_to: &Arc<OnceLock<String>>, signals: &StopSignals) -> OnMoved {
    let (moved_to, closer) = (Arc::clone(moved_to), signals.closer());
    OnMoved::new(move |address| {
        // It is told again with every entry.
        let _ = moved_to.set(address.to_owned());
        closer.close();
    })
}

/// Has the wait for signals end, when this server is to begin anew because one was added.
fn begin_anew(signals: &StopSignals) -> OnGrown {
    let closer = signals.closer();
    OnGrown::new(move || closer.close())
}

/// Lets this process open as many files as it may. The usual soft limit protects programs that call
/// select(2), which this one does not, and is too low for the connections that mcomp.cfg allows.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be raised, the server says how many connections it can serve.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn segment_word(opened: &Opened) -> &'static str {
    match opened {
        Opened::Created => "created",
        Opened::TakenOver { .. } => TAKEN_OVER,
    }
}
