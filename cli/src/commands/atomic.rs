//! `mcomp cas`, `mcomp add` and `mcomp swap`: each prints the value that was there.

use serde_json::json;

use crate::exit::Exit;
use crate::flags::{AddArgs, CasArgs, SwapArgs};
use crate::globals::Globals;
use crate::output;

pub(crate) fn cas(globals: &Globals, args: &CasArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let exchanged = cluster.compare_exchange(args.addr.locate(&cluster, 8)?, args.old, args.new)?;
    let (swapped, value) = (exchanged.swapped, exchanged.previous);
    match globals.json {
        true => output::json(&json!({"outcome": "ok", "swapped": swapped, "value": value}))?,
        false => output::line(value)?,
    }
    Ok(if swapped { Exit::DONE } else { Exit::NEGATIVE })
}

pub(crate) fn add(globals: &Globals, args: &AddArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let before = cluster.fetch_add(args.addr.locate(&cluster, 8)?, args.delta)?;
    print(globals, before)
}

pub(crate) fn swap(globals: &Globals, args: &SwapArgs) -> anyhow::Result<Exit> {
    let cluster = globals.cluster()?;
    let before = cluster.swap(args.addr.locate(&cluster, 8)?, args.new)?;
    print(globals, before)
}

fn print(globals: &Globals, before: u64) -> anyhow::Result<Exit> {
    match globals.json {
        true => output::json(&json!({"outcome": "ok", "value": before}))?,
        false => output::line(before)?,
    }
    Ok(Exit::DONE)
}
