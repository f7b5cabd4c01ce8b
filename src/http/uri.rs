//! Targets of requests (RFC 9112, 3.2), queries, and percent-encoding (RFC 3986).

use std::fmt::Write as _;

use super::refusal::{Refusal, refuse};
use super::status::Status;

/// The query of a target, as sent: without its question mark and not decoded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Query(String);

impl Query {
    /// Returns the query as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the decoded value of the first parameter with this name; an empty one for a parameter without a value.
    pub fn get(&self, name: &str) -> Option<String> {
        self.pairs().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Returns the decoded parameters, in their order. Never fails: an invalid percent-encoding stands for itself, as in
    /// browsers.
    pub fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(name), decode_form(value))
        })
    }
}

impl From<&str> for Query {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Returns the decoded path of a target, without its leading slash, and its query. The path has no part `.` or `..`.
/// Fails when the target has no path, or one that could lead out of a directory.
pub fn parse_target(target: &str) -> Result<(String, Query), Refusal> {
    let origin = match target.split_once("://") {
        // The absolute form, which every server must accept.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let origin = origin.split('#').next().unwrap_or_default();
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    let path = if path.is_empty() && target.contains("://") { "/" } else { path };
    let Some(path) = path.strip_prefix('/') else {
        return refuse(Status::BadRequest, "the path does not begin with a slash");
    };
    let Some(path) = percent_decode(path) else {
        return refuse(Status::BadRequest, "the path is not percent-encoded UTF-8");
    };
    let is_relative = |part: &str| part == ".." || part == ".";
    if path.split(['/', '\\']).any(is_relative) || path.chars().any(char::is_control) {
        return refuse(Status::BadRequest, "the path contains \".\", \"..\" or control characters");
    }
    Ok((path, query.into()))
}

/// Percent-encodes a path for a URL, except its slashes (RFC 3986, 3.3).
pub fn percent_encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte.into()),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Decodes percent-encoding (RFC 3986, 2.1). Returns `None` if it is invalid or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            bytes.push(decode_pair(rest)?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Decodes a name or a value of a query: percent-encoding, and a plus sign for a blank.
fn decode_form(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => match decode_pair(rest) {
                Some(byte) => {
                    rest = &rest[2..];
                    byte
                }
                None => b'%',
            },
            other => *other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decodes the two hexadecimal digits at the beginning of `bytes`.
fn decode_pair(bytes: &[u8]) -> Option<u8> {
    let [high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_by_parameter() {
        let query = Query::from("a=1&b=x%20y+z&&c&a=2&d=%zz%4&e%3d=%ff&=f");
        assert_eq!(query.get("a").as_deref(), Some("1"), "the first one counts");
        assert_eq!(query.get("b").as_deref(), Some("x y z"));
        assert_eq!(query.get("c").as_deref(), Some(""));
        assert_eq!(query.get("d").as_deref(), Some("%zz%4"));
        assert_eq!(query.get("e=").as_deref(), Some("\u{fffd}"));
        assert_eq!((query.get(""), query.get("f")), (Some("f".to_owned()), None));
        assert_eq!(query.pairs().count(), 7);
        assert_eq!(Query::default().pairs().count(), 0);
    }

    #[test]
    fn a_target_has_a_path_and_a_query() {
        for (target, path, query) in [
            ("/a?b=/../c", "a", "b=/../c"),
            ("/a?b?c#d?e", "a", "b?c"),
            ("/a%3Fb", "a?b", ""),
            ("http://h?a=1", "", "a=1"),
            ("http://h/x?u=http://i/", "x", "u=http://i/"),
            ("/x?u=http://i/", "x", "u=http://i/"),
        ] {
            assert_eq!(parse_target(target), Ok((path.to_owned(), query.into())), "{target}");
        }
    }

    #[test]
    fn paths_go_both_ways() {
        assert_eq!(percent_encode("live/a b%é"), "live/a%20b%25%C3%A9");
        assert_eq!(percent_decode(&percent_encode("live/a b%é")).as_deref(), Some("live/a b%é"));
        for bad in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
