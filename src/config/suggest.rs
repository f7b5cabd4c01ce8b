//! Suggestions for unknown directives.

use super::error::Reason;
use super::schema::{BlockKind, Row};
use super::table;

/// Returns the message for an unknown directive: the block where it belongs if it is known elsewhere, else a similar
/// name.
pub(super) fn unknown(block: BlockKind, name: &str) -> Reason {
    let elsewhere: Vec<_> = table::all().filter(|row| row.name == name).map(|row| row.block.phrase()).collect();
    if !elsewhere.is_empty() {
        return Reason::Misplaced { name: name.to_owned(), right: elsewhere.join(" or "), wrong: block.phrase() };
    }
    let here = most_similar(name, |row| row.block == block).map(|row| format!("did you mean \"{}\"?", row.name));
    let hint = here
        .or_else(|| {
            most_similar(name, |_| true).map(|row| format!("did you mean \"{}\" {}?", row.name, row.block.phrase()))
        })
        .unwrap_or_else(|| "conf/full.conf lists all directives".to_owned());
    Reason::Unknown { name: name.to_owned(), block: block.phrase(), hint }
}

/// Returns the known name with the smallest edit distance, if that is at most one change per three letters.
fn most_similar(name: &str, among: impl Fn(&Row) -> bool) -> Option<&'static Row> {
    let limit = |row: &Row| (row.name.len() / 3).max(1);
    // Compares lengths first, so that a hostile name of a megabyte costs nothing.
    let alike = table::all().filter(|row| among(row) && row.name.len().abs_diff(name.len()) <= limit(row));
    let rated = alike.map(|row| (distance(&name.to_ascii_lowercase(), row.name), row));
    rated.filter(|(d, row)| *d <= limit(row)).min_by_key(|(d, _)| *d).map(|(_, row)| row)
}

/// Returns the number of insertions, removals, replacements and swaps of neighbours that lead from `a` to `b` (optimal
/// string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_changes() {
        for (a, b, d) in [
            ("", "abc", 3),
            ("gop_cach", "gop_cache", 1),
            ("lisetn", "listen", 1),
            ("abc", "abc", 0),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }
}
