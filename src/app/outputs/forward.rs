//! Forwarding: a stream that is published here is published on other servers, too.
//!
//! A forwarder is to the source what a player is, a place in its backlog, and to its target what an encoder is. It has a coroutine of
//! its own and holds nobody up. It lives as long as players are not told that the stream has ended: a publisher that is back within
//! the vhost's `reconnect_grace` goes on in the same connection to the target, so that the target's players stay as well.

mod connecting;
mod forwarder;
mod lookups;
mod places;
pub(crate) mod route;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use self::forwarder::Forwarder;
use self::lookups::Lookups;
use self::places::Places;
use self::route::Route;
use crate::app::server::Server;
use crate::app::stream::Source;
use crate::config::{Config, Destination, Forward, Names};
use crate::st::Shared;

/// Forwarders of the whole server that are on their way to their targets at a time, half of them to one: a target answers within
/// milliseconds, so that hundreds get there in a second, and whoever publishes one name after the other cannot have it called by more.
const STARTS: usize = 64;

/// What is published, for its forwarders.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) source: Source,
    pub(crate) vhost: String,
    pub(crate) app: String,
    pub(crate) stream: String,
    /// What the publisher gave behind a `?`.
    pub(crate) params: String,
    /// The servers that it came over.
    pub(crate) route: Route,
}

/// A target of one stream. Forwarders of equal ones do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    destination: Destination,
    tls_verify: bool,
    /// The servers that the stream came over, this one included.
    route: Route,
}

/// All forwarders of the server, by stream.
#[derive(Clone)]
pub(crate) struct Forwards {
    streams: Shared<HashMap<String, Stream>>,
    /// For who is on the way to its target.
    starts: Places,
    lookups: Arc<Lookups>,
}

struct Stream {
    feed: Feed,
    /// The client that publishes it now.
    publisher: Option<u64>,
    /// When the last one came or went.
    changed: Instant,
    forwarders: Vec<Arc<Forwarder>>,
}

/// A publication with its forwarders. Dropping it starts no more; those that run end with the stream.
pub(crate) struct Forwarding {
    forwards: Forwards,
    name: String,
    publisher: u64,
}

/// What a forwarder is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// For the stream to begin, for a place among those who connect, or between two attempts.
    #[default]
    Waiting,
    Connecting,
    Sending,
    /// It sends what is left, and says goodbye.
    Ending,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Ending => "ending",
        }
    }
}

impl Default for Forwards {
    fn default() -> Self {
        Self { streams: Shared::default(), starts: Places::new(STARTS), lookups: Arc::new(Lookups::new()) }
    }
}

impl Forwards {
    /// A stream begins to be published by client `publisher`: starts the forwarders of its vhost's targets. Call it before the first
    /// message.
    pub(crate) fn begin(&self, server: &Server, publisher: u64, feed: Feed, forward: &Forward) -> Forwarding {
        let name = feed.source.name();
        self.streams.with(|streams| {
            let stream = streams.entry(name.clone()).or_insert_with(|| Stream {
                feed: feed.clone(),
                publisher: None,
                changed: Instant::now(),
                forwarders: Vec::new(),
            });
            stream.feed = feed;
            stream.publisher = Some(publisher);
            stream.changed = Instant::now();
            self.update(server, stream, forward, true);
            make_room(streams, server.config().max_connections);
        });
        Forwarding { forwards: self.clone(), name, publisher }
    }

    /// Has the streams that are published now be forwarded to the targets of another configuration: ends forwarders whose target is
    /// gone, starts those of new ones, and leaves the others alone.
    pub(crate) fn reconfigure(&self, server: &Server, config: &Config) {
        let none = Forward { targets: Vec::new(), tls_verify: true };
        self.streams.with(|streams| {
            for stream in streams.values_mut() {
                let vhost = config.vhosts.get(&stream.feed.vhost).filter(|vhost| vhost.enabled);
                self.update(server, stream, vhost.map_or(&none, |vhost| &vhost.forward), false);
            }
        });
    }

    /// Ends forwarders that are not wanted, and starts those that are missing. `is_first`: nothing of the stream has come yet.
    fn update(&self, server: &Server, stream: &mut Stream, forward: &Forward, is_first: bool) {
        let feed = &stream.feed;
        let names = Names { vhost: &feed.vhost, app: &feed.app, stream: &feed.stream, params: &feed.params };
        let route = feed.route.onwards(&feed.source.name());
        let mut wanted: Vec<Target> = Vec::new();
        for target in &forward.targets {
            let destination = target.resolve(names);
            let target = Target { destination, tls_verify: forward.tls_verify, route: route.clone() };
            if !wanted.contains(&target) {
                wanted.push(target);
            }
        }
        stream.forwarders.retain(|forwarder| {
            let is_wanted = wanted.contains(forwarder.target());
            if !is_wanted {
                forwarder.stop();
            }
            is_wanted
        });
        wanted.retain(|target| stream.forwarders.iter().all(|forwarder| forwarder.target() != target));
        if stream.publisher.is_none() {
            return;
        }
        for target in wanted {
            match Forwarder::start(server, feed.source.clone(), target, is_first) {
                Ok(forwarder) => stream.forwarders.push(forwarder),
                Err(error) => log::error!("cannot start a forwarder: {error}"),
            }
        }
    }

    /// Ends what a client published whose [`Forwarding`] is lost.
    pub(crate) fn leave(&self, publisher: u64) {
        let of_publisher =
            |(name, stream): (&String, &Stream)| (stream.publisher == Some(publisher)).then(|| name.clone());
        let name = self.streams.try_with(|streams| streams.iter().find_map(of_publisher)).flatten();
        if let Some(name) = name {
            self.end(&name, publisher);
        }
    }

    fn end(&self, name: &str, publisher: u64) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.streams.try_with(|streams| {
            if let Some(stream) = streams.get_mut(name).filter(|stream| stream.publisher == Some(publisher)) {
                stream.publisher = None;
                stream.changed = Instant::now();
                if stream.forwarders.is_empty() {
                    streams.remove(name);
                }
            }
        });
    }

    /// Gives back what places a forwarder has that has ended, if any are lost.
    fn leave_places(&self, number: u64) {
        self.starts.leave(number);
        self.lookups.places.leave(number);
    }

    /// A forwarder has ended.
    fn remove(&self, name: &str, forwarder: &Arc<Forwarder>) {
        self.streams.try_with(|streams| {
            if let Some(stream) = streams.get_mut(name) {
                stream.forwarders.retain(|other| !Arc::ptr_eq(other, forwarder));
                if stream.publisher.is_none() && stream.forwarders.is_empty() {
                    streams.remove(name);
                }
            }
        });
    }
}

/// Ends the forwarders of streams that have been without a publisher for longest, when there are more streams than clients may publish.
/// Each is kept for the vhost's `reconnect_grace`, in which a stranger comes and goes under many names.
fn make_room(streams: &mut HashMap<String, Stream>, most: usize) {
    while streams.len() > most {
        let left = streams.iter().filter(|(_, stream)| stream.publisher.is_none());
        let first = left.min_by_key(|(_, stream)| stream.changed).map(|(name, _)| name.clone());
        let Some(stream) = first.and_then(|name| streams.remove(&name)) else { return };
        stream.forwarders.iter().for_each(|forwarder| forwarder.stop());
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.forwards.end(&self.name, self.publisher);
    }
}
