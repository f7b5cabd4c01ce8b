//! Forward targets: `HOST[:PORT]`, or a URL with variables for the names of the stream.
//!
//! ```text
//! target = host [ ":" port ]                                        same application, same stream, the vhost in tcUrl
//!        | ( "rtmp" | "rtmps" ) "://" host [ ":" port ] [ "/" app [ "/" stream ] ] [ "?" parameters ]
//! ```
//!
//! `[vhost]`, `[app]`, `[stream]` and `[param]` stand for those of the forwarded stream. An application may have
//! several parts; the last part of two or more is the stream. A target is split before variables are expanded, so that
//! no name can change which part is the host and which the path.

use std::fmt;
use std::net::Ipv6Addr;

use super::names::{DEFAULT_VHOST, host};

/// Default ports of RTMP and of RTMP over TLS.
const RTMP_PORT: u16 = 1935;
const RTMPS_PORT: u16 = 443;

/// A target as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    is_url: bool,
    tls: bool,
    host: String,
    port: u16,
    app: Option<String>,
    stream: Option<String>,
    params: String,
}

/// The names of a forwarded stream, the values of the variables.
#[derive(Debug, Clone, Copy)]
pub struct StreamNames<'a> {
    /// Name of the vhost, as in the configuration.
    pub vhost: &'a str,
    /// Application.
    pub app: &'a str,
    /// Name within the application.
    pub stream: &'a str,
    /// Parameters of the publisher, after the `?`; may be empty.
    pub params: &'a str,
}

/// A target with the variables expanded for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Use TLS.
    pub tls: bool,
    /// Host name or address; IPv6 addresses without brackets.
    pub host: String,
    /// Port, 1 to 65535.
    pub port: u16,
    /// Application for `connect`.
    pub app: String,
    /// `tcUrl` for `connect`: scheme, host, port and application.
    pub tc_url: String,
    /// Stream name for `publish`, with parameters.
    pub stream: String,
    /// URL for the log, without parameters and without a stream name other than the stream's own, since that may be a
    /// key.
    pub log_url: String,
}

impl Target {
    /// Parses a target. Returns none if it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return None;
        }
        let (is_url, tls, rest) = match text.split_once("://") {
            Some(("rtmp", rest)) => (true, false, rest),
            Some(("rtmps", rest)) => (true, true, rest),
            Some(_) => return None,
            None => (false, false, text),
        };
        let (rest, params) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_url && authority.len() < text.len() {
            return None;
        }
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(if tls { RTMPS_PORT } else { RTMP_PORT });
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() && path.split('/').any(str::is_empty) {
            return None;
        }
        let (app, stream) = match path.rsplit_once('/') {
            Some((app, stream)) => (Some(app), Some(stream)),
            None => (Some(path).filter(|path| !path.is_empty()), None),
        };
        if [path, params].iter().any(|part| has_unknown_variable(part)) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            is_url,
            tls,
            host,
            port,
            app: app.map(str::to_owned),
            stream: stream.map(str::to_owned),
            params: params.to_owned(),
        })
    }

    /// Returns whether it uses TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the target for the log, without parameters and stream names, since they may be keys.
    pub(super) fn redacted(&self) -> String {
        let (path, params) = self.text.split_once('?').map_or((&*self.text, ""), |(path, _)| (path, "?…"));
        match self.stream.as_deref().filter(|&stream| stream != "[stream]") {
            Some(stream) => {
                let path = path.strip_suffix('/').unwrap_or(path);
                format!("{}…{params}", path.strip_suffix(stream).unwrap_or_default())
            }
            None => format!("{path}{params}"),
        }
    }

    /// Redacts a word that is no valid target: keeps scheme, host, port and the first part of the path. The rest may be
    /// a key, and so may the part before an `@`.
    pub fn redact_word(word: &str) -> String {
        let (scheme, rest) = word.split_at(word.find("://").map_or(0, |at| at + 3));
        let (path, params) = rest.split_once('?').map_or((rest, ""), |(path, _)| (path, "?…"));
        let mut parts = path.splitn(3, '/');
        let authority = parts.next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("…@{host}"));
        let app = parts.next().map_or_else(String::new, |app| format!("/{app}"));
        let stream = if parts.next().is_some() { "/…" } else { "" };
        format!("{scheme}{authority}{app}{stream}{params}")
    }

    /// Expands the variables for a stream.
    pub fn resolve(&self, names: StreamNames<'_>) -> Destination {
        let host = expand(&self.host, names);
        let app = self.app.as_deref().map_or_else(|| names.app.to_owned(), |app| expand(app, names));
        let name = self.stream.as_deref().map_or_else(|| names.stream.to_owned(), |stream| expand(stream, names));
        let params = expand(&self.params, names);
        // Without parameters, "?key=1&[param]" leaves a trailing "&".
        let params = params.trim_matches('&');
        let (scheme, default_port) = if self.tls { ("rtmps", RTMPS_PORT) } else { ("rtmp", RTMP_PORT) };
        let authority = |host: &str| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            if self.port == default_port { host } else { format!("{host}:{}", self.port) }
        };
        // A server of the same cluster selects the vhost by the host of tcUrl.
        let vhost = Some(names.vhost).filter(|&vhost| !self.is_url && vhost != DEFAULT_VHOST);
        let tc_url = format!("{scheme}://{}/{app}", authority(vhost.unwrap_or(&host)));
        let log_name = if name == names.stream { names.stream } else { "…" };
        let log_url = format!("{scheme}://{}/{app}/{log_name}", authority(&host));
        let stream = if params.is_empty() { name } else { format!("{name}?{params}") };
        Destination { tls: self.tls, host, port: self.port, app, tc_url, stream, log_url }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Destination {
    /// Parses the URL of a server's "Reconnect Request" (E-RTMP): scheme, host, port and application. The stream stays
    /// the same. Returns none if it is invalid, or would drop TLS.
    pub fn redirected(&self, url: &str) -> Option<Self> {
        let target =
            Target::parse(url).filter(|target| target.is_url && target.tls >= self.tls && target.params.is_empty())?;
        let app = [target.app.as_deref(), target.stream.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("/");
        let (host, port, tls) = (target.host, target.port, target.tls);
        let app = if app.is_empty() { self.app.clone() } else { app };
        if host.contains('[') || app.contains('[') {
            return None;
        }
        let log_url = format!("{url}/…");
        Some(Self { tls, host, port, app, tc_url: url.to_owned(), stream: self.stream.clone(), log_url })
    }
}

/// Splits an authority into host and port. The host may contain variables.
fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = authority.parse::<Ipv6Addr>() {
        return Some((address.to_string(), None));
    }
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((address, port)) = bracketed
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        let port = if port.is_empty() { None } else { Some(parse_port(port.strip_prefix(':')?)?) };
        return Some((address.to_string(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (authority, None),
    };
    let sample = StreamNames { vhost: "v", app: "a", stream: "s", params: "p" };
    self::host(&expand(host, sample)).map(|_| (host.to_owned(), port))
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| is_number && port > 0)
}

/// Expands the variables of a text in one pass: values are not expanded again.
fn expand(text: &str, names: StreamNames<'_>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let variables =
            [("[vhost]", names.vhost), ("[app]", names.app), ("[stream]", names.stream), ("[param]", names.params)];
        let found = variables.into_iter().find(|(variable, _)| rest[at..].starts_with(variable));
        let (variable, value) = found.unwrap_or(("[", "["));
        expanded.push_str(&rest[..at]);
        expanded.push_str(value);
        rest = &rest[at + variable.len()..];
    }
    expanded + rest
}

fn has_unknown_variable(text: &str) -> bool {
    expand(text, StreamNames { vhost: "", app: "", stream: "", params: "" }).contains(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: StreamNames<'_> =
        StreamNames { vhost: "demo.com", app: "live", stream: "livestream", params: "token=1" };

    fn resolved(target: &str, names: StreamNames<'_>) -> (String, u16, String, String, String) {
        let Destination { host, port, app, tc_url, stream, .. } = Target::parse(target).unwrap().resolve(names);
        (host, port, app, tc_url, stream)
    }

    #[test]
    fn a_host_keeps_application_and_stream_and_the_vhost_travels() {
        for (target, host, port, tc_url) in [
            ("slave", "slave", 1935, "rtmp://demo.com/live"),
            ("slave:19350", "slave", 19350, "rtmp://demo.com:19350/live"),
            ("10.0.0.2:1936", "10.0.0.2", 1936, "rtmp://demo.com:1936/live"),
            ("[::1]:1936", "::1", 1936, "rtmp://demo.com:1936/live"),
            ("[::1]", "::1", 1935, "rtmp://demo.com/live"),
            ("fe80::1", "fe80::1", 1935, "rtmp://demo.com/live"),
        ] {
            let expected = (host.to_owned(), port, "live".to_owned(), tc_url.to_owned(), "livestream".to_owned());
            assert_eq!(resolved(target, NAMES), expected, "{target}");
        }
        let default = StreamNames { vhost: crate::config::DEFAULT_VHOST, ..NAMES };
        assert_eq!(resolved("slave:19350", default).3, "rtmp://slave:19350/live");
        assert_eq!(resolved("[::1]:1936", default).3, "rtmp://[::1]:1936/live");
    }

    #[test]
    fn a_url_says_what_it_says() {
        for (target, port, app, tc_url, stream) in [
            ("rtmp://h", 1935, "live", "rtmp://h/live", "livestream"),
            ("rtmp://h/", 1935, "live", "rtmp://h/live", "livestream"),
            ("rtmps://h", 443, "live", "rtmps://h/live", "livestream"),
            ("rtmp://h:1936/a", 1936, "a", "rtmp://h:1936/a", "livestream"),
            ("rtmp://h/a/k-1?x=1", 1935, "a", "rtmp://h/a", "k-1?x=1"),
            ("rtmp://h/a/b/[stream]_x", 1935, "a/b", "rtmp://h/a/b", "livestream_x"),
            (
                "rtmp://h/[vhost]/[app]-[stream]?k=2&[param]",
                1935,
                "demo.com",
                "rtmp://h/demo.com",
                "live-livestream?k=2&token=1",
            ),
            ("rtmps://[vhost]:1/a?vhost=[vhost]", 1, "a", "rtmps://demo.com:1/a", "livestream?vhost=demo.com"),
        ] {
            let got = resolved(target, NAMES);
            assert_eq!(
                (got.1, got.2.as_str(), got.3.as_str(), got.4.as_str()),
                (port, app, tc_url, stream),
                "{target}"
            );
        }
        let bare = StreamNames { params: "", ..NAMES };
        assert_eq!(resolved("rtmp://h/a?[param]", bare).4, "livestream");
        assert_eq!(resolved("rtmp://h/a?k=2&[param]", bare).4, "livestream?k=2");
    }

    #[test]
    fn names_cannot_change_what_is_host_and_what_is_path() {
        let names = StreamNames { vhost: "v", app: "a?b", stream: "[app]", params: "" };
        let got = resolved("rtmp://h/[app]/[stream]", names);
        assert_eq!((got.0.as_str(), got.2.as_str(), got.4.as_str()), ("h", "a?b", "[app]"));
    }

    #[test]
    fn what_is_no_target() {
        for bad in [
            "",
            ":1935",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            "h/live",
            "h?x",
            "a b",
            "http://h/live",
            "rtmp://",
            "rtmp:///live",
            "rtmp://h//live",
            "rtmp://u:p@h/live",
            "rtmp://h/[strem]",
            "rtmp://h/live/[",
            "rtmp://[x]/live",
            "[::1",
            "[::1]1936",
        ] {
            assert_eq!(Target::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let log_url = |target: &str| Target::parse(target).unwrap().resolve(NAMES).log_url;
        assert_eq!(log_url("rtmp://h/live2/secret-key?a=secret"), "rtmp://h/live2/…");
        assert_eq!(log_url("rtmp://h/live2?[param]"), "rtmp://h/live2/livestream");
        assert_eq!(log_url("h:1936"), "rtmp://h:1936/live/livestream");
    }

    #[test]
    fn a_server_may_send_its_publisher_elsewhere_but_not_out_of_tls() {
        let destination = |target: &str| Target::parse(target).unwrap().resolve(NAMES);
        let there = destination("rtmp://h/a").redirected("rtmp://other:1936/b/c").unwrap();
        assert_eq!((there.host.as_str(), there.port, there.app.as_str()), ("other", 1936, "b/c"));
        assert_eq!((there.tc_url.as_str(), there.stream.as_str()), ("rtmp://other:1936/b/c", "livestream"));
        assert!(destination("rtmp://h/a").redirected("rtmps://other/b").unwrap().tls);
        for bad in ["rtmp://other/b", "other", "http://other/b", "rtmps://[vhost]/b", "rtmps://h/[app]", ""] {
            assert_eq!(destination("rtmps://h/a").redirected(bad), None, "{bad}");
        }
    }
}
