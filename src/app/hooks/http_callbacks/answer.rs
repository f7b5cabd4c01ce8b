//! The answer of a backend to a question.

use std::time::Duration;

use serde_json::Value;

/// Nesting of an answer beyond which it is not parsed: the parser recurses, and a coroutine's stack is small.
const MAX_NESTING: usize = 16;

/// Longest message of a backend that is passed on to the client, in characters.
const MAX_MESSAGE: usize = 200;

/// Greatest numbers that an answer may grant: ten years, and a terabit per second.
const MAX_SECONDS: u64 = 10 * 366 * 86_400;
const MAX_KBPS: u64 = 1_000_000_000;

const MAX_TARGETS: usize = 16;

const MAX_LOGGED_ANSWER: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Allowed(Grant),
    /// The client is refused, for a reason that it is told.
    Refused(String),
    /// Not an answer of this protocol. The client is refused, and the answer is logged.
    NotUnderstood,
}

/// The grants of an answer beyond permission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// `stream`: the public name of the stream.
    pub(super) stream: Option<String>,
    /// `expire_s`: the time after which the client is disconnected.
    pub(super) expires_after: Option<Duration>,
    /// `max_bitrate`: the limit for a publisher in kbit/s.
    pub(super) max_bitrate: Option<u64>,
}

impl Grant {
    fn read(answer: &Value) -> Self {
        let number = |key: &str| answer.get(key).and_then(Value::as_u64).filter(|&number| number > 0);
        Self {
            stream: answer.get("stream").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned),
            expires_after: number("expire_s").map(|seconds| Duration::from_secs(seconds.min(MAX_SECONDS))),
            max_bitrate: number("max_bitrate").map(|kbps| kbps.min(MAX_KBPS)),
        }
    }

    /// Adds the answer of a later backend: the first name counts, and the lowest limits.
    pub(super) fn merge(self, later: Self) -> Self {
        Self {
            stream: self.stream.or(later.stream),
            expires_after: self.expires_after.into_iter().chain(later.expires_after).min(),
            max_bitrate: self.max_bitrate.into_iter().chain(later.max_bitrate).min(),
        }
    }
}

/// Reads an answer. `0`, `"0"`, and an object whose `code` is one of these, allow with status 200 or 201. A byte order mark and
/// white space around it do not matter.
pub(super) fn read(status: u16, body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let value =
        if is_within_nesting_limit(text) { serde_json::from_str(text).unwrap_or(Value::Null) } else { Value::Null };
    let code = value.as_object().map_or(Some(&value), |object| object.get("code"));
    let is_zero = code.is_some_and(|code| code.as_i64() == Some(0) || code.as_str() == Some("0"));
    if is_zero && matches!(status, 200 | 201) {
        return Answer::Allowed(Grant::read(&value));
    }
    if let Some(message) = value.get("message").and_then(Value::as_str).map(printable).filter(|text| !text.is_empty()) {
        return Answer::Refused(message);
    }
    match code {
        Some(code @ (Value::Number(_) | Value::String(_))) if !is_zero => {
            Answer::Refused(format!("refused by the callback backend: code {}", printable(&code.to_string())))
        }
        _ if matches!(status, 401 | 403) => {
            Answer::Refused(format!("refused by the callback backend: status {status}"))
        }
        _ => Answer::NotUnderstood,
    }
}

/// Reads an answer as nginx-rtmp does: a status of 2xx allows, 3xx allows under the name in `Location`, all else refuses.
pub(super) fn read_status(status: u16, location: Option<&str>) -> Answer {
    match (status, location) {
        (200..300, _) => Answer::Allowed(Grant::default()),
        // A relay to another server is not supported.
        (300..400, Some(name)) if !name.is_empty() && !name.contains("://") => {
            let name = name.split('?').next().unwrap_or_default().trim_start_matches('/');
            Answer::Allowed(Grant { stream: Some(name.to_owned()), ..Grant::default() })
        }
        (300..400, _) => Answer::NotUnderstood,
        _ => Answer::Refused(format!("refused by the callback backend: status {status}")),
    }
}

/// Reads the targets in an answer to `on_forward`: `{"code":0,"data":{"urls":[…]}}`.
pub(super) fn read_targets(status: u16, body: &[u8]) -> Option<Vec<String>> {
    if !matches!(read(status, body), Answer::Allowed(_)) {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}').trim()).ok()?;
    // `0` names no targets.
    let urls = value.get("data").and_then(|data| data.get("urls")).and_then(Value::as_array);
    let text = |url: &Value| url.as_str().map(str::to_owned);
    Some(urls.into_iter().flatten().filter_map(text).take(MAX_TARGETS).collect())
}

pub(super) fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(MAX_LOGGED_ANSWER)]).into_owned()
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

/// Returns whether brackets outside of strings nest at most [`MAX_NESTING`] levels.
fn is_within_nesting_limit(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_in_any_dress_allows() {
        for body in [
            "0",
            " 0\r\n",
            "\u{feff}0",
            "\"0\"",
            "{\"code\":0}",
            "{\"code\": \"0\", \"data\":[{}]}",
            "\u{feff} {\"code\":0}\n",
        ] {
            assert_eq!(read(200, body.as_bytes()), Answer::Allowed(Grant::default()), "{body:?}");
            assert_eq!(read(201, body.as_bytes()), Answer::Allowed(Grant::default()), "{body:?}");
            assert_ne!(read(204, body.as_bytes()), Answer::Allowed(Grant::default()), "{body:?}");
        }
    }

    #[test]
    fn an_answer_may_grant_a_name_a_time_and_a_limit() {
        let grant = |text: &str| match read(200, text.as_bytes()) {
            Answer::Allowed(grant) => grant,
            other => panic!("{text}: {other:?}"),
        };
        let full = grant("{\"code\":0,\"stream\":\"public\",\"expire_s\":60,\"max_bitrate\":8000}");
        let expected = Grant {
            stream: Some("public".into()),
            expires_after: Some(Duration::from_secs(60)),
            max_bitrate: Some(8000),
        };
        assert_eq!(full, expected);
        for nothing in
            ["0", "{\"code\":0,\"stream\":\"\",\"expire_s\":0}", "{\"code\":0,\"stream\":5,\"max_bitrate\":-1}"]
        {
            assert_eq!(grant(nothing), Grant::default(), "{nothing}");
        }
        let other = grant("{\"code\":0,\"stream\":\"other\",\"expire_s\":9}");
        let both = full.merge(other);
        assert_eq!((both.stream.as_deref(), both.expires_after), (Some("public"), Some(Duration::from_secs(9))));
        assert!(grant("{\"code\":0,\"expire_s\":18446744073709551615}").expires_after.is_some());
    }

    #[test]
    fn a_refusal_has_the_message_of_the_backend_or_its_code() {
        let refused = |status, body: &str| match read(status, body.as_bytes()) {
            Answer::Refused(text) => text,
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(refused(200, "{\"code\":1,\"message\":\"not\\n today\"}"), "not today");
        assert_eq!(refused(403, "{\"code\":0,\"message\":\"no\"}"), "no");
        assert_eq!(refused(200, "1"), "refused by the callback backend: code 1");
        assert_eq!(refused(200, "{\"code\":-3,\"message\":\"\"}"), "refused by the callback backend: code -3");
        assert_eq!(refused(403, ""), "refused by the callback backend: status 403");
        assert_eq!(refused(200, &format!("{{\"code\":1,\"message\":\"{}\"}}", "ä".repeat(9999))).chars().count(), 200);
    }

    #[test]
    fn a_status_allows_renames_or_refuses() {
        let renamed = |name: &str| Answer::Allowed(Grant { stream: Some(name.to_owned()), ..Grant::default() });
        assert_eq!(read_status(200, None), Answer::Allowed(Grant::default()));
        assert_eq!(read_status(204, Some("x")), Answer::Allowed(Grant::default()));
        assert_eq!(read_status(302, Some("cam")), renamed("cam"));
        assert_eq!(read_status(301, Some("/cam?a=b")), renamed("cam"));
        for other in [None, Some(""), Some("rtmp://h/live/cam"), Some("http://h/cam")] {
            assert_eq!(read_status(302, other), Answer::NotUnderstood, "{other:?}");
        }
        for status in [100, 403, 404, 500] {
            assert!(matches!(read_status(status, Some("x")), Answer::Refused(_)), "{status}");
        }
    }

    #[test]
    fn targets_are_the_urls_of_an_answer() {
        let targets = |body: &str| read_targets(200, body.as_bytes());
        let two = "\u{feff}{\"code\":0,\"data\":{\"urls\":[\"rtmp://a/live/x\",5,\"b\"]}}";
        assert_eq!(targets(two), Some(vec!["rtmp://a/live/x".to_owned(), "b".to_owned()]));
        for none in ["0", "{\"code\":0}", "{\"code\":0,\"data\":{\"urls\":{}}}", "{\"code\":0,\"data\":5}"] {
            assert_eq!(targets(none), Some(vec![]), "{none}");
        }
        assert_eq!((targets("1"), targets("{}"), read_targets(500, b"0")), (None, None, None));
        let many = format!("{{\"code\":0,\"data\":{{\"urls\":[{}\"a\"]}}}}", "\"a\",".repeat(99));
        assert_eq!(targets(&many).unwrap().len(), MAX_TARGETS);
    }

    #[test]
    fn what_is_no_answer_is_not_understood() {
        let deep = "[".repeat(60_000);
        for body in ["", "ok", "{}", "{\"code\":null}", "[0]", "<html>0</html>", "{\"code\":0", "00", "true", &deep] {
            assert_eq!(read(200, body.as_bytes()), Answer::NotUnderstood, "{:.20}", body);
        }
        assert_eq!(read(302, b"0"), Answer::NotUnderstood);
        assert_eq!(read(200, &[0xff, 0xfe, b'0']), Answer::NotUnderstood);
        assert_eq!(shown(&[b'x'; 1000]).len(), 200);
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert!(is_within_nesting_limit(&format!("\"\\\"{}\"", "[".repeat(100))));
        assert!(is_within_nesting_limit(&"[]".repeat(100)) && !is_within_nesting_limit(&"[".repeat(17)));
    }
}
