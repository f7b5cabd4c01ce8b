//! Lists in pages: `start` and `count` are exact, and `total` counts what the filters let through.

use serde::Serialize;

use super::json::{Object, to_json};
use crate::app::limits::fairness::TimeSlice;
use crate::http::uri::Query;

/// Items of a page without `count`, and at most.
const DEFAULT_COUNT: usize = 1000;
const MAX_COUNT: usize = 10_000;

/// The part of a list that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    start: usize,
    count: usize,
}

pub(super) struct List {
    page: Page,
    answer: Object,
    listed: usize,
    counted: usize,
    others: usize,
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

    pub(super) fn all() -> Self {
        Self { start: 0, count: usize::MAX }
    }

    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Returns the number of items on the page, if there are as many.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl List {
    /// Starts a list as a field of an answer: a copy of a list of megabytes would take milliseconds.
    pub(super) fn new(answer: Object, name: &str, page: Page) -> Self {
        let answer = answer.begin_list(name);
        Self { page, answer, listed: 0, counted: 0, others: 0, slice: TimeSlice::for_report() }
    }

    /// Counts an item. Returns whether it is on the page, and has to be written.
    pub(super) fn count(&mut self) -> bool {
        self.counted += 1;
        self.counted > self.page.start && self.listed < self.page.count
    }

    /// Writes an item, which is JSON. May yield.
    pub(super) fn write(&mut self, item: &str) {
        self.answer.push_item(item);
        self.listed += 1;
        self.slice.yield_if_used_up();
    }

    /// Counts an item, and writes it if it is on the page. May yield.
    pub(super) fn push<T: Serialize>(&mut self, item: impl FnOnce() -> T) {
        if self.count() {
            self.write(&to_json(&item()));
        } else {
            self.slice.yield_if_used_up();
        }
    }

    /// Does the same for an item that a filter may leave out. May yield.
    pub(super) fn push_if<T: Serialize>(&mut self, is_wanted: bool, item: impl FnOnce() -> T) {
        if is_wanted {
            self.push(item);
        } else {
            self.slice.yield_if_used_up();
        }
    }

    /// Adds items to the total that are on no page, or are written without being counted.
    pub(super) fn add_total(&mut self, count: usize) {
        self.others += count;
    }

    /// Ends the list. Returns the answer, and the number of all items.
    pub(super) fn finish(self) -> (Object, usize) {
        (self.answer.end_list(), self.counted + self.others)
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
                let mut list = List::new(Object::new(), "l", Page::read(&Query::from(query)));
                // A filter leaves out the odd ones.
                (0..10).for_each(|n| list.push_if(n % 2 == 0, || n / 2));
                let (answer, total) = list.finish();
                assert_eq!((total, answer.finish()), (5, format!("{{\"l\":{expected}}}")), "{query}");
            }
        })
        .unwrap();
    }
}
