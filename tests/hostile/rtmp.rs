//! RTMP as bytes, right or wrong.

pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const WINDOW: u8 = 5;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA: u8 = 18;
pub(crate) const COMMAND: u8 = 20;
pub(crate) const COMMAND_AMF3: u8 = 17;
pub(crate) const AGGREGATE: u8 = 22;

/// C0, C1 and some C2: the server looks at no more than the first.
pub(crate) fn handshake() -> Vec<u8> {
    let mut bytes = vec![0; 1 + 2 * 1536];
    bytes[0] = 3;
    bytes
}

/// A header of type 0 on a chunk stream below 64.
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

/// A message in chunks of `chunk_size`, the first of type 0.
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

/// A message in chunks of 128 bytes, as at the start of a connection.
pub(crate) fn message(csid: u8, timestamp: u32, kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    chunked(csid, timestamp, kind, stream, payload, 128)
}

pub(crate) fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

pub(crate) fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    match u16::try_from(value.len()) {
        Ok(len) => [&[2][..], &len.to_be_bytes(), value].concat(),
        Err(_) => [&[12][..], &u32::try_from(value.len()).expect("32 bits").to_be_bytes(), value].concat(),
    }
}

pub(crate) const NULL: [u8; 1] = [5];

pub(crate) fn object(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![3];
    for (name, value) in members {
        out.extend_from_slice(&text(name)[1..]);
        out.extend_from_slice(value);
    }
    out.extend_from_slice(&[0, 0, 9]);
    out
}

/// A command, with its name and transaction before `rest`.
pub(crate) fn command(stream: u32, name: &str, transaction: f64, rest: &[u8]) -> Vec<u8> {
    message(3, 0, COMMAND, stream, &[&text(name)[..], &number(transaction), rest].concat())
}

/// `connect` to the application `live`.
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

/// Everything up to `connect`.
pub(crate) fn connected() -> Vec<u8> {
    [handshake(), connect()].concat()
}

/// Everything up to `publish`.
pub(crate) fn publishing(name: impl AsRef<[u8]>) -> Vec<u8> {
    [connected(), create_stream(), publish(name)].concat()
}

/// Everything up to `play`.
pub(crate) fn playing(name: impl AsRef<[u8]>) -> Vec<u8> {
    [connected(), create_stream(), play(name)].concat()
}

/// A sequence header of H.264, without which frames do not become HLS.
pub(crate) fn video_header() -> Vec<u8> {
    vec![0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe0, 0]
}

/// A keyframe of H.264 of so many bytes: one NAL unit, if there is room for its length.
pub(crate) fn keyframe(size: usize) -> Vec<u8> {
    let mut payload = vec![0x55; size.max(5)];
    payload[..5].copy_from_slice(&[0x17, 1, 0, 0, 0]);
    if let Some(length) = size.checked_sub(9) {
        payload[5..9].copy_from_slice(&u32::try_from(length).expect("small").to_be_bytes());
    }
    payload
}

/// A frame that is no keyframe.
pub(crate) fn frame(size: usize) -> Vec<u8> {
    let mut payload = keyframe(size);
    payload[0] = 0x27;
    payload
}
