//! `mcomp snapshotter`: one snapshot process, until a signal stops it.

use mcomp_snapshot::Snapshotter;
use serde_json::json;

use super::process::{StopSignals, own_id, say_ready};
use crate::exit::Exit;
use crate::flags::SnapshotterArgs;
use crate::globals::Globals;

pub(crate) fn run(globals: &Globals, args: &SnapshotterArgs) -> anyhow::Result<Exit> {
    let mut signals = StopSignals::catch(args.parent)?;
    let config = globals.config_of_process()?;
    let id = own_id(&config, args.id)?;
    let mut snapshotter = Snapshotter::start(&config, id)?;
    let address = config.server(id)?.snapshot.as_ref().map(ToString::to_string).unwrap_or_default();
    let is_master = snapshotter.is_master();
    let text = format!("mcomp snapshotter {id} ready on {address}{}", if is_master { " (master)" } else { "" });
    let pid = std::process::id();
    let fields = json!({"ready": "snapshotter", "id": id, "address": address, "master": is_master, "pid": pid});
    say_ready(globals, &text, &fields);
    signals.wait();
    if !snapshotter.stop() {
        tracing::warn!("a thread of the snapshot process did not end in time");
    }
    Ok(Exit::DONE)
}
