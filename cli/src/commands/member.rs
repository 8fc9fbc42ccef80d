//! `mcomp member`: the servers as they have agreed, how one is moved, and how one is added.

mod add;

use std::collections::BTreeMap;
use std::time::Duration;

use mcomp_client::meta::{Member, MembersReport};
use mcomp_client::{Cluster, Error, Options, Role, ServerStatus};
use mcomp_config::{Config, Endpoint};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::flags::{MemberArgs, MemberCommand};
use crate::globals::Globals;
use crate::output::{self, progress, table};

/// How often it is looked how far a move is.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn run(globals: &Globals, args: &MemberArgs) -> anyhow::Result<Exit> {
    match &args.command {
        MemberCommand::Ls => ls(globals),
        MemberCommand::Replace { id, address, no_wait } => replace(globals, *id, address, *no_wait),
        MemberCommand::Add { address, no_wait } => add::add(globals, address, *no_wait),
    }
}

fn ls(globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let (cluster, report) = reached(&config)?;
    let states: Vec<String> = cluster.statuses().into_iter().map(|status| state(status.ok())).collect();
    let adding = (report.shape.step > 0).then_some(report.shape.n);
    let config = grown(&config, &report)?;
    let rows = (0..config.n()).zip(&states).map(|(id, state)| {
        let member = report.members.get(&id);
        let moves_to = report.next(id).map(|(_, address)| address);
        (id, address_of(&config, &report, id), member, state, moves_to)
    });
    if globals.json {
        let members = rows.map(|(id, address, member, state, moves_to)| {
            json!({
                "server": id,
                "address": address,
                "state": state,
                "incarnation": member.map(|member| member.incarnation),
                "memory": member.map(|member| member.memory.to_string()),
                "lost_memory": member.map(|member| member.is_heir),
                "moves_to": moves_to,
            })
        });
        let members: Vec<_> = members.collect();
        let (epoch, replicas) = (report.epoch, config.replicas());
        output::json(&json!({
            "outcome": "ok", "epoch": epoch, "replicas": replicas, "members": members, "adding": adding,
        }))?;
        return Ok(Exit::DONE);
    }
    if config.replicas() == 1 {
        globals.note("blocks are not replicated in this cluster: each server alone keeps its own");
    }
    let headers = ["SERVER", "ADDRESS", "STATE", "INCARNATION", "MEMORY"];
    let rows = rows.map(|(id, address, member, state, moves_to)| {
        let show = |what: fn(&Member) -> String| member.map_or_else(|| "-".to_owned(), what);
        let (incarnation, memory) =
            (show(|member| member.incarnation.to_string()), show(|member| member.memory.to_string()));
        let state = moves_to.map_or_else(|| state.clone(), |to| format!("{state}, to move to {to}"));
        let state = if adding == Some(id) { format!("{state}, being added") } else { state };
        vec![id.to_string(), address, state, incarnation, memory]
    });
    output::line(table(&headers, rows))?;
    Ok(Exit::DONE)
}

/// All servers, and what they have agreed about themselves: mcomp.cfg may list fewer, or one that is not added yet.
fn reached(config: &Config) -> anyhow::Result<(Cluster, MembersReport)> {
    let mut cluster = admin(config)?;
    let report = match cluster.members() {
        // It may list a server that is not added yet.
        Err(error) if config.n() > config.replicas() => {
            cluster = admin(&config.with_servers(config.n() - 1, &BTreeMap::new()))?;
            cluster.members().map_err(|_| error)?
        }
        report => report?,
    };
    if report.shape.servers() != cluster.space().n() {
        cluster = admin(&grown(config, &report)?)?;
    }
    Ok((cluster, report))
}

fn admin(config: &Config) -> Result<Cluster, Error> {
    Cluster::with_options(Options { role: Role::Admin, ..Options::from_config(config) })
}

/// mcomp.cfg with the servers that there are.
fn grown(config: &Config, report: &MembersReport) -> anyhow::Result<Config> {
    let servers = report.shape.servers();
    let added = report.added.iter().filter(|(server, _)| (config.n()..servers).contains(*server));
    let parsed = added.map(|(server, address)| Ok((*server, address.parse()?)));
    let addresses: BTreeMap<u32, Endpoint> = parsed.collect::<anyhow::Result<_>>()?;
    match (config.n()..servers).find(|server| !addresses.contains_key(server)) {
        None => Ok(config.with_servers(servers, &addresses)),
        Some(server) => Err(anyhow::anyhow!("nobody says where server {server} is: put it into mcomp.cfg")),
    }
}

/// Where a server is.
fn address_of(config: &Config, report: &MembersReport, id: u32) -> String {
    let joined = report.members.get(&id).map(|member| member.address.as_str());
    let first = || config.servers()[id as usize].address.to_string();
    report.address(id).or(joined).map_or_else(first, str::to_owned)
}

fn state(status: Option<ServerStatus>) -> String {
    status.map_or_else(|| "unreachable".to_owned(), |status| status.state)
}

fn replace(globals: &Globals, id: u32, address: &Endpoint, no_wait: bool) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    if config.replicas() == 1 {
        let text = "blocks are not replicated in this cluster, so nobody else has what is to be moved: take a snapshot, \
                    change mcomp.cfg on all machines, start the servers and restore it";
        return Err(Failure::usage(text).into());
    }
    let (cluster, report) = reached(&config)?;
    let config = grown(&config, &report)?;
    config.server(id)?;
    let elsewhere =
        (0..config.n()).find(|other| *other != id && address_of(&config, &report, *other) == address.as_str());
    if let Some(other) = elsewhere {
        return Err(Failure::usage(format!("{address} is the address of server {other}")).into());
    }
    let stays = address_of(&config, &report, id) == address.as_str();
    if !stays && report.next(id).is_none() {
        check_others(&cluster, id)?;
    }
    // To where it is: a move is given up, or was done before and only its end is waited for.
    cluster.session()?.move_server(id, Some(address.as_str()))?;
    if !stays {
        let note =
            format!("server {id} is to be at {address}: start `mcomp server --id {id}` there, if it does not run");
        globals.note_to_person(note);
    }
    if !no_wait {
        wait(globals, &cluster, id, address.as_str(), stays)?;
    }
    let report = cluster.members()?;
    let (epoch, incarnation) = (report.epoch, report.members.get(&id).map(|member| member.incarnation));
    let has_come = report.next(id).is_none();
    match globals.json {
        true => output::json(&json!({
            "outcome": "ok", "server": id, "address": address.as_str(), "epoch": epoch, "incarnation": incarnation,
            "done": has_come,
        }))?,
        false if has_come => output::line(format_args!("server {id} is at {address}"))?,
        false => output::line(format_args!("server {id} is to be at {address}: see mcomp member ls"))?,
    }
    Ok(Exit::DONE)
}

/// Fails unless all other servers have their memory: it is they who fill the new one.
fn check_others(cluster: &Cluster, id: u32) -> anyhow::Result<()> {
    let states = cluster.statuses().into_iter().map(|status| state(status.ok()));
    match (0..).zip(states).find(|(other, state)| *other != id && state != "serving") {
        None => Ok(()),
        Some((other, state)) => {
            let text = format!(
                "server {other} is {state}: server {id} is filled by the others, so all of them must serve first"
            );
            Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text).into())
        }
    }
}

/// Fails unless all servers before this one have their memory.
fn check_before(cluster: &Cluster, new: u32) -> anyhow::Result<()> {
    let states = cluster.statuses().into_iter().map(|status| state(status.ok()));
    match (0..new).zip(states).find(|(_, state)| state != "serving") {
        None => Ok(()),
        Some((id, state)) => {
            let text = format!("server {id} is {state}: copies move between servers, so all of them must serve first");
            Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text).into())
        }
    }
}

/// Waits until the server has come to its address, and is whole.
fn wait(globals: &Globals, cluster: &Cluster, id: u32, address: &str, stays: bool) -> anyhow::Result<()> {
    let mut bar = progress::share(globals);
    loop {
        cluster.look_for_moved();
        let report = cluster.members()?;
        let has_come = report.next(id).is_none();
        let status = if has_come { cluster.status(id).ok() } else { None };
        let is_elsewhere = !stays && report.address(id) != Some(address);
        match (&status, has_come) {
            (_, true) if is_elsewhere => {
                let text = format!("the move of server {id} to {address} was given up by somebody else");
                return Err(Failure::new(Exit::TRY_AGAIN, "given_up", text).into());
            }
            (Some(status), true) if status.state == "serving" => return Ok(()),
            (Some(status), true) => bar(&status.state, filled(&status.state)),
            _ => bar(&format!("waiting for server {id} at {address}"), 0.0),
        }
        std::thread::sleep(LOOK);
    }
}

/// Which part is filled again, as a state says.
fn filled(state: &str) -> f64 {
    let percent = state.strip_prefix("filling ").and_then(|rest| rest.strip_suffix('%'));
    percent.and_then(|percent| percent.parse::<f64>().ok()).unwrap_or(0.0) / 100.0
}
