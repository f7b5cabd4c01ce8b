//! Names of hosts and vhosts.

use std::net::Ipv6Addr;

/// The vhost of all hosts without a vhost of their own.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// Returns the key of a vhost: host names are equal in any case, and IPv6 addresses in any spelling.
pub(super) fn canonical(name: &str) -> String {
    if name.eq_ignore_ascii_case(DEFAULT_VHOST) {
        return DEFAULT_VHOST.to_owned();
    }
    host(name).unwrap_or_else(|| name.to_lowercase())
}

/// Parses a host name, to lower case, or an address. IPv6 addresses lose their brackets, since a host taken from a URL
/// has none.
pub(super) fn host(word: &str) -> Option<String> {
    let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')).unwrap_or(word);
    // Names are looked up at each request of HTTP, and have no colon.
    if bare.contains(':')
        && let Ok(address) = bare.parse::<Ipv6Addr>()
    {
        return Some(address.to_string());
    }
    let is_label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    word.split('.').all(is_label).then(|| word.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_alone() {
        assert_eq!(host("GitHub.com"), Some("github.com".to_owned()));
        assert_eq!(host("[0:0::1]"), Some("::1".to_owned()));
        assert_eq!(host("10.0.0.1"), Some("10.0.0.1".to_owned()));
        for bad in ["http://github.com", "github.com:80", ".github.com", "github.com/", "a..b", "", "*", "a b"] {
            assert_eq!(host(bad), None, "{bad:?}");
        }
    }
}
