//! `mcomp bench`: how fast a running cluster answers, from here.
//!
//! Promises
//! - Memory changes only inside a range that was offered with `--at` and `--len`.
//! - Ctrl-C and SIGTERM end it early with what was measured; a second one ends it at once.
//! - Errors of the cluster are counted by kind. When nothing at all succeeded, the first of them is
//!   how the command ends.
//!
//! Leaves out a comparison with anything else: that needs both sides in one run, which is what the
//! side-by-side harness is for.

mod load;
mod plan;
mod report;
mod surroundings;
mod tally;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use mcomp_client::Options;
use mcomp_config::format_size;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use self::load::Run;
use self::plan::{Plan, Shape, check_flags};
use self::report::Report;
use crate::exit::{Exit, Failure, Verdict};
use crate::flags::BenchArgs;
use crate::globals::Globals;
use crate::output::{self, progress};

pub(crate) fn run(globals: &Globals, args: &BenchArgs) -> anyhow::Result<Exit> {
    check_flags(args)?;
    let config = globals.config()?;
    let options = Options::from_config(&config);
    let plan = Plan::new(args, options.space)?;
    let paths = surroundings::paths(&config, &options, &plan)?;
    if args.local {
        surroundings::check_local(&config, &options, &paths)?;
    }
    let stop = stop_on_signal().map_err(|error| Failure::io("catch signals", &error))?;
    let runs = measure(globals, &plan, &options, &stop)?;
    let interrupted = stop.load(Ordering::Relaxed);
    finish(globals, &Report { config: &config, plan: &plan, paths, runs, interrupted })
}

/// A flag that the first signal sets. The second ends the process as if none of this were here.
fn stop_on_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// All runs, or those that were begun before the signal.
fn measure(globals: &Globals, plan: &Plan, options: &Options, stop: &AtomicBool) -> anyhow::Result<Vec<Run>> {
    let mut bar = progress::share(globals);
    let mut random = Rng::with_seed(plan.seed);
    let total = plan.shapes.len();
    let mut runs = Vec::new();
    for (index, &shape) in plan.shapes.iter().enumerate() {
        let label = label(index, total, shape);
        let run = load::run(plan, shape, options, &mut random, stop, |part| {
            bar(&label, (index as f64 + part) / total as f64);
        })?;
        let is_stopped = stop.load(Ordering::Relaxed);
        // One that was stopped in its warm-up has nothing to say.
        if !is_stopped || run.tally.span.is_some() {
            runs.push(run);
        }
        if is_stopped {
            break;
        }
    }
    Ok(runs)
}

fn label(index: usize, total: usize, Shape { size_bytes, depth, connections }: Shape) -> String {
    let size = format_size(size_bytes);
    format!("run {} of {total}: {size}, depth {depth}, connections {connections}", index + 1)
}

/// Prints, and judges.
fn finish(globals: &Globals, report: &Report<'_>) -> anyhow::Result<Exit> {
    let failure = failure(&report.runs);
    match globals.json {
        true => output::json(&report.json(failure.as_ref()))?,
        false => output::line(report.text())?,
    }
    if report.interrupted {
        let (measured, all) = (report.runs.len(), report.plan.shapes.len());
        globals
            .note(format_args!("interrupted: {measured} of {all} runs were measured, the last one up to the signal"));
    }
    let Some(verdict) = failure else { return Ok(Exit::DONE) };
    crate::say(&verdict.sentence);
    Ok(verdict.exit)
}

/// The first error, if nothing at all succeeded.
fn failure(runs: &[Run]) -> Option<Verdict> {
    let first = runs.iter().find_map(|run| run.tally.first_error.as_ref())?;
    let succeeded = runs.iter().any(|run| run.tally.operations() > 0);
    (!succeeded).then(|| Verdict::of(&first.1.clone().into()))
}
