//! What must fit together: the count of servers, the size of the whole space, the schedule of
//! snapshots, the files of TLS and the endpoints of all processes. Each check takes only what it needs, so that it
//! speaks even when other values are wrong.

use std::collections::BTreeMap;

use crate::check::BLOCK_BYTES;
use crate::config::Snapshot;
use crate::endpoint::Endpoint;
use crate::written::{Entry, Written};

/// Leaves headroom below 2^63, so that an address plus the length of a request cannot overflow.
const SPACE_BYTES_MAX: u64 = 1 << 60;

/// The files of TLS: all of them, or none.
pub(crate) const TLS_KEYS: [&str; 3] = ["security.tls_ca", "security.tls_cert", "security.tls_key"];

/// Notes in `written` what does not fit; a value that is wrong by itself is passed as none.
pub(crate) fn check_together(
    written: &mut Written,
    k: Option<u64>,
    n: Option<u32>,
    replicas: Option<u32>,
    snapshot: Option<&Snapshot>,
) {
    if let Some(n) = n {
        check_count(written, n);
    }
    if let (Some(replicas), Some(n)) = (replicas, n)
        && replicas > n
    {
        let text = format!("{replicas} copies of each block take {replicas} servers, and there are {n}");
        refuse_key(written, "cluster.replicas", text);
    }
    if let (Some(k), Some(n)) = (k, n) {
        check_space(written, k, n);
    }
    if let Some(snapshot) = snapshot {
        check_master(written, snapshot.master);
        if snapshot.every.is_some() {
            check_snapshotters(written);
        }
    }
    check_tls(written);
    check_duplicates(written);
}

/// Whoever names one file of TLS wants secrecy, which the others are needed for.
fn check_tls(written: &mut Written) {
    let (named, missing): (Vec<&str>, Vec<&str>) =
        TLS_KEYS.iter().partition(|dotted| written.entries.contains_key(**dotted));
    let (Some(first), false) = (named.first(), missing.is_empty()) else { return };
    let text = format!("is of no use without {}: name all three files, or none", missing.join(" and "));
    refuse_key(written, first, text);
}

fn check_count(written: &mut Written, n: u32) {
    let listed = written.servers.len();
    if listed == n as usize {
        return;
    }
    let text = match listed {
        0 => format!("{n} servers, but the file lists none: write [[server]] once for each"),
        _ => format!(
            "{n} servers, but the file lists {listed} [[server]]: write n = {listed}, or correct \
             the list"
        ),
    };
    refuse_key(written, "cluster.n", text);
}

fn check_space(written: &mut Written, k: u64, n: u32) {
    let space = k.checked_mul(u64::from(n));
    if space.is_none_or(|space| space > SPACE_BYTES_MAX) {
        let most = SPACE_BYTES_MAX / u64::from(n) / BLOCK_BYTES * BLOCK_BYTES;
        let text = format!("{k} bytes on each of {n} servers are more than 2^60 in all: write at most {most}");
        refuse_key(written, "cluster.k", text);
    }
}

fn check_master(written: &mut Written, master: u32) {
    let listed = written.servers.len();
    if listed > 0 && master as usize >= listed {
        let text = format!("{master} is no server: ids are 0 to {}", listed - 1);
        refuse_key(written, "snapshot.master", text);
    }
}

fn check_snapshotters(written: &mut Written) {
    for id in 0..written.servers.len() {
        let server = &written.servers[id];
        if server.snapshot.is_none() {
            let line = server.line;
            let text = "is missing, and snapshots are scheduled: write snapshot = \"host:port\", \
                        or snapshot.every = \"off\"";
            written.refuse_in_file(line, &format!("server.{id}.snapshot"), text);
        }
    }
}

fn check_duplicates(written: &mut Written) {
    // What is taken, by whom.
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for claim in claims(written) {
        let Claim { key, endpoint, entry, .. } = &claim;
        let place = match taken.contains_key(endpoint.as_str()) {
            true => endpoint.to_string(),
            false => claim.place(written),
        };
        if let Some(by) = taken.get(&place) {
            let text = format!("{endpoint} is already {by}: give each process its own");
            written.refuse(key, entry, text);
        } else {
            let line = entry.line.map_or(String::new(), |line| format!(" at line {line}"));
            taken.insert(place, format!("{key}{line}"));
        }
    }
}

/// An endpoint that is right by itself.
struct Claim {
    /// The server that it belongs to.
    id: usize,
    key: String,
    endpoint: Endpoint,
    entry: Entry,
    is_http: bool,
}

impl Claim {
    /// What no other claim may have. Each machine has a loopback of its own, so servers with addresses on different
    /// hosts may answer monitors at the same endpoint of it.
    fn place(&self, written: &Written) -> String {
        let is_loopback = self.endpoint.ip().is_some_and(|ip| ip.is_loopback());
        let is_loopback = is_loopback || self.endpoint.as_str().starts_with("localhost:");
        let address = written.servers[self.id].address.as_ref().and_then(|entry| entry.value.endpoint().ok());
        match address {
            Some(address) if self.is_http && is_loopback => {
                let host = address.as_str().rsplit_once(':').map_or("", |(host, _)| host);
                format!("{} of {host}", self.endpoint)
            }
            _ => self.endpoint.to_string(),
        }
    }
}

/// All endpoints that are right by themselves: those of the cluster, then those for monitors.
fn claims(written: &Written) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (id, server) in written.servers.iter().enumerate() {
        for (name, entry) in [("address", &server.address), ("snapshot", &server.snapshot), ("http", &server.http)] {
            let Some(entry) = entry else { continue };
            if let Ok(endpoint) = entry.value.endpoint() {
                let key = format!("server.{id}.{name}");
                claims.push(Claim { id, key, endpoint, entry: entry.clone(), is_http: name == "http" });
            }
        }
    }
    claims.sort_by_key(|claim| claim.is_http);
    claims
}

/// Blames a key that was read, so that there is an entry for it.
fn refuse_key(written: &mut Written, dotted: &str, text: String) {
    let entry = written.entries[dotted].clone();
    written.refuse(dotted, &entry, text);
}
