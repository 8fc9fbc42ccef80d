//! Who is not believed under TLS is told what to mend, counted, and has changed nothing.

use std::time::SystemTime;

use serde_json::Value;

use super::*;
use crate::harness::wait_until;

/// Not permitted.
const REFUSED: i32 = 77;

/// The exit code is [`REFUSED`] and the sentence has these words.
fn refuses(cluster: &Cluster, words: &str) {
    for command in [&["--remote", "write", "0", "x"][..], &["--remote", "read", "0", "1"]] {
        let output = cluster.exits(REFUSED, command);
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{words:?} is not in {output:?}");
    }
}

/// Changes mcomp.cfg, which servers that run do not read again.
fn reconfigure(cluster: &Cluster, from: &str, to: &str) {
    let text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    assert!(text.contains(from), "{text}");
    fs::write(cluster.config_path(), text.replace(from, to)).expect("mcomp.cfg");
}

/// A server counts who it has turned away once that one has gone, which may be a moment after it was told.
fn are_counted(cluster: &Cluster, cause: &str, count: u64) {
    wait_until("all are counted", || rejected(cluster, cause) >= count);
    assert_eq!(rejected(cluster, cause), count);
}

fn is_untouched(cluster: &Cluster) -> bool {
    cluster.client().read_vec(0, 64).expect("a read") == [0; 64]
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let cluster = with_tls(Setup::new(1, K).with(SECURITY), None);
    let theirs = cluster.dir.path().join("theirs");
    Authority::new("theirs").issue(&theirs, &host(&cluster), |_| {});
    // It believes the server, and is not believed.
    for file in ["cert.pem", "key.pem"] {
        reconfigure(&cluster, file, &format!("theirs/{file}"));
    }
    refuses(&cluster, "does not accept the certificate of this side");
    are_counted(&cluster, "bad_tls", 2);
    // The other way round.
    reconfigure(&cluster, "theirs/", "");
    reconfigure(&cluster, "ca.pem", "theirs/ca.pem");
    refuses(&cluster, "not of an authority in security.tls_ca");
    are_counted(&cluster, "bad_tls", 4);
    assert!(is_untouched(&cluster));
}

#[test]
fn a_client_without_tls_is_refused_by_servers_and_snapshot_processes() {
    let mut cluster = with_tls(Setup::new(1, K).with(SECURITY), None);
    cluster.start_snapshotter(0);
    reconfigure(&cluster, "tls_", "#tls_");
    refuses(&cluster, "speaks TLS only: name certificates in mcomp.cfg here too");
    are_counted(&cluster, "bad_tls", 2);
    let output = cluster.exits(REFUSED, &["snapshot", "create"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("speaks TLS only"), "{output:?}");
    assert!(is_untouched(&cluster));
}

#[test]
fn a_client_with_certificates_says_nothing_to_a_server_without() {
    let cluster = Setup::new(1, K).servers();
    Authority::new("ours").issue(cluster.dir.path(), &host(&cluster), |_| {});
    let text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    fs::write(cluster.config_path(), format!("{text}{SECURITY}\n")).expect("mcomp.cfg");
    refuses(&cluster, "speaks without TLS");
    are_counted(&cluster, "bad_frame", 2);
    assert!(is_untouched(&cluster));
}

#[test]
fn a_certificate_for_another_address_is_refused() {
    let cluster = with_tls(Setup::new(1, K).with(SECURITY), Some("192.0.2.7"));
    refuses(&cluster, &format!("is for 192.0.2.7, and mcomp.cfg has it at {}", host(&cluster)));
    are_counted(&cluster, "bad_tls", 2);
    assert!(cluster.log("server", 0).contains("192.0.2.7"), "its own log says so too");
}

#[test]
fn an_expired_certificate_is_refused_on_either_side_and_told_before() {
    let mut cluster = with_tls(Setup::new(1, K).with(SECURITY), None);
    let (old, host) = (cluster.dir.path().join("old"), host(&cluster));
    let authority = Authority::new("ours");
    authority.issue(cluster.dir.path(), &host, |_| {});
    authority.issue(&old, &host, expire);
    cluster.stop_server(0);
    cluster.start_server(0);
    // The client's.
    for file in ["cert.pem", "key.pem"] {
        reconfigure(&cluster, file, &format!("old/{file}"));
    }
    refuses(&cluster, "security.tls_cert must be valid");
    are_counted(&cluster, "bad_tls", 2);
    let output = cluster.exits(78, &["config", "check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("old/cert.pem") && said.contains("expired") && said.contains("days ago"), "{said}");
    // The server's.
    cluster.stop_server(0);
    cluster.start_server(0);
    assert!(cluster.log("server", 0).contains("expired"), "{}", cluster.log("server", 0));
    reconfigure(&cluster, "old/", "");
    refuses(&cluster, "its certificate expired");
    assert!(is_untouched(&cluster), "whoever asks over the Unix socket needs no certificate");
}

#[test]
fn the_doctor_names_a_certificate_that_will_not_be_believed() {
    let cluster = Setup::new(1, K).with(SECURITY).prepare();
    let (folder, host) = (cluster.dir.path(), host(&cluster));
    let authority = Authority::new("ours");
    let soon = |params: &mut CertificateParams| {
        // A day, whatever day it is.
        params.not_after = SystemTime::now().into();
        params.not_after += Duration::from_secs(24 * 3600);
    };
    let cases: [(&str, Twist, &str, &str); 4] = [
        (&host, |_| {}, "ok", "believe it"),
        (&host, soon, "warn", "less than two weeks"),
        (&host, expire, "fail", "expired"),
        ("192.0.2.7", |_| {}, "fail", "is for 192.0.2.7"),
    ];
    for (host, twist, level, words) in cases {
        authority.issue(folder, host, twist);
        let output = cluster.run(&["doctor", "--json", "--timeout", "300ms"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let of_certificates = |finding: &&Value| finding["check"] == "certificates";
        let found = report["findings"].as_array().expect("findings").iter().find(of_certificates).expect("a finding");
        assert_eq!(found["level"], level, "{found}");
        assert!(found["what"].as_str().is_some_and(|what| what.contains(words)), "{found}");
        assert_eq!(output.status.code(), Some(i32::from(level == "fail")), "{report}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let cluster = with_tls(Setup::new(1, K).with(SECURITY), None);
    let key = cluster.dir.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("its mode");
    let commands: [&[&str]; 3] = [&["read", "0", "1"], &["config", "check"], &["server", "--id", "0"]];
    for command in commands {
        let output = cluster.exits(78, command);
        assert!(String::from_utf8_lossy(&output.stderr).contains("chmod 600"), "{command:?}: {output:?}");
    }
    let diagnosed = |words: &str| {
        let output = cluster.exits(1, &["doctor", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings");
        let of_certificates = findings.iter().find(|finding| finding["check"] == "certificates").expect("a finding");
        assert_eq!(of_certificates["level"], "fail", "{of_certificates}");
        assert!(of_certificates["what"].as_str().is_some_and(|what| what.contains(words)), "{of_certificates}");
        let skipped = |finding: &Value| finding["check"] == "address" && finding["level"] == "skipped";
        assert!(findings.iter().any(skipped), "a server that cannot be asked runs there: {report}");
        assert!(findings.iter().any(|finding| finding["check"] == "clock"), "the rest is looked at: {report}");
    };
    diagnosed("chmod 600");
    fs::remove_file(&key).expect("it was there");
    let output = cluster.exits(74, &["config", "check"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("key.pem cannot be read"), "{output:?}");
    diagnosed("key.pem cannot be read");
}
