//! Sending of responses: vectored writes from where the bytes are.

use bytes::Bytes;

use super::channel::{Channel, End};
use super::disk::CHUNK;
use super::response::{Body, Response};
use super::writer::BodyWriter;
use crate::http::response::{Persistence, ResponseLength};
use crate::http::status::Status;
use crate::memory::Category;
use crate::st;

/// The request that a response answers, as far as it matters to sending.
#[derive(Clone, Copy)]
pub(super) struct Recipient {
    /// The client wants to keep the connection.
    pub(super) keep_alive: bool,
    /// The client wants the body.
    pub(super) with_body: bool,
    /// The client knows the chunked coding.
    pub(super) knows_chunks: bool,
}

/// Sends a response. Returns whether the connection is kept.
#[inline(never)] // Keeps its locals off the stack of a connection that waits.
pub(super) fn send(channel: &mut Channel<'_>, mut response: Response, to: Recipient) -> Result<bool, End> {
    if response.head.length == ResponseLength::Chunked && !to.knows_chunks {
        response.head.length = ResponseLength::UntilClose;
    }
    let is_last = response.close || response.head.length == ResponseLength::UntilClose;
    let persistence = match response.head.status {
        Status::SwitchingProtocols => Persistence::Upgrade,
        _ if to.keep_alive && !is_last => Persistence::KeepAlive,
        _ => Persistence::Close,
    };
    let head = Bytes::from(channel.state.encode_head(&response.head, persistence));
    let body = if to.with_body { response.body } else { Body::Empty };
    send_parts(channel, head, body, response.head.length)?;
    Ok(persistence == Persistence::KeepAlive)
}

fn send_parts(channel: &mut Channel<'_>, mut head: Bytes, body: Body, length: ResponseLength) -> Result<(), End> {
    let started = st::now();
    match body {
        Body::Empty => channel.write([head, Bytes::new(), Bytes::new()], None),
        Body::Bytes(body) => channel.write([head, body, Bytes::new()], None),
        Body::Charged(body, range) => {
            // The range is one of the body, so it fits.
            let part = body.slice(range.start as usize..range.end as usize);
            channel.write([head, part, Bytes::new()], Some((&body, started)))
        }
        Body::Pages(body, pages, range) => {
            if channel.stream.is_encrypted() {
                return send_parts(channel, head, Body::Charged(body, range), length);
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
        Body::Stream(write) => {
            channel.write([head, Bytes::new(), Bytes::new()], None)?;
            let mut writer = BodyWriter::new(channel, length == ResponseLength::Chunked);
            write(&mut writer)?;
            writer.finish()
        }
    }
}
