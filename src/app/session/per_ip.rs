//! The number of connections by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Length of the IPv6 prefix that identifies a site: whoever has one address has all of its /64 (RFC 6177).
const IPV6_PREFIX: u32 = 64;

/// An IPv6 /64 counts as one address.
#[derive(Default)]
pub(crate) struct ConnectionsPerIp(HashMap<IpAddr, usize>);

impl ConnectionsPerIp {
    pub(crate) fn count(&self, address: IpAddr) -> usize {
        self.0.get(&key(address)).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, address: IpAddr) {
        *self.0.entry(key(address)).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        let key = key(address);
        if let Some(count) = self.0.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }
}

/// Returns the address, or the /64 of an IPv6 address, by which connections are counted.
pub(crate) fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> (128 - IPV6_PREFIX) << (128 - IPV6_PREFIX);
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
        let mut addresses = ConnectionsPerIp::default();
        let all =
            ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::ffff:1:2", "2001:db8:0:1::1"];
        let all = all.map(|address| address.parse::<IpAddr>().unwrap());
        for address in all {
            addresses.add(address);
        }
        assert_eq!(all.map(|address| addresses.count(address)), [2, 1, 2, 2, 2, 1]);
        addresses.remove(all[4]);
        addresses.remove(all[0]);
        assert_eq!(all.map(|address| addresses.count(address)), [1, 1, 1, 1, 1, 1]);
        for address in [all[1], all[2], all[3], all[5]] {
            addresses.remove(address);
        }
        assert!(addresses.0.is_empty(), "no entry without connections");
    }
}
