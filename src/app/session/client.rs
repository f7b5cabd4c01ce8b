//! A client as seen by everybody but its own coroutine.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use serde::Serialize;

use crate::app::session::close::CloseReason;
use crate::app::session::engines::Engine;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stats::reporter::{ByteCounts, MessageCounts, Registration, StatsGroup, StatsSource};
use crate::app::stream::{ClientHandle, Consumer, Publication};
use crate::config::Vhost;
use crate::memory::{Category, Charge, MemoryTracker};
use crate::st::{self, net::TcpStream};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientKind {
    /// Also RTMPS.
    Rtmp,
    /// HTTP-FLV, or the same over WebSocket.
    #[cfg(feature = "http")]
    Flv,
    /// HLS, with sessions.
    #[cfg(feature = "http")]
    Hls,
}

#[repr(C)] // Keeps first what each turn accesses: `prefetch` fetches the start of this struct.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    close_requested: OnceLock<CloseReason>,
    pub(crate) number: u64,
    pub(crate) kind: ClientKind,
    pub(crate) connected_at: Instant,
    /// Address according to a load balancer, if there is one.
    proxied_addr: OnceLock<SocketAddr>,
    stats_finished: AtomicBool,
    pub(crate) counts_for_address: AtomicBool,
    /// Messages in the stats groups that it has left.
    passed: AtomicU64,
    dropped: AtomicU64,
    incoming: OnceLock<Weak<Charge>>,
    stream_handles: Mutex<StreamHandles>,
    vhosts: Mutex<Vhosts>,
    /// Set once the client is connected to an application.
    info: OnceLock<Arc<ClientInfo>>,
    /// Set once the client is known as a program of this server.
    engine: OnceLock<Arc<Engine>>,
}

/// Vhosts of a client. The stream's name may choose another one than the connection's.
#[derive(Default)]
struct Vhosts {
    connection: Option<Arc<Vhost>>,
    stream: Option<Arc<Vhost>>,
}

#[derive(Default)]
struct StreamHandles {
    publication: Weak<Publication>,
    consumer: Weak<Consumer>,
    info: Option<Arc<StreamInfo>>,
}

impl Client {
    pub(crate) fn new(number: u64, stream: &TcpStream, kind: ClientKind) -> Self {
        Self {
            number,
            kind,
            stream: stream.clone(),
            connected_at: st::now(),
            proxied_addr: OnceLock::new(),
            close_requested: OnceLock::new(),
            stats_finished: AtomicBool::new(false),
            counts_for_address: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            incoming: OnceLock::new(),
            stream_handles: Mutex::default(),
            vhosts: Mutex::default(),
            info: OnceLock::new(),
            engine: OnceLock::new(),
        }
    }

    /// Returns the client's address: the one that a load balancer announced, or else the peer's.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.proxied_addr.get().unwrap_or(&self.stream.peer())
    }

    pub(crate) fn set_remote_addr(&self, address: SocketAddr) {
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        let _ = self.proxied_addr.set(canonical);
    }

    pub(crate) fn set_info(&self, info: &Arc<ClientInfo>) {
        let _ = self.info.set(info.clone());
    }

    pub(crate) fn info(&self) -> Option<&Arc<ClientInfo>> {
        self.info.get()
    }

    pub(crate) fn set_engine(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(engine.clone());
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.get()
    }

    pub(crate) fn close_requested(&self) -> Option<CloseReason> {
        self.close_requested.get().cloned()
    }

    pub(crate) fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.vhosts().connection = Some(vhost.clone());
    }

    pub(crate) fn set_stream_vhost(&self, vhost: Option<&Arc<Vhost>>) {
        self.vhosts().stream = vhost.cloned();
    }

    pub(crate) fn vhost_names(&self) -> Vec<String> {
        let vhosts = self.vhosts();
        [&vhosts.connection, &vhosts.stream].into_iter().flatten().map(|vhost| vhost.name.clone()).collect()
    }

    pub(crate) fn is_publishing(&self) -> bool {
        self.stream_handles().publication.strong_count() > 0
    }

    pub(crate) fn is_playing(&self) -> bool {
        self.stream_handles().consumer.strong_count() > 0
    }

    /// Adds the client to a stats group. `count` returns its messages in that group so far.
    pub(crate) fn register<F>(self: &Arc<Self>, group: &StatsGroup, count: F) -> Registration
    where
        F: Fn() -> MessageCounts + Send + Sync + 'static,
    {
        group.register(Arc::new(ClientStats { client: self.clone(), count }))
    }

    fn add_messages(&self, messages: MessageCounts) {
        self.passed.fetch_add(messages.passed, Ordering::Relaxed);
        self.dropped.fetch_add(messages.dropped, Ordering::Relaxed);
    }

    pub(crate) fn set_publication(&self, publication: &Arc<Publication>, info: &Arc<StreamInfo>) {
        let mut handles = self.stream_handles();
        handles.publication = Arc::downgrade(publication);
        handles.info = Some(info.clone());
    }

    pub(crate) fn set_consumer(&self, consumer: &Arc<Consumer>, info: &Arc<StreamInfo>) {
        let mut handles = self.stream_handles();
        handles.consumer = Arc::downgrade(consumer);
        handles.info = Some(info.clone());
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) fn stream_info(&self) -> Option<Arc<StreamInfo>> {
        self.stream_handles().info.clone()
    }

    /// Creates the charge for the client's incomplete messages. Called once per connection.
    pub(crate) fn charge_incoming(&self, memory: &MemoryTracker) -> Arc<Charge> {
        let charge = Arc::new(memory.charge(Category::Incoming));
        let _ = self.incoming.set(Arc::downgrade(&charge));
        charge
    }

    /// Returns the bytes of its unhandled input, mostly incomplete messages, and of the replies that it does not read.
    pub(crate) fn incoming_bytes(&self) -> usize {
        self.incoming.get().and_then(Weak::upgrade).map_or(0, |charge| charge.get())
    }

    /// Returns the final message counts, at the first call only.
    pub(crate) fn finish_stats(&self) -> Option<MessageCounts> {
        let (passed, dropped) = (self.passed.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed));
        (!self.stats_finished.swap(true, Ordering::Relaxed)).then_some(MessageCounts { passed, dropped })
    }

    fn vhosts(&self) -> MutexGuard<'_, Vhosts> {
        self.vhosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream_handles(&self) -> MutexGuard<'_, StreamHandles> {
        self.stream_handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ClientStats<F> {
    client: Arc<Client>,
    count: F,
}

impl<F: Fn() -> MessageCounts + Send + Sync> StatsSource for ClientStats<F> {
    fn number(&self) -> u64 {
        self.client.number
    }

    fn bytes(&self) -> ByteCounts {
        ByteCounts { sent: self.client.stream.bytes_sent(), received: self.client.stream.bytes_received() }
    }

    fn messages(&self) -> MessageCounts {
        (self.count)()
    }

    fn on_unregister(&self, messages: MessageCounts) {
        self.client.add_messages(messages);
    }
}

impl ClientHandle for Client {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn prefetch(&self) {
        self.stream.prefetch();
    }

    fn wake(&self) {
        self.stream.wake();
    }

    fn close(&self, reason: CloseReason) {
        // The first reason counts.
        let _ = self.close_requested.set(reason);
        self.stream.interrupt();
    }
}
