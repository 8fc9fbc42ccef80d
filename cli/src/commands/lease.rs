//! `mcomp lease`: memory with a time to live, used by its id.

use std::io::{Read, Write};
use std::time::Duration;

use mcomp_client::meta::{Allocate, Fence, Region};
use mcomp_client::{Cluster, Error, Status};
use serde_json::json;
use uuid::Uuid;

use super::agreed::{ok, print_regions, region_json};
use crate::exit::{Exit, Failure};
use crate::flags::{LeaseArgs, LeaseCommand, Source};
use crate::globals::Globals;
use crate::output::{self, Stdout};

pub(crate) fn run(globals: &Globals, args: LeaseArgs) -> anyhow::Result<Exit> {
    let LeaseArgs { command, size, ttl } = args;
    match command {
        None => grant(globals, size.expect("required without a command"), ttl.expect("required without a command")),
        Some(LeaseCommand::Get { id }) => get(globals, id),
        Some(LeaseCommand::Set { id, source }) => set(globals, id, source.into_source()),
        Some(LeaseCommand::Renew { id, ttl }) => renew(globals, id, ttl),
        Some(LeaseCommand::Release { id }) => release(globals, id),
        Some(LeaseCommand::Ls) => {
            let regions = globals.cluster()?.regions()?;
            let leased: Vec<Region> = regions.into_iter().filter(|region| region.lease.is_some()).collect();
            print_regions(globals, &leased)?;
            Ok(Exit::DONE)
        }
    }
}

fn grant(globals: &Globals, size: u64, ttl: Duration) -> anyhow::Result<Exit> {
    let session = globals.session(&globals.cluster()?)?;
    let wish = Allocate { size, lease_ms: Some(ttl.as_millis() as u64), ..Allocate::default() };
    let region = session.allocate(wish)?;
    session.close()?;
    let lease = region.lease.as_ref().expect("a lease was asked for");
    match globals.json {
        true => output::json(&ok(region_json(&region)))?,
        false => output::line(lease.id)?,
    }
    Ok(Exit::DONE)
}

fn get(globals: &Globals, id: Uuid) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let region = leased(&cluster, id)?;
    if globals.json {
        use base64::Engine;
        let data = cluster.read_vec(region.addr, region.size)?;
        let data = base64::engine::general_purpose::STANDARD.encode(data);
        let mut fields = region_json(&region);
        fields.insert("data".into(), data.into());
        output::json(&ok(fields))?;
    } else {
        let mut stdout = Stdout::lock();
        cluster.copy_to(region.addr, region.size, &mut stdout, |_| ())?;
        stdout.flush()?;
    }
    // What was read may be another holder's if the lease has run out meanwhile.
    leased(&cluster, id)?;
    Ok(Exit::DONE)
}

fn set(globals: &Globals, id: Uuid, source: Source) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let region = leased(&cluster, id)?;
    let bytes = bytes_of(source, region.size)?;
    if bytes.len() as u64 > region.size {
        let text = format!("{} bytes are more than the lease's {}", bytes.len(), region.size);
        return Err(Failure::new(Exit::USAGE, "too_large", text).into());
    }
    let number = region.lease.as_ref().expect("it was found by its lease").fence;
    cluster.fenced(Fence { id, number }).write_at(region.addr, &bytes)?;
    if globals.json {
        output::json(&json!({"outcome": "ok", "addr": region.addr, "len": bytes.len()}))?;
    }
    Ok(Exit::DONE)
}

/// The bytes of a source, and one more than `most` if it goes on.
fn bytes_of(source: Source, most: u64) -> anyhow::Result<Vec<u8>> {
    let read = |reader: &mut dyn Read, what: &str| {
        let mut bytes = Vec::new();
        reader.take(most + 1).read_to_end(&mut bytes).map_err(|error| Failure::io(format!("read {what}"), &error))?;
        Ok(bytes)
    };
    match source {
        Source::Bytes(bytes) => Ok(bytes),
        Source::Stdin => read(&mut std::io::stdin().lock(), "stdin"),
        Source::File(path) => {
            let what = path.display().to_string();
            let mut file = std::fs::File::open(&path).map_err(|error| Failure::io(format!("open {what}"), &error))?;
            read(&mut file, &what)
        }
    }
}

fn renew(globals: &Globals, id: Uuid, ttl: Duration) -> anyhow::Result<Exit> {
    let session = globals.session(&globals.cluster()?)?;
    let lease = session.renew(id, ttl.as_millis() as u64)?;
    session.close()?;
    if globals.json {
        let (deadline_ms, remaining_ms) = (lease.deadline_ms, lease.remaining_ms);
        output::json(&json!({"outcome": "ok", "deadline_ms": deadline_ms, "remaining_ms": remaining_ms}))?;
    }
    Ok(Exit::DONE)
}

fn release(globals: &Globals, id: Uuid) -> anyhow::Result<Exit> {
    let session = globals.session(&globals.cluster()?)?;
    let size = session.release(id)?;
    session.close()?;
    if globals.json {
        output::json(&json!({"outcome": "ok", "size": size}))?;
    }
    Ok(Exit::DONE)
}

fn leased(cluster: &Cluster, id: Uuid) -> Result<Region, Error> {
    let message = || format!("there is no lease {id}: it was released, or has run out");
    cluster.region_leased(id)?.ok_or_else(|| Error::Agreed { status: Status::NoLease, message: message() })
}
