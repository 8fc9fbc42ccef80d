//! What a run leaves: tables on stdout, a part of a Markdown file, a JSON file.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::case::Group;
use crate::judge::judge;
use crate::machine::Machine;
use crate::result::CaseResult;
use crate::table;
use crate::target::Target;

/// Between these lines the file belongs to this program, and outside of them to people.
const BEGIN: &str = "<!-- mcomp-bench begin: written by scripts/bench-peers -->";
const END: &str = "<!-- mcomp-bench end -->";

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) window_ms: u64,
    pub(crate) notes: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) results: Vec<CaseResult>,
    pub(crate) targets: Vec<Target>,
}

impl Report {
    /// Judges the results.
    pub(crate) fn new(machine: Machine, bench: crate::bench::Bench) -> Report {
        let settings = &bench.settings;
        Report {
            machine,
            rounds: settings.rounds,
            window_ms: settings.window.as_millis() as u64,
            targets: judge(&bench.results),
            notes: bench.notes,
            failures: bench.failures,
            results: bench.results,
        }
    }

    /// For people at a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (group, results) in self.groups() {
            let _ = write!(text, "\n{}\n{}\n", group.title(), table::text(&table::long(&results)));
        }
        text.push_str("\nTargets\n");
        text.extend(self.targets.iter().map(|target| format!("  {target}\n")));
        text.extend(self.notes.iter().map(|note| format!("note: {note}\n")));
        text
    }

    fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, memory_bytes, date, load, command, versions } = &self.machine;
        let gib = memory_bytes >> 30;
        let mut text = format!(
            "Measured {date} on {processor}, {cores} cores, {gib} GiB, {kernel}, with `{command}`: {} rounds of {} ms \
             for each system in each case, all systems in turn, medians of the rounds. The load average was {load} \
             when it began.\n\nSystems: {}.\n",
            self.rounds,
            self.window_ms,
            versions.join("; ")
        );
        text.extend(self.notes.iter().map(|note| format!("\nNote: {note}.\n")));
        text.extend(self.failures.iter().map(|failure| format!("\nFailed: {failure}.\n")));
        text.push_str("\n### Targets\n\n");
        text.extend(self.targets.iter().map(Target::markdown));
        for (group, results) in self.groups() {
            let (wide, long) = (table::markdown(&table::wide(&results)), table::markdown(&table::long(&results)));
            let _ = write!(text, "\n### {}\n\n{wide}", group.title());
            let _ = write!(text, "\n<details><summary>Spread, tails, server CPU</summary>\n\n{long}\n</details>\n");
        }
        text
    }

    fn groups(&self) -> impl Iterator<Item = (Group, Vec<&CaseResult>)> {
        Group::ALL.into_iter().filter_map(|group| {
            let results: Vec<&CaseResult> = self.results.iter().filter(|result| result.group == group).collect();
            (!results.is_empty()).then_some((group, results))
        })
    }

    /// Replaces this program's part of a Markdown file, or makes the file.
    pub(crate) fn write_markdown(&self, path: &Path) -> anyhow::Result<()> {
        let old = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => format!("# Performance\n\n{BEGIN}\n{END}\n"),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let new = replace_part(&old, &self.markdown()).with_context(|| format!("in {}", path.display()))?;
        fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes everything for programs.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report does not become JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Puts `part` between the two marker lines of `text`.
fn replace_part(text: &str, part: &str) -> anyhow::Result<String> {
    let Some((before, rest)) = text.split_once(BEGIN) else {
        bail!("there is no line {BEGIN:?}: add it and {END:?} where the tables belong");
    };
    let Some((_, after)) = rest.split_once(END) else { bail!("there is no line {END:?} after {BEGIN:?}: add it") };
    Ok(format!("{before}{BEGIN}\n{part}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace_part(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replace_part(&new, "new\n").unwrap(), new);
    }

    #[test]
    fn a_file_without_markers_is_left_alone() {
        assert!(replace_part("by hand", "new").is_err());
        assert!(replace_part(&format!("{BEGIN} and no end"), "new").is_err());
    }
}
