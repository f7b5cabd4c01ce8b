//! Parses a client's URL into vhost, application, stream, and parameters. `docs/configuration.md` lists the forms of URLs.

use std::sync::Arc;

use crate::config::{Config, Vhost};
use crate::rtmp::connect::Connect;

/// Longest application or stream name, in bytes: the limit of file names.
const MAX_NAME: usize = 255;

const MAX_PARAMS: usize = 4096;

/// Application of clients that name none, as in SRS: the same as `default_app`.
const DEFAULT_APP: &str = "__defaultApp__";

/// Instance of an application in Flash Media Server and Wowza: of no meaning here.
const DEFAULT_INSTANCE: &str = "/_definst_";

/// Characters between parameters of a client of SRS: `app?key=k,vhost=v`.
const PARAM_SEPARATORS: [char; 3] = ['&', ',', '?'];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no stream name: rtmp://host/app/stream is expected")]
    NoStream,
    #[error("a {what} of {len} bytes is too long, at most {max} are allowed")]
    TooLong { what: &'static str, len: usize, max: usize },
    #[error("the {what} {name:?} is not allowed: names contain no \"..\", no empty parts and no control characters")]
    BadName { what: &'static str, name: String },
    #[error("unknown vhost {0:?}")]
    NoVhost(String),
    #[error("vhost {0:?} is disabled")]
    Disabled(String),
}

#[derive(Debug, Clone)]
pub struct AppRequest {
    pub vhost: Arc<Vhost>,
    pub app: String,
    /// Parameters of the application: the text after the `?`.
    pub params: String,
}

#[derive(Debug, Clone)]
pub struct StreamRequest {
    pub vhost: Arc<Vhost>,
    /// Application name. It differs from that of the connection if that contains the stream name, too.
    pub app: String,
    pub stream: String,
    pub name: String,
    /// Parameters of the stream, such as tokens: the text after the `?`.
    pub params: String,
}

impl AppRequest {
    /// Parses a `connect`. The vhost is the first of: `?vhost=` or `...vhost...` after the application, the same in the
    /// URL, the URL's host. Fails when a name is invalid, or the vhost does not exist or is disabled.
    pub fn new(connect: &Connect, config: &Config) -> Result<Self, Error> {
        let url = Url::parse(&connect.tc_url);
        let from_url = Name::parse(url.path);
        let from_app = Name::parse(&connect.app);
        let app = if from_app.name.is_empty() { &from_url } else { &from_app };
        let vhost = from_app.vhost.as_deref().or(from_url.vhost.as_deref()).unwrap_or(url.host);
        let name = normalized_app(&app.name, config);
        check("application", name)?;
        let params = if from_app.params.is_empty() { &from_url.params } else { &from_app.params };
        check_params(params)?;
        Ok(Self { vhost: find(vhost, config)?, app: name.to_owned(), params: params.clone() })
    }

    /// Returns the key of a bandwidth test: the parameter `key`, which ends at `&`, as in SRS also at `,` and at a further `?`.
    pub(crate) fn test_key(&self) -> Option<&str> {
        self.params.split(PARAM_SEPARATORS).find_map(|pair| pair.strip_prefix("key="))
    }

    /// Parses the name of a `publish` or `play` in this application. The name may choose another vhost, as above. It may be a
    /// whole URL; or empty, if the application contains the stream name.
    pub fn stream(&self, name: &str, config: &Config) -> Result<StreamRequest, Error> {
        let is_url = name.contains("://");
        let mut name = Name::parse(if is_url { Url::parse(name).path } else { name });
        let mut app = self.app.as_str();
        if name.name.is_empty() {
            // A URL of two parts, or of one, all of it sent as application.
            let Some((first, last)) = self.app.rsplit_once('/').or_else(|| self.app_as_stream_name(config)) else {
                return Err(Error::NoStream);
            };
            (app, name.name) = (first, last.to_owned());
            if name.params.is_empty() {
                name.params.clone_from(&self.params);
            }
        }
        let mut path = std::mem::take(&mut name.name);
        if is_url {
            path = path.replacen(&format!("{DEFAULT_INSTANCE}/"), "/", 1);
        }
        name.name = match path.strip_prefix(app).and_then(|rest| rest.strip_prefix('/')) {
            Some(stream) if is_url => stream.to_owned(),
            _ if is_url => match path.rsplit_once('/') {
                Some((other, stream)) => return self.stream_in(other, stream, &name, config),
                None => path,
            },
            _ => path,
        };
        self.stream_in(app, &name.name, &name, config)
    }

    /// Returns the default application, and the application of the client as a stream name, unless that is the same.
    fn app_as_stream_name<'a>(&'a self, config: &'a Config) -> Option<(&'a str, &'a str)> {
        (self.app != config.default_app).then_some((&config.default_app, &self.app))
    }

    fn stream_in(&self, app: &str, stream: &str, name: &Name, config: &Config) -> Result<StreamRequest, Error> {
        let app = normalized_app(app, config);
        check("application", app)?;
        check("stream name", stream)?;
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
            name: format!("{}/{app}/{stream}", vhost.name),
            vhost,
            app: app.to_owned(),
            stream: stream.to_owned(),
            params: name.params.clone(),
        })
    }
}

impl StreamRequest {
    /// Returns the request under another name of the same application, perhaps with other parameters. Fails when it is invalid.
    pub fn renamed(&self, stream: &str, params: Option<&str>) -> Result<Self, Error> {
        check("stream name", stream)?;
        if stream.contains('?') {
            return Err(Error::BadName { what: "stream name", name: stream.to_owned() });
        }
        Ok(Self {
            name: format!("{}/{}/{stream}", self.vhost.name, self.app),
            vhost: self.vhost.clone(),
            app: self.app.clone(),
            stream: stream.to_owned(),
            params: params.unwrap_or(&self.params).to_owned(),
        })
    }
}

/// Returns the application without its instance, or the default one.
fn normalized_app<'a>(app: &'a str, config: &'a Config) -> &'a str {
    match app.trim_end_matches(DEFAULT_INSTANCE) {
        "" | DEFAULT_APP => &config.default_app,
        app => app,
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

/// A name with parameters: `name?vhost=v&token=t`, or `name...vhost...v&token=t` for clients that cannot send a `?`, as in SRS.
/// `domain` means the same as `vhost`.
struct Name {
    name: String,
    vhost: Option<String>,
    params: String,
}

impl Name {
    fn parse(text: &str) -> Self {
        let (name, params) = text.split_once('?').unwrap_or((text, ""));
        let mut params = params.to_owned();
        let mut pieces = name.split("...");
        let name = pieces.next().unwrap_or_default().trim_matches('/').to_owned();
        let mut vhost = None;
        while let (Some(key), Some(value)) = (pieces.next(), pieces.next()) {
            let (value, more) = value.split_once('&').unwrap_or((value, ""));
            if matches!(key, "vhost" | "domain") {
                vhost = Some(value.trim_end_matches('/').to_owned());
            }
            if !more.is_empty() {
                let separator = if params.is_empty() { "" } else { "&" };
                params = format!("{more}{separator}{params}");
            }
        }
        let find = |separators: &[char]| {
            ["vhost=", "domain="]
                .into_iter()
                .find_map(|key| params.split(separators).find_map(|pair| pair.strip_prefix(key)))
                .map(str::to_owned)
        };
        let in_params = find(&['&']).or_else(|| find(&PARAM_SEPARATORS));
        let vhost = in_params.or(vhost).filter(|vhost| !vhost.is_empty());
        Self { name, vhost, params }
    }
}

#[cfg(test)]
mod tests;
