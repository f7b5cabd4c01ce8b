//! The address of the API, and the secret for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use srs::config::{ApiAuth, Config};

use crate::failure::Failure;
use crate::options::Options;

const DEFAULT: &str = "http://127.0.0.1:1985";
const DEFAULT_PORT: u16 = 1985;

/// The API, and how to reach it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address {
    /// URL without a path, a login, and a slash at its end.
    pub(crate) url: String,
    pub(crate) authorization: Option<String>,
    /// File with the certificate to trust.
    pub(crate) cacert: Option<PathBuf>,
}

/// Finds the address: of the command line, of the environment, of a configuration, or the default.
pub(crate) fn find(options: &Options) -> Result<Address, Failure> {
    // A variable of the environment that is empty counts as absent.
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut address = match (given(&options.api), &options.config) {
        (Some(url), _) => parse(&url)?,
        (None, Some(file)) => of_configuration(file)?,
        (None, None) => parse(DEFAULT)?,
    };
    if let Some(token) = given(&options.token) {
        address.authorization = Some(format!("Bearer {token}"));
    } else if let Some(login) = given(&options.login) {
        if !login.contains(':') {
            return Err(Failure::Usage("--login must be NAME:PASSWORD, such as admin:secret".to_owned()));
        }
        address.authorization = Some(basic(&login));
    }
    address.cacert = options.cacert.clone();
    Ok(address)
}

fn basic(login: &str) -> String {
    format!("Basic {}", BASE64.encode(login))
}

/// Parses a URL, or `HOST[:PORT]`, which may have a login before its host.
fn parse(text: &str) -> Result<Address, Failure> {
    let wrong = || Failure::Usage(format!("not a URL of an API: {text:?}; example: {DEFAULT}"));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err(wrong()),
        None => ("http", text),
    };
    let authority = rest.trim_end_matches('/').trim_end_matches("/api/v1").trim_end_matches('/');
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|_| !host.ends_with(']'));
    let is_valid_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || host.contains(['/', '?', '#', ' ']) || port.is_some_and(|port| !is_valid_port(port)) {
        return Err(wrong());
    }
    let port = if port.is_some() || text.contains("://") { String::new() } else { format!(":{DEFAULT_PORT}") };
    Ok(Address { url: format!("{scheme}://{host}{port}"), authorization: login.map(basic), cacert: None })
}

/// Returns the address and the most powerful secret of a configuration.
fn of_configuration(file: &Path) -> Result<Address, Failure> {
    let config = Config::load(file).map_err(|error| Failure::Usage(error.to_string()))?;
    let api = &config.http_api;
    let listen = match () {
        () if api.enabled => api.listen.first(),
        () if config.http_server.enabled && config.http_server.api => config.http_server.listen.first(),
        () => None,
    };
    let Some(listen) = listen else {
        let text = format!("{} has no API; add \"http_api {{ enabled on; }}\"", file.display());
        return Err(Failure::Usage(text));
    };
    let authorization = match &api.auth {
        ApiAuth::Secrets { login: Some((name, password)), .. } => Some(basic(&format!("{name}:{}", password.expose()))),
        ApiAuth::Secrets { tokens, .. } => {
            let best = tokens.iter().max_by_key(|token| token.role);
            best.map(|token| format!("Bearer {}", token.secret.expose()))
        }
        _ => None,
    };
    Ok(Address { url: format!("http://{}", reachable(listen.address)), authorization, cacert: None })
}

/// Returns the address of this machine for one that stands for all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn urls_are_completed() {
        for (text, url) in [
            ("localhost", "http://localhost:1985"),
            ("localhost:80", "http://localhost:80"),
            ("[::1]", "http://[::1]:1985"),
            ("[::1]:80", "http://[::1]:80"),
            ("http://a.b", "http://a.b"),
            ("https://a.b:1990/api/v1/", "https://a.b:1990"),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                Address { url: url.to_owned(), authorization: None, cacert: None },
                "{text}"
            );
        }
        let address = parse("http://u:p@a.b/").unwrap();
        assert_eq!((address.url.as_str(), address.authorization.as_deref()), ("http://a.b", Some("Basic dTpw")));
        for bad in ["", "ftp://a", "http://", "a b", "http://a/b?c", "a:b", "http://a:65536", "a:0", "http://a:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
