//! Networks of IP addresses, and rules for the clients of a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, a network such as `10.0.0.0/8`, or all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// All IPv4 and IPv6 addresses.
    All,
    /// IPv4 addresses with this prefix: the prefix, and its length from 0 to 32 bits.
    V4(u32, u32),
    /// IPv6 addresses with this prefix: the prefix, and its length from 0 to 128 bits.
    V6(u128, u32),
}

impl Network {
    /// Parses `all`, `ADDR` or `ADDR/BITS`. Ignores bits after the prefix; an IPv4-mapped address (`::ffff:10.0.0.1`)
    /// is an IPv4 address.
    pub(super) fn parse(word: &str) -> Option<Self> {
        if word == "all" {
            return Some(Self::All);
        }
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (word, None),
        };
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        match bare.parse().ok()? {
            IpAddr::V4(address) => Self::v4(address, bits.unwrap_or(32)),
            IpAddr::V6(address) => match (address.to_ipv4_mapped(), bits.unwrap_or(128)) {
                (Some(mapped), bits) if bits >= 96 => Self::v4(mapped, bits - 96),
                (_, bits) => Self::v6(address, bits),
            },
        }
    }

    fn v4(address: Ipv4Addr, bits: u32) -> Option<Self> {
        (bits <= 32).then(|| Self::V4(address.to_bits() & mask_v4(bits), bits))
    }

    fn v6(address: Ipv6Addr, bits: u32) -> Option<Self> {
        (bits <= 128).then(|| Self::V6(address.to_bits() & mask_v6(bits), bits))
    }

    /// Returns whether an address belongs to the network. An IPv4-mapped address is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (*self, address.to_canonical()) {
            (Self::All, _) => true,
            (Self::V4(network, bits), IpAddr::V4(address)) => address.to_bits() & mask_v4(bits) == network,
            (Self::V6(network, bits), IpAddr::V6(address)) => address.to_bits() & mask_v6(bits) == network,
            _ => false,
        }
    }
}

fn mask_v4(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits).unwrap_or(0)
}

fn mask_v6(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

/// The action that a rule allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Publishing.
    Publish,
    /// Playing.
    Play,
}

/// A rule of `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The action.
    pub action: Action,
    /// The client addresses.
    pub network: Network,
}

impl Rule {
    pub(super) fn matches(&self, action: Action, address: IpAddr) -> bool {
        self.action == action && self.network.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_what_begins_with_their_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.0", "9.255.255.255"),
            ("192.168.1.128/25", "192.168.1.255", "192.168.1.127"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "fe80::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
            ("[2001:db8::]/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"),
            ("::ffff:10.0.0.1", "10.0.0.1", "::ffff:10.0.0.2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ] {
            assert!(has(network, inside), "{inside} in {network}");
            assert!(!has(network, outside), "{outside} not in {network}");
        }
        assert!(has("all", "::1") && has("all", "10.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_none() {
        for bad in
            ["", "All", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "/8", "a.b", "10.0.0.1:80"]
        {
            assert_eq!(Network::parse(bad), None, "{bad:?}");
        }
    }
}
