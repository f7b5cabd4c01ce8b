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
mod failure;
mod forwarder;
mod resolver;
pub(crate) mod route;
mod semaphore;
mod session;
mod target;
mod task;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use self::forwarder::Forwarder;
use self::route::Route;
use self::target::{Dialer, Target};
use crate::app::context::{Context, Feature};
use crate::app::events::{Event, Gate, GateAction, GateAnswer, GateRequest, Listener};
use crate::app::limits::fairness::TimeSlice;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stats::snapshot::Section;
use crate::app::stream::{Source, StreamEvent};
use crate::config::{self, Config, Forward, StreamNames};
use crate::log::quoted;
use crate::st::{self, Shared};

#[derive(Clone)]
struct PublishedStream {
    source: Source,
    vhost: String,
    app: String,
    stream: String,
    params: String,
    route: Route,
}

#[derive(Clone)]
pub(crate) struct ForwardManager {
    dialer: Arc<Dialer>,
    streams: Shared<HashMap<String, ForwardedStream>>,
}

struct ForwardedStream {
    published: PublishedStream,
    publisher: Option<u64>,
    publisher_changed: Instant,
    named: Arc<Vec<config::Target>>,
    forwarders: Vec<Arc<Forwarder>>,
}

impl Feature for ForwardManager {
    fn name(&self) -> &'static str {
        "forward"
    }

    /// Applies another configuration: stops forwarders of removed targets, and starts those of new ones.
    fn reconfigure(&self, _: &Config, new: &Config) {
        let none = Forward { targets: Vec::new(), tls_verify: true, backend: Vec::new() };
        self.streams.with(|streams| {
            for stream in streams.values_mut() {
                let vhost = new.vhosts.get(&stream.published.vhost).filter(|vhost| vhost.enabled);
                update(self, stream, vhost.map_or(&none, |vhost| &vhost.forward), false);
            }
        });
    }

    fn snapshot(&self) -> Option<Section> {
        let forwarders: Vec<_> = self.streams.with(|streams| {
            let of_stream = |(name, stream): (&String, &ForwardedStream)| {
                stream.forwarders.iter().map(|forwarder| (name.clone(), forwarder.clone())).collect::<Vec<_>>()
            };
            streams.iter().flat_map(of_stream).collect()
        });
        let mut section = Section::new("forward");
        let rates = &self.dialer.ctx.stats.forward;
        let kbps_out = |forwarder: &Forwarder| rates.stats_of(forwarder.number()).map_or(0, |stats| stats.kbps_out);
        let mut slice = TimeSlice::for_report();
        let report = |(stream, forwarder): &(String, Arc<Forwarder>)| {
            slice.yield_if_used_up();
            forwarder.report(stream, kbps_out(forwarder))
        };
        section.items = forwarders.iter().map(report).collect();
        let sending = forwarders.iter().filter(|(_, forwarder)| forwarder.is_sending()).count();
        Some(section.with("forwarders", "Forwarders of all streams.", forwarders.len() as u64).with(
            "forwarders_sending",
            "Forwarders that are connected and send.",
            sending as u64,
        ))
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        Some(self)
    }
}

impl Listener for ForwardManager {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Stream(StreamEvent::Published { stream, client, source, .. }) => {
                let config = self.dialer.ctx.config.get();
                if let Some(vhost) = config.vhosts.get(&stream.vhost) {
                    self.publish(stream, client, source, &vhost.forward, config.max_connections);
                }
            }
            Event::ForwardTargets { stream, client, targets } => {
                let config = self.dialer.ctx.config.get();
                if let Some(vhost) = config.vhosts.get(&stream.vhost) {
                    self.add_targets(&stream.name, client.id, targets, &vhost.forward);
                }
            }
            Event::Stream(StreamEvent::PublisherLost { stream, client }) => {
                self.end_publication(&stream.name, client.id)
            }
            _ => {}
        }
    }
}

impl Gate for ForwardManager {
    fn name(&self) -> &'static str {
        "forward"
    }

    fn asks_engines(&self) -> bool {
        true
    }

    /// Refuses a stream that would return to a server which it has passed.
    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let GateRequest { action: GateAction::Publish, stream: Some(stream), client, .. } = request else {
            return Ok(GateAnswer::default());
        };
        match Route::parse(&client.forward_route).loop_error(&stream.name) {
            Some(error) => Err(CloseReason::Refused(error.to_owned())),
            None => Ok(GateAnswer::default()),
        }
    }
}

impl ForwardManager {
    pub(crate) fn new(ctx: Context) -> Self {
        Self { dialer: Arc::new(Dialer::new(ctx)), streams: Shared::default() }
    }

    fn publish(
        &self,
        stream: &StreamInfo,
        client: &ClientInfo,
        source: &Source,
        forward: &Forward,
        max_streams: usize,
    ) {
        let published = PublishedStream {
            source: source.clone(),
            vhost: stream.vhost.clone(),
            app: stream.app.clone(),
            stream: stream.stream.clone(),
            params: stream.params.clone(),
            route: match &client.engine {
                Some(_) => Route::parse(&client.forward_route).transcoded(),
                None => Route::parse(&client.forward_route),
            },
        };
        self.streams.with(|streams| {
            let stream = streams.entry(stream.name.clone()).or_insert_with(|| ForwardedStream {
                published: published.clone(),
                publisher: None,
                publisher_changed: st::now(),
                named: Arc::default(),
                forwarders: Vec::new(),
            });
            stream.published = published;
            stream.publisher = Some(client.id);
            stream.publisher_changed = st::now();
            update(self, stream, forward, true);
            evict_unpublished(streams, max_streams);
        });
    }

    /// Starts the forwarders to the targets that a backend has named for a publication.
    fn add_targets(&self, name: &str, publisher: u64, targets: &Arc<Vec<config::Target>>, forward: &Forward) {
        self.streams.with(|streams| {
            if let Some(stream) = streams.get_mut(name).filter(|stream| stream.publisher == Some(publisher)) {
                stream.named = targets.clone();
                update(self, stream, forward, false);
            }
        });
    }

    fn end_publication(&self, name: &str, publisher: u64) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.streams.try_with(|streams| {
            if let Some(stream) = streams.get_mut(name).filter(|stream| stream.publisher == Some(publisher)) {
                stream.publisher = None;
                stream.publisher_changed = st::now();
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

/// Stops forwarders that `forward` does not name, and starts missing ones. `wait_for_media`: the stream has no message yet.
fn update(manager: &ForwardManager, stream: &mut ForwardedStream, forward: &Forward, wait_for_media: bool) {
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
    for target in forward.targets.iter().chain(stream.named.iter()) {
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
        let (registry, of_stream) = (manager.clone(), name.clone());
        let on_end = move |forwarder: &Arc<Forwarder>| registry.remove_forwarder(&of_stream, forwarder);
        match task::start(&manager.dialer, published.source.clone(), target, wait_for_media, on_end) {
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
