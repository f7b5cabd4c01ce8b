//! Those who mean no harm: a publisher, players that look at every byte and at the clock, and for comparison a stream beside the
//! server that shows what the machine itself is late.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::attacker::Target;
use crate::flv::{Tag, VIDEO};
use crate::viewer::{self, Progress};
use crate::wire::Wire;

/// How often a message is published.
const INTERVAL: Duration = Duration::from_millis(20);

/// Messages from one keyframe to the next.
const GOP: u64 = 50;

pub(crate) const STREAM: &str = "healthy";

/// How late a healthy player's packets may be, on a machine that itself is never late.
const MAX_LATENESS: Duration = Duration::from_millis(200);

fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_micros()).expect("this test does not take that long")
}

/// A sequence header of H.264 without parameter sets: enough for HLS.
const HEADER: [u8; 12] = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe0, 0];

/// Where the number of a message is, and the time at which it was sent.
const NUMBER: usize = 10;
const SENT: usize = 18;

/// A message that says which it is and when it was sent, and whose every byte is known: a frame of one NAL unit.
fn payload(number: u64, sent: u64) -> Vec<u8> {
    let is_key = number.is_multiple_of(GOP);
    let size = 200 + usize::try_from(number * 7919 % 3000).expect("small") + if is_key { 20_000 } else { 0 };
    let mut payload = vec![if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    payload.extend_from_slice(&u32::try_from(1 + 8 + 8 + size).expect("small").to_be_bytes());
    payload.push(if is_key { 0x65 } else { 0x41 });
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

/// What one who receives has seen since it was last asked.
#[derive(Default)]
struct Seen {
    last: AtomicU64,
    worst: AtomicU64,
}

impl Seen {
    fn take(&self, number: u64, sent: u64) {
        self.last.store(number, Ordering::Relaxed);
        self.worst.fetch_max(clock().saturating_sub(sent), Ordering::Relaxed);
    }

    fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.swap(0, Ordering::Relaxed))
    }
}

/// All of them.
pub(crate) struct Healthy {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    players: Vec<Arc<Seen>>,
    control: Arc<Seen>,
    viewer: Arc<Progress>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What was late.
#[derive(Clone, Copy)]
pub(crate) struct Lateness {
    pub(crate) players: Duration,
    pub(crate) machine: Duration,
}

impl Healthy {
    /// A publisher, a player at each of the targets, and a viewer where there is HTTP.
    pub(crate) fn start(publish: Target, play: &[Target], http: Option<u16>) -> Healthy {
        let mut all = Healthy {
            stop: Arc::default(),
            published: Arc::default(),
            players: Vec::new(),
            control: Arc::default(),
            viewer: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        let mut publisher = wire(publish);
        publisher.connect_app("live");
        let id = publisher.create_stream();
        publisher.publish(id, STREAM);
        publisher.wait_status("NetStream.Publish.Start");
        for &target in play {
            let player = wire(target).into_player(STREAM);
            let seen = Arc::new(Seen::default());
            all.players.push(seen.clone());
            let stop = all.stop.clone();
            all.spawn("a healthy player", move || receive(player, &seen, &stop));
        }
        let (stop, published) = (all.stop.clone(), all.published.clone());
        all.spawn("the healthy publisher", move || send(publisher, &published, &stop));
        let (stop, seen) = (all.stop.clone(), all.control.clone());
        all.spawn("the control stream", move || control(&seen, &stop));
        if let Some(port) = http {
            let (progress, stop) = (all.viewer.clone(), all.stop.clone());
            all.spawn("the healthy viewer", move || viewer::watch(port, STREAM, &progress, &stop));
        }
        all.catch_up();
        all.lateness();
        all
    }

    fn spawn(&mut self, who: &'static str, body: impl FnOnce() + Send + 'static) {
        let failures = self.failures.clone();
        self.threads.push(thread::spawn(move || {
            if let Err(failure) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
                let why = failure.downcast_ref::<String>().cloned();
                let why = why.or_else(|| failure.downcast_ref::<&str>().map(|&why| why.to_owned()));
                failures.lock().unwrap().push(format!("{who}: {}", why.unwrap_or_default()));
            }
        }));
    }

    fn assert_no_failure(&self) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    /// Waits until all players have what has been published until now.
    pub(crate) fn catch_up(&self) {
        let due = self.published.load(Ordering::Relaxed) + 1;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.players.iter().any(|seen| seen.last.load(Ordering::Relaxed) < due) {
            self.assert_no_failure();
            assert!(Instant::now() < deadline, "a healthy player does not get message {due}");
            thread::sleep(Duration::from_millis(5));
        }
        self.viewer.assert_recent();
        self.assert_no_failure();
    }

    /// What was late at worst since the last call.
    pub(crate) fn lateness(&self) -> Lateness {
        let players = self.players.iter().map(|seen| seen.worst()).max().unwrap_or_default();
        Lateness { players, machine: self.control.worst() }
    }

    /// Ends all; what they have seen was right.
    pub(crate) fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("failures are caught");
        }
        self.assert_no_failure();
    }
}

impl Lateness {
    /// What the machine is late, everything on it is late, twice: once to send and once to receive.
    pub(crate) fn assert_small(self) {
        let allowed = MAX_LATENESS + 3 * self.machine;
        assert!(self.players <= allowed, "{:?} late, and the machine itself only {:?}", self.players, self.machine);
    }
}

fn wire(target: Target) -> Wire {
    #[cfg(feature = "ssl")]
    if target.tls {
        let socket = TcpStream::connect(("127.0.0.1", target.port)).expect("the server accepts");
        socket.set_nodelay(true).expect("a socket option");
        return Wire::over(Box::new(crate::rig::tls::wrap(socket).expect("a TLS session")), target.port);
    }
    Wire::connect(target.port)
}

fn send(mut wire: Wire, published: &AtomicU64, stop: &AtomicBool) {
    wire.send_tag(&Tag { kind: VIDEO, timestamp: 0, payload: HEADER.into() });
    let start = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let due = start + INTERVAL * u32::try_from(number).expect("some hours");
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        let timestamp = u32::try_from(number * 20).expect("some weeks");
        wire.send_tag(&Tag { kind: VIDEO, timestamp, payload: payload(number, clock()) });
        assert!(!wire.closed, "the server closed the connection");
        published.store(number, Ordering::Relaxed);
        if number % 50 == 0 {
            // What the server says is to be read now and then.
            wire.listen(Duration::from_millis(1));
        }
    }
}

fn receive(mut wire: Wire, seen: &Seen, stop: &AtomicBool) {
    let mut next: Option<u64> = None;
    let mut begin: Option<(u64, u32)> = None;
    wire.wait("the end of the test", Duration::from_secs(7200), |wire| {
        for tag in wire.tags.drain(..).filter(|tag| tag.kind == VIDEO && tag.payload != HEADER) {
            let (number, sent) = (u64_at(&tag.payload, NUMBER), u64_at(&tag.payload, SENT));
            assert_eq!(number, next.unwrap_or(number), "the next message");
            assert!(tag.payload == payload(number, sent), "message {number} is not what was sent");
            // On the player's own clock, which begins with its first message.
            let (first, start) = *begin.get_or_insert((number, tag.timestamp));
            let due = u32::try_from(20 * (number - first)).expect("some weeks");
            assert_eq!(tag.timestamp - start, due, "the time of message {number}");
            // The first come from the cache.
            if number >= first + GOP {
                seen.take(number, sent);
            }
            next = Some(number + 1);
        }
        stop.load(Ordering::Relaxed).then_some(())
    });
}

fn control(seen: &Seen, stop: &AtomicBool) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    near.set_nodelay(true).expect("a socket option");
    let (mut far, _) = listener.accept().expect("a connection");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut stamp = [0; 8];
            while far.read_exact(&mut stamp).is_ok() {
                seen.take(0, u64::from_be_bytes(stamp));
            }
        });
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
            near.write_all(&clock().to_be_bytes()).expect("a stamp is sent");
        }
        drop(near);
    });
}
