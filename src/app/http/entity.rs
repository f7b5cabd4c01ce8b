//! What is said of a file besides its content: type, size, validators, how long it may be kept (RFC 9110, 8; RFC 9111).

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime, Utc};

/// The form of a date in HTTP (RFC 9110, 5.6.7), which is always of GMT.
const DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// What is said of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entity {
    pub(crate) content_type: &'static str,
    /// In bytes.
    pub(crate) len: u64,
    /// A strong validator, with its quotes.
    pub(crate) etag: String,
    /// When it last changed, in seconds since 1970: what a date in HTTP can say.
    pub(crate) modified: i64,
    /// What does not depend on what is asked for, as lines of a response's head.
    pub(crate) head: String,
}

impl Entity {
    /// Of a file in a directory, which is another when its time or its size is.
    pub(crate) fn of_file(path: &str, len: u64, modified: SystemTime) -> Self {
        Self::new(path, len, modified, len)
    }

    /// `version` tells apart what has the same time.
    pub(crate) fn new(path: &str, len: u64, modified: SystemTime, version: u64) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (content_type, cache_control) = kind(path);
        let etag = format!("\"{:x}-{version:x}\"", since.as_nanos());
        let modified = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let date = http_date(modified);
        let head = format!(
            "ETag: {etag}\r\nLast-Modified: {date}\r\nCache-Control: {cache_control}\r\nAccept-Ranges: bytes\r\n"
        );
        Self { content_type, len, etag, modified, head }
    }
}

/// Content type and cache control of a file, by the extension of its name.
///
/// A playlist changes each time that a segment is added, so nobody is to keep it for longer than a second. A segment's name is
/// never used for another one. What else an operator puts there may change, and is asked for again each time.
fn kind(path: &str) -> (&'static str, &'static str) {
    const PLAYLIST: &str = "max-age=1";
    const SEGMENT: &str = "public, max-age=86400, immutable";
    const OTHER: &str = "no-cache";
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "m3u8" => ("application/vnd.apple.mpegurl", PLAYLIST),
        "mpd" => ("application/dash+xml", PLAYLIST),
        "ts" => ("video/mp2t", SEGMENT),
        "m4s" => ("video/iso.segment", SEGMENT),
        "aac" => ("audio/aac", OTHER),
        "mp4" | "m4v" => ("video/mp4", OTHER),
        "m4a" => ("audio/mp4", OTHER),
        "mp3" => ("audio/mpeg", OTHER),
        "flv" => ("video/x-flv", OTHER),
        "webm" => ("video/webm", OTHER),
        "vtt" => ("text/vtt; charset=utf-8", OTHER),
        "html" | "htm" => ("text/html; charset=utf-8", OTHER),
        "js" | "mjs" => ("text/javascript; charset=utf-8", OTHER),
        "css" => ("text/css; charset=utf-8", OTHER),
        "json" | "map" => ("application/json", OTHER),
        "txt" | "log" | "conf" => ("text/plain; charset=utf-8", OTHER),
        "xml" => ("application/xml", OTHER),
        "png" => ("image/png", OTHER),
        "jpg" | "jpeg" => ("image/jpeg", OTHER),
        "gif" => ("image/gif", OTHER),
        "svg" => ("image/svg+xml", OTHER),
        "ico" => ("image/x-icon", OTHER),
        "wasm" => ("application/wasm", OTHER),
        _ => ("application/octet-stream", OTHER),
    }
}

/// Seconds since 1970 as a date in HTTP.
pub(crate) fn http_date(seconds: i64) -> String {
    DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or(DateTime::UNIX_EPOCH).format(DATE).to_string()
}

/// A date in HTTP as seconds since 1970, in the form that everybody writes. The two obsolete forms are not read: what depends
/// on the date is then as if the field were absent.
pub(crate) fn parse_http_date(text: &str) -> Option<i64> {
    NaiveDateTime::parse_from_str(text, DATE).ok().map(|date| date.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_go_both_ways() {
        // The example of RFC 9110, 5.6.7.
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse_http_date(text), Some(784_111_777));
        assert_eq!(http_date(784_111_777), text);
        for bad in
            ["", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "Mon, 06 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
        // A clock that is far off does not end anything.
        assert_eq!(http_date(i64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn types_go_by_the_extension() {
        for (path, content_type) in [
            ("live/a.m3u8", "application/vnd.apple.mpegurl"),
            ("live/a-1.ts", "video/mp2t"),
            ("live/A.TS", "video/mp2t"),
            ("a.b/c", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(kind(path).0, content_type, "{path}");
        }
        assert_eq!(kind("a.m3u8").1, "max-age=1");
        assert!(kind("a-1.ts").1.contains("immutable"));
    }

    #[test]
    fn what_is_said_of_a_file() {
        let modified = UNIX_EPOCH + Duration::new(784_111_777, 255);
        let entity = Entity::of_file("a.ts", 16, modified);
        assert_eq!(entity.etag, format!("\"{:x}-10\"", 784_111_777_000_000_255u64));
        assert!(entity.head.contains("\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
        assert_eq!(Entity::of_file("a.ts", 1, UNIX_EPOCH - Duration::from_secs(1)).modified, 0);
    }
}
