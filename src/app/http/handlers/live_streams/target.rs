//! The stream that a request names by its path, its host and its parameters.

use crate::app::stream::Wire;
use crate::codec::flv::AudioCodec;
use crate::config::{Config, MountFormat};
use crate::http::request::Request;

/// Longest address of a page that is kept, in bytes.
const MAX_PAGE_URL: usize = 1024;

/// A stream at a path of `http_remux`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    format: MountFormat,
    /// A viewer waits for a publisher. Segments of HLS and other files have the names of the other formats.
    pub(super) waits: bool,
    host: String,
    /// The vhost that the parameter `vhost` names; empty if there is none.
    vhost: String,
    pub(super) app: String,
    stream: String,
    params: String,
    pub(super) page_url: String,
}

impl Target {
    /// Returns the stream of a request, if its path is one of the vhost's.
    pub(super) fn find(request: &Request, config: &Config) -> Option<Self> {
        // The requests for all other files end here.
        if !MountFormat::ALL.iter().any(|(_, extension)| request.path.ends_with(extension)) {
            return None;
        }
        let host = host_name(request.headers.get("host").unwrap_or_default());
        let asked = request.query.get("vhost").unwrap_or_default();
        let vhost = config.vhost(if asked.is_empty() { host } else { &asked })?;
        let remux = &vhost.http_remux;
        let mounts = remux.mounts.iter().filter(|_| remux.enabled);
        let (mount, (app, stream)) = mounts.into_iter().find_map(|mount| Some((mount, mount.find(&request.path)?)))?;
        // In names of RTMP these begin parameters.
        if [app, stream].iter().any(|name| name.contains('?') || name.contains("...")) {
            return None;
        }
        // Browsers send no Referer for a WebSocket.
        let page = request.headers.get("referer").or_else(|| request.headers.get("origin")).unwrap_or_default();
        Some(Self {
            format: mount.format,
            waits: mount.format == MountFormat::Flv || mount.has_prefix(),
            host: host.to_owned(),
            vhost: asked,
            app: app.to_owned(),
            stream: stream.to_owned(),
            params: request.query.as_str().to_owned(),
            page_url: page[..page.floor_char_boundary(MAX_PAGE_URL)].to_owned(),
        })
    }

    /// Returns the URL of the application, as players of RTMP give it.
    pub(super) fn tc_url(&self) -> String {
        let Self { host, vhost, app, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if vhost.is_empty() { format!("http://{host}/{app}") } else { format!("http://{host}/{app}?vhost={vhost}") }
    }

    /// Returns the name of the stream with its parameters, as players of RTMP give it.
    pub(super) fn stream_with_params(&self) -> String {
        let Self { stream, params, .. } = self;
        if params.is_empty() { stream.clone() } else { format!("{stream}?{params}") }
    }

    pub(super) fn wire(&self) -> Wire {
        match self.format {
            MountFormat::Flv => Wire::Flv,
            MountFormat::Ts => Wire::Ts,
            MountFormat::Mp3 => Wire::Mp3,
            MountFormat::Aac => Wire::Aac,
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.format {
            MountFormat::Flv => "video/x-flv",
            MountFormat::Ts => "video/mp2t",
            MountFormat::Mp3 => "audio/mpeg",
            MountFormat::Aac => "audio/aac",
        }
    }

    pub(super) fn wire_name(&self, is_websocket: bool) -> &'static str {
        match (self.format, is_websocket) {
            (MountFormat::Flv, false) => "http-flv",
            (MountFormat::Flv, true) => "websocket-flv",
            (MountFormat::Ts, false) => "http-ts",
            (MountFormat::Ts, true) => "websocket-ts",
            (MountFormat::Mp3, _) => "http-mp3",
            (MountFormat::Aac, _) => "http-aac",
        }
    }

    pub(super) fn supports(&self, audio: Option<AudioCodec>) -> bool {
        match (self.format, audio) {
            (MountFormat::Mp3, Some(audio)) => audio.is_mp3(),
            (MountFormat::Aac, Some(audio)) => audio.is_aac(),
            _ => true,
        }
    }
}

/// Returns the name or address in a `Host` field, without the port and the brackets of IPv6.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse;

    fn find(target: &str, host: &str) -> Option<Target> {
        let text = "listen 1935; vhost __defaultVhost__ { http_remux { enabled on; } }
            vhost a.com { http_remux { enabled on; mount /tv/[app]/[stream].flv; } } vhost off.com { }
            vhost ts.com { http_remux { enabled on; mount [app]/[stream].ts tv/[app]/[stream].mp3; } }";
        let config = Config::parse("t", text).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nReferer: http://page/\r\n\r\n");
        Target::find(&parse(request.as_bytes()).unwrap().unwrap().0, &config)
    }

    #[test]
    fn streams_are_named_by_path_host_and_parameters() {
        for (target, host, expected) in [
            ("/live/s.flv", "h:8080", Some(("http://h/live", "s"))),
            ("/live/s.flv?token=1", "[::1]:8080", Some(("http://[::1]/live", "s?token=1"))),
            ("/a/b/s.flv", "h", Some(("http://h/a/b", "s"))),
            ("/l%C3%A4/s%20t.flv", "h", Some(("http://h/lä", "s t"))),
            ("/tv/live/s.flv", "a.com", Some(("http://a.com/live", "s"))),
            ("/tv/live/s.flv?vhost=a.com", "h", Some(("http://h/live?vhost=a.com", "s?vhost=a.com"))),
            ("/live/s.flv", "a.com", None),
            ("/live/s.flv", "off.com", None),
            ("/live/s.flv?vhost=off.com", "h", None),
            ("/live/s%3Fvhost=off.com.flv", "h", None),
            ("/live/s...vhost...off.com.flv", "h", None),
            ("/live/s.ts", "h", None),
            ("/tv/live/s.mp3", "ts.com", Some(("http://ts.com/live", "s"))),
            ("/live/s.ts", "ts.com", Some(("http://ts.com/live", "s"))),
            ("/live/s.aac", "ts.com", None),
            ("/s.flv", "h", None),
            ("/", "h", None),
        ] {
            let found = find(target, host).map(|found| (found.tc_url(), found.stream_with_params()));
            let found = found.as_ref().map(|(url, stream)| (url.as_str(), stream.as_str()));
            assert_eq!(found, expected, "{target} {host}");
        }
        assert_eq!(find("/live/s.flv", "h").unwrap().page_url, "http://page/");
        let waits = ["/tv/live/s.mp3", "/live/s.ts"].map(|path| find(path, "ts.com").unwrap().waits);
        assert_eq!(waits, [true, false]);
    }
}
