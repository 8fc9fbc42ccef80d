//! Which server of the file this process is, when nobody passed `--id`: the one whose address is
//! this machine's. Two candidates are an error, never a guess.

use std::net::{IpAddr, UdpSocket};

use crate::config::{Config, ServerEntry};
use crate::error::ConfigError;

/// Whether `ip` belongs to this machine, found by asking the kernel to bind a UDP port to it.
///
/// Wrong in one corner: with `net.ipv4.ip_nonlocal_bind` set, every address looks local, and a
/// server must be told its `--id`.
pub fn is_local_ip(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

impl Config {
    /// The ids of the servers that live on this machine, in order. Host names are resolved; one that
    /// cannot be resolved is not this machine's. `is_local` is [`is_local_ip`] outside of tests.
    pub fn server_ids_local(&self, is_local: impl Fn(IpAddr) -> bool) -> Vec<u32> {
        let lives_here = |server: &ServerEntry| match server.address.ip() {
            Some(ip) => is_local(ip),
            None => {
                let addresses = server.address.resolve().unwrap_or_default();
                addresses.iter().any(|address| is_local(address.ip()))
            }
        };
        (0..).zip(self.servers()).filter(|(_, server)| lives_here(server)).map(|(id, _)| id).collect()
    }

    /// The one server that lives on this machine, or an error with the candidates.
    pub fn own_id(&self, is_local: impl Fn(IpAddr) -> bool) -> Result<u32, ConfigError> {
        let ids = self.server_ids_local(is_local);
        let path = self.path().to_path_buf();
        match ids[..] {
            [id] => Ok(id),
            [] => Err(ConfigError::NoneLocal {
                path,
                addresses: self.servers().iter().map(|s| s.address.to_string()).collect(),
            }),
            _ => Err(ConfigError::SeveralLocal { path, ids }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Overrides;
    use std::path::Path;

    const THREE_MACHINES: &str = r#"
        cluster = { name = "demo", k = "1M", n = 3 }
        [[server]]
        address = "10.0.0.1:7401"
        [[server]]
        address = "10.0.0.2:7401"
        [[server]]
        address = "10.0.0.2:7402"
    "#;

    fn config() -> Config {
        Config::parse(THREE_MACHINES, Path::new("mcomp.cfg"), &Overrides::default()).unwrap()
    }

    fn only(local: &str) -> impl Fn(IpAddr) -> bool {
        let local: IpAddr = local.parse().unwrap();
        move |ip| ip == local
    }

    #[test]
    fn one_candidate_is_the_answer() {
        assert_eq!(config().own_id(only("10.0.0.1")).unwrap(), 0);
    }

    #[test]
    fn several_candidates_are_named() {
        assert_eq!(config().server_ids_local(only("10.0.0.2")), [1, 2]);
        let message = config().own_id(only("10.0.0.2")).unwrap_err().to_string();
        assert_eq!(message, "this machine holds servers 1, 2 of mcomp.cfg: pass --id");
    }

    #[test]
    fn no_candidate_names_what_the_file_lists() {
        let message = config().own_id(|_| false).unwrap_err().to_string();
        assert!(message.contains("no server of mcomp.cfg, which lists 10.0.0.1:7401, 10.0.0.2:7401"));
    }

    #[test]
    fn the_kernel_knows_its_own_addresses() {
        assert!(is_local_ip("127.0.0.1".parse().unwrap()));
        // RFC 5737 keeps this block for documentation; no machine has it.
        assert!(!is_local_ip("192.0.2.1".parse().unwrap()));
    }
}
