//! Decodes chunks into messages.

use bytes::{Bytes, BytesMut};

use super::header::{ChunkStream, MessageHeader, basic_header, be24};
use super::{DEFAULT_CHUNK_SIZE, EXTENDED_TIMESTAMP, Error, MAX_CHUNK_STREAMS, MAX_INCOMPLETE};
use crate::rtmp::message::{Message, MessageType};

/// Maximum size of a chunk header, in bytes: basic header 3, message header 11, extended time stamp 4.
const MAX_HEADER: usize = 18;

/// Maximum initial capacity of a payload buffer, in bytes. It grows with the bytes that arrive, not with the claimed length.
const MAX_INITIAL_CAPACITY: usize = 4096;

/// Chunk stream ids in a basic header of one byte are below this.
const ONE_BYTE_CSIDS: usize = 64;

const _: () = assert!(MAX_CHUNK_STREAMS < 256, "an index plus one fits a byte");

/// Decoder of the messages of a chunk stream from bytes that may be split anywhere. Set Chunk Size and Abort are applied and
/// not returned.
#[derive(Debug)]
pub struct ChunkDecoder {
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// Index of each stream with an id of one byte, plus one; 0 for none. A search touches the memory of all streams.
    by_csid: [u8; ONE_BYTE_CSIDS],
    /// Bytes of an incomplete header.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The chunk whose payload is being read: index of its stream, missing bytes.
    chunk: Option<(usize, usize)>,
    /// Bytes of all incomplete messages, and their limit.
    incomplete: usize,
    max_incomplete: usize,
    chunks: usize,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
            by_csid: [0; ONE_BYTE_CSIDS],
            header: [0; MAX_HEADER],
            header_len: 0,
            chunk: None,
            incomplete: 0,
            max_incomplete: MAX_INCOMPLETE,
            chunks: 0,
        }
    }
}

/// The result of reading a chunk header.
enum Header {
    /// More bytes are needed.
    Incomplete,
    /// A header of `len` bytes, for the chunk stream of this index.
    Complete { len: usize, stream: usize },
}

impl ChunkDecoder {
    /// Creates a decoder for the start of a chunk stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the state of each chunk stream, in the order of their first chunks.
    pub fn chunk_streams(&self) -> &[impl Sized + use<>] {
        &self.streams
    }

    /// Returns the chunk size that the sender has set.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Returns the number of chunks started so far. Wraps around.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Sets the maximum size of all incomplete messages, in bytes; by default [`MAX_INCOMPLETE`].
    pub fn limit_incomplete(&mut self, bytes: usize) {
        self.max_incomplete = bytes;
    }

    /// Returns whether there are received bytes of an incomplete message.
    pub fn has_incomplete(&self) -> bool {
        self.incomplete > 0
    }

    /// Returns the received bytes of incomplete messages.
    #[cfg(test)]
    pub(super) fn incomplete(&self) -> usize {
        self.incomplete
    }

    /// Returns whether an incomplete message has a type for which `wanted` is true.
    pub fn is_receiving(&self, wanted: impl Fn(MessageType) -> bool) -> bool {
        self.streams.iter().any(|stream| stream.payload.is_some() && wanted(stream.kind))
    }

    /// Returns the bytes allocated for incomplete messages: of each, the received bytes or the initial capacity.
    pub fn allocated(&self) -> usize {
        let payloads = self.streams.iter().flat_map(|stream| &stream.payload);
        payloads.map(|payload| payload.len().max(payload.capacity().min(MAX_INITIAL_CAPACITY))).sum()
    }

    /// Returns the total capacity of the payload buffers.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.streams.iter().flat_map(|stream| &stream.payload).map(BytesMut::capacity).sum()
    }

    /// Consumes bytes from the front of `input` until a message is complete. `None`: all of `input` was consumed, and no
    /// message is complete.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            if input.is_empty() && self.header_len == 0 {
                return Ok(None);
            }
            let stream = match self.chunk {
                Some((stream, missing)) => {
                    let taken = if self.header_len > 0 {
                        self.append_header_bytes(stream, missing)?
                    } else {
                        let (piece, rest) = input.split_at(missing.min(input.len()));
                        *input = rest;
                        self.append(stream, piece)?;
                        piece.len()
                    };
                    self.chunk = (taken < missing).then(|| (stream, missing - taken));
                    stream
                }
                None => match self.start_chunk(input)? {
                    Some(stream) => stream,
                    None => return Ok(None),
                },
            };
            let message = match self.take_whole_message(stream, input) {
                None if self.chunk.is_none() => self.finish_message(stream),
                message => message,
            };
            if let Some(message) = message
                && let Some(message) = self.apply_control(message)?
            {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a chunk header and returns the index of its stream. `None`: the header is incomplete, and its bytes are stored.
    fn start_chunk(&mut self, input: &mut &[u8]) -> Result<Option<usize>, Error> {
        // Nearly always: all of the header is in `input`, and needs no copy.
        if self.header_len == 0
            && let Some(bytes) = input.get(..MAX_HEADER)
            && let Header::Complete { len, stream } = self.read_header(bytes)?
        {
            *input = &input[len..];
            self.begin_payload(stream);
            return Ok(Some(stream));
        }
        let kept = self.header_len;
        let more = input.len().min(MAX_HEADER - kept);
        let mut bytes = self.header;
        bytes[kept..kept + more].copy_from_slice(&input[..more]);
        match self.read_header(&bytes[..kept + more])? {
            Header::Incomplete => {
                // MAX_HEADER bytes always contain a complete header, so all of `input` fits.
                *input = &input[more..];
                self.header = bytes;
                self.header_len = kept + more;
                Ok(None)
            }
            Header::Complete { len, stream } => {
                // The header ends in `input`, unless stored bytes looked like the start of a repeated extended time stamp but
                // are payload.
                *input = &input[len.saturating_sub(kept)..];
                self.header_len = kept.saturating_sub(len);
                bytes.copy_within(len.min(kept)..kept, 0);
                self.header = bytes;
                self.begin_payload(stream);
                Ok(Some(stream))
            }
        }
    }

    /// Starts the payload of a chunk whose header was read.
    fn begin_payload(&mut self, stream: usize) {
        self.chunks = self.chunks.wrapping_add(1);
        let state = &self.streams[stream];
        let received = state.payload.as_ref().map_or(0, BytesMut::len);
        let size = (state.length - received).min(self.chunk_size);
        self.chunk = (size > 0).then_some((stream, size));
    }

    /// Reads the header at the start of `bytes` and, if it is complete, applies it to its chunk stream.
    fn read_header(&mut self, bytes: &[u8]) -> Result<Header, Error> {
        let Some((fmt, csid, basic)) = basic_header(bytes) else { return Ok(Header::Incomplete) };
        let fields = &bytes[basic..];
        let size = [11, 7, 3, 0][usize::from(fmt)];
        let known = self.find_stream(csid);
        // Type 1 is allowed, it lacks only the message stream id: librtmp starts chunk stream 2 with such a User Control.
        if known.is_none() && fmt >= 2 {
            return Err(Error::NoHeader { csid, fmt });
        }
        if fields.len() < size {
            return Ok(Header::Incomplete);
        }
        let field = (fmt < 3).then(|| be24(fields));
        let extended = match (field, known) {
            (Some(EXTENDED_TIMESTAMP), _) => match fields[size..].first_chunk() {
                Some(value) => Some(u32::from_be_bytes(*value)),
                None => return Ok(Header::Incomplete),
            },
            (None, Some(stream)) => match self.repeated_extended(stream, &fields[size..]) {
                Some(extended) => extended,
                None => return Ok(Header::Incomplete),
            },
            _ => None,
        };
        let len = basic + size + if extended.is_some() { 4 } else { 0 };
        let stream = match known {
            Some(stream) => stream,
            None => self.add_stream(csid)?,
        };
        self.streams[stream].apply(&MessageHeader {
            fmt,
            time: field.map(|field| extended.unwrap_or(field)),
            extended,
            length_and_kind: (fmt < 2).then(|| (be24(&fields[3..]) as usize, MessageType(fields[6]))),
            // The only little-endian field of the protocol (section 5.3.1.2.1).
            stream_id: (fmt == 0).then(|| u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]])),
        })?;
        Ok(Header::Complete { len, stream })
    }

    /// Checks if a type-3 chunk repeats the extended time stamp of its message, as the specification demands. Old librtmp
    /// and its derivatives omit it. So four bytes count as the field only if they have the value of the header, or the time
    /// stamp of the message, which some clients send instead. `None`: more bytes are needed.
    fn repeated_extended(&mut self, stream: usize, bytes: &[u8]) -> Option<Option<u32>> {
        let state = &mut self.streams[stream];
        let Some(sent) = state.extended.filter(|_| !state.omits_extended) else { return Some(None) };
        for value in [sent, state.timestamp] {
            let expected = value.to_be_bytes();
            if bytes.starts_with(&expected) {
                return Some(Some(sent));
            }
            if bytes.len() < 4 && expected.starts_with(bytes) {
                return None;
            }
        }
        state.omits_extended = true;
        Some(None)
    }

    fn find_stream(&self, csid: u32) -> Option<usize> {
        match self.by_csid.get(csid as usize) {
            Some(&number) => usize::from(number).checked_sub(1),
            None => self.streams.iter().position(|stream| stream.csid == csid),
        }
    }

    fn add_stream(&mut self, csid: u32) -> Result<usize, Error> {
        if self.streams.len() == MAX_CHUNK_STREAMS {
            return Err(Error::TooManyStreams);
        }
        // Most clients have one or two, for which `push` would allocate four.
        self.streams.reserve_exact(1);
        self.streams.push(ChunkStream {
            csid,
            kind: MessageType(0),
            length: 0,
            stream_id: 0,
            timestamp: 0,
            delta: 0,
            extended: None,
            omits_extended: false,
            payload: None,
        });
        if let Some(number) = self.by_csid.get_mut(csid as usize) {
            *number = self.streams.len() as u8;
        }
        Ok(self.streams.len() - 1)
    }

    /// Takes a message, of which only the header was read, if all of it is one chunk at the start of `input`. Nearly all messages
    /// are, if the peer sends large chunks, and need no buffer that grows.
    fn take_whole_message(&mut self, stream: usize, input: &mut &[u8]) -> Option<Message> {
        let (_, missing) = self.chunk?;
        let state = &mut self.streams[stream];
        let is_whole = missing == state.length && self.header_len == 0;
        if !is_whole || self.incomplete + missing > self.max_incomplete {
            return None;
        }
        let (payload, rest) = input.split_at_checked(missing)?;
        *input = rest;
        self.chunk = None;
        state.payload = None;
        let payload = Bytes::copy_from_slice(payload);
        Some(Message { kind: state.kind, timestamp: state.timestamp, stream_id: state.stream_id, payload })
    }

    fn append(&mut self, stream: usize, piece: &[u8]) -> Result<(), Error> {
        if self.incomplete + piece.len() > self.max_incomplete {
            return Err(Error::TooMuchIncomplete(self.max_incomplete));
        }
        let state = &mut self.streams[stream];
        let payload = state.payload.get_or_insert_default();
        if payload.capacity() - payload.len() < piece.len() {
            // A message that is completely received gets a buffer of its size, any other a buffer that doubles.
            let more = payload.len().max(MAX_INITIAL_CAPACITY).max(piece.len()).min(state.length - payload.len());
            if payload.is_empty() {
                // Half the work of `reserve`.
                *payload = BytesMut::with_capacity(more);
            } else {
                payload.reserve(more);
            }
        }
        payload.extend_from_slice(piece);
        self.incomplete += piece.len();
        Ok(())
    }

    /// Appends stored header bytes that turned out to be payload. Returns their number.
    fn append_header_bytes(&mut self, stream: usize, missing: usize) -> Result<usize, Error> {
        let (kept, len) = (self.header, self.header_len);
        let taken = missing.min(len);
        self.append(stream, &kept[..taken])?;
        self.header.copy_within(taken..len, 0);
        self.header_len = len - taken;
        Ok(taken)
    }

    fn finish_message(&mut self, stream: usize) -> Option<Message> {
        let state = &mut self.streams[stream];
        if state.payload.as_ref().is_some_and(|payload| payload.len() < state.length) {
            return None;
        }
        let payload = state.payload.take().map_or_else(Bytes::new, BytesMut::freeze);
        self.incomplete -= payload.len();
        Some(Message { kind: state.kind, timestamp: state.timestamp, stream_id: state.stream_id, payload })
    }

    /// Applies a message that concerns the chunk stream itself. Returns any other message.
    fn apply_control(&mut self, message: Message) -> Result<Option<Message>, Error> {
        if message.kind.is_media() {
            return Ok(Some(message));
        }
        let value = message.payload.first_chunk().map(|value| u32::from_be_bytes(*value));
        match message.kind {
            MessageType::SET_CHUNK_SIZE => match value {
                Some(size @ 1..=0x7fff_ffff) => {
                    self.chunk_size = size as usize;
                    Ok(None)
                }
                bad => Err(Error::BadChunkSize(bad)),
            },
            MessageType::ABORT => {
                let state = self.streams.iter_mut().find(|stream| Some(stream.csid) == value);
                if let Some(payload) = state.and_then(|state| state.payload.take()) {
                    self.incomplete -= payload.len();
                }
                Ok(None)
            }
            _ => Ok(Some(message)),
        }
    }
}
