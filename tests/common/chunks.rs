//! RTMP chunks of the test client, which shares no code with the server.

use std::collections::HashMap;

use crate::common::amf::take;

/// Value of a 24-bit timestamp field that announces an extended timestamp.
const EXTENDED: u32 = 0x00ff_ffff;

/// A received message.
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
}

/// Decoder of the chunks that the server sends.
pub(crate) struct ChunkDecoder {
    input: Vec<u8>,
    /// Bytes of `input` that are decoded.
    done: usize,
    chunk_size: usize,
    streams: HashMap<u32, ChunkStream>,
}

/// State of a chunk stream of the server.
#[derive(Default)]
struct ChunkStream {
    kind: u8,
    size: usize,
    stream: u32,
    timestamp: u32,
    /// Last timestamp field, absolute or a delta.
    field: u32,
    partial: Vec<u8>,
}

impl ChunkDecoder {
    pub(crate) fn new() -> Self {
        Self { input: Vec::new(), done: 0, chunk_size: 128, streams: HashMap::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..std::mem::take(&mut self.done));
        self.input.extend_from_slice(bytes);
    }

    pub(crate) fn set_chunk_size(&mut self, size: usize) {
        self.chunk_size = size;
    }

    /// Returns the next complete message of the input.
    pub(crate) fn next(&mut self) -> Option<Message> {
        loop {
            let (message, rest) = self.decode_chunk()?;
            self.done = self.input.len() - rest;
            if message.is_some() {
                return message;
            }
        }
    }

    /// Decodes one chunk. Returns the message that it completes, and the number of bytes behind it; `None` if the chunk is
    /// incomplete.
    fn decode_chunk(&mut self) -> Option<(Option<Message>, usize)> {
        let input = &mut &self.input[self.done..];
        let basic = take(input, 1)?[0];
        let csid = match basic & 0x3f {
            0 => u32::from(take(input, 1)?[0]) + 64,
            1 => {
                let bytes = take(input, 2)?;
                u32::from(bytes[0]) + 64 + u32::from(bytes[1]) * 256
            }
            csid => u32::from(csid),
        };
        let fmt = basic >> 6;
        let header = take(input, [11, 7, 3, 0][usize::from(fmt)])?;
        let state = self.streams.entry(csid).or_default();
        let u24 = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        let mut field = if fmt < 3 { u24(header) } else { state.field.min(EXTENDED) };
        if field == EXTENDED {
            field = u32::from_be_bytes(take(input, 4)?.try_into().ok()?);
        }
        let size = if fmt < 2 { usize::try_from(u24(&header[3..])).ok()? } else { state.size };
        let is_start = state.partial.is_empty();
        let payload = take(input, (size - state.partial.len()).min(self.chunk_size))?;
        // The chunk is complete: only now may it change the state.
        assert!(fmt == 3 || is_start, "chunk stream {csid}: a new message begins inside another");
        if fmt < 2 {
            state.kind = header[6];
        }
        if fmt == 0 {
            state.stream = u32::from_le_bytes(header[7..].try_into().ok()?);
        }
        if is_start {
            state.timestamp = if fmt == 0 { field } else { state.timestamp.wrapping_add(field) };
        }
        (state.size, state.field) = (size, field);
        state.partial.extend_from_slice(payload);
        let message = (state.partial.len() == size).then(|| Message {
            kind: state.kind,
            timestamp: state.timestamp,
            payload: std::mem::take(&mut state.partial),
        });
        Some((message, input.len()))
    }
}

/// Encodes a message: the first chunk of type 0, the others of type 3.
pub(crate) fn encode(csid: u8, kind: u8, stream: u32, timestamp: u32, payload: &[u8], chunk_size: usize) -> Vec<u8> {
    let extended = (timestamp >= EXTENDED).then(|| timestamp.to_be_bytes());
    let mut out = vec![csid];
    out.extend_from_slice(&timestamp.min(EXTENDED).to_be_bytes()[1..]);
    out.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend(extended.iter().flatten());
    for (number, chunk) in payload.chunks(chunk_size).enumerate() {
        if number > 0 {
            out.push(0xc0 | csid);
            out.extend(extended.iter().flatten());
        }
        out.extend_from_slice(chunk);
    }
    out
}
