//! A client, as everybody but its own coroutine sees it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::{Bytes, Member, Messages, Presence, Stage};
use crate::app::stream::{Consumer, Outlet, Publication};
use crate::config::Vhost;
use crate::memory::{Account, Held, Part};
use crate::st::net::TcpStream;

#[repr(C)] // The stream stays at the front, which is what is prefetched for the loop over a source's players.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) number: u64,
    pub(crate) since: Instant,
    /// Where it comes from, if a balancer has said so.
    origin: OnceLock<SocketAddr>,
    /// What it was told to close for.
    told: Mutex<Option<CloseReason>>,
    is_closed: AtomicBool,
    /// It is counted among the clients of its address.
    pub(crate) counts_for_address: AtomicBool,
    /// Messages of the stages that it has left.
    passed: AtomicU64,
    dropped: AtomicU64,
    /// What has come of messages that are not complete.
    incoming: OnceLock<Weak<Held>>,
    place: Mutex<Place>,
    vhosts: Mutex<Vhosts>,
}

/// The vhosts that a client lives under. They differ when the name of its stream chooses another than its connection has.
#[derive(Default)]
struct Vhosts {
    connection: Option<Arc<Vhost>>,
    stream: Option<Arc<Vhost>>,
}

/// What a client's coroutine holds of a stream. The coroutine owns it; it is known here too because a stack overflow loses the
/// coroutine's frames without a `drop`.
#[derive(Default)]
struct Place {
    publication: Weak<Publication>,
    consumer: Weak<Consumer>,
}

impl Client {
    pub(crate) fn new(number: u64, stream: &TcpStream) -> Self {
        Self {
            number,
            stream: stream.clone(),
            since: Instant::now(),
            origin: OnceLock::new(),
            told: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            counts_for_address: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            incoming: OnceLock::new(),
            place: Mutex::default(),
            vhosts: Mutex::default(),
        }
    }

    /// Where the client comes from: the other end of its connection, or what the balancer there says.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.origin.get().unwrap_or(&self.stream.peer())
    }

    /// Notes what a balancer has said, once.
    pub(crate) fn comes_from(&self, address: SocketAddr) {
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        let _ = self.origin.set(canonical);
    }

    /// What the client was told to close for, by somebody else.
    pub(crate) fn told(&self) -> Option<CloseReason> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the vhost that the client is connected to.
    pub(crate) fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.vhosts().connection = Some(vhost.clone());
    }

    /// Notes the vhost whose stream the client publishes or plays; none when it does neither.
    pub(crate) fn set_stream_vhost(&self, vhost: Option<&Arc<Vhost>>) {
        self.vhosts().stream = vhost.cloned();
    }

    /// The names of the vhosts that it lives under.
    pub(crate) fn vhost_names(&self) -> Vec<String> {
        let vhosts = self.vhosts();
        [&vhosts.connection, &vhosts.stream].into_iter().flatten().map(|vhost| vhost.name.clone()).collect()
    }

    /// Whether it publishes.
    pub(crate) fn publishes_now(&self) -> bool {
        self.place().publication.strong_count() > 0
    }

    /// Whether it plays.
    pub(crate) fn plays_now(&self) -> bool {
        self.place().consumer.strong_count() > 0
    }

    /// Enters a stage; `count` says what its messages are there, so far.
    pub(crate) fn enter<F>(self: &Arc<Self>, stage: &Stage, count: F) -> Presence
    where
        F: Fn() -> Messages + Send + Sync + 'static,
    {
        stage.enter(Arc::new(InStage { client: self.clone(), count }))
    }

    /// Counts the messages of a stage that it leaves.
    fn add_messages(&self, messages: Messages) {
        self.passed.fetch_add(messages.passed, Ordering::Relaxed);
        self.dropped.fetch_add(messages.dropped, Ordering::Relaxed);
    }

    /// Notes what the client publishes.
    pub(crate) fn publishes(&self, publication: &Arc<Publication>) {
        self.place().publication = Arc::downgrade(publication);
    }

    /// Notes what the client plays.
    pub(crate) fn plays(&self, consumer: &Arc<Consumer>) {
        self.place().consumer = Arc::downgrade(consumer);
    }

    /// Where what comes of its incomplete messages is to be counted, in this account.
    pub(crate) fn hold_incoming(&self, account: &Account) -> Arc<Held> {
        let held = Arc::new(account.hold(Part::Incoming));
        // A connection has one protocol in its life.
        let _ = self.incoming.set(Arc::downgrade(&held));
        held
    }

    /// Bytes of what it has sent and nobody has looked at yet, incomplete messages for the most part, and of answers that it does not take.
    pub(crate) fn incoming(&self) -> usize {
        self.incoming.get().and_then(Weak::upgrade).map_or(0, |held| held.get())
    }

    /// Releases what the coroutine's frames held, which are lost.
    pub(crate) fn abandon(&self) {
        let place = std::mem::take(&mut *self.place());
        if let Some(publication) = place.publication.upgrade() {
            publication.abandon();
        }
        if let Some(consumer) = place.consumer.upgrade() {
            consumer.abandon();
        }
        if let Some(incoming) = self.incoming.get().and_then(Weak::upgrade) {
            incoming.set(0);
        }
    }

    /// The first time, all its messages, for the line of its end.
    pub(crate) fn settle(&self) -> Option<Messages> {
        let (passed, dropped) = (self.passed.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed));
        (!self.is_closed.swap(true, Ordering::Relaxed)).then_some(Messages { passed, dropped })
    }

    fn vhosts(&self) -> MutexGuard<'_, Vhosts> {
        self.vhosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client in a stage, and how its messages are counted there.
struct InStage<F> {
    client: Arc<Client>,
    count: F,
}

impl<F: Fn() -> Messages + Send + Sync> Member for InStage<F> {
    fn number(&self) -> u64 {
        self.client.number
    }

    fn bytes(&self) -> Bytes {
        Bytes { sent: self.client.stream.sent(), received: self.client.stream.received() }
    }

    fn messages(&self) -> Messages {
        (self.count)()
    }

    fn leave(&self, messages: Messages) {
        self.client.add_messages(messages);
    }
}

impl Outlet for Client {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn anticipate(&self) {
        self.stream.prefetch();
    }

    fn wake(&self) {
        self.stream.wake();
    }

    fn close(&self, reason: CloseReason) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.stream.interrupt();
    }
}
