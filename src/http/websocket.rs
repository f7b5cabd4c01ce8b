//! WebSocket (RFC 6455) of a server that sends binary messages and reads next to nothing.
//!
//! `tungstenite` reads the frames of the client. The frames of the server are its payload after a head of at most
//! [`MAX_FRAME_HEAD`] bytes, which are the same for all clients.

use std::io::{self, Cursor, Read, Write};

use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::headers::Headers;

/// Longest head of a frame of the server, in bytes.
pub const MAX_FRAME_HEAD: usize = 10;

/// Longest message of a client, in bytes. Viewers send none; some send a line of text at the start.
const MAX_MESSAGE: usize = 4 * 1024;

/// First byte of a frame: the whole of a binary message (section 5.2).
const FINAL_BINARY: u8 = 0x82;

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub struct FrameHead {
    bytes: [u8; MAX_FRAME_HEAD],
    length: usize,
}

impl FrameHead {
    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Returns the head of a binary message with `length` bytes.
pub fn encode_frame_head(length: usize) -> FrameHead {
    let mut bytes = [0; MAX_FRAME_HEAD];
    bytes[0] = FINAL_BINARY;
    let length = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => {
            bytes[1] = short;
            2
        }
        (_, Ok(medium)) => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(length as u64).to_be_bytes());
            MAX_FRAME_HEAD
        }
    };
    FrameHead { bytes, length }
}

/// Returns the value of `Sec-WebSocket-Accept` for a request that asks for WebSocket (section 4.2.1); `None` if it does
/// not, or if it asks for another version.
pub fn accept_key(headers: &Headers) -> Option<String> {
    let is_upgrade = headers.has_token("upgrade", "websocket") && headers.has_token("connection", "upgrade");
    let key = headers.get_single("sec-websocket-key").filter(|_| is_upgrade)?;
    let is_version_13 = headers.get_single("sec-websocket-version") == Some("13");
    (is_version_13 && !key.is_empty()).then(|| tungstenite::handshake::derive_accept_key(key.as_bytes()))
}

/// The client has closed the connection, or violates the protocol. What [`Reader::take_output`] has is still to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Reader of a client's frames, which it answers.
#[derive(Debug)]
pub struct Reader {
    context: WebSocketContext,
    output: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        // Small buffers, because each viewer has them.
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE))
            .read_buffer_size(512)
            .write_buffer_size(0);
        Self { context: WebSocketContext::new(Role::Server, Some(config)), output: Vec::new() }
    }
}

impl Reader {
    /// Reads bytes of the client, and discards its messages.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let mut wire = MemoryStream { input: Cursor::new(bytes), output: &mut self.output };
        loop {
            match self.context.read(&mut wire) {
                Ok(Message::Close(_)) => {
                    // Queues the answer. Fails with `ConnectionClosed` once that is written.
                    let _ = self.context.flush(&mut wire);
                    return Err(Closed);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Closed),
            }
        }
    }

    /// Takes the frames to be sent: answers to pings and closes.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Queues the frame that closes the connection.
    pub fn close(&mut self) {
        let mut wire = MemoryStream { input: Cursor::new(&[]), output: &mut self.output };
        let _ = self.context.close(&mut wire, None);
        let _ = self.context.flush(&mut wire);
    }
}

/// The bytes of one call, in place of a socket.
struct MemoryStream<'a> {
    input: Cursor<&'a [u8]>,
    output: &'a mut Vec<u8>,
}

impl Read for MemoryStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for MemoryStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame of a client, masked with zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn heads_have_the_three_forms() {
        for (length, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(encode_frame_head(length).as_slice(), head);
        }
    }

    #[test]
    fn the_key_of_the_specification() {
        let mut headers = Headers::default();
        for (name, value) in [
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            assert_eq!(accept_key(&headers), None, "before {name}");
            headers.push(name, value.as_bytes());
        }
        assert_eq!(accept_key(&headers).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        headers.push("Sec-WebSocket-Key", b"again");
        assert_eq!(accept_key(&headers), None);
    }

    #[test]
    fn pings_are_answered_and_messages_discarded_at_any_split() {
        let input = [frame(0x81, b"hello"), frame(0x89, b"p"), frame(0x02, b"a"), frame(0x80, b"b")].concat();
        for at in 0..input.len() {
            let mut reader = Reader::default();
            assert_eq!((reader.feed(&input[..at]), reader.feed(&input[at..])), (Ok(()), Ok(())));
            assert_eq!(reader.take_output(), [0x8a, 1, b'p']);
        }
    }

    #[test]
    fn a_close_is_answered() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(&frame(0x88, &[3, 0xe8])), Err(Closed));
        assert_eq!(reader.take_output(), [0x88, 2, 3, 0xe8]);
        let mut reader = Reader::default();
        reader.close();
        assert_eq!(reader.take_output(), [0x88, 0]);
    }

    #[test]
    fn violations_and_long_messages_end_it() {
        let unmasked = [0x81, 1, b'a'].to_vec();
        let too_long = vec![0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let many_fragments = [frame(0x02, &[0; 125]), frame(0x00, &[0; 125]).repeat(40)].concat();
        for input in [unmasked, too_long, many_fragments, frame(0xf1, b""), frame(0x83, b"")] {
            assert_eq!(Reader::default().feed(&input), Err(Closed), "{:?}", &input[..3]);
        }
    }
}
