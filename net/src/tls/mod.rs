//! Secrecy: TCP connections under mutual TLS 1.3, with certificates that mcomp.cfg names.
//!
//! Both sides show a certificate of an authority that the other one names; the server's must be for the host of its
//! address. Sessions are not resumed, so each connection proves both. What a certificate grants is to be listened to:
//! who may do what is still said by the keys of [`auth`](crate::auth). Unix sockets stay as they are: the kernel lets
//! nobody else hear them.
//!
//! Without the cargo feature `tls` everything here has the same names and no values, so that nobody else need know of
//! the feature, and no connection pays for it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "tls")]
mod objection;
#[cfg(feature = "tls")]
mod session;
#[cfg(all(test, feature = "tls"))]
mod tests;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::objection;
#[cfg(not(feature = "tls"))]
pub use absent::{Tls, TlsStream};
#[cfg(feature = "tls")]
pub use certificates::Tls;
#[cfg(feature = "tls")]
pub(crate) use objection::objection;
#[cfg(feature = "tls")]
pub use session::TlsStream;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// This program cannot.
    #[error(
        "mcomp.cfg names certificates, and this build has no TLS: build it with the feature `tls`, or take \
         security.tls_ca, tls_cert and tls_key out"
    )]
    Absent,
    /// A file cannot be read.
    #[error("the {what} {path} cannot be read: {source}", path = path.display())]
    Io {
        /// `authority`, `certificate`, `key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("the {what} {path} {why}", path = path.display())]
    Bad {
        /// `authority`, `certificate`, `key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl TlsError {
    /// Whether only the operating system stands in the way; otherwise the configuration is to be mended.
    pub fn is_io(&self) -> bool {
        matches!(self, TlsError::Io { .. })
    }
}

/// Why a certificate is not believed, as what is said of it: "is for another host", "expired".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Its time is over, or has not come.
    #[error("{0}")]
    Time(String),
    /// It is of an authority that this side does not name. The other side may name it.
    #[error("{0}")]
    Authority(String),
    /// It is for another host or purpose, or breaks the rules.
    #[error("{0}")]
    Unfit(String),
}

impl Tls {
    /// As [`Tls::load`], for a process that listens on `address`. A certificate that nobody will believe goes to the
    /// log: the process serves all the same, for it may be its clock that is wrong, and Unix sockets need none.
    pub fn load_for(address: &str, ca: &Path, cert: &Path, key: &Path) -> Result<Tls, TlsError> {
        let tls = Tls::load(ca, cert, key)?;
        if let Some(doubt) = tls.doubt(Some(address), SystemTime::now()) {
            tracing::warn!("the certificate {} {doubt}", cert.display());
        }
        Ok(tls)
    }
}

/// Whether `error` says that the peer broke TLS, or did not accept us.
pub fn is_tls(error: &io::Error) -> bool {
    objection(error).is_some()
}
