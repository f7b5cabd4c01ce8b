//! The clients that backends are asked about from time to time, and when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::session::info::ClientInfo;
use crate::st::{self, Cond, Shared};

#[derive(Clone, Default)]
pub(super) struct RecheckSchedule {
    pub(super) clients: Shared<HashMap<u64, WatchedClient>>,
    pub(super) running: Shared<usize>,
    pub(super) added: Arc<Cond>,
}

pub(super) struct WatchedClient {
    client: Arc<ClientInfo>,
    since: Instant,
    interval: Duration,
    next: Instant,
}

impl RecheckSchedule {
    pub(super) fn add(&self, client: &Arc<ClientInfo>, interval: Duration) {
        let since = st::now();
        let watched = WatchedClient { client: client.clone(), since, interval, next: since + interval };
        self.clients.with(|clients| clients.insert(client.id, watched));
        self.added.signal();
    }

    /// Removes a client. May be called while a panic unwinds.
    pub(super) fn remove(&self, client: u64) {
        self.clients.try_with(|clients| clients.remove(&client));
    }

    /// Returns at most `max` clients that are due, with the time since they began, and sets their next time.
    pub(super) fn take_due(&self, now: Instant, max: usize) -> Vec<(Arc<ClientInfo>, Duration)> {
        self.clients.with(|clients| {
            let due = clients.values_mut().filter(|watched| watched.next <= now).take(max);
            due.map(|watched| {
                watched.next = now + watched.interval;
                (watched.client.clone(), now - watched.since)
            })
            .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64) -> Arc<ClientInfo> {
        Arc::new(ClientInfo::of_test(id))
    }

    #[test]
    fn each_client_is_due_after_its_interval_again_and_again() {
        let (recheck, start) = (RecheckSchedule::default(), st::now());
        for id in 1..=3 {
            recheck.add(&client(id), Duration::from_secs(10 * id));
        }
        // The clients were added a moment after the start.
        let due = |seconds| {
            let mut due: Vec<_> =
                recheck.take_due(start + Duration::from_secs(seconds), 9).iter().map(|(client, _)| client.id).collect();
            due.sort_unstable();
            due
        };
        assert_eq!((due(9), due(11), due(12)), (vec![], vec![1], vec![]));
        assert_eq!(due(22), [1, 2]);
        recheck.remove(1);
        assert_eq!(due(99), [2, 3]);
        assert_eq!(recheck.take_due(start + Duration::from_secs(500), 1).len(), 1, "no more than there is room for");
    }
}
