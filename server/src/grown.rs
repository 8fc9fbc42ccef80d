//! What a running server does when the cluster has grown: it begins anew.
//!
//! How many servers there are, and whose copies this one keeps, is fixed for as long as a server runs: every thread of it
//! relies on that. When the agreed log says otherwise the server stops in good order, and whoever runs it starts it again
//! with the same mcomp.cfg; the next one takes from the log how things are. Its clients ask again, as after any restart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mcomp_config::{Config, Endpoint};
use mcomp_meta::Corrupt;
use mcomp_wire::meta::MembersReport;

/// How a server is started again because the cluster has grown: called perhaps more than once. It must return at once.
#[derive(Clone)]
pub struct OnGrown(Arc<dyn Fn() + Send + Sync>);

impl OnGrown {
    /// Does `act`.
    pub fn new(act: impl Fn() + Send + Sync + 'static) -> OnGrown {
        OnGrown(Arc::new(act))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for OnGrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnGrown")
    }
}

/// mcomp.cfg with the servers that there are: those that it does not know are added, those that are not yet there are
/// left out.
pub(crate) fn as_agreed(config: &Config, members: &MembersReport) -> Result<Config, Corrupt> {
    let servers = members.shape.servers();
    if config.n() > servers {
        tracing::warn!(
            listed = config.n(),
            servers,
            "mcomp.cfg lists more servers than the cluster has: `mcomp member add ADDRESS` adds one"
        );
    }
    let address = |(server, address): (&u32, &String)| match address.parse::<Endpoint>() {
        Ok(endpoint) => Ok((*server, endpoint)),
        Err(_) => Err(Corrupt::Contradiction(format!("server {server} was added at {address:?}, which is no address"))),
    };
    let added = members.added.iter().filter(|(server, _)| config.n() <= **server);
    let added: BTreeMap<u32, Endpoint> = added.map(address).collect::<Result<_, _>>()?;
    if let Some(missing) = (config.n()..servers).find(|server| !added.contains_key(server)) {
        return Err(Corrupt::Contradiction(format!("server {missing} is nowhere")));
    }
    Ok(config.with_servers(servers, &added))
}
