//! A name is no path: whatever a person types, a peer sends or somebody plants, nothing outside the
//! snapshot folder is written, changed or waited for.
//!
//! What stands outside is listed with its contents before and after. A path that a person gives is the
//! person's own, and only read.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use mcomp_net::Endpoint;
use mcomp_snapshot::create;
use mcomp_wire::control::{self, Hello, SnapshotCreate};
use mcomp_wire::{Kind, Role, Status};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{Cluster, Setup};
use crate::raw::{Peer, hello};

/// A cluster beside files that are none of its business.
struct Neighbours {
    cluster: Cluster,
    outside: PathBuf,
    before: BTreeMap<PathBuf, Facts>,
}

/// What a file is, down to its bytes.
type Facts = (u32, u64, Vec<u8>);

impl Neighbours {
    fn start(setup: Setup) -> Neighbours {
        let cluster = setup.start();
        cluster.client().write_at(0, b"some memory").expect("a write");
        let outside = cluster.dir.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("precious"), "precious").expect("a file");
        fs::write(outside.join("x.mcs"), "no snapshot").expect("a file");
        fs::create_dir(outside.join("folder")).expect("a folder");
        let before = listing(&outside);
        Neighbours { cluster, outside, before }
    }

    /// Has the master make a snapshot, and returns its name.
    fn snapshot(&self) -> String {
        create(&self.cluster.config(), false, &mut |_| {}).expect("a snapshot").name
    }

    fn are_untouched(&self, what: &str) {
        assert_eq!(listing(&self.outside), self.before, "{what}: something outside was changed");
    }

    fn run(&self, args: &[&OsStr]) -> Output {
        self.cluster.command(&[]).args(args).output().expect("mcomp runs")
    }
}

/// Everything below a folder, links not followed. The number of links of a file is not its own doing.
fn listing(folder: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let facts = path.symlink_metadata().expect("it is there");
        let bytes = match facts.file_type() {
            kind if kind.is_file() => fs::read(&path).expect("a file is read"),
            kind if kind.is_symlink() => fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        if facts.is_dir() {
            found.extend(listing(&path));
        }
        found.insert(path, (facts.mode(), facts.ino(), bytes));
    }
    found
}

/// Names that are none, as a person or a script may bring them.
fn names(outside: &Path) -> Vec<OsString> {
    let texts = [
        "../outside/x.mcs",
        "../x",
        "..",
        ".",
        "",
        "/",
        "outside",
        "outside/folder",
        "snapshots",
        "-.mcs",
        ".mcs",
        ".mcs-1-0123456789abcdef.tmp",
        "x.mcs/",
        "x\ny.mcs",
        "x\u{1b}[2Jy.mcs",
        "snapshots/../../x.mcs",
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
        "%s%n.mcs",
        "~/x.mcs",
        "$HOME.mcs",
        "x;touch y.mcs",
        "con.mcs",
    ];
    let mut names: Vec<OsString> = texts.iter().map(OsString::from).collect();
    names.push(outside.join("x.mcs").into());
    names.push(outside.join("precious").into());
    names.extend([300, 5_000].map(|len| OsString::from("x".repeat(len))));
    names.push(OsString::from(format!("{}.mcs", "x".repeat(296))));
    names.push(OsString::from(format!("{}x.mcs", "../".repeat(1_500))));
    names.extend([&b"\xff\xfe.mcs"[..], b"../\xff.mcs", b"\xed\xa0\x80.mcs"].map(|raw| OsStr::from_bytes(raw).into()));
    names
}

#[test]
fn a_name_that_is_none_is_refused_by_every_command() {
    let near = Neighbours::start(Setup::new(1, "16KiB"));
    near.snapshot();
    let folder = listing(&near.cluster.snapshot_dir());
    let commands: [&[&str]; 5] = [
        &["snapshot", "show"],
        &["snapshot", "verify"],
        &["snapshot", "export", "-o", "image", "--force"],
        &["restore"],
        &["restore", "--dry-run"],
    ];
    for name in names(&near.outside) {
        for command in commands {
            let words = command.iter().chain(&["--"]).map(OsStr::new);
            let output = near.run(&words.chain([name.as_os_str()]).collect::<Vec<_>>());
            let what = format!("{command:?} {name:?}");
            // Not found, no snapshot, or no file that can be opened: never a bug, and never done.
            assert!(matches!(output.status.code(), Some(1 | 64 | 65 | 74)), "{what}: {output:?}");
            assert!(output.stdout.is_empty() && output.stderr.starts_with(b"mcomp: "), "{what}: {output:?}");
            near.are_untouched(&what);
            assert!(!near.cluster.dir.path().join("image").exists(), "{what}: an image of nothing");
        }
    }
    assert_eq!(listing(&near.cluster.snapshot_dir()), folder, "the folder was changed");
    assert_eq!(near.cluster.ok(&["read", "0", "11"]), b"some memory");
}

/// A NUL does not get through the command line, but anything gets through a socket.
#[test]
fn a_name_from_a_peer_is_matched_and_never_used() {
    let near = Neighbours::start(Setup::new(1, "16KiB"));
    let whole = listing(near.cluster.dir.path());
    let names = ["../x", "/tmp/x", "..", "", "x\0y", "\n", "\u{1b}[2J", &"x".repeat(300), &"../".repeat(60)];
    let endpoints = [near.cluster.snapshot_address(0), near.cluster.address(0)].map(Endpoint::Tcp);
    for name in names {
        for (endpoint, role) in
            endpoints.iter().flat_map(|endpoint| Role::ALL.iter().map(move |role| (endpoint, *role)))
        {
            let other = Hello { cluster: name.to_owned(), ..hello(&near.cluster, 0, role) };
            let answer = Peer::try_greeted(endpoint, &other).expect_err("another cluster").expect("a reason");
            let refused = [Status::WrongCluster, Status::Malformed, Status::TooLarge];
            assert!(refused.contains(&answer.status()), "{name:?}: {answer:?}");
            // What the answer says of it can be shown to a person.
            let shows = |byte: &u8| *byte == 0x1b || *byte == b'\n';
            assert!(!answer.body.iter().any(shows), "{name:?} comes back as it is: {answer:?}");
        }
        // No request has room for a name.
        let create = control::encode(&SnapshotCreate { incremental: false });
        let mut peer = Peer::greeted(&endpoints[0], &hello(&near.cluster, 0, Role::Admin));
        let mut longer = [&create[..], &control::encode(&name.to_owned())].concat();
        assert_eq!(peer.ask(Kind::SnapshotCreate as u8, 2, &longer).status(), Status::Malformed, "{name:?}");
        longer.truncate(create.len());
        assert_eq!(longer, create);
    }
    let logs = |listing: BTreeMap<PathBuf, Facts>| -> Vec<PathBuf> { listing.into_keys().collect() };
    assert_eq!(logs(listing(near.cluster.dir.path())), logs(whole), "a file came from a name");
    near.are_untouched("names from peers");
}

/// Somebody plants what a snapshot, a retention or a sweep may fall over.
fn plant(near: &Neighbours) -> Vec<PathBuf> {
    let (folder, outside) = (near.cluster.snapshot_dir(), &near.outside);
    let final_name = |number: u32| format!("{}-20200102T030405.678Z-full-0000000{number}.mcs", near.cluster.name);
    let temporary_name = |number: u32| format!(".mcs-1-000000000000000{number}.tmp");
    let mut planted = Vec::new();
    let names: [&dyn Fn(u32) -> String; 2] = [&final_name, &temporary_name];
    for name in names {
        let path = |number| folder.join(name(number));
        symlink(outside.join("precious"), path(1)).expect("a link to a file");
        symlink(outside.join("folder"), path(2)).expect("a link to a folder");
        symlink(outside.join("new"), path(3)).expect("a link to nothing");
        symlink(path(4), path(4)).expect("a link to itself");
        mknodat(CWD, path(5), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        fs::create_dir(path(6)).expect("a folder");
        fs::hard_link(outside.join("precious"), path(7)).expect("a second name");
        drop(std::os::unix::net::UnixListener::bind(path(8)).expect("a socket"));
        planted.extend((1..=8).map(path));
    }
    planted
}

#[test]
fn what_is_planted_in_the_folder_is_left_or_removed_and_never_followed() {
    let near = Neighbours::start(Setup::new(2, "16KiB").with("[snapshot]\nkeep = 1"));
    near.snapshot();
    let planted = plant(&near);
    for round in 0..3 {
        let name = near.snapshot();
        near.cluster.ok(&["snapshot", "create", "--incremental"]);
        near.cluster.ok(&["snapshot", "verify", &name]);
        near.are_untouched(&format!("snapshot {round}"));
    }
    let listed = String::from_utf8(near.cluster.ok(&["snapshot", "ls"])).expect("text");
    assert!(listed.contains("broken"), "{listed}");
    let said = near.cluster.exits(0, &["snapshot", "prune", "--keep", "1"]);
    near.are_untouched("prune");
    for path in &planted {
        let name = path.file_name().and_then(OsStr::to_str).expect("a plain name");
        if name.ends_with(".mcs") {
            assert!(path.symlink_metadata().is_ok(), "{name} is gone: it was no snapshot of ours");
            assert!(String::from_utf8_lossy(&said.stderr).contains(name), "{name} is not named: {said:?}");
            for command in [&["snapshot", "show"][..], &["snapshot", "verify"], &["restore"]] {
                let output = near.cluster.run(&[command, &[name]].concat());
                assert!(matches!(output.status.code(), Some(1 | 65)), "{command:?} {name}: {output:?}");
            }
        }
    }
    near.are_untouched("show, verify and restore of what was planted");
    let (complete, _): (Vec<_>, Vec<_>) = listed.lines().partition(|line| line.contains("complete"));
    assert!(!complete.is_empty(), "{listed}");
}

/// What a listing shows is a line of its own, and does nothing to a terminal.
#[test]
fn a_file_name_that_would_garble_a_terminal_is_none_of_ours() {
    let near = Neighbours::start(Setup::new(1, "16KiB"));
    let name = near.snapshot();
    let folder = near.cluster.snapshot_dir();
    for odd in ["a\nodd.mcs", "\u{1b}[2Jodd.mcs", "a\rodd.mcs", "\u{7f}odd.mcs", "\u{9b}2Jodd.mcs"] {
        fs::copy(folder.join(&name), folder.join(odd)).expect("a copy");
    }
    fs::copy(folder.join(&name), folder.join(OsStr::from_bytes(b"\xff.mcs"))).expect("a copy");
    for args in [&["snapshot", "ls"][..], &["snapshot", "prune", "--keep", "1"], &["snapshot", "ls", "--json"]] {
        let output = near.cluster.exits(0, args);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        let bad = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{args:?}: {text:?}");
        assert!(!text.contains("odd"), "{args:?}: {text:?}");
    }
    assert_eq!(listing(&folder).len(), 7, "nothing was removed");
}

#[test]
fn an_image_goes_where_it_was_sent_and_nowhere_else() {
    let near = Neighbours::start(Setup::new(1, "16KiB"));
    let name = near.snapshot();
    let dir = near.cluster.dir.path().join("images");
    fs::create_dir(&dir).expect("a folder");
    symlink(near.outside.join("new"), dir.join("dangling")).expect("a link to nothing");
    symlink(near.outside.join("folder"), dir.join("folder")).expect("a link to a folder");
    symlink(near.outside.join("precious"), dir.join("link")).expect("a link to a file");
    let export =
        |out: &str| near.cluster.run(&["snapshot", "export", &name, "-o", dir.join(out).to_str().expect("text")]);
    assert_eq!(export("link").status.code(), Some(64), "not without --force");
    assert_eq!(export("folder").status.code(), Some(74));
    assert_eq!(export(&"x".repeat(300)).status.code(), Some(74));
    assert_eq!(export("dangling").status.code(), Some(0));
    assert!(dir.join("dangling").symlink_metadata().expect("the image").is_file(), "the link was followed");
    near.are_untouched("export");
    assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 3, "something is left beside the images");
}
