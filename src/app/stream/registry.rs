//! The streams of the server, by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Source, StreamSummary};
use crate::config::{Config, Vhost};
use crate::memory::MemoryTracker;
use crate::st::{self, Cond, Shared};

/// Time for which a stream without publisher and players is kept, for a publisher that comes back.
const KEEP_IDLE: Duration = Duration::from_secs(10);

/// Streams from which on idle ones are removed before [`KEEP_IDLE`]: a client that requests name after name must not
/// fill the memory.
const MAX_IDLE: usize = 4096;

/// Interval of the sweeper while there are streams.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// All streams. A stream is not removed while a [`Source`] of it exists, so all clients that ask for a name share one
/// stream.
#[derive(Clone, Default)]
pub struct StreamRegistry {
    by_name: Shared<HashMap<String, Source>>,
    added: Arc<Cond>,
    memory: MemoryTracker,
}

impl StreamRegistry {
    /// Creates an empty registry. The memory of its streams is charged to `memory`.
    pub fn new(memory: MemoryTracker) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Returns the stream `name` (vhost/app/stream), and creates it if there is none.
    pub fn get_or_create(&self, name: &str, vhost: &Arc<Vhost>) -> Source {
        self.by_name.with(|sources| {
            if let Some(source) = sources.get(name) {
                return source.clone();
            }
            // Only when the count has doubled, not for each new name.
            if sources.len() >= MAX_IDLE && sources.len().is_power_of_two() {
                sources.retain(|_, source| !source.is_idle_for(Duration::ZERO));
            }
            let source = Source::new(name, vhost.clone(), &self.memory);
            sources.insert(name.to_owned(), source.clone());
            self.added.signal();
            source
        })
    }

    /// Returns the streams that are published now, sorted by name.
    pub fn published(&self) -> Vec<StreamSummary> {
        let mut all: Vec<_> = self.by_name.with(|sources| sources.values().filter_map(Source::published).collect());
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Returns all streams.
    pub fn all(&self) -> Vec<Source> {
        self.by_name.with(|sources| sources.values().cloned().collect())
    }

    /// Applies a new configuration. Streams of a vhost that was removed keep their settings until their clients have
    /// left.
    pub fn reconfigure(&self, config: &Config) {
        self.by_name.with(|sources| {
            for source in sources.values() {
                if let Some(vhost) = config.vhosts.get(&source.vhost_name()) {
                    source.set_vhost(vhost);
                }
            }
        });
    }

    /// Ends all publications and tells the players at once.
    pub fn unpublish_all(&self) {
        self.all().iter().for_each(Source::unpublish);
    }

    /// Returns the number of streams.
    pub fn len(&self) -> usize {
        self.by_name.with(|sources| sources.len())
    }

    /// Returns whether there is no stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs forever: removes streams that are idle, and tells players whose publisher has not come back. Sleeps while
    /// there is no stream.
    pub fn run_sweeper(&self) {
        loop {
            while self.is_empty() {
                self.added.wait();
            }
            st::sleep(SWEEP_INTERVAL);
            let now = Instant::now();
            self.by_name.with(|sources| sources.values().for_each(|source| source.notify_unpublished_if_due(now)));
            self.remove_idle(KEEP_IDLE);
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

    struct IgnoringClient;
    impl super::super::ClientHandle for IgnoringClient {
        fn try_write(&self, _: &[u8]) -> std::io::Result<usize> {
            Ok(0)
        }
        fn wake(&self) {}
        fn close(&self, _: crate::app::CloseReason) {}
    }

    #[test]
    fn a_stream_that_is_held_is_never_removed() {
        let config = Config::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap();
        let vhost = config.vhost("x").unwrap();
        let sources = StreamRegistry::new(MemoryTracker::default());
        let held = sources.get_or_create("v/live/held", vhost);
        let idle = sources.get_or_create("v/live/idle", vhost);
        let publication = idle.acquire_publish(1, Arc::new(IgnoringClient)).unwrap();
        let published = sources.published();
        assert_eq!(published.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["v/live/idle"]);
        drop(publication);
        assert_eq!(sources.published().len(), 0);
        drop(idle);
        sources.get_or_create("v/live/never", vhost);
        assert_eq!(sources.len(), 3);
        sources.remove_idle(Duration::from_secs(60));
        assert_eq!(sources.len(), 2, "idle, but not for long; and one that was never published is gone");
        sources.remove_idle(Duration::ZERO);
        assert_eq!(sources.len(), 1);
        drop(held);
        sources.remove_idle(Duration::ZERO);
        assert!(sources.is_empty());
    }
}
