//! A cluster with certificates: everything works, nobody reads along, and who is not believed is told what to mend,
//! and counted. The authorities are the tests' own.

/// Who is not believed, and by whom.
mod refused;

/// Deadlines, ends and successors are the same under TLS.
mod endings;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use mcomp_client::{Cluster as Client, Options, TlsFiles};
use mcomp_net::auth::Keyring;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::harness::{Cluster, PATIENCE, Setup};

const K: &str = "64KiB";
const MARKER: &[u8] = b"the words that nobody else may read";
const SECURITY: &str = "[security]\ntls_ca = \"ca.pem\"\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"";

/// What nobody should believe, to be issued all the same.
type Twist = fn(&mut CertificateParams);

/// One that can issue certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("an authority").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for `host`, its key and this authority to `folder`.
    fn issue(&self, folder: &Path, host: &str, twist: Twist) -> TlsFiles {
        let file = |name: &str| folder.join(name);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        twist(&mut params);
        fs::create_dir_all(folder).expect("a folder");
        fs::write(file("ca.pem"), &self.pem).expect("a file");
        fs::write(file("cert.pem"), params.signed_by(&key, &self.issuer).expect("a certificate").pem())
            .expect("a file");
        fs::write(file("key.pem"), key.serialize_pem()).expect("a file");
        fs::set_permissions(file("key.pem"), fs::Permissions::from_mode(0o600)).expect("its mode");
        TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") }
    }
}

/// Its time was over long ago.
fn expire(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 1, 1));
}

fn host(cluster: &Cluster) -> String {
    let address = cluster.address(0);
    address.rsplit_once(':').expect("a port").0.to_owned()
}

/// A cluster whose certificates are for `host`, or for where it is.
fn with_tls(setup: Setup, host_of: Option<&str>) -> Cluster {
    let mut cluster = setup.prepare();
    let host = host_of.map_or_else(|| host(&cluster), str::to_owned);
    Authority::new(&cluster.name).issue(cluster.dir.path(), &host, |_| {});
    (0..cluster.n).for_each(|id| cluster.start_server(id));
    cluster
}

/// Options of a client on another machine.
fn far(cluster: &Cluster) -> Options {
    Options { unix: false, segment: false, ..Options::from_config(&cluster.config()) }
}

/// How often the server has turned somebody away for this; asked over the Unix socket.
fn rejected(cluster: &Cluster, cause: &str) -> u64 {
    cluster.client().status(0).expect("a status").counters.rejected.get(cause).copied().unwrap_or(0)
}

#[test]
fn the_whole_command_line_works_under_tls_and_with_a_secret() {
    let setup = Setup::new(2, K).secret(&Keyring::random().expect("a secret"));
    let mut cluster = with_tls(setup.with(SECURITY.trim_start_matches("[security]\n")), None);
    (0..2).for_each(|id| cluster.start_snapshotter(id));
    let says = |args: &[&str]| String::from_utf8(cluster.ok(args)).expect("text");
    says(&["--remote", "write", "65530", "hello, both of you"]);
    assert_eq!(says(&["--remote", "read", "65530", "18"]), "hello, both of you");
    assert_eq!(says(&["read", "65530", "18"]), "hello, both of you");
    let large = vec![0x5a; 100_000];
    let client = Client::with_options(far(&cluster)).expect("a client");
    client.write_at(1, &large).expect("a large write");
    assert!(client.read_vec(1, large.len() as u64).expect("a large read") == large);
    assert_eq!(client.fetch_add(0x1f000, 7).expect("an add"), 0);
    says(&["--remote", "status"]);
    let file = says(&["--remote", "snapshot", "create", "-q"]);
    says(&["--remote", "fill", "0", "128KiB", "0"]);
    says(&["--remote", "restore", file.trim()]);
    let client = Client::with_options(far(&cluster)).expect("a client");
    assert!(client.read_vec(1, large.len() as u64).expect("a large read") == large);
    assert_eq!(rejected(&cluster, "bad_tls"), 0);
}

/// Also without TLS, where the marker must be found: else the test would not see it.
#[test]
fn nothing_that_was_written_can_be_read_on_the_wire() {
    for is_secret in [true, false] {
        let setup = Setup::new(1, K);
        let cluster = if is_secret { with_tls(setup.with(SECURITY), None) } else { setup.servers() };
        let relay = TcpListener::bind((host(&cluster), 0)).expect("a port for the relay");
        let through = relay.local_addr().expect("its address");
        let heard = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let _closing = Closing(through);
            let (server, heard) = (cluster.address(0), &heard);
            scope.spawn(move || listen_in(&relay, &server, heard));
            let options = Options { servers: vec![through.to_string()], timeout: PATIENCE, ..far(&cluster) };
            let client = Client::with_options(options).expect("a client");
            client.write_at(100, MARKER).expect("a write");
            assert_eq!(client.read_vec(100, MARKER.len() as u64).expect("a read"), MARKER);
        });
        let heard = heard.into_inner().expect("nobody panicked");
        let found = heard.windows(MARKER.len()).filter(|bytes| *bytes == MARKER).count();
        assert!(heard.len() > 2 * MARKER.len(), "only {} bytes went through the relay", heard.len());
        assert_eq!(found, if is_secret { 0 } else { 2 }, "of {} bytes", heard.len());
    }
}

/// Ends the relay, also when the client has panicked: it sits in accept if nobody came.
struct Closing(SocketAddr);

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = TcpStream::connect(self.0);
    }
}

/// Hands one connection on, and keeps every byte of it.
fn listen_in(relay: &TcpListener, server: &str, heard: &Mutex<Vec<u8>>) {
    let (client, _) = relay.accept().expect("a client");
    let server = TcpStream::connect(server).expect("the server listens");
    std::thread::scope(|scope| {
        for (mut from, mut to) in [(&client, &server), (&server, &client)] {
            scope.spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    heard.lock().expect("nobody panicked").extend_from_slice(&bytes[..count]);
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                // The other direction may have done it already.
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            });
        }
    });
}
