//! `mcomp restore`: the memory as it was at the instant of a snapshot.
//!
//! The whole file is checked, and that it fits, before any memory is touched. From then on the
//! servers refuse everybody else until all of it is back; when this is cut off, they go on refusing
//! until a restore goes through, so that nobody ever reads a mixture.

use std::time::Duration;

use mcomp_config::format_size;
use mcomp_snapshot::{Restore, RestorePlan, Restored};
use serde_json::{Value, json};

use super::interrupted::Guard;
use super::snapshot::{describe, locate, origin};
use crate::exit::Exit;
use crate::flags::RestoreArgs;
use crate::globals::Globals;
use crate::output::{self, progress};

/// Checks, shows the plan, and unless that was all, restores.
pub(crate) fn run(globals: &Globals, args: &RestoreArgs) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let path = locate(globals, &args.file)?;
    let mut bar = progress::bar("Checking", globals);
    let restore = Restore::prepare_with(&config, &path, origin::accepted(args.unsigned), &mut bar);
    drop(bar);
    let restore = restore?;
    let plan = restore.plan().clone();
    origin::warn(globals, &plan.macs, config.secret_file().is_some());
    if args.dry_run {
        match globals.json {
            true => output::json(&answer(&plan, None))?,
            false => output::line(told(&plan))?,
        }
        return Ok(Exit::DONE);
    }
    globals.note_to_person(told(&plan));
    let restored = run_guarded(globals, restore)?;
    if globals.json {
        output::json(&answer(&plan, Some(restored)))?;
    }
    globals.note(format_args!(
        "restored {} in {:.1?}; programs that were connected before have to reconnect (epoch {})",
        format_size(restored.memory_bytes),
        Duration::from_micros(restored.took_us),
        restored.config_epoch
    ));
    Ok(Exit::DONE)
}

fn run_guarded(globals: &Globals, restore: Restore) -> anyhow::Result<Restored> {
    let guard = Guard::new(globals, || {
        "the restore was interrupted: the memory may be closed now, and stays so until `mcomp restore` goes \
         through; run it again"
            .to_owned()
    })?;
    let mut bar = progress::bar("Restoring", globals);
    let restored = restore.run(&mut bar);
    drop(guard);
    drop(bar);
    Ok(restored?)
}

/// The plan in words, one fact a line.
fn told(plan: &RestorePlan) -> String {
    let facts = [
        ("snapshot", format!("cut {} of cluster {}, {}", plan.cut, plan.cluster, created(plan))),
        ("files", format!("{}, every byte checked; {}", plan.files, origin::weakest(&plan.macs))),
        ("memory", format!("{}, not zero up to {:#x}", format_size(plan.space_bytes), plan.non_zero_end)),
        ("allocated", allocations(plan)),
        ("fits into", format!("{} of this cluster, whose other bytes become zero", format_size(plan.target_bytes))),
    ];
    facts.map(|(name, fact)| format!("{name:<11}{fact}")).join("\n")
}

fn created(plan: &RestorePlan) -> String {
    jiff::Timestamp::from_microsecond(plan.created_us).unwrap_or_default().to_string()
}

fn allocations(plan: &RestorePlan) -> String {
    match plan.allocations {
        None => "not recorded: nothing is allocated afterwards, and every lease and lock ends".to_owned(),
        Some(count) => format!("{}; every lease and lock ends", describe::count(count as usize, "allocation")),
    }
}

/// The plan, and what became of it, for machines.
fn answer(plan: &RestorePlan, restored: Option<Restored>) -> Value {
    json!({
        "outcome": "ok",
        "dry_run": restored.is_none(),
        "plan": {
            "cluster": plan.cluster,
            "cut": plan.cut,
            "created": created(plan),
            "created_us": plan.created_us,
            "files": plan.files,
            "bytes": plan.memory_bytes,
            "space_bytes": plan.space_bytes,
            "non_zero_end": plan.non_zero_end,
            "allocations": plan.allocations,
            "allocations_end": plan.allocations_end,
            "target_bytes": plan.target_bytes,
            "signed": origin::weakest(&plan.macs).is_signed(),
            "mac": origin::weakest(&plan.macs).word(),
        },
        "bytes": restored.map(|restored| restored.memory_bytes),
        "config_epoch": restored.map(|restored| restored.config_epoch),
        "took_us": restored.map(|restored| restored.took_us),
    })
}

#[cfg(test)]
mod tests {
    use mcomp_snapshot::file::Mac;

    use super::*;

    fn plan() -> RestorePlan {
        let cut = "0f0e0d0c-0000-4000-8000-000000000001".parse().unwrap();
        let (k_bytes, created_us) = (64 << 20, 1_700_000_000_000_000);
        RestorePlan {
            cluster: "demo".into(),
            cut,
            created_us,
            files: 2,
            memory_bytes: 5 << 20,
            space_bytes: 3 * k_bytes,
            non_zero_end: 0x1000,
            allocations: Some(3),
            allocations_end: 0x2000,
            target_bytes: 2 * k_bytes,
            macs: vec![Mac::Fits; 2],
        }
    }

    #[test]
    fn the_plan_names_its_numbers() {
        let text = told(&plan());
        for part in
            ["2, every byte", "2023-11-14T22:13:20Z", "not zero up to 0x1000", "3 allocations", "128 MiB of this"]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }

    #[test]
    fn a_dry_run_has_a_plan_and_no_result() {
        let dry = answer(&plan(), None);
        assert_eq!((&dry["dry_run"], &dry["config_epoch"]), (&json!(true), &Value::Null));
        let done = answer(&plan(), Some(Restored { memory_bytes: 1, config_epoch: 7, took_us: 9 }));
        assert_eq!((&done["dry_run"], &done["config_epoch"]), (&json!(false), &json!(7)));
    }
}
