//! `mcomp write`: bytes of the command line, of a file or of stdin into the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use mcomp_client::{Cluster, Error};
use serde_json::json;

use super::interrupted::Guard;
use crate::exit::{Exit, Failure};
use crate::flags::value::Place;
use crate::flags::{Source, WriteArgs};
use crate::globals::Globals;
use crate::output::{self, progress};

/// Of a source whose length is not known, this much is read before anything is sent: what is too long
/// for the memory by then is refused whole.
const LOOK_AHEAD: u64 = 4 << 20;

pub(crate) fn run(globals: &Globals, args: WriteArgs) -> anyhow::Result<Exit> {
    store(globals, &args.addr, args.source.into_source(), None)
}

/// Puts the bytes of a source at a place; of a file, the first `part` where not all of it is meant.
pub(crate) fn store(globals: &Globals, place: &Place, source: Source, part: Option<u64>) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let (addr, room) = place.span(&cluster)?;
    let target = Target { addr, room: room.or_else(|| cluster.size().checked_sub(addr)) };
    let len = match source {
        Source::Bytes(bytes) => {
            let len = bytes.len() as u64;
            cluster.write_at(place.locate(&cluster, len)?, &bytes)?;
            len
        }
        Source::File(path) => from_file(globals, &cluster, target, &path, part)?,
        Source::Stdin => from_stream(globals, &cluster, target, io::stdin().lock(), "stdin")?,
    };
    if globals.json {
        output::json(&json!({"outcome": "ok", "addr": addr, "len": len}))?;
    } else {
        globals.note_to_person(format_args!("wrote {len} bytes at address {addr}"));
    }
    Ok(Exit::DONE)
}

/// Where the bytes go, and how many may go there; none when it lies outside the memory.
#[derive(Clone, Copy)]
struct Target {
    addr: u64,
    room: Option<u64>,
}

fn from_file(
    globals: &Globals,
    cluster: &Cluster,
    target: Target,
    path: &Path,
    part: Option<u64>,
) -> anyhow::Result<u64> {
    let name = path.display().to_string();
    let failed = |error| Failure::io(format!("open {name}"), &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if let Some(part) = part.filter(|part| metadata.len() < *part) {
        let text = format!("{name} has only {} bytes, and not {part}", metadata.len());
        return Err(Failure::usage(text).into());
    }
    let len = part.unwrap_or(metadata.len());
    // The files of /proc say 0 and hold more, so that an empty file is read like a pipe.
    if part.is_none() && (!metadata.is_file() || len == 0) {
        return from_stream(globals, cluster, target, file, &name);
    }
    if let Some(room) = target.room.filter(|room| len > *room && *room < cluster.size().saturating_sub(target.addr)) {
        return Err(Failure::too_long(&name, target.addr, room).into());
    }
    let mut bar = progress::bar("writing", globals);
    let written =
        copy_guarded(globals, cluster, file, target.addr, len, |done| bar(done, len)).context(name.clone())?;
    if written < len {
        let text = format!("{name} became shorter while it was read: {written} of {len} bytes were written");
        return Err(Failure::new(Exit::UNKNOWN, "io", text).into());
    }
    Ok(written)
}

/// Writes all that `reader` gives.
fn from_stream(
    globals: &Globals,
    cluster: &Cluster,
    target: Target,
    mut reader: impl Read,
    name: &str,
) -> anyhow::Result<u64> {
    let (addr, size) = (target.addr, cluster.size());
    let room = target.room.ok_or(Error::OutOfRange { addr, len: 0, size })?;
    let mut ahead = Vec::new();
    let look_ahead = reader.by_ref().take(LOOK_AHEAD.min(room + 1)).read_to_end(&mut ahead);
    look_ahead.map_err(|error| Failure::io(format!("read {name}"), &error))?;
    let first_len = ahead.len() as u64;
    if first_len > room {
        return Err(Failure::too_long(name, addr, room).into());
    }
    let mut whole = ahead.as_slice().chain(reader);
    let written = copy_guarded(globals, cluster, &mut whole, addr, room, |_| ()).context(name.to_owned())?;
    if written == room && !is_at_end(&mut whole) {
        let text = format!("{name} is longer than the memory: its first {written} bytes were written from {addr} on");
        return Err(Failure::new(Exit::UNKNOWN, "out_of_range", text).into());
    }
    Ok(written)
}

/// Writes up to `len` bytes. A signal that ends it says how far it came.
fn copy_guarded(
    globals: &Globals,
    cluster: &Cluster,
    reader: impl Read,
    addr: u64,
    len: u64,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<u64> {
    // Relaxed: it is a number and orders nothing.
    let written = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&written);
    let _guard = Guard::new(globals, move || interrupted(addr, told.load(Ordering::Relaxed)))?;
    Ok(cluster.copy_from(reader, addr, len, |done| {
        written.store(done, Ordering::Relaxed);
        progress(done);
    })?)
}

fn interrupted(addr: u64, written: u64) -> String {
    if written == 0 {
        return "the write was interrupted: none of it is known to be in the memory, and a part of it may be"
            .to_owned();
    }
    format!(
        "the write was interrupted: its first {written} bytes are in the memory, from address {addr} on, and what \
         follows them may be there in part"
    )
}

/// An error counts as an end: all bytes that were asked for have come.
fn is_at_end(reader: &mut impl Read) -> bool {
    reader.take(1).read_to_end(&mut Vec::new()).unwrap_or(0) == 0
}
