//! The short commands that are more than another name of a long one.

use mcomp_client::{Cluster, ServerStatus};
use serde_json::{Value, json};

use crate::commands::{read, write};
use crate::exit::{Exit, Failure};
use crate::flags::value::Place;
use crate::flags::{Format, ReadArgs, Source};
use crate::globals::Globals;
use crate::output::{self, table};

use super::request::Request;

/// How much `d` shows where nothing is allocated.
const DUMP_LEN: u64 = 256;

/// Runs a request that is none for the command line of mcomp.
pub(super) fn run(globals: &Globals, request: Request) -> anyhow::Result<Exit> {
    match request {
        Request::Write { place, data } => write::store(globals, &place, Source::Bytes(data), None),
        Request::WriteFile { place, path, len } => write::store(globals, &place, Source::File(path), len),
        Request::Read { place, len } => {
            let cluster = globals.cluster()?;
            let addr = place.locate(&cluster, len)?;
            read::show(globals, cluster, addr, len, Format::Text)
        }
        Request::ReadFile { place, path, len } => {
            let len = len.map_or_else(|| rest_of(&globals.cluster()?, &place), Ok)?;
            let shown = path.display().to_string();
            let done = read::run(globals, &ReadArgs { addr: place, len: Some(len), output: Some(path), format: None })?;
            globals.note_to_person(format_args!("read {len} bytes to {shown}"));
            Ok(done)
        }
        Request::Dump { place } => {
            let cluster = globals.cluster()?;
            let (addr, len) = dumped(&cluster, &place)?;
            read::show(globals, cluster, addr, len, Format::Hex)
        }
        Request::Net => net(globals),
        other => unreachable!("the loop has taken {other:?}"),
    }
}

/// Bytes from a place to the end of what is named or allocated there.
fn rest_of(cluster: &Cluster, place: &Place) -> anyhow::Result<u64> {
    let (addr, room) = place.span(cluster)?;
    if let Some(room) = room {
        return Ok(room);
    }
    let region = cluster.region_at(addr)?;
    let text = || format!("how many bytes? Nothing is allocated at address {addr}, so it takes a SIZE");
    Ok(region.map(|region| region.addr + region.size - addr).ok_or_else(|| Failure::usage(text()))?)
}

/// The first address and the length of what is dumped.
fn dumped(cluster: &Cluster, place: &Place) -> anyhow::Result<(u64, u64)> {
    let (addr, room) = place.span(cluster)?;
    if let Some(room) = room {
        return Ok((addr, room));
    }
    // Behind the end of the memory, the read is what says so.
    let left = cluster.size().checked_sub(addr).filter(|left| *left > 0);
    Ok(match (left, left.map(|_| cluster.region_at(addr)).transpose()?.flatten()) {
        (_, Some(region)) => (region.addr, region.size),
        (left, None) => (addr, DUMP_LEN.min(left.unwrap_or(DUMP_LEN))),
    })
}

/// What `d net` knows of one server.
struct Node {
    address: String,
    /// What it says, and whom it takes for the leader.
    said: Result<(ServerStatus, Option<u32>), mcomp_client::Error>,
}

fn net(globals: &Globals) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let config = globals.config()?;
    let addresses = config.servers().iter().map(|server| server.address.to_string());
    let asked = (0..).zip(addresses.zip(cluster.statuses()));
    let nodes: Vec<Node> = asked
        .map(|(id, (address, status))| {
            let said = status.and_then(|status| Ok((status, cluster.consensus(id)?.leader)));
            Node { address, said }
        })
        .collect();
    let silences = nodes.iter().filter_map(|node| node.said.as_ref().err());
    if globals.json {
        let servers: Vec<Value> = (0..).zip(&nodes).map(|(id, node)| node.json(id)).collect();
        output::json(&json!({"outcome": "ok", "servers": servers}))?;
    } else {
        let rows = (0..).zip(&nodes).map(|(id, node)| node.row(id));
        output::line(table(&["SERVER", "ADDRESS", "STATE", "LEADER"], rows))?;
        silences.clone().try_for_each(output::line)?;
    }
    Ok(if silences.count() == 0 { Exit::DONE } else { Exit::UNAVAILABLE })
}

impl Node {
    fn row(&self, id: u32) -> Vec<String> {
        let (state, leader) = match &self.said {
            Ok((status, Some(leader))) if *leader == id => (status.state.clone(), "itself".to_owned()),
            Ok((status, Some(leader))) => (status.state.clone(), format!("server {leader}")),
            Ok((status, None)) => (status.state.clone(), "none".to_owned()),
            Err(_) => ("unreachable".to_owned(), "-".to_owned()),
        };
        vec![id.to_string(), self.address.clone(), state, leader]
    }

    fn json(&self, id: u32) -> Value {
        let address = &self.address;
        match &self.said {
            Ok((status, leader)) => json!({"id": id, "address": address, "state": status.state, "leader": leader}),
            Err(error) => {
                let (kind, error) = (error.kind(), error.to_string());
                json!({"id": id, "address": address, "state": "unreachable", "kind": kind, "error": error})
            }
        }
    }
}
