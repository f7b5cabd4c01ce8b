//! The lines of a spool file: `CHECKSUM JSON`. Each adds an event, settles one, or does both at once. A line whose checksum is
//! wrong, such as the last one after a crash, is skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const CHECKSUM_DIGITS: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Entry {
    pub(in super::super) hook: String,
    pub(in super::super) vhost: String,
    pub(in super::super) key: String,
    /// The client, see [`session_id`](super::super::body::BodyWriter::session_id); empty in events about the server.
    pub(in super::super) session: String,
    pub(in super::super) url: String,
    pub(in super::super) body: String,
    /// The end of a client that is in: it is told only if the process dies.
    pub(in super::super) is_end: bool,
}

#[derive(Serialize, Deserialize)]
pub(in super::super) struct Record {
    pub(in super::super) id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) event: Option<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) settles: Option<u64>,
}

impl Record {
    pub(in super::super) fn of_event(id: u64, entry: Entry) -> Self {
        Self { id, event: Some(entry), settles: None }
    }
}

pub(in super::super) struct Content {
    pub(in super::super) live: BTreeMap<u64, Entry>,
    pub(in super::super) last_id: u64,
    pub(in super::super) damaged: usize,
}

pub(in super::super) fn read(bytes: &[u8]) -> Content {
    let mut content = Content { live: BTreeMap::new(), last_id: 0, damaged: 0 };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some(record) = record_of(line) else {
            content.damaged += 1;
            continue;
        };
        content.last_id = content.last_id.max(record.id);
        if let Some(entry) = record.event {
            content.live.insert(record.id, entry);
        }
        if let Some(id) = record.settles {
            content.live.remove(&id);
        }
    }
    content
}

fn record_of(line: &[u8]) -> Option<Record> {
    let (checksum, json) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = std::str::from_utf8(json.strip_prefix(b" ")?).ok()?;
    if checksum_of(json).as_bytes() != checksum {
        return None;
    }
    serde_json::from_str(json).ok()
}

pub(in super::super) fn line_of(record: &Record) -> String {
    // Only maps with other keys than texts cannot be written.
    let json = serde_json::to_string(record).unwrap_or_default();
    format!("{} {json}\n", checksum_of(&json))
}

pub(in super::super) fn checksum_of(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..CHECKSUM_DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &str) -> Entry {
        let [hook, vhost, key, session, url] = ["on_stop", "v", "k", "s-1", "http://h/"].map(str::to_owned);
        Entry { hook, vhost, key, session, url, body: body.to_owned(), is_end: false }
    }

    #[test]
    fn a_file_cut_or_damaged_at_any_byte_loses_no_other_line() {
        let lines: Vec<_> = (1..=4).map(|id| line_of(&Record::of_event(id, entry(&format!("body {id}"))))).collect();
        let settled = line_of(&Record { id: 0, event: None, settles: Some(2) });
        let whole = lines.concat() + &settled;
        let due = |lines: usize| if lines == 5 { 3 } else { lines };
        for cut in 0..=whole.len() {
            let content = read(&whole.as_bytes()[..cut]);
            let complete = whole[..cut].matches('\n').count();
            // A line of which only the end is missing counts too.
            let live = content.live.len();
            assert!(live == due(complete) || live == due(complete + 1), "{cut}: {live}");
            assert!(content.damaged <= 1, "{cut}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= 1;
            let content = read(&bytes);
            // Two lines are one without the end of the first.
            let lost = if whole.as_bytes()[at] == b'\n' { 2 } else { 1 };
            assert!((1..=2).contains(&content.damaged) && content.live.len() >= 3 - lost, "{at}: {}", content.damaged);
        }
    }
}
