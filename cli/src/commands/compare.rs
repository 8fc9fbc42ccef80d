//! `mcomp compare`: the file goes to the servers in parts, and they say where it differs.

use std::fs::File;
use std::io::{self, Read};

use mcomp_client::{Cluster, Error};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::flags::CompareArgs;
use crate::globals::Globals;
use crate::output::{self, progress};

/// How much of the file is held.
const PART_LEN: u64 = 8 << 20;

pub(crate) fn run(globals: &Globals, args: &CompareArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let difference = match args.file.as_os_str() == "-" {
        true => compare(&cluster, args.addr.locate(&cluster, 0)?, io::stdin().lock(), "stdin", |_| ())?,
        false => compare_file(globals, &cluster, args)?,
    };
    match difference {
        _ if globals.json => {
            let equal = difference.is_none();
            output::json(&json!({"outcome": "ok", "equal": equal, "first_difference": difference}))?;
        }
        Some(addr) => output::line(addr)?,
        None => {}
    }
    Ok(if difference.is_none() { Exit::DONE } else { Exit::NEGATIVE })
}

fn compare_file(globals: &Globals, cluster: &Cluster, args: &CompareArgs) -> anyhow::Result<Option<u64>> {
    let name = args.file.display().to_string();
    let failed = |error| Failure::io(format!("open {name}"), &error);
    let file = File::open(&args.file).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let len = if metadata.is_file() { metadata.len() } else { 0 };
    let addr = args.addr.locate(cluster, len)?;
    check_room(cluster, addr, len)?;
    let mut bar = progress::bar("comparing", globals);
    compare(cluster, addr, file, &name, |done| bar(done, len.max(done)))
}

/// The first address from `addr` on whose byte is not the reader's.
fn compare(
    cluster: &Cluster,
    addr: u64,
    mut reader: impl Read,
    name: &str,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Option<u64>> {
    check_room(cluster, addr, 0)?;
    let (mut part, mut at) = (Vec::new(), addr);
    loop {
        part.clear();
        let read = reader.by_ref().take(PART_LEN).read_to_end(&mut part);
        read.map_err(|error| Failure::io(format!("read {name}"), &error))?;
        if part.is_empty() {
            return Ok(None);
        }
        if part.len() as u64 > cluster.size() - at {
            return Err(Failure::too_long(name, addr, cluster.size() - addr).into());
        }
        if let Some(difference) = cluster.compare(at, &part)? {
            return Ok(Some(difference));
        }
        at += part.len() as u64;
        progress(at - addr);
    }
}

/// Refuses a file that the memory cannot hold, before any of it is sent.
fn check_room(cluster: &Cluster, addr: u64, len: u64) -> Result<(), Error> {
    let size = cluster.size();
    match addr.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::OutOfRange { addr, len, size }),
    }
}
