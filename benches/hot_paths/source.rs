//! The path of a publisher's message through a stream: alone, which must not depend on the number of players, and with
//! the writes to the players' sockets.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use srs::app::CloseReason;
use srs::app::session::info::{ClientInfo, StreamInfo};
use srs::app::stream::{ClientHandle, Consumer, Publication, Source};
use srs::config::Config;
use srs::memory::MemoryTracker;
use srs::rtmp::message::{Message, MessageType};

/// Messages per batch, as under load.
const BATCH_MESSAGES: u32 = 8;
const GOP_MESSAGES: u32 = 48;

/// A client whose socket accepts everything.
struct FastClient;

impl ClientHandle for FastClient {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn wake(&self) {}

    fn close(&self, _: CloseReason) {}
}

fn client_info() -> Arc<ClientInfo> {
    Arc::new(ClientInfo {
        id: 1,
        ip: [127, 0, 0, 1].into(),
        vhost: "v".to_owned(),
        app: "live".to_owned(),
        app_params: String::new(),
        tc_url: String::new(),
        page_url: String::new(),
        forward_route: String::new(),
        engine: None,
    })
}

fn stream_info() -> Arc<StreamInfo> {
    Arc::new(StreamInfo {
        vhost: "v".to_owned(),
        app: "live".to_owned(),
        stream: "s".to_owned(),
        name: "v/live/s".to_owned(),
        params: String::new(),
    })
}

/// A published stream whose players have caught up.
struct Stream {
    publication: Publication,
    _consumers: Vec<Consumer>,
    keyframe: Bytes,
    inter_frame: Bytes,
    sent: u32,
}

impl Stream {
    fn new(players: usize) -> Self {
        let config = Config::parse("bench", "listen 1935; vhost __defaultVhost__ { min_latency on; }").unwrap();
        let source = Source::new("v/live/s", config.vhost("v").unwrap().clone(), &MemoryTracker::default());
        let publication =
            source.reserve(1).unwrap().publish(Arc::new(FastClient), stream_info(), client_info()).unwrap();
        let payload = |first: u8| [&[first, 1, 0, 0, 0][..], &[0; 2000]].concat().into();
        let mut stream =
            Self { publication, _consumers: Vec::new(), keyframe: payload(0x17), inter_frame: payload(0x27), sent: 0 };
        stream.send_batch();
        stream.flush();
        stream._consumers =
            (0..players).map(|_| source.join(Arc::new(FastClient), 1, stream_info(), client_info())).collect();
        for consumer in &stream._consumers {
            let mut out = Vec::new();
            while !consumer.stats().caught_up {
                out.clear();
                consumer.fill(&mut out);
            }
        }
        stream
    }

    fn next_message(&mut self) -> Message {
        let payload = if self.sent.is_multiple_of(GOP_MESSAGES) { &self.keyframe } else { &self.inter_frame };
        let message = Message {
            kind: MessageType::VIDEO,
            timestamp: self.sent.wrapping_mul(40),
            stream_id: 1,
            payload: payload.clone(),
        };
        self.sent = self.sent.wrapping_add(1);
        message
    }

    fn send_batch(&mut self) {
        let now = Instant::now();
        for _ in 0..BATCH_MESSAGES {
            let message = self.next_message();
            self.publication.on_message(&message, now);
        }
    }

    fn flush(&self) {
        assert_eq!(self.publication.finish_round(Instant::now(), |_| 0.0).flush_due, None, "min_latency: at once");
    }
}

pub(crate) fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("source");
    group.throughput(Throughput::Elements(BATCH_MESSAGES.into()));
    for players in [1, 1000] {
        let mut stream = Stream::new(players);
        group.bench_function(BenchmarkId::new("8 messages", players), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    stream.send_batch();
                    elapsed += start.elapsed();
                    stream.flush();
                }
                elapsed
            });
        });
        group.bench_function(BenchmarkId::new("8 messages and their writes", players), |bencher| {
            bencher.iter(|| {
                stream.send_batch();
                stream.flush();
            });
        });
    }
    group.finish();
}
