//! Paths of streams on `http_server`.

use crate::config::{Config, DEFAULT_VHOST, Mount, MountFormat};
use crate::http::uri::percent_encode;

pub(super) struct MediaPaths {
    pub(super) hls: Option<String>,
    pub(super) flv: Option<String>,
}

impl MediaPaths {
    /// Returns the paths of a stream by the configuration. `name` is vhost/app/stream.
    pub(super) fn of(config: &Config, name: &str, vhost: &str, app: &str, stream: &str) -> Self {
        let settings = config.vhost(vhost).filter(|_| config.http_server.enabled);
        let hls = settings.filter(|vhost| cfg!(feature = "hls") && vhost.hls.enabled);
        let remux = settings.map(|vhost| &vhost.http_remux).filter(|remux| remux.enabled);
        let is_flv = |mount: &&Mount| mount.format == MountFormat::Flv;
        let flv = remux.and_then(|remux| remux.mounts.iter().find(is_flv)).map(|mount| {
            // The host of a URL chooses the vhost, or this parameter.
            let vhost =
                if vhost == DEFAULT_VHOST { String::new() } else { format!("?vhost={}", percent_encode(vhost)) };
            format!("/{}{vhost}", percent_encode(&mount.path(app, stream)))
        });
        Self { hls: hls.map(|_| format!("/{}", percent_encode(&playlist_file(name)))), flv }
    }
}

/// Returns the path of the playlist of vhost/app/stream, not encoded. Only files of the default vhost are not below its name.
pub(crate) fn playlist_file(name: &str) -> String {
    let is_default = |(vhost, rest): (_, _)| if vhost == DEFAULT_VHOST { rest } else { name };
    format!("{}.m3u8", name.split_once('/').map_or(name, is_default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_from_the_configuration() {
        let text = "listen 1935; http_server { enabled on; } vhost __defaultVhost__ { hls { enabled on; } http_remux { enabled on; } }
            vhost v.com { hls { enabled on; } http_remux { enabled on; mount /tv/[app]/[stream].ts /tv/[app]/[stream].flv; } } vhost off.com { }";
        let of = |text: &str, name: &str| {
            let config = Config::parse("t", text).unwrap();
            let (vhost, rest) = name.split_once('/').unwrap();
            let (app, stream) = rest.rsplit_once('/').unwrap();
            let paths = MediaPaths::of(&config, name, vhost, app, stream);
            (paths.hls, paths.flv)
        };
        let path = |path: &str| Some(path.to_owned());
        let hls = |text: &str| path(text).filter(|_| cfg!(feature = "hls"));
        for (name, expected) in [
            ("__defaultVhost__/live/a b", (hls("/live/a%20b.m3u8"), path("/live/a%20b.flv"))),
            ("v.com/a/b/s?", (hls("/v.com/a/b/s%3F.m3u8"), path("/tv/a/b/s%3F.flv?vhost=v.com"))),
            ("off.com/live/s", (None, None)),
        ] {
            assert_eq!(of(text, name), expected, "{name}");
        }
        let without = text.replace("http_server { enabled on; }", "");
        assert_eq!(of(&without, "__defaultVhost__/live/s"), (None, None));
    }
}
