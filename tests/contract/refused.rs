//! Codes that this machine decides on: what cannot be meant (64), bytes that are damaged (65), memory
//! that is not there (73), files (74), what belongs to somebody else (77) and a wrong mcomp.cfg (78).

use std::fs;
use std::os::unix::fs::chown;

use rustix::process::geteuid;
use serde_json::json;

use super::{fails, parsed, refused_server, setup, snapshot, with_input};
use crate::harness::{Setup, mcomp};

/// Somebody who owns nothing on any machine.
const NOBODY: u32 = 65534;

/// Command lines that nobody can mean.
const MEANINGLESS: &[&[&str]] = &[
    &[],
    &["snapshot"],
    &["snapshot", "show"],
    &["config"],
    &["frobnicate"],
    &["read"],
    &["read", "0"],
    &["read", "0", "4", "5"],
    &["read", "0", "4", "--bogus"],
    &["read", "0", "4", "--format", "octal"],
    &["read", "-1", "4"],
    &["read", "0x", "4"],
    &["read", "10x", "4"],
    &["read", "ten[4", "4"],
    &["read", "ten+x", "4"],
    &["read", "0", "4KB"],
    &["read", "0", "1.5K"],
    &["read", "18446744073709551616", "1"],
    &["read", "0", "16777216TiB"],
    &["write", "0"],
    &["write", "0", "data", "--hex", "00"],
    &["write", "0", "--hex", "0"],
    &["write", "0", "--hex", "0g"],
    &["fill", "0", "1", "256"],
    &["fill", "0", "1", "-1"],
    &["cas", "0", "1"],
    &["cas", "0", "1", "18446744073709551616"],
    &["add", "0", "1e3"],
    &["swap", "0", "-1"],
    &["snapshot", "prune", "--keep", "0"],
    &["completion", "tcsh"],
    &["status", "--timeout", "5"],
    &["status", "--timeout", "0s"],
    &["status", "--timeout", "soon"],
    &["status", "--log-format", "xml"],
    &["server", "--id", "-1"],
];

/// Commands that reach beyond a memory of 128 KiB.
const OUTSIDE: &[&[&str]] = &[
    &["read", "131072", "1"],
    &["read", "0", "131073"],
    &["fill", "18446744073709551615", "18446744073709551615", "0"],
    &["read", "0", "131073", "-o", "out"],
    &["write", "131072", "x"],
    &["write", "0", "--file", "large"],
    &["write", "0", "--file", "/dev/zero"],
    &["fill", "131071", "2", "0"],
    &["copy", "0", "131071", "2"],
    &["copy", "131071", "0", "2"],
    &["compare", "131072", "large"],
    &["compare", "0", "large"],
    &["cas", "131072", "0", "0"],
    &["add", "0xfffffffffffffff8", "1"],
];

/// None of these needs a server to be refused: nothing is sent.
#[test]
fn code_64_refuses_what_cannot_be_meant_before_anything_is_sent() {
    let cluster = setup().prepare();
    for args in MEANINGLESS {
        fails(&cluster, 64, "usage", args);
    }
    for (args, part) in [
        (["swap", "0", "-1"], "unsigned: write 18446744073709551615"),
        (["read", "99999999999TiB", "1"], "too large for an address"),
        (["read", "64KB", "1"], "or a whole size such as 64MiB"),
    ] {
        let said = cluster.exits(64, &args);
        assert!(String::from_utf8_lossy(&said.stderr).contains(part), "mcomp {args:?}: {said:?}");
    }
    let args = ["read", "0", "4", "--format", "hex", "--json"];
    let said = parsed(&cluster.exits(64, &args).stdout);
    assert_eq!(said["kind"], "usage", "{said}");
    let large = Setup::new(1, "2MiB").prepare();
    let said = parsed(&large.exits(64, &["read", "0", "2MiB", "--json"]).stdout);
    assert_eq!(said["kind"], "too_large", "{said}");
}

#[test]
fn code_64_refuses_addresses_that_are_none() {
    let cluster = setup().prepare();
    let dir = cluster.dir.path();
    fs::write(dir.join("large"), vec![1; 131_073]).expect("a file");
    for args in OUTSIDE {
        let said = fails(&cluster, 64, "out_of_range", args);
        assert!(said.contains("131072"), "the end of the memory is not named: {said}");
    }
    assert!(!dir.join("out").exists(), "a file was begun for what cannot be read");
    for command in ["write", "compare"] {
        let too_long = with_input(&cluster, &[command, "131071", "-"], b"ab");
        assert_eq!(too_long.status.code(), Some(64), "{too_long:?}");
        let said = String::from_utf8_lossy(&too_long.stderr).into_owned();
        assert!(said.contains("stdin is longer than the 1 bytes from address 131071"), "{command}: {said}");
    }
    for args in [&["cas", "4", "0", "1"][..], &["add", "131060", "1"], &["swap", "12", "1"]] {
        fails(&cluster, 64, "unaligned", args);
    }
}

#[test]
fn code_65_is_for_damaged_bytes() {
    let cluster = setup().start();
    cluster.ok(&["fill", "0", "64KiB", "0xab"]);
    let path = snapshot(&cluster);
    let mut bytes = fs::read(&path).expect("the snapshot");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("the damage is done");
    let out = cluster.dir.path().join("image");
    for args in [
        &["snapshot", "verify", &path][..],
        &["snapshot", "export", &path, "-o", out.to_str().expect("a plain path")],
        &["restore", &path],
        &["restore", &path, "--dry-run"],
    ] {
        let said = fails(&cluster, 65, "bad_data", args);
        assert!(said.contains(&path), "{said}");
    }
    assert!(!out.exists(), "half an image is left");
    assert_eq!(cluster.ok(&["read", "65535", "2"]), [0xab, 0]);
}

#[test]
fn code_73_names_what_is_needed_and_what_there_is() {
    let mut cluster = Setup::new(1, "65536GiB").prepare();
    let said = refused_server(&cluster, 73, "full", &["server", "--id", "0"]);
    let numbers = said.split(|c: char| !c.is_ascii_digit()).filter(|number| number.len() > 8).count();
    assert!(numbers >= 3, "needed, free and total are not all in {said}");

    cluster.replace(setup());
    (0..2).for_each(|id| cluster.start_server(id));
    (0..2).for_each(|id| cluster.start_snapshotter(id));
    cluster.ok(&["write", "65536", "beyond the first half"]);
    let path = snapshot(&cluster);
    cluster.replace(Setup::new(1, "64KiB"));
    cluster.start_server(0);
    cluster.ok(&["write", "0", "kept"]);
    for args in [&["restore", &path][..], &["restore", &path, "--dry-run"]] {
        let said = fails(&cluster, 73, "full", args);
        assert!(said.contains("65557") && said.contains("65536"), "{said}");
    }
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
}

#[test]
fn code_74_is_for_files_of_this_machine() {
    let cluster = setup().start();
    let path = snapshot(&cluster);
    let missing = "no-such-folder/file";
    for args in [
        &["read", "0", "4", "-o", missing][..],
        &["read", "0", "4", "-o", "."],
        &["read", "0", "4", "-o", "/dev/full"],
        &["write", "0", "--file", missing],
        &["write", "0", "--file", "."],
        &["compare", "0", missing],
        &["compare", "0", "."],
        &["snapshot", "export", &path, "-o", missing],
        &["snapshot", "export", &path, "-o", "/dev/full"],
    ] {
        let said = fails(&cluster, 74, "io", args);
        let named = args[args.len() - 1];
        assert!(named == "." || said.contains(named) || said.contains("no-such-folder"), "{said}");
    }
}

#[test]
fn code_74_is_also_for_a_full_stdout() {
    let cluster = setup().start();
    let path = snapshot(&cluster);
    for args in [
        &["read", "0", "4"][..],
        &["cas", "0", "0", "0"],
        &["status"],
        &["status", "--json"],
        &["config", "show"],
        &["completion", "bash"],
        &["snapshot", "ls"],
        &["snapshot", "export", &path, "-o", "-"],
        &["--help"],
        &["help", "read"],
    ] {
        // `help` takes the name of a subcommand, and no configuration.
        let mut command = if args[0] == "help" { mcomp(args) } else { cluster.command(args) };
        let full = fs::File::options().write(true).open("/dev/full").expect("every Linux has it");
        let output = command.stdout(full).output().expect("mcomp runs");
        assert_eq!(output.status.code(), Some(74), "mcomp {args:?} > /dev/full: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("mcomp: ") && said.contains("stdout"), "mcomp {args:?} > /dev/full: {said}");
    }
}

#[test]
fn code_77_is_for_what_belongs_to_another_user() {
    if !geteuid().is_root() {
        eprintln!("only root can give a segment away: the refusal of a server stands in for it");
        return;
    }
    let mut cluster = Setup::new(1, "64KiB").servers();
    cluster.ok(&["write", "0", "theirs"]);
    cluster.stop_server(0);
    let path = format!("/dev/shm/mcomp.{}.0", cluster.name);
    chown(&path, Some(NOBODY), None).expect("root gives it away");
    let said = refused_server(&cluster, 77, "denied", &["server", "--id", "0"]);
    assert!(said.contains(&path) && said.contains("65534"), "{said}");
    let purged = parsed(&cluster.exits(77, &["purge", "--json"]).stdout);
    assert_eq!(purged["refused"][0]["kind"], "denied", "{purged}");
    assert!(fs::exists(&path).expect("/dev/shm is readable"), "the segment of another user is gone");
    chown(&path, Some(0), None).expect("root takes it back");
    cluster.start_server(0);
    assert_eq!(cluster.ok(&["read", "0", "6"]), b"theirs");
}

#[test]
fn code_78_names_the_file_and_the_line_that_would_be_right() {
    let cluster = setup().prepare();
    let good = fs::read_to_string(cluster.config_path()).expect("mcomp.cfg");
    for (bad, named) in [
        ("this is not TOML".to_owned(), "mcomp.cfg"),
        (good.replace("n = 2", "n = 3"), "3"),
        (good.replace("k = \"64KiB\"", "k = \"64KB\""), "64KB"),
        (good.replace("k = \"64KiB\"", "k = 100"), "100"),
        (format!("{good}[client]\ntimout = \"1s\"\n"), "did you mean \"timeout\""),
        (format!("{good}[clint]\ntimeout = \"1s\"\n"), "did you mean [client]"),
        (String::new(), "cluster"),
    ] {
        fs::write(cluster.config_path(), &bad).expect("a bad mcomp.cfg");
        for args in [&["config", "check"][..], &["read", "0", "1"], &["shell"], &["server", "--id", "0"], &["up"]] {
            let output = cluster.exits(78, &[&["--json"], args].concat());
            let answer = parsed(&output.stdout);
            assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("config")), "{bad}: {answer}");
            let said = answer["error"].as_str().expect("a sentence");
            assert!(said.contains(named) && said.contains("mcomp.cfg"), "{bad}: {said}");
            assert!(String::from_utf8_lossy(&output.stderr).starts_with("mcomp: "), "{bad}: {output:?}");
        }
    }
    fs::write(cluster.config_path(), &good).expect("a good mcomp.cfg");
    for folder in ["/no/such/folder", cluster.config_path().to_str().expect("a plain path")] {
        let said = fails(&cluster, 78, "config", &["snapshot", "ls", "--data", folder]);
        assert!(said.contains(folder), "{said}");
    }
    assert!(cluster.ok(&["snapshot", "ls"]).is_empty(), "the usual folder may be missing before the first snapshot");
    refused_server(&cluster, 78, "config", &["server", "--id", "2"]);
    refused_server(&cluster, 78, "config", &["snapshotter", "--id", "2"]);
    fs::remove_file(cluster.config_path()).expect("mcomp.cfg goes");
    let said = fails(&cluster, 78, "config", &["status"]);
    assert!(said.contains(cluster.config_path().to_str().expect("a plain path")), "{said}");
}
