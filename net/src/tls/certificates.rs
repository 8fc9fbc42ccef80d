//! The certificates and the key of this side, and the authorities that it believes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

use super::objection::doubt;
use super::{Doubt, TlsError};
use crate::private::{self, Unfit};

/// More than the bundle of any operating system has.
const MOST_BYTES: u64 = 1 << 20;

/// What both ends of a process need: it may be a server to some and a client to others.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

impl Tls {
    /// Reads three files of PEM: the authorities that peers' certificates must be of, this side's certificate with
    /// those between it and its authority, and its key, which must be this user's and closed to all others.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Tls, TlsError> {
        let unusable = |what, path: &Path| {
            let path = path.to_owned();
            move |error: &dyn std::fmt::Display| TlsError::Bad { what, path, why: format!("cannot be used: {error}") }
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates("authority", ca)? {
            roots.add(authority).map_err(|error| unusable("authority", ca)(&error))?;
        }
        let (roots, chain, key_der) = (Arc::new(roots), certificates("certificate", cert)?, private_key(key)?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = of_clients(&roots, &provider).map_err(|error| unusable("authority", ca)(&error))?;
        let only = &[&rustls::version::TLS13];
        let speaks = "the provider speaks TLS 1.3";
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(only);
        let mut server = server
            .expect(speaks)
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key_der.clone_key())
            .map_err(|error| unusable("key", key)(&error))?;
        // No tickets: a server keeps nothing of a connection that has ended, and sends nothing unasked.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(only);
        let mut client = client
            .expect(speaks)
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key_der)
            .map_err(|error| unusable("key", key)(&error))?;
        client.resumption = Resumption::disabled();
        Ok(Tls { client: Arc::new(client), server: Arc::new(server), roots, chain: chain.into() })
    }

    /// Why a peer that believes the same authorities would not believe the certificate of this side at the time `at`:
    /// as a server's on `address`, or as a client's.
    pub fn doubt(&self, address: Option<&str>, at: SystemTime) -> Option<Doubt> {
        // A clock before 1970 is before every certificate.
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        match self.verify(address, at) {
            Ok(()) => None,
            Err(Error::InvalidCertificate(reason)) => Some(doubt(&reason)),
            Err(error) => Some(Doubt::Unfit(format!("cannot be judged: {error}"))),
        }
    }

    fn verify(&self, address: Option<&str>, at: UnixTime) -> Result<(), Error> {
        let unfit = |error: VerifierBuilderError| Error::General(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (own, between) = self.chain.split_first().expect("a file without certificates is not loaded");
        let Some(address) = address else {
            let verifier = of_clients(&self.roots, &provider).map_err(unfit)?;
            return verifier.verify_client_cert(own, between, at).map(drop);
        };
        let name = server_name(address).ok_or_else(|| Error::General(format!("{address} names no host")))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider);
        verifier.build().map_err(unfit)?.verify_server_cert(own, between, &name, &[], at).map(drop)
    }
}

/// Who asks clients for a certificate. One that has shown nothing is not told whom this side believes.
fn of_clients(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    verifier.clear_root_hint_subjects().build()
}

/// What the certificate of the server at `address` has to be for, if that is possible.
pub(super) fn server_name(address: &str) -> Option<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::Bad { what, path: path.into(), why };
    let pem = read(path).map_err(|source| TlsError::Io { what, path: path.into(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| bad(format!("is no file of PEM: {error}")))?;
    if found.is_empty() { Err(bad("holds no certificate in PEM".into())) } else { Ok(found) }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut pem)?;
    Ok(pem)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bad = |why: String| TlsError::Bad { what: "key", path: path.into(), why };
    let pem = private::read(path, MOST_BYTES).map_err(|unfit| match unfit {
        Unfit::Io(source) => TlsError::Io { what: "key", path: path.into(), source },
        Unfit::NotAFile => bad("is not a regular file".into()),
        Unfit::Foreign { owner, ours } => bad(format!("belongs to user {owner}, and this process runs as user {ours}")),
        Unfit::Exposed { mode } => bad(format!(
            "has mode {mode:04o}, which opens it to other users: make a new one, or, if nobody else can have read it, \
             run `chmod 600 {}`",
            path.display()
        )),
        Unfit::TooLong => bad(format!("has more than {MOST_BYTES} bytes")),
    })?;
    // The error says nothing of what the file holds.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad("holds no key in PEM".into()))
}
