//! All findings, for people and for machines.

use serde::Serialize;

use super::finding::{Finding, Level};

/// What all checks have found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing will fail.
    ok: bool,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Report {
        Report { ok: findings.iter().all(|finding| finding.level != Level::Fail), findings }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }

    /// One line for each finding, its fix below it, and the sum at the end. `only_bad` leaves out what needs nobody.
    pub(super) fn text(&self, only_bad: bool) -> String {
        let width = |of: fn(&Finding) -> &'static str| self.findings.iter().map(|one| of(one).len()).max().unwrap_or(0);
        let (level_width, check_width) = (width(|one| one.level.word()), width(|one| one.check));
        let mut text = String::new();
        for finding in self.findings.iter().filter(|finding| !only_bad || finding.fix.is_some()) {
            let Finding { check, level, subject, what, fix } = finding;
            let level = level.word();
            text += &shown(&format!("{level:level_width$}  {check:check_width$}  {subject}: {what}"));
            text.push('\n');
            if let Some(fix) = fix {
                text += &shown(&format!("{:level_width$}  fix: {fix}", ""));
                text.push('\n');
            }
        }
        text + &self.sum()
    }

    fn sum(&self) -> String {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let verdict = match count(Level::Fail) {
            0 => "nothing will fail".to_owned(),
            fails => format!("{} will fail", many(fails, "thing")),
        };
        format!(
            "{verdict}: {}, {} ok, {} skipped",
            many(count(Level::Warn), "warning"),
            count(Level::Ok),
            count(Level::Skipped)
        )
    }
}

/// Names of processes and paths can hold anything, also what would move a terminal's cursor.
fn shown(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::ok("shm", "/dev/shm", "8 GiB free"),
            Finding::warn("clock", "a\x1b[2J", "it stands still", "date -s now"),
            Finding::skipped("reach", "other machines", "there are none"),
        ])
    }

    #[test]
    fn fixes_stand_below_what_they_mend_and_the_sum_at_the_end() {
        let text = "\
ok       shm    /dev/shm: 8 GiB free
warn     clock  a\\u{1b}[2J: it stands still
         fix: date -s now
skipped  reach  other machines: there are none
nothing will fail: 1 warning, 1 ok, 1 skipped";
        assert_eq!(report().text(false), text);
        assert_eq!(report().text(true).lines().count(), 3, "what is bad, its fix, and the sum");
    }

    #[test]
    fn one_failure_is_enough() {
        let mut findings = report().findings;
        assert!(report().is_ok());
        findings.push(Finding::fail("address", "server 0", "taken", "kill 7"));
        let report = Report::new(findings);
        assert!(!report.is_ok());
        assert!(report.text(true).ends_with("\n1 thing will fail: 1 warning, 1 ok, 1 skipped"));
    }

    #[test]
    fn json_has_the_same_fields_in_every_finding() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["ok"], true);
        for (finding, fix) in json["findings"].as_array().unwrap().iter().zip([None, Some("date -s now"), None]) {
            let names: Vec<&String> = finding.as_object().unwrap().keys().collect();
            assert_eq!(names.len(), 5, "{names:?}");
            assert_eq!(finding["fix"].as_str(), fix);
        }
    }
}
