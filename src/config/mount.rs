//! Paths of live streams over HTTP, such as `[vhost]/[app]/[stream].flv`.

use std::fmt;

const APP: &str = "[app]";
const STREAM: &str = "[stream]";
const VHOST: &str = "[vhost]";

/// The format of a live stream over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountFormat {
    /// `.flv`
    Flv,
    /// `.ts`: one endless transport stream.
    Ts,
    /// `.mp3`: only audio.
    Mp3,
    /// `.aac`: only audio.
    Aac,
}

impl MountFormat {
    /// The formats and their extensions.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Flv, ".flv"), (Self::Ts, ".ts"), (Self::Mp3, ".mp3"), (Self::Aac, ".aac")];

    fn extension(self) -> &'static str {
        let found = Self::ALL.iter().find(|(format, _)| *format == self);
        found.map_or("", |(_, extension)| extension)
    }
}

/// A path pattern of live streams: `[vhost]/PREFIX/[app]/[stream].EXTENSION`. The vhost is that of the request's host, so
/// that it is not a part of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path before the application: empty, or with a slash at its end.
    prefix: String,
    /// The format, by the extension.
    pub format: MountFormat,
    text: String,
}

impl Mount {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix(VHOST).unwrap_or(text);
        let path = path.strip_prefix('/').unwrap_or(path);
        let (prefix, rest) = path.split_once(APP)?;
        let extension = rest.strip_prefix('/')?.strip_prefix(STREAM)?;
        let (format, _) = *MountFormat::ALL.iter().find(|(_, known)| *known == extension)?;
        let is_plain =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['[', ']', '\\', '?', '%']);
        let has_plain_prefix =
            prefix.is_empty() || prefix.strip_suffix('/').is_some_and(|prefix| prefix.split('/').all(is_plain));
        has_plain_prefix.then(|| Self { prefix: prefix.to_owned(), format, text: text.to_owned() })
    }

    /// Returns whether its paths have a directory before the application.
    pub fn has_prefix(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// Returns the path of a stream without a leading slash.
    pub fn path(&self, app: &str, stream: &str) -> String {
        format!("{}{app}/{stream}{}", self.prefix, self.format.extension())
    }

    /// Returns application and stream of a path without a leading slash, if it is one of this pattern. The application may
    /// contain slashes.
    pub fn find<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let name = path.strip_prefix(&self.prefix)?.strip_suffix(self.format.extension())?;
        name.rsplit_once('/').filter(|(app, stream)| !app.is_empty() && !stream.is_empty())
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_their_paths() {
        for (pattern, path, expected) in [
            ("[vhost]/[app]/[stream].flv", "live/s.flv", Some(("live", "s"))),
            ("/[app]/[stream].flv", "live/s.flv", Some(("live", "s"))),
            ("[app]/[stream].flv", "a/b/s.flv", Some(("a/b", "s"))),
            ("[vhost]/flv/[app]/[stream].flv", "flv/live/s.flv", Some(("live", "s"))),
            ("[vhost]/flv/[app]/[stream].flv", "live/s.flv", None),
            ("[vhost]/[app]/[stream].flv", "live/s.ts", None),
            ("[vhost]/[app]/[stream].ts", "live/s.ts", Some(("live", "s"))),
            ("[vhost]/a/[app]/[stream].mp3", "a/live/s.mp3", Some(("live", "s"))),
            ("[vhost]/[app]/[stream].flv", "live/.flv", None),
            ("[vhost]/[app]/[stream].flv", "s.flv", None),
            ("[vhost]/[app]/[stream].flv", "/s.flv", None),
        ] {
            assert_eq!(Mount::parse(pattern).unwrap().find(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn other_patterns_are_refused() {
        for bad in [
            "",
            "live.flv",
            "[app]/[stream]",
            "[app]/[stream].mp4",
            "[app].flv",
            "[stream]/[app].flv",
            "[app][stream].flv",
            "[vhost]/x[app]/[stream].flv",
            "../[app]/[stream].flv",
            "[vhost]/[vhost]/[app]/[stream].flv",
            "//[app]/[stream].flv",
        ] {
            assert!(Mount::parse(bad).is_none(), "{bad}");
        }
    }
}
