//! Something that mcomp is meant to reach, and how it is told whether it did in this run. A target whose
//! cases or peers are missing is said to be unmeasured. Which targets there are is in [`crate::judge`].

use std::fmt;

use serde::Serialize;

/// One target and what it was judged by.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) goal: String,
    pub(crate) checks: Vec<Check>,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) found: f64,
    pub(crate) limit: Limit,
}

/// Which side of a number is good.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// Neither: it is shown, and nobody has said how much it should be.
    Shown,
}

impl Check {
    fn is_met(&self) -> bool {
        self.excess() <= 0.0
    }

    /// By what part of the limit it is missed; negative when it is met.
    fn excess(&self) -> f64 {
        match self.limit {
            Limit::AtMost(limit) => self.found / limit - 1.0,
            Limit::AtLeast(limit) => 1.0 - self.found / limit,
            Limit::Shown => f64::NEG_INFINITY,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, limit) = match self.limit {
            Limit::AtMost(limit) => ("at most", limit),
            Limit::AtLeast(limit) => ("at least", limit),
            Limit::Shown => return write!(f, "{}: {:.2}", self.what, self.found),
        };
        write!(f, "{}: {:.2}, {word} {limit:.2} wanted", self.what, self.found)?;
        if !self.is_met() {
            write!(f, " (missed by {:.0} %)", self.excess() * 100.0)?;
        }
        Ok(())
    }
}

impl Target {
    /// An item of a list, with one item below it for each comparison that was missed.
    pub(crate) fn markdown(&self) -> String {
        let missed = self.checks.iter().filter(|check| !check.is_met()).map(|check| format!("  - {check}\n"));
        format!("- {self}\n{}", missed.collect::<String>())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, good) = (self.checks.len(), self.checks.iter().filter(|check| check.is_met()).count());
        let closest = self.checks.iter().max_by(|a, b| a.excess().total_cmp(&b.excess()));
        match closest {
            None => write!(f, "not measured: {}", self.goal),
            Some(Check { limit: Limit::Shown, .. }) => {
                let all: Vec<String> = self.checks.iter().map(Check::to_string).collect();
                write!(f, "shown: {}; {}", self.goal, all.join("; "))
            }
            Some(closest) if good == all => {
                write!(f, "met ({good} of {all}): {}; closest: {closest}", self.goal)
            }
            Some(closest) => {
                write!(f, "MISSED ({good} of {all} met): {}; furthest: {closest}", self.goal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(found: f64, limit: Limit) -> String {
        let check = Check { what: "x".to_owned(), found, limit };
        Target { goal: "g".to_owned(), checks: vec![check] }.to_string()
    }

    #[test]
    fn a_target_says_by_how_much_it_is_missed_if_there_is_a_limit() {
        assert_eq!(target(1.1, Limit::AtMost(1.15)), "met (1 of 1): g; closest: x: 1.10, at most 1.15 wanted");
        assert!(target(1.38, Limit::AtMost(1.15)).ends_with("x: 1.38, at most 1.15 wanted (missed by 20 %)"));
        assert_eq!(target(2.5, Limit::Shown), "shown: g; x: 2.50");
        assert!(target(0.4, Limit::AtLeast(0.8)).ends_with("x: 0.40, at least 0.80 wanted (missed by 50 %)"));
    }
}
