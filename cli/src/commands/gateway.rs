//! `mcomp gateway`: the memory over HTTP, until a signal stops it.

use serde_json::json;

use super::process::{StopSignals, say_ready};
use crate::exit::Exit;
use crate::flags::GatewayArgs;
use crate::gateway::Gateway;
use crate::globals::Globals;

pub(crate) fn run(globals: &Globals, args: &GatewayArgs) -> anyhow::Result<Exit> {
    let mut signals = StopSignals::catch(args.parent)?;
    let gateway = Gateway::start(globals.config()?, globals.cluster()?, args)?;
    let address = gateway.address();
    let fields = json!({"ready": "gateway", "address": address, "pid": std::process::id()});
    say_ready(globals, &format!("mcomp gateway ready on http://{address}"), &fields);
    signals.wait();
    if !gateway.stop() {
        tracing::warn!("a connection did not end in time");
    }
    Ok(Exit::DONE)
}
