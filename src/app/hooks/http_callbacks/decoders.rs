//! The decoders of bytes from outside, for the fuzz targets.

use std::io::{Read, Write};

use super::spool::format::{self, Record};
use super::{answer, exchange, message::Message};
use crate::config::HookFormat;

/// Asks a backend, and reads its answer as each of the callbacks does. Returns the length of the body, if the answer is complete.
pub fn ask<S: Read + Write>(backend: &mut S) -> Option<usize> {
    let message = Message::post("{}".to_owned(), HookFormat::Json, None);
    let reply = exchange::send(backend, "http://backend/path", &message).ok()?;
    answer::read(reply.status, &reply.body);
    answer::read_status(reply.status, reply.location.as_deref());
    answer::read_targets(reply.status, &reply.body);
    answer::shown(&reply.body);
    Some(reply.body.len())
}

/// Reads a spool file. Returns the lines that write it again without what is settled, and the number of damaged lines.
pub fn rewrite_spool(bytes: &[u8]) -> (String, usize) {
    let content = format::read(bytes);
    let lines = content.live.into_iter().map(|(id, entry)| format::line_of(&Record::of_event(id, entry)));
    (lines.collect(), content.damaged)
}

/// Returns lines of a spool file with the right checksum before each of these lines.
pub fn with_checksums(json_lines: &str) -> String {
    json_lines.lines().map(|json| format!("{} {json}\n", format::checksum_of(json))).collect()
}
