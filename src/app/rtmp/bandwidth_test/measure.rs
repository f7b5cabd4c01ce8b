//! The window of a phase in which bytes count.

use std::time::{Duration, Instant};

use crate::app::session::bandwidth_report::Transfer;

/// Time that a client is told to send, the same as in SRS.
pub(super) const DURATION: Duration = Duration::from_secs(3);

/// Start of a phase that does not count: TCP looks for its rate, and nothing is acknowledged for a round trip.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Window {
    opens: Instant,
    closes: Instant,
    /// Time and bytes at the first update after it opened.
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
    is_closed: bool,
}

impl Window {
    /// Creates the window of a phase in which the server sends, which is longer by the start that does not count.
    pub(super) fn for_sending(started: Instant) -> Self {
        Self::new(started + WARM_UP, started + WARM_UP + DURATION)
    }

    /// Creates the window of a phase in which the client sends for [`DURATION`].
    pub(super) fn for_receiving(started: Instant) -> Self {
        Self::new(started + WARM_UP, started + DURATION)
    }

    fn new(opens: Instant, closes: Instant) -> Self {
        Self { opens, closes, first: None, last: None, is_closed: false }
    }

    /// Records the total of bytes at `now`. Returns whether the window is closed; then totals no longer count.
    pub(super) fn update(&mut self, now: Instant, total: u64) -> bool {
        if !self.is_closed && now >= self.opens {
            let update = Some((now, total));
            self.first = self.first.or(update);
            self.last = update;
            self.is_closed = now >= self.closes;
        }
        self.is_closed
    }

    pub(super) fn end(&mut self, now: Instant, total: u64) {
        self.update(now, total);
        self.is_closed = true;
    }

    /// Returns the next time at which an update matters.
    pub(super) fn next_change(&self) -> Option<Instant> {
        match self.first {
            _ if self.is_closed => None,
            None => Some(self.opens),
            Some(_) => Some(self.closes),
        }
    }

    pub(super) fn transfer(&self) -> Transfer {
        let (Some((from, before)), Some((to, after))) = (self.first, self.last) else { return Transfer::default() };
        let ms = u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX);
        Transfer { bytes: after.saturating_sub(before), ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_within_the_window_count() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::for_sending(start);
        assert_eq!(window.next_change(), Some(at(500)));
        assert!(!window.update(at(0), 10) && !window.update(at(499), 500));
        assert!(!window.update(at(510), 1000), "opens");
        assert_eq!(window.next_change(), Some(at(3500)));
        assert!(!window.update(at(3499), 9000));
        assert!(window.update(at(3510), 376_000), "closes");
        assert!(window.update(at(9999), 999_999) && window.next_change().is_none());
        assert_eq!(window.transfer(), Transfer { bytes: 375_000, ms: 3000 });
        assert_eq!(window.transfer().kbps(), 1000);
    }

    #[test]
    fn a_client_that_ends_early_ends_the_window() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::for_receiving(start);
        window.update(at(500), 1000);
        window.end(at(1500), 126_000);
        assert_eq!((window.transfer().kbps(), window.update(at(2000), 999_999)), (1000, true));
        assert_eq!(window.transfer().ms, 1000);
        let mut none = Window::for_receiving(start);
        none.end(at(100), 5000);
        assert_eq!(none.transfer().kbps(), 0, "nothing came after the start");
    }
}
