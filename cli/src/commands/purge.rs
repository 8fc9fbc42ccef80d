//! `mcomp purge`: removes the cluster's segments and metadata files from this machine, save those in use.

mod metadata;

use std::path::PathBuf;

use mcomp_config::format_size;
use mcomp_shm::{PurgeOutcome, Purged};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Verdict};
use crate::globals::Globals;
use crate::output;

use metadata::Log;

pub(crate) fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let purged = mcomp_shm::purge(config.name())?;
    let (removed, left): (Vec<_>, Vec<_>) =
        purged.into_iter().partition(|segment| matches!(segment.outcome, PurgeOutcome::Removed));
    let mut refusals: Vec<Refusal> = left.iter().map(Refusal::of_segment).collect();
    // A server that keeps its memory keeps its part of the log.
    let kept: Vec<u32> = left.iter().map(|segment| segment.id).collect();
    let (logs, open) = metadata::purge(&config, &kept)?;
    refusals.extend(open.into_iter().map(|(log, verdict)| Refusal { id: log.id, path: log.path, verdict }));
    if globals.json {
        output::json(&answer(&removed, &logs, &refusals))?;
    } else {
        removed.iter().try_for_each(|segment| output::line(removed_line(segment)))?;
        logs.iter().try_for_each(|log| output::line(removed_log_line(log)))?;
        if removed.is_empty() && logs.is_empty() && refusals.is_empty() {
            globals.note(format_args!("this machine holds no segment and no metadata of cluster {}", config.name()));
        }
    }
    refusals.iter().for_each(|refusal| crate::say(&refusal.verdict.sentence));
    Ok(refusals.first().map_or(Exit::DONE, |refusal| refusal.verdict.exit))
}

/// A file that is still there, and why.
struct Refusal {
    id: u32,
    path: PathBuf,
    verdict: Verdict,
}

impl Refusal {
    fn of_segment(segment: &Purged) -> Refusal {
        Refusal { id: segment.id, path: segment.path.clone(), verdict: verdict(segment) }
    }
}

fn removed_line(segment: &Purged) -> String {
    let Purged { id, path, allocated_bytes, .. } = segment;
    format!("removed {} (server {id}, {})", path.display(), format_size(*allocated_bytes))
}

fn removed_log_line(log: &Log) -> String {
    format!("removed {} (metadata of server {}, {})", log.path.display(), log.id, format_size(log.bytes))
}

/// Why a segment is still there, with the way out.
fn verdict(segment: &Purged) -> Verdict {
    let path = segment.path.display();
    let failure = match &segment.outcome {
        PurgeOutcome::Busy { pid } => {
            let text = format!("{path} is being served by process {pid}: stop that server first");
            Failure::new(Exit::TRY_AGAIN, "busy", text)
        }
        PurgeOutcome::Foreign { owner } => {
            let text = format!("{path} belongs to user {owner}: run `mcomp purge` as that user");
            Failure::new(Exit::NOT_PERMITTED, "denied", text)
        }
        PurgeOutcome::Failed(error) => Failure::new(Exit::LOCAL_IO, "io", error.to_string()),
        PurgeOutcome::Removed => unreachable!("a removed segment is not refused"),
    };
    Verdict::of(&failure.into())
}

fn answer(removed: &[Purged], logs: &[Log], refusals: &[Refusal]) -> Value {
    let removed =
        removed.iter().map(|segment| json!({"id": segment.id, "path": segment.path, "bytes": segment.allocated_bytes}));
    let refused = refusals.iter().map(|Refusal { id, path, verdict }| {
        json!({"id": id, "path": path, "kind": verdict.kind, "error": verdict.sentence})
    });
    let mut answer = json!({
        "outcome": "ok",
        "removed": removed.collect::<Vec<_>>(),
        "metadata": logs,
        "refused": refused.collect::<Vec<_>>(),
    });
    if let Some(Refusal { verdict, .. }) = refusals.first() {
        answer["outcome"] = verdict.outcome().into();
        answer["kind"] = verdict.kind.into();
        answer["error"] = verdict.sentence.clone().into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(outcome: PurgeOutcome) -> Purged {
        Purged { id: 1, path: "/dev/shm/mcomp.demo.1".into(), allocated_bytes: 64 << 20, outcome }
    }

    #[test]
    fn what_is_left_says_why() {
        let busy = segment(PurgeOutcome::Busy { pid: 77 });
        let refusal = Refusal::of_segment(&busy);
        assert_eq!(refusal.verdict.exit, Exit::TRY_AGAIN);
        assert!(refusal.verdict.sentence.contains("process 77"), "{}", refusal.verdict.sentence);
        let log = Log { id: 2, path: "/x/demo.2.redb".into(), bytes: 4096 };
        let answer = answer(&[segment(PurgeOutcome::Removed)], &[log], &[refusal]);
        assert_eq!(answer["metadata"][0]["path"], "/x/demo.2.redb");
        assert_eq!(answer["outcome"], "fail");
        assert_eq!(answer["kind"], "busy");
        assert_eq!(answer["removed"][0]["bytes"], 64 << 20);
    }

    #[test]
    fn what_is_gone_says_how_much() {
        let line = removed_line(&segment(PurgeOutcome::Removed));
        assert_eq!(line, "removed /dev/shm/mcomp.demo.1 (server 1, 64 MiB)");
    }
}
