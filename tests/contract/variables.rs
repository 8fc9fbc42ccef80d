//! Where the values of the configuration come from: flags, variables, the file and defaults, and slips
//! in the names of variables.

use std::process::Command;

use serde_json::{Value, json};

use super::{parsed, setup};
use crate::harness::{Cluster, mcomp};

/// The value and the origin of the client's timeout.
fn timeout(mut command: Command) -> (Value, Value) {
    let output = command.output().expect("mcomp runs");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (shown["client.timeout"]["value"].clone(), shown["client.timeout"]["origin"].clone())
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let plain = setup().prepare();
    let show = ["config", "show", "--json"];
    assert_eq!(timeout(plain.command(&show)), (json!("5s"), json!("default")));
    let cluster = setup().with("[client]\ntimeout = \"7s\"").prepare();
    assert_eq!(timeout(cluster.command(&show)), (json!("7s"), json!("file")));
    let with_variable = |args: &[&str]| {
        let mut command = cluster.command(args);
        command.env("MCOMP_CLIENT_TIMEOUT", "8s");
        command
    };
    assert_eq!(timeout(with_variable(&show)), (json!("8s"), json!("$MCOMP_CLIENT_TIMEOUT")));
    let flagged = [&show[..], &["--timeout", "9s"]].concat();
    assert_eq!(timeout(with_variable(&flagged)), (json!("9s"), json!("flag")));
    let mut bad = cluster.command(&["status"]);
    let output = bad.env("MCOMP_CLIENT_TIMEOUT", "soon").output().expect("mcomp runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("MCOMP_CLIENT_TIMEOUT"), "{output:?}");
}

#[test]
fn the_configuration_is_the_flags_the_variables_or_the_folders() {
    let [flag, variable, folder] = [setup().prepare(), setup().prepare(), setup().prepare()];
    let check = |with: &dyn Fn(&mut Command)| {
        let mut command = mcomp(&["config", "check", "--json"]);
        command.current_dir(folder.dir.path());
        with(&mut command);
        let output = command.output().expect("mcomp runs");
        (output.status.code(), parsed(&output.stdout)["cluster"].clone())
    };
    assert_eq!(check(&|_| ()), (Some(0), json!(folder.name)));
    let by_variable = |command: &mut Command| {
        command.env("MCOMP_CONFIG", variable.config_path());
    };
    assert_eq!(check(&by_variable), (Some(0), json!(variable.name)));
    let by_flag = |command: &mut Command| {
        by_variable(command);
        command.arg("--config").arg(flag.config_path());
    };
    assert_eq!(check(&by_flag), (Some(0), json!(flag.name)));
    // What was named and is not there is an error, and never another file.
    let by_missing = |command: &mut Command| {
        command.env("MCOMP_CONFIG", "/no/such/mcomp.cfg");
    };
    assert_eq!(check(&by_missing), (Some(78), Value::Null));
}

#[test]
fn a_variable_with_a_slip_is_not_ignored() {
    let cluster = setup().prepare();
    for (slip, meant) in [
        ("MCOMP_CONFG", "MCOMP_CONFIG"),
        ("MCOMP_TIMEOUT", "MCOMP_CLIENT_TIMEOUT"),
        ("MCOMP_CLUSTER_NMAE", "MCOMP_CLUSTER_NAME"),
    ] {
        let mut command = cluster.command(&["config", "check", "--json"]);
        let output = command.env(slip, "7s").output().expect("mcomp runs");
        assert_eq!(output.status.code(), Some(78), "{slip}: {output:?}");
        let said = parsed(&output.stdout)["error"].to_string();
        assert!(said.contains(slip) && said.contains(&format!("did you mean {meant}?")), "{said}");
    }
    for other in ["MCOMP_TEST_SEED", "MCOMP_MUTANT", "MCOMP_STRETCH_SWITCH_US", "MCOMP_LOG", "MCOMP_HOME"] {
        let mut command = cluster.command(&["config", "check"]);
        let output = command.env(other, "1").output().expect("mcomp runs");
        assert_eq!(output.status.code(), Some(0), "{other}: {output:?}");
    }
}

#[test]
fn config_show_names_the_origin_of_every_value() {
    let cluster: Cluster = setup().with("[snapshot]\nkeep = 3").prepare();
    let mut command = cluster.command(&["config", "show", "--json", "--timeout", "2s"]);
    let output = command.env("MCOMP_SNAPSHOT_EVERY", "1h").output().expect("mcomp runs");
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (key, value, origin) in [
        ("cluster.k", json!(65_536), "file"),
        ("cluster.replicas", json!(1), "default"),
        ("server.1.address", json!(cluster.address(1)), "file"),
        ("snapshot.keep", json!(3), "file"),
        ("snapshot.every", json!("1h"), "$MCOMP_SNAPSHOT_EVERY"),
        ("client.timeout", json!("2s"), "flag"),
        ("trace.op_log", Value::Null, "default"),
    ] {
        assert_eq!(shown[key], json!({"value": value, "origin": origin}), "{key}");
    }
    let mut table = cluster.command(&["config", "show"]);
    let table = String::from_utf8(table.output().expect("mcomp runs").stdout).expect("text");
    assert!(
        shown.as_object().expect("an object").keys().filter(|key| key.contains('.')).all(|key| table.contains(key))
    );
}
