//! The gate of `stream_keys` and `secret` of `security`: secrets that clients show in the name or the parameters of a stream.

use std::time::UNIX_EPOCH;

use crate::app::events::{Gate, GateAction, GateAnswer, GateRequest};
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::signed_url::{self, param, without_param};
use crate::config::{Action, StreamKey};
use crate::st;

/// The parameter with a stream key, for publishers that give the name of the stream too: `cam?key=KEY`.
const KEY: &str = "key";

/// The check for a key or signature, if the vhost asks for one. A key suffices to publish; its stream gets its public name.
pub(super) struct CredentialGate;

impl Gate for CredentialGate {
    fn name(&self) -> &'static str {
        "credentials"
    }

    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let (security, client) = (&request.vhost.security, &request.client);
        let (Some(stream), false, true) = (&request.stream, request.is_granted, security.has_credentials()) else {
            return Ok(GateAnswer::default());
        };
        let action = if request.action == GateAction::Publish { Action::Publish } else { Action::Play };
        if let Some(keys) = &security.stream_keys {
            let in_params = param(&stream.params, KEY);
            let key = keys.find(in_params.unwrap_or(&stream.stream));
            match (action, key) {
                (Action::Publish, Some(key)) => return publish_with(key, in_params.is_some(), client, stream),
                (Action::Publish, None) if security.secret.is_none() => {
                    return Err(CloseReason::Denied("the stream key is not valid".to_owned()));
                }
                // Its name would be shown as that of a stream.
                (Action::Play, Some(_)) if in_params.is_none() => {
                    return Err(CloseReason::Denied("this is a stream key: play the name of the stream".to_owned()));
                }
                _ => {}
            }
        }
        if let Some(secret) = &security.secret {
            let name = format!("{}/{}", stream.app, stream.stream);
            let now = st::system_time().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
            let params = [stream.params.as_str(), client.app_params.as_str()];
            let params =
                params.into_iter().find(|params| param(params, signed_url::SIGN).is_some()).unwrap_or_default();
            signed_url::verify(secret.expose(), action, &name, params, now)
                .map_err(|error| CloseReason::Denied(error.to_string()))?;
        }
        Ok(GateAnswer::default())
    }
}

/// Returns the grants of a key to a publisher; `is_param` if the key is a parameter, and the stream has a name beside it.
fn publish_with(
    key: &StreamKey,
    is_param: bool,
    client: &ClientInfo,
    stream: &StreamInfo,
) -> Result<GateAnswer, CloseReason> {
    if !key.networks.is_empty() && !key.networks.iter().any(|network| network.contains(client.ip)) {
        return Err(CloseReason::Denied(format!("the stream key is not valid for {}", client.ip)));
    }
    let requested = is_param.then_some(&stream.stream);
    let name = match (&key.name, requested) {
        (Some(own), Some(requested)) if own != requested => {
            return Err(CloseReason::Denied(format!("the stream key is not valid for the stream {requested:?}")));
        }
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => {
            return Err(CloseReason::Denied("the stream key has no name: publish as NAME?key=KEY".to_owned()));
        }
    };
    let params = is_param.then(|| without_param(&stream.params, KEY));
    Ok(GateAnswer { stream: Some(name), params, max_bitrate: key.max_bitrate })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, StreamKeys};

    fn ask(
        security: &str,
        keys: Option<&str>,
        action: GateAction,
        name: &str,
        params: &str,
    ) -> Result<GateAnswer, String> {
        let text = format!("listen 1; vhost v {{ security {{ {security} }} }}");
        let config = Config::parse("t", &text).unwrap();
        let mut vhost = (**config.vhost("v").unwrap()).clone();
        vhost.security.stream_keys = keys.map(|text| Arc::new(StreamKeys::parse(text).unwrap()));
        let client = ClientInfo { ip: "192.0.2.7".parse().unwrap(), ..ClientInfo::of_test(1) };
        let [vhost_name, app, stream, params] = ["v", "live", name, params].map(str::to_owned);
        let info = StreamInfo { vhost: vhost_name, app, stream, name: format!("v/live/{name}"), params };
        let (client, stream, vhost) = (Arc::new(client), Some(Arc::new(info)), Arc::new(vhost));
        let request = GateRequest { action, client, stream, vhost, is_granted: false };
        let again = GateRequest { is_granted: true, ..request.clone() };
        assert_eq!(CredentialGate.check(&again).unwrap(), GateAnswer::default());
        CredentialGate.check(&request).map_err(|reason| reason.to_string())
    }

    const KEYS: &str = "k1 cam 500\nk2\nk3 gate 0 192.0.2.0/24\nk4 gate 0 10.0.0.0/8";

    #[test]
    fn a_key_publishes_its_stream_and_nothing_else() {
        let publish = |name, params| ask("", Some(KEYS), GateAction::Publish, name, params);
        let granted = |name: &str, params: Option<&str>, max_bitrate| {
            Ok(GateAnswer { stream: Some(name.to_owned()), params: params.map(str::to_owned), max_bitrate })
        };
        assert_eq!(publish("k1", "a=b"), granted("cam", None, Some(500)));
        assert_eq!(publish("cam", "a=b&key=k1"), granted("cam", Some("a=b"), Some(500)));
        assert_eq!(publish("any", "key=k2"), granted("any", Some(""), None));
        assert_eq!(publish("k3", ""), granted("gate", None, None));
        for (name, params, due) in [
            ("cam", "", "the stream key is not valid"),
            ("k1", "key=", "the stream key is not valid"),
            ("k1", "key=x", "the stream key is not valid"),
            ("other", "key=k1", "not valid for the stream \"other\""),
            ("k2", "", "NAME?key=KEY"),
            ("k4", "", "not valid for 192.0.2.7"),
        ] {
            let refusal = publish(name, params).unwrap_err();
            assert!(refusal.contains(due) && !refusal.contains("k1") && !refusal.contains("k4"), "{name}: {refusal}");
        }
        let play = |name, params| ask("", Some(KEYS), GateAction::Play, name, params);
        assert_eq!((play("cam", ""), play("cam", "key=k1")), (Ok(GateAnswer::default()), Ok(GateAnswer::default())));
        assert!(play("k1", "").unwrap_err().contains("this is a stream key"));
    }

    #[test]
    fn a_signature_is_asked_for_each_action_and_a_key_replaces_it_to_publish() {
        let future = u64::from(u32::MAX);
        let signed = |action| signed_url::sign("s", action, "live/cam", future);
        for (action, own, other) in
            [(GateAction::Play, Action::Play, Action::Publish), (GateAction::Publish, Action::Publish, Action::Play)]
        {
            for keys in [None, Some(KEYS)] {
                let ask = |params: &str| ask("secret s;", keys, action, "cam", params);
                assert_eq!(ask(&signed(own)), Ok(GateAnswer::default()));
                assert!(ask(&signed(other)).unwrap_err().contains("is wrong"));
                assert!(ask("").unwrap_err().contains("is not signed"));
                assert!(ask(&signed_url::sign("s", own, "live/cam", 5)).unwrap_err().contains("has expired"));
            }
        }
        let published = ask("secret s;", Some(KEYS), GateAction::Publish, "k1", "").unwrap();
        assert_eq!(published.stream.as_deref(), Some("cam"));
        assert_eq!(ask("enabled on; deny play 1.2.3.4;", None, GateAction::Play, "cam", ""), Ok(GateAnswer::default()));
    }
}
