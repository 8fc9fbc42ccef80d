//! "Did you mean": the known word nearest to one that nobody knows.

/// The candidate that a few slips of the fingers away from `word` would give, if any.
///
/// A third of the letters may differ, and never all of them: `every` is near `evry`, `q` not `k`.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, candidate)| is_near(*slips, candidate.chars().count()))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

fn is_near(slips: usize, letters: usize) -> bool {
    slips < letters && slips <= (letters / 3).max(1)
}

/// Letters to insert, remove or replace, and neighbours to exchange, to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        for (a, b, slips) in [
            ("", "", 0),
            ("every", "every", 0),
            ("evry", "every", 1),
            ("eveyr", "every", 1),
            ("", "keep", 4),
            ("level", "keep", 3),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let keys = ["k", "n", "name", "replicas"];
        assert_eq!(nearest("replica", keys), Some("replicas"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("password", keys), None);
        assert_eq!(nearest("q", keys), None);
    }
}
