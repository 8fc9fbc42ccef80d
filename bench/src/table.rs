//! Tables of results, for a terminal and for Markdown: a wide one with every system beside the
//! others, and a long one with everything that is known of each.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::memory::MEMCPY;
use crate::result::{CaseResult, Row, Unit};
use crate::snapshot::COPY;
use crate::{mcomp, raw};

/// Words in rows and columns. The first row is the head.
pub(crate) type Grid = Vec<Vec<String>>;

/// One row per case and one column per system: the median, and its ratio to the raw row.
pub(crate) fn wide(results: &[&CaseResult]) -> Grid {
    let mut systems: Vec<&str> = Vec::new();
    for row in results.iter().flat_map(|result| &result.rows) {
        if !systems.contains(&row.system.as_str()) {
            systems.push(&row.system);
        }
    }
    // The limits first, then mcomp, then the peers as they were measured.
    systems.sort_by_key(|system| match system {
        limit if limit.starts_with(raw::NAME) || [MEMCPY, COPY].contains(limit) => 0,
        ours if ours.starts_with(mcomp::NAME) => 1,
        _ => 2,
    });
    let head = std::iter::once("case").chain(systems.iter().copied()).map(str::to_owned).collect();
    let line = |result: &&CaseResult| {
        let cell = |system: &&str| result.row(system).map_or_else(|| "-".to_owned(), cell_of);
        std::iter::once(format!("{} ({})", result.title, result.unit.word())).chain(systems.iter().map(cell)).collect()
    };
    std::iter::once(head).chain(results.iter().map(line)).collect()
}

fn cell_of(row: &Row) -> String {
    let mut median = number(row.median);
    if row.remark.is_some() {
        median.push_str(" (see below)");
    }
    match (row.ratio, &row.baseline) {
        (Some(ratio), Some(baseline)) if *baseline != row.system => format!("{median} ({ratio:.2}x)"),
        _ => median,
    }
}

/// One row per case and system: median, spread, tail, ratio, server CPU.
pub(crate) fn long(results: &[&CaseResult]) -> Grid {
    let head = ["case", "system", "median", "rounds", "p99 us", "ratio", "server CPU us/op"];
    let mut grid = vec![head.map(str::to_owned).to_vec()];
    for result in results {
        for row in &result.rows {
            let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let remark = row.remark.as_ref().map_or_else(String::new, |remark| format!(" ({remark})"));
            grid.push(vec![
                result.title.clone(),
                row.system.clone(),
                with_unit(row.median, result.unit) + &remark,
                format!("{} .. {}", number(row.min), number(row.max)),
                optional(row.p99_us),
                ratio,
                optional(row.server_us),
            ]);
        }
    }
    grid
}

/// For a terminal.
pub(crate) fn text(grid: &Grid) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    let mut rows = grid.iter();
    if let Some(head) = rows.next() {
        table.set_header(head);
    }
    for row in rows {
        table.add_row(row.iter().enumerate().map(|(index, word)| {
            let is_number = word.starts_with(|first: char| first.is_ascii_digit() || first == '-');
            let right = index > 1 && is_number;
            Cell::new(word).set_alignment(if right { CellAlignment::Right } else { CellAlignment::Left })
        }));
    }
    table.to_string()
}

/// For a document.
pub(crate) fn markdown(grid: &Grid) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let Some((head, rows)) = grid.split_first() else { return String::new() };
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    line(head) + &rule + &rows.iter().map(line).collect::<String>()
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn with_unit(value: f64, unit: Unit) -> String {
    format!("{} {}", number(value), unit.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        assert_eq!([0.5, 4.917, 43.21, 1160.4].map(number), ["0.50", "4.92", "43.2", "1160"]);
    }

    #[test]
    fn markdown_has_a_rule_below_its_head() {
        let grid = vec![vec!["a".to_owned(), "b".to_owned()], vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(markdown(&grid), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
