//! Access to the API: secrets, roles, and requests that a page of another site has caused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::answer::problem;
use super::offenders::Offenders;
use crate::app::http::response::Response;
use crate::app::session::per_ip;
use crate::config::{ApiAuth, ApiRole};
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::log::{Throttle, quoted};
use crate::st::{self, Shared};

/// Wrong secrets of one address within [`WINDOW`] after which its requests with a secret are refused until the window ends.
const MAX_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are counted at a time. Further ones share one count.
const MAX_ADDRESSES: usize = 4096;

const LOG_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Guard(Shared<State>, Arc<Offenders>);

struct State {
    failures: HashMap<Option<IpAddr>, Failures>,
    warning: Throttle,
    unreported: u64,
    total: u64,
}

struct Failures {
    count: u32,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer,
}

impl Guard {
    pub(super) fn new(offenders: Arc<Offenders>) -> Self {
        let warning = Throttle::new(LOG_INTERVAL);
        Self(Shared::new(State { failures: HashMap::new(), warning, unreported: 0, total: 0 }), offenders)
    }

    pub(super) fn failure_count(&self) -> u64 {
        self.0.with(|state| state.total)
    }

    /// Returns the role of whoever sent the request. Errors: the response that refuses it.
    pub(super) fn check(
        &self,
        request: &Request,
        address: IpAddr,
        auth: &ApiAuth,
        crossdomain: bool,
    ) -> Result<ApiRole, Box<Response>> {
        let credentials = credentials(request);
        let is_change = !matches!(request.method, Method::Get | Method::Head);
        // Browsers add a login by themselves, but never a token.
        let is_meant = crossdomain && credentials.is_none_or(|(scheme, _)| scheme == Scheme::Bearer);
        if is_change && !is_meant && is_cross_site(request) {
            return refuse(Status::Forbidden, "a page of another site must not change anything");
        }
        let ApiAuth::Secrets { .. } = auth else {
            if *auth == ApiAuth::Loopback && !is_local_host(request) {
                // The name of an attacker's site may lead to 127.0.0.1 (DNS rebinding).
                return refuse(Status::Forbidden, "use the address of this machine in the URL, or localhost");
            }
            return Ok(ApiRole::Admin);
        };
        let Some((scheme, secret)) = credentials else { return challenge(request) };
        if self.0.with(|state| state.is_limited(address, st::now())) {
            let response = problem(Status::TooManyRequests, "too many wrong secrets from your address", &[]);
            return Err(Box::new(response.with("Retry-After", WINDOW.as_secs())));
        }
        match find_role(auth, scheme, secret) {
            Some(role) => Ok(role),
            None => {
                let now = st::now();
                self.0.with(|state| state.count_failure(address, now));
                self.1.record_wrong_secret(address, now);
                challenge(request)
            }
        }
    }
}

impl State {
    fn key(&self, address: IpAddr) -> Option<IpAddr> {
        let key = Some(per_ip::key(address));
        if self.failures.contains_key(&key) || self.failures.len() < MAX_ADDRESSES { key } else { None }
    }

    fn is_limited(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.failures.get(&self.key(address));
        failures.is_some_and(|failures| {
            failures.count >= MAX_FAILURES && now.saturating_duration_since(failures.since) < WINDOW
        })
    }

    fn count_failure(&mut self, address: IpAddr, now: Instant) {
        if self.failures.len() >= MAX_ADDRESSES {
            self.failures.retain(|_, failures| now.saturating_duration_since(failures.since) < WINDOW);
        }
        let key = self.key(address);
        let failures = self.failures.entry(key).or_insert(Failures { count: 0, since: now });
        if now.saturating_duration_since(failures.since) >= WINDOW {
            *failures = Failures { count: 0, since: now };
        }
        failures.count += 1;
        self.unreported += 1;
        self.total += 1;
        if self.warning.pass(now) {
            let count = std::mem::take(&mut self.unreported);
            log::warn!("API login failed: count={count} last_address={address}");
        }
    }
}

pub(super) fn has_credentials(request: &Request) -> bool {
    credentials(request).is_some()
}

fn credentials(request: &Request) -> Option<(Scheme, &str)> {
    let (scheme, secret) = request.headers.get_single("authorization")?.split_once(' ')?;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("basic") => Scheme::Basic,
        _ if scheme.eq_ignore_ascii_case("bearer") => Scheme::Bearer,
        _ => return None,
    };
    Some((scheme, secret.trim()))
}

/// Returns the role that a secret gives. Compares all secrets in constant time.
fn find_role(auth: &ApiAuth, scheme: Scheme, given: &str) -> Option<ApiRole> {
    let ApiAuth::Secrets { login, tokens } = auth else { return None };
    let is_same = |secret: &str| bool::from(secret.as_bytes().ct_eq(given.as_bytes()));
    match scheme {
        // The login is encoded, instead of decoding what a stranger has sent.
        Scheme::Basic => {
            let (name, password) = login.as_ref()?;
            is_same(&base64(format!("{name}:{}", password.expose()).as_bytes())).then_some(ApiRole::Admin)
        }
        Scheme::Bearer => {
            let mut role = None;
            for token in tokens {
                if is_same(token.secret.expose()) {
                    role = role.max(Some(token.role));
                }
            }
            role
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place) & 0x3f) as usize;
            text.push(if place <= group.len() { ALPHABET[index].into() } else { '=' });
        }
    }
    text
}

/// Returns whether a browser says that a page of another site has caused the request.
fn is_cross_site(request: &Request) -> bool {
    let host = request.headers.get("host").unwrap_or_default();
    let is_foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, rest)| !rest.eq_ignore_ascii_case(host));
    request.headers.get("origin").is_some_and(is_foreign)
        || request.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Returns whether `Host` is an address or `localhost`, which no site of an attacker can have.
fn is_local_host(request: &Request) -> bool {
    let Some(host) = request.headers.get("host") else { return true };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn refuse<T>(status: Status, message: &str) -> Result<T, Box<Response>> {
    Err(problem(status, message, &[]))
}

/// Asks for a login. A script does so itself: the header line would make the browser show a window of its own.
fn challenge<T>(request: &Request) -> Result<T, Box<Response>> {
    let response = problem(Status::Unauthorized, "a login or a token is needed", &[]);
    if request.headers.get("x-requested-with").is_some() {
        return Err(response);
    }
    Err(Box::new(response.with("WWW-Authenticate", "Basic realm=\"simple-rtmp-server\", charset=\"UTF-8\"")))
}

pub(super) fn log_change(address: IpAddr, action: impl std::fmt::Display) {
    log::info!("API request carried out: address={address} action={}", quoted(action));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::http::request::parse;

    fn request(method: &str, fields: &str) -> Request {
        let host = if fields.contains("Host:") { "" } else { "Host: 127.0.0.1:1985\r\n" };
        let text = format!("{method} /api/v1/streams HTTP/1.1\r\n{host}{fields}\r\n");
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn auth(directive: &str) -> ApiAuth {
        let text = format!("listen 1; http_api {{ {directive} }} vhost a {{ }}");
        Config::parse("t", &text).unwrap().http_api.auth
    }

    fn check(guard: &Guard, auth: &ApiAuth, method: &str, fields: &str) -> Result<ApiRole, Status> {
        let address = "192.0.2.1".parse().unwrap();
        guard.check(&request(method, fields), address, auth, false).map_err(|response| response.head.status)
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn secrets_give_their_roles() {
        st::run(|| {
            let auth =
                auth("auth { enabled on; username u; password \"p:q\"; token a read s1; token b kick s2; token c admin s3; }");
            let guard = Guard::new(Arc::default());
            let basic = format!("Authorization: Basic {}\r\n", base64(b"u:p:q"));
            for (fields, expected) in [
                (basic.as_str(), Ok(ApiRole::Admin)),
                ("authorization: bearer s1\r\n", Ok(ApiRole::Read)),
                ("Authorization: Bearer s2\r\n", Ok(ApiRole::Kick)),
                ("Authorization: Bearer s3\r\n", Ok(ApiRole::Admin)),
                ("", Err(Status::Unauthorized)),
                ("Authorization: Bearer s\r\n", Err(Status::Unauthorized)),
                ("Authorization: Bearer \r\n", Err(Status::Unauthorized)),
                ("Authorization: Basic s1\r\n", Err(Status::Unauthorized)),
                ("Authorization: Digest s1\r\n", Err(Status::Unauthorized)),
                ("Authorization: Bearer s1\r\nAuthorization: Bearer s1\r\n", Err(Status::Unauthorized)),
            ] {
                assert_eq!(check(&guard, &auth, "GET", fields), expected, "{fields}");
            }
        })
        .unwrap();
    }

    #[test]
    fn who_guesses_has_to_wait() {
        st::run(|| {
            let auth = auth("auth { enabled on; token a read right; }");
            let guard = Guard::new(Arc::default());
            for _ in 0..MAX_FAILURES {
                assert_eq!(check(&guard, &auth, "GET", "Authorization: Bearer wrong\r\n"), Err(Status::Unauthorized));
            }
            assert_eq!(check(&guard, &auth, "GET", "Authorization: Bearer right\r\n"), Err(Status::TooManyRequests));
            assert_eq!(check(&guard, &auth, "GET", ""), Err(Status::Unauthorized), "who has no secret does not guess");
            let other = guard.check(
                &request("GET", "Authorization: Bearer right\r\n"),
                "192.0.2.2".parse().unwrap(),
                &auth,
                false,
            );
            assert!(other.is_ok(), "other addresses are not affected");
            guard.0.with(|state| {
                let later = st::now() + WINDOW;
                assert!(!state.is_limited("192.0.2.1".parse().unwrap(), later));
                for n in 0..2 * MAX_ADDRESSES as u32 {
                    state.count_failure(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), later);
                }
                assert_eq!(state.failures.len(), MAX_ADDRESSES + 1);
                assert!(state.is_limited("11.0.0.1".parse().unwrap(), later), "the others share one count");
            });
        })
        .unwrap();
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        st::run(|| {
            let (guard, auth) = (Guard::new(Arc::default()), auth(""));
            assert_eq!(auth, ApiAuth::Loopback);
            for (method, fields, expected) in [
                ("POST", "", Ok(ApiRole::Admin)),
                ("POST", "Origin: http://127.0.0.1:1985\r\nSec-Fetch-Site: same-origin\r\n", Ok(ApiRole::Admin)),
                ("POST", "Origin: http://evil.example\r\n", Err(Status::Forbidden)),
                ("POST", "Origin: null\r\n", Err(Status::Forbidden)),
                ("DELETE", "Sec-Fetch-Site: cross-site\r\n", Err(Status::Forbidden)),
                ("GET", "Origin: http://evil.example\r\n", Ok(ApiRole::Admin)),
                ("GET", "Host: evil.example:1985\r\n", Err(Status::Forbidden)),
                ("GET", "Host: localhost:1985\r\n", Ok(ApiRole::Admin)),
                ("GET", "Host: [::1]:1985\r\n", Ok(ApiRole::Admin)),
            ] {
                assert_eq!(check(&guard, &auth, method, fields), expected, "{method} {fields}");
            }
            let open = ApiAuth::Open;
            assert_eq!(check(&guard, &open, "GET", "Host: api.example\r\n"), Ok(ApiRole::Admin));
        })
        .unwrap();
    }
}
