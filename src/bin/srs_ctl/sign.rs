//! `sign`: makes signed URLs with the secret of `security`, without the server.

use std::time::{SystemTime, UNIX_EPOCH};

use srs::app::session::signed_url;
use srs::config::{Action, Config, DEFAULT_VHOST};

use crate::failure::Failure;
use crate::options::{Options, Signing};

/// Suffixes of paths over HTTP, which are no part of a stream's name.
const SUFFIXES: [&str; 2] = [".m3u8", ".flv"];

/// Prints the signed URL, or for a stream without a URL the parameters.
pub(crate) fn run(options: &Options, signing: &Signing) -> Result<(), Failure> {
    let config = match &options.config {
        Some(path) => Some(Config::load(path).map_err(|error| Failure::Usage(error.to_string()))?),
        None => None,
    };
    let (vhost, stream) = stream_of(&signing.target, signing.vhost.as_deref(), config.as_ref());
    if !stream.contains('/') {
        return Err(Failure::Usage(format!("{:?} is no URL and no APP/STREAM, such as live/cam", signing.target)));
    }
    let configured = || {
        let vhost = config.as_ref()?.vhost(&vhost)?;
        vhost.security.secret.as_ref().map(|secret| secret.expose().to_owned())
    };
    let secret = signing.secret.clone().or_else(configured).ok_or_else(|| {
        Failure::Usage("no secret: give -c FILE with a secret in security of the vhost, or SRS_SECRET".to_owned())
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let action = if signing.publish { Action::Publish } else { Action::Play };
    let params = signed_url::sign(&secret, action, &stream, now.saturating_add(signing.seconds));
    if signing.target.contains("://") {
        let mark = if signing.target.contains('?') { '&' } else { '?' };
        println!("{}{mark}{params}", signing.target);
    } else {
        println!("{params}");
    }
    Ok(())
}

/// Returns the vhost and `APP/STREAM` of a target.
fn stream_of(target: &str, vhost: Option<&str>, config: Option<&Config>) -> (String, String) {
    let target = target.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = target.split_once("://") else {
        return (vhost.unwrap_or(DEFAULT_VHOST).to_owned(), target.trim_matches('/').to_owned());
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    if scheme.starts_with("rtmp") {
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = host.strip_prefix('[').and_then(|host| host.split(']').next()).unwrap_or(host);
        let host = host.split(':').next().unwrap_or_default();
        return (vhost.unwrap_or(host).to_owned(), path.to_owned());
    }
    let path = SUFFIXES.into_iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path);
    // The files of a vhost have a directory of its name.
    match path.split_once('/') {
        Some((first, rest)) if config.is_some_and(|config| config.vhosts.contains_key(first)) => {
            (first.to_owned(), rest.to_owned())
        }
        _ => (vhost.unwrap_or(DEFAULT_VHOST).to_owned(), path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_vhost_and_stream() {
        let config = Config::parse("t", "listen 1; vhost __defaultVhost__ { } vhost b.com { }").unwrap();
        for (target, vhost, stream) in [
            ("live/cam", DEFAULT_VHOST, "live/cam"),
            ("rtmp://b.com/live/cam", "b.com", "live/cam"),
            ("rtmps://b.com:1936/a/b/cam?token=x", "b.com", "a/b/cam"),
            ("http://h:8080/live/cam.m3u8", DEFAULT_VHOST, "live/cam"),
            ("https://h/b.com/live/cam.flv", "b.com", "live/cam"),
        ] {
            let found = stream_of(target, None, Some(&config));
            assert_eq!(found, (vhost.to_owned(), stream.to_owned()), "{target}");
        }
        assert_eq!(stream_of("live/cam", Some("b.com"), None).0, "b.com");
    }
}
