//! The streams of the server, by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Published, Source};
use crate::config::{Config, Vhost};
use crate::memory::Account;
use crate::st::{self, Cond, Shared};

/// How long a stream without publisher and players is kept, for the one that comes back.
const KEEP: Duration = Duration::from_secs(10);

/// How many of those are kept: whoever asks for name after name is not to fill the memory with them.
const MAX_IDLE: usize = 4096;

/// How often streams are looked after, while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// All streams. A stream that anybody holds is never removed, so whoever asks for a name gets the one that the others have.
#[derive(Clone, Default)]
pub struct Sources {
    by_name: Shared<HashMap<String, Source>>,
    added: Arc<Cond>,
    account: Account,
}

impl Sources {
    /// No streams. What they will hold counts in this account.
    pub fn new(account: Account) -> Self {
        Self { account, ..Self::default() }
    }

    /// The stream of this name (vhost/app/stream), made if there is none.
    pub fn get(&self, name: &str, vhost: &Arc<Vhost>) -> Source {
        self.by_name.with(|sources| {
            if let Some(source) = sources.get(name) {
                return source.clone();
            }
            // Each time that there are twice as many, so that it is not done for each name.
            if sources.len() >= MAX_IDLE && sources.len().is_power_of_two() {
                sources.retain(|_, source| !source.is_idle_for(Duration::ZERO));
            }
            let source = Source::new(name, vhost.clone(), &self.account);
            sources.insert(name.to_owned(), source.clone());
            self.added.signal();
            source
        })
    }

    /// Those that are being published now, by name.
    pub fn published(&self) -> Vec<Published> {
        let mut all: Vec<_> = self.by_name.with(|sources| sources.values().filter_map(Source::published).collect());
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All streams.
    pub fn all(&self) -> Vec<Source> {
        self.by_name.with(|sources| sources.values().cloned().collect())
    }

    /// Puts the settings of a new configuration in force. Streams of vhosts that it does not have keep theirs, until their clients
    /// are gone.
    pub fn configure(&self, config: &Config) {
        self.by_name.with(|sources| {
            for source in sources.values() {
                if let Some(vhost) = config.vhosts.get(&source.vhost_name()) {
                    source.set_vhost(vhost);
                }
            }
        });
    }

    /// Ends each publication, and tells the players, as when the publishers had said so.
    pub fn end_all(&self) {
        self.all().iter().for_each(Source::end);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.with(|sources| sources.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks after the streams, for ever: removes those that have been idle for long, tells players whose publisher is not
    /// coming back. Sleeps while there are no streams.
    pub fn sweep(&self) {
        loop {
            while self.is_empty() {
                self.added.wait();
            }
            st::sleep(SWEEP);
            let now = Instant::now();
            self.by_name.with(|sources| sources.values().for_each(|source| source.tell_loss_due(now)));
            self.remove_idle(KEEP);
            if self.is_empty() {
                // Nobody is here to be kept waiting. What a busy hour took is not to stay with an idle server.
                if let Err(error) = st::offload(st::trim_heap) {
                    log::debug!("the heap keeps what it has: {error}");
                }
            }
        }
    }

    fn remove_idle(&self, time: Duration) {
        self.by_name.with(|sources| {
            sources.retain(|_, source| !source.is_idle_for(time));
            sources.shrink_to(2 * sources.len());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;
    impl super::super::Outlet for Nobody {
        fn offer(&self, _: &[u8]) -> std::io::Result<usize> {
            Ok(0)
        }
        fn wake(&self) {}
        fn close(&self, _: crate::app::CloseReason) {}
    }

    #[test]
    fn a_stream_that_is_held_is_never_removed() {
        let config = Config::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap();
        let vhost = config.vhost("x").unwrap();
        let sources = Sources::new(Account::default());
        let held = sources.get("v/live/held", vhost);
        let idle = sources.get("v/live/idle", vhost);
        let publication = idle.acquire_publish(1, Arc::new(Nobody)).unwrap();
        let published = sources.published();
        assert_eq!(published.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["v/live/idle"]);
        drop(publication);
        assert_eq!(sources.published().len(), 0);
        drop(idle);
        sources.get("v/live/never", vhost);
        assert_eq!(sources.len(), 3);
        sources.remove_idle(Duration::from_secs(60));
        assert_eq!(sources.len(), 2, "idle, but not for long; and one that was never published is gone");
        sources.remove_idle(Duration::ZERO);
        assert_eq!(sources.len(), 1);
        drop(held);
        sources.remove_idle(Duration::ZERO);
        assert!(sources.is_empty());
    }

    #[test]
    fn what_a_lost_coroutine_held_is_released() {
        let config = Config::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap();
        let vhost = config.vhost("x").unwrap();
        let sources = Sources::new(Account::default());
        let source = sources.get("v/live/s", vhost);
        let publication = source.acquire_publish(1, Arc::new(Nobody)).ok().unwrap();
        let consumer = source.join(Arc::new(Nobody), 1);
        drop(source);
        publication.abandon();
        consumer.abandon();
        // Its frames are never dropped.
        std::mem::forget((publication, consumer));
        let source = sources.get("v/live/s", vhost);
        assert!(source.acquire_publish(2, Arc::new(Nobody)).is_ok(), "the name is free");
        drop(source);
        sources.remove_idle(Duration::ZERO);
        assert!(sources.is_empty(), "and nobody holds the stream");
    }
}
