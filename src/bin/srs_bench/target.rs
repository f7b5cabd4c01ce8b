//! RTMP URLs.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};

/// An RTMP URL, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) app: String,
    pub(super) tc_url: String,
    pub(super) stream: String,
}

impl Target {
    /// Reads `rtmp://host[:port]/app[/more]/stream[?parameters]`.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("rtmp://") else { bail!("{url}: the URL must begin with rtmp://") };
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
        })
    }

    /// Returns the target with `{n}` in the stream replaced by a number.
    pub(super) fn numbered(&self, n: u32) -> Self {
        Self { stream: self.stream.replace("{n}", &n.to_string()), ..self.clone() }
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
        assert!(Target::parse("http://127.0.0.1/live/s").is_err());
        assert!(Target::parse("rtmp://127.0.0.1/live").is_err());
    }
}
