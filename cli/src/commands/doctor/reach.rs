//! Do the processes on other machines answer? A silent one is no fault of this machine, so it is a warning; one that
//! answers as something else will refuse all that comes from here.

use super::finding::Finding;
use super::scene::Scene;
use crate::commands::status::Silence;

const REACH: &str = "reach";
const SUBJECT: &str = "other machines";

/// What a process says that was reached and cannot be used: the files, the versions or the secrets differ.
const REFUSALS: [&str; 4] = ["wrong_cluster", "protocol", "version", "denied"];

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let is_far = |id: u32| scene.local(id).is_none();
    let servers = scene.status.servers.iter().map(|one| ("server", one.id, &one.address, one.said.as_ref().err()));
    let snapshotters = scene.status.snapshotters.iter();
    let snapshotters = snapshotters.map(|one| ("snapshot process", one.id, &one.address, one.said.as_ref().err()));
    let far: Vec<_> = servers.chain(snapshotters).filter(|(_, id, ..)| is_far(*id)).collect();
    if far.is_empty() {
        return vec![Finding::skipped(REACH, SUBJECT, "every server of the file is on this one")];
    }
    if far.iter().any(|(.., said)| said.is_some_and(|silence| silence.kind == Silence::UNASKED)) {
        return vec![Finding::skipped(REACH, SUBJECT, "nobody can be asked without the secret or the certificates")];
    }
    let silent =
        far.iter().filter_map(|(role, id, address, said)| Some((format!("{role} {id} ({address})"), (*said)?)));
    let findings: Vec<Finding> = silent.map(|(who, silence)| judge(&scene.flags, &who, silence)).collect();
    match findings.is_empty() {
        true => vec![Finding::ok(REACH, SUBJECT, format!("all {} processes there answer", far.len()))],
        false => findings,
    }
}

fn judge(flags: &str, who: &str, silence: &Silence) -> Finding {
    match REFUSALS.contains(&silence.kind) {
        true => {
            let fix = format!("mcomp config show {flags}; then compare it with the same on that machine");
            Finding::fail(REACH, who, &silence.error, fix)
        }
        false => Finding::warn(REACH, who, &silence.error, format!("on that machine: mcomp doctor {flags}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn silence_is_a_warning_and_a_refusal_a_failure() {
        let level = |kind| judge("--config mcomp.cfg", "server 1", &Silence { kind, error: "it is gone".into() }).level;
        assert_eq!([level("unavailable"), level("timeout"), level("busy")], [Level::Warn; 3]);
        assert_eq!([level("wrong_cluster"), level("denied")], [Level::Fail; 2]);
    }
}
