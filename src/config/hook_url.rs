//! URLs of HTTP callbacks.

use std::fmt;
use std::net::Ipv6Addr;

use super::names::host;

/// Default ports of HTTP and of HTTP over TLS.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The URL of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookUrl {
    text: String,
    /// Use TLS.
    pub tls: bool,
    /// Host name or address; IPv6 addresses without brackets.
    pub host: String,
    /// Port, 1 to 65535.
    pub port: u16,
}

impl HookUrl {
    /// Parses `http[s]://HOST[:PORT][/PATH][?QUERY]`. Returns none if it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return None,
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte)) {
            return None;
        }
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (name, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address.parse::<Ipv6Addr>().ok()?.to_string(), port),
            None => {
                let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                (host(name)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None if !port.is_empty() => return None,
            None if tls => HTTPS_PORT,
            None => HTTP_PORT,
        };
        (port > 0).then(|| Self { text: text.to_owned(), tls, host: name, port })
    }

    /// Returns the URL for the log: without the query, which may be a key.
    pub fn redacted(&self) -> String {
        match self.text.split_once('?') {
            Some((path, _)) => format!("{path}?…"),
            None => self.text.clone(),
        }
    }

    /// Returns scheme, host and port: what identifies the backend.
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_perhaps_a_port_and_a_path() {
        for (text, tls, host, port, origin) in [
            ("http://127.0.0.1:8085/api/v1/clients", false, "127.0.0.1", 8085, "http://127.0.0.1:8085"),
            ("http://Backend", false, "backend", 80, "http://backend:80"),
            ("https://a.example?key=1/2", true, "a.example", 443, "https://a.example:443"),
            ("https://[::1]:8443/x", true, "::1", 8443, "https://[::1]:8443"),
            ("http://[0:0::1]", false, "::1", 80, "http://[::1]:80"),
        ] {
            let url = HookUrl::parse(text).unwrap();
            assert_eq!((url.tls, url.host.as_str(), url.port, url.origin().as_str()), (tls, host, port, origin));
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_url_of_a_callback() {
        for bad in [
            "",
            "http://",
            "http:///path",
            "ftp://h/",
            "h:80/path",
            "http://h:0/",
            "http://h:65536/",
            "http://h:/",
            "http://h:+1/",
            "http://u:p@h/",
            "http://h/a b",
            "http://h/ä",
            "http://h/#x",
            "http://h/\"",
            "http://[::1/",
            "http://[::1]x/",
            "http://[h]/",
        ] {
            assert_eq!(HookUrl::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_in_the_query_are_not_shown() {
        assert_eq!(HookUrl::parse("http://h/p?key=secret").unwrap().redacted(), "http://h/p?…");
    }
}
