//! What the demo tells: one line for each step that was as claimed, or one JSON object at the end.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::output;

/// What a step has found.
#[derive(Debug)]
pub(super) struct Found {
    /// One line for people.
    pub(super) text: String,
    /// More lines, each about a part of it.
    pub(super) details: Vec<String>,
    /// The figures, as a JSON object.
    pub(super) figures: Value,
}

impl Found {
    /// Without details.
    pub(super) fn new(text: String, figures: Value) -> Found {
        Found { text, details: Vec::new(), figures }
    }
}

/// The steps so far.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    began: Instant,
    steps: Vec<Value>,
}

impl Report {
    pub(super) fn new(json: bool) -> Report {
        Report { json, began: Instant::now(), steps: Vec::new() }
    }

    /// Does a step and tells what it found. An error is told with the step it happened in.
    pub(super) fn step(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<Found>,
    ) -> anyhow::Result<()> {
        let (number, began) = (self.steps.len() + 1, Instant::now());
        let found = work().with_context(|| format!("step {number} of the demo ({name}) failed"))?;
        let took = began.elapsed();
        if !self.json {
            output::line(lines(number, name, &found, took))?;
        }
        self.steps.push(entry(number, name, found.figures, took));
        Ok(())
    }

    /// The end of a story that was as claimed.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let took = self.began.elapsed();
        match self.json {
            true => output::json(&json!({ "outcome": "ok", "took_ms": millis(took), "steps": self.steps }))?,
            false => output::line(format_args!("everything was as claimed, in {:.1} s", took.as_secs_f64()))?,
        }
        Ok(())
    }
}

fn lines(number: usize, name: &str, found: &Found, took: Duration) -> String {
    let mut text = format!("✓ {number} {name:<8} {} ({:.2} s)", found.text, took.as_secs_f64());
    found.details.iter().for_each(|detail| text.push_str(&format!("\n             {detail}")));
    text
}

fn entry(number: usize, name: &str, figures: Value, took: Duration) -> Value {
    let mut entry = json!({ "step": number, "name": name, "took_ms": millis(took) });
    if let (Value::Object(entry), Value::Object(figures)) = (&mut entry, figures) {
        entry.extend(figures);
    }
    entry
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Failure, Verdict};

    #[test]
    fn a_step_is_told_with_its_number_its_details_and_its_time() {
        let mut found = Found::new("three servers".into(), json!({ "servers": 3 }));
        found.details.push("server 0".into());
        let text = lines(1, "start", &found, Duration::from_millis(120));
        assert_eq!(text, "✓ 1 start    three servers (0.12 s)\n             server 0");
        let entry = entry(1, "start", found.figures, Duration::from_millis(120));
        assert_eq!(entry, json!({ "step": 1, "name": "start", "took_ms": 120, "servers": 3 }));
    }

    #[test]
    fn a_failure_names_its_step_and_keeps_its_code() {
        let mut report = Report::new(true);
        let error = report.step("store", || Err(Failure::usage("too large").into())).unwrap_err();
        let verdict = Verdict::of(&error);
        assert_eq!(verdict.sentence, "step 1 of the demo (store) failed: too large");
        assert_eq!(verdict.exit.code(), 64);
    }
}
