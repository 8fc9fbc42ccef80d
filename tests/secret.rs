//! `mcomp secret`, and a cluster that has one, from the command line: made, used by every command, changed while all
//! goes on, and taken away from who should not have it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mcomp_net::auth::Keyring;
use mcomp_wire::Role;
use serde_json::{Value, json};

use crate::harness::{Cluster, Setup, mcomp};

/// What a command says on stdout; it must end with `code`.
fn says(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let output = cluster.run(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
    format!("{out}{}", if code == 0 { "" } else { &*err })
}

#[test]
fn a_secret_is_made_once_and_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let make = || mcomp(&["secret", "create", "s"]).current_dir(folder.path()).output().unwrap();
    let made = make();
    assert_eq!((made.status.code(), &made.stdout[..]), (Some(0), &b"s\n"[..]), "{made:?}");
    assert!(String::from_utf8_lossy(&made.stderr).contains("secret_file = "), "{made:?}");
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    let keys = Keyring::load(&path).unwrap();
    let again = make();
    assert_eq!(again.status.code(), Some(64), "{again:?}");
    assert_eq!(Keyring::load(&path).unwrap(), keys, "a second start has changed the keys");
}

#[test]
fn the_keys_of_some_roles_are_taken_out_and_none_is_shown() {
    let cluster = Setup::new(1, "64KiB").secret(&Keyring::random().unwrap()).prepare();
    let keys = Keyring::load(&cluster.secret_path()).unwrap();
    let out = cluster.dir.path().join("client.secret");
    let out = out.to_str().unwrap();
    says(&cluster, &["secret", "export", "--role", "client", "-o", out], 0);
    assert_eq!(Keyring::load(Path::new(out)).unwrap(), keys.only(&[Role::Client]).unwrap());
    says(&cluster, &["secret", "export", "--role", "client", "-o", out], 64);
    says(&cluster, &["secret", "export", "--role", "admin", "-o", "/nowhere", out], 1);
    says(&cluster, &["secret", "export", "-o", "/nowhere"], 64);
    let shown = says(&cluster, &["secret", "show"], 0);
    let json: Value = serde_json::from_str(&says(&cluster, &["secret", "show", "--json"], 0)).unwrap();
    for &role in Role::ALL {
        let key = keys.of(role).next().unwrap();
        assert!(shown.contains(&key.fingerprint()) && !shown.contains(&key.to_hex()), "{shown}");
        assert_eq!(json["keys"][role.word()], json!([key.fingerprint()]));
    }
    says(&cluster, &["secret", "show", "/nowhere"], 74);
    std::fs::write(out, "not a secret").unwrap();
    says(&cluster, &["secret", "show", out], 78);
}

/// Every kind of command works with the secret, and a client's key alone reads and writes and does no more.
#[test]
fn the_whole_command_line_works_with_a_secret() {
    let cluster = Setup::new(2, "64KiB").secret(&Keyring::random().unwrap()).start();
    says(&cluster, &["write", "100", "hello"], 0);
    assert_eq!(says(&cluster, &["read", "100", "5"], 0), "hello");
    assert_eq!(says(&cluster, &["--remote", "read", "100", "5"], 0), "hello");
    says(&cluster, &["cas", "64", "0", "7"], 0);
    says(&cluster, &["status"], 0);
    let file = says(&cluster, &["snapshot", "create", "-q"], 0);
    says(&cluster, &["fill", "0", "128KiB", "0"], 0);
    says(&cluster, &["restore", file.trim()], 0);
    assert_eq!(says(&cluster, &["read", "100", "5"], 0), "hello");

    let client = cluster.dir.path().join("client.secret");
    let client = client.to_str().unwrap();
    says(&cluster, &["secret", "export", "--role", "client", "-o", client], 0);
    let with = |args: &[&str]| {
        let output = cluster.command(args).env("MCOMP_SECURITY_SECRET_FILE", client).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(with(&["write", "100", "jello"]).0, Some(0));
    // A file is signed by a node, and its key is missing as well; without that word, that of an admin is.
    for (args, missing) in [
        (&["restore", file.trim()][..], "node"),
        (&["restore", "--unsigned", file.trim()], "admin"),
        (&["snapshot", "create"], "admin"),
    ] {
        let (code, said) = with(args);
        assert_eq!(code, Some(77), "{said}");
        assert!(said.contains(missing), "{said}");
    }
    assert_eq!(says(&cluster, &["read", "100", "5"], 0), "jello");
}

/// Servers get new keys one after the other, and those with the old and with the new ones go on all the time.
#[test]
fn a_secret_is_changed_while_all_goes_on() {
    let mut cluster = Setup::new(2, "64KiB").secret(&Keyring::random().unwrap()).start();
    let old = cluster.dir.path().join("old.secret");
    std::fs::copy(cluster.secret_path(), &old).unwrap();
    let add = |cluster: &Cluster, keys: Option<&Path>, addr: &str| {
        let mut command = cluster.command(&["add", addr, "1"]);
        if let Some(keys) = keys {
            command.env("MCOMP_SECURITY_SECRET_FILE", keys);
        }
        command.output().unwrap().status.code()
    };
    let all_go_on = |cluster: &Cluster| {
        for addr in ["0", "65536"] {
            assert_eq!((add(cluster, None, addr), add(cluster, Some(&old), addr)), (Some(0), Some(0)), "{addr}");
        }
    };
    says(&cluster, &["secret", "rotate"], 0);
    all_go_on(&cluster);
    for id in 0..2 {
        cluster.stop_server(id);
        cluster.start_server(id);
        cluster.kill_snapshotter(id);
        cluster.start_snapshotter(id);
        all_go_on(&cluster);
        says(&cluster, &["snapshot", "create"], 0);
    }
    says(&cluster, &["secret", "retire"], 0);
    all_go_on(&cluster);
    for id in 0..2 {
        cluster.stop_server(id);
        cluster.start_server(id);
    }
    assert_eq!((add(&cluster, None, "0"), add(&cluster, Some(&old), "0")), (Some(0), Some(77)));
    says(&cluster, &["secret", "retire"], 0);
}

/// Where others could reach it, nothing starts without a secret, and nothing is left behind. The address is one of those
/// for documents, which is nobody's.
#[test]
fn nothing_listens_in_the_open_without_a_secret() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let text = std::fs::read_to_string(cluster.config_path()).unwrap();
    std::fs::write(cluster.config_path(), text.replace(cluster.address(0).split(':').next().unwrap(), "192.0.2.1"))
        .unwrap();
    for command in ["server", "snapshotter"] {
        let said = says(&cluster, &[command, "--id", "0"], 78);
        assert!(said.contains("192.0.2.1:") && said.contains("mcomp secret create"), "{said}");
    }
    assert!(!Path::new(&format!("/dev/shm/mcomp.{}.0", cluster.name)).exists());
    // The file is valid, and who checks it is told before anything is started.
    let check = || cluster.exits(0, &["config", "check"]);
    let said = String::from_utf8_lossy(&check().stderr).into_owned();
    assert!(said.contains("server.0.address = 192.0.2.1:") && said.contains("mcomp secret create"), "{said}");
    let text = std::fs::read_to_string(cluster.config_path()).unwrap();
    std::fs::write(cluster.config_path(), text + "[security]\nsecret_file = \"mcomp.secret\"\n").unwrap();
    assert!(check().stderr.is_empty(), "{:?}", check());
}
