//! Sending of responses: vectored writes from where the bytes are, with a minimum rate.

use std::io::{self, IoSlice, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::connection::{Connection, End};
use super::disk::CHUNK;
use super::response::{Body, Response};
use crate::memory::Category;

/// The minimum rate of a client, in bytes per second: a response gets `send_timeout` plus the time it takes at this rate.
const MIN_RATE: u64 = 4 * 1024;

impl Connection<'_> {
    /// Sends a response; the body only if `with_body`.
    #[inline(never)] // Keeps its locals off the stack of a connection that waits.
    pub(super) fn send(&mut self, response: Response, keep_alive: bool, with_body: bool) -> Result<(), End> {
        let mut head = Bytes::from(self.http.head(&response, keep_alive));
        let started = Instant::now();
        match response.body {
            Body::Bytes(body) if with_body => self.write(head, body, None),
            Body::Charged(body, range) if with_body => {
                // The range is one of the body, so it fits.
                let part = body.slice(range.start as usize..range.end as usize);
                self.write(head, part, Some((&body, started)))
            }
            Body::File(found, range) if with_body => {
                let mut at = range.start;
                let mut rest = Some(found);
                while let Some(found) = rest.take() {
                    let end = (at + CHUNK).min(range.end);
                    let chunk = self.http.disk.read(&found, at..end).map_err(End::File)?;
                    // Closes the file before the last chunk is written.
                    rest = (end < range.end).then_some(found);
                    let chunk = self.http.server.memory.charge_bytes(Category::Http, chunk);
                    self.write(std::mem::take(&mut head), chunk.clone(), Some((&chunk, started)))?;
                    at = end;
                }
                Ok(())
            }
            _ => self.write(head, Bytes::new(), None),
        }
    }

    /// Writes head and body. Fails with a timeout when the client is slower than [`MIN_RATE`].
    ///
    /// `charged` is the buffer that memory accounting charges while the body is being written, and the start of the response:
    /// such a response is aborted when memory is short.
    fn write(&mut self, mut head: Bytes, mut body: Bytes, charged: Option<(&Bytes, Instant)>) -> Result<(), End> {
        let bytes = (head.len() + body.len()) as u64;
        self.stream.set_time_limit(Some(self.timeouts.send + Duration::from_secs(bytes / MIN_RATE)));
        let mut stream = self.stream;
        let mut stalled = None;
        while head.has_remaining() || body.has_remaining() {
            let n = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(&body)]).map_err(|error| {
                // Only `StalledResponses` interrupts the stream.
                let is_aborted = error.kind() == io::ErrorKind::ConnectionAborted;
                if is_aborted { End::Memory } else { End::Network(error) }
            })?;
            self.http.counters.bytes.fetch_add(n as u64, Ordering::Relaxed);
            let of_head = n.min(head.len());
            head.advance(of_head);
            body.advance(n - of_head);
            if head.has_remaining() || body.has_remaining() {
                if let Some((buffer, started)) = charged {
                    let responses = &self.http.stalled;
                    stalled.get_or_insert_with(|| responses.register(self.number, stream, buffer, started));
                }
                stream.wait_for_room();
            }
        }
        self.stream.set_time_limit(None);
        if stalled.take().is_some() {
            // It may have been aborted after the last byte was written.
            self.stream.resume();
        }
        Ok(())
    }
}
