//! docs/metrics.md is read here: what it lists is what a server exports, no more and no less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{asked, http, watched};
use crate::harness::Setup;

/// What is known of a metric: its type, its unit and the names of its labels.
type Shape = (String, String, BTreeSet<String>);

/// The metrics of the document, with the meaning of each.
fn documented() -> BTreeMap<String, (Shape, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("docs/metrics.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", name, kind, labels, unit, meaning, ""] = cells[..] else { panic!("{line}") };
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (name.trim_matches('`').to_owned(), ((kind.to_owned(), unit.to_owned(), labels), meaning.to_owned()))
    };
    text.lines().filter(|line| line.starts_with("| `mcomp_")).map(row).collect()
}

/// The metrics of a page, with the help of each.
fn exported(page: &str) -> BTreeMap<String, (Shape, String)> {
    let said = |word: &str, family: &str| {
        let start = format!("# {word} {family} ");
        page.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
    };
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let metric = |family: &str| {
        let kind = said("TYPE", family);
        let name = match kind.as_str() {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => family.to_owned(),
        };
        let is_sample = |line: &&str| {
            let rest = line.strip_prefix(&name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) || rest.starts_with("_bucket"))
        };
        let sample = page.lines().find(is_sample).unwrap_or_else(|| panic!("{name} has no sample\n{page}"));
        let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
        let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        let labels = labels.filter(|label| label != "le").collect();
        (name, ((kind, said("UNIT", family), labels), said("HELP", family)))
    };
    families.map(metric).collect()
}

#[test]
fn the_document_lists_what_is_exported() {
    let mut cluster = watched(Setup::new(1, "64KiB"));
    cluster.start_server(0);
    let (status, head, page) = asked(&http(&cluster, 0), "GET", "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    let (documented, exported) = (documented(), exported(&page));
    let names = |metrics: &BTreeMap<String, (Shape, String)>| metrics.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&documented), names(&exported));
    for (name, (shape, meaning)) in &documented {
        let (is, help) = &exported[name];
        assert_eq!(shape, is, "{name}");
        assert!(!help.is_empty() && meaning.starts_with(help.as_str()), "{name}: {meaning:?} is not {help:?}");
    }
}
