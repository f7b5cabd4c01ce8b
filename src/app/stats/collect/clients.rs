//! The connected clients in the order of their numbers, with reports of those that are wanted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::context::Context;
use crate::app::limits::fairness::TimeSlice;
use crate::app::session::client::{Client, ClientKind};
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::viewers::Viewer;
use crate::app::stats::snapshot::{ClientReport, ClientState, Traffic};

const CHUNK: usize = 256;

pub(crate) enum ClientEntry {
    Connected(Arc<Client>),
    Viewer(Viewer),
}

/// The facts of a client that filters compare. They cost no copies of names, unlike a report.
pub(crate) struct ClientFacts<'a> {
    pub(crate) kind: ClientKind,
    pub(crate) state: ClientState,
    pub(crate) ip: IpAddr,
    is_publishing: bool,
    info: Option<&'a ClientInfo>,
    stream: Option<Arc<StreamInfo>>,
}

impl ClientEntry {
    pub(crate) fn find(ctx: &Context, id: u64) -> Option<Self> {
        let client = ctx.clients.get(id).map(Self::Connected);
        client.or_else(|| ctx.viewers.find(id).map(Self::Viewer))
    }

    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Connected(client) => client.number,
            Self::Viewer(viewer) => viewer.client.id,
        }
    }

    pub(crate) fn ip(&self) -> IpAddr {
        match self {
            Self::Connected(client) => client.address().ip(),
            Self::Viewer(viewer) => viewer.client.ip,
        }
    }

    pub(crate) fn facts(&self) -> ClientFacts<'_> {
        match self {
            Self::Connected(client) => {
                let (is_publishing, is_playing) = (client.is_publishing(), client.is_playing());
                let info = client.info().map(Arc::as_ref);
                let state = match () {
                    () if client.close_requested().is_some() => ClientState::Closing,
                    () if is_publishing => ClientState::Publishing,
                    () if is_playing => ClientState::Playing,
                    () if info.is_some() => ClientState::Idle,
                    () => ClientState::Connecting,
                };
                let stream = client.stream_info().filter(|_| is_publishing || is_playing);
                ClientFacts { kind: client.kind, state, ip: self.ip(), is_publishing, info, stream }
            }
            Self::Viewer(viewer) => ClientFacts {
                kind: ClientKind::Hls,
                state: if viewer.close.is_some() { ClientState::Closing } else { ClientState::Playing },
                ip: self.ip(),
                is_publishing: false,
                info: Some(&viewer.client),
                stream: Some(viewer.stream.clone()),
            },
        }
    }

    /// Returns its traffic. `facts` are its own.
    pub(super) fn traffic(&self, ctx: &Context, facts: &ClientFacts<'_>) -> Traffic {
        match self {
            Self::Connected(client) => {
                let group = if facts.is_publishing { &ctx.stats.publish } else { &ctx.stats.play };
                let stats = facts.stream.as_ref().and_then(|_| group.stats_of(client.number)).unwrap_or_default();
                Traffic {
                    bytes_in: client.stream.bytes_received(),
                    bytes_out: client.stream.bytes_sent(),
                    kbps_in: stats.kbps_in,
                    kbps_out: stats.kbps_out,
                    messages: stats.messages.passed,
                    dropped: stats.messages.dropped,
                }
            }
            Self::Viewer(viewer) => Traffic { bytes_out: viewer.bytes, ..Traffic::default() },
        }
    }

    /// Returns whether it is a program of this server.
    pub(super) fn is_engine(&self) -> bool {
        matches!(self, Self::Connected(client) if client.engine().is_some())
    }

    pub(crate) fn report(&self, ctx: &Context, now: Instant) -> ClientReport {
        let facts = self.facts();
        let traffic = self.traffic(ctx, &facts);
        let (port, since, engine) = match self {
            Self::Connected(client) => (client.address().port(), client.connected_at, client.engine()),
            Self::Viewer(viewer) => (0, viewer.since, None),
        };
        let text = |of: fn(&ClientInfo) -> &String| facts.info.map(of).cloned().unwrap_or_default();
        ClientReport {
            id: self.id(),
            kind: facts.kind,
            state: facts.state,
            ip: facts.ip,
            port,
            vhost: facts.vhost().to_owned(),
            app: facts.app().to_owned(),
            stream: facts.stream().to_owned(),
            stream_name: facts.stream_name().to_owned(),
            tc_url: text(|info| &info.tc_url),
            page_url: text(|info| &info.page_url),
            age_ms: millis(now.saturating_duration_since(since)),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            kbps_in: traffic.kbps_in,
            kbps_out: traffic.kbps_out,
            messages: traffic.messages,
            dropped: traffic.dropped,
            engine: engine.map(|engine| engine.name.clone()),
        }
    }
}

impl ClientFacts<'_> {
    /// Returns the name of the vhost of its stream, or of its connection; empty before `connect`.
    pub(crate) fn vhost(&self) -> &str {
        self.name(|stream| &stream.vhost, |info| &info.vhost)
    }

    /// Returns the application of its stream, or of its connection; empty before `connect`.
    pub(crate) fn app(&self) -> &str {
        self.name(|stream| &stream.app, |info| &info.app)
    }

    /// Returns the name of its stream within the application; empty if it has none.
    pub(crate) fn stream(&self) -> &str {
        self.stream.as_ref().map_or("", |stream| &stream.stream)
    }

    /// Returns the name of its stream in the server; empty if it has none.
    pub(crate) fn stream_name(&self) -> &str {
        self.stream.as_ref().map_or("", |stream| &stream.name)
    }

    fn name(&self, of_stream: fn(&StreamInfo) -> &String, of_connection: fn(&ClientInfo) -> &String) -> &str {
        let of_connection = || self.info.map_or("", |info| of_connection(info));
        self.stream.as_ref().map_or_else(of_connection, |stream| of_stream(stream))
    }
}

/// The clients that were connected when it began, by number. It holds some of them at a time, and yields as a
/// [`TimeSlice`] says, so that it may wait: clients that leave meanwhile are left out.
pub(crate) struct ClientWalk<'a> {
    ctx: &'a Context,
    count: usize,
    last: u64,
    until: u64,
    chunk: std::vec::IntoIter<ClientEntry>,
    slice: TimeSlice,
}

impl<'a> ClientWalk<'a> {
    /// Starts with the client after the number `after`.
    pub(crate) fn new(ctx: &'a Context, after: u64) -> Self {
        Self {
            ctx,
            count: ctx.clients.len() + ctx.viewers.len(),
            last: after,
            until: ctx.clients.last_number(),
            chunk: Vec::new().into_iter(),
            slice: TimeSlice::for_report(),
        }
    }

    /// Returns the number of clients at the begin, those before it included.
    pub(crate) fn initial_count(&self) -> usize {
        self.count
    }

    /// Passes over clients without touching them. May wait.
    pub(crate) fn skip_clients(&mut self, mut count: usize) {
        count -= self.chunk.by_ref().take(count).count();
        while count > 0 && self.last < self.until {
            let (last, until) = (self.last, self.until);
            let clients = self.ctx.clients.numbers_between(last, until, CHUNK);
            let viewers = self.ctx.viewers.numbers_between(last, until, CHUNK);
            let (numbers, end) = merge(clients, viewers, until, |number| *number);
            self.last = numbers.get(count - 1).copied().unwrap_or(end);
            count -= count.min(numbers.len());
            self.slice.yield_if_used_up();
        }
    }
}

impl Iterator for ClientWalk<'_> {
    type Item = ClientEntry;

    fn next(&mut self) -> Option<ClientEntry> {
        self.slice.yield_if_used_up();
        if self.chunk.len() == 0 && self.last < self.until {
            let (last, until) = (self.last, self.until);
            let clients = self.ctx.clients.between(last, until, CHUNK).into_iter().map(ClientEntry::Connected);
            let viewers = self.ctx.viewers.between(last, until, CHUNK).into_iter().map(ClientEntry::Viewer);
            let (chunk, end) = merge(clients.collect(), viewers.collect(), until, ClientEntry::id);
            self.chunk = chunk.into_iter();
            self.last = end;
        }
        self.chunk.next()
    }
}

/// Merges the next items of two tables, each in order and [`CHUNK`] of them at most. Returns the merged items, and the number
/// up to which they are complete: a table with more items ends the others' at its own last one.
fn merge<T>(mut a: Vec<T>, mut b: Vec<T>, until: u64, number: impl Fn(&T) -> u64) -> (Vec<T>, u64) {
    let last_if_full = |items: &[T]| if items.len() < CHUNK { None } else { items.last().map(&number) };
    let end = [last_if_full(&a), last_if_full(&b)].into_iter().flatten().min().unwrap_or(until);
    if !b.is_empty() {
        a.append(&mut b);
        a.sort_unstable_by_key(&number);
        a.truncate(a.partition_point(|item| number(item) <= end));
    }
    (a, end)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
