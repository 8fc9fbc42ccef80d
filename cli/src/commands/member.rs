//! `mcomp member`: the servers that keep replicated blocks, as they have agreed.

use mcomp_client::meta::Member;
use serde_json::json;

use crate::exit::Exit;
use crate::flags::{MemberArgs, MemberCommand};
use crate::globals::Globals;
use crate::output::{self, table};

pub(crate) fn run(globals: &Globals, args: &MemberArgs) -> anyhow::Result<Exit> {
    match args.command {
        MemberCommand::Ls => ls(globals),
    }
}

fn ls(globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let cluster = globals.cluster()?;
    let report = cluster.members()?;
    let states: Vec<String> = cluster.statuses().into_iter().map(|status| state(status.ok())).collect();
    let rows = config.servers().iter().zip(&states).enumerate().map(|(id, (server, state))| {
        let member = report.members.get(&(id as u32));
        (id, server.address.to_string(), member, state)
    });
    if globals.json {
        let members = rows.map(|(id, address, member, state)| {
            json!({
                "server": id,
                "address": address,
                "state": state,
                "incarnation": member.map(|member| member.incarnation),
                "memory": member.map(|member| member.memory.to_string()),
                "lost_memory": member.map(|member| member.is_heir),
            })
        });
        let members: Vec<_> = members.collect();
        let (epoch, replicas) = (report.epoch, config.replicas());
        output::json(&json!({"outcome": "ok", "epoch": epoch, "replicas": replicas, "members": members}))?;
        return Ok(Exit::DONE);
    }
    if config.replicas() == 1 {
        globals.note("blocks are not replicated in this cluster: each server alone keeps its own");
    }
    let headers = ["SERVER", "ADDRESS", "STATE", "INCARNATION", "MEMORY"];
    let rows = rows.map(|(id, address, member, state)| {
        let show = |what: fn(&Member) -> String| member.map_or_else(|| "-".to_owned(), what);
        let (incarnation, memory) =
            (show(|member| member.incarnation.to_string()), show(|member| member.memory.to_string()));
        vec![id.to_string(), address, state.clone(), incarnation, memory]
    });
    output::line(table(&headers, rows))?;
    Ok(Exit::DONE)
}

fn state(status: Option<mcomp_client::ServerStatus>) -> String {
    status.map_or_else(|| "unreachable".to_owned(), |status| status.state)
}
