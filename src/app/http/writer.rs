//! Writing of response bodies whose end is not known when they begin.

use bytes::Bytes;

use super::channel::{Channel, End};
use crate::http::chunked::{LAST_CHUNK, chunk_start};
use crate::st::net::TcpStream;

/// Writer of the body of a response, from its connection's coroutine, see [`Body::Stream`](super::response::Body::Stream).
pub struct BodyWriter<'a, 'c> {
    channel: &'a mut Channel<'c>,
    is_chunked: bool,
}

impl<'a, 'c> BodyWriter<'a, 'c> {
    pub(super) fn new(channel: &'a mut Channel<'c>, is_chunked: bool) -> Self {
        Self { channel, is_chunked }
    }

    /// Writes a part of the body. Blocks the coroutine while the client does not read. Fails when the client or connection does.
    pub fn write(&mut self, part: Bytes) -> Result<(), End> {
        match part.len() {
            0 => Ok(()),
            len if self.is_chunked => {
                let start = Bytes::from(chunk_start(len));
                self.channel.write([start, part, Bytes::from_static(b"\r\n")], None)
            }
            _ => self.channel.write([part, Bytes::new(), Bytes::new()], None),
        }
    }

    pub fn number(&self) -> u64 {
        self.channel.number
    }

    /// Returns the socket, to wait on it, or to be written to by other coroutines. Bytes written to it are not chunked, so that
    /// only a response until the end of the connection may use that.
    pub fn stream(&self) -> &TcpStream {
        self.channel.stream
    }

    /// Takes the bytes that the client has sent after its request: the first ones of another protocol.
    pub fn take_input(&mut self) -> Vec<u8> {
        self.channel.take_input()
    }

    pub(super) fn finish(self) -> Result<(), End> {
        if self.is_chunked {
            self.channel.write([Bytes::from_static(LAST_CHUNK), Bytes::new(), Bytes::new()], None)?;
        }
        Ok(())
    }
}
