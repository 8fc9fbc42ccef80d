//! Can each process of this machine listen where mcomp.cfg says, or does it already?
//!
//! An address is tried by binding a socket to it that never listens, which no starting server notices. The names of
//! Unix sockets are only looked up: to bind one is to have it.

use std::net::SocketAddr;

use mcomp_config::Endpoint;
use mcomp_net::unix_name;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::finding::{Finding, as_root};
use super::scene::{Local, Scene};
use super::sockets::{Holder, abstract_names, holder_of, holder_of_tcp};
use crate::commands::status::Silence;
use crate::up::Role;

const ADDRESS: &str = "address";
const UNIX_SOCKET: &str = "unix_socket";

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    if scene.locals.is_empty() {
        let skipped = |check| Finding::skipped(check, "addresses", "no server of the file is on this machine");
        return [ADDRESS, UNIX_SOCKET].map(skipped).into();
    }
    let servers = scene.locals.iter().map(|local| Process::server(scene, local));
    let snapshotters = scene.locals.iter().filter_map(|local| Process::snapshotter(scene, local));
    let monitored = scene.locals.iter().filter_map(|local| Process::monitored(scene, local));
    let processes = servers.chain(snapshotters).chain(monitored);
    let mut findings: Vec<Finding> = processes.map(|process| process.judge()).collect();
    findings.extend(unix_sockets(scene));
    findings
}

/// A process that belongs to this machine.
struct Process<'a> {
    role: Role,
    /// The key of its entry in mcomp.cfg that says where it listens.
    key: &'static str,
    endpoint: &'a Endpoint,
    /// The process that answers there, or why none does.
    said: Result<u32, &'a Silence>,
    /// The process that holds its segment, also when it does not answer.
    holder: Option<u32>,
    /// Whether it is missed while it does not run: snapshots are scheduled, and its server runs.
    is_missed: bool,
    /// Whether the configuration names a secret.
    has_secret: bool,
    /// The flags that find the configuration.
    flags: &'a str,
}

impl<'a> Process<'a> {
    fn server(scene: &'a Scene, local: &'a Local) -> Process<'a> {
        let said = scene.status.servers[local.id as usize].said.as_ref().map(|said| said.pid);
        let (endpoint, holder, flags) = (&local.entry.address, local.holder(), &scene.flags);
        let (role, key) = (Role::Server(local.id), "address");
        let has_secret = scene.config.secret_file().is_some();
        Process { role, key, endpoint, said, holder, is_missed: false, has_secret, flags }
    }

    /// A server that does not run, where it is to answer monitors. One that runs has its endpoint, or did not start.
    fn monitored(scene: &'a Scene, local: &'a Local) -> Option<Process<'a>> {
        let server = Process::server(scene, local);
        let endpoint = local.entry.http.as_ref().filter(|_| server.said.is_err())?;
        Some(Process { key: "http", endpoint, ..server })
    }

    fn snapshotter(scene: &'a Scene, local: &'a Local) -> Option<Process<'a>> {
        let process = scene.status.snapshotters.iter().find(|process| process.id == local.id)?;
        let said = process.said.as_ref().map(|said| said.pid);
        let (endpoint, flags) = (local.entry.snapshot.as_ref()?, &scene.flags);
        let is_missed = scene.is_scheduled() && local.server_pid.is_some();
        let (role, key) = (Role::Snapshotter(local.id), "snapshot");
        let has_secret = scene.config.secret_file().is_some();
        Some(Process { role, key, endpoint, said, holder: None, is_missed, has_secret, flags })
    }

    fn judge(&self) -> Finding {
        let silence = match self.said {
            Ok(pid) => {
                return Finding::ok(ADDRESS, self.endpoint, format!("{} runs there (process {pid})", self.role));
            }
            Err(silence) => silence,
        };
        let addresses = match self.endpoint.resolve() {
            Ok(addresses) => addresses,
            Err(error) => return Finding::fail(ADDRESS, self.endpoint, error, format!("correct {}", self.key())),
        };
        // A process listens on the first of them that it can have; a resolved name has at least one.
        let refusals: Vec<_> =
            addresses.iter().map_while(|address| Some((*address, try_bind(*address).err()?))).collect();
        match refusals.last() {
            Some((address, error)) if refusals.len() == addresses.len() => self.refused(*address, *error, silence),
            _ if self.is_missed => {
                let what = format!("{} does not run, and snapshots are scheduled: none will be made", self.role);
                Finding::warn(ADDRESS, self.endpoint, what, self.start())
            }
            _ => Finding::ok(ADDRESS, self.endpoint, format!("it is free for {}, which does not run", self.role)),
        }
    }

    /// What says where it listens.
    fn key(&self) -> String {
        format!("{} of [[server]] {} in mcomp.cfg", self.key, self.role.id())
    }

    /// How this file comes to the secret of a process that runs.
    fn share_secret(&self) -> String {
        let (role, flags) = (self.role, self.flags);
        match self.has_secret {
            true => format!("mcomp secret show {flags}; then compare it with the secret that {role} was started with"),
            false => format!("secret_file = \"...\" in [security] of mcomp.cfg, as it was when {role} was started"),
        }
    }

    fn start(&self) -> String {
        format!("mcomp {} --id {} {}", self.role.subcommand(), self.role.id(), self.flags)
    }

    fn refused(&self, address: SocketAddr, error: Errno, silence: &Silence) -> Finding {
        let port = address.port();
        match error {
            Errno::ADDRINUSE => self.taken(address, silence),
            Errno::ADDRNOTAVAIL => {
                let what = format!("{} cannot listen there: it is no address of this machine", self.role);
                Finding::fail(ADDRESS, address, what, format!("ip -brief address; then correct {}", self.key()))
            }
            Errno::ACCESS | Errno::PERM => {
                let what = format!("{} may not listen there: ports below the first free one are root's", self.role);
                let fix = as_root(format_args!("sysctl -w net.ipv4.ip_unprivileged_port_start={port}"));
                Finding::fail(ADDRESS, address, what, fix)
            }
            error => {
                let what = format!("{} cannot listen there: {error}", self.role);
                Finding::fail(ADDRESS, address, what, format!("correct {}", self.key()))
            }
        }
    }

    /// Somebody has the address and does not answer as the process that belongs there.
    fn taken(&self, address: SocketAddr, silence: &Silence) -> Finding {
        let holder = holder_of_tcp(address);
        let (role, error) = (self.role, &silence.error);
        match &holder {
            _ if silence.kind == "busy" => {
                let fix = format!("mcomp status {}; or raise max_connections in [limits] there", self.flags);
                Finding::warn(ADDRESS, address, format!("{role} runs there and turns clients away: {error}"), fix)
            }
            _ if silence.kind == Silence::UNASKED => {
                let what = format!(
                    "it is taken, and whether by {role} cannot be asked without the secret or the certificates"
                );
                Finding::skipped(ADDRESS, address, what)
            }
            // It runs as well as ever, with another secret than that of this file, or with one where the file has none.
            _ if silence.kind == "denied" => {
                let what = format!("who runs there does not take the secret of this file, if it has one: {error}");
                Finding::fail(ADDRESS, address, what, self.share_secret())
            }
            Some(Holder { pid, .. }) if self.holder == Some(*pid) => {
                let what = format!("{role} (process {pid}) holds it and does not answer: {error}");
                Finding::fail(ADDRESS, address, what, format!("kill -9 {pid}; {}", self.start()))
            }
            Some(holder) => {
                let what = format!("it is held by {holder}, which is not the {role} that is wanted: {error}");
                Finding::fail(ADDRESS, address, what, format!("kill {}", holder.pid))
            }
            None => {
                let what = format!("it is held by a process that this user may not see, not by {role}: {error}");
                Finding::fail(ADDRESS, address, what, as_root(format_args!("ss -tanp 'sport = :{}'", address.port())))
            }
        }
    }
}

/// Binds an address as a server does, and lets go of it.
fn try_bind(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)
}

/// The Unix sockets of servers that do not run: one that is taken keeps its server from starting.
fn unix_sockets(scene: &Scene) -> Vec<Finding> {
    let taken = abstract_names();
    let name_of = |local: &Local| unix_name(scene.config.name(), local.id, local.entry.address.as_str());
    let silent = scene.locals.iter().filter(|local| local.server_pid.is_none());
    let held = silent.filter_map(|local| Some((local, name_of(local), *taken.get(&name_of(local))?)));
    let finding = |(local, name, inode): (&Local, String, u64)| {
        let (subject, id) = (format!("@{name}"), local.id);
        match holder_of(inode) {
            // That it does not answer is told about its address.
            Some(holder) if local.holder() == Some(holder.pid) => {
                Finding::ok(UNIX_SOCKET, subject, format!("{holder} holds it, which is server {id}"))
            }
            Some(holder) => {
                let what = format!("it is held by {holder}, so server {id} cannot start");
                Finding::fail(UNIX_SOCKET, subject, what, format!("kill {}", holder.pid))
            }
            None => {
                let what = format!("it is held by a process that this user may not see, so server {id} cannot start");
                Finding::fail(UNIX_SOCKET, subject, what, as_root(format_args!("ss -xlp | grep -F {name}")))
            }
        }
    };
    let found: Vec<Finding> = held.map(finding).collect();
    match found.is_empty() {
        true => vec![Finding::ok(UNIX_SOCKET, "abstract names", "each is free, or held by its own server")],
        false => found,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn process<'a>(role: Role, endpoint: &'a Endpoint, silence: &'a Silence) -> Process<'a> {
        let (said, flags) = (Err(silence), "--config mcomp.cfg");
        let key = if role.is_server() { "address" } else { "snapshot" };
        Process { role, key, endpoint, said, holder: None, is_missed: false, has_secret: false, flags }
    }

    fn refused(error: Errno) -> Finding {
        let endpoint: Endpoint = "192.0.2.1:80".parse().unwrap();
        let silence = Silence { kind: "unavailable", error: "nobody answers".into() };
        process(Role::Snapshotter(1), &endpoint, &silence).refused("192.0.2.1:80".parse().unwrap(), error, &silence)
    }

    /// RFC 5737 keeps 192.0.2.0/24 for documentation: no machine has it, and nothing is sent there.
    #[test]
    fn each_refusal_has_its_way_out() {
        assert_eq!(try_bind("192.0.2.1:80".parse().unwrap()), Err(Errno::ADDRNOTAVAIL));
        let far = refused(Errno::ADDRNOTAVAIL).fix.unwrap();
        assert!(far.ends_with("correct snapshot of [[server]] 1 in mcomp.cfg"), "{far}");
        let low = refused(Errno::ACCESS).fix.unwrap();
        assert!(low.ends_with("sysctl -w net.ipv4.ip_unprivileged_port_start=80"), "{low}");
        assert_eq!(refused(Errno::MFILE).level, Level::Fail);
    }

    #[test]
    fn a_full_server_is_no_stranger() {
        let endpoint: Endpoint = "127.0.0.1:1".parse().unwrap();
        let silence = Silence { kind: "busy", error: "all connections are taken".into() };
        let taken = process(Role::Server(1), &endpoint, &silence).taken("127.0.0.1:1".parse().unwrap(), &silence);
        assert_eq!(taken.level, Level::Warn);
    }
}
