//! The addresses of targets, looked up beside the worker: few at a time, and for those who ask for the same target, once for all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::places::Places;
use crate::st::Shared;

/// Look-ups at a time. They wait for name servers on the four threads for blocking work, and handshakes of TLS and files for HTTP need
/// those, too.
const AT_ONCE: usize = 2;

/// For how long an answer is good: that of those who asked meanwhile. It is less than the shortest pause before a target is tried again.
const FRESH: Duration = Duration::from_secs(1);

/// The addresses of a target, or why there are none.
pub(super) type Addresses = Result<Vec<SocketAddr>, String>;

/// All look-ups of the server.
pub(super) struct Lookups {
    /// For who asks, see [`Lookups::ask`]: there is one for each target.
    pub(super) places: Places,
    answers: Shared<HashMap<String, (Instant, Addresses)>>,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self { places: Places::new(AT_ONCE), answers: Shared::default() }
    }

    /// What `look_up` says of a target, unless it has said so just now. Only for who has a place.
    pub(super) fn ask(&self, target: &str, look_up: impl FnOnce() -> Addresses) -> Addresses {
        let known = self.answers.with(|answers| {
            answers.retain(|_, (since, _)| since.elapsed() < FRESH);
            answers.get(target).map(|(_, addresses)| addresses.clone())
        });
        known.unwrap_or_else(|| {
            let addresses = look_up();
            self.answers.with(|answers| answers.insert(target.to_owned(), (Instant::now(), addresses.clone())));
            addresses
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_at_the_same_time_gets_the_same_answer() {
        let lookups = Lookups::new();
        let address = SocketAddr::from(([192, 0, 2, 1], 1935));
        assert_eq!(lookups.ask("a:1935", || Ok(vec![address])), Ok(vec![address]));
        assert_eq!(lookups.ask("a:1935", || panic!("it was asked just now")), Ok(vec![address]));
        assert_eq!(lookups.ask("b:1935", || Err("no such name".into())), Err("no such name".into()));
        assert_eq!(lookups.ask("b:1935", || panic!("a failure is an answer")), Err("no such name".into()));
        lookups.answers.with(|answers| answers.values_mut().for_each(|(since, _)| *since -= FRESH));
        assert_eq!(lookups.ask("a:1935", || Ok(vec![])), Ok(vec![]), "it may have changed");
        assert_eq!(lookups.answers.with(|answers| answers.len()), 1);
    }
}
