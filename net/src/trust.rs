//! By what the two sides of a connection know each other, and who else understands them.

use crate::auth::Keyring;
use crate::tls::Tls;

/// What this side insists on; without any of it everybody is believed, and everybody can listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// Keys that both sides prove to each other.
    pub keyring: Option<&'a Keyring>,
    /// Certificates, for connections over TCP.
    pub tls: Option<&'a Tls>,
}
