//! What was found: medians over the rounds, with their spread and their ratio to a raw row.

use serde::Serialize;

use crate::case::Group;
use crate::measure::Sample;
use crate::placement::Placement;

/// What the value of a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "thousand operations/s")]
    KiloOperations,
    #[serde(rename = "GB/s")]
    GigabytesPerSecond,
    #[serde(rename = "KiB")]
    Kibibytes,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "connections")]
    Connections,
}

impl Unit {
    /// How it is written behind a number.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Unit::Microseconds => "us",
            Unit::Nanoseconds => "ns",
            Unit::KiloOperations => "k/s",
            Unit::GigabytesPerSecond => "GB/s",
            Unit::Kibibytes => "KiB",
            Unit::Mebibytes => "MiB",
            Unit::Milliseconds => "ms",
            Unit::Connections => "connections",
        }
    }
}

/// One case with all its systems.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseResult {
    pub(crate) group: Group,
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) placement: Placement,
    pub(crate) unit: Unit,
    pub(crate) rows: Vec<Row>,
}

/// One system in one case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) system: String,
    /// The median over the rounds.
    pub(crate) median: f64,
    /// The smallest and the largest of the rounds.
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) p99_us: Option<f64>,
    /// Server CPU for one operation.
    pub(crate) server_us: Option<f64>,
    /// The row that it is compared with, and its value over that row's.
    pub(crate) baseline: Option<String>,
    pub(crate) ratio: Option<f64>,
    /// Why the value is less than was asked for.
    pub(crate) remark: Option<String>,
}

impl Row {
    /// The medians of the rounds of one system. There is at least one round.
    pub(crate) fn of(system: String, samples: &[Sample]) -> Row {
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        let optional = |pick: fn(&Sample) -> Option<f64>| {
            let found: Vec<f64> = samples.iter().filter_map(pick).collect();
            (!found.is_empty()).then(|| median(found))
        };
        Row {
            system,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(values),
            p99_us: optional(|sample| sample.p99_us),
            server_us: optional(|sample| sample.server_us),
            baseline: None,
            ratio: None,
            remark: None,
        }
    }
}

impl CaseResult {
    /// The row of a system.
    pub(crate) fn row(&self, system: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.system == system)
    }

    /// Compares every row that `baseline_of` knows a baseline for.
    pub(crate) fn compare(&mut self, baseline_of: impl Fn(&Row) -> Option<String>) {
        for index in 0..self.rows.len() {
            let baseline = baseline_of(&self.rows[index]);
            let found = baseline.as_ref().and_then(|name| self.row(name)).map(|row| row.median);
            let row = &mut self.rows[index];
            row.ratio = found.filter(|value| *value > 0.0).map(|value| row.median / value);
            row.baseline = baseline.filter(|_| row.ratio.is_some());
        }
    }
}

/// The middle value, or the mean of the two middle ones.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_care_for_outliers() {
        assert_eq!(median(vec![5.0, 1.0, 900.0]), 5.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
    }

    #[test]
    fn a_row_is_compared_with_its_baseline() {
        let row = |system: &str, value| Row::of(system.to_owned(), &[Sample { value, ..Sample::default() }]);
        let mut result = CaseResult {
            group: Group::Trip,
            id: "trip/get-8B".to_owned(),
            title: String::new(),
            placement: Placement::Free,
            unit: Unit::Microseconds,
            rows: vec![row("raw TCP", 4.0), row("mcomp TCP", 5.0), row("mcomp Unix", 5.0)],
        };
        result.compare(|row| Some(if row.system.ends_with("TCP") { "raw TCP" } else { "raw Unix" }.to_owned()));
        assert_eq!(result.rows[1].ratio, Some(1.25));
        assert_eq!((result.rows[2].ratio, &result.rows[2].baseline), (None, &None));
    }
}
