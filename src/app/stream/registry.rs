//! The streams of the server, by name.

use std::collections::BTreeMap;
#[cfg(feature = "http")]
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use super::source::{Source, StreamObserver};
use crate::codec::flv;
use crate::config::{Config, Vhost};
use crate::memory::MemoryTracker;
use crate::st::{self, Cond, Shared};

/// Time for which a stream without publisher and players is kept, for a publisher that comes back.
const KEEP_IDLE: Duration = Duration::from_secs(10);

/// Streams above which idle ones go before [`KEEP_IDLE`]: a client that asks for name after name must not fill the memory.
const MAX_IDLE: usize = 4096;

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct StreamSummary {
    /// Full name: vhost/app/stream.
    pub name: String,
    pub video: Option<flv::VideoCodec>,
    pub audio: Option<flv::AudioCodec>,
    pub players: usize,
}

/// All streams. A stream is not removed while a [`Source`] of it exists, so all clients that ask for a name share one stream.
#[derive(Clone)]
pub struct StreamRegistry {
    by_name: Shared<BTreeMap<String, Source>>,
    added: Arc<Cond>,
    memory: MemoryTracker,
    observer: Arc<dyn StreamObserver>,
}

impl StreamRegistry {
    /// Creates an empty registry. The memory of its streams is charged to `memory`, and their events are reported to `observer`.
    pub fn new(memory: MemoryTracker, observer: Arc<dyn StreamObserver>) -> Self {
        Self { by_name: Shared::default(), added: Arc::default(), memory, observer }
    }

    /// Returns the stream `name` (vhost/app/stream), and creates it if there is none.
    pub fn get_or_create(&self, name: &str, vhost: &Arc<Vhost>) -> Source {
        let (source, removed) = self.by_name.with(|sources| {
            if let Some(source) = sources.get(name) {
                return (source.clone(), Vec::new());
            }
            // Only when the count has doubled, not for each new name.
            let is_crowded = sources.len() >= MAX_IDLE && sources.len().is_power_of_two();
            let removed = if is_crowded { extract_idle(sources, Duration::ZERO) } else { Vec::new() };
            let source = Source::with_observer(name, vhost.clone(), &self.memory, self.observer.clone());
            sources.insert(name.to_owned(), source.clone());
            self.added.signal();
            (source, removed)
        });
        // Not before the registry is free: this reports events.
        removed.iter().for_each(Source::end_removed);
        source
    }

    /// Returns the streams that are published now, sorted by name.
    pub fn published(&self) -> Vec<StreamSummary> {
        self.by_name.with(|sources| sources.values().filter_map(Source::published).collect())
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) fn find(&self, name: &str) -> Option<Source> {
        self.by_name.with(|sources| sources.get(name).cloned())
    }

    /// Returns the first streams, `max` at most, whose names come after `name`.
    #[cfg(feature = "http")]
    pub(crate) fn after(&self, name: &str, max: usize) -> Vec<Source> {
        let range = (Excluded(name), Unbounded);
        self.by_name
            .with(|sources| sources.range::<str, _>(range).take(max).map(|(_, source)| source.clone()).collect())
    }

    pub fn all(&self) -> Vec<Source> {
        self.by_name.with(|sources| sources.values().cloned().collect())
    }

    /// Applies a new configuration. Streams of a vhost that was removed keep their settings until their clients have left.
    pub fn reconfigure(&self, config: &Config) {
        self.by_name.with(|sources| {
            for source in sources.values() {
                if let Some(vhost) = config.vhosts.get(&source.vhost_name()) {
                    source.set_vhost(vhost);
                }
            }
        });
    }

    /// Ends all publications because the server stops, and tells the players at once.
    pub fn unpublish_all(&self) {
        self.all().iter().for_each(Source::shut_down);
    }

    pub fn len(&self) -> usize {
        self.by_name.with(|sources| sources.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes idle streams, and tells players whose publisher has not come back, forever. Sleeps while there is no stream.
    pub fn run_sweeper(&self) {
        loop {
            while self.is_empty() {
                self.added.wait();
            }
            st::sleep(SWEEP_INTERVAL);
            let now = st::now();
            self.all().iter().for_each(|source| source.notify_unpublished_if_due(now));
            self.remove_idle(KEEP_IDLE);
        }
    }

    pub(super) fn remove_idle(&self, time: Duration) {
        let removed = self.by_name.with(|sources| extract_idle(sources, time));
        // Not before the registry is free: this reports events.
        removed.iter().for_each(Source::end_removed);
    }
}

impl Source {
    fn published(&self) -> Option<StreamSummary> {
        self.with(|state| {
            let publisher = state.publisher.as_ref()?;
            Some(StreamSummary {
                name: state.name.clone(),
                video: publisher.codecs.video,
                audio: publisher.codecs.audio,
                players: state.subscribers.iter().flatten().filter(|subscriber| subscriber.is_viewer()).count(),
            })
        })
    }
}

fn extract_idle(sources: &mut BTreeMap<String, Source>, time: Duration) -> Vec<Source> {
    sources.extract_if(.., |_, source| source.is_idle_for(time)).map(|(_, source)| source).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Socket, acquire};
    use super::*;

    #[test]
    fn a_stream_that_is_held_is_never_removed() {
        let config = Config::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap();
        let vhost = config.vhost("x").unwrap();
        let sources = StreamRegistry::new(MemoryTracker::default(), Arc::new(()));
        let held = sources.get_or_create("v/live/held", vhost);
        let idle = sources.get_or_create("v/live/idle", vhost);
        let publication = acquire(&idle, 1, Socket::new(0)).unwrap();
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
