//! Parses a client's URL into vhost, application, stream, and parameters.

use std::sync::Arc;

use crate::config::{Config, Vhost};
use crate::rtmp::server::Connect;

/// Longest application or stream name, in bytes: the limit of file names.
const MAX_NAME: usize = 255;

/// Longest parameter list, in bytes.
const MAX_PARAMS: usize = 4096;

/// Invalid or unknown name in a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URL names no application.
    #[error("the URL names no application: rtmp://host/app/stream is expected")]
    NoApp,
    /// The URL names no stream.
    #[error("no stream name: rtmp://host/app/stream is expected")]
    NoStream,
    /// A name is too long.
    #[error("a {what} of {len} bytes is too long, at most {max} are allowed")]
    TooLong {
        /// Kind of name.
        what: &'static str,
        /// Length in bytes.
        len: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// A name contains forbidden parts or characters.
    #[error("the {what} {name:?} is not allowed: names contain no \"..\", no empty parts and no control characters")]
    BadName {
        /// Kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The vhost does not exist, and there is no default vhost.
    #[error("unknown vhost {0:?}")]
    NoVhost(String),
    /// The vhost is disabled.
    #[error("vhost {0:?} is disabled")]
    Disabled(String),
}

/// Application that a client connects to.
#[derive(Debug, Clone)]
pub struct AppRequest {
    /// Configuration of the vhost.
    pub vhost: Arc<Vhost>,
    /// Application name, without parameters.
    pub app: String,
    /// Parameters of the application: the text after the `?`.
    pub params: String,
}

/// Stream that a client publishes or plays.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Configuration of the vhost.
    pub vhost: Arc<Vhost>,
    /// Stream name, without parameters.
    pub stream: String,
    /// Name in the server: vhost/app/stream.
    pub name: String,
    /// Parameters of the stream, such as tokens: the text after the `?`.
    pub params: String,
}

impl AppRequest {
    /// Parses a `connect`. The vhost is the first of: `?vhost=` or `...vhost...` after the application, the same in the URL, the
    /// URL's host.
    ///
    /// # Errors
    /// When a name is invalid, or the vhost does not exist or is disabled.
    pub fn new(connect: &Connect, config: &Config) -> Result<Self, Error> {
        let url = Url::parse(&connect.tc_url);
        let from_url = Name::parse(url.path);
        let from_app = Name::parse(&connect.app);
        let app = if from_app.name.is_empty() { &from_url } else { &from_app };
        let vhost = from_app.vhost.as_deref().or(from_url.vhost.as_deref()).unwrap_or(url.host);
        if app.name.is_empty() {
            return Err(Error::NoApp);
        }
        check("application", &app.name)?;
        let params = if from_app.params.is_empty() { &from_url.params } else { &from_app.params };
        check_params(params)?;
        Ok(Self { vhost: find(vhost, config)?, app: app.name.clone(), params: params.clone() })
    }

    /// Parses the name of a `publish` or `play` in this application. The name may choose another vhost, as above.
    ///
    /// # Errors
    /// As [`AppRequest::new`].
    pub fn stream(&self, name: &str, config: &Config) -> Result<StreamRequest, Error> {
        let name = Name::parse(name);
        if name.name.is_empty() {
            return Err(Error::NoStream);
        }
        check("stream name", &name.name)?;
        check_params(&name.params)?;
        let vhost = match &name.vhost {
            Some(vhost) => find(vhost, config)?,
            // Looked up again: a reload may have changed, disabled or removed it since the client connected.
            None => match config.vhosts.get(&self.vhost.name) {
                Some(vhost) => enabled(vhost)?,
                None => return Err(Error::NoVhost(self.vhost.name.clone())),
            },
        };
        Ok(StreamRequest {
            name: format!("{}/{}/{}", vhost.name, self.app, name.name),
            vhost,
            stream: name.name,
            params: name.params,
        })
    }
}

impl StreamRequest {
    /// Returns the request under another name in the same vhost and in the application `app`.
    ///
    /// # Errors
    /// When the name is invalid.
    pub fn renamed(&self, app: &str, stream: &str) -> Result<Self, Error> {
        check("stream name", stream)?;
        if stream.contains('?') {
            return Err(Error::BadName { what: "stream name", name: stream.to_owned() });
        }
        Ok(Self {
            name: format!("{}/{app}/{stream}", self.vhost.name),
            vhost: self.vhost.clone(),
            stream: stream.to_owned(),
            params: self.params.clone(),
        })
    }
}

fn find(name: &str, config: &Config) -> Result<Arc<Vhost>, Error> {
    // Truncated, because it is quoted in replies and in the log.
    let shown = || name.chars().take(MAX_NAME).collect();
    enabled(config.vhost(name).ok_or_else(|| Error::NoVhost(shown()))?)
}

fn enabled(vhost: &Arc<Vhost>) -> Result<Arc<Vhost>, Error> {
    if !vhost.enabled {
        return Err(Error::Disabled(vhost.name.clone()));
    }
    Ok(vhost.clone())
}

fn check(what: &'static str, name: &str) -> Result<(), Error> {
    if name.len() > MAX_NAME {
        return Err(Error::TooLong { what, len: name.len(), max: MAX_NAME });
    }
    let bad_part = |part: &str| part.is_empty() || part.contains("..") || part == ".";
    if name.split('/').any(bad_part) || name.contains('\\') || name.chars().any(char::is_control) {
        return Err(Error::BadName { what, name: name.to_owned() });
    }
    Ok(())
}

fn check_params(params: &str) -> Result<(), Error> {
    if params.len() > MAX_PARAMS {
        return Err(Error::TooLong { what: "parameter list", len: params.len(), max: MAX_PARAMS });
    }
    Ok(())
}

/// Host and path of an RTMP URL. Text that is no URL is a path.
struct Url<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Self {
        let Some((_, rest)) = url.split_once("://") else { return Self { host: "", path: url } };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        Self { host, path }
    }
}

/// A name with parameters: `name?vhost=v&token=t`, or `name...vhost...v` for clients that cannot send a `?`, as in SRS.
struct Name {
    name: String,
    vhost: Option<String>,
    params: String,
}

impl Name {
    fn parse(text: &str) -> Self {
        let (name, params) = text.split_once('?').unwrap_or((text, ""));
        let mut pieces = name.split("...");
        let name = pieces.next().unwrap_or_default().trim_matches('/').to_owned();
        let mut vhost = None;
        while let (Some(key), Some(value)) = (pieces.next(), pieces.next()) {
            if key == "vhost" {
                vhost = Some(value.to_owned());
            }
        }
        let in_params = params.split('&').find_map(|pair| pair.strip_prefix("vhost="));
        let vhost = in_params.map(str::to_owned).or(vhost).filter(|vhost| !vhost.is_empty());
        Self { name, vhost, params: params.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "listen 1935; vhost __defaultVhost__ { } vhost demo.com { } vhost off.com { enabled off; }";
        Config::parse("t", text).unwrap()
    }

    fn app(app: &str, tc_url: &str) -> Result<AppRequest, Error> {
        let connect = Connect::new(app, tc_url);
        AppRequest::new(&connect, &config())
    }

    fn stream(app_name: &str, tc_url: &str, name: &str) -> Result<String, Error> {
        app(app_name, tc_url)?.stream(name, &config()).map(|stream| stream.name)
    }

    #[test]
    fn the_vhost_is_named_in_many_ways() {
        for (app, tc_url, name, expected) in [
            ("live", "rtmp://demo.com/live", "s", "demo.com/live/s"),
            ("live", "rtmp://demo.com:1935/live", "s", "demo.com/live/s"),
            ("live", "rtmp://DEMO.com:1935/live", "s", "demo.com/live/s"),
            ("live", "rtmp://10.0.0.1/live", "s", "__defaultVhost__/live/s"),
            ("live?vhost=demo.com", "rtmp://10.0.0.1/live?vhost=demo.com", "s", "demo.com/live/s"),
            ("live", "rtmp://10.0.0.1/live?vhost=demo.com", "s", "demo.com/live/s"),
            ("live...vhost...demo.com", "rtmp://10.0.0.1/live...vhost...demo.com", "s", "demo.com/live/s"),
            ("live", "rtmp://10.0.0.1/live", "s?vhost=demo.com", "demo.com/live/s"),
            ("live", "rtmp://10.0.0.1/live", "s?token=1&vhost=demo.com", "demo.com/live/s"),
            ("live", "rtmp://10.0.0.1/live", "s...vhost...demo.com", "demo.com/live/s"),
            ("live?vhost=", "rtmp://demo.com/live", "s", "demo.com/live/s"),
            ("", "rtmp://demo.com/live", "s", "demo.com/live/s"),
            ("a/b/", "rtmp://demo.com/a/b/", "c/d", "demo.com/a/b/c/d"),
            ("live", "rtmp://user:pass@demo.com/live", "s", "demo.com/live/s"),
            ("live", "rtmp://[::1]:1935/live", "s", "__defaultVhost__/live/s"),
            ("live", "nonsense", "s", "__defaultVhost__/live/s"),
        ] {
            assert_eq!(stream(app, tc_url, name).as_deref(), Ok(expected), "{app} {tc_url} {name}");
        }
    }

    #[test]
    fn parameters_are_no_part_of_the_name() {
        let request = app("live?key=1", "rtmp://demo.com/live").unwrap();
        assert_eq!((request.app.as_str(), request.params.as_str()), ("live", "key=1"));
        let request = request.stream("s?token=a/b?c", &config()).unwrap();
        assert_eq!((request.stream.as_str(), request.params.as_str()), ("s", "token=a/b?c"));
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        for name in ["..", "a/../b", "../x", "a..b", "a//b", ".", "a/./b", "a\\b", "a\nb", "a\0b", "\u{85}"] {
            assert!(matches!(stream("live", "rtmp://h/live", name), Err(Error::BadName { .. })), "{name:?}");
            assert!(matches!(stream(name, "rtmp://h/live", "s"), Err(Error::BadName { .. })), "{name:?}");
        }
        let long = "x".repeat(256);
        assert!(matches!(stream("live", "rtmp://h/live", &long), Err(Error::TooLong { len: 256, .. })));
        assert!(stream("live", "rtmp://h/live", &long[1..]).is_ok());
        let params = format!("s?{}", "x".repeat(5000));
        assert!(matches!(stream("live", "rtmp://h/live", &params), Err(Error::TooLong { .. })));
        assert_eq!(stream("live", "rtmp://h/live", ""), Err(Error::NoStream));
        assert_eq!(stream("live", "rtmp://h/live", "?token"), Err(Error::NoStream));
        assert_eq!(stream("", "rtmp://h", "s"), Err(Error::NoApp));
        assert_eq!(stream("/", "", "s"), Err(Error::NoApp));
    }

    #[test]
    fn vhosts_that_are_off_or_not_there() {
        assert_eq!(stream("live", "rtmp://off.com/live", "s"), Err(Error::Disabled("off.com".into())));
        assert_eq!(stream("live", "rtmp://h/live", "s?vhost=off.com"), Err(Error::Disabled("off.com".into())));
        let config = Config::parse("t", "listen 1935; vhost demo.com { }").unwrap();
        let connect = Connect::new("live", "rtmp://h/live");
        assert!(matches!(AppRequest::new(&connect, &config), Err(Error::NoVhost(_))));
    }
}
