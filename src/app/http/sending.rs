//! How responses are written: from where they are, at the pace of those who take them.

use std::io::{self, IoSlice, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::connection::{Connection, End};
use super::disk::CHUNK;
use super::response::{Body, Response};
use crate::memory::Part;

/// How few bytes a second a client may take of what it is sent.
const SLOWEST: u64 = 4 * 1024;

impl Connection<'_> {
    #[inline(never)] // What it needs is not to be on the stack of a connection that waits.
    pub(super) fn send(&mut self, response: Response, keep_alive: bool, with_body: bool) -> Result<(), End> {
        let mut head = Bytes::from(self.http.head(&response, keep_alive));
        let began = Instant::now();
        match response.body {
            Body::Bytes(body) if with_body => self.write(head, body, None),
            Body::Counted(body, range) if with_body => {
                // The range is one of the body, so it fits.
                let part = body.slice(range.start as usize..range.end as usize);
                self.write(head, part, Some((&body, began)))
            }
            Body::File(found, range) if with_body => {
                let mut at = range.start;
                let mut rest = Some(found);
                while let Some(found) = rest.take() {
                    let end = (at + CHUNK).min(range.end);
                    let chunk =
                        self.http.disk.read(&found, at..end).map_err(|absent| End::File(format!("{absent:?}")))?;
                    // The last piece is waited for without the file.
                    rest = (end < range.end).then_some(found);
                    let chunk = self.http.server.account.count(Part::Http, chunk);
                    self.write(std::mem::take(&mut head), chunk.clone(), Some((&chunk, began)))?;
                    at = end;
                }
                Ok(())
            }
            _ => self.write(head, Bytes::new(), None),
        }
    }

    /// Writes both, from where they are. A client that takes them drop by drop is not waited for. `counted`: what is kept in the account
    /// until the body is written, if it is of that, and since when the response lasts; when memory is short, it may end before.
    fn write(&mut self, mut head: Bytes, mut body: Bytes, counted: Option<(&Bytes, Instant)>) -> Result<(), End> {
        let bytes = (head.len() + body.len()) as u64;
        self.stream.set_time_limit(Some(self.times.send + Duration::from_secs(bytes / SLOWEST)));
        let mut stream = self.stream;
        let mut waiting = None;
        while head.has_remaining() || body.has_remaining() {
            let n = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(&body)]).map_err(|error| {
                // Nobody else interrupts.
                let is_shed = error.kind() == io::ErrorKind::ConnectionAborted;
                if is_shed { End::Memory } else { End::Network(error) }
            })?;
            self.http.counts.bytes.fetch_add(n as u64, Ordering::Relaxed);
            let of_head = n.min(head.len());
            head.advance(of_head);
            body.advance(n - of_head);
            if head.has_remaining() || body.has_remaining() {
                if let Some((all, began)) = counted {
                    let downloads = &self.http.downloads;
                    waiting.get_or_insert_with(|| downloads.wait(self.number, stream, all, began));
                }
                stream.wait_for_room();
            }
        }
        self.stream.set_time_limit(None);
        if waiting.take().is_some() {
            // It may have been told to end when there was nothing left to wait for.
            self.stream.resume();
        }
        Ok(())
    }
}
