//! Messages over a connection: what to do with the bytes of either direction, and the messages that concern nobody else.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Error;
use super::chunk::{ChunkDecoder, ChunkHeader, ChunkStreamId, DEFAULT_CHUNK_SIZE, encode};
use super::command::Command;
use super::message::{Aggregate, Message, MessageType, UserControl};
use crate::memory::Held;

/// What one read may take: enough for what a publisher sends between two looks at it.
const READ_BUFFER: usize = 16 * 1024;

/// Messages that are decoded at a time. A message may be of one byte on the wire, and what is kept of it is fifty: what else a read has
/// brought is kept as it came.
const BATCH: usize = 256;

/// Chunks that cost about as much to take as a message does to look at. A chunk may have one byte in it.
const CHUNKS: usize = 8;

/// Bytes of answers that may wait while there is more to be heard: each may be many times as long as what it answers.
pub const MAX_ANSWERS: usize = 16 * 1024;

/// What there is of the bytes that were fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A message.
    Message(Message),
    /// Nothing for anybody else in the last 256 messages, and there are more: time to see to others.
    More,
    /// Nothing more.
    Empty,
}

/// One end of a connection. Reading and writing block, as the stream does; [`Protocol::feed`] and
/// [`Protocol::next_message`] do the same without a stream.
pub struct Protocol<S> {
    stream: S,
    decoder: ChunkDecoder,
    /// Decoded and not yet asked for; at most a batch.
    inbox: VecDeque<Message>,
    /// Came and was not decoded yet. Bounded by what one read brings, where all is asked for before the next.
    unread: Vec<u8>,
    /// See [`Protocol::work`].
    work: usize,
    /// The peer has asked for our window.
    owes_window: bool,
    /// What is left of an aggregate, before the inbox.
    aggregate: Option<Aggregate>,
    buffer: Vec<u8>,
    /// Encoded and not yet written: answers are sent together, before the next wait for the peer.
    outbox: BytesMut,
    chunk_size: usize,
    received: u64,
    acknowledged: u64,
    /// After how many bytes the peer wants an Acknowledgement (section 5.4.4). `None`: it did not say.
    window: Option<u32>,
    /// The window that we told the peer, to tell it again when it sets our bandwidth.
    own_window: u32,
    /// Where what has come and is not looked at yet is counted, with what is owed.
    incoming: Option<Arc<Held>>,
    /// What is counted there may have become less.
    is_counted: bool,
    /// See [`Protocol::owe`].
    owed: usize,
}

impl<S> Protocol<S> {
    /// A connection whose handshake is done.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            decoder: ChunkDecoder::new(),
            inbox: VecDeque::new(),
            unread: Vec::new(),
            work: 0,
            owes_window: false,
            aggregate: None,
            buffer: Vec::new(),
            outbox: BytesMut::new(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            received: 0,
            acknowledged: 0,
            window: None,
            own_window: 0,
            incoming: None,
            is_counted: false,
            owed: 0,
        }
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Has what has come and is not looked at yet counted: incomplete messages, and those that nobody has asked for.
    pub fn count_incoming(&mut self, held: Arc<Held>) {
        self.incoming = Some(held);
        self.count();
    }

    /// Has so many bytes of answers counted with it: they were [taken](Protocol::take_output), and the peer has not taken them yet.
    pub fn owe(&mut self, bytes: usize) {
        if self.owed != bytes {
            self.owed = bytes;
            self.count();
        }
    }

    /// Has it be an error when more than so many bytes have come of messages that are not complete.
    pub fn limit_incoming(&mut self, bytes: usize) {
        self.decoder.limit_incomplete(bytes);
    }

    /// Lets go of all that has come and was not asked for: the connection is about to end, and nothing more is fed.
    pub fn forget_incoming(&mut self) {
        self.work = self.work();
        self.decoder = ChunkDecoder::new();
        self.inbox = VecDeque::new();
        self.unread = Vec::new();
        self.aggregate = None;
        if let Some(incoming) = &self.incoming {
            incoming.set(0);
        }
    }

    /// Takes bytes that came from the peer. All messages of what was fed before are to be asked for first.
    ///
    /// # Errors
    /// When they are no chunk stream.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.received += bytes.len() as u64;
        if self.unread.is_empty() {
            self.decode(&mut bytes)?;
        }
        self.unread.extend_from_slice(bytes);
        self.count();
        self.is_counted = true;
        if let Some(window) = self.window
            && self.received - self.acknowledged >= u64::from(window)
        {
            self.acknowledged = self.received;
            // The sequence number has 32 bits and wraps (section 5.4.3).
            self.control(MessageType::ACKNOWLEDGEMENT, &(self.received as u32).to_be_bytes());
        }
        Ok(())
    }

    fn decode(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        while self.inbox.len() < BATCH
            && let Some(message) = self.decoder.decode(bytes)?
        {
            self.inbox.push_back(message);
        }
        Ok(())
    }

    fn count(&self) {
        if let Some(incoming) = &self.incoming {
            let complete: usize = self.inbox.iter().map(|message| message.payload.len()).sum();
            let aggregate = self.aggregate.as_ref().map_or(0, Aggregate::held);
            incoming.set(self.decoder.held() + self.unread.len() + complete + aggregate + self.owed);
        }
    }

    /// The next message of those that were fed. Messages about the connection itself are carried out and not returned,
    /// aggregates are taken apart.
    ///
    /// # Errors
    /// When what was fed is no chunk stream, or an aggregate is broken.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match self.poll_message()? {
                Polled::Message(message) => return Ok(Some(message)),
                Polled::More => {}
                Polled::Empty => return Ok(None),
            }
        }
    }

    /// The same, in pieces: for those who have others to see to.
    ///
    /// # Errors
    /// As [`Protocol::next_message`].
    pub fn poll_message(&mut self) -> Result<Polled, Error> {
        loop {
            if let Some(aggregate) = &mut self.aggregate {
                if let Some(message) = aggregate.next_message().map_err(|error| Error::Protocol(error.to_string()))? {
                    self.work = self.work.wrapping_add(work_of(&message));
                    return Ok(Polled::Message(message));
                }
                self.aggregate = None;
            }
            let Some(message) = self.inbox.pop_front() else { break };
            self.work = self.work.wrapping_add(work_of(&message));
            match message.kind {
                MessageType::AGGREGATE => self.aggregate = Some(Aggregate::new(message)),
                MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                    // A window of nothing asks for nothing.
                    self.window = first_u32(&message.payload).filter(|&window| window > 0);
                }
                MessageType::SET_PEER_BANDWIDTH => {
                    // Section 5.4.5: the answer is our window, if it is another than the peer asks for.
                    self.owes_window |= self.own_window > 0 && first_u32(&message.payload) != Some(self.own_window);
                }
                MessageType::USER_CONTROL => {
                    if let Some(UserControl::PingRequest(time)) = UserControl::read(&message.payload) {
                        self.user_control(UserControl::PingResponse(time));
                    }
                }
                MessageType::ACKNOWLEDGEMENT => {}
                _ => return Ok(Polled::Message(message)),
            }
        }
        // Once for all who asked, since an answer is longer than the question.
        if std::mem::take(&mut self.owes_window) {
            self.set_window(self.own_window);
        }
        if self.unread.is_empty() {
            if self.inbox.capacity() > BATCH / 4 {
                self.inbox = VecDeque::new();
            }
            if std::mem::take(&mut self.is_counted) {
                self.count();
            }
            return Ok(Polled::Empty);
        }
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        self.decode(&mut rest)?;
        self.unread = rest.to_vec();
        self.count();
        Ok(Polled::More)
    }

    /// What was done so far for what the peer has said: one for each message, and one for each 2 KiB in it, or 8 bytes of a command; and
    /// one for eight chunks. It wraps around.
    pub fn work(&self) -> usize {
        self.work.wrapping_add(self.decoder.chunks() / CHUNKS)
    }

    /// Queues a message, as chunks of type 0 and 3.
    pub fn send(&mut self, csid: ChunkStreamId, message: &Message) {
        let header =
            ChunkHeader { csid, kind: message.kind, timestamp: message.timestamp, stream_id: message.stream_id };
        encode(&mut self.outbox, &header, &message.payload, self.chunk_size);
    }

    /// Queues a command: of the connection for stream 0, else of that stream.
    pub fn send_command(&mut self, stream_id: u32, command: &Command) {
        let csid = if stream_id == 0 { ChunkStreamId::COMMAND } else { ChunkStreamId::STATUS };
        self.send(csid, &Message { kind: MessageType::COMMAND, timestamp: 0, stream_id, payload: command.write() });
    }

    /// Queues a User Control message.
    pub fn user_control(&mut self, event: UserControl) {
        self.control(MessageType::USER_CONTROL, &event.write());
    }

    /// Queues Set Chunk Size and uses the size from then on. 1 to 65536 bytes.
    pub fn set_chunk_size(&mut self, size: usize) {
        self.control(MessageType::SET_CHUNK_SIZE, &(size as u32).to_be_bytes());
        self.chunk_size = size;
    }

    /// Uses a size from now on that the peer has been told of by other means.
    pub fn assume_chunk_size(&mut self, size: usize) {
        self.chunk_size = size;
    }

    /// The size of the chunks that are sent.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Queues Window Acknowledgement Size: the peer is to acknowledge each `window` bytes.
    pub fn set_window(&mut self, window: u32) {
        self.own_window = window;
        self.control(MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE, &window.to_be_bytes());
    }

    /// Queues Set Peer Bandwidth, of the limit type "dynamic".
    pub fn set_peer_bandwidth(&mut self, bandwidth: u32) {
        const DYNAMIC: u8 = 2;
        let [a, b, c, d] = bandwidth.to_be_bytes();
        self.control(MessageType::SET_PEER_BANDWIDTH, &[a, b, c, d, DYNAMIC]);
    }

    /// Takes what is queued, to write it by other means.
    pub fn take_output(&mut self) -> Bytes {
        std::mem::take(&mut self.outbox).freeze()
    }

    /// Whether anything is queued.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Bytes that are queued.
    pub fn output_len(&self) -> usize {
        self.outbox.len()
    }

    /// Gives back the memory that only a connection that receives much needs.
    pub fn release_buffers(&mut self) {
        self.buffer = Vec::new();
        self.inbox.shrink_to_fit();
    }

    fn control(&mut self, kind: MessageType, payload: &[u8]) {
        let header = ChunkHeader { csid: ChunkStreamId::CONTROL, kind, timestamp: 0, stream_id: 0 };
        encode(&mut self.outbox, &header, payload, self.chunk_size);
    }
}

impl<S: Read + Write> Protocol<S> {
    /// Blocks until a message is there. Sends what is queued first.
    ///
    /// # Errors
    /// When the connection ends or fails, or the peer's bytes are no RTMP.
    pub fn recv_message(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.receive()?;
        }
    }

    /// Sends what is queued, then blocks until the peer has sent something, and takes it.
    ///
    /// # Errors
    /// When the connection ends or fails, or the peer's bytes are no RTMP.
    pub fn receive(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.buffer.resize(READ_BUFFER, 0);
        let n = self.stream.read(&mut self.buffer)?;
        if n == 0 {
            return Err(Error::Closed);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.feed(&buffer[..n]);
        self.buffer = buffer;
        result
    }

    /// Blocks until all that is queued is written.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.outbox.is_empty() {
            let bytes = self.take_output();
            self.owe(bytes.len());
            self.stream.write_all(&bytes)?;
            self.stream.flush()?;
            self.owe(0);
        }
        Ok(())
    }
}

/// What a message costs to look at, about: see [`Protocol::work`]. Of commands each value is looked at, and it may be of one byte.
fn work_of(message: &Message) -> usize {
    let is_command = matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3);
    1 + message.payload.len() / if is_command { 8 } else { 2048 }
}

fn first_u32(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|value| u32::from_be_bytes(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a protocol queued, decoded.
    fn sent(protocol: &mut Protocol<()>) -> Vec<Message> {
        let bytes = protocol.take_output();
        let (mut rest, mut decoder, mut messages) = (&bytes[..], ChunkDecoder::new(), Vec::new());
        while let Some(message) = decoder.decode(&mut rest).unwrap() {
            messages.push(message);
        }
        messages
    }

    fn control(kind: MessageType, payload: &[u8]) -> Bytes {
        let mut peer = Protocol::new(());
        peer.control(kind, payload);
        peer.take_output()
    }

    #[test]
    fn a_ping_is_answered_with_its_time() {
        let mut protocol = Protocol::new(());
        protocol.feed(&control(MessageType::USER_CONTROL, &[0, 6, 0, 0, 1, 2])).unwrap();
        assert_eq!(protocol.next_message().unwrap(), None);
        let answer = sent(&mut protocol).remove(0);
        assert_eq!((answer.kind, &answer.payload[..]), (MessageType::USER_CONTROL, &[0, 7, 0, 0, 1, 2][..]));
    }

    #[test]
    fn bytes_are_acknowledged_by_the_window_that_the_peer_set() {
        let mut protocol = Protocol::new(());
        let window = control(MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE, &100u32.to_be_bytes());
        protocol.feed(&window).unwrap();
        assert_eq!(protocol.next_message().unwrap(), None);
        assert_eq!(sent(&mut protocol), []);
        // An Acknowledgement of the peer's, again and again, for something to count.
        let filler = control(MessageType::ACKNOWLEDGEMENT, &[0; 4]);
        let mut total = window.len();
        let mut acknowledged = Vec::new();
        for _ in 0..20 {
            protocol.feed(&filler).unwrap();
            total += filler.len();
            acknowledged.extend(sent(&mut protocol).iter().map(|ack| first_u32(&ack.payload).unwrap() as usize));
        }
        assert_eq!(acknowledged.len(), total / 112, "each time when at least 100 bytes have come, in steps of 16");
        assert!(acknowledged.is_sorted() && acknowledged[0] >= 100);
    }

    #[test]
    fn windows_of_zero_and_one_byte_do_no_harm() {
        for (window, acks) in [(0u32, 0), (1, 1)] {
            let mut protocol = Protocol::new(());
            protocol.feed(&control(MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE, &window.to_be_bytes())).unwrap();
            assert_eq!(protocol.next_message().unwrap(), None);
            protocol.feed(&control(MessageType::ACKNOWLEDGEMENT, &[0; 4])).unwrap();
            assert_eq!(sent(&mut protocol).len(), acks, "one an input, not one a byte");
        }
    }

    #[test]
    fn set_peer_bandwidth_is_answered_with_the_window() {
        let mut protocol = Protocol::new(());
        protocol.set_window(2_500_000);
        sent(&mut protocol);
        protocol.feed(&control(MessageType::SET_PEER_BANDWIDTH, &[0, 0, 0, 9, 2])).unwrap();
        assert_eq!(protocol.next_message().unwrap(), None);
        let answer = sent(&mut protocol).remove(0);
        assert_eq!(first_u32(&answer.payload), Some(2_500_000));
    }

    #[test]
    fn aggregates_in_a_row_that_have_nothing_in_them_are_passed_over() {
        let mut peer = Protocol::new(());
        let empty = Message { kind: MessageType::AGGREGATE, timestamp: 0, stream_id: 0, payload: Bytes::new() };
        (0..1000).for_each(|_| peer.send(ChunkStreamId::VIDEO, &empty));
        peer.send(ChunkStreamId::AUDIO, &Message { kind: MessageType(8), payload: Bytes::from_static(&[1]), ..empty });
        let mut protocol = Protocol::new(());
        protocol.feed(&peer.take_output()).unwrap();
        // On a stack that has room for few calls in each other.
        let kind = std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || protocol.next_message().unwrap().map(|message| message.kind.0));
        assert_eq!(kind.unwrap().join().unwrap(), Some(8));
    }

    #[test]
    fn what_nobody_has_asked_for_is_counted() {
        let account = crate::memory::Account::default();
        let held = Arc::new(account.hold(crate::memory::Part::Incoming));
        let mut protocol = Protocol::new(());
        protocol.count_incoming(held.clone());
        let mut peer = Protocol::new(());
        peer.set_chunk_size(65_536);
        let payload = Bytes::from(vec![0; 50_000]);
        let aggregate = [&[9, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 0x8000], &[0; 4]].concat();
        for (kind, payload) in [(9, payload.clone()), (22, Bytes::from(aggregate)), (9, payload)] {
            peer.send(ChunkStreamId::VIDEO, &Message { kind: MessageType(kind), timestamp: 0, stream_id: 1, payload });
        }
        protocol.feed(&peer.take_output()).unwrap();
        assert!(held.get() >= 132_000, "{}", held.get());
        while protocol.next_message().unwrap().is_some() {
            assert!(held.get() >= 132_000, "until all of it is seen to");
        }
        assert_eq!(held.get(), 0);
        protocol.owe(700);
        assert_eq!(held.get(), 700);
        protocol.owe(0);
        assert_eq!(account.total(), 0);
    }

    #[test]
    fn small_chunks_are_work() {
        let mut peer = Protocol::new(());
        peer.set_chunk_size(1);
        let payload = Bytes::from(vec![0; 8000]);
        peer.send(ChunkStreamId::VIDEO, &Message { kind: MessageType(9), timestamp: 0, stream_id: 1, payload });
        let mut protocol = Protocol::new(());
        let before = protocol.work();
        protocol.feed(&peer.take_output()).unwrap();
        assert!((1000..1010).contains(&(protocol.work() - before)));
        let before = protocol.work();
        protocol.forget_incoming();
        assert_eq!(protocol.work(), before, "it does not run backwards");
    }

    #[test]
    fn an_aggregate_comes_apart_before_what_follows_it() {
        let mut peer = Protocol::new(());
        let aggregate = [8, 0, 0, 1, 0, 0, 10, 0, 0, 0, 0, 0xaf, 0, 0, 0, 12, 9, 0, 0, 1, 0, 0, 20, 0, 0, 0, 0, 0x17];
        for (kind, payload) in [(22, &aggregate[..]), (8, &[1])] {
            let payload = Bytes::copy_from_slice(payload);
            peer.send(ChunkStreamId::AUDIO, &Message { kind: MessageType(kind), timestamp: 50, stream_id: 1, payload });
        }
        let mut protocol = Protocol::new(());
        protocol.feed(&peer.take_output()).unwrap();
        let kinds: Vec<_> =
            std::iter::from_fn(|| protocol.next_message().unwrap()).map(|m| (m.kind.0, m.timestamp)).collect();
        assert_eq!(kinds, [(8, 50), (9, 60), (8, 50)]);
    }
}
