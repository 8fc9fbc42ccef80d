//! `mcomp repl`: a person at a real terminal, and a script in a pipe. Every command, what is wrong with a line, and the
//! ways to leave.
//!
//! Left out is what the long commands do: here they are lines like others.

/// A pseudo-terminal, what it shows, and the keys that are pressed.
mod terminal;

/// Lines from a pipe: no prompt, one session, an exit code that tells.
mod script;

/// Keys: history, completion, colours, and the three ways to leave.
mod keys;

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Cluster, Setup, wait_until};
use crate::up::Up;
use terminal::Terminal;

fn setup() -> Setup {
    Setup::new(2, "64KiB")
}

/// The REPL, not yet run, with its history in the folder of the cluster.
fn repl(cluster: &Cluster) -> Command {
    let mut command = cluster.command(&["repl"]);
    command.env("XDG_STATE_HOME", cluster.dir.path().join("state")).env("NO_COLOR", "1").env("TERM", "xterm");
    command
}

/// Whom the allocations belong to.
fn owners(ls: &[u8]) -> Vec<Value> {
    let ls: Value = serde_json::from_slice(ls).expect("one line of JSON");
    ls["regions"].as_array().expect("regions").iter().map(|region| region["owner"].clone()).collect()
}

#[test]
fn a_session_at_a_terminal_with_every_command() {
    let cluster = setup().prepare();
    let (up, _) = Up::start(&cluster);
    let mut repl = Terminal::start(repl(&cluster));
    assert!(repl.greeting().contains("128 KiB on 2 servers"), "{}", repl.greeting());
    assert!(repl.say("h").contains("table of the allocations"));
    assert_eq!(repl.say("t"), "nothing is allocated");
    allocations(&mut repl);
    bytes(&mut repl);
    files(&mut repl, &cluster);
    dumps(&mut repl);
    assert_eq!(repl.say("f results"), "freed 5000 bytes at address ".to_owned() + &repl.addr("results"));
    assert!(repl.say("f results").contains("nothing is named \"results\""));
    long_commands(&mut repl);
    refusals(&mut repl);
    servers(&mut repl);
    assert_eq!(repl.leave("exit\r"), Some(0));
    let left = owners(&cluster.ok(&["ls", "--json"]));
    assert!(!left.is_empty() && left.iter().all(Value::is_null), "it has ended in good order: {left:?}");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}

fn allocations(repl: &mut Terminal) {
    for (line, name) in [("m 5000 --name results", "results"), ("m 100", "hundred")] {
        let addr = repl.say(line);
        assert!(addr.parse::<u64>().is_ok(), "{line}: {addr}");
        repl.name(name, &addr);
    }
    let table = repl.say("t");
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0][..5], ["ADDR", "SIZE", "TAKEN", "NAME", "OWNER"], "{table}");
    assert!(rows[1..].iter().any(|row| row[1] == "5000" && row[3] == "results"), "{table}");
    assert_eq!(rows[1][4], rows[2][4], "one session for all lines: {table}");
    assert_eq!(rows[1][4].len(), 8, "which lives: {table}");
}

fn bytes(repl: &mut Terminal) {
    let results = repl.addr("results");
    assert_eq!(repl.say("w results 5 hello"), format!("wrote 5 bytes at address {results}"));
    assert_eq!(repl.say(&format!("r {results} 5")), "hello");
    assert!(repl.say("w results 4 hello").contains("5 bytes, which are more than the 4"));
    assert_eq!(repl.say("r results 5"), "hello", "what is refused changes nothing");
    repl.say("w results 8 'two w'");
    assert_eq!(repl.say("r results 8"), r"two w\x00\x00\x00");
    assert!(repl.say("w results 5001 x").contains("do not fit"));
    assert!(repl.say("r results 5001").contains("do not fit"));
}

fn files(repl: &mut Terminal, cluster: &Cluster) {
    let path = |name: &str| cluster.dir.path().join(name);
    let bytes: Vec<u8> = (0..3000).map(|at| (at % 251) as u8).collect();
    fs::write(path("in.bin"), &bytes).expect("a file");
    fs::write(path("64"), b"named like a size").expect("a file");
    assert!(repl.say("w results in.bin").contains("wrote 3000 bytes"));
    repl.say("r results out.bin");
    let read = fs::read(path("out.bin")).expect("the file is there");
    assert_eq!((read.len(), &read[..3000]), (5000, &bytes[..]));
    assert!(repl.say("w results+4000 in.bin 10").contains("wrote 10 bytes"));
    repl.say("r results+4000 part.bin 12");
    assert_eq!(fs::read(path("part.bin")).expect("the file is there"), [&bytes[..10], &[0, 0]].concat());
    repl.say(&format!("r {} rest.bin", repl.addr("hundred")));
    assert_eq!(fs::read(path("rest.bin")).expect("the file is there").len(), 100, "to the end of the allocation");
    assert!(repl.say("w results ./64").contains("wrote 17 bytes"));
    for (line, part) in [
        ("w results 64", "./64"),
        ("w results in.bin 3001", "only 3000 bytes"),
        ("w results missing.bin", "open missing.bin"),
        ("r 131000 out.bin", "takes a SIZE"),
    ] {
        let said = repl.say(line);
        assert!(said.contains(part), "{line}: {said}");
    }
}

fn dumps(repl: &mut Terminal) {
    let addr: u64 = repl.addr("hundred").parse().expect("a number");
    repl.say(&format!("w {addr} 6 dumped"));
    // From within it, too, it is shown from its beginning.
    let dump = repl.say(&format!("d {}", addr + 50));
    assert!(dump.starts_with(&format!("{addr:08x}  64 75 6d 70 65 64 00")), "{dump}");
    assert!(dump.contains("|dumped.") && dump.ends_with(&format!("{:08x}", addr + 100)), "{dump}");
    assert!(repl.say("d results[0:5]").contains("|named|"));
    let free = repl.say("d 131056");
    assert!(free.starts_with("0001fff0") && free.ends_with("00020000"), "to the end of the memory: {free}");
    assert!(repl.say("d 131072").contains("outside the address space"));
}

fn long_commands(repl: &mut Terminal) {
    let second = repl.say("alloc 64 --name second");
    assert_eq!(repl.say("add second 41"), "0");
    assert_eq!(repl.say("mcomp cas second 41 42"), "41");
    let stat: Value = serde_json::from_str(&repl.say("stat second --json")).expect("JSON");
    assert_eq!(stat["addr"].to_string(), second);
    assert_eq!(repl.say("lock nightly -- sh -c 'echo held'"), "held");
    assert!(repl.say("h lease").contains("Usage: mcomp lease"));
    assert!(repl.say("status").contains("2 servers x 64 KiB"));
}

fn refusals(repl: &mut Terminal) {
    for (line, part) in [
        ("frobnicate", "unrecognized subcommand"),
        ("m lots", "\"lots\""),
        ("w 0 5 'x", "not closed"),
        ("r", "r ADDR SIZE"),
        ("d", "d net"),
        ("repl", "this is the REPL"),
        ("shell", "`mcomp shell`"),
        ("up", "`mcomp up`"),
        ("demo", "`mcomp demo`"),
        ("server --id 0", "`mcomp server`"),
        ("snapshotter --id 0", "`mcomp snapshotter`"),
        ("kill 7", "7"),
        ("m 1TiB", "mcomp: "),
        ("m 0", "mcomp: "),
        ("read 0 1 --config missing.cfg", "missing.cfg"),
    ] {
        let said = repl.say(line);
        assert!(said.contains(part), "{line}: {said}");
    }
    assert_eq!(repl.say("   "), "");
    assert_eq!(repl.say("# a comment"), "");
}

fn servers(repl: &mut Terminal) {
    let net = repl.say("d net");
    assert!(net.starts_with("SERVER  ADDRESS") && net.contains("serving"), "{net}");
    assert_eq!(net.matches("itself").count(), 1, "{net}");
    assert!(repl.say("kill 1").contains("was killed"));
    let net = repl.say("d net");
    assert!(net.contains("unreachable") && net.contains("server 1 at"), "{net}");
    // A reader of the segment looks every few milliseconds whether the server still lives.
    wait_until("its memory is away", || repl.say("r 65536 1").contains("server 1 at"));
    assert!(repl.say("revive 1").contains("runs again"));
    assert_eq!(repl.say("r 65536 1"), r"\x00");
    // Two servers agree on something when both do.
    wait_until("somebody leads again", || repl.say("t").starts_with("ADDR"));
    assert_eq!(repl.say("d net").matches("serving").count(), 2);
}
