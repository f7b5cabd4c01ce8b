//! Requests to the API.

use std::io;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body, Error};

use crate::address::Address;
use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole request. A reload may wait for others.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Longest silence of a stream of events, whose server sends a comment every 15 s.
const EVENT_TIMEOUT: Duration = Duration::from_secs(45);

/// Longest answer that is read.
const MAX_ANSWER: u64 = 256 << 20;

/// Items of one request for a list.
const PAGE: usize = 1000;

#[derive(Clone)]
pub(crate) struct Api {
    address: Address,
    agent: Agent,
}

impl Api {
    /// Prepares requests to an address.
    pub(crate) fn new(address: Address) -> Result<Self, Failure> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is meant for the web.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("srs_ctl/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "ssl")]
        let config = match address.url.starts_with("https:") {
            true => config.tls_config(tls::config(address.cacert.as_deref())?),
            false => config,
        };
        #[cfg(not(feature = "ssl"))]
        if address.url.starts_with("https:") {
            return Err(Failure::Usage(
                "srs_ctl was built without TLS; build it with ./configure --with-ssl".to_owned(),
            ));
        }
        Ok(Self { agent: config.build().new_agent(), address })
    }

    pub(crate) fn url(&self) -> &str {
        &self.address.url
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.get(self.full(path)).config().timeout_global(Some(TIMEOUT)).build();
        self.read(self.authorize(request).call())
    }

    /// Returns the answer to a POST without a body.
    pub(crate) fn post(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.post(self.full(path)).config().timeout_global(Some(TIMEOUT)).build();
        self.read(self.authorize(request).send_empty())
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.delete(self.full(path)).config().timeout_global(Some(TIMEOUT)).build();
        self.read(self.authorize(request).call())
    }

    /// Returns all items of a list, page by page. `query` begins with `&` or is empty.
    pub(crate) fn list(&self, name: &str, query: &str) -> Result<Vec<Value>, Failure> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            // Clients that leave meanwhile move the others, so their pages begin with a number.
            let begin = match all.last().and_then(|last| last["id"].as_str()).filter(|_| name == "clients") {
                Some(last) => format!("after={last}"),
                None => format!("start={}", all.len()),
            };
            let mut page = self.get(&format!("/api/v1/{name}?{begin}&count={PAGE}{query}"))?;
            let items = page.get_mut(name).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            let count = items.len();
            all.extend(items);
            if count < PAGE {
                return Ok(all);
            }
        }
    }

    /// Returns the body of an answer that does not end.
    pub(crate) fn stream(&self, path: &str) -> Result<Body, Failure> {
        let request = self.agent.get(self.full(path)).config().timeout_per_read(Some(EVENT_TIMEOUT)).build();
        let response = self.authorize(request).call().map_err(|error| self.failure(&error))?;
        if response.status().is_success() { Ok(response.into_body()) } else { Err(self.refusal(response)) }
    }

    fn full(&self, path: &str) -> String {
        format!("{}{path}", self.address.url)
    }

    fn authorize<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.address.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    fn read(&self, result: Result<Response<Body>, Error>) -> Result<Value, Failure> {
        let mut response = result.map_err(|error| self.failure(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| self.failure(&error))?;
        let answer: Value = serde_json::from_str(&text)
            .map_err(|_| Failure::Unreachable(format!("{} is not the API of a simple_rtmp_server", self.url())))?;
        match answer["code"].as_u64() {
            Some(0) => Ok(answer),
            Some(code) => Err(Failure::Refused(describe_code(code))),
            None => Err(Failure::Unreachable(format!("{} is not the API of a simple_rtmp_server", self.url()))),
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        Failure::Unreachable(format!("{} does not answer: {}; see --api and -c", self.url(), self.describe(error)))
    }

    /// Returns the reason of an error in terms of the server.
    fn describe(&self, error: &Error) -> String {
        let kind = if let Error::Io(error) = error { Some(error.kind()) } else { None };
        let is_tls = self.url().starts_with("https:");
        match kind {
            Some(io::ErrorKind::ConnectionRefused) => {
                "nothing listens there (is the server running, with \"http_api { enabled on; }\"?)".to_owned()
            }
            Some(io::ErrorKind::InvalidData) if is_tls && error.to_string().contains("InvalidContentType") => {
                "it speaks no TLS there (try http:// instead of https://)".to_owned()
            }
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
                if !is_tls =>
            {
                "it closes the connection (this is another port than that of http_api, or needs https://)".to_owned()
            }
            _ => error.to_string().trim_start_matches("io: ").to_owned(),
        }
    }

    fn refusal(&self, response: Response<Body>) -> Failure {
        match (response.status().as_u16(), &self.address.authorization) {
            (401, None) => Failure::Forbidden(
                "the API needs a secret; give --token, --login, or with -c the configuration of the server".to_owned(),
            ),
            (401, Some(_)) => Failure::Forbidden("the secret is wrong; see --token and --login".to_owned()),
            _ => refusal(response),
        }
    }
}

/// Returns the failure of an answer with a status of HTTP.
fn refusal(mut response: Response<Body>) -> Failure {
    let status = response.status();
    let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().unwrap_or_default();
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let detail = problem["detail"].as_str().map_or_else(|| text.trim().to_owned(), str::to_owned);
    let lines = problem["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let detail = lines.fold(detail, |detail, line| format!("{detail}\n  {line}"));
    match status.as_u16() {
        403 | 429 => Failure::Forbidden(detail),
        404 if problem.is_null() => Failure::Refused(format!("{detail}; is this the address of http_api?")),
        404 => Failure::Refused(match list_of(&detail) {
            Some(command) => format!("{detail}; \"srs_ctl {command}\" lists them"),
            None => detail,
        }),
        _ => Failure::Refused(detail),
    }
}

/// Returns the command that lists what is missing.
fn list_of(detail: &str) -> Option<&'static str> {
    let commands = [("client", "clients"), ("stream", "streams"), ("recording", "recordings"), ("ban", "bans")];
    let missing = detail.strip_prefix("no such ")?;
    commands.into_iter().find(|(what, _)| missing.starts_with(what)).map(|(_, command)| command)
}

/// Returns the meaning of a code of SRS.
fn describe_code(code: u64) -> String {
    match code {
        2014 => "no such vhost".to_owned(),
        2048 => "no such stream; give its name as in its URL, such as live/livestream".to_owned(),
        2049 => "no such client; \"srs_ctl clients\" lists them".to_owned(),
        code => format!("the server answered the code {code}"),
    }
}

/// Encodes a part of a path or of a query (RFC 3986, 2.1).
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte.into()),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(feature = "ssl")]
mod tls {
    use std::path::Path;
    use std::sync::Arc;

    use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

    use crate::failure::Failure;

    /// Returns the settings of TLS: trusts the certificates of a file, or those of the system.
    pub(super) fn config(cacert: Option<&Path>) -> Result<TlsConfig, Failure> {
        let certificates: Vec<Certificate<'static>> = match cacert {
            Some(file) => of_file(file)?,
            None => {
                let found = rustls_native_certs::load_native_certs().certs;
                found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
            }
        };
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build())
    }

    fn of_file(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|error| Failure::Usage(format!("cannot read {shown}: {error}")))?;
        let items = parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let all: Vec<_> = items.collect();
        if all.is_empty() { Err(Failure::Usage(format!("{shown} has no certificate"))) } else { Ok(all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(encode("live/a b?ü%"), "live/a%20b%3F%C3%BC%25");
    }
}
