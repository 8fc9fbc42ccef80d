//! Two ends of real sockets, with certificates that the test issues.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcomp_wire::Status;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{Doubt, Tls, TlsError, is_tls};
use crate::{CallError, Endpoint, Glance, Listener, Stream};

const PATIENCE: Duration = Duration::from_secs(30);
const HOST: &str = "127.0.0.1";

/// An authority, and the folder of what it issues.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, name: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        fs::write(self.path(name), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        let path = self.path(&format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What `self` issues for `host`, for one who believes `of`.
    fn tls(&self, host: &str, of: &Authority) -> Tls {
        self.issue(host, CertificateParams::new([host.to_owned()]).unwrap());
        Tls::load(&of.path("ca"), &self.path(host), &self.path(&format!("{host}.key"))).unwrap()
    }
}

/// Both ends of a connection, as far as each of them gets.
fn meet(client: &Tls, server: &Tls) -> (Result<Stream, CallError>, (Stream, std::io::Result<()>)) {
    let socket = std::net::TcpListener::bind((HOST, 0)).unwrap();
    let endpoint = Endpoint::Tcp(socket.local_addr().unwrap().to_string());
    let listener = server.listen(socket);
    std::thread::scope(|scope| {
        let accepting = scope.spawn(move || {
            let mut stream = listener.accept().unwrap();
            stream.set_timeout(Some(PATIENCE)).unwrap();
            let done = stream.shake_hands();
            (stream, done)
        });
        let stream = Stream::connect(&endpoint, PATIENCE).unwrap();
        let stream = stream.secure(Some(client), &endpoint, PATIENCE);
        (stream, accepting.join().unwrap())
    })
}

fn pair() -> (Stream, Stream) {
    let authority = Authority::new();
    let tls = authority.tls(HOST, &authority);
    let (near, (far, done)) = meet(&tls, &tls);
    done.unwrap();
    let near = near.unwrap();
    near.set_timeout(Some(PATIENCE)).unwrap();
    (near, far)
}

/// What the client is told when it reads, at the latest.
fn objection(client: Result<Stream, CallError>) -> (Status, String) {
    let error = match client {
        Ok(mut stream) => {
            stream.set_timeout(Some(PATIENCE)).unwrap();
            CallError::Lost(stream.read(&mut [0]).unwrap_err())
        }
        Err(error) => error,
    };
    match error {
        CallError::Lost(error) => super::objection(&error).unwrap_or_else(|| panic!("{error}")),
        CallError::Refused { status, message } => (status, message),
        error => panic!("{error}"),
    }
}

#[test]
fn any_number_of_bytes_comes_whole_in_both_directions() {
    let (mut near, mut far) = pair();
    for len in [1, 100, 4096, 16 << 10, (16 << 10) + 1, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        for turn in 0..2 {
            let (from, to) = if turn == 0 { (&mut near, &mut far) } else { (&mut far, &mut near) };
            let got = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut parts = &mut [IoSlice::new(&bytes[..len / 3]), IoSlice::new(&bytes[len / 3..])][..];
                    while !parts.is_empty() {
                        let written = from.write_vectored(parts).unwrap();
                        IoSlice::advance_slices(&mut parts, written);
                    }
                });
                let mut got = vec![0; len];
                let (head, rest) = got.split_at_mut(len / 2);
                let mut have = to.read_vectored(&mut [IoSliceMut::new(head), IoSliceMut::new(rest)]).unwrap();
                assert!(have > 0);
                while have < len {
                    have += to.read(&mut got[have..]).unwrap();
                }
                got
            });
            assert!(got == bytes, "{len} bytes");
        }
    }
    assert_eq!((near.glance(), far.glance()), (Glance::Nothing, Glance::Nothing));
}

#[test]
fn a_part_of_what_came_waits_where_a_glance_sees_it() {
    let (mut near, mut far) = pair();
    near.write_all(b"two").unwrap();
    assert_eq!(far.read(&mut [0]).unwrap(), 1);
    assert_eq!(far.glance(), Glance::Bytes);
    let mut rest = [0; 9];
    assert_eq!(far.read(&mut rest).unwrap(), 2);
    assert_eq!(far.glance(), Glance::Nothing);
    near.finish_writing();
    assert_eq!(far.read(&mut rest).unwrap(), 0);
    assert_eq!(far.read(&mut rest).unwrap(), 0);
    assert!(far.has_ended());
    far.write_all(b"more").unwrap();
    assert_eq!(near.read(&mut rest).unwrap(), 4);
}

#[test]
fn a_second_handle_ends_the_connection() {
    let (near, mut far) = pair();
    near.handle().shutdown();
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
}

#[test]
fn who_is_not_believed_learns_what_to_mend() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = ours.tls(HOST, &ours);
    // A client of another authority, which believes ours.
    let (client, (_, server)) = meet(&theirs.tls(HOST, &ours), &good);
    assert!(is_tls(&server.unwrap_err()));
    let (status, message) = objection(client);
    assert!(status == Status::Denied && message.contains("tls_cert must be valid"), "{message}");
    // A server of another authority.
    let (client, (_, server)) = meet(&good, &theirs.tls(HOST, &ours));
    assert!(is_tls(&server.unwrap_err()));
    let (status, message) = objection(client);
    assert!(status == Status::Denied && message.contains("not of an authority in security.tls_ca"), "{message}");
    // A server whose certificate is for another host, and one that has expired.
    let (client, (_, server)) = meet(&good, &ours.tls("127.0.0.2", &ours));
    assert!(is_tls(&server.unwrap_err()));
    let (status, message) = objection(client);
    assert!(
        status == Status::Denied && message.contains("is for 127.0.0.2, and") && message.contains(HOST),
        "{message}"
    );
    let mut expired = CertificateParams::new([HOST.to_owned()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    ours.issue("old", expired);
    let old = Tls::load(&ours.path("ca"), &ours.path("old"), &ours.path("old.key")).unwrap();
    let (status, message) = objection(meet(&good, &old).0);
    assert!(status == Status::Denied && message.contains("expired") && message.contains("days ago"), "{message}");
    let (status, message) = objection(meet(&old, &good).0);
    assert!(status == Status::Denied && message.contains("CertificateExpired"), "{message}");
}

#[test]
fn what_peers_will_not_believe_is_known_before() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (now, tls) = (SystemTime::now(), ours.tls(HOST, &ours));
    assert_eq!((tls.doubt(None, now), tls.doubt(Some("127.0.0.1:7401"), now)), (None, None));
    let named = ours.tls("a.example", &ours).doubt(Some("127.0.0.1:7401"), now);
    assert!(named.as_ref().is_some_and(|doubt| doubt.to_string().starts_with("is for a.example, and")), "{named:?}");
    let elsewhere = tls.doubt(Some("[::1]:7401"), now);
    assert!(matches!(&elsewhere, Some(Doubt::Unfit(what)) if what.contains("::1")), "{elsewhere:?}");
    assert!(matches!(tls.doubt(Some("no host:1"), now), Some(Doubt::Unfit(_))));
    let century = Duration::from_secs(3_000_000_000);
    assert!(matches!(tls.doubt(None, now - Duration::from_secs(1_700_000_000)), Some(Doubt::Time(_))));
    assert!(matches!(tls.doubt(None, UNIX_EPOCH - century), Some(Doubt::Time(_))));
    let mut short = CertificateParams::new([HOST.to_owned()]).unwrap();
    (short.not_before, short.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 1, 3));
    ours.issue("short", short);
    let short = Tls::load(&ours.path("ca"), &ours.path("short"), &ours.path("short.key")).unwrap();
    let day = |number: u64| UNIX_EPOCH + Duration::from_secs((18_262 + number) * 86_400);
    let said = |at| short.doubt(None, at).map_or(String::new(), |doubt| doubt.to_string());
    assert_eq!(said(day(1)), "");
    assert!(said(day(6)).starts_with("expired 4 days ago"), "{}", said(day(6)));
    assert!(said(day(0) - Duration::from_secs(60)).starts_with("is valid in 60 seconds only"), "{}", said(day(0)));
    let foreign = theirs.tls(HOST, &ours).doubt(None, now);
    assert!(matches!(foreign, Some(Doubt::Authority(_))), "{foreign:?}");
    let mut of_servers = CertificateParams::new([HOST.to_owned()]).unwrap();
    of_servers.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    ours.issue("half", of_servers);
    let half = Tls::load(&ours.path("ca"), &ours.path("half"), &ours.path("half.key")).unwrap();
    assert_eq!(half.doubt(Some("127.0.0.1:7401"), now), None);
    assert!(half.doubt(None, now).is_some_and(|doubt| doubt.to_string().contains("clientAuth")));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let good = authority.tls(HOST, &authority);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(super::certificates::certificates("authority", &authority.path("ca")).unwrap().remove(0)).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (client, (_, server)) = meet(&Tls { client: nobody.into(), ..good.clone() }, &good);
    assert!(is_tls(&server.unwrap_err()));
    let (status, message) = objection(client);
    assert!(status == Status::Denied && message.contains("CertificateRequired"), "{message}");
}

/// Who answers in the open is believed to be busy, and nothing else.
#[test]
fn an_answer_in_the_open_is_no_answer() {
    let authority = Authority::new();
    let tls = authority.tls(HOST, &authority);
    for (said, heard) in [(Status::Busy, Status::Busy), (Status::Ok, Status::Denied), (Status::Fenced, Status::Denied)]
    {
        let socket = std::net::TcpListener::bind((HOST, 0)).unwrap();
        let endpoint = Endpoint::Tcp(socket.local_addr().unwrap().to_string());
        let stream = Stream::connect(&endpoint, PATIENCE).unwrap();
        let mut out = Vec::new();
        crate::error_frame(&mut out, mcomp_wire::Kind::Hello as u8, 0, said, "a sentence");
        Listener::Tcp(socket).accept().unwrap().write_all(&out).unwrap();
        let (status, message) = objection(stream.secure(Some(&tls), &endpoint, PATIENCE));
        assert_eq!((status, message == "a sentence"), (heard, heard == Status::Busy), "{message}");
    }
}

#[test]
fn what_is_thrown_away_is_not_waited_for() {
    let (mut near, mut far) = pair();
    near.write_all(b"two").unwrap();
    assert_eq!(far.read(&mut [0]).unwrap(), 1);
    let mut unread = [0; 9];
    assert_eq!((far.glance(), far.discard(&mut unread).unwrap()), (Glance::Bytes, 2));
    assert_eq!(far.glance(), Glance::Nothing);
}

/// A peer that says nothing, or anything else, holds nobody for ever and breaks nothing.
#[test]
fn what_is_no_tls_ends_the_handshake() {
    let authority = Authority::new();
    let tls = authority.tls(HOST, &authority);
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], &[0xff; 70_000]] {
        let socket = std::net::TcpListener::bind((HOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = tls.listen(socket);
        let mut peer = TcpStream::connect(address).unwrap();
        let mut stream = listener.accept().unwrap();
        peer.write_all(bytes).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let error = stream.shake_hands().unwrap_err();
        assert_eq!(is_tls(&error), !bytes.is_empty(), "{error}");
    }
    let mute = Listener::bind(&Endpoint::Tcp(format!("{HOST}:0"))).unwrap();
    let Listener::Tcp(socket) = &mute else { unreachable!("as it was bound") };
    let endpoint = Endpoint::Tcp(socket.local_addr().unwrap().to_string());
    let stream = Stream::connect(&endpoint, PATIENCE).unwrap();
    let error = stream.secure(Some(&tls), &endpoint, Duration::from_millis(20)).unwrap_err();
    let CallError::Lost(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
}

#[test]
fn files_that_cannot_be_believed_are_refused_by_name() {
    let authority = Authority::new();
    authority.tls(HOST, &authority);
    let (ca, cert, key) = (authority.path("ca"), authority.path(HOST), authority.path(&format!("{HOST}.key")));
    authority.issue("other", CertificateParams::new([HOST.to_owned()]).unwrap());
    let none = authority.path("none");
    let bad = [
        (Tls::load(&none, &cert, &key), "authority"),
        (Tls::load(&ca, &none, &key), "certificate"),
        (Tls::load(&ca, &cert, &none), "key"),
        (Tls::load(&key, &cert, &key), "holds no certificate"),
        (Tls::load(&ca, &cert, &authority.path("other.key")), "cannot be used"),
    ];
    for (loaded, part) in bad {
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Tls::load(&ca, &cert, &key).unwrap_err();
    assert!(matches!(&error, TlsError::Bad { .. }) && error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(&cert, fs::Permissions::from_mode(0o600)).unwrap();
    let error = Tls::load(&ca, &cert, &cert).unwrap_err();
    assert!(error.to_string().contains("holds no key"), "{error}");
}
