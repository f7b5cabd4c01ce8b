//! URLs of streams.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};

/// A URL of RTMP or HTTP-FLV, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) app: String,
    pub(super) tc_url: String,
    pub(super) stream: String,
    /// Host and path of a stream over HTTP.
    http: Option<(String, String)>,
}

impl Target {
    /// Reads `rtmp://host[:port]/app[/more]/stream[?parameters]`.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        if let Some(rest) = url.strip_prefix("http://") {
            return Self::parse_http(url, rest);
        }
        let Some(rest) = url.strip_prefix("rtmp://") else {
            bail!("{url}: the URL must begin with rtmp:// or http://")
        };
        let (path, parameters) = rest.split_once('?').map_or((rest, ""), |(path, parameters)| (path, parameters));
        let (host, path) = path.split_once('/').unwrap_or((path, ""));
        let Some((app, stream)) = path.rsplit_once('/') else {
            bail!("{url}: the URL must have an application and a stream, e.g. rtmp://host/live/livestream");
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:1935") };
        let address = authority.to_socket_addrs().with_context(|| format!("{url}: cannot resolve {host}"))?.next();
        let stream = if parameters.is_empty() { stream.to_owned() } else { format!("{stream}?{parameters}") };
        Ok(Self {
            address: address.with_context(|| format!("{url}: {host} has no address"))?,
            app: app.to_owned(),
            tc_url: format!("rtmp://{host}/{app}"),
            stream,
            http: None,
        })
    }

    /// Reads `http://host[:port]/path`.
    fn parse_http(url: &str, rest: &str) -> anyhow::Result<Self> {
        let (host, path) = rest.split_once('/').with_context(|| format!("{url}: the URL must have a path"))?;
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        let address = authority.to_socket_addrs().with_context(|| format!("{url}: cannot resolve {host}"))?.next();
        Ok(Self {
            address: address.with_context(|| format!("{url}: {host} has no address"))?,
            app: String::new(),
            tc_url: String::new(),
            stream: String::new(),
            http: Some((host.to_owned(), format!("/{path}"))),
        })
    }

    /// Returns the request for a stream over HTTP.
    pub(super) fn request(&self) -> Option<String> {
        let (host, path) = self.http.as_ref()?;
        Some(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: srs_bench\r\n\r\n"))
    }

    /// Returns the target with `{n}` in the stream replaced by a number.
    pub(super) fn numbered(&self, n: u32) -> Self {
        let replaced = |text: &String| text.replace("{n}", &n.to_string());
        let http = self.http.as_ref().map(|(host, path)| (host.clone(), replaced(path)));
        Self { stream: replaced(&self.stream), http, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = Target::parse("rtmp://127.0.0.1:19350/a/b/stream{n}?token=1").unwrap().numbered(7);
        assert_eq!(target.address, "127.0.0.1:19350".parse().unwrap());
        assert_eq!((target.app.as_str(), target.stream.as_str()), ("a/b", "stream7?token=1"));
        assert_eq!(target.tc_url, "rtmp://127.0.0.1:19350/a/b");
        assert_eq!(Target::parse("rtmp://127.0.0.1/live/s").unwrap().address.port(), 1935);
        let http = Target::parse("http://127.0.0.1:8080/live/s{n}.flv?a").unwrap().numbered(7);
        assert_eq!(http.address, "127.0.0.1:8080".parse().unwrap());
        assert!(http.request().unwrap().starts_with("GET /live/s7.flv?a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
        assert!(Target::parse("http://127.0.0.1").is_err() && Target::parse("ftp://127.0.0.1/live/s").is_err());
        assert!(Target::parse("rtmp://127.0.0.1/live").is_err());
    }
}
