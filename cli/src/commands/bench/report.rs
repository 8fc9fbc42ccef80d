//! What is printed: one line and a table for people, or one object with stable names.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{BinaryBytes, HumanCount};
use mcomp_config::{Config, format_duration, format_size};
use serde::Serialize;
use serde_json::{Value, json};

use super::load::Run;
use super::plan::{Amount, Plan, Shape};
use super::surroundings::{Path, clock, cores, ranges, told};
use super::tally::{Kind, Tally};
use crate::exit::Verdict;
use crate::output;

const HEADERS: [&str; 12] = [
    "SIZE",
    "DEPTH",
    "CONNECTIONS",
    "READS",
    "OPS/S",
    "BYTES/S",
    "P50 us",
    "P90 us",
    "P99 us",
    "P99.9 us",
    "MAX us",
    "ERRORS",
];

/// Everything there is to say.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) config: &'a Config,
    pub(super) plan: &'a Plan,
    pub(super) paths: Vec<Path>,
    pub(super) runs: Vec<Run>,
    /// Whether a signal ended it before its end.
    pub(super) interrupted: bool,
}

impl Report<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let reads_percent = self.plan.reads_percent;
        let rows = self.runs.iter().map(|run| row(run, reads_percent));
        let mut text = format!("{}\n\n{}", self.surroundings(), output::table(&HEADERS, rows));
        for (at, (word, Kind { count, sentence })) in self.errors().iter().enumerate() {
            text += if at == 0 { "\n\n" } else { "\n" };
            text += &format!("{count} x {word}: {sentence}");
        }
        text
    }

    /// For machines. `failure` is why nothing at all succeeded.
    pub(super) fn json(&self, failure: Option<&Verdict>) -> Value {
        let Report { config, plan, paths, runs, interrupted } = self;
        let (time, count) = match plan.amount {
            Amount::Time(time) => (Some(us(time)), None),
            Amount::Count(count) => (None, Some(count)),
        };
        let mut answer = json!({
            "outcome": "ok",
            "cluster": config.name(),
            "k": config.k(),
            "n": config.n(),
            "addr": plan.addr,
            "len": plan.len,
            "paths": paths,
            "cores": cores(),
            "clock_us": us(clock()),
            "warm_up_us": us(plan.warm_up),
            "time_us": time,
            "count": count,
            "seed": plan.seed,
            "interrupted": interrupted,
            "runs": runs.iter().map(|run| figures(run, plan.reads_percent)).collect::<Vec<_>>(),
        });
        if let Some(verdict) = failure {
            answer["outcome"] = verdict.outcome().into();
            answer["kind"] = verdict.kind.into();
            answer["error"] = verdict.sentence.clone().into();
        }
        answer
    }

    /// What the figures depend on.
    fn surroundings(&self) -> String {
        let Report { config, plan, paths, .. } = self;
        let amount = match plan.amount {
            Amount::Time(time) => format_duration(time),
            Amount::Count(count) => format!("{} operations", HumanCount(count)),
        };
        format!(
            "cluster {}, {} x {}; path: {}; cores: {}; clock: {:.3} us; warm-up {}, then {amount} a run",
            config.name(),
            config.n(),
            format_size(config.k()),
            told(paths, plan),
            ranges(&cores()),
            us(clock()),
            format_duration(plan.warm_up),
        )
    }

    /// The errors of all runs by kind.
    fn errors(&self) -> BTreeMap<&'static str, Kind> {
        let mut all: BTreeMap<&'static str, Kind> = BTreeMap::new();
        for (word, Kind { count, sentence }) in self.runs.iter().flat_map(|run| &run.tally.errors) {
            all.entry(word).or_insert_with(|| Kind { count: 0, sentence: sentence.clone() }).count += count;
        }
        all
    }
}

fn row(run: &Run, reads_percent: u8) -> Vec<String> {
    let Run { shape: Shape { size_bytes, depth, connections }, tally } = run;
    let latencies = Latencies::of(&tally.latencies_ns);
    let latency =
        |figure: fn(&Latencies) -> f64| latencies.as_ref().map_or_else(|| "-".to_owned(), |l| short(figure(l)));
    let operations_per_s = per_second(tally.operations(), tally);
    vec![
        format_size(*size_bytes),
        depth.to_string(),
        connections.to_string(),
        format!("{reads_percent} %"),
        HumanCount(operations_per_s.round() as u64).to_string(),
        BinaryBytes((operations_per_s * *size_bytes as f64) as u64).to_string(),
        latency(|l| l.p50_us),
        latency(|l| l.p90_us),
        latency(|l| l.p99_us),
        latency(|l| l.p99_9_us),
        latency(|l| l.max_us),
        tally.errors().to_string(),
    ]
}

/// One run with the names that `--json` promises.
#[derive(Debug, Serialize)]
struct Figures {
    size_bytes: u64,
    depth: u32,
    connections: u32,
    reads_percent: u8,
    complete: bool,
    elapsed_us: f64,
    operations: u64,
    reads: u64,
    writes: u64,
    warm_up_operations: u64,
    operations_per_s: f64,
    bytes_per_s: f64,
    /// Null when nothing succeeded.
    latency: Option<Latencies>,
    errors: u64,
    errors_by_kind: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Latencies {
    min_us: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    max_us: f64,
}

fn figures(Run { shape, tally }: &Run, reads_percent: u8) -> Figures {
    let Shape { size_bytes, depth, connections } = *shape;
    let operations_per_s = per_second(tally.operations(), tally);
    let kind =
        |(word, Kind { count, sentence }): (&&str, &Kind)| json!({"kind": word, "count": count, "first": sentence});
    Figures {
        size_bytes,
        depth,
        connections,
        reads_percent,
        complete: tally.is_complete,
        elapsed_us: us(tally.elapsed()),
        operations: tally.operations(),
        reads: tally.reads,
        writes: tally.writes,
        warm_up_operations: tally.warm_up_operations,
        operations_per_s,
        bytes_per_s: operations_per_s * size_bytes as f64,
        latency: Latencies::of(&tally.latencies_ns),
        errors: tally.errors(),
        errors_by_kind: tally.errors.iter().map(kind).collect(),
    }
}

impl Latencies {
    fn of(latencies_ns: &Histogram<u64>) -> Option<Latencies> {
        let us = |ns: u64| ns as f64 / 1e3;
        let quantile = |quantile: f64| us(latencies_ns.value_at_quantile(quantile));
        (!latencies_ns.is_empty()).then(|| Latencies {
            min_us: us(latencies_ns.min()),
            mean_us: latencies_ns.mean() / 1e3,
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p99_9_us: quantile(0.999),
            max_us: us(latencies_ns.max()),
        })
    }
}

fn per_second(count: u64, tally: &Tally) -> f64 {
    let s = tally.elapsed().as_secs_f64();
    if s > 0.0 { count as f64 / s } else { 0.0 }
}

fn us(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// Three digits, or all that stand before the point.
fn short(us: f64) -> String {
    match us {
        ..10.0 => format!("{us:.2}"),
        ..100.0 => format!("{us:.1}"),
        _ => HumanCount(us.round() as u64).to_string(),
    }
}
