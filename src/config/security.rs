//! `security`: who may publish and play.

use std::net::IpAddr;
use std::sync::Arc;

use super::api_token::Secret;
use super::network::{Action, Rule};
use super::stream_keys::StreamKeys;

/// `security`: who may publish and play.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `enabled`: addresses are checked.
    pub enabled: bool,
    /// `allow`.
    pub allow: Vec<Rule>,
    /// `deny`.
    pub deny: Vec<Rule>,
    /// `stream_keys`: the keys with which clients may publish.
    pub stream_keys: Option<Arc<StreamKeys>>,
    /// `secret`: the secret of signed URLs.
    pub secret: Option<Secret>,
}

impl Security {
    /// Returns whether clients need a key or a signed URL.
    pub fn has_credentials(&self) -> bool {
        self.stream_keys.is_some() || self.secret.is_some()
    }

    /// Returns whether a client from `address` may do `action`, as in later versions of SRS: no if a deny matches, else
    /// yes if an allow matches, else only if there are denies and no allow at all. Without rules beside keys or a secret,
    /// every address may.
    pub fn allows(&self, action: Action, address: IpAddr) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(action, address));
        if !self.enabled || (self.has_credentials() && self.allow.is_empty() && self.deny.is_empty()) {
            return true;
        }
        !any(&self.deny) && (any(&self.allow) || (self.allow.is_empty() && !self.deny.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;

    #[test]
    fn denies_go_before_allows_and_the_rest_is_as_documented() {
        let rules = |words: &[(Action, &str)]| -> Vec<Rule> {
            let rule = |&(action, network): &(Action, &str)| Rule { action, network: Network::parse(network).unwrap() };
            words.iter().map(rule).collect()
        };
        use Action::{Play, Publish};
        let check = |allow: &[(Action, &str)], deny: &[(Action, &str)], action, address: &str| {
            let (allow, deny) = (rules(allow), rules(deny));
            let security = Security { enabled: true, allow, deny, ..Security::default() };
            security.allows(action, address.parse().unwrap())
        };
        let (inner, all) = ("10.0.0.0/8", "all");
        assert!(check(&[(Publish, inner)], &[], Publish, "10.1.1.1"));
        assert!(!check(&[(Publish, inner)], &[], Publish, "11.1.1.1"));
        assert!(!check(&[(Publish, inner)], &[], Play, "10.1.1.1"), "no rule is for it, and there are allows");
        assert!(!check(&[(Play, all)], &[(Play, inner)], Play, "10.1.1.1"));
        assert!(check(&[(Play, all)], &[(Play, inner)], Play, "11.1.1.1"));
        assert!(check(&[], &[(Play, inner)], Play, "11.1.1.1"), "there are only denies");
        assert!(check(&[], &[(Play, inner)], Publish, "10.1.1.1"));
        assert!(!check(&[], &[], Play, "11.1.1.1"), "enabled without a rule");
        assert!(Security::default().allows(Play, "::1".parse().unwrap()));
    }
}
