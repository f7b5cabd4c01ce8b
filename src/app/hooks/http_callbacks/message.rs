//! A request to a backend: its method, its body, and the signature of the body.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::{HookFormat, Secret};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The body of a POST; none for a GET.
    pub(super) body: Option<Body>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) text: String,
    pub(super) content_type: &'static str,
    /// The value of `X-SRS-Signature`, if the vhost has a secret.
    pub(super) signature: Option<String>,
}

impl Message {
    pub(super) fn post(text: String, format: HookFormat, secret: Option<&Secret>) -> Self {
        let content_type = match format {
            HookFormat::Json => "application/json",
            HookFormat::Form => "application/x-www-form-urlencoded",
        };
        let signature = secret.map(|secret| sign(secret.expose(), &text));
        Self { body: Some(Body { text, content_type, signature }) }
    }

    pub(super) fn get() -> Self {
        Self { body: None }
    }

    pub(super) fn text(&self) -> &str {
        self.body.as_ref().map_or("", |body| &body.text)
    }
}

/// Returns the signature of a body: `sha256=` and the HMAC-SHA256 in hexadecimal digits.
fn sign(secret: &str, text: &str) -> String {
    #[allow(clippy::expect_used)] // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(text.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// Returns a body with a further field that is true, such as `replayed` of an event that is told after a restart.
pub(super) fn with_flag(text: &str, format: HookFormat, field: &str) -> String {
    match (format, text.strip_suffix('}')) {
        (HookFormat::Json, Some(fields)) => format!("{fields},\"{field}\":true}}"),
        _ => format!("{text}&{field}=true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_openssl_does() {
        // printf '{"a":1}' | openssl dgst -sha256 -hmac secret
        let message = Message::post("{\"a\":1}".to_owned(), HookFormat::Json, Some(&"secret".into()));
        let body = message.body.unwrap();
        assert_eq!(
            body.signature.as_deref(),
            Some("sha256=aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494")
        );
        assert_eq!(body.content_type, "application/json");
        assert_eq!(Message::post(String::new(), HookFormat::Form, None).body.unwrap().signature, None);
    }

    #[test]
    fn a_replayed_event_says_so() {
        assert_eq!(with_flag("{\"a\":1}", HookFormat::Json, "replayed"), "{\"a\":1,\"replayed\":true}");
        assert_eq!(with_flag("a=1", HookFormat::Form, "replayed"), "a=1&replayed=true");
    }
}
