//! Imports run downward only, `unsafe` and calls to the disk stay in one place, and no release has what only tests
//! may have: read from the manifests and sources.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// What each crate may import of ours, as ARCHITECTURE.md says.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("config", &[]),
    ("meta", &["wire"]),
    ("quorum", &[]),
    ("consensus", &["wire", "meta"]),
    ("shm", &[]),
    ("net", &["wire"]),
    ("server", &["wire", "config", "quorum", "meta", "consensus", "shm", "net"]),
    ("client", &["wire", "config", "shm", "net"]),
    ("snapshot", &["wire", "config", "shm", "net", "client"]),
    ("cli", &["wire", "config", "shm", "net", "server", "client", "snapshot"]),
    ("sim", &["wire", "meta", "quorum", "consensus"]),
    ("bench", &["wire", "config", "shm", "net", "client"]),
    ("fuzz", &["wire", "config", "meta", "consensus", "shm", "net", "snapshot"]),
];

#[test]
fn imports_run_downward_only() {
    for (folder, allowed) in MAY_IMPORT {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let (_, dependencies) = manifest.split_once("[dependencies]").expect("dependencies");
        let dependencies = dependencies.split("\n[").next().expect("a section");
        let ours = dependencies.lines().filter_map(|line| line.strip_prefix("mcomp-"));
        for import in ours.filter_map(|line| line.split(['.', ' ', '=']).next()) {
            assert!(allowed.contains(&import), "{folder} imports {import}");
        }
    }
}

#[test]
fn every_member_is_listed_here() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    let members: Vec<&str> =
        members.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect();
    let listed: Vec<&str> = MAY_IMPORT.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(members, listed);
}

#[test]
fn only_shm_has_unsafe_code() {
    for (folder, _) in MAY_IMPORT.iter().filter(|(folder, _)| *folder != "shm") {
        for source in sources(&root().join(folder).join("src")) {
            let text = fs::read_to_string(&source).expect("a source");
            let found = text.lines().find(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
            assert_eq!(found, None, "{}", source.display());
        }
    }
}

/// Features that make a program wrong or its disk fail, so that tests can prove that they would notice.
const TEST_FEATURES: &[&str] = &["mutants", "faults"];

#[test]
fn no_release_can_be_told_to_be_wrong() {
    for (folder, _) in MAY_IMPORT {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let sections = manifest.split("\n[").filter(|section| !section.starts_with("dev-dependencies]"));
        for line in sections.flat_map(str::lines).filter(|line| !line.starts_with('#')) {
            let is_declared = TEST_FEATURES.iter().any(|feature| line == format!("{feature} = []"));
            let is_named = TEST_FEATURES.iter().any(|feature| line.contains(&format!("\"{feature}\"")));
            assert!(is_declared || !is_named, "{folder} turns a test's feature on: {line}");
        }
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    assert!(TEST_FEATURES.iter().all(|feature| !manifest.contains(&format!("\"{feature}\""))));
}

/// What a fault is put before must all stand in one place. Facts about files are asked for anywhere.
#[test]
fn the_snapshot_file_calls_the_disk_in_one_place() {
    const CALLS: &[&str] = &[
        "File::",
        "OpenOptions",
        "DirBuilder",
        "fs::",
        ".sync_",
        ".set_len(",
        ".read_at(",
        ".write_at(",
        "_exact_at(",
    ];
    const FREE: &[&str] = &["TempFile::", "File::from(", "rustix::fs::fstat("];
    for source in sources(&root().join("snapshot/src/file")) {
        let name = source.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        if name == "calls.rs" || name == "fixture.rs" || name.ends_with("_tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&source).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests").next().expect("a first part").lines().map(str::trim);
        for line in code.filter(|line| !["//", "use ", "pub use "].iter().any(|start| line.starts_with(start))) {
            let bare = FREE.iter().fold(line.replace("calls::", "calls."), |line, free| line.replace(free, ""));
            let found = CALLS.iter().find(|call| bare.contains(**call) && !bare.contains("calls."));
            assert!(found.is_none(), "{name} calls the disk past calls.rs: {line}");
        }
    }
}

#[test]
fn every_source_says_what_it_is() {
    for (folder, _) in MAY_IMPORT {
        for source in sources(&root().join(folder).join("src")) {
            let text = fs::read_to_string(&source).expect("a source");
            assert!(text.starts_with("//!"), "{} does not begin with what it is", source.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| sources(folder));
    below.chain(files.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"))).collect()
}
