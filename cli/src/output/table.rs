//! Tables for people: columns without lines between them, easy to read and to cut.

use comfy_table::{ContentArrangement, Table, presets};

/// A table without a newline at its end, and without blanks at the ends of its lines.
pub(crate) fn table(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_are_trimmed() {
        let rows = [vec!["0".to_owned(), "serving".to_owned()], vec!["10".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "STATE"], rows), "ID  STATE\n0   serving\n10");
    }
}
