//! Imports run downward only, and `unsafe` stays in one crate: read from the manifests and sources.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// What each crate may import of ours, as ARCHITECTURE.md says.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("config", &[]),
    ("shm", &[]),
    ("net", &["wire"]),
    ("server", &["wire", "config", "shm", "net"]),
    ("client", &["wire", "config", "shm", "net"]),
    ("snapshot", &["wire", "config", "shm", "net", "client"]),
    ("cli", &["wire", "config", "shm", "net", "server", "client", "snapshot"]),
    ("bench", &["wire", "config", "shm", "net", "client"]),
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
