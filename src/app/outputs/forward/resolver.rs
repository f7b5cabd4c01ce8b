//! Resolves the host names of targets: few at a time, and once for forwarders that ask for the same name together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::semaphore::FairSemaphore;
use crate::st::{self, Shared};

/// Look-ups at a time: they wait on the four threads for blocking work, which TLS handshakes and files for HTTP need too.
const MAX_LOOKUPS: usize = 2;

/// Time for which an answer is reused. It is shorter than the shortest delay before a target is tried again.
const ANSWER_LIFETIME: Duration = Duration::from_secs(1);

pub(super) type Addresses = Result<Vec<SocketAddr>, String>;

pub(super) struct Resolver {
    pub(super) lookups: FairSemaphore,
    answers: Shared<HashMap<String, (Instant, Addresses)>>,
}

impl Resolver {
    pub(super) fn new() -> Self {
        Self { lookups: FairSemaphore::new(MAX_LOOKUPS), answers: Shared::default() }
    }

    /// Returns the target's addresses from a recent answer, or from `look_up`. The caller must hold a permit.
    pub(super) fn resolve(&self, target: &str, look_up: impl FnOnce() -> Addresses) -> Addresses {
        let recent = self.answers.with(|answers| {
            answers.retain(|_, (answered, _)| st::now().duration_since(*answered) < ANSWER_LIFETIME);
            answers.get(target).map(|(_, addresses)| addresses.clone())
        });
        recent.unwrap_or_else(|| {
            let addresses = look_up();
            self.answers.with(|answers| answers.insert(target.to_owned(), (st::now(), addresses.clone())));
            addresses
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarders_that_ask_together_get_the_same_answer() {
        let resolver = Resolver::new();
        let address = SocketAddr::from(([192, 0, 2, 1], 1935));
        assert_eq!(resolver.resolve("a:1935", || Ok(vec![address])), Ok(vec![address]));
        assert_eq!(resolver.resolve("a:1935", || panic!("it was asked just now")), Ok(vec![address]));
        assert_eq!(resolver.resolve("b:1935", || Err("no such name".into())), Err("no such name".into()));
        assert_eq!(resolver.resolve("b:1935", || panic!("a failure is an answer")), Err("no such name".into()));
        resolver.answers.with(|answers| answers.values_mut().for_each(|(answered, _)| *answered -= ANSWER_LIFETIME));
        assert_eq!(resolver.resolve("a:1935", || Ok(vec![])), Ok(vec![]), "it may have changed");
        assert_eq!(resolver.answers.with(|answers| answers.len()), 1);
    }
}
