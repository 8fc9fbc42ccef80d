//! `mcomp alloc`, `free`, `realloc`, `ls`, `stat` and `gc`: the page table of the cluster.

use mcomp_client::meta::{Allocate, Owner, Region, SpaceReport};
use mcomp_config::format_size;
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::flags::{AllocArgs, FreeArgs, GcArgs, ReallocArgs, StatArgs};
use crate::globals::Globals;
use crate::output::{self, table};

pub(crate) fn alloc(globals: &Globals, args: AllocArgs) -> anyhow::Result<Exit> {
    let session = globals.session(&globals.cluster()?)?;
    let AllocArgs { size, name, lease, shared, notes } = args;
    let lease_ms = lease.map(|lease| lease.as_millis() as u64);
    let region = session.allocate(Allocate { size, name, lease_ms, shared, notes, ..Allocate::default() })?;
    session.close()?;
    match globals.json {
        true => output::json(&ok(region_json(&region)))?,
        false => output::line(region.addr)?,
    }
    if let Some(lease) = region.lease.filter(|_| !globals.json) {
        globals.note(format_args!("lease {}, fence {}", lease.id, lease.fence));
    }
    Ok(Exit::DONE)
}

pub(crate) fn free(globals: &Globals, args: &FreeArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let addr = args.place.first(&cluster)?;
    let session = globals.session(&cluster)?;
    let size = session.free(addr, args.generation)?;
    session.close()?;
    if globals.json {
        output::json(&json!({"outcome": "ok", "addr": addr, "size": size}))?;
    } else {
        globals.note_to_person(format_args!("freed {size} bytes at address {addr}"));
    }
    Ok(Exit::DONE)
}

pub(crate) fn realloc(globals: &Globals, args: &ReallocArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let addr = args.place.first(&cluster)?;
    let session = globals.session(&cluster)?;
    let region = session.resize(addr, args.size, None)?;
    session.close()?;
    match globals.json {
        true => output::json(&ok(region_json(&region)))?,
        false => output::line(region.addr)?,
    }
    Ok(Exit::DONE)
}

pub(crate) fn ls(globals: &Globals) -> anyhow::Result<Exit> {
    print_regions(globals, &globals.cluster()?.regions()?)?;
    Ok(Exit::DONE)
}

pub(crate) fn print_regions(globals: &Globals, regions: &[Region]) -> anyhow::Result<()> {
    if globals.json {
        let regions: Vec<Value> = regions.iter().map(|region| Value::Object(region_json(region))).collect();
        return Ok(output::json(&json!({"outcome": "ok", "regions": regions}))?);
    }
    if regions.is_empty() {
        globals.note("nothing is allocated");
        return Ok(());
    }
    let headers = ["ADDR", "SIZE", "TAKEN", "NAME", "OWNER", "GENERATION", "LEASE", "ENDS IN", "META"];
    Ok(output::line(table(&headers, regions.iter().map(row)))?)
}

fn row(region: &Region) -> Vec<String> {
    let notes: Vec<String> = region.notes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let (lease, ends_in) = match &region.lease {
        Some(lease) => (lease.id.to_string(), format!("{} ms", lease.remaining_ms)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    vec![
        region.addr.to_string(),
        region.size.to_string(),
        region.capacity.to_string(),
        region.name.clone().unwrap_or_else(|| "-".to_owned()),
        owner(region.owner),
        region.generation.to_string(),
        lease,
        ends_in,
        if notes.is_empty() { "-".to_owned() } else { notes.join(" ") },
    ]
}

fn owner(owner: Owner) -> String {
    match owner {
        Owner::Session(id) => id.simple().to_string()[..8].to_owned(),
        Owner::Cluster => "-".to_owned(),
        Owner::Nobody => "died".to_owned(),
    }
}

pub(crate) fn region_json(region: &Region) -> Map<String, Value> {
    let mut fields = Map::new();
    let lease = region.lease.as_ref();
    fields.insert("addr".into(), region.addr.into());
    fields.insert("size".into(), region.size.into());
    fields.insert("capacity".into(), region.capacity.into());
    fields.insert("generation".into(), region.generation.into());
    fields.insert("name".into(), region.name.clone().into());
    let owner = match region.owner {
        Owner::Session(id) => Value::from(id.to_string()),
        Owner::Cluster => Value::Null,
        Owner::Nobody => Value::from("died"),
    };
    fields.insert("owner".into(), owner);
    fields.insert("lease".into(), lease.map(|lease| lease.id.to_string()).into());
    fields.insert("fence".into(), lease.map(|lease| lease.fence).into());
    fields.insert("remaining_ms".into(), lease.map(|lease| lease.remaining_ms).into());
    fields.insert("shared".into(), lease.map(|lease| lease.shared).into());
    fields.insert("created_ms".into(), region.created_ms.into());
    let notes: Map<String, Value> =
        region.notes.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    fields.insert("meta".into(), notes.into());
    fields
}

pub(crate) fn ok(mut fields: Map<String, Value>) -> Value {
    let mut whole = Map::from_iter([("outcome".to_owned(), Value::from("ok"))]);
    whole.append(&mut fields);
    whole.into()
}

pub(crate) fn stat(globals: &Globals, args: &StatArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let Some(place) = &args.place else { return stat_space(globals, &cluster.space_report()?) };
    let region = place.region(&cluster)?;
    if globals.json {
        output::json(&ok(region_json(&region)))?;
    } else {
        let fields = region_json(&region);
        let shown = fields.into_iter().filter(|(_, value)| !value.is_null());
        let lines = shown.map(|(key, value)| vec![key, value.as_str().map_or(value.to_string(), str::to_owned)]);
        output::line(table(&["FIELD", "VALUE"], lines))?;
    }
    Ok(Exit::DONE)
}

fn stat_space(globals: &Globals, report: &SpaceReport) -> anyhow::Result<Exit> {
    let SpaceReport { size, asked, taken, quarantined, largest_free, regions, leases, sessions, servers } = report;
    let free = size - taken - quarantined;
    let internal = share(taken - asked, *taken);
    let external = share(free - largest_free, free);
    if globals.json {
        let servers: Vec<Value> =
            servers.iter().map(|(free, largest)| json!({"free": free, "largest_free": largest})).collect();
        output::json(&json!({
            "outcome": "ok", "size": size, "asked": asked, "taken": taken, "free": free, "quarantined": quarantined,
            "largest_free": largest_free, "internal_fragmentation": internal, "external_fragmentation": external,
            "regions": regions, "leases": leases, "sessions": sessions, "servers": servers,
        }))?;
        return Ok(Exit::DONE);
    }
    output::line(format_args!(
        "{} in all: {} taken for {} asked for ({:.1} % internal fragmentation), {} in quarantine\n{} free, the largest \
         run {} ({:.1} % external fragmentation)\n{regions} allocations, {leases} of them under a lease; {sessions} \
         sessions\n",
        format_size(*size),
        format_size(*taken),
        format_size(*asked),
        internal * 100.0,
        format_size(*quarantined),
        format_size(free),
        format_size(*largest_free),
        external * 100.0,
    ))?;
    let rows = servers.iter().enumerate();
    let rows = rows.map(|(id, (free, largest))| vec![id.to_string(), format_size(*free), format_size(*largest)]);
    output::line(table(&["SERVER", "FREE", "LARGEST RUN"], rows))?;
    Ok(Exit::DONE)
}

/// A part of a whole, from 0 to 1.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(crate) fn gc(globals: &Globals, args: &GcArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let left = |region: &Region| region.owner == Owner::Nobody && region.lease.is_none();
    if args.dry_run {
        let left: Vec<Region> = cluster.regions()?.into_iter().filter(left).collect();
        print_regions(globals, &left)?;
        return Ok(Exit::DONE);
    }
    let session = globals.session(&cluster)?;
    let (regions, bytes) = session.collect()?;
    session.close()?;
    match globals.json {
        true => output::json(&json!({"outcome": "ok", "regions": regions, "bytes": bytes}))?,
        false => output::line(format_args!("freed {regions} allocations, {bytes} bytes"))?,
    }
    Ok(Exit::DONE)
}
