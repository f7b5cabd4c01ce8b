//! Dates of HTTP, always in GMT (RFC 9110, 5.6.7).

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime, Utc};

const FORMAT: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// Formats seconds since 1970 as an HTTP date. Returns 1970 for times that a date cannot express.
pub fn http_date(seconds: i64) -> String {
    DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or(DateTime::UNIX_EPOCH).format(FORMAT).to_string()
}

/// Parses an HTTP date to seconds since 1970. Returns none for the two obsolete formats: the field is then ignored.
pub fn parse_http_date(text: &str) -> Option<i64> {
    NaiveDateTime::parse_from_str(text, FORMAT).ok().map(|date| date.and_utc().timestamp())
}

/// The text of the `Date` header, formatted once a second.
#[derive(Debug, Default)]
pub struct DateCache {
    seconds: i64,
    date: String,
}

impl DateCache {
    /// Returns the date of `now`.
    pub fn format(&mut self, now: SystemTime) -> &str {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        if seconds != self.seconds || self.date.is_empty() {
            (self.seconds, self.date) = (seconds, http_date(seconds));
        }
        &self.date
    }
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
        assert_eq!(http_date(i64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn the_date_changes_once_a_second() {
        let mut cache = DateCache::default();
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(cache.format(at(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.format(at(1999)), "Thu, 01 Jan 1970 00:00:01 GMT");
        assert_eq!(cache.format(at(2000)), "Thu, 01 Jan 1970 00:00:02 GMT");
    }
}
