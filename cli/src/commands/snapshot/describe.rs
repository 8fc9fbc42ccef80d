//! Snapshots in words, tables and JSON: what `ls` and `show` print.

use std::path::Path;

use indicatif::BinaryBytes;
use mcomp_config::format_size;
use mcomp_snapshot::file::{Chain, Entry, FileError, FileKeys, Mac, Meta, Snapshot, State};
use serde_json::{Value, json};

use crate::output::table;

/// The newest last, where the eye is after a long listing.
pub(super) fn list_table(entries: &[Entry], keys: Option<&FileKeys>) -> String {
    let headers = ["NAME", "KIND", "TIME (UTC)", "CLUSTER", "N x K", "MEMORY", "FILE", "SIGNED", "STATE"];
    table(&headers, entries.iter().map(|entry| row(entry, keys)))
}

pub(super) fn list_json(folder: &Path, entries: &[Entry], keys: Option<&FileKeys>) -> Value {
    json!({
        "outcome": "ok",
        "folder": folder,
        "snapshots": entries.iter().map(|entry| entry_json(entry, keys)).collect::<Vec<_>>(),
    })
}

/// What one file says about itself, for people.
pub(super) fn show_text(snapshot: &Snapshot, chain: &Result<Chain, FileError>, keys: Option<&FileKeys>) -> String {
    let meta = snapshot.meta();
    let mut facts = vec![
        ("file", snapshot.path().display().to_string()),
        ("state", chain_state(chain)),
        ("origin", snapshot.mac(keys).to_string()),
        ("kind", kind(meta).to_owned()),
        ("time (UTC)", time(meta)),
        ("cluster", meta.cluster.clone()),
        ("memory", format!("{} = {}", n_by_k(meta), format_size(meta.space_bytes()))),
        ("cut", meta.cut.to_string()),
        ("epochs", format!("cut {}, configuration {}", meta.cut_epoch, meta.config_epoch)),
        ("chunks", format!("{} with {} of memory", snapshot.chunks().len(), BinaryBytes(snapshot.memory_bytes()))),
        ("allocated", allocations(snapshot)),
        ("stored", format!("{}{}", BinaryBytes(snapshot.stored_bytes()), ratio_words(snapshot))),
        ("file size", BinaryBytes(snapshot.file_bytes()).to_string()),
    ];
    facts.extend(meta.parent.map(|parent| ("builds on", format!("cut {} of epoch {}", parent.cut, parent.epoch))));
    let mut lines: Vec<String> = facts.into_iter().map(|(name, value)| format!("{name:<12}{value}")).collect();
    lines.push(String::new());
    lines.push(servers_table(meta));
    if let Ok(chain) = chain
        && chain.files().len() > 1
    {
        lines.push(String::new());
        lines.push(chain_table(chain, keys));
    }
    lines.join("\n")
}

pub(super) fn show_json(snapshot: &Snapshot, chain: &Result<Chain, FileError>, keys: Option<&FileKeys>) -> Value {
    let meta = snapshot.meta();
    let mut value = meta_json(meta);
    let rest = json!({
        "outcome": "ok",
        "path": snapshot.path(),
        "name": file_name(snapshot.path()),
        "state": if chain.is_ok() { "complete" } else { "broken" },
        "reason": chain.as_ref().err().map(ToString::to_string),
        "config_epoch": meta.config_epoch,
        "chunks": snapshot.chunks().len(),
        "allocations": snapshot.allocations(),
        "allocations_end": snapshot.allocations().map(|_| snapshot.allocations_end()),
        "bytes": snapshot.memory_bytes(),
        "stored_bytes": snapshot.stored_bytes(),
        "file_bytes": snapshot.file_bytes(),
        "ratio": ratio(snapshot),
        "servers": servers_json(meta),
        "signed": snapshot.mac(keys).is_signed(),
        "mac": snapshot.mac(keys).word(),
        "chain": chain.as_ref().map_or_else(|_| Vec::new(), |chain| chain_json(chain, keys)),
    });
    extend(&mut value, rest);
    value
}

fn allocations(snapshot: &Snapshot) -> String {
    match snapshot.allocations() {
        None => "not recorded: nobody could tell the allocations, or an older mcomp wrote it".to_owned(),
        Some(number) => format!("{}, up to {:#x}", count(number as usize, "allocation"), snapshot.allocations_end()),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn row(entry: &Entry, keys: Option<&FileKeys>) -> Vec<String> {
    let unknown = || "?".to_owned();
    let of_meta = |fact: fn(&Meta) -> String| entry.meta.as_ref().map_or_else(unknown, fact);
    let snapshot = Snapshot::open(&entry.path).ok();
    vec![
        entry.name.clone(),
        of_meta(|meta| kind(meta).to_owned()),
        of_meta(time),
        of_meta(|meta| meta.cluster.clone()),
        of_meta(n_by_k),
        snapshot.as_ref().map_or_else(unknown, |snapshot| BinaryBytes(snapshot.memory_bytes()).to_string()),
        BinaryBytes(entry.size_bytes).to_string(),
        snapshot.map_or_else(unknown, |snapshot| signed(snapshot.mac(keys)).to_owned()),
        match &entry.state {
            State::Complete => "complete".to_owned(),
            State::Broken(why) => format!("broken: {why}"),
        },
    ]
}

fn entry_json(entry: &Entry, keys: Option<&FileKeys>) -> Value {
    let mut value = entry.meta.as_ref().map_or_else(|| json!({}), meta_json);
    let (state, reason) = match &entry.state {
        State::Complete => ("complete", None),
        State::Broken(why) => ("broken", Some(why)),
    };
    // What a file records, and who made it, stands at its end.
    let snapshot = Snapshot::open(&entry.path).ok();
    let mac = snapshot.as_ref().map(|snapshot| snapshot.mac(keys));
    let rest = json!({
        "name": entry.name,
        "path": entry.path,
        "bytes": snapshot.as_ref().map(Snapshot::memory_bytes),
        "file_bytes": entry.size_bytes,
        "signed": mac.map(Mac::is_signed),
        "mac": mac.map(Mac::word),
        "state": state,
        "reason": reason,
    });
    extend(&mut value, rest);
    value
}

/// A word for a table.
fn signed(mac: Mac) -> &'static str {
    match mac {
        Mac::Fits => "yes",
        Mac::Wrong => "WRONG",
        Mac::UnknownKey => "unknown key",
        Mac::NotChecked => "not checked",
        Mac::None => "no",
    }
}

/// What the header says.
fn meta_json(meta: &Meta) -> Value {
    json!({
        "full": meta.is_full(),
        "created": meta.created().to_string(),
        "created_us": meta.created_us,
        "cluster": meta.cluster,
        "n": meta.n(),
        "k": meta.k_bytes,
        "cut": meta.cut,
        "cut_epoch": meta.cut_epoch,
        "parent": meta.parent.map(|parent| parent.cut),
    })
}

fn servers_json(meta: &Meta) -> Vec<Value> {
    let servers = meta.servers.iter().enumerate().map(|(id, server)| {
        json!({
            "id": id,
            "segment": server.segment,
            "cut_epoch": server.cut_epoch,
            "change_from_epoch": server.change_from_epoch,
        })
    });
    servers.collect()
}

fn chain_json(chain: &Chain, keys: Option<&FileKeys>) -> Vec<Value> {
    let files = chain.files().iter().map(|file| {
        json!({
            "name": file_name(file.path()),
            "full": file.meta().is_full(),
            "cut": file.meta().cut,
            "file_bytes": file.file_bytes(),
            "signed": file.mac(keys).is_signed(),
            "mac": file.mac(keys).word(),
        })
    });
    files.collect()
}

fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

fn chain_state(chain: &Result<Chain, FileError>) -> String {
    match chain {
        Ok(chain) if chain.files().len() > 1 => format!("complete, a chain of {} files", chain.files().len()),
        Ok(_) => "complete".to_owned(),
        Err(error) => format!("broken: {error}"),
    }
}

fn servers_table(meta: &Meta) -> String {
    let rows = meta.servers.iter().enumerate().map(|(id, server)| {
        let from = id as u64 * meta.k_bytes;
        let held = match server.change_from_epoch {
            0 => "everything".to_owned(),
            epoch => format!("changes since epoch {epoch}"),
        };
        vec![
            id.to_string(),
            format!("{from:#x}..{:#x}", from + meta.k_bytes),
            server.segment.to_string(),
            server.cut_epoch.to_string(),
            held,
        ]
    });
    table(&["SERVER", "ADDRESSES", "SEGMENT", "CUT EPOCH", "HOLDS"], rows)
}

fn chain_table(chain: &Chain, keys: Option<&FileKeys>) -> String {
    let rows = chain.files().iter().map(|file| {
        vec![
            file_name(file.path()),
            kind(file.meta()).to_owned(),
            time(file.meta()),
            BinaryBytes(file.memory_bytes()).to_string(),
            BinaryBytes(file.file_bytes()).to_string(),
            signed(file.mac(keys)).to_owned(),
        ]
    });
    table(&["CHAIN, NEWEST FIRST", "KIND", "TIME (UTC)", "MEMORY", "FILE", "SIGNED"], rows)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn kind(meta: &Meta) -> &'static str {
    if meta.is_full() { "full" } else { "incremental" }
}

fn time(meta: &Meta) -> String {
    meta.created().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn n_by_k(meta: &Meta) -> String {
    format!("{} x {}", meta.n(), format_size(meta.k_bytes))
}

/// How many bytes of memory stand in one stored byte; none where nothing is stored.
fn ratio(snapshot: &Snapshot) -> Option<f64> {
    let stored = snapshot.stored_bytes();
    (stored > 0).then(|| snapshot.memory_bytes() as f64 / stored as f64)
}

fn ratio_words(snapshot: &Snapshot) -> String {
    ratio(snapshot).map_or_else(String::new, |ratio| format!(", {ratio:.1} to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_still_has_its_row() {
        let path = Path::new("/nowhere/demo.mcs").to_path_buf();
        let state = State::Broken("its header is damaged".into());
        let entry = Entry { name: "demo.mcs".into(), path, meta: None, size_bytes: 3, state };
        let text = list_table(std::slice::from_ref(&entry), None);
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("demo.mcs  ?")), "{text}");
        assert!(text.ends_with("broken: its header is damaged"), "{text}");
        let json = entry_json(&entry, None);
        assert_eq!((&json["state"], &json["file_bytes"]), (&json!("broken"), &json!(3)));
        assert_eq!((&json["signed"], &json["mac"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn nouns_count() {
        assert_eq!((count(1, "file"), count(2, "file")), ("1 file".to_owned(), "2 files".to_owned()));
    }
}
