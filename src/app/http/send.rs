//! Sending of responses: vectored writes from where the bytes are.

use bytes::Bytes;

use super::channel::{Channel, End};
use super::disk::CHUNK;
use super::response::{Body, Response, WriteBody};
use super::writer::BodyWriter;
use crate::http::response::{Persistence, ResponseLength};
use crate::http::status::Status;
use crate::memory::Category;
use crate::st;

/// The request that a response answers, as far as it matters to sending.
#[derive(Clone, Copy)]
pub(super) struct Recipient {
    pub(super) keep_alive: bool,
    pub(super) with_body: bool,
    pub(super) knows_chunks: bool,
}

/// A response of which at least the head was sent.
pub(super) struct Sent {
    pub(super) is_kept: bool,
    pub(super) rest: Option<StreamedBody>,
}

/// A body that a function writes until it returns.
pub(super) struct StreamedBody {
    write: Box<WriteBody>,
    is_chunked: bool,
}

impl StreamedBody {
    #[inline(never)] // As `send`.
    pub(super) fn send(self, channel: &mut Channel<'_>) -> Result<(), End> {
        let mut writer = BodyWriter::new(channel, self.is_chunked);
        (self.write)(&mut writer)?;
        writer.finish()
    }
}

/// Sends a response, or the head of one whose body is streamed: that waits for hours, with as little on its stack as possible.
#[inline(never)] // Keeps its locals off the stack of a connection that waits.
pub(super) fn send(channel: &mut Channel<'_>, response: Response, to: Recipient) -> Result<Sent, End> {
    let Response { mut head, body, close } = response;
    if head.length == ResponseLength::Chunked && !to.knows_chunks {
        head.length = ResponseLength::UntilClose;
    }
    let is_last = close || head.length == ResponseLength::UntilClose;
    let persistence = match head.status {
        Status::SwitchingProtocols => Persistence::Upgrade,
        _ if to.keep_alive && !is_last => Persistence::KeepAlive,
        _ => Persistence::Close,
    };
    let is_chunked = head.length == ResponseLength::Chunked;
    let head = Bytes::from(channel.state.encode_head(&head, persistence));
    let is_kept = persistence == Persistence::KeepAlive;
    let rest = match body {
        Body::Stream(write) if to.with_body => {
            channel.write([head, Bytes::new(), Bytes::new()], None)?;
            Some(StreamedBody { write, is_chunked })
        }
        body => {
            send_parts(channel, head, if to.with_body { body } else { Body::Empty })?;
            None
        }
    };
    Ok(Sent { is_kept, rest })
}

fn send_parts(channel: &mut Channel<'_>, mut head: Bytes, body: Body) -> Result<(), End> {
    let started = st::now();
    match body {
        // `send` sends the body of the latter.
        Body::Empty | Body::Stream(_) => channel.write([head, Bytes::new(), Bytes::new()], None),
        Body::Bytes(body) => channel.write([head, body, Bytes::new()], None),
        Body::Charged(body, range) => {
            // The range is one of the body, so it fits.
            let part = body.slice(range.start as usize..range.end as usize);
            channel.write([head, part, Bytes::new()], Some((&body, started)))
        }
        Body::Pages(body, pages, range) => {
            if channel.stream.is_encrypted() {
                return send_parts(channel, head, Body::Charged(body, range));
            }
            channel.write_pages(head, &pages, range, (&body, started))
        }
        Body::File(found, range) => {
            let mut at = range.start;
            let mut rest = Some(found);
            while let Some(found) = rest.take() {
                let end = (at + CHUNK).min(range.end);
                let chunk = found.read(at..end).map_err(End::File)?;
                // Closes the file before the last chunk is written.
                rest = (end < range.end).then_some(found);
                let chunk = channel.state.memory.charge_bytes(Category::Http, chunk);
                channel.write([std::mem::take(&mut head), chunk.clone(), Bytes::new()], Some((&chunk, started)))?;
                at = end;
            }
            Ok(())
        }
    }
}
