//! Signed URLs: `?expires=UNIX&sign=HEX`, which `secret` of `security` asks for.
//!
//! The signature is HMAC-SHA256 with the secret over `APP/STREAM?expires=UNIX`, to publish over
//! `APP/STREAM?expires=UNIX&publish`: a viewer's URL is known to many, and must not allow to publish.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Action;

/// The parameter with the Unix time until which a URL is valid.
pub const EXPIRES: &str = "expires";

pub const SIGN: &str = "sign";

/// Longest number of seconds that is read, in digits.
const MAX_DIGITS: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the URL is not signed: expires=UNIX_TIME&sign=HMAC is missing")]
    Missing,
    #[error("the signature of the URL is wrong")]
    Wrong,
    #[error("the signature of the URL has expired")]
    Expired,
}

/// Returns the parameters that sign a URL for `stream` (`APP/STREAM`) until the Unix time `expires`.
pub fn sign(secret: &str, action: Action, stream: &str, expires: u64) -> String {
    let signature = hmac(secret, action, stream, expires).finalize().into_bytes();
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{EXPIRES}={expires}&{SIGN}={hex}")
}

/// Checks the signature in the parameters of a URL at the Unix time `now`, in constant time. Errors: why it does not pass.
pub fn verify(secret: &str, action: Action, stream: &str, params: &str, now: u64) -> Result<(), SignatureError> {
    let expires = param(params, EXPIRES).filter(|text| text.len() <= MAX_DIGITS && text.bytes().all(is_digit));
    let expires: u64 = expires.and_then(|text| text.parse().ok()).ok_or(SignatureError::Missing)?;
    let signature = param(params, SIGN).and_then(from_hex).ok_or(SignatureError::Missing)?;
    hmac(secret, action, stream, expires).verify_slice(&signature).map_err(|_| SignatureError::Wrong)?;
    if now < expires { Ok(()) } else { Err(SignatureError::Expired) }
}

pub fn param<'a>(params: &'a str, name: &str) -> Option<&'a str> {
    params.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

pub fn without_param(params: &str, name: &str) -> String {
    let is_other = |pair: &&str| pair.split_once('=').map_or(*pair, |(name, _)| name) != name;
    params.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}

fn hmac(secret: &str, action: Action, stream: &str, expires: u64) -> Hmac<Sha256> {
    #[allow(clippy::expect_used)] // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    let purpose = if action == Action::Publish { "&publish" } else { "" };
    mac.update(format!("{stream}?{EXPIRES}={expires}{purpose}").as_bytes());
    mac
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// Reads the 64 hexadecimal digits of an HMAC.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "expires=1790000000&sign=";

    fn check(params: &str) -> Result<(), SignatureError> {
        verify("secret", Action::Play, "live/cam", params, 1_789_999_999)
    }

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf 'live/cam?expires=1790000000' | openssl dgst -sha256 -hmac secret
        let play = sign("secret", Action::Play, "live/cam", 1_790_000_000);
        assert_eq!(play, format!("{URL}f89434685a19e95066a78d4b59e6dcf33e247ebcb61a032833a99a8dbbe87462"));
        let publish = sign("secret", Action::Publish, "live/cam", 1_790_000_000);
        assert_eq!(publish, format!("{URL}9749ba974b9869da61dce67b6f7df7c77d4b4f2ef6ec42830594c6a2eb6df6cd"));
    }

    #[test]
    fn a_signature_is_for_one_stream_one_action_and_a_time() {
        let signed = sign("secret", Action::Play, "live/cam", 1_790_000_000);
        assert_eq!(check(&signed), Ok(()));
        assert_eq!(
            check(&format!(
                "a=b&{}&vhost=v",
                signed.to_uppercase().replace("SIGN", "sign").replace("EXPIRES", "expires")
            )),
            Ok(())
        );
        let at = |now| verify("secret", Action::Play, "live/cam", &signed, now);
        assert_eq!((at(1_790_000_000), at(u64::MAX)), (Err(SignatureError::Expired), Err(SignatureError::Expired)));
        let wrong = Err(SignatureError::Wrong);
        assert_eq!(verify("Secret", Action::Play, "live/cam", &signed, 0), wrong);
        assert_eq!(verify("secret", Action::Publish, "live/cam", &signed, 0), wrong);
        assert_eq!(verify("secret", Action::Play, "live/cam2", &signed, 0), wrong);
        assert_eq!(check(&signed.replace("1790000000", "1790000001")), wrong);
        assert_eq!(check(&signed.replace("1790000000", "01790000000")), Ok(()), "the same number");
        for missing in [
            "",
            "expires=1790000000",
            &signed[11..],
            &signed.replace("1790000000", "+1790000000"),
            &signed.replace("1790000000", "99999999999999999999"),
            &signed[..signed.len() - 1],
            &format!("{signed}0"),
            &format!("{URL}{}", "ä".repeat(32)),
            &format!("{URL}{}", "+a".repeat(32)),
        ] {
            assert!(check(missing).is_err(), "{missing}");
        }
    }

    #[test]
    fn parameters_are_found_and_removed_by_name() {
        assert_eq!((param("a=1&key=x=y&key=z", "key"), param("monkey=1&key", "key")), (Some("x=y"), None));
        assert_eq!(without_param("a=1&key=x&b&key=y&monkey=z", "key"), "a=1&b&monkey=z");
        assert_eq!((without_param("key=x", "key"), without_param("", "key")), (String::new(), String::new()));
    }
}
