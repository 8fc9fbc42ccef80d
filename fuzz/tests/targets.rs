//! Every target over its seeds and over mutations of them, and that nothing is missing around the targets.
//!
//! `MCOMP_TEST_FUZZ` says how many mutations each target gets, `MCOMP_TEST_SEED` which.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mcomp_fuzz::{TARGETS, Target, mutate};

/// Mutations of one target in a plain run.
const PLAIN: u64 = 20_000;

macro_rules! exercises {
    ($($name:ident)*) => {
        $(#[test] fn $name() { exercise(stringify!($name)); })*

        #[test]
        fn every_target_is_exercised() {
            assert_eq!(names(), BTreeSet::from([$(stringify!($name).to_owned()),*]));
        }
    };
}

exercises! {
    header inbox request batch_answer atomic_answer chunk hello welcome message agreed_word fence replica_message peer_message
    agreed_entries agreed_image connection config quantity endpoint snapshot_name secret snapshot_file snapshot_chain segment shell_line
    gateway_head gateway_range gateway_register
}

fn exercise(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let seeds: Vec<Vec<u8>> = (target.seeds)().into_iter().map(|(_, bytes)| bytes).collect();
    seeds.iter().for_each(|seed| run(target, seed));
    let length = std::env::var("MCOMP_TEST_FUZZ").ok().map_or(PLAIN, |text| text.parse().expect("a number"));
    let chosen = std::env::var("MCOMP_TEST_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = chosen.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("repeat with MCOMP_TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..length {
        run(target, &mutate::mutation(&seeds, &mut rng));
    }
}

/// Runs a target on an input that is shown if it panics.
fn run(target: &Target, input: &[u8]) {
    struct Shown<'a>(&'a str, &'a [u8]);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{} panicked on b\"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }
    let shown = Shown(target.name, input);
    (target.run)(input);
    drop(shown);
}

#[test]
fn the_corpus_is_what_the_encoders_make() {
    for target in TARGETS {
        let folder = package().join("corpus").join(target.name);
        let made: BTreeSet<(String, Vec<u8>)> =
            (target.seeds)().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        let kept: BTreeSet<(String, Vec<u8>)> = files(&folder)
            .into_iter()
            .map(|name| {
                let bytes = fs::read(folder.join(&name)).expect("a seed");
                (name, bytes)
            })
            .collect();
        let differ: BTreeSet<&str> = made.symmetric_difference(&kept).map(|(name, _)| name.as_str()).collect();
        assert!(differ.is_empty(), "{}: {differ:?} differ; run `cargo run -p mcomp-fuzz`", target.name);
    }
    assert_eq!(files(&package().join("corpus")), names(), "corpora without a target");
}

#[test]
fn every_target_has_a_wrapper_for_libfuzzer() {
    let sources = files(&package().join("libfuzzer/targets"));
    assert_eq!(sources, names().iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(package().join("libfuzzer/Cargo.toml")).expect("a manifest");
    for name in names() {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "no [[bin]] for {name}");
        let wrapper = fs::read_to_string(package().join(format!("libfuzzer/targets/{name}.rs"))).expect("a wrapper");
        assert!(wrapper.contains(&format!("::{name}(data)")), "the wrapper of {name} calls another target");
    }
}

fn names() -> BTreeSet<String> {
    TARGETS.iter().map(|target| target.name.to_owned()).collect()
}

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names in a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
    entries.map(|entry| name(entry).expect("a plain name")).collect()
}
