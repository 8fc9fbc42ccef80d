//! `mcomp member add`: a server more, and so much more memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcomp_client::meta::MembersReport;
use mcomp_client::{Cluster, Error, Shape};
use mcomp_config::{Config, Endpoint, format_size};
use serde_json::json;

use super::{LOOK, admin, check_before, filled, reached, state};
use crate::exit::{Exit, Failure};
use crate::globals::Globals;
use crate::output::{self, progress};

/// For how long nobody may answer while servers begin anew.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn add(globals: &Globals, address: &Endpoint, no_wait: bool) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let (cluster, report) = as_it_is(&config, address)?;
    let (id, is_new) = place(&config, &report, address)?;
    let after = with(&config, &report, id, address)?;
    let grown = admin(&after)?;
    if is_new {
        check_before(&cluster, id)?;
        check_new(&grown, id, address)?;
        cluster.session()?.add_server(id, address.as_str(), config.replicas(), report.epoch)?;
    }
    if !no_wait {
        wait(globals, &cluster, &grown, id)?;
    }
    let done = members_of(&cluster)?.shape.n > id;
    let size = format_size(after.space());
    match globals.json {
        true => output::json(&json!({
            "outcome": "ok", "server": id, "address": address.as_str(), "n": id + 1, "space": after.space(), "done": done,
        }))?,
        false if done => output::line(format_args!("server {id} is at {address}: {} servers, {size}", id + 1))?,
        false => output::line(format_args!("server {id} is being added at {address}: see mcomp member ls"))?,
    }
    if config.n() <= id || config.servers()[id as usize].address != *address {
        let note = format!(
            "put it into mcomp.cfg on all machines: n = {}, and another [[server]] with address = \"{address}\"",
            id + 1
        );
        globals.note_to_person(note);
    }
    Ok(Exit::DONE)
}

/// The cluster without the server, or with it if it was added before; mcomp.cfg may list it already.
fn as_it_is(config: &Config, address: &Endpoint) -> anyhow::Result<(Cluster, MembersReport)> {
    let last = config.n() - 1;
    let is_listed = last >= config.replicas() && config.servers()[last as usize].address == *address;
    if !is_listed {
        return reached(config);
    }
    let without = reached(&config.with_servers(last, &BTreeMap::new()));
    without.or_else(|error| reached(config).map_err(|_| error))
}

/// Which server it is to be, and whether that is still to be agreed on.
fn place(config: &Config, report: &MembersReport, address: &Endpoint) -> anyhow::Result<(u32, bool)> {
    let servers = report.shape.servers();
    let agreed = super::grown(config, report)?;
    let at = (0..servers).find(|server| {
        // What mcomp.cfg says of one that has not come yet is what it is to be.
        let expected = report.added.get(server).filter(|_| !report.members.contains_key(server));
        let address_of = || super::address_of(&agreed, report, *server);
        expected.map_or_else(address_of, String::clone) == address.as_str()
    });
    if let Some(id) = at {
        // It was added before, and perhaps that is not done yet.
        return match report.added.contains_key(&id) {
            true => Ok((id, false)),
            false => Err(Failure::usage(format!("{address} is the address of server {id}")).into()),
        };
    }
    let has_come = report.members.contains_key(&report.shape.n);
    if report.shape.step > 0 && has_come {
        let text = format!("server {} is being added: wait for it", report.shape.n);
        return Err(Failure::new(Exit::TRY_AGAIN, "locked", text).into());
    }
    // If nobody has come from where the last one was to be, this is another address for it.
    let id = report.shape.n;
    match config.servers().get(id as usize) {
        Some(listed) if listed.address != *address => {
            let text =
                format!("server {id} is at {} by {}, and not at {address}", listed.address, config.path().display());
            Err(Failure::usage(text).into())
        }
        _ => Ok((id, true)),
    }
}

/// mcomp.cfg as it is to be.
fn with(config: &Config, report: &MembersReport, id: u32, address: &Endpoint) -> anyhow::Result<Config> {
    let mut report = report.clone();
    report.added.insert(id, address.as_str().to_owned());
    report.shape = Shape { n: id + 1, step: 0 };
    super::grown(config, &report)
}

/// Fails unless the new server is there, and would be that.
fn check_new(grown: &Cluster, id: u32, address: &Endpoint) -> anyhow::Result<()> {
    let Err(error) = grown.status(id) else { return Ok(()) };
    let text = format!(
        "server {id} is not ready at {address}: {error}. Start `mcomp server --id {id}` there first, with a mcomp.cfg in \
         which it is the last of n = {} servers",
        id + 1
    );
    Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text).into())
}

/// Asks until somebody answers: when a step is done, all servers begin anew.
fn members_of(cluster: &Cluster) -> Result<MembersReport, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match cluster.members() {
            Err(Error::Unavailable { .. } | Error::Timeout { .. } | Error::Busy { .. })
                if Instant::now() < deadline =>
            {
                std::thread::sleep(LOOK);
            }
            done => return done,
        }
    }
}

/// Waits until the server's part of the address space is there.
fn wait(globals: &Globals, cluster: &Cluster, grown: &Cluster, id: u32) -> anyhow::Result<()> {
    let mut bar = progress::share(globals);
    loop {
        let shape = members_of(cluster)?.shape;
        let states: Vec<String> = grown.statuses().into_iter().map(|status| state(status.ok())).collect();
        // Before it knows what was agreed on it has no memory to give away.
        let votes = || grown.consensus(id).is_ok_and(|report| report.voters.contains(&id));
        if shape.n > id && states.iter().all(|state| state == "serving") && votes() {
            return Ok(());
        }
        let (who, what) = states.iter().enumerate().find(|(_, state)| *state != "serving").unzip();
        let what: &str = what.map_or("waiting", String::as_str);
        bar(&format!("server {}: {what}", who.unwrap_or(id as usize)), filled(what));
        std::thread::sleep(LOOK);
    }
}
