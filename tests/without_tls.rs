//! A configuration that promises secrecy is refused by a build that cannot keep the promise.

use crate::harness::Setup;

#[test]
fn certificates_are_refused_before_anything_is_sent() {
    let cluster = Setup::new(1, "64KiB")
        .with("[security]\ntls_ca = \"ca.pem\"\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"")
        .prepare();
    let commands: [&[&str]; 5] = [
        &["server", "--id", "0"],
        &["snapshotter", "--id", "0"],
        &["read", "0", "1"],
        &["config", "check"],
        &["status"],
    ];
    let says_so = |said: &[u8]| {
        let said = String::from_utf8_lossy(said);
        assert!(said.contains("this build has no TLS") && said.contains("the feature `tls`"), "{said}");
    };
    for command in commands {
        says_so(&cluster.exits(78, command).stderr);
    }
    says_so(&cluster.exits(1, &["doctor"]).stdout);
}
