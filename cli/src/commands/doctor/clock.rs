//! Are the clocks of use? Deadlines and leases need the one that counts from the boot; the wall clock is in the names
//! of snapshots and in incarnations, and one that fell back makes the newest look old.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{DynamicClockId, clock_gettime_dynamic};

use super::finding::{Finding, as_root};
use super::scene::Scene;

const CLOCK: &str = "clock";

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let now = SystemTime::now();
    let newest = newest_snapshot(scene).map(|(name, at)| (format!("snapshot {name}"), at));
    let program = built().map(|at| ("this program".to_owned(), at));
    vec![since_boot(), wall(now, newest.into_iter().chain(program).max_by_key(|(_, at)| *at))]
}

fn since_boot() -> Finding {
    match clock_gettime_dynamic(DynamicClockId::Boottime) {
        Ok(time) => {
            let up = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
            Finding::ok(CLOCK, "boot-time clock", format!("it counts {} s since the boot", up.as_secs()))
        }
        Err(error) => {
            let fix = "allow clock_gettime(CLOCK_BOOTTIME) in the container or sandbox that this runs in";
            Finding::fail(CLOCK, "boot-time clock", format!("it cannot be read: {error}"), fix)
        }
    }
}

/// Compares the wall clock with the latest moment that certainly has been.
fn wall(now: SystemTime, latest: Option<(String, SystemTime)>) -> Finding {
    let subject = "wall clock";
    match latest {
        Some((what, at)) if at > now => {
            let what = format!("it says {}, and {what} was made at {}", shown(now), shown(at));
            Finding::warn(CLOCK, subject, what, as_root("timedatectl set-ntp true"))
        }
        _ => Finding::ok(CLOCK, subject, format!("it says {}, which is after all that is dated here", shown(now))),
    }
}

/// When the executable was written. A clock before that is wrong.
fn built() -> Option<SystemTime> {
    std::env::current_exe().ok()?.metadata().ok()?.modified().ok()
}

/// The snapshot of this cluster with the latest date, whatever its state.
fn newest_snapshot(scene: &Scene) -> Option<(String, SystemTime)> {
    let (_, entries) = scene.snapshots.as_ref().ok()?;
    let dated = entries.iter().filter_map(|entry| Some((&entry.name, entry.meta.as_ref()?)));
    let ours = dated.filter(|(_, meta)| meta.cluster == scene.config.name());
    let (name, meta) = ours.max_by_key(|(_, meta)| meta.created_us)?;
    Some((name.clone(), UNIX_EPOCH + Duration::from_micros(u64::try_from(meta.created_us).ok()?)))
}

fn shown(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "a time that no calendar has".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_clock_before_what_has_been_is_told_with_both_times() {
        let second = |count| UNIX_EPOCH + Duration::from_secs(count);
        let finding = wall(second(0), Some(("snapshot x".into(), second(60))));
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(finding.what, "it says 1970-01-01 00:00:00 UTC, and snapshot x was made at 1970-01-01 00:01:00 UTC");
        assert_eq!(wall(second(60), Some(("snapshot x".into(), second(60)))).level, Level::Ok);
        assert_eq!(wall(second(60), None).level, Level::Ok);
    }

    #[test]
    fn this_machine_s_clocks_are_right() {
        assert_eq!(since_boot().level, Level::Ok);
        assert!(built().is_some_and(|at| at <= SystemTime::now()));
    }
}
