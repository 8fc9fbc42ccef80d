//! Which processes of a cluster belong to this machine.

use std::fmt;
use std::net::IpAddr;

use mcomp_config::{Config, ConfigError, format_size};
use serde_json::{Value, json};

use super::Role;

/// The servers and snapshot processes of one machine: at least one server.
#[derive(Debug)]
pub(crate) struct Fleet<'c> {
    config: &'c Config,
    /// In rising order.
    servers: Vec<u32>,
    /// Those of `servers` whose snapshot process has an address.
    snapshotters: Vec<u32>,
}

impl<'c> Fleet<'c> {
    /// What lives here. A snapshot process maps its server's memory, so it lives where its server
    /// does. `is_local` is [`mcomp_config::is_local_ip`] outside of tests.
    pub(crate) fn local(config: &'c Config, is_local: impl Fn(IpAddr) -> bool) -> Result<Fleet<'c>, ConfigError> {
        let servers = config.server_ids_local(is_local);
        if servers.is_empty() {
            let addresses = config.servers().iter().map(|server| server.address.to_string()).collect();
            return Err(ConfigError::NoneLocal { path: config.path().to_path_buf(), addresses });
        }
        let has_snapshotter = |id: &u32| config.servers()[*id as usize].snapshot.is_some();
        let snapshotters = servers.iter().copied().filter(has_snapshotter).collect();
        Ok(Fleet { config, servers, snapshotters })
    }

    /// Ids of its servers, in rising order.
    pub(crate) fn server_ids(&self) -> &[u32] {
        &self.servers
    }

    /// What is to be started.
    pub(crate) fn roles(&self) -> Vec<Role> {
        let servers = self.servers.iter().copied().map(Role::Server);
        servers.chain(self.snapshotters.iter().copied().map(Role::Snapshotter)).collect()
    }

    /// The bytes that its servers lend.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.servers.len() as u64 * self.config.k()
    }

    /// The ready line for machines: who runs, as which process, at which address.
    pub(crate) fn json(&self, running: impl Iterator<Item = (Role, u32)>) -> Value {
        let (servers, snapshotters): (Vec<_>, Vec<_>) = running.partition(|(role, _)| role.is_server());
        let list = |processes: Vec<(Role, u32)>| -> Vec<Value> {
            let entry = |(role, pid)| json!({ "id": Role::id(role), "pid": pid, "address": self.address(role) });
            processes.into_iter().map(entry).collect()
        };
        json!({
            "outcome": "ok",
            "cluster": self.config.name(),
            "n": self.config.n(),
            "k": self.config.k(),
            "servers": list(servers),
            "snapshotters": list(snapshotters),
        })
    }

    fn address(&self, role: Role) -> Option<&str> {
        let entry = &self.config.servers()[role.id() as usize];
        match role {
            Role::Server(_) => Some(entry.address.as_str()),
            Role::Snapshotter(_) => entry.snapshot.as_ref().map(|address| address.as_str()),
        }
    }
}

impl fmt::Display for Fleet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (servers, snapshotters) = (self.servers.len(), self.snapshotters.len());
        let (memory, name) = (format_size(self.memory_bytes()), self.config.name());
        write!(f, "{} ({memory}) and ", count(servers, "server", "servers"))?;
        write!(f, "{} of cluster {name}", count(snapshotters, "snapshot process", "snapshot processes"))
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mcomp_config::Overrides;

    use super::*;

    fn config() -> Config {
        let text = r#"
            cluster = { name = "demo", k = "64MiB", n = 3 }
            snapshot = { every = "off" }
            [[server]]
            address = "10.0.0.1:7401"
            snapshot = "10.0.0.1:7501"
            [[server]]
            address = "10.0.0.2:7401"
            snapshot = "10.0.0.2:7501"
            [[server]]
            address = "10.0.0.2:7402"
        "#;
        Config::parse(text, Path::new("mcomp.cfg"), &Overrides::default()).unwrap()
    }

    fn local<'c>(config: &'c Config, ip: &str) -> Result<Fleet<'c>, ConfigError> {
        let ip: IpAddr = ip.parse().unwrap();
        Fleet::local(config, move |candidate| candidate == ip)
    }

    #[test]
    fn only_what_is_local_is_started_servers_first() {
        let config = config();
        let fleet = local(&config, "10.0.0.2").unwrap();
        assert_eq!(fleet.roles(), [Role::Server(1), Role::Server(2), Role::Snapshotter(1)]);
        assert_eq!(fleet.to_string(), "2 servers (128 MiB) and 1 snapshot process of cluster demo");
    }

    #[test]
    fn nothing_local_names_what_the_file_lists() {
        let message = local(&config(), "10.0.0.9").unwrap_err().to_string();
        assert!(message.contains("10.0.0.1:7401, 10.0.0.2:7401, 10.0.0.2:7402"), "{message}");
    }

    #[test]
    fn machines_learn_pids_and_addresses() {
        let config = config();
        let fleet = local(&config, "10.0.0.1").unwrap();
        let running = [(Role::Server(0), 41), (Role::Snapshotter(0), 42)].into_iter();
        let json = fleet.json(running);
        assert_eq!(json["servers"], json!([{ "id": 0, "pid": 41, "address": "10.0.0.1:7401" }]));
        assert_eq!(json["snapshotters"], json!([{ "id": 0, "pid": 42, "address": "10.0.0.1:7501" }]));
    }
}
