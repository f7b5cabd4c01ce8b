//! Encodes RTMP sessions, valid or not, without any code of the server.

pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const WINDOW_SIZE: u8 = 5;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA: u8 = 18;
pub(crate) const COMMAND: u8 = 20;
pub(crate) const COMMAND_AMF3: u8 = 17;
pub(crate) const AGGREGATE: u8 = 22;

/// Returns C0, C1 and C2. The server checks only C0.
pub(crate) fn handshake() -> Vec<u8> {
    let mut bytes = vec![0; 1 + 2 * 1536];
    bytes[0] = 3;
    bytes
}

/// Returns a chunk header of type 0 on a chunk stream below 64.
pub(crate) fn header(csid: u8, timestamp: u32, length: usize, kind: u8, stream: u32) -> Vec<u8> {
    let mut out = vec![csid];
    out.extend_from_slice(&timestamp.min(0x00ff_ffff).to_be_bytes()[1..]);
    out.extend_from_slice(&u32::try_from(length).expect("24 bits").to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream.to_le_bytes());
    if timestamp >= 0x00ff_ffff {
        out.extend_from_slice(&timestamp.to_be_bytes());
    }
    out
}

/// Returns a message in chunks of `chunk_size`: the first of type 0, the others of type 3.
pub(crate) fn chunked(csid: u8, timestamp: u32, kind: u8, stream: u32, payload: &[u8], chunk_size: usize) -> Vec<u8> {
    let mut out = header(csid, timestamp, payload.len(), kind, stream);
    for (number, piece) in payload.chunks(chunk_size).enumerate() {
        if number > 0 {
            out.push(0xc0 | csid);
            if timestamp >= 0x00ff_ffff {
                out.extend_from_slice(&timestamp.to_be_bytes());
            }
        }
        out.extend_from_slice(piece);
    }
    out
}

/// Returns a message in chunks of 128 bytes, the size at the start of a connection.
pub(crate) fn message(csid: u8, timestamp: u32, kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    chunked(csid, timestamp, kind, stream, payload, 128)
}

/// Returns an AMF0 number.
pub(crate) fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

/// Returns an AMF0 string, a long one if necessary.
pub(crate) fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    match u16::try_from(value.len()) {
        Ok(len) => [&[2][..], &len.to_be_bytes(), value].concat(),
        Err(_) => [&[12][..], &u32::try_from(value.len()).expect("32 bits").to_be_bytes(), value].concat(),
    }
}

/// AMF0 null.
pub(crate) const NULL: [u8; 1] = [5];

/// Returns an AMF0 object.
pub(crate) fn object(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![3];
    for (name, value) in members {
        out.extend_from_slice(&text(name)[1..]);
        out.extend_from_slice(value);
    }
    out.extend_from_slice(&[0, 0, 9]);
    out
}

/// Returns a command: name, transaction id, and the encoded arguments `rest`.
pub(crate) fn command(stream: u32, name: &str, transaction: f64, rest: &[u8]) -> Vec<u8> {
    message(3, 0, COMMAND, stream, &[&text(name)[..], &number(transaction), rest].concat())
}

/// Returns a `connect` to the application `live`.
pub(crate) fn connect() -> Vec<u8> {
    let members = [("app", text("live")), ("tcUrl", text("rtmp://127.0.0.1/live"))];
    command(0, "connect", 1.0, &object(&members))
}

pub(crate) fn create_stream() -> Vec<u8> {
    command(0, "createStream", 2.0, &NULL)
}

pub(crate) fn publish(name: impl AsRef<[u8]>) -> Vec<u8> {
    command(1, "publish", 0.0, &[&NULL[..], &text(name), &text("live")].concat())
}

pub(crate) fn play(name: impl AsRef<[u8]>) -> Vec<u8> {
    command(1, "play", 0.0, &[&NULL[..], &text(name), &number(-2000.0)].concat())
}

/// Returns the client's side of a session up to `connect`.
pub(crate) fn connect_session() -> Vec<u8> {
    [handshake(), connect()].concat()
}

/// Returns the client's side of a session up to `publish`.
pub(crate) fn publish_session(name: impl AsRef<[u8]>) -> Vec<u8> {
    [connect_session(), create_stream(), publish(name)].concat()
}

/// Returns the client's side of a session up to `play`.
pub(crate) fn play_session(name: impl AsRef<[u8]>) -> Vec<u8> {
    [connect_session(), create_stream(), play(name)].concat()
}

/// Returns an H.264 sequence header, without which frames do not become HLS.
pub(crate) fn video_header() -> Vec<u8> {
    vec![0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe0, 0]
}

/// Returns an H.264 keyframe of `size` bytes: one NAL unit if there is room for its length.
pub(crate) fn keyframe(size: usize) -> Vec<u8> {
    let mut payload = vec![0x55; size.max(5)];
    payload[..5].copy_from_slice(&[0x17, 1, 0, 0, 0]);
    if let Some(length) = size.checked_sub(9) {
        payload[5..9].copy_from_slice(&u32::try_from(length).expect("small").to_be_bytes());
    }
    payload
}

/// Returns an H.264 frame of `size` bytes that is not a keyframe.
pub(crate) fn frame(size: usize) -> Vec<u8> {
    let mut payload = keyframe(size);
    payload[0] = 0x27;
    payload
}

/// Longest chunk: as long as a message may be.
pub(crate) const MAX_CHUNK: usize = 0xff_ffff;

/// Returns a message that sets the chunk size to `MAX_CHUNK`.
pub(crate) fn set_max_chunk_size() -> Vec<u8> {
    message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes())
}

/// Returns a message on message stream 1 in one chunk, for use after `set_max_chunk_size`.
pub(crate) fn single_chunk(csid: u8, timestamp: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    chunked(csid, timestamp, kind, 1, payload, MAX_CHUNK)
}
