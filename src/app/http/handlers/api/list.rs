//! Lists in pages: `start` and `count` are exact, and `total` counts what the filters let through.

use std::time::Duration;

use serde::Serialize;

use crate::app::limits::fairness::TimeSlice;
use crate::http::uri::Query;

/// Items of a page without `count`, and at most.
const DEFAULT_COUNT: usize = 1000;
const MAX_COUNT: usize = 10_000;

/// Longest time without a yield.
const TIME_SLICE: Duration = Duration::from_millis(1);

/// The part of a list that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    start: usize,
    count: usize,
}

/// A list that is being written.
pub(super) struct List {
    page: Page,
    json: String,
    listed: usize,
    total: usize,
    slice: TimeSlice,
}

impl Page {
    /// Reads `start` and `count`. What is no number counts as absent.
    pub(super) fn read(query: &Query) -> Self {
        let number = |name| query.get(name).and_then(|value| value.parse::<usize>().ok());
        Self {
            start: number("start").unwrap_or(0),
            count: number("count").unwrap_or(DEFAULT_COUNT).clamp(1, MAX_COUNT),
        }
    }
}

impl Page {
    pub(super) fn all() -> Self {
        Self { start: 0, count: usize::MAX }
    }
}

impl List {
    pub(super) fn new(page: Page) -> Self {
        Self { page, json: "[".to_owned(), listed: 0, total: 0, slice: TimeSlice::new(TIME_SLICE) }
    }

    /// Counts an item, and writes it if it is on the page. May yield.
    pub(super) fn push<T: Serialize>(&mut self, item: impl FnOnce() -> T) {
        self.total += 1;
        if self.total > self.page.start && self.listed < self.page.count {
            if self.listed > 0 {
                self.json.push(',');
            }
            self.listed += 1;
            // Structures of numbers and texts always have a JSON form.
            self.json.push_str(&serde_json::to_string(&item()).unwrap_or_else(|_| "null".to_owned()));
        }
        self.slice.yield_if_used_up();
    }

    /// Returns the number of items of all pages.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn finish(mut self) -> String {
        self.json.push(']');
        self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::st;

    #[test]
    fn pages_are_exact() {
        st::run(|| {
            for (query, expected) in [
                ("", "[0,1,2,3,4]"),
                ("count=1", "[0]"),
                ("start=2&count=2", "[2,3]"),
                ("start=4", "[4]"),
                ("start=5", "[]"),
                ("count=0", "[0]"),
                ("count=x&start=-1", "[0,1,2,3,4]"),
                ("count=99999999999999999999", "[0,1,2,3,4]"),
            ] {
                let mut list = List::new(Page::read(&Query::from(query)));
                (0..5).for_each(|n| list.push(|| n));
                assert_eq!((list.total(), list.finish().as_str()), (5, expected), "{query}");
            }
        })
        .unwrap();
    }
}
