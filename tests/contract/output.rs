//! What commands print and where; flags, numbers, help and completion.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::Value;

use super::{parsed, piped, setup, snapshot, with_input};
use crate::harness::{MCOMP, Setup, mcomp, under};

/// The subcommands that the contract promises.
const PROMISED: &str = "up demo server snapshotter read write fill copy compare cas add swap snapshot restore status \
                        config doctor repl shell completion purge";

fn help_of(path: &[&str]) -> String {
    let output = mcomp(&[path, &["--help"]].concat()).output().expect("mcomp runs");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{path:?}: {output:?}");
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    list.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_subcommand_has_help_with_an_example() {
    let found = subcommands(&help_of(&[]));
    assert!(PROMISED.split_whitespace().all(|name| found.iter().any(|found| found == name)), "{found:?}");
    let mut paths: Vec<Vec<String>> = found.into_iter().map(|name| vec![name]).collect();
    while let Some(path) = paths.pop() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let help = help_of(&words);
        let (_, examples) =
            help.split_once("Examples:\n").unwrap_or_else(|| panic!("{words:?} has no example: {help}"));
        let command = format!("mcomp {}", words.join(" "));
        assert!(examples.contains(&command), "{words:?} shows another command: {examples}");
        let usage = help.lines().find_map(|line| line.strip_prefix("Usage: ")).expect("a usage");
        assert!(usage.starts_with(&command), "{usage}");
        paths.extend(subcommands(&help).into_iter().map(|name| [path.clone(), vec![name]].concat()));
    }
    let usage = help_of(&["write"]);
    assert!(usage.contains("<ADDR> <DATA|"), "the address comes first: {usage}");
}

#[test]
fn global_flags_stand_before_and_after_every_subcommand() {
    let cluster = setup().start();
    let config = cluster.config_path().to_str().expect("a plain path");
    let flags = ["--config", config, "--json", "--timeout", "9s", "-q", "-vv", "--log-format", "json"];
    let commands: [&[&str]; 4] = [&["read", "0", "1"], &["snapshot", "ls"], &["config", "check"], &["status"]];
    for command in commands {
        for at in 0..=command.len() {
            let args = [&command[..at], &flags, &command[at..]].concat();
            let output = mcomp(&args).output().expect("mcomp runs");
            assert_eq!(output.status.code(), Some(0), "mcomp {args:?}: {output:?}");
            assert_eq!(parsed(&output.stdout)["outcome"], "ok", "mcomp {args:?}");
        }
    }
}

/// Every command that ends, in an order in which all succeed.
fn commands(path: &str) -> Vec<(Vec<&str>, &'static str)> {
    let name = path.rsplit('/').next().expect("a path has a last part");
    vec![
        (vec!["write", "0", "hello"], "len"),
        (vec!["write", "0x10", "--hex", "de:ad be ef"], "len"),
        (vec!["write", "32", "--file", "/proc/version"], "len"),
        (vec!["read", "0", "5"], "data"),
        (vec!["read", "0", "5", "-o", "out"], "path"),
        (vec!["fill", "0", "8", "0"], "len"),
        (vec!["copy", "16", "8", "4"], "to"),
        (vec!["compare", "5", "/dev/null"], "equal"),
        (vec!["cas", "4096", "0", "1"], "swapped"),
        (vec!["add", "4096", "-1"], "value"),
        (vec!["swap", "4096", "0"], "value"),
        (vec!["snapshot", "create"], "path"),
        (vec!["snapshot", "ls"], "snapshots"),
        (vec!["snapshot", "show", name], "state"),
        (vec!["snapshot", "verify", name], "valid"),
        (vec!["snapshot", "export", path, "-o", "image", "--force"], "bytes"),
        (vec!["snapshot", "prune", "--keep", "9"], "removed"),
        (vec!["restore", name, "--dry-run"], "plan"),
        (vec!["restore", path], "config_epoch"),
        (vec!["status"], "servers"),
        (vec!["config", "check"], "size"),
        (vec!["config", "show"], "cluster.k"),
        (vec!["doctor"], "findings"),
    ]
}

#[test]
fn every_command_answers_in_json_and_says_nothing_else() {
    let cluster = setup().start();
    let path = snapshot(&cluster);
    for (args, field) in commands(&path) {
        // `config show` is a flat list of keys, in which an outcome would be one of them.
        let output = cluster.run(&[&["--json", "-q"], &args[..]].concat());
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "mcomp {args:?}: {output:?}");
        let answer: Value = match args[..] {
            ["config", "show"] => serde_json::from_slice(&output.stdout).expect("JSON"),
            _ => parsed(&output.stdout),
        };
        assert!(answer.get(field).is_some(), "mcomp {args:?}: no {field} in {answer}");
    }
    for args in [["server", "--id", "0"], ["snapshotter", "--id", "0"]] {
        assert_eq!(parsed(&first_line_alone(args))["outcome"], "ok");
    }
}

/// The ready line of a process on a cluster of its own.
fn first_line_alone(args: [&str; 3]) -> Vec<u8> {
    let mut cluster = Setup::new(1, "64KiB").prepare();
    if args[0] == "snapshotter" {
        cluster.start_server(0);
    }
    let mut command = cluster.command(&args);
    command.arg("--json").arg("--die-with").arg(std::process::id().to_string());
    let mut child = piped(command);
    let mut line = Vec::new();
    let mut stdout = child.stdout.take().expect("piped");
    let mut byte = [0];
    while stdout.read(&mut byte).is_ok_and(|count| count == 1) {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    line
}

#[test]
fn two_v_log_the_connections() {
    let cluster = setup().servers();
    let log = |flag: &str| {
        let output = cluster.exits(0, &["read", "65536", "1", "--remote", flag]);
        String::from_utf8(output.stderr).expect("text")
    };
    assert_eq!(log("-v"), "");
    let said = log("-vv");
    assert!(said.contains("connected") && said.contains(&cluster.address(1)), "{said}");
    assert!(!said.contains(&cluster.address(0)), "nobody needs server 0: {said}");
}

/// Without a terminal there is no progress; what is not data stands on stderr, unless it is unwanted.
#[test]
fn stdout_is_data_only() {
    let cluster = setup().start();
    let path = snapshot(&cluster);
    let silent = ["write", "fill", "copy", "compare", "export", "prune", "restore"];
    for (args, _) in commands(&path) {
        let output = cluster.run(&args);
        assert_eq!(output.status.code(), Some(0), "mcomp {args:?}: {output:?}");
        let prints = !args.iter().any(|word| silent.contains(word) || *word == "-o") || args.contains(&"--dry-run");
        assert_eq!(!output.stdout.is_empty(), prints, "mcomp {args:?}: {output:?}");
        assert!(output.stderr.is_empty() || args == ["restore", &path], "mcomp {args:?}: {output:?}");
    }
    assert_eq!(cluster.run(&["restore", &path, "-q"]).stderr, b"");
    assert_eq!(cluster.run(&["status", "-v"]).stderr.iter().filter(|byte| **byte == 0x1b).count(), 0);
    cluster.ok(&["write", "0", "--hex", "00ff0a1b"]);
    assert_eq!(cluster.ok(&["read", "0", "4"]), [0, 0xff, 0x0a, 0x1b], "raw to a pipe");
    let hexdump = String::from_utf8(cluster.ok(&["read", "0", "4", "--format", "hex"])).expect("text");
    assert!(hexdump.starts_with("00000000  00 ff 0a 1b"), "{hexdump}");
    let text = cluster.ok(&["read", "0", "4", "--format", "text"]);
    assert_eq!(String::from_utf8_lossy(&text), "\\x00\\xff\n\\x1b", "memory cannot drive a terminal");
    let created = String::from_utf8(cluster.ok(&["snapshot", "create"])).expect("a path");
    assert!(fs::exists(created.trim_end()).expect("a path"), "{created:?} is not a path and nothing else");
}

#[test]
fn numbers_are_decimal_hexadecimal_or_with_a_unit() {
    let cluster = setup().servers();
    for (addr, len) in
        [("65536", "3"), ("0x10000", "0x3"), ("64KiB", "3B"), ("64K", "3"), ("64k", "3"), ("0X10000", "3")]
    {
        cluster.ok(&["fill", "0", "128KiB", "0"]);
        cluster.ok(&["write", addr, "xyz"]);
        assert_eq!(cluster.ok(&["read", addr, len]), b"xyz", "{addr} {len}");
        assert_eq!(cluster.ok(&["read", "65535", "5"]), b"\0xyz\0", "{addr} {len}");
    }
    assert_eq!(cluster.ok(&["read", "0", "128KiB"]).len(), 131_072);
    cluster.ok(&["swap", "8", "0xffffffffffffffff"]);
    assert_eq!(cluster.ok(&["add", "8", "2"]), b"18446744073709551615\n");
    assert_eq!(cluster.ok(&["add", "8", "-2"]), b"1\n");
    assert_eq!(cluster.ok(&["read", "8", "8"]), [0xff; 8]);
    assert_eq!(cluster.exits(0, &["cas", "8", "18446744073709551615", "0x2A"]).stdout, b"18446744073709551615\n");
    assert_eq!(cluster.ok(&["read", "0", "0"]), b"", "nothing is something that can be asked for");
    cluster.ok(&["fill", "131072", "0", "1"]);
    assert_eq!(with_input(&cluster, &["write", "131070", "-"], b"ab").status.code(), Some(0));
    assert_eq!(with_input(&cluster, &["compare", "131070", "-"], b"ab").status.code(), Some(0));
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let cluster = Setup::new(1, "1MiB").servers();
    for args in
        [&["read", "0", "1MiB"][..], &["read", "0", "1MiB", "--format", "hex"], &["read", "0", "256KiB", "--json"]]
    {
        let mut child = piped(cluster.command(args));
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut [0]).expect("the first byte");
        drop(stdout);
        let output = child.wait_with_output().expect("mcomp ends");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "mcomp {args:?}: {output:?}");
    }
}

#[test]
fn completion_scripts_are_there_and_bash_can_read_its_own() {
    let cluster = setup().prepare();
    for shell in ["bash", "zsh", "fish"] {
        // Neither a configuration nor a cluster is needed.
        let output = mcomp(&["completion", shell]).current_dir("/").output().expect("mcomp runs");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shell}: {output:?}");
        let script = String::from_utf8(output.stdout).expect("a script");
        // fish writes a long flag without its dashes.
        assert!(["snapshotter", "timeout", "verify"].iter().all(|word| script.contains(word)), "{shell}");
        if shell == "bash" {
            let path = cluster.dir.path().join("completion");
            fs::write(&path, &script).expect("a scratch file");
            let checked = Command::new("bash").arg("-n").arg(&path).output().expect("bash runs");
            assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
        }
    }
}

/// Whatever it is started with and whatever is closed, it ends with a code that it has chosen.
#[test]
fn no_start_is_so_strange_that_it_counts_as_a_bug() {
    let cluster = setup().servers();
    let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    for words in
        [&["read"][..], &["read", "0"], &["--config"], &["--json", "snapshot", "show"], &["write", "0", "--file"]]
    {
        let output = mcomp(words).arg(not_utf8).current_dir(cluster.dir.path()).output().expect("mcomp runs");
        ends_well(words, output.status.code());
    }
    let bytes = cluster.command(&["write", "0"]).arg(not_utf8).output().expect("mcomp runs");
    assert_eq!(bytes.status.code(), Some(0), "{bytes:?}");
    assert_eq!(cluster.ok(&["read", "0", "2"]), b"\xff\xfe");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$@\" {closed}");
        for args in
            [&["read", "0", "4"][..], &["write", "0", "-"], &["status"], &["shell"], &["read", "x"], &["--help"]]
        {
            let output = under(&["sh", "-c", &script, "sh"], cluster.command(args)).output().expect("it runs");
            ends_well(args, output.status.code());
        }
    }
    let nameless = Command::new("bash").args(["-c", "exec -a '' \"$0\""]).arg(MCOMP).output().expect("bash runs");
    ends_well(&[], nameless.status.code());
    let strange = mcomp(&["config", "check"]).env("MCOMP_CLIENT_TIMEOUT", not_utf8).output().expect("mcomp runs");
    ends_well(&["config", "check"], strange.status.code());
}

fn ends_well(args: &[&str], code: Option<i32>) {
    let known = [0, 1, 2, 64, 65, 69, 73, 74, 75, 76, 77, 78, 124];
    assert!(code.is_some_and(|code| known.contains(&code)), "mcomp {args:?} ends with {code:?}");
}
