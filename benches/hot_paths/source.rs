//! A message of a publisher, on its way to its players: what the source does for it, which is not to grow with their number,
//! and that together with the offer to each.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use srs::app::CloseReason;
use srs::app::stream::{Consumer, Outlet, Publication, Source};
use srs::config::Config;
use srs::memory::Account;
use srs::rtmp::message::{Message, MessageType};

/// Messages that are handed on together, as they are under load; and those of a GOP.
const BATCH: u32 = 8;
const GOP: u32 = 48;

/// A socket that takes everything.
struct Sink;

impl Outlet for Sink {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn wake(&self) {}

    fn close(&self, _: CloseReason) {}
}

/// A stream with a publisher and players who are level with it.
struct Stream {
    publication: Publication,
    _consumers: Vec<Consumer>,
    key: Bytes,
    inter: Bytes,
    sent: u32,
}

impl Stream {
    fn new(players: usize) -> Self {
        let config = Config::parse("bench", "listen 1935; vhost __defaultVhost__ { min_latency on; }").unwrap();
        let source = Source::new("v/live/s", config.vhost("v").unwrap().clone(), &Account::default());
        let publication = source.acquire_publish(1, Arc::new(Sink)).ok().unwrap();
        let payload = |first: u8| [&[first, 1, 0, 0, 0][..], &[0; 2000]].concat().into();
        let mut stream =
            Self { publication, _consumers: Vec::new(), key: payload(0x17), inter: payload(0x27), sent: 0 };
        stream.send();
        stream.flush();
        stream._consumers = (0..players).map(|_| source.join(Arc::new(Sink), 1)).collect();
        for consumer in &stream._consumers {
            let mut batch = Vec::new();
            while !consumer.stats().level {
                batch.clear();
                consumer.fill(&mut batch);
            }
        }
        stream
    }

    /// The next message: a keyframe, if one is due.
    fn message(&mut self) -> Message {
        let payload = if self.sent.is_multiple_of(GOP) { &self.key } else { &self.inter };
        let message = Message {
            kind: MessageType::VIDEO,
            timestamp: self.sent.wrapping_mul(40),
            stream_id: 1,
            payload: payload.clone(),
        };
        self.sent = self.sent.wrapping_add(1);
        message
    }

    fn send(&mut self) {
        let now = Instant::now();
        for _ in 0..BATCH {
            let message = self.message();
            self.publication.on_message(&message, now);
        }
    }

    fn flush(&self) {
        assert_eq!(self.publication.flush_due(Instant::now(), 0.0), None, "min_latency: at once");
    }
}

pub(crate) fn publishing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("source");
    group.throughput(Throughput::Elements(BATCH.into()));
    for players in [1, 1000] {
        let mut stream = Stream::new(players);
        group.bench_function(BenchmarkId::new("8 messages", players), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut taken = Duration::ZERO;
                for _ in 0..rounds {
                    let begin = Instant::now();
                    stream.send();
                    taken += begin.elapsed();
                    stream.flush();
                }
                taken
            });
        });
        group.bench_function(BenchmarkId::new("8 messages and their offer", players), |bencher| {
            bencher.iter(|| {
                stream.send();
                stream.flush();
            });
        });
    }
    group.finish();
}
