//! The secret, as it is on this machine and as the processes that run have it.

use std::os::unix::fs::PermissionsExt;

use mcomp_net::auth::Keyring;
use mcomp_wire::Role;

use super::*;

fn with_secret() -> Setup {
    setup().secret(&Keyring::random().expect("random numbers"))
}

/// What comes before the words for a person.
fn command(fix: &str) -> &str {
    fix.split(';').next().expect("a first part")
}

#[test]
fn a_secret_that_no_process_takes_is_told_with_the_way_out() {
    let cluster = with_secret().prepare();
    let path = cluster.secret_path();
    let what = |report: &Value| find(report, "secret", "ok", "mcomp.secret")["what"].as_str().unwrap().to_owned();
    let found = what(&doctor(&cluster, 0));
    assert!(found.contains("client, node, admin") && !found.contains("retire"), "{found}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    let report = doctor(&cluster, 1);
    let finding = find(&report, "secret", "fail", "mcomp.secret");
    assert!(finding["what"].as_str().unwrap().contains("0644"), "{finding}");
    apply(&cluster, command(fix(finding)));
    what(&doctor(&cluster, 0));

    fs::write(&path, "client 12\n").expect("a file");
    let report = doctor(&cluster, 1);
    let bad = find(&report, "secret", "fail", "mcomp.secret");
    assert!(bad["what"].as_str().unwrap().contains("line 1"), "{bad}");
    apply(&cluster, fix(bad));
    what(&doctor(&cluster, 0));

    fs::remove_file(&path).expect("it was there");
    let report = doctor(&cluster, 1);
    apply(&cluster, command(fix(find(&report, "secret", "fail", "mcomp.secret"))));
    what(&doctor(&cluster, 0));
    apply(&cluster, &format!("mcomp secret rotate --config '{}'", cluster.config_path().display()));
    let found = what(&doctor(&cluster, 0));
    assert!(found.contains("mcomp secret retire"), "{found}");
}

#[test]
fn a_server_s_machine_needs_the_keys_of_all_roles() {
    let cluster = with_secret().prepare();
    let keys = Keyring::load(&cluster.secret_path()).expect("a secret");
    keys.only(&[Role::Client]).expect("a key").store(&cluster.secret_path(), "", true).expect("a file");
    let report = doctor(&cluster, 1);
    let finding = find(&report, "secret", "fail", "mcomp.secret");
    assert!(finding["what"].as_str().unwrap().contains("no key of the role node"), "{finding}");
}

/// A process that runs well and has another secret than this file is nobody's to stop.
#[test]
fn a_process_with_another_secret_is_not_to_be_stopped() {
    let cluster = with_secret().start();
    let refused = |way_out: &str| {
        let report = doctor(&cluster, 1);
        for address in [cluster.address(0), cluster.snapshot_address(1)] {
            let finding = find(&report, "address", "fail", &address);
            assert!(fix(finding).starts_with(way_out), "{finding}");
        }
        let mut fixes =
            report["findings"].as_array().expect("findings").iter().map(|finding| finding["fix"].to_string());
        assert!(!fixes.any(|fix| fix.contains("kill")), "{report:#}");
    };
    Keyring::random().expect("random numbers").store(&cluster.secret_path(), "", true).expect("a file");
    refused("mcomp secret show ");
    fs::remove_file(cluster.secret_path()).expect("it was there");
    let report = doctor(&cluster, 1);
    find(&report, "secret", "fail", "mcomp.secret");
    find(&report, "address", "skipped", &cluster.address(0));
    let text = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    fs::write(cluster.config_path(), text.replace("secret_file", "# secret_file")).expect("mcomp.cfg");
    refused("secret_file = ");
}
