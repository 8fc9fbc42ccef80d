//! The configuration against this machine: which of its servers live here, and whether its addresses mean the
//! same on every machine.

use std::net::IpAddr;

use mcomp_config::{Config, Endpoint, format_size};

use super::finding::{Finding, quoted, servers};
use super::scene::Scene;

const CONFIG: &str = "config";
const SERVERS: &str = "servers";

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let config = &scene.config;
    let (n, k, size) = (config.n(), format_size(config.k()), format_size(config.space()));
    let valid = format!("cluster {} of {n} x {k} = {size} is valid", config.name());
    let mut findings = vec![Finding::ok(CONFIG, config.path().display(), valid), locals(scene)];
    findings.extend(unresolved(config));
    findings.extend(mixed_loopback(config));
    findings
}

fn locals(scene: &Scene) -> Finding {
    let ids = scene.local_ids();
    let subject = "this machine";
    match ids[..] {
        [] => {
            let listed: Vec<&str> = scene.config.servers().iter().map(|server| server.address.as_str()).collect();
            let what = format!("none of the addresses of the file is its own: {}", listed.join(", "));
            let fix = format!("ip -brief address; then correct [[server]] in {}", quoted(scene.config.path()));
            Finding::warn(SERVERS, subject, what, fix)
        }
        [id] => Finding::ok(SERVERS, subject, format!("it holds server {id}")),
        _ => Finding::ok(SERVERS, subject, format!("it holds {}: `mcomp up` runs them all", servers(&ids))),
    }
}

/// All endpoints of the file with the keys by which they stand there.
fn endpoints(config: &Config) -> impl Iterator<Item = (String, &Endpoint)> {
    (0..).zip(config.servers()).flat_map(|(id, server): (u32, _)| {
        let snapshot = server.snapshot.iter().map(move |endpoint| (format!("server.{id}.snapshot"), endpoint));
        std::iter::once((format!("server.{id}.address"), &server.address)).chain(snapshot)
    })
}

/// A name without an address is not this machine's, and reaches nobody.
fn unresolved(config: &Config) -> Vec<Finding> {
    let unknown = endpoints(config).filter_map(|(key, endpoint)| Some((key, endpoint, endpoint.resolve().err()?)));
    let finding = |(key, endpoint, error): (String, &Endpoint, _)| {
        let host = endpoint.as_str().rsplit_once(':').map_or("", |(host, _)| host);
        Finding::warn(SERVERS, key, error, format!("getent hosts {host}; then correct the name service or the file"))
    };
    unknown.map(finding).collect()
}

/// 127.0.0.1 is another machine on each machine, so in a file for several machines it is none that others reach.
fn mixed_loopback(config: &Config) -> Option<Finding> {
    let literals: Vec<(String, IpAddr)> =
        endpoints(config).filter_map(|(key, endpoint)| Some((key, endpoint.ip()?))).collect();
    let (loopback, others): (Vec<_>, Vec<_>) = literals.iter().partition(|(_, ip)| ip.is_loopback());
    let ((key, ip), (other_key, other)) = (loopback.first()?, others.first()?);
    let what =
        format!("{ip} is reached on this machine only, and {other_key} is {other}: each machine takes it for itself");
    Some(Finding::warn(SERVERS, key, what, format!("give {key} an address that all machines reach")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mcomp_config::Overrides;

    use super::*;

    /// RFC 5737 keeps 192.0.2.0/24 for documentation; nothing is sent there.
    #[test]
    fn loopback_among_other_addresses_is_told() {
        let mixed = |first: &str, second: &str| {
            let servers = [first, second].map(|address| format!("[[server]]\naddress = '{address}'\n")).concat();
            let text =
                format!("cluster = {{ name = 'demo', k = '4KiB', n = 2 }}\nsnapshot = {{ every = 'off' }}\n{servers}");
            mixed_loopback(&Config::parse(&text, Path::new("mcomp.cfg"), &Overrides::default()).unwrap())
        };
        let finding = mixed("192.0.2.1:1", "127.0.0.1:1").unwrap();
        assert_eq!(finding.subject, "server.1.address");
        assert!(finding.what.contains("server.0.address is 192.0.2.1"), "{}", finding.what);
        assert_eq!(mixed("127.0.0.1:1", "[::1]:1"), None);
        assert_eq!(mixed("192.0.2.1:1", "192.0.2.2:1"), None);
    }
}
