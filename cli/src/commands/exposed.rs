//! The addresses of mcomp.cfg at which strangers could reach a process that has no secret to know its clients by.
//! `mcomp config check` warns of them, and for `mcomp doctor` they are a failure: the processes refuse to start there.
//!
//! Leaves out names that cannot be resolved here: nobody can listen on them here either.

use mcomp_config::Config;
use mcomp_net::is_open_to_others;

/// What names the file that `mcomp secret create` makes, in mcomp.cfg.
pub(super) const EDIT: &str = "secret_file = \"mcomp.secret\" in [security]";

/// The keys and values of these addresses; none when there is a secret.
pub(super) fn exposed(config: &Config) -> Vec<String> {
    if config.secret_file().is_some() {
        return Vec::new();
    }
    let entries = config.servers().iter().enumerate();
    let endpoints = entries.flat_map(|(id, server)| {
        let snapshot = server.snapshot.iter().map(move |endpoint| (format!("server.{id}.snapshot"), endpoint));
        std::iter::once((format!("server.{id}.address"), &server.address)).chain(snapshot)
    });
    let open = endpoints.filter(|(_, endpoint)| is_open_to_others(endpoint.as_str()));
    open.map(|(key, endpoint)| format!("{key} = {endpoint}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mcomp_config::Overrides;

    use super::*;

    /// RFC 5737 keeps 192.0.2.0/24 for documentation; nothing is sent there.
    #[test]
    fn only_what_others_reach_without_a_secret_is_exposed() {
        let exposed_with = |end: &str| {
            let text = format!(
                "cluster = {{ name = 'demo', k = '4KiB', n = 2 }}
                [[server]]\naddress = '127.0.0.1:1'\nsnapshot = '192.0.2.1:2'
                [[server]]\naddress = '192.0.2.2:1'\nsnapshot = '[::1]:2'\n{end}"
            );
            exposed(&Config::parse(&text, Path::new("mcomp.cfg"), &Overrides::default()).unwrap())
        };
        assert_eq!(exposed_with(""), ["server.0.snapshot = 192.0.2.1:2", "server.1.address = 192.0.2.2:1"]);
        assert!(exposed_with("[security]\nsecret_file = 'mcomp.secret'").is_empty());
    }
}
