//! Metadata of a file for its response: type, size, validators, cache lifetime (RFC 9110, 8; RFC 9111).

use std::time::{SystemTime, UNIX_EPOCH};

use super::date::http_date;

/// Metadata of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMetadata {
    /// Media type.
    pub content_type: &'static str,
    /// Size in bytes.
    pub len: u64,
    /// Strong validator, with its quotes.
    pub etag: String,
    /// Time of the last change, in seconds since 1970.
    pub modified: i64,
    /// The header lines that are the same for every request of the file.
    pub head: String,
}

impl FileMetadata {
    /// Creates the metadata of a file on disk. Its entity tag changes with its time or its size.
    pub fn of_file(path: &str, len: u64, modified: SystemTime) -> Self {
        Self::new(path, len, modified, len)
    }

    /// Creates metadata. `version` distinguishes the entity tags of files with the same time.
    pub fn new(path: &str, len: u64, modified: SystemTime, version: u64) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (content_type, cache_control) = type_and_cache_control(path);
        let etag = format!("\"{:x}-{version:x}\"", since.as_nanos());
        let modified = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let date = http_date(modified);
        let head = format!(
            "ETag: {etag}\r\nLast-Modified: {date}\r\nCache-Control: {cache_control}\r\nAccept-Ranges: bytes\r\n"
        );
        Self { content_type, len, etag, modified, head }
    }
}

/// Returns content type and cache control of a file, by the extension of its name.
///
/// A playlist changes with each new segment: kept for one second. A segment's name is never used again: kept for a
/// day. The operator may change other files: revalidated each time.
fn type_and_cache_control(path: &str) -> (&'static str, &'static str) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn types_go_by_the_extension() {
        for (path, content_type) in [
            ("live/a.m3u8", "application/vnd.apple.mpegurl"),
            ("live/a-1.ts", "video/mp2t"),
            ("live/A.TS", "video/mp2t"),
            ("a.b/c", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(type_and_cache_control(path).0, content_type, "{path}");
        }
        assert_eq!(type_and_cache_control("a.m3u8").1, "max-age=1");
        assert!(type_and_cache_control("a-1.ts").1.contains("immutable"));
    }

    #[test]
    fn validators_come_from_time_and_size() {
        let modified = UNIX_EPOCH + Duration::new(784_111_777, 255);
        let metadata = FileMetadata::of_file("a.ts", 16, modified);
        assert_eq!(metadata.etag, format!("\"{:x}-10\"", 784_111_777_000_000_255u64));
        assert!(metadata.head.contains("\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
        assert_eq!(FileMetadata::of_file("a.ts", 1, UNIX_EPOCH - Duration::from_secs(1)).modified, 0);
    }
}
