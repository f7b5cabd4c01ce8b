//! Conditional requests (RFC 9110, 13) and range requests (RFC 9110, 14).

use std::ops::Range;

use super::date::parse_http_date;
use super::file_metadata::FileMetadata;
use super::headers::Headers;

/// The conditional fields of a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
    if_unmodified_since: Option<String>,
    if_range: Option<String>,
}

/// The part of a file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The whole file.
    Whole,
    /// A range of at least one byte: 206.
    Bytes(Range<u64>),
    /// The requested range lies behind the end of the file: 416.
    OutOfRange,
    /// The client has this version: 304.
    NotModified,
    /// The file is not the version that the client requires: 412.
    Failed,
}

impl Conditions {
    /// Reads the conditional fields of a request. Lists may stand in several lines.
    pub fn read(headers: &Headers) -> Self {
        let mut conditions = Self::default();
        for (name, value) in headers.iter() {
            conditions.add(name, value);
        }
        conditions
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        // Skips most fields at once.
        if !name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-")) {
            return;
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let slot = match () {
            () if is("if-none-match") => &mut self.if_none_match,
            () if is("if-match") => &mut self.if_match,
            () if is("if-modified-since") => &mut self.if_modified_since,
            () if is("if-unmodified-since") => &mut self.if_unmodified_since,
            () if is("if-range") => &mut self.if_range,
            () => return,
        };
        let value = String::from_utf8_lossy(value);
        match slot {
            Some(before) => {
                before.push_str(", ");
                before.push_str(&value);
            }
            None => *slot = Some(value.into_owned()),
        }
    }

    /// Evaluates the conditions in the order of RFC 9110, 13.2.2. `range` is the value of `Range` of a GET.
    pub fn evaluate(&self, metadata: &FileMetadata, range: Option<&str>) -> Part {
        let date = |field: &Option<String>| field.as_deref().and_then(parse_http_date);
        if let Some(tags) = &self.if_match {
            if !contains_tag(tags, &metadata.etag, false) {
                return Part::Failed;
            }
        } else if date(&self.if_unmodified_since).is_some_and(|since| metadata.modified > since) {
            return Part::Failed;
        }
        if let Some(tags) = &self.if_none_match {
            if contains_tag(tags, &metadata.etag, true) {
                return Part::NotModified;
            }
        } else if date(&self.if_modified_since).is_some_and(|since| metadata.modified <= since) {
            return Part::NotModified;
        }
        match range {
            Some(range) if self.range_applies(metadata) => parse_range(range, metadata.len),
            _ => Part::Whole,
        }
    }

    /// Returns whether `If-Range` is absent or names this version of the file.
    fn range_applies(&self, metadata: &FileMetadata) -> bool {
        match &self.if_range {
            None => true,
            Some(tag) if tag.starts_with('"') => *tag == metadata.etag,
            Some(date) => parse_http_date(date) == Some(metadata.modified),
        }
    }
}

/// Returns whether a list of metadata tags contains `etag`. `weakly`: by weak comparison, which ignores `W/`.
fn contains_tag(list: &str, etag: &str, weakly: bool) -> bool {
    list.split(',').map(str::trim).any(|tag| {
        let tag = if weakly { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || tag == etag
    })
}

/// Parses a `Range` for a file of `len` bytes. Ignores an invalid one (RFC 9110, 14.2), and one of several ranges: no player
/// sends those, and answering them would cost more than sending the whole file.
pub fn parse_range(range: &str, len: u64) -> Part {
    let Some((unit, set)) = range.split_once('=') else { return Part::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let bytes = match (position(first), position(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(len),
        (Some(first), None) if last.is_empty() => first..len,
        (None, Some(suffix)) if first.is_empty() => len.saturating_sub(suffix)..len,
        _ => return Part::Whole,
    };
    if bytes.start < bytes.end { Part::Bytes(bytes) } else { Part::OutOfRange }
}

/// Parses a number. One that is too large for a `u64` is `u64::MAX`.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn metadata() -> FileMetadata {
        FileMetadata {
            etag: "\"a\"".into(),
            ..FileMetadata::of_file("a.ts", 1000, UNIX_EPOCH + Duration::from_secs(784_111_777))
        }
    }

    fn ask(fields: &[(&str, &str)], range: Option<&str>) -> Part {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, value.as_bytes());
        }
        let conditions = Conditions::read(&headers);
        assert!(fields.is_empty() || conditions != Conditions::default(), "{fields:?}");
        conditions.evaluate(&metadata(), range)
    }

    #[test]
    fn ranges() {
        let bytes = |range: Range<u64>| Part::Bytes(range);
        for (range, expected) in [
            ("bytes=0-0", bytes(0..1)),
            ("bytes=0-999", bytes(0..1000)),
            ("bytes=0-1000", bytes(0..1000)),
            ("bytes=500-", bytes(500..1000)),
            ("bytes=-1", bytes(999..1000)),
            ("bytes=-5000", bytes(0..1000)),
            ("Bytes = 1-2", bytes(1..3)),
            ("bytes=0-99999999999999999999999", bytes(0..1000)),
            ("bytes=1000-", Part::OutOfRange),
            ("bytes=99999999999999999999999-", Part::OutOfRange),
            ("bytes=-0", Part::OutOfRange),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=--1", Part::Whole),
            ("bytes", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(ask(&[], Some(range)), expected, "{range}");
        }
        let empty = FileMetadata::of_file("a.ts", 0, UNIX_EPOCH);
        assert_eq!(Conditions::default().evaluate(&empty, Some("bytes=0-")), Part::OutOfRange);
        assert_eq!(Conditions::default().evaluate(&empty, Some("bytes=-1")), Part::OutOfRange);
    }

    #[test]
    fn conditions() {
        for (name, value, expected) in [
            ("If-None-Match", "\"a\"", Part::NotModified),
            ("If-None-Match", "W/\"a\"", Part::NotModified),
            ("if-none-match", "\"b\", \"a\"", Part::NotModified),
            ("If-None-Match", "*", Part::NotModified),
            ("If-None-Match", "\"b\"", Part::Whole),
            ("If-None-Match", "a", Part::Whole),
            ("If-Modified-Since", DATE, Part::NotModified),
            ("If-Modified-Since", LATER, Part::NotModified),
            ("If-Modified-Since", EARLIER, Part::Whole),
            ("If-Modified-Since", "yesterday", Part::Whole),
            ("If-Match", "\"a\"", Part::Whole),
            ("If-Match", "*", Part::Whole),
            ("If-Match", "W/\"a\"", Part::Failed),
            ("If-Match", "\"b\"", Part::Failed),
            ("If-Unmodified-Since", DATE, Part::Whole),
            ("If-Unmodified-Since", EARLIER, Part::Failed),
        ] {
            assert_eq!(ask(&[(name, value)], None), expected, "{name}: {value}");
        }
        // Tags take precedence over dates.
        assert_eq!(ask(&[("If-None-Match", "\"b\""), ("If-Modified-Since", LATER)], None), Part::Whole);
        assert_eq!(ask(&[("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")], None), Part::NotModified);
        let mut others = Headers::default();
        for name in ["If-Else", "If", "é"] {
            others.push(name, b"x");
        }
        assert_eq!(Conditions::read(&others), Conditions::default());
    }

    #[test]
    fn a_range_of_another_file_is_the_whole_of_this_one() {
        for (value, expected) in [
            ("\"a\"", Part::Bytes(0..1)),
            (DATE, Part::Bytes(0..1)),
            ("\"b\"", Part::Whole),
            ("W/\"a\"", Part::Whole),
            (LATER, Part::Whole),
            ("x", Part::Whole),
        ] {
            assert_eq!(ask(&[("If-Range", value)], Some("bytes=0-0")), expected, "{value}");
        }
    }
}
