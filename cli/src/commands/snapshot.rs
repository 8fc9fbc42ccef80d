//! `mcomp snapshot`: take one, and look after the files.
//!
//! Only `create` talks to the cluster. The others read files, and where a file is named by its path
//! they need no configuration either; where there is one, it says whether the files must be signed.

pub(crate) mod describe;
pub(crate) mod origin;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::BinaryBytes;
use mcomp_config::{Config, ConfigError};
use mcomp_snapshot::create as create_snapshot;
use mcomp_snapshot::file::{Chain, Entry, FileError, Folder, Snapshot, State};
use mcomp_wire::control::{SnapshotCreated, SnapshotProgress};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::flags::{CreateArgs, ExportArgs, FileArgs, PruneArgs, SnapshotArgs, SnapshotCommand, VerifyArgs};
use crate::globals::Globals;
use crate::output::{self, progress};

/// Does what the subcommand says.
pub(crate) fn run(globals: &Globals, args: &SnapshotArgs) -> anyhow::Result<Exit> {
    match &args.command {
        SnapshotCommand::Create(args) => create(globals, args),
        SnapshotCommand::Ls => list(globals),
        SnapshotCommand::Show(args) => show(globals, args),
        SnapshotCommand::Verify(args) => verify(globals, args),
        SnapshotCommand::Prune(args) => prune(globals, args),
        SnapshotCommand::Export(args) => export(globals, args),
    }
}

/// The file that a person means: a path, or a name in the snapshot folder. The configuration is asked
/// only for a bare name, and only for what it alone can tell.
pub(crate) fn locate(globals: &Globals, file: &Path) -> anyhow::Result<PathBuf> {
    match file.to_str() {
        Some(name) if !name.contains('/') => locate_name(globals, name),
        _ if file.exists() => Ok(file.to_owned()),
        _ => Err(not_found(file).into()),
    }
}

fn locate_name(globals: &Globals, name: &str) -> anyhow::Result<PathBuf> {
    let here = Path::new(name);
    match globals.config() {
        Ok(config) => match folder(&config)? {
            Some(folder) => Ok(folder.resolve(name)?),
            None if here.exists() => Ok(here.to_owned()),
            None => Err(FileError::NotFound { name: name.to_owned(), folder: config.snapshot().dir.clone() }.into()),
        },
        Err(ConfigError::NotFound { .. }) if here.exists() => Ok(here.to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// The way out is not `snapshot ls`: that lists another folder.
fn not_found(path: &Path) -> Failure {
    let text = format!("there is no file {}; a name without / is looked for in the snapshot folder", path.display());
    Failure::new(Exit::NEGATIVE, "not_found", text)
}

/// The snapshot folder, if there is one already.
fn folder(config: &Config) -> Result<Option<Folder>, FileError> {
    match Folder::open(&config.snapshot().dir) {
        Ok(folder) => Ok(Some(folder)),
        Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn create(globals: &Globals, args: &CreateArgs) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let mut bar = progress::bar("Saving", globals);
    let created = create_snapshot(&config, args.incremental, &mut |SnapshotProgress { done, total }| bar(done, total));
    drop(bar);
    let created = created?;
    match globals.json {
        true => output::json(&created_json(&created))?,
        false => output::line(&created.path)?,
    }
    globals.note_to_person(created_note(&created, args.incremental));
    Ok(Exit::DONE)
}

/// The answer to a create, with the names that `--json` promises.
fn created_json(created: &SnapshotCreated) -> Value {
    json!({
        "outcome": "ok",
        "path": created.path,
        "name": created.name,
        "cut": created.cut,
        "full": created.full,
        "bytes": created.memory_bytes,
        "file_bytes": created.file_bytes,
        "hold_us": created.hold_us,
        "took_us": created.took_us,
    })
}

fn created_note(created: &SnapshotCreated, incremental: bool) -> String {
    let kind = match (created.full, incremental) {
        (true, true) => "full snapshot (there is none that it could build on)",
        (true, false) => "full snapshot",
        (false, _) => "incremental snapshot",
    };
    format!(
        "{kind}: {} of memory in a file of {}, in {:.1?}; answers were held for {:.1?}",
        BinaryBytes(created.memory_bytes),
        BinaryBytes(created.file_bytes),
        Duration::from_micros(created.took_us),
        Duration::from_micros(created.hold_us),
    )
}

fn list(globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let entries = folder(&config)?.map_or_else(|| Ok(Vec::new()), |folder| folder.list())?;
    let keys = origin::keys_if_any(globals);
    match globals.json {
        true => output::json(&describe::list_json(&config.snapshot().dir, &entries, keys.as_ref()))?,
        false if entries.is_empty() => {
            globals.note_to_person(format_args!("there is no snapshot in {}", config.snapshot().dir.display()));
        }
        false => output::line(describe::list_table(&entries, keys.as_ref()))?,
    }
    Ok(Exit::DONE)
}

fn show(globals: &Globals, args: &FileArgs) -> anyhow::Result<Exit> {
    let path = locate(globals, &args.file)?;
    let snapshot = Snapshot::open(&path)?;
    let chain = Chain::open(&path);
    let keys = origin::keys_if_any(globals);
    match globals.json {
        true => output::json(&describe::show_json(&snapshot, &chain, keys.as_ref()))?,
        false => output::line(describe::show_text(&snapshot, &chain, keys.as_ref()))?,
    }
    Ok(Exit::DONE)
}

fn verify(globals: &Globals, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let path = locate(globals, &args.file)?;
    let chain = Chain::open(&path)?;
    let mac = origin::weakest(&origin::authenticate(globals, &chain, args.unsigned)?);
    let mut bar = progress::bar("Verifying", globals);
    let verified = chain.verify(&mut bar);
    drop(bar);
    verified?;
    let (files, file_bytes) = (chain.files().len(), chain.file_bytes());
    match globals.json {
        true => output::json(&json!({
            "outcome": "ok",
            "valid": true,
            "path": path,
            "cut": chain.meta().cut,
            "files": files,
            "file_bytes": file_bytes,
            "signed": mac.is_signed(),
            "mac": mac.word(),
        }))?,
        false => output::line(format_args!(
            "{} is valid: every byte of {} ({}) was checked; {mac}",
            path.display(),
            describe::count(files, "file"),
            BinaryBytes(file_bytes)
        ))?,
    }
    Ok(Exit::DONE)
}

fn prune(globals: &Globals, args: &PruneArgs) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let keep = args.keep.unwrap_or(config.snapshot().keep);
    let (mut removed, mut broken, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(folder) = folder(&config)? {
        let pruned = folder.prune(config.name(), keep as usize)?;
        (removed, broken) = (pruned.removed, pruned.broken);
        unfinished = folder.sweep()?;
    }
    let names = |entries: &[Entry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<String>>();
    if globals.json {
        output::json(&json!({
            "outcome": "ok",
            "keep": keep,
            "removed": names(&removed),
            "broken": names(&broken),
            "unfinished": unfinished,
        }))?;
        return Ok(Exit::DONE);
    }
    names(&removed).iter().try_for_each(output::line)?;
    for entry in &broken {
        globals.note(format_args!("left for you to look at: {}", reason(entry)));
    }
    for name in &unfinished {
        globals.note(format_args!("removed {name}, which a killed process had left unfinished"));
    }
    Ok(Exit::DONE)
}

/// Why an entry is broken. The reason names the file where the file itself is at fault.
fn reason(entry: &Entry) -> String {
    match &entry.state {
        State::Broken(why) if why.contains(&entry.name) => why.clone(),
        State::Broken(why) => format!("{}: {why}", entry.name),
        State::Complete => entry.name.clone(),
    }
}

fn export(globals: &Globals, args: &ExportArgs) -> anyhow::Result<Exit> {
    let to_stdout = args.out == Path::new("-");
    check_target(args, to_stdout, globals)?;
    let path = locate(globals, &args.file)?;
    let chain = Chain::open(&path)?;
    origin::authenticate(globals, &chain, args.unsigned)?;
    let mut bar = progress::bar("Exporting", globals);
    if to_stdout {
        return export_to_stdout(&chain, &mut bar);
    }
    sweep_beside(&args.out);
    let exported = chain.export(&args.out, &mut bar);
    drop(bar);
    exported.context("the image was not written")?;
    let bytes = chain.meta().space_bytes();
    match globals.json {
        true => output::json(&json!({ "outcome": "ok", "path": args.out, "bytes": bytes, "cut": chain.meta().cut }))?,
        false => globals.note_to_person(format_args!("{}: {} of memory", args.out.display(), BinaryBytes(bytes))),
    }
    Ok(Exit::DONE)
}

fn export_to_stdout(chain: &Chain, bar: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Exit> {
    chain.export_stream(&mut output::Stdout::lock(), Path::new("stdout"), bar)?;
    Ok(Exit::DONE)
}

/// Refuses what the person would regret, before anything is read.
fn check_target(args: &ExportArgs, to_stdout: bool, globals: &Globals) -> Result<(), Failure> {
    if to_stdout && globals.json {
        return Err(Failure::usage("-o - gives stdout to the image, and --json to the answer: choose one"));
    }
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a memory image would garble the terminal: redirect stdout, or name a file with -o",
        ));
    }
    let is_old_file = !to_stdout && args.out.metadata().is_ok_and(|facts| facts.is_file());
    if is_old_file && !args.force {
        let text = format!("{} exists: choose another name, or replace it with --force", args.out.display());
        return Err(Failure::usage(text));
    }
    Ok(())
}

/// Removes what killed exports have left beside `out`. That is a courtesy: if it cannot be done, the
/// export says what is wrong with the folder.
fn sweep_beside(out: &Path) {
    let beside = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let _ = Folder::open(beside).and_then(|folder| folder.sweep());
}
