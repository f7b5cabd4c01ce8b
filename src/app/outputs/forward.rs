//! Forwarding: publishes the streams of this server on other servers.
//!
//! ```text
//! publish, reload -> ForwardManager -> one Forwarder for each stream and target
//! Source (packet log) -> Consumer -> Forwarder -> RTMP session -> target
//! permits (FairSemaphore), addresses (Resolver), Route (loops) -> RTMP session
//! ```
//!
//! To the source, a forwarder is a player: a cursor into the packet log, with a coroutine of its own, that delays
//! nobody. To the target it is an encoder. It ends when players are told that the stream has ended. If the publisher
//! returns within the vhost's `reconnect_grace`, the same connection to the target continues, so that the target's
//! players stay as well.

mod connect;
mod forwarder;
mod resolver;
pub(crate) mod route;
mod semaphore;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use self::forwarder::Forwarder;
use self::resolver::Resolver;
use self::route::Route;
use self::semaphore::FairSemaphore;
use crate::app::context::{Context, Feature};
use crate::app::stream::Source;
use crate::config::{Config, Destination, Forward, StreamNames};
use crate::log::quoted;
use crate::st::Shared;

/// Forwarders of the whole server that connect at a time, at most half of them to one target. A target answers within
/// milliseconds, so that hundreds connect in a second, and a client that publishes one name after the other cannot
/// cause more connections.
const MAX_CONNECTING: usize = 64;

/// A published stream, as its forwarders need it.
#[derive(Clone)]
pub(crate) struct PublishedStream {
    pub(crate) source: Source,
    pub(crate) vhost: String,
    pub(crate) app: String,
    pub(crate) stream: String,
    /// The publisher's parameters, without the `?`.
    pub(crate) params: String,
    pub(crate) route: Route,
}

/// A target of one stream. Two forwarders with equal targets would do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    destination: Destination,
    tls_verify: bool,
    /// The servers that the stream has passed, including this one.
    route: Route,
}

#[derive(Clone)]
pub(crate) struct ForwardManager {
    streams: Shared<HashMap<String, ForwardedStream>>,
    connecting: FairSemaphore,
    resolver: Arc<Resolver>,
}

struct ForwardedStream {
    published: PublishedStream,
    publisher: Option<u64>,
    publisher_changed: Instant,
    forwarders: Vec<Arc<Forwarder>>,
}

/// A publication that is forwarded. Dropping it starts no more forwarders; those that run end with the stream.
pub(crate) struct ForwardGuard {
    manager: ForwardManager,
    name: String,
    publisher: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ForwardState {
    /// Waits for media, for a permit to connect, or for the next attempt.
    #[default]
    Waiting,
    Connecting,
    Sending,
    /// The stream has ended; sends the rest and closes.
    Ending,
}

impl ForwardState {
    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Ending => "ending",
        }
    }
}

/// Forwarding as a feature of the server.
pub(crate) struct ForwardFeature {
    ctx: Context,
    manager: ForwardManager,
}

impl ForwardFeature {
    /// Creates the feature around its forwarders.
    pub(crate) fn new(ctx: Context, manager: ForwardManager) -> Self {
        Self { ctx, manager }
    }
}

impl Feature for ForwardFeature {
    fn name(&self) -> &'static str {
        "forward"
    }

    fn reconfigure(&self, _: &Config, new: &Config) {
        self.manager.reconfigure(&self.ctx, new);
    }
}

impl Default for ForwardManager {
    fn default() -> Self {
        let connecting = FairSemaphore::new(MAX_CONNECTING);
        Self { streams: Shared::default(), connecting, resolver: Arc::new(Resolver::new()) }
    }
}

impl ForwardManager {
    /// Starts the forwarders of a stream that client `publisher` publishes. Must be called before the first message.
    pub(crate) fn publish(
        &self,
        ctx: &Context,
        publisher: u64,
        published: PublishedStream,
        forward: &Forward,
    ) -> ForwardGuard {
        let name = published.source.name();
        self.streams.with(|streams| {
            let stream = streams.entry(name.clone()).or_insert_with(|| ForwardedStream {
                published: published.clone(),
                publisher: None,
                publisher_changed: Instant::now(),
                forwarders: Vec::new(),
            });
            stream.published = published;
            stream.publisher = Some(publisher);
            stream.publisher_changed = Instant::now();
            update(ctx, stream, forward, true);
            evict_unpublished(streams, ctx.config.get().max_connections);
        });
        ForwardGuard { manager: self.clone(), name, publisher }
    }

    /// Applies another configuration: stops forwarders of removed targets, and starts those of new ones.
    pub(crate) fn reconfigure(&self, ctx: &Context, config: &Config) {
        let none = Forward { targets: Vec::new(), tls_verify: true };
        self.streams.with(|streams| {
            for stream in streams.values_mut() {
                let vhost = config.vhosts.get(&stream.published.vhost).filter(|vhost| vhost.enabled);
                update(ctx, stream, vhost.map_or(&none, |vhost| &vhost.forward), false);
            }
        });
    }

    fn end_publication(&self, name: &str, publisher: u64) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.streams.try_with(|streams| {
            if let Some(stream) = streams.get_mut(name).filter(|stream| stream.publisher == Some(publisher)) {
                stream.publisher = None;
                stream.publisher_changed = Instant::now();
                if stream.forwarders.is_empty() {
                    streams.remove(name);
                }
            }
        });
    }

    fn remove_forwarder(&self, name: &str, forwarder: &Arc<Forwarder>) {
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

/// Stops a stream's forwarders that `forward` does not name, and starts those that are missing. `wait_for_media`: the
/// stream has no message yet.
fn update(ctx: &Context, stream: &mut ForwardedStream, forward: &Forward, wait_for_media: bool) {
    let published = &stream.published;
    let names = StreamNames {
        vhost: &published.vhost,
        app: &published.app,
        stream: &published.stream,
        params: &published.params,
    };
    let name = published.source.name();
    let route = published.route.with_hop(&name);
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
        let shown = target.destination.log_url.clone();
        match Forwarder::start(ctx, published.source.clone(), target, wait_for_media) {
            Ok(forwarder) => stream.forwarders.push(forwarder),
            Err(error) => {
                log::error!("forward not started: stream={name} target={shown} error={}", quoted(error));
            }
        }
    }
}

/// Stops the forwarders of the streams that have been without a publisher for longest while there are more than
/// `max_streams`: within one `reconnect_grace`, a client can publish under many names.
fn evict_unpublished(streams: &mut HashMap<String, ForwardedStream>, max_streams: usize) {
    while streams.len() > max_streams {
        let unpublished = streams.iter().filter(|(_, stream)| stream.publisher.is_none());
        let oldest = unpublished.min_by_key(|(_, stream)| stream.publisher_changed).map(|(name, _)| name.clone());
        let Some(stream) = oldest.and_then(|name| streams.remove(&name)) else { return };
        stream.forwarders.iter().for_each(|forwarder| forwarder.stop());
    }
}

impl Drop for ForwardGuard {
    fn drop(&mut self) {
        self.manager.end_publication(&self.name, self.publisher);
    }
}
