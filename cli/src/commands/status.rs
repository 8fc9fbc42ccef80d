//! `mcomp status`: what every server and snapshot process says about itself, asked all at once. One
//! that does not answer is part of the answer.

use std::thread;

use mcomp_client::{Cluster, ServerStatus};
use mcomp_config::{Config, Endpoint, format_size};
use mcomp_snapshot::{SnapshotError, snapshotter_status};
use mcomp_wire::control::SnapshotterStatus;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::Exit;
use crate::globals::Globals;
use crate::hint;
use crate::output;

/// The state of a process that does not answer.
const UNREACHABLE: &str = "unreachable";

pub(crate) fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let cluster = Cluster::connect(&config)?;
    let status = ClusterStatus::ask(&config, &cluster);
    match globals.json {
        true => output::json(&output::Done::with(&status))?,
        false => output::line(status.text())?,
    }
    if let Some(hint) = status.hint() {
        globals.note(hint);
    }
    Ok(status.exit())
}

/// What is known of a cluster at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterStatus {
    cluster: String,
    k: u64,
    n: u32,
    replicas: u32,
    pub(super) servers: Vec<Process<ServerStatus>>,
    pub(super) snapshotters: Vec<Process<SnapshotterStatus>>,
}

/// One process: what mcomp.cfg and it itself say, or why it says nothing.
#[derive(Debug, Serialize)]
#[serde(into = "Map<String, Value>", bound(serialize = "S: Clone + Serialize"))]
#[derive(Clone)]
pub(super) struct Process<S> {
    pub(super) id: u32,
    pub(super) address: String,
    pub(super) said: Result<S, Silence>,
}

/// Why a process says nothing.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    pub(super) kind: &'static str,
    pub(super) error: String,
}

impl Silence {
    /// The word for a process that was not asked: the configuration is wrong.
    pub(super) const UNASKED: &str = "config";

    /// The word for a process that does not believe whoever asks.
    const DENIED: &str = "denied";
}

impl<S> Process<S> {
    fn silent(id: u32, address: &Endpoint, silence: Silence) -> Process<S> {
        Process { id, address: address.to_string(), said: Err(silence) }
    }
}

impl ClusterStatus {
    /// Asks every process, all at once.
    pub(crate) fn ask(config: &Config, cluster: &Cluster) -> ClusterStatus {
        let (servers, snapshotters) = thread::scope(|scope| {
            let snapshotters = scope.spawn(|| ask_snapshotters(config));
            let servers = cluster.statuses();
            (servers, snapshotters.join().expect("asking for a status does not panic"))
        });
        let addresses = (0..config.n()).map(|id| cluster.address(id));
        let server = |(id, (address, said)): (u32, (String, Result<ServerStatus, mcomp_client::Error>))| Process {
            id,
            address,
            said: said.map_err(|error| Silence { kind: error.kind(), error: error.to_string() }),
        };
        ClusterStatus {
            cluster: config.name().to_owned(),
            k: config.k(),
            n: config.n(),
            replicas: config.replicas(),
            servers: (0..).zip(addresses.zip(servers)).map(server).collect(),
            snapshotters,
        }
    }

    /// That of a cluster where nobody can be asked, because of what is wrong with the configuration.
    pub(super) fn unasked(config: &Config, why: &str) -> ClusterStatus {
        let silence = || Silence { kind: Silence::UNASKED, error: why.to_owned() };
        let servers = (0..).zip(config.servers());
        let snapshotters = servers.clone().filter_map(|(id, server)| Some((id, server.snapshot.as_ref()?)));
        ClusterStatus {
            cluster: config.name().to_owned(),
            k: config.k(),
            n: config.n(),
            replicas: config.replicas(),
            snapshotters: snapshotters.map(|(id, address)| Process::silent(id, address, silence())).collect(),
            servers: servers.map(|(id, server)| Process::silent(id, &server.address, silence())).collect(),
        }
    }

    /// Whether every server answered; memory works without snapshot processes. Servers that answer nothing but that they
    /// do not believe the one who asks are not missing: another secret or certificate is what it takes.
    fn exit(&self) -> Exit {
        let silences: Vec<&Silence> = self.servers.iter().filter_map(|server| server.said.as_ref().err()).collect();
        match silences.iter().all(|silence| silence.kind == Silence::DENIED) {
            _ if silences.is_empty() => Exit::DONE,
            true => Exit::NOT_PERMITTED,
            false => Exit::UNAVAILABLE,
        }
    }

    /// The way out, when not a single server answers.
    fn hint(&self) -> Option<String> {
        let silent = self.servers.iter().map(|server| Some((server, server.said.as_ref().err()?)));
        let all: Option<Vec<_>> = silent.collect();
        all?.into_iter().find_map(|(server, silence)| hint::about_server(server.id, &server.address, &silence.error))
    }

    fn text(&self) -> String {
        let ClusterStatus { cluster, k, n, .. } = self;
        let size = format_size(k * u64::from(*n));
        let mut text = format!("cluster {cluster}: {n} servers x {} = {size}\n\n", format_size(*k));
        let headers = ["SERVER", "ADDRESS", "STATE", "PID", "UP", "USED", "CONNECTIONS", "OPS", "EPOCH"];
        text += &output::table(&headers, self.servers.iter().map(server_row));
        if !self.snapshotters.is_empty() {
            let headers = ["SNAPSHOTTER", "ADDRESS", "STATE", "PID", "OK", "ABORTED", "LAST"];
            text += "\n\n";
            text += &output::table(&headers, self.snapshotters.iter().map(snapshotter_row));
        }
        let silences = self.servers.iter().filter_map(|server| server.said.as_ref().err());
        let silences = silences.chain(self.snapshotters.iter().filter_map(|process| process.said.as_ref().err()));
        for (at, silence) in silences.enumerate() {
            text += if at == 0 { "\n\n" } else { "\n" };
            text += &silence.error;
        }
        text
    }
}

fn ask_snapshotters(config: &Config) -> Vec<Process<SnapshotterStatus>> {
    let named = (0..).zip(config.servers()).filter_map(|(id, server)| Some((id, server.snapshot.as_ref()?)));
    let silence = |error: SnapshotError| Silence { kind: error.kind(), error: error.to_string() };
    thread::scope(|scope| {
        let ask = |(id, address): (u32, &Endpoint)| {
            let asked = scope.spawn(move || snapshotter_status(config, id));
            (id, address.to_string(), asked)
        };
        let asked: Vec<_> = named.map(ask).collect();
        let answer = |(id, address, asked): (u32, String, thread::ScopedJoinHandle<'_, Result<_, _>>)| {
            let said = asked.join().expect("asking for a status does not panic");
            Process { id, address, said: said.map_err(silence) }
        };
        asked.into_iter().map(answer).collect()
    })
}

impl<S: Serialize> From<Process<S>> for Map<String, Value> {
    fn from(process: Process<S>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("state".into(), "running".into());
        match process.said.as_ref().map(serde_json::to_value) {
            // What a server says includes its state, which takes the place of the one above.
            Ok(Ok(Value::Object(said))) => map.extend(said),
            Ok(other) => unreachable!("a status is an object, not {other:?}"),
            Err(silence) => {
                map.insert("state".into(), UNREACHABLE.into());
                map.insert("kind".into(), silence.kind.into());
                map.insert("error".into(), silence.error.clone().into());
            }
        }
        map.insert("id".into(), process.id.into());
        map.insert("address".into(), process.address.into());
        map
    }
}

fn server_row(server: &Process<ServerStatus>) -> Vec<String> {
    let mut row = vec![server.id.to_string(), server.address.clone()];
    match &server.said {
        Ok(status) => row.extend([
            state(status),
            status.pid.to_string(),
            uptime(status.uptime_ms),
            format_size(status.bytes_used),
            status.connections.to_string(),
            status.counters.ops.values().sum::<u64>().to_string(),
            status.config_epoch.to_string(),
        ]),
        Err(_) => row.push(UNREACHABLE.to_owned()),
    }
    row
}

fn state(status: &ServerStatus) -> String {
    match status.counters.torn_blocks {
        0 => status.state.clone(),
        1 => format!("{}, 1 torn block", status.state),
        torn => format!("{}, {torn} torn blocks", status.state),
    }
}

fn snapshotter_row(process: &Process<SnapshotterStatus>) -> Vec<String> {
    let mut row = vec![process.id.to_string(), process.address.clone()];
    match &process.said {
        Ok(status) => row.extend([
            if status.master { "running, master" } else { "running" }.to_owned(),
            status.pid.to_string(),
            status.ok.to_string(),
            status.aborted.to_string(),
            status.last.clone(),
        ]),
        Err(_) => row.push(UNREACHABLE.to_owned()),
    }
    row
}

/// The two largest units, such as `3d 4h` or `12s`.
fn uptime(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ClusterStatus {
        let server = ServerStatus { id: 0, state: "serving".into(), pid: 77, k: 4096, ..ServerStatus::default() };
        let error = "server 1 at 127.0.0.1:2 is unavailable: connection refused".to_owned();
        let silence = Silence { kind: "unavailable", error };
        ClusterStatus {
            cluster: "demo".into(),
            k: 4096,
            n: 2,
            replicas: 1,
            servers: vec![
                Process { id: 0, address: "127.0.0.1:1".into(), said: Ok(server) },
                Process { id: 1, address: "127.0.0.1:2".into(), said: Err(silence) },
            ],
            snapshotters: vec![Process {
                id: 0,
                address: "127.0.0.1:3".into(),
                said: Ok(SnapshotterStatus { master: true, ok: 2, last: "x.mcs".into(), ..Default::default() }),
            }],
        }
    }

    #[test]
    fn json_has_what_is_known_and_why_the_rest_is_not() {
        let json = serde_json::to_value(status()).unwrap();
        assert_eq!(json["servers"][0]["state"], "serving");
        assert_eq!(json["servers"][0]["address"], "127.0.0.1:1");
        assert_eq!(json["servers"][0]["counters"]["bytes"]["read"], 0);
        assert_eq!(json["servers"][1]["state"], "unreachable");
        assert_eq!(json["servers"][1]["kind"], "unavailable");
        assert!(json["servers"][1].get("pid").is_none());
        assert_eq!(json["snapshotters"][0]["state"], "running");
        assert_eq!(json["snapshotters"][0]["master"], true);
    }

    #[test]
    fn servers_that_believe_nobody_are_told_from_those_that_are_gone() {
        let silent = |kinds: &[&'static str]| {
            let mut status = status();
            for (server, kind) in status.servers.iter_mut().zip(kinds) {
                server.said = Err(Silence { kind, error: String::new() });
            }
            status.exit().code()
        };
        assert_eq!([silent(&["denied"]), silent(&["denied", "denied"]), silent(&["denied", "timeout"])], [69, 77, 69]);
        let mut status = status();
        status.servers.truncate(1);
        assert_eq!(status.exit().code(), 0);
    }

    #[test]
    fn the_table_names_every_process() {
        let text = status().text();
        assert!(text.starts_with("cluster demo: 2 servers x 4 KiB = 8 KiB\n"), "{text}");
        for part in ["127.0.0.1:2  unreachable", "running, master", "x.mcs", "connection refused"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn uptime_shows_two_units() {
        for (ms, text) in [(999, "0s"), (61_000, "1m 1s"), (7_260_000, "2h 1m"), (90_000_000, "1d 1h")] {
            assert_eq!(uptime(ms), text);
        }
    }
}
