//! The models notice: each memory order of the protocol is weakened alone, and each known mistake is made, and a model
//! goes red.
//!
//! The places are found by running the models, so an order that is added to the protocol is weakened here without a word
//! said about it. Those that no model notices are listed with the reason, and a place of the list that is gone breaks this
//! test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};

use crate::explore::is_caught;
use crate::mistake::{Mistake, Site, mistaken, take_sites};
use crate::{explore, proof_blocks, proof_cut, proof_death, proof_semaphore};

/// Executions of each model in which a mistake has to show; all models are tried with the first before any is with the
/// next.
const PATIENCE: [usize; 3] = [300, 3_000, 30_000];

/// All models, those that notice most first.
const MODELS: [fn(); 18] = [
    proof_cut::a_block_is_cut,
    proof_blocks::a_mapper_reads_along,
    proof_semaphore::two_rivals,
    proof_cut::a_chain_is_cut,
    proof_cut::pages_are_given_back,
    proof_cut::a_reader_is_late,
    proof_cut::a_restore_is_read,
    proof_death::a_finisher_is_watched,
    proof_cut::a_cut_is_ended,
    proof_cut::a_held_cut_is_read,
    proof_blocks::adders_meet,
    proof_blocks::the_server_reads_along,
    proof_semaphore::three_rivals,
    proof_blocks::writers_meet,
    proof_death::a_cut_outlives_its_server,
    proof_death::a_thread_dies_in_a_cut,
    proof_death::a_slot_is_inherited,
    proof_death::a_server_dies,
];

/// Places whose order may be weakened and no model notices: file, what is done there, which of several such places from
/// the top of the file (counted from 1), and why.
const UNNOTICED: [(&str, &str, usize, &str); 19] = [
    (
        "client_read.rs",
        "fence Acquire",
        1,
        "in a client nothing after the state depends on it; in a cut, see `COVERED`",
    ),
    ("client_read.rs", "fence Acquire", 3, "the hold is asked for after the bytes, and may come before the epoch"),
    ("client_read.rs", "fence Acquire", 4, "nothing comes after the hold"),
    ("cut.rs", "hold.store SeqCst", 1, "whoever sees the new epoch sees the cut word, which is stored after the hold"),
    ("cut.rs", "hold.exchange SeqCst", 1, "whoever misses the release asks the server"),
    ("cut.rs", "cut.load SeqCst", 1, "who finishes a block has learned what the dead knew; the rest is the server's"),
    ("cut.rs", "seq.load Acquire", 1, "what follows is the system call that gives the pages back, a fence"),
    ("cut_read.rs", "fence Acquire", 1, "the SeqCst fence comes before anything is read"),
    ("cut_read.rs", "fence Acquire", 3, "see `COVERED`"),
    ("cut_read.rs", "fence Acquire", 5, "the SeqCst fence comes after it, or nothing"),
    ("gate.rs", "config_epoch.update SeqCst", 1, "the gate is opened after it, and read before it"),
    (
        "gate.rs",
        "gate.store SeqCst",
        1,
        "SeqCst is for threads of the server that announce themselves; Relaxed is noticed",
    ),
    ("semaphore.rs", "slot_sem.exchange Acquire", 1, SLOT),
    ("semaphore.rs", "slot_sem.exchange Acquire", 2, SLOT),
    ("semaphore.rs", "slot_sem.swap Release", 1, SLOT),
    ("semaphore.rs", "slot_sem.exchange Acquire", 3, SLOT),
    ("semaphore.rs", "slot_sem.exchange Acquire", 4, SLOT),
    (
        "settle.rs",
        "hold.store SeqCst",
        1,
        "a client that missed it would ask the server, and no answer is held any more",
    ),
    (
        "settle.rs",
        "cut.store SeqCst",
        1,
        "whoever sees a finished block has acquired it with `seq`, and no writer lives that must not miss it",
    ),
];

/// A slot's bytes are read by nobody before their writer is dead, and the machine makes stores in the order in which they
/// are executed. In C++ two holders would race for the page; the thread sanitizer looks for that.
const SLOT: &str = "the page of a slot is no word of the model";

/// Places that do each other's work, so that only both together are noticed.
const COVERED: [[(&str, &str, usize); 2]; 1] =
    [[("cut_read.rs", "fence Acquire", 3), ("client_read.rs", "fence Acquire", 1)]];

/// What happens in the wrong order or not at all, and the model that notices.
fn mistakes() -> Vec<(&'static str, Mistake, fn())> {
    let late = |file, what, until| Mistake::Late { file, what, until };
    let blind = |file, what, value| Mistake::Blind { file, what, value };
    vec![
        (
            "seq is even before the bytes are there",
            late("change.rs", "data", "seq"),
            proof_blocks::a_mapper_reads_along,
        ),
        (
            "a shadow page is vouched for before it is kept",
            late("change.rs", "shadow", "shadow_epoch"),
            proof_cut::a_block_is_cut,
        ),
        ("a shadow page is kept after the change", late("change.rs", "shadow", "data"), proof_cut::a_block_is_cut),
        (
            "the shadow epoch stands only after the change",
            late("change.rs", "shadow_epoch", "seq"),
            proof_cut::a_block_is_cut,
        ),
        (
            "a writer looks for a cut before seq is odd",
            Mistake::Early { file: "change.rs", what: "cut", at: "seq" },
            proof_cut::a_block_is_cut,
        ),
        (
            "the shadow word is read before seq",
            Mistake::Early { file: "cut_read.rs", what: "shadow_epoch", at: "seq" },
            proof_cut::a_block_is_cut,
        ),
        ("no shadow page is asked for", blind("cut_read.rs", "shadow_epoch", 0), proof_cut::a_block_is_cut),
        (
            "nobody asks whether the cut still stands",
            blind("cut_read.rs", "cut", proof_cut::CUT << 1 | 1),
            proof_cut::a_reader_is_late,
        ),
        ("writers are not waited for", blind("cut.rs", "seq", 0), proof_cut::pages_are_given_back),
        ("the hold comes after the switch", late("cut.rs", "hold", "cut"), proof_cut::a_held_cut_is_read),
        ("a client does not ask for the hold", blind("client_read.rs", "hold", 0), proof_cut::a_held_cut_is_read),
        (
            "a client does not ask for the epoch",
            blind("client_read.rs", "config_epoch", 1),
            proof_cut::a_restore_is_read,
        ),
        ("a record is written when the block is odd", late("slot.rs", "record", "seq"), proof_death::a_server_dies),
        ("the slot is named when the block is odd", late("change.rs", "writer", "seq"), proof_death::a_server_dies),
        ("a block is even before it is repaired", late("slot.rs", "data", "seq"), proof_death::a_server_dies),
        ("a sleeper is forgotten by who was woken first", Mistake::Forgetful, proof_semaphore::three_rivals),
        ("a wake wakes nobody", Mistake::Mute, proof_semaphore::two_rivals),
    ]
}

/// The orders that could be given instead of one, from the description of a site.
fn weaker(what: &str) -> Vec<Ordering> {
    let (operation, order) = what.split_once(' ').expect("an operation and its order");
    match (order, operation) {
        ("SeqCst", load) if load.ends_with(".load") => vec![Acquire, Relaxed],
        ("SeqCst", store) if store.ends_with(".store") => vec![Release, Relaxed],
        ("SeqCst", _) => vec![AcqRel, Relaxed],
        _ => vec![Relaxed],
    }
}

/// All places with an order, by file, what is done there, and their number.
fn places() -> BTreeMap<(&'static str, String, usize), Site> {
    take_sites();
    MODELS.iter().for_each(|model| explore::sample(400, model));
    let sites: BTreeSet<Site> = take_sites();
    let mut places = BTreeMap::new();
    for site in sites {
        let number = (1..).find(|number| !places.contains_key(&(site.file, site.what.clone(), *number)));
        places.insert((site.file, site.what.clone(), number.expect("a free number")), site);
    }
    places
}

fn is_noticed(mistake: &Mistake, patience: &[usize]) -> bool {
    let by_any = |tries| MODELS.iter().any(|model| mistaken(mistake.clone(), || is_caught(tries, model)));
    patience.iter().any(|tries| by_any(*tries))
}

#[test]
fn every_order_is_needed() {
    let places = places();
    for ((file, what, number), site) in &places {
        let is_listed = UNNOTICED.iter().any(|place| (place.0, place.1, place.2) == (*file, what, *number));
        for to in weaker(what) {
            let mistake = Mistake::Weaker { sites: vec![site.clone()], to };
            // That a listed one is never noticed cannot be shown, so it gets little time.
            let patience = if is_listed { &PATIENCE[..1] } else { &PATIENCE };
            let is_noticed = is_noticed(&mistake, patience);
            eprintln!("{file}:{} {what} -> {to:?}: {}", site.line, if is_noticed { "noticed" } else { "not noticed" });
            assert!(is_noticed || is_listed, "{what}, number {number} in {file}: no model notices {to:?}");
        }
    }
    for (file, what, number, _) in UNNOTICED {
        assert!(places.contains_key(&(file, what.into(), number)), "{what}, number {number} in {file}, is gone");
    }
    for covered in COVERED {
        let sites = covered.map(|(file, what, number)| places[&(file, what.into(), number)].clone()).to_vec();
        assert!(is_noticed(&Mistake::Weaker { sites, to: Relaxed }, &PATIENCE), "{covered:?}: not noticed together");
    }
}

#[test]
fn every_mistake_is_caught() {
    for (what, mistake, model) in mistakes() {
        let is_caught = PATIENCE.iter().any(|tries| mistaken(mistake.clone(), || is_caught(*tries, model)));
        assert!(is_caught, "{what}: unnoticed");
    }
}
