//! Healthy clients: a publisher, players that check every byte and the time of every packet, an HLS viewer, and a reference stream
//! beside the server that shows how late the machine itself is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::attacker::Endpoint;
use crate::common::flv::{Tag, VIDEO};
use crate::common::wire::Wire;
use crate::viewer::{self, Progress};

/// Time between two published messages.
const INTERVAL: Duration = Duration::from_millis(20);

/// Messages from one keyframe to the next.
const GOP: u64 = 50;

/// Name of the healthy stream.
pub(crate) const STREAM: &str = "healthy";

/// Lateness of a healthy player's packets that is allowed on a machine that is never late itself. The release build is at most 90 ms late
/// under every attack in long mode on two cores of a Xeon.
const MAX_LATENESS: Duration = Duration::from_millis(200);

/// Returns microseconds since the first call.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_micros()).expect("fits 64 bits")
}

/// H.264 sequence header without parameter sets: enough for HLS.
const SEQUENCE_HEADER: [u8; 12] = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe0, 0];

/// Offset of a message's number in its payload.
const NUMBER_OFFSET: usize = 10;
/// Offset of the time at which the message was sent, by `clock`.
const SEND_TIME_OFFSET: usize = 18;

/// Returns a frame of one NAL unit that contains its number and the time at which it was sent. Its other bytes follow from the number.
fn payload(number: u64, sent: u64) -> Vec<u8> {
    let is_keyframe = number.is_multiple_of(GOP);
    let size = 200 + usize::try_from(number * 7919 % 3000).expect("small") + if is_keyframe { 20_000 } else { 0 };
    let mut payload = vec![if is_keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    payload.extend_from_slice(&u32::try_from(1 + 8 + 8 + size).expect("small").to_be_bytes());
    payload.push(if is_keyframe { 0x65 } else { 0x41 });
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(&sent.to_be_bytes());
    let mut noise = number | 1;
    payload.extend(
        std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.to_be_bytes()[0]
        })
        .take(size),
    );
    payload
}

fn u64_at(payload: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(payload[at..at + 8].try_into().expect("eight bytes"))
}

/// Last message that a receiver has got, and its worst lateness since the last `take_worst`.
#[derive(Default)]
struct Receipts {
    last: AtomicU64,
    worst_micros: AtomicU64,
}

impl Receipts {
    fn record(&self, number: u64, sent: u64) {
        self.last.store(number, Ordering::Relaxed);
        self.worst_micros.fetch_max(clock().saturating_sub(sent), Ordering::Relaxed);
    }

    fn take_worst(&self) -> Duration {
        Duration::from_micros(self.worst_micros.swap(0, Ordering::Relaxed))
    }
}

/// All healthy clients of a server.
pub(crate) struct HealthyClients {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    players: Vec<Arc<Receipts>>,
    reference: Arc<Receipts>,
    viewer: Arc<Progress>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// Worst lateness of the healthy players and of the machine itself.
#[derive(Clone, Copy)]
pub(crate) struct Lateness {
    pub(crate) players: Duration,
    pub(crate) machine: Duration,
    /// Time that the server took for its work beside other programs, as a multiple of the processor time of the work.
    pub(crate) slowdown: f64,
}

impl HealthyClients {
    /// Starts a publisher, a player at each of the endpoints, and a viewer if there is an HTTP port.
    pub(crate) fn start(publish: Endpoint, play: &[Endpoint], http: Option<u16>) -> HealthyClients {
        let mut clients = HealthyClients {
            stop: Arc::default(),
            published: Arc::default(),
            players: Vec::new(),
            reference: Arc::default(),
            viewer: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        let mut publisher = wire(publish);
        publisher.connect_app("live");
        let id = publisher.create_stream();
        publisher.publish(id, STREAM);
        publisher.wait_status("NetStream.Publish.Start");
        for &endpoint in play {
            let player = wire(endpoint).into_player(STREAM);
            let receipts = Arc::new(Receipts::default());
            clients.players.push(receipts.clone());
            let stop = clients.stop.clone();
            clients.spawn("a healthy player", move || receive(player, &receipts, &stop));
        }
        let (stop, published) = (clients.stop.clone(), clients.published.clone());
        clients.spawn("the healthy publisher", move || send(publisher, &published, &stop));
        let (stop, receipts) = (clients.stop.clone(), clients.reference.clone());
        clients.spawn("the reference stream", move || run_reference(&receipts, &stop));
        if let Some(port) = http {
            let (progress, stop) = (clients.viewer.clone(), clients.stop.clone());
            clients.spawn("the healthy viewer", move || viewer::watch(port, STREAM, &progress, &stop));
        }
        clients.wait_caught_up();
        clients
    }

    fn spawn(&mut self, who: &'static str, body: impl FnOnce() + Send + 'static) {
        let failures = self.failures.clone();
        self.threads.push(thread::spawn(move || {
            if let Err(failure) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
                let text = failure.downcast_ref::<String>().cloned();
                let text = text.or_else(|| failure.downcast_ref::<&str>().map(|&text| text.to_owned()));
                failures.lock().unwrap().push(format!("{who}: {}", text.unwrap_or_default()));
            }
        }));
    }

    fn assert_no_failure(&self) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    /// Waits until all players have received everything that is published by now.
    pub(crate) fn wait_caught_up(&self) {
        const LIMIT: Duration = Duration::from_secs(10);
        let wanted = self.published.load(Ordering::Relaxed) + 1;
        let deadline = Instant::now() + LIMIT;
        while self.players.iter().any(|receipts| receipts.last.load(Ordering::Relaxed) < wanted) {
            self.assert_no_failure();
            assert!(Instant::now() < deadline, "a healthy player has not received message {wanted} within {LIMIT:?}");
            thread::sleep(Duration::from_millis(5));
        }
        self.viewer.assert_recent();
        self.assert_no_failure();
    }

    /// Returns true if the viewer has received a segment.
    pub(crate) fn has_viewed(&self) -> bool {
        self.assert_no_failure();
        self.viewer.has_begun()
    }

    /// Returns the worst lateness since the last call, when the server was slowed down as given.
    pub(crate) fn take_lateness(&self, slowdown: f64) -> Lateness {
        let players = self.players.iter().map(|receipts| receipts.take_worst()).max().unwrap_or_default();
        Lateness { players, machine: self.reference.take_worst(), slowdown }
    }

    /// Stops all clients, and fails if one of them has seen a fault.
    pub(crate) fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("panics are caught");
        }
        self.assert_no_failure();
    }
}

impl Drop for HealthyClients {
    /// Stops all clients, and waits for their end: they would report the end of the server beside the failure of an attack.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Lateness {
    /// Returns an error if the players were later than the machine explains. A message passes the machine's scheduler three times: in the
    /// publisher, in the server, and in the player. The reference sleeps most of the time, and such threads hardly wait for a processor;
    /// the server, with much to do, shares it with whatever else runs, and takes longer by that.
    pub(crate) fn check(self) -> Result<(), String> {
        let allowed = MAX_LATENESS.mul_f64(self.slowdown) + 3 * self.machine;
        if self.players <= allowed {
            return Ok(());
        }
        let [players, machine, allowed] = [self.players, self.machine, allowed].map(|time| time.as_millis());
        Err(format!(
            "healthy players got packets {players} ms late, the machine was {machine} ms late, {allowed} ms are allowed"
        ))
    }
}

fn wire(endpoint: Endpoint) -> Wire {
    #[cfg(feature = "ssl")]
    if endpoint.tls {
        let socket = TcpStream::connect(("127.0.0.1", endpoint.port)).expect("the server accepts");
        socket.set_nodelay(true).expect("a socket option");
        return Wire::over(Box::new(crate::tls_client::wrap(socket).expect("a TLS session")), endpoint.port);
    }
    Wire::connect(endpoint.port)
}

fn send(mut wire: Wire, published: &AtomicU64, stop: &AtomicBool) {
    wire.send_tag(&Tag { kind: VIDEO, timestamp: 0, payload: SEQUENCE_HEADER.into() });
    let start = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let due = start + INTERVAL * u32::try_from(number).expect("less than two years");
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        let timestamp = u32::try_from(number * 20).expect("less than seven weeks");
        wire.send_tag(&Tag { kind: VIDEO, timestamp, payload: payload(number, clock()) });
        assert!(!wire.closed, "the server closed the connection");
        published.store(number, Ordering::Relaxed);
        if number % 50 == 0 {
            // Reads the server's acknowledgements.
            wire.receive_for(Duration::from_millis(1));
        }
    }
}

fn receive(mut wire: Wire, receipts: &Receipts, stop: &AtomicBool) {
    let mut next: Option<u64> = None;
    let mut first: Option<(u64, u32)> = None;
    wire.wait("the end of the test", Duration::from_secs(7200), |wire| {
        for tag in wire.tags.drain(..).filter(|tag| tag.kind == VIDEO && tag.payload != SEQUENCE_HEADER) {
            let (number, sent) = (u64_at(&tag.payload, NUMBER_OFFSET), u64_at(&tag.payload, SEND_TIME_OFFSET));
            assert_eq!(number, next.unwrap_or(number), "the next message");
            assert!(tag.payload == payload(number, sent), "message {number} differs from what was sent");
            // A player's timeline starts with its first message.
            let (first_number, start) = *first.get_or_insert((number, tag.timestamp));
            let expected = u32::try_from(20 * (number - first_number)).expect("less than seven weeks");
            assert_eq!(tag.timestamp - start, expected, "the timestamp of message {number}");
            // The first GOP may come from the cache.
            if number >= first_number + GOP {
                receipts.record(number, sent);
            }
            next = Some(number + 1);
        }
        stop.load(Ordering::Relaxed).then_some(())
    });
}

/// Sends the time through a connection that does not involve the server, and records how late it arrives.
fn run_reference(receipts: &Receipts, stop: &AtomicBool) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut sender = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    sender.set_nodelay(true).expect("a socket option");
    let (mut receiver, _) = listener.accept().expect("a connection");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut stamp = [0; 8];
            while receiver.read_exact(&mut stamp).is_ok() {
                receipts.record(0, u64::from_be_bytes(stamp));
            }
        });
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
            sender.write_all(&clock().to_be_bytes()).expect("the receiver reads");
        }
        drop(sender);
    });
}
