//! What stands for TLS in a build without it: types that nobody can have a value of.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mcomp_wire::Status;

use super::{Doubt, TlsError};
use crate::{CallError, Listener};

/// Nobody has one.
#[derive(Clone, Debug)]
pub enum Tls {}

/// Nobody has one.
#[derive(Debug)]
pub enum TlsStream {}

/// No error is of TLS.
pub(crate) fn objection(_: &io::Error) -> Option<(Status, String)> {
    None
}

impl Tls {
    /// Refuses: this build cannot keep what the files promise.
    pub fn load(_ca: &Path, _cert: &Path, _key: &Path) -> Result<Tls, TlsError> {
        Err(TlsError::Absent)
    }

    /// Nobody asks.
    pub fn doubt(&self, _: Option<&str>, _: SystemTime) -> Option<Doubt> {
        match *self {}
    }

    pub(crate) fn connect(&self, _: Arc<TcpStream>, _: &str, _: Duration) -> Result<TlsStream, CallError> {
        match *self {}
    }

    pub(crate) fn listen(&self, _: TcpListener) -> Listener {
        match *self {}
    }

    pub(crate) fn accept(&self, _: Arc<TcpStream>) -> io::Result<TlsStream> {
        match *self {}
    }
}

impl TlsStream {
    pub(crate) fn socket(&self) -> &Arc<TcpStream> {
        match *self {}
    }

    pub(crate) fn has_bytes(&self) -> bool {
        match *self {}
    }

    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn say_goodbye(&mut self) {
        match *self {}
    }

    pub(crate) fn discard(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn read_vectored(&mut self, _: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write_vectored(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_cannot_be_used_are_refused_with_the_way_out() {
        let nowhere = Path::new("/nowhere");
        let error = Tls::load_for("127.0.0.1:1", nowhere, nowhere, nowhere).unwrap_err();
        assert!(!error.is_io() && error.to_string().contains("this build has no TLS"), "{error}");
    }
}
