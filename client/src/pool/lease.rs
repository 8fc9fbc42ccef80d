//! A link on loan: a caller has it to itself, and it goes back by itself.

use std::ops::{Deref, DerefMut};

use mcomp_net::ConnectError;
use mcomp_wire::Status;

use super::Pool;
use super::connect::is_nobody;
use super::slots::Parked;
use crate::Error;
use crate::link::Link;

/// A link on loan. It goes back when this is dropped, if nothing is left over on it.
#[derive(Debug)]
pub(crate) struct Lease<'p> {
    pub(super) pool: &'p Pool,
    pub(super) era: u32,
    /// The link, in the box that it rests in. There is none before it is opened, and after `drop` took it.
    pub(super) parked: Option<Box<Parked>>,
}

impl<'p> Lease<'p> {
    /// Where it is borrowed from.
    pub(crate) fn pool(&self) -> &'p Pool {
        self.pool
    }

    /// Connects again under the same session, once. Whether the server still knows its answers.
    pub(crate) fn reopen(&mut self) -> Result<bool, Reopen> {
        let opened = self.pool.connect(self.session(), self.pool.connect_timeout());
        let connection = opened.map_err(|error| match error {
            ConnectError::Unreachable { ref source, .. } if is_nobody(source) => {
                Reopen::Nobody(self.pool.unreached(error))
            }
            ConnectError::Unreachable { .. }
            | ConnectError::Refused { status: Status::Busy | Status::Stopping, .. } => {
                Reopen::NotNow(self.pool.unreached(error))
            }
            error => Reopen::Never(self.pool.unreached(error)),
        })?;
        self.pool.admit(&connection, self.era).map_err(Reopen::Never)?;
        let timeout = self.pool.timeout();
        Ok(self.resume(connection, timeout))
    }
}

/// Why a link was not opened again.
#[derive(Debug)]
pub(crate) enum Reopen {
    /// No process listens there: the one that knew the session is gone.
    Nobody(Error),
    /// It may work a little later.
    NotNow(Error),
    /// It will not work.
    Never(Error),
}

impl Deref for Lease<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.parked.as_ref().expect("a lease has a link until it is dropped").link
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.parked.as_mut().expect("a lease has a link until it is dropped").link
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        match self.parked.take() {
            Some(mut parked) if parked.link.is_clean() => {
                parked.link.rest();
                self.pool.park(parked);
            }
            broken => {
                self.pool.give_up();
                // Closing is not for the time of the lock, and nobody need wait for it.
                drop(broken);
            }
        }
    }
}
