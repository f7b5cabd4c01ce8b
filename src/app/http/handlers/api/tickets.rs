//! Tickets: they admit whoever has the link to one file, for programs that cannot send a secret, such as the video element of a
//! browser.
//!
//! A ticket is `EXPIRES-HMAC`. It names no user, and ends with the server and with any change of the secrets.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::app::session::signed_url::from_hex;
use crate::config::ApiAuth;

/// Time for which a link is valid: long enough to watch a recording with pauses.
pub(super) const LIFETIME: Duration = Duration::from_secs(4 * 3600);

const MAX_DIGITS: usize = 15;

pub(super) struct Tickets {
    /// Random, so that tickets end with the server. `None`: the system has no random bytes, and nobody gets a ticket.
    key: Option<[u8; 32]>,
}

impl Tickets {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        Self { key: getrandom::fill(&mut key).is_ok().then_some(key) }
    }

    /// Returns a ticket for the file `id` that is valid for [`LIFETIME`]. `now` is the Unix time.
    pub(super) fn issue(&self, auth: &ApiAuth, id: &str, now: u64) -> Option<String> {
        let expires = now + LIFETIME.as_secs();
        let code = self.code(auth, id, expires)?.finalize().into_bytes();
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{expires}-{hex}"))
    }

    /// Returns whether a ticket admits to the file `id`. `now` is the Unix time.
    pub(super) fn admits(&self, auth: &ApiAuth, id: &str, ticket: &str, now: u64) -> bool {
        let check = || {
            let (expires, hex) = ticket.split_once('-')?;
            let is_number = expires.len() <= MAX_DIGITS && expires.bytes().all(|byte| byte.is_ascii_digit());
            let expires: u64 = is_number.then(|| expires.parse().ok())??;
            let is_right = self.code(auth, id, expires)?.verify_slice(&from_hex(hex)?).is_ok();
            Some(is_right && now < expires)
        };
        check().unwrap_or(false)
    }

    fn code(&self, auth: &ApiAuth, id: &str, expires: u64) -> Option<Hmac<Sha256>> {
        let mut code = Hmac::<Sha256>::new_from_slice(self.key.as_ref()?).ok()?;
        let mut add = |part: &str| {
            // The length keeps two parts from being taken for two others.
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part.as_bytes());
        };
        add(id);
        add(&expires.to_string());
        if let ApiAuth::Secrets { login, tokens } = auth {
            if let Some((name, password)) = login {
                add(name);
                add(password.expose());
            }
            for token in tokens {
                add(token.role.name());
                add(token.secret.expose());
            }
        }
        Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn auth(directives: &str) -> ApiAuth {
        let text = format!("listen 1; http_api {{ auth {{ enabled on; {directives} }} }} vhost a {{ }}");
        Config::parse("t", &text).unwrap().http_api.auth
    }

    #[test]
    fn a_ticket_is_for_one_file_one_time_and_one_set_of_secrets() {
        let (tickets, now) = (Tickets::new(), 1_000_000);
        let secrets = auth("username u; password p; token a admin s1;");
        let ticket = tickets.issue(&secrets, "c0ffee", now).unwrap();
        let end = now + LIFETIME.as_secs();
        assert!(tickets.admits(&secrets, "c0ffee", &ticket, now));
        assert!(tickets.admits(&secrets, "c0ffee", &ticket, end - 1));
        assert!(!tickets.admits(&secrets, "c0ffee", &ticket, end), "its time is over");
        assert!(!tickets.admits(&secrets, "c0ffed", &ticket, now), "another file");
        let later = ticket.replace(&end.to_string(), &(end + 1).to_string());
        assert!(!tickets.admits(&secrets, "c0ffee", &later, now), "the time is a part of the code");
        for other in ["username u; password q; token a admin s1;", "username u; password p;", "token a admin s1;"] {
            assert!(!tickets.admits(&auth(other), "c0ffee", &ticket, now), "{other}");
        }
        assert!(!Tickets::new().admits(&secrets, "c0ffee", &ticket, now), "another server");
    }

    #[test]
    fn no_ticket_of_a_stranger_admits() {
        let (tickets, secrets) = (Tickets::new(), auth("token a admin s1;"));
        let zeros = "0".repeat(64);
        let long = "9".repeat(400);
        for ticket in ["", "-", "9", "9-", "-9", "99999999999999999999-0", "9-é", "+9-00", &long] {
            assert!(!tickets.admits(&secrets, "a", ticket, 0), "{ticket}");
            assert!(!tickets.admits(&secrets, "a", &format!("{ticket}-{zeros}"), 0), "{ticket}");
            assert!(!tickets.admits(&secrets, "a", &format!("{ticket}{zeros}"), 0), "{ticket}");
        }
    }
}
