//! How many connections there are of each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address that say whose network it is in: whoever has one address has all of these 64 bits' (RFC 6177).
const NETWORK: u32 = 64;

/// Connections by address. All of an IPv6 network of 64 bits count as one address.
#[derive(Default)]
pub(crate) struct Addresses(HashMap<IpAddr, usize>);

impl Addresses {
    /// How many there are of this address.
    pub(crate) fn count(&self, address: IpAddr) -> usize {
        self.0.get(&network(address)).copied().unwrap_or(0)
    }

    /// One more.
    pub(crate) fn enter(&mut self, address: IpAddr) {
        *self.0.entry(network(address)).or_default() += 1;
    }

    /// One less of those that entered.
    pub(crate) fn leave(&mut self, address: IpAddr) {
        let network = network(address);
        if let Some(count) = self.0.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&network);
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> (128 - NETWORK) << (128 - NETWORK);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_counts_by_itself_and_an_ipv6_network_as_one() {
        let mut addresses = Addresses::default();
        let all =
            ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::ffff:1:2", "2001:db8:0:1::1"];
        let all = all.map(|address| address.parse::<IpAddr>().unwrap());
        for address in all {
            addresses.enter(address);
        }
        assert_eq!(all.map(|address| addresses.count(address)), [2, 1, 2, 2, 2, 1]);
        addresses.leave(all[4]);
        addresses.leave(all[0]);
        assert_eq!(all.map(|address| addresses.count(address)), [1, 1, 1, 1, 1, 1]);
        for address in [all[1], all[2], all[3], all[5]] {
            addresses.leave(address);
        }
        assert!(addresses.0.is_empty(), "who has left leaves nothing");
    }
}
