//! A source with players whose sockets are in memory: what arrives at a player is decoded as a client would decode it.

mod forwarders;
mod players;
mod publishers;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

mod memory;

use super::configs::{ON_META_DATA, SET_DATA_FRAME};
use super::*;
use crate::config::Config as ServerConfig;
use crate::rtmp::chunk::ChunkDecoder;
use crate::rtmp::message::{Message, MessageType};

/// A player: a socket that takes so many bytes, and what its coroutine would do.
struct Socket {
    room: AtomicUsize,
    written: Mutex<Vec<u8>>,
    woken: AtomicBool,
    closed: Mutex<Option<CloseReason>>,
}

impl Socket {
    fn new(room: usize) -> Arc<Self> {
        let room = AtomicUsize::new(room);
        Arc::new(Self { room, written: Mutex::default(), woken: AtomicBool::new(false), closed: Mutex::default() })
    }
}

impl Outlet for Socket {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.room.fetch_sub(n, Ordering::Relaxed);
        self.written.lock().unwrap().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn wake(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    fn close(&self, reason: CloseReason) {
        *self.closed.lock().unwrap() = Some(reason);
    }
}

struct TestPlayer {
    socket: Arc<Socket>,
    consumer: Consumer,
    pending: Vec<u8>,
    decoder: ChunkDecoder,
}

impl TestPlayer {
    fn join(source: &Source) -> Self {
        Self::with_room(source, usize::MAX / 2)
    }

    fn with_room(source: &Source, room: usize) -> Self {
        let socket = Socket::new(room);
        let consumer = source.join(socket.clone(), 1);
        let mut decoder = ChunkDecoder::new();
        // What the server has told the player before.
        let size = (source.chunk_size() as u32).to_be_bytes();
        let set_chunk_size = [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &size].concat();
        assert_eq!(decoder.decode(&mut &set_chunk_size[..]), Ok(None));
        Self { socket, consumer, pending: Vec::new(), decoder }
    }

    /// Does what the player's coroutine does, until there is nothing to do or no room.
    fn run(&mut self) {
        loop {
            if !self.pending.is_empty() {
                let n = self.socket.offer(&self.pending).unwrap();
                self.pending.drain(..n);
                if !self.pending.is_empty() {
                    return;
                }
            }
            let mut batch = Vec::new();
            self.consumer.fill(&mut batch);
            if batch.is_empty() {
                self.socket.woken.store(false, Ordering::Relaxed);
                return;
            }
            self.pending = batch.concat();
        }
    }

    /// What has arrived since it was asked last.
    fn received(&mut self) -> Vec<Message> {
        let bytes = std::mem::take(&mut *self.socket.written.lock().unwrap());
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some(message) = self.decoder.decode(&mut rest).unwrap() {
            messages.push(message);
        }
        messages
    }

    /// The same, after its coroutine has run, as kind, time and first payload bytes.
    fn got(&mut self) -> Vec<(char, u32, u8)> {
        self.run();
        let kind = |message: &Message| match message.kind {
            MessageType::AUDIO => 'a',
            MessageType::VIDEO => 'v',
            MessageType::DATA => 'd',
            _ => 's',
        };
        self.received()
            .iter()
            .map(|message| (kind(message), message.timestamp, *message.payload.last().unwrap()))
            .collect()
    }
}

fn source(directives: &str) -> Source {
    source_with_window(&format!("min_latency on; {directives}"))
}

fn source_with_window(directives: &str) -> Source {
    let text = format!("listen 1935; chunk_size 128; vhost __defaultVhost__ {{ {directives} }}");
    let config = ServerConfig::parse("t", &text).unwrap();
    Source::new("v/live/s", config.vhost("x").unwrap().clone(), &Account::default())
}

fn publish(source: &Source) -> Publication {
    source.acquire_publish(1, Socket::new(0)).unwrap()
}

fn message(kind: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    Message { kind, timestamp, stream_id: 1, payload: Bytes::copy_from_slice(payload) }
}

/// Messages that end in `n`: sequence headers, a keyframe, an inter frame, audio, metadata.
fn video_header(n: u8) -> Message {
    message(MessageType::VIDEO, 0, &[0x17, 0, 0, 0, 0, n])
}

fn audio_header(n: u8) -> Message {
    message(MessageType::AUDIO, 0, &[0xaf, 0, n])
}

fn key(time: u32, n: u8) -> Message {
    message(MessageType::VIDEO, time, &[&[0x17, 1, 0, 0, 0][..], &[n; 300]].concat())
}

fn inter(time: u32, n: u8) -> Message {
    message(MessageType::VIDEO, time, &[0x27, 1, 0, 0, 0, n])
}

fn audio(time: u32, n: u8) -> Message {
    message(MessageType::AUDIO, time, &[0xaf, 1, n])
}

fn metadata(n: u8) -> Message {
    message(MessageType::DATA, 0, &[SET_DATA_FRAME, ON_META_DATA, &[n]].concat())
}

fn send(publication: &Publication, messages: &[Message]) {
    let now = Instant::now();
    for message in messages {
        publication.on_message(message, now);
        assert_eq!(publication.flush_due(now, 0.0), None, "min_latency: at once");
    }
}

fn begin(publication: &Publication) {
    send(publication, &[metadata(1), video_header(2), audio_header(3)]);
}

/// A stream whose publisher has sent what players need before media.
fn live(directives: &str) -> (Source, Publication) {
    let source = source(directives);
    let publication = publish(&source);
    begin(&publication);
    (source, publication)
}
