//! Places for what only a few may do at a time, shared out among those whom they call: one who lets callers wait is not to hold up
//! those who call others.
//!
//! Those who call the same one have no more places than are left free for others: of 64, that is 32 for the first who lets them wait, 16
//! for the second, 8 for the third. Where there is room, whoever has waited longest is next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::st::{Cond, Shared};

/// A number of places. Clones are the same.
#[derive(Clone)]
pub(super) struct Places(Shared<State>);

struct State {
    /// Places that there are.
    most: usize,
    taken: usize,
    arrivals: u64,
    /// By number: those who have a place or wait for one.
    callers: HashMap<u64, Caller>,
    /// By whom they call.
    lines: HashMap<String, Line>,
}

struct Caller {
    whom: String,
    arrival: u64,
    has_place: bool,
}

/// Those who call the same one.
#[derive(Default)]
struct Line {
    taken: usize,
    /// By arrival: the number of each, and what to ring when it has a place.
    waiting: BTreeMap<u64, (u64, Arc<Cond>)>,
}

/// A place, or that of one who waits. Dropping it gives it to the next.
pub(super) struct Place {
    places: Places,
    number: u64,
}

impl Places {
    /// So many places.
    pub(super) fn new(most: usize) -> Self {
        let (callers, lines) = (HashMap::new(), HashMap::new());
        Self(Shared::new(State { most, taken: 0, arrivals: 0, callers, lines }))
    }

    /// Waits for a place. `number`: who wants it, and has none here. `None`: it is too late for that; it is asked whenever `bell` rings.
    pub(super) fn take(&self, number: u64, whom: &str, bell: &Arc<Cond>, is_late: impl Fn() -> bool) -> Option<Place> {
        let place = self.line_up(number, whom, bell);
        while !place.is_taken() {
            if is_late() {
                return None;
            }
            bell.wait();
        }
        Some(place)
    }

    /// Gives back the place of one whose [`Place`] is lost.
    pub(super) fn leave(&self, number: u64) {
        drop(Place { places: self.clone(), number });
    }

    fn line_up(&self, number: u64, whom: &str, bell: &Arc<Cond>) -> Place {
        self.0.with(|state| {
            let arrival = state.arrivals;
            state.arrivals += 1;
            state.callers.insert(number, Caller { whom: whom.to_owned(), arrival, has_place: false });
            state.lines.entry(whom.to_owned()).or_default().waiting.insert(arrival, (number, bell.clone()));
            state.share_out();
        });
        Place { places: self.clone(), number }
    }
}

impl Place {
    fn is_taken(&self) -> bool {
        self.places.0.with(|state| state.callers.get(&self.number).is_some_and(|caller| caller.has_place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.places.0.try_with(|state| state.leave(self.number));
    }
}

impl State {
    fn leave(&mut self, number: u64) {
        let Some(Caller { whom, arrival, has_place }) = self.callers.remove(&number) else { return };
        if let Some(line) = self.lines.get_mut(&whom) {
            if has_place {
                line.taken -= 1;
                self.taken -= 1;
            } else {
                line.waiting.remove(&arrival);
            }
            if line.taken == 0 && line.waiting.is_empty() {
                self.lines.remove(&whom);
            }
        }
        self.share_out();
    }

    /// Gives the places that are free to those who wait.
    fn share_out(&mut self) {
        loop {
            let free = self.most - self.taken;
            let is_next = |line: &&mut Line| line.taken < free && !line.waiting.is_empty();
            let arrival = |line: &&mut Line| line.waiting.first_key_value().map(|(&arrival, _)| arrival);
            let Some(line) = self.lines.values_mut().filter(is_next).min_by_key(arrival) else { return };
            let Some((_, (number, bell))) = line.waiting.pop_first() else { return };
            line.taken += 1;
            self.taken += 1;
            if let Some(caller) = self.callers.get_mut(&number) {
                caller.has_place = true;
            }
            bell.signal();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::st;

    fn line_up(places: &Places, number: u64, whom: &str) -> Place {
        places.line_up(number, whom, &Arc::default())
    }

    fn taken(all: &[Place]) -> Vec<u64> {
        all.iter().filter(|place| place.is_taken()).map(|place| place.number).collect()
    }

    #[test]
    fn one_has_no_more_places_than_are_left_for_others() {
        let places = Places::new(8);
        let mut all: Vec<_> = (0..6).map(|number| line_up(&places, number, "a")).collect();
        assert_eq!(taken(&all), [0, 1, 2, 3]);
        all.extend((6..10).map(|number| line_up(&places, number, "b")));
        assert_eq!(taken(&all), [0, 1, 2, 3, 6, 7]);
        all.extend((10..14).map(|number| line_up(&places, number, "c")));
        assert_eq!(taken(&all), [0, 1, 2, 3, 6, 7, 10]);
        all.extend((14..16).map(|number| line_up(&places, number, "d")));
        assert_eq!(taken(&all), [0, 1, 2, 3, 6, 7, 10, 14], "that was the last");
        all.remove(0);
        assert_eq!(taken(&all), [1, 2, 3, 6, 7, 10, 14], "kept for others");
        drop(all);
        assert!(places.0.with(|state| state.taken == 0 && state.callers.is_empty() && state.lines.is_empty()));
    }

    #[test]
    fn whoever_has_waited_longest_is_next_where_there_is_room() {
        let places = Places::new(2);
        let mut all: Vec<_> = ["a", "b", "a", "c", "d", "c"]
            .iter()
            .zip(0..)
            .map(|(whom, number)| line_up(&places, number, whom))
            .collect();
        assert_eq!(taken(&all), [0, 1]);
        all.remove(1);
        assert_eq!(taken(&all), [0, 3], "c: a has one already");
        all.remove(0);
        assert_eq!(taken(&all), [2, 3], "the second of a");
        all.remove(0);
        assert_eq!(taken(&all), [3, 4], "d: c has one already");
    }

    #[test]
    fn who_gives_up_is_passed_over_and_a_lost_place_is_given_back() {
        let places = Places::new(1);
        let mut all: Vec<_> = (0..3).map(|number| line_up(&places, number, "a")).collect();
        drop(all.remove(1));
        std::mem::forget(all.remove(0));
        assert_eq!(taken(&all), []);
        places.leave(0);
        assert_eq!(taken(&all), [2]);
        places.leave(0);
        assert_eq!(taken(&all), [2], "once is enough");
    }

    #[test]
    fn one_who_waits_goes_on_when_it_has_a_place_or_when_it_is_too_late() {
        let waited = st::run(|| {
            let (places, bell) = (Places::new(1), Arc::new(Cond::new()));
            let first = places.take(1, "a", &bell, || false).is_some();
            let held = line_up(&places, 2, "a");
            let (others, other_bell, late) = (places.clone(), bell.clone(), Arc::new(AtomicBool::new(false)));
            let is_late = late.clone();
            let waiting = st::spawn("waits", 0, move || {
                assert!(others.take(3, "a", &other_bell, || is_late.load(Ordering::Relaxed)).is_none());
                is_late.store(false, Ordering::Relaxed);
            });
            st::yield_now();
            let asked = Cell::new(0);
            late.store(true, Ordering::Relaxed);
            bell.signal();
            waiting.unwrap().join();
            let gave_up = !late.load(Ordering::Relaxed);
            drop(held);
            let next = places.take(4, "a", &bell, || asked.replace(asked.get() + 1) > 0).is_some();
            (first, gave_up, next, asked.get())
        });
        assert_eq!(waited.unwrap(), (true, true, true, 0));
    }
}
