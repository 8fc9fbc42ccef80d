//! `mcomp server`: one memory server, until a signal stops it.

use mcomp_config::format_size;
use mcomp_server::{Options, Server};
use mcomp_shm::Opened;
use serde_json::json;

use super::process::{StopSignals, own_id, say_ready};
use crate::exit::Exit;
use crate::flags::ServerArgs;
use crate::globals::Globals;

pub(crate) fn run(globals: &Globals, args: &ServerArgs) -> anyhow::Result<Exit> {
    let signals = StopSignals::catch(args.parent)?;
    let config = globals.config()?;
    let id = own_id(&config, args.id)?;
    let mut server = Server::start(&config, &Options { id, op_log: args.op_log.clone() })?;
    let address = config.server(id)?.address.as_str();
    let segment = segment_word(server.opened());
    let text = format!("mcomp server {id} ready on {address} ({}, segment {segment})", format_size(config.k()));
    let pid = std::process::id();
    let fields =
        json!({"ready": "server", "id": id, "address": address, "k": config.k(), "segment": segment, "pid": pid});
    say_ready(globals, &text, &fields);
    signals.wait();
    if !server.stop() {
        tracing::warn!("a connection did not end in time: the next start checks the segment");
    }
    Ok(Exit::DONE)
}

fn segment_word(opened: &Opened) -> &'static str {
    match opened {
        Opened::Created => "created",
        Opened::TakenOver { .. } => "taken over",
    }
}
