//! `mcomp purge`: removes the cluster's segments from this machine, save those in use.

use mcomp_config::format_size;
use mcomp_shm::{PurgeOutcome, Purged};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Verdict};
use crate::globals::Globals;
use crate::output;

pub(crate) fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let purged = mcomp_shm::purge(config.name())?;
    let (removed, left): (Vec<_>, Vec<_>) =
        purged.into_iter().partition(|segment| matches!(segment.outcome, PurgeOutcome::Removed));
    let refusals: Vec<(&Purged, Verdict)> = left.iter().map(|segment| (segment, verdict(segment))).collect();
    if globals.json {
        output::json(&answer(&removed, &refusals))?;
    } else {
        removed.iter().try_for_each(|segment| output::line(removed_line(segment)))?;
        if removed.is_empty() && refusals.is_empty() {
            globals.note(format_args!("this machine holds no segment of cluster {}", config.name()));
        }
    }
    refusals.iter().for_each(|(_, verdict)| crate::say(&verdict.sentence));
    Ok(refusals.first().map_or(Exit::DONE, |(_, verdict)| verdict.exit))
}

fn removed_line(segment: &Purged) -> String {
    let Purged { id, path, allocated_bytes, .. } = segment;
    format!("removed {} (server {id}, {})", path.display(), format_size(*allocated_bytes))
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

fn answer(removed: &[Purged], refusals: &[(&Purged, Verdict)]) -> Value {
    let removed =
        removed.iter().map(|segment| json!({"id": segment.id, "path": segment.path, "bytes": segment.allocated_bytes}));
    let refused = refusals.iter().map(|(segment, verdict)| {
        json!({"id": segment.id, "path": segment.path, "kind": verdict.kind, "error": verdict.sentence})
    });
    let mut answer = json!({
        "outcome": "ok",
        "removed": removed.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
    });
    if let Some((_, verdict)) = refusals.first() {
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
        let verdict = verdict(&busy);
        assert_eq!(verdict.exit, Exit::TRY_AGAIN);
        assert!(verdict.sentence.contains("process 77"), "{}", verdict.sentence);
        let answer = answer(&[segment(PurgeOutcome::Removed)], &[(&busy, verdict)]);
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
