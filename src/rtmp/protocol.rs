//! One end of an RTMP connection after the handshake: decodes received bytes into messages, encodes messages to send, and
//! handles the messages of the connection itself.
//!
//! ```text
//!  receive/feed -> unread bytes -> ChunkDecoder -> inbox -> poll_message -> Message, to the caller
//!                                                             |  aggregates are split
//!                                                             v
//!                             window, bandwidth, ping: handled here, replies are queued
//!                                                             |
//!  send, send_command, set_chunk_size -> chunks -> outbox <---+
//!                                                    `-> flush, take_output
//! ```
//!
//! The input is bounded: by [`Protocol::limit_incomplete`], by the size of one read, and by [`MAX_PENDING_REPLIES`] if the
//! caller stops reading above it. The buffered bytes are reported to the charge of [`Protocol::track_input`].

mod output;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::BytesMut;

use super::Error;
use super::chunk::{ChunkDecoder, DEFAULT_CHUNK_SIZE};
use super::message::{Aggregate, Message, MessageType, UserControl};
use crate::memory::Charge;

/// Size of the read buffer, in bytes: enough for the data that a publisher sends between two reads.
const READ_BUFFER: usize = 16 * 1024;

/// Maximum number of messages decoded at a time. A message of one byte on the wire takes fifty bytes decoded, so the rest of
/// a read stays encoded.
const BATCH: usize = 256;

/// Maximum size of input, in bytes, that is not charged before its messages are polled. Most of it is nothing but whole
/// messages, which are handled at once.
const MAX_UNCHARGED: usize = 4 * 1024;

/// Number of chunks that count as one work unit. A chunk can contain a single byte.
const CHUNKS_PER_UNIT: usize = 8;

/// Payload bytes that count as one work unit. In commands each value is decoded, and a value can be one byte long.
const PAYLOAD_PER_UNIT: usize = 2048;
const COMMAND_PER_UNIT: usize = 8;

/// Maximum size of the pending replies, in bytes, above which no more input should be read: a reply can be many times longer
/// than its request.
pub const MAX_PENDING_REPLIES: usize = 16 * 1024;

/// The result of [`Protocol::poll_message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A message for the caller.
    Message(Message),
    /// A batch of messages contained none for the caller, and more input is buffered. The caller should yield.
    Yield,
    /// All input is processed.
    Empty,
}

/// One end of a connection. Reads and writes block if the stream blocks; [`Protocol::feed`] and [`Protocol::next_message`]
/// work without a stream.
pub struct Protocol<S> {
    stream: S,
    decoder: ChunkDecoder,
    /// The first decoded message. Most reads have one, which then needs no memory beside this value.
    first: Option<Message>,
    /// The decoded messages after it, at most one batch.
    inbox: VecDeque<Message>,
    /// Received bytes that are not decoded yet; at most one read if the caller polls all messages before the next one.
    unread: Vec<u8>,
    /// Work units of processed messages, see [`Protocol::work_units`].
    message_work: usize,
    /// The peer asked for our window, and the reply is not queued yet.
    window_requested: bool,
    /// The rest of an aggregate, before the inbox. Few clients ever send one.
    aggregate: Option<Box<Aggregate>>,
    buffer: Vec<u8>,
    /// Encoded bytes to send: replies are sent together, before the next read.
    outbox: BytesMut,
    chunk_size: usize,
    received: u64,
    acknowledged: u64,
    /// Interval of Acknowledgements that the peer set (section 5.4.4), in bytes.
    window: Option<u32>,
    /// The window sent to the peer, sent again in reply to Set Peer Bandwidth.
    own_window: u32,
    /// The charge for buffered input and in-flight replies.
    charge: Option<Arc<Charge>>,
    /// The amount of the charge.
    charged: usize,
    /// The amount may be wrong since the last feed.
    charge_stale: bool,
    in_flight_replies: usize,
}

impl<S> Protocol<S> {
    /// Wraps a connection whose handshake is done.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            decoder: ChunkDecoder::new(),
            first: None,
            inbox: VecDeque::new(),
            unread: Vec::new(),
            message_work: 0,
            window_requested: false,
            aggregate: None,
            buffer: Vec::new(),
            outbox: BytesMut::new(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            received: 0,
            acknowledged: 0,
            window: None,
            own_window: 0,
            charge: None,
            charged: 0,
            charge_stale: false,
            in_flight_replies: 0,
        }
    }

    /// Returns what the decoder keeps of each chunk stream.
    pub(super) fn chunk_streams(&self) -> &[impl Sized + use<S>] {
        self.decoder.chunk_streams()
    }

    /// Returns the stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sets the charge that follows the size of the buffered input and the in-flight replies.
    pub fn track_input(&mut self, charge: Arc<Charge>) {
        self.charge = Some(charge);
        self.update_charge();
    }

    /// Sets the size of the replies that were [taken](Protocol::take_output) and are not written yet, in bytes.
    pub fn set_in_flight_replies(&mut self, bytes: usize) {
        if self.in_flight_replies != bytes {
            self.in_flight_replies = bytes;
            self.update_charge();
            self.charge_stale = true;
        }
    }

    /// Sets the maximum size of all incomplete messages, in bytes. More is a chunk stream error.
    pub fn limit_incomplete(&mut self, bytes: usize) {
        self.decoder.limit_incomplete(bytes);
    }

    /// Returns whether a part of an audio, video or data message has arrived, and not yet all of it.
    pub fn is_receiving_media(&self) -> bool {
        self.decoder.is_receiving(|kind| kind.is_media() || kind == MessageType::AGGREGATE)
    }

    /// Discards all buffered input. The connection is about to end, and nothing more may be fed.
    pub fn discard_input(&mut self) {
        self.message_work = self.work_units();
        self.decoder = ChunkDecoder::new();
        self.first = None;
        self.inbox = VecDeque::new();
        self.unread = Vec::new();
        self.aggregate = None;
        if let Some(charge) = &self.charge {
            charge.set(0);
            self.charged = 0;
        }
    }

    /// Adds bytes received from the peer. The caller should poll all earlier messages first. Fails when the bytes are
    /// not a valid chunk stream.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let len = bytes.len();
        self.received += len as u64;
        if self.unread.is_empty() {
            self.decode(&mut bytes)?;
        }
        self.unread.extend_from_slice(bytes);
        if len > MAX_UNCHARGED {
            self.update_charge();
        }
        // Most reads are nothing but whole messages: with these polled, the charge is what it was.
        self.charge_stale =
            self.decoder.has_incomplete() || !self.unread.is_empty() || self.charged != self.in_flight_replies;
        if let Some(window) = self.window
            && self.received - self.acknowledged >= u64::from(window)
        {
            self.acknowledged = self.received;
            // The sequence number has 32 bits and wraps (section 5.4.3).
            self.send_control(MessageType::ACKNOWLEDGEMENT, &(self.received as u32).to_be_bytes());
        }
        Ok(())
    }

    fn decode(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        while self.inbox.len() < BATCH
            && let Some(message) = self.decoder.decode(bytes)?
        {
            if self.first.is_none() && self.inbox.is_empty() {
                self.first = Some(message);
            } else {
                self.inbox.push_back(message);
            }
        }
        Ok(())
    }

    fn update_charge(&mut self) {
        if let Some(charge) = &self.charge {
            let inbox: usize = self.first.iter().chain(&self.inbox).map(|message| message.payload.len()).sum();
            let aggregate = self.aggregate.as_ref().map_or(0, |aggregate| aggregate.allocated());
            self.charged = self.decoder.allocated() + self.unread.len() + inbox + aggregate + self.in_flight_replies;
            charge.set(self.charged);
        }
    }

    /// Returns whether [`Protocol::poll_message`] has anything to do.
    pub fn has_input(&self) -> bool {
        self.first.is_some()
            || !self.inbox.is_empty()
            || self.charge_stale
            || self.aggregate.is_some()
            || !self.unread.is_empty()
            || self.window_requested
            || self.inbox.capacity() > BATCH / 4
    }

    /// Returns the next message of the buffered input. Messages of the connection itself are handled and not returned;
    /// aggregates are split. Fails when the input is not a valid chunk stream, or an aggregate is malformed.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match self.poll_message()? {
                Polled::Message(message) => return Ok(Some(message)),
                Polled::Yield => {}
                Polled::Empty => return Ok(None),
            }
        }
    }

    /// Does the same as [`Protocol::next_message`], but returns [`Polled::Yield`] after each batch of messages. Errors:
    /// as [`Protocol::next_message`].
    pub fn poll_message(&mut self) -> Result<Polled, Error> {
        loop {
            if let Some(aggregate) = &mut self.aggregate {
                if let Some(message) = aggregate.next_message().map_err(|error| Error::Protocol(error.to_string()))? {
                    self.add_work(&message);
                    return Ok(Polled::Message(message));
                }
                self.aggregate = None;
            }
            let Some(message) = self.first.take().or_else(|| self.inbox.pop_front()) else { break };
            self.add_work(&message);
            match message.kind {
                kind if kind.is_media() => return Ok(Polled::Message(message)),
                MessageType::AGGREGATE => self.aggregate = Some(Box::new(Aggregate::new(message))),
                MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                    // A window of 0 disables Acknowledgements.
                    self.window = first_u32(&message.payload).filter(|&window| window > 0);
                }
                MessageType::SET_PEER_BANDWIDTH => {
                    // Section 5.4.5: the reply is our window, if it differs from the requested one.
                    self.window_requested |=
                        self.own_window > 0 && first_u32(&message.payload) != Some(self.own_window);
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
        // One reply to all requests of a batch, because the reply is longer than a request.
        if std::mem::take(&mut self.window_requested) {
            self.set_window(self.own_window);
        }
        if self.unread.is_empty() {
            if self.inbox.capacity() > BATCH / 4 {
                self.inbox = VecDeque::new();
            }
            if std::mem::take(&mut self.charge_stale) {
                self.update_charge();
            }
            return Ok(Polled::Empty);
        }
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        self.decode(&mut rest)?;
        self.unread = rest.to_vec();
        self.update_charge();
        self.charge_stale = true;
        Ok(Polled::Yield)
    }

    fn add_work(&mut self, message: &Message) {
        let is_command = matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3);
        let bytes_per_unit = if is_command { COMMAND_PER_UNIT } else { PAYLOAD_PER_UNIT };
        self.message_work = self.message_work.wrapping_add(1 + message.payload.len() / bytes_per_unit);
    }

    /// Returns the work done so far for the input of the peer, in work units: one for each message, one for each 2 KiB of
    /// payload or 8 bytes of a command, and one for eight chunks. Wraps around.
    pub fn work_units(&self) -> usize {
        self.message_work.wrapping_add(self.decoder.chunks() / CHUNKS_PER_UNIT)
    }

    /// Frees the read buffer and the spare capacity of the inbox. They are allocated again when needed.
    pub fn release_buffers(&mut self) {
        self.buffer = Vec::new();
        self.inbox.shrink_to_fit();
    }
}

impl<S: Read + Write> Protocol<S> {
    /// Writes the queued bytes, then blocks until a message arrives. Fails when the connection ends or fails, or the
    /// input is not valid RTMP.
    pub fn recv_message(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.receive()?;
        }
    }

    /// Writes the queued bytes, then blocks until bytes arrive, and feeds them. Fails when the connection ends or
    /// fails, or the input is not valid RTMP.
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
}

fn first_u32(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|value| u32::from_be_bytes(*value))
}

#[cfg(test)]
mod tests;
