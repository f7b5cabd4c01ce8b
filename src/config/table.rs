//! The table of all directives: the only place with their ranges, defaults, reload effects and descriptions.

use super::schema::{BlockKind, Row};
use super::srs;

mod hooks;
mod http;
mod outputs;
mod row;
mod server;
mod transcode;
mod vhost;

/// The parts of the table. Within a block, their order is that of the reference.
static PARTS: [&[Row]; 6] = [server::ROWS, http::ROWS, vhost::ROWS, outputs::ROWS, hooks::ROWS, transcode::ROWS];

/// Names of root directives in other versions, and their names here.
pub(super) const ALIASES: &[(&str, &str)] = &[("http_stream", "http_server")];

/// Returns the rows of all directives of this server.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    PARTS.iter().copied().flatten()
}

/// Returns the row of a directive in a block.
pub(super) fn find(block: BlockKind, name: &str) -> Option<&'static Row> {
    rows(block).find(|row| row.name == name)
}

/// Returns the place of a row in the table.
pub(super) fn index(row: &'static Row) -> usize {
    all().take_while(|other| !std::ptr::eq(*other, row)).count()
}

/// Returns the rows of a block, in the order of the table.
pub(super) fn rows(block: BlockKind) -> impl Iterator<Item = &'static Row> {
    all().chain(srs::rows()).filter(move |row| row.block == block)
}

#[cfg(test)]
mod tests {
    use super::super::schema::Shape;
    use super::*;

    #[test]
    fn every_default_and_every_example_is_valid() {
        for row in all() {
            if let Shape::Setting { kind, default } | Shape::Either { kind, default, .. } = row.shape {
                let example = row.example();
                let words: Vec<_> = example.trim_end_matches(';').split(' ').skip(1).collect();
                assert!(kind.read(&words).is_ok(), "{example}");
                assert!(default.is_none_or(|d| kind.read(&[d]).is_ok()), "{}", row.name);
            }
        }
    }

    #[test]
    fn names_are_plain_and_stand_once_in_a_block() {
        for row in all() {
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            let same = all().filter(|other| (other.block, other.name) == (row.block, row.name));
            assert_eq!(same.count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn each_row_has_a_reload_effect_and_a_description_of_at_most_three_sentences() {
        for row in all() {
            let is_supported = !matches!(row.shape, Shape::Unsupported);
            assert_eq!(row.reload.is_some(), is_supported && !matches!(row.shape, Shape::Block(_)), "{}", row.name);
            assert!(!row.summary.is_empty() && !row.summary.ends_with('.'), "{}", row.name);
            if is_supported {
                let sentences = row.text.matches(". ").count() + 1;
                assert!(row.text.ends_with('.') && sentences <= 3, "{}: {sentences} sentences", row.name);
            }
        }
    }

    #[test]
    fn rows_keep_their_place() {
        let places: Vec<usize> = all().map(index).collect();
        assert_eq!(places, (0..places.len()).collect::<Vec<_>>());
    }
}
