//! Tests of a stream with players whose sockets are in memory. Their output is decoded as a client decodes it.

mod events;
mod forwarders;
mod memory;
mod outputs;
mod players;
mod publishers;
mod snapshot;
#[cfg(feature = "http")]
mod viewers;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::headers::{ON_META_DATA, SET_DATA_FRAME};
use super::*;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{Config as ServerConfig, Vhost};
use crate::memory::MemoryTracker;
use crate::rtmp::chunk::ChunkDecoder;
use crate::rtmp::message::{Message, MessageType};

pub(super) struct Socket {
    room: AtomicUsize,
    written: Mutex<Vec<u8>>,
    woken: AtomicBool,
    closed: Mutex<Option<CloseReason>>,
}

impl Socket {
    pub(super) fn new(room: usize) -> Arc<Self> {
        let room = AtomicUsize::new(room);
        Arc::new(Self { room, written: Mutex::default(), woken: AtomicBool::new(false), closed: Mutex::default() })
    }
}

impl ClientHandle for Socket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
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

/// Writes what a consumer has for its socket, until it has caught up or the socket is full, as its coroutine does.
fn write_to(socket: &Socket, consumer: &mut Consumer, unwritten: &mut Vec<u8>) {
    loop {
        if !unwritten.is_empty() {
            let n = socket.try_write(unwritten).unwrap();
            unwritten.drain(..n);
            if !unwritten.is_empty() {
                return;
            }
        }
        let mut out = Vec::new();
        consumer.fill(&mut out);
        if out.is_empty() && !consumer.has_more() {
            socket.woken.store(false, Ordering::Relaxed);
            return;
        }
        *unwritten = out.concat();
    }
}

struct TestPlayer {
    socket: Arc<Socket>,
    consumer: Consumer,
    unwritten: Vec<u8>,
    decoder: ChunkDecoder,
}

impl TestPlayer {
    fn join(source: &Source) -> Self {
        Self::with_room(source, usize::MAX / 2)
    }

    fn with_room(source: &Source, room: usize) -> Self {
        let socket = Socket::new(room);
        let consumer = join(source, socket.clone());
        let mut decoder = ChunkDecoder::new();
        // The server sends this before a player joins.
        let size = (source.chunk_size() as u32).to_be_bytes();
        let set_chunk_size = [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &size].concat();
        assert_eq!(decoder.decode(&mut &set_chunk_size[..]), Ok(None));
        Self { socket, consumer, unwritten: Vec::new(), decoder }
    }

    fn run(&mut self) {
        write_to(&self.socket, &mut self.consumer, &mut self.unwritten);
    }

    fn received(&mut self) -> Vec<Message> {
        let bytes = std::mem::take(&mut *self.socket.written.lock().unwrap());
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some(message) = self.decoder.decode(&mut rest).unwrap() {
            messages.push(message);
        }
        messages
    }

    /// Runs the coroutine and returns what arrived, as type, timestamp and last payload byte, without user control events.
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
            .filter(|message| message.kind != MessageType::USER_CONTROL)
            .map(|message| (kind(message), message.timestamp, *message.payload.last().unwrap()))
            .collect()
    }
}

pub(super) fn client_info(id: u64) -> Arc<ClientInfo> {
    Arc::new(ClientInfo::of_test(id))
}

pub(super) fn stream_info() -> Arc<StreamInfo> {
    Arc::new(StreamInfo {
        vhost: "v".to_owned(),
        app: "live".to_owned(),
        stream: "s".to_owned(),
        name: "v/live/s".to_owned(),
        params: String::new(),
    })
}

/// Publishes a stream as client `id`, without anything between reservation and publication.
pub(super) fn acquire(source: &Source, id: u64, handle: Arc<dyn ClientHandle>) -> Result<Publication, StreamBusy> {
    source.reserve(id)?.publish(handle, stream_info(), client_info(id))
}

fn join(source: &Source, handle: Arc<dyn ClientHandle>) -> Consumer {
    source.join(handle, 1, stream_info(), client_info(100))
}

/// Returns a stream that sends each message at once.
fn source(directives: &str) -> Source {
    source_with_window(&format!("min_latency on; {directives}"))
}

fn source_with_window(directives: &str) -> Source {
    let text = format!("listen 1935; chunk_size 128; vhost __defaultVhost__ {{ {directives} }}");
    let config = ServerConfig::parse("t", &text).unwrap();
    Source::new("v/live/s", config.vhost("x").unwrap().clone(), &MemoryTracker::default())
}

pub(in crate::app) fn publish(source: &Source) -> Publication {
    acquire(source, 1, Socket::new(0)).unwrap()
}

fn message(kind: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    Message { kind, timestamp, stream_id: 1, payload: Bytes::copy_from_slice(payload) }
}

// Messages whose last byte is `n`.

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
        assert_eq!(publication.finish_round(now, |_| 0.0).flush_due, None, "min_latency: at once");
    }
}

fn send_headers(publication: &Publication) {
    send(publication, &[metadata(1), video_header(2), audio_header(3)]);
}

/// Returns a published stream with metadata and sequence headers.
fn live(directives: &str) -> (Source, Publication) {
    let source = source(directives);
    let publication = publish(&source);
    send_headers(&publication);
    (source, publication)
}
