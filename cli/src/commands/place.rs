//! From a place as typed to an address: names are looked up, and their ends are minded.

use mcomp_client::meta::Region;
use mcomp_client::{Cluster, Status};

use crate::exit::{Exit, Failure};
use crate::flags::value::Place;

impl Place {
    /// The address of `len` bytes at this place.
    pub(crate) fn locate(&self, cluster: &Cluster, len: u64) -> anyhow::Result<u64> {
        let (addr, room) = self.span(cluster)?;
        match room {
            Some(room) if len > room => Err(self.too_short(len, room).into()),
            _ => Ok(addr),
        }
    }

    /// The address, and how many bytes are there at most, when that was said by a name.
    pub(crate) fn span(&self, cluster: &Cluster) -> anyhow::Result<(u64, Option<u64>)> {
        let (name, from, to) = match self {
            Place::Addr(addr) => return Ok((*addr, None)),
            Place::Named { name, from, to } => (name, *from, *to),
        };
        let region = cluster.region_named(name)?.ok_or_else(|| {
            let text = format!("{name:?} is no address, and nothing has that name: `mcomp ls` lists the names");
            Failure::new(Exit::USAGE, "not_found", text)
        })?;
        let to = to.unwrap_or(region.size);
        if from > region.size || to > region.size {
            let text = format!("{name:?} has {} bytes, and not {}", region.size, from.max(to));
            return Err(Failure::new(Exit::USAGE, "out_of_range", text).into());
        }
        Ok((region.addr + from, Some(to - from)))
    }

    /// Refuses more bytes than there are at the place.
    pub(crate) fn too_short(&self, len: u64, room: u64) -> Failure {
        let what = match self {
            Place::Named { name, .. } => format!("the place in {name:?}"),
            Place::Addr(addr) => format!("address {addr}"),
        };
        Failure::new(Exit::USAGE, "out_of_range", format!("{len} bytes do not fit: {what} has {room}"))
    }

    /// The allocation that is meant: by its name, or the one that holds the address.
    pub(crate) fn region(&self, cluster: &Cluster) -> anyhow::Result<Region> {
        match self {
            Place::Addr(addr) => {
                let none = || mcomp_client::Error::Agreed {
                    status: Status::NotFound,
                    message: format!("nothing is allocated at {addr}"),
                };
                Ok(cluster.region_at(*addr)?.ok_or_else(none)?)
            }
            Place::Named { name, .. } => Ok(cluster.region_named(name)?.ok_or_else(|| not_found(name))?),
        }
    }

    /// The first address of an allocation that is to be given back or changed.
    pub(crate) fn first(&self, cluster: &Cluster) -> anyhow::Result<u64> {
        match self {
            Place::Named { from: 0, to: None, .. } => Ok(self.region(cluster)?.addr),
            Place::Addr(addr) => Ok(*addr),
            Place::Named { .. } => {
                Err(Failure::usage("an allocation is named whole here: leave the part of it out").into())
            }
        }
    }
}

fn not_found(name: &str) -> mcomp_client::Error {
    let message = format!("nothing is named {name:?}: `mcomp ls` lists the names");
    mcomp_client::Error::Agreed { status: Status::NotFound, message }
}
