//! `mcomp fill` and `mcomp copy`: the servers' own work on ranges.

use serde_json::json;

use crate::exit::Exit;
use crate::flags::{CopyArgs, FillArgs};
use crate::globals::Globals;
use crate::output;

pub(crate) fn fill(globals: &Globals, args: &FillArgs) -> anyhow::Result<Exit> {
    let FillArgs { ref addr, len, byte } = *args;
    let cluster = globals.cluster()?;
    let addr = addr.locate(&cluster, len)?;
    cluster.fill(addr, len, byte)?;
    if globals.json {
        output::json(&json!({"outcome": "ok", "addr": addr, "len": len}))?;
    }
    Ok(Exit::DONE)
}

pub(crate) fn copy(globals: &Globals, args: &CopyArgs) -> anyhow::Result<Exit> {
    let CopyArgs { ref from, ref to, len } = *args;
    let cluster = globals.cluster()?;
    let (from, to) = (from.locate(&cluster, len)?, to.locate(&cluster, len)?);
    cluster.copy(from, to, len)?;
    if globals.json {
        output::json(&json!({"outcome": "ok", "from": from, "to": to, "len": len}))?;
    }
    Ok(Exit::DONE)
}
