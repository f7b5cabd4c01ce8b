//! The connection as a handler sees it beside the request: the body, and the admission of viewers.

use std::net::SocketAddr;

use bytes::Bytes;

use super::channel::{Channel, End};
use super::response::Response;
use crate::app::session::close::CloseReason;
use crate::http::body::BodyDecoder;
use crate::http::request::{Expectation, Request};
use crate::http::status::Status;
use crate::memory::{Category, MemoryTracker};
use crate::st::net::TcpStream;

/// Retry time in seconds for clients that are not admitted: an overload lasts for seconds at least.
const RETRY_AFTER: u64 = 5;

pub struct Exchange<'a, 'c> {
    channel: &'a mut Channel<'c>,
    body: BodyDecoder,
    awaits_continue: bool,
}

impl<'a, 'c> Exchange<'a, 'c> {
    /// Starts the exchange. `max_body` is the limit of the handler, 0 if it reads no body: then a small one is discarded now.
    pub(super) fn start(channel: &'a mut Channel<'c>, request: &Request, max_body: u64) -> Result<Self, End> {
        let mut body = request.body_decoder(max_body).map_err(End::Refused)?;
        if max_body == 0 {
            channel.read_body(&mut body, |bytes| bytes.clear())?;
        }
        Ok(Self { channel, body, awaits_continue: request.expectation == Expectation::Continue })
    }

    pub fn memory(&self) -> &MemoryTracker {
        &self.channel.state.memory
    }

    pub fn peer(&self) -> SocketAddr {
        self.channel.peer()
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.channel.stream
    }

    /// Reads once what the client sends early, at most `max` bytes. Returns whether there was any. Fails when the client has
    /// left.
    pub(crate) fn read_early(&mut self, max: usize) -> Result<bool, CloseReason> {
        self.channel.read_early(max)
    }

    /// Returns the number of the connection in the log.
    pub fn number(&self) -> u64 {
        self.channel.number
    }

    /// Reads the body of the request, which is then charged to memory accounting. The limit is that of
    /// [`Handler::max_body`](super::router::Handler::max_body). A second call returns no bytes. Fails when the body is
    /// too large, invalid, or does not arrive in time. To be passed on: the client is then told.
    pub fn read_body(&mut self) -> Result<Bytes, End> {
        if self.body.is_finished() {
            return Ok(Bytes::new());
        }
        self.send_continue()?;
        let memory = self.channel.state.memory.clone();
        let charge = memory.charge(Category::Http);
        let mut body = Vec::new();
        self.channel.read_body(&mut self.body, |bytes| {
            body.append(bytes);
            charge.set(body.capacity());
        })?;
        drop(charge);
        let size = body.capacity();
        Ok(memory.charge_buffer(Category::Http, body.into(), size))
    }

    /// Reads the body of the request and discards it. Calls `on_bytes` with the number of bytes after each read, which
    /// may wait. The limits are those of [`Exchange::read_body`]. Errors: as [`Exchange::read_body`], and those of
    /// `on_bytes`.
    pub fn read_body_in_parts(&mut self, on_bytes: impl FnMut(u64) -> Result<(), End>) -> Result<(), End> {
        if self.body.is_finished() {
            return Ok(());
        }
        self.send_continue()?;
        self.channel.discard_body(&mut self.body, on_bytes)
    }

    fn send_continue(&mut self) -> Result<(), End> {
        if std::mem::take(&mut self.awaits_continue) && !self.channel.has_input() {
            let interim = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.channel.write([interim, Bytes::new(), Bytes::new()], None)?;
        }
        Ok(())
    }

    /// Admits the client to live streams for the rest of its connection. While the server is short of memory or
    /// overloaded, only those are admitted that were so before. Errors: the 503 for the client.
    pub fn admit_viewer(&mut self) -> Result<(), Box<Response>> {
        if !self.channel.is_viewer
            && let Err(reason) = self.channel.state.admission.check()
        {
            let response = Response::text(Status::ServiceUnavailable, &reason.to_string());
            return Err(Box::new(response.with("Retry-After", RETRY_AFTER)));
        }
        self.channel.is_viewer = true;
        Ok(())
    }

    /// Returns whether the next request of the connection follows, and not a body that nobody has read.
    pub(super) fn is_body_read(&self) -> bool {
        self.body.is_finished()
    }
}
