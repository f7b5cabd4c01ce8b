//! Addresses that cause trouble: refused connections, faulty ones, wrong secrets. An address is forgotten after an hour of quiet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::app::session::per_ip;
use crate::st::Shared;

const WINDOW: Duration = Duration::from_secs(3600);

/// Addresses that are kept. Of more, those with most trouble stay.
const MAX_ADDRESSES: usize = 1000;

#[derive(Default)]
pub(super) struct Offenders(Shared<HashMap<IpAddr, Record>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) refused: u64,
    pub(super) faulty: u64,
    pub(super) wrong_secrets: u64,
    /// Close code of its last connection that was refused or faulty.
    pub(super) last_code: Option<&'static str>,
    pub(super) last: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offence {
    Refused,
    Faulty,
    WrongSecret,
}

impl Offenders {
    /// Records that a connection was closed, if its code is that of a refusal or of a fault of the client.
    pub(super) fn record_close(&self, ip: IpAddr, code: &'static str, now: Instant) {
        if let Some(offence) = Offence::of_code(code) {
            self.record(ip, offence, Some(code), now);
        }
    }

    pub(super) fn record_wrong_secret(&self, ip: IpAddr, now: Instant) {
        self.record(ip, Offence::WrongSecret, None, now);
    }

    pub(super) fn all(&self, now: Instant) -> Vec<(IpAddr, Record)> {
        let is_recent = |record: &Record| now.saturating_duration_since(record.last) < WINDOW;
        let mut all: Vec<_> = self.0.with(|records| {
            records.iter().filter(|(_, record)| is_recent(record)).map(|(ip, record)| (*ip, *record)).collect()
        });
        all.sort_unstable_by_key(|(ip, record)| (std::cmp::Reverse(record.total()), *ip));
        all
    }

    fn record(&self, ip: IpAddr, offence: Offence, code: Option<&'static str>, now: Instant) {
        let ip = per_ip::key(ip);
        // Connections are also closed while a panic unwinds.
        self.0.try_with(|records| {
            if !records.contains_key(&ip) && records.len() >= MAX_ADDRESSES {
                make_room(records, now);
            }
            let empty = Record { refused: 0, faulty: 0, wrong_secrets: 0, last_code: None, last: now };
            let record = records.entry(ip).or_insert(empty);
            if now.saturating_duration_since(record.last) >= WINDOW {
                *record = empty;
            }
            match offence {
                Offence::Refused => record.refused += 1,
                Offence::Faulty => record.faulty += 1,
                Offence::WrongSecret => record.wrong_secrets += 1,
            }
            record.last = now;
            record.last_code = code.or(record.last_code);
        });
    }
}

/// Removes what is old, or else the address with the least trouble.
fn make_room(records: &mut HashMap<IpAddr, Record>, now: Instant) {
    records.retain(|_, record| now.saturating_duration_since(record.last) < WINDOW);
    if records.len() >= MAX_ADDRESSES
        && let Some(least) = records.iter().min_by_key(|(_, record)| (record.total(), record.last)).map(|(ip, _)| *ip)
    {
        records.remove(&least);
    }
}

impl Record {
    fn total(&self) -> u64 {
        self.refused + self.faulty + self.wrong_secrets
    }
}

impl Offence {
    /// Returns the offence that a close code stands for. Ends that the server or the network has caused are none.
    fn of_code(code: &str) -> Option<Self> {
        match code {
            "refused" | "denied" | "proxy" | "busy" | "full" | "hook" | "banned" => Some(Self::Refused),
            "slow-start" | "silent-publisher" | "not-reading" | "protocol" | "too-fast" => Some(Self::Faulty),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::session::close::CLOSE_CODES;
    use crate::st;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn addresses_are_counted_until_they_are_quiet() {
        st::run(|| {
            let (offenders, start) = (Offenders::default(), st::now());
            let at = |seconds| start + Duration::from_secs(seconds);
            offenders.record_close(ip(1), "refused", at(0));
            offenders.record_close(ip(1), "protocol", at(1));
            offenders.record_wrong_secret(ip(1), at(2));
            offenders.record_close(ip(2), "banned", at(3));
            for harmless in ["by-peer", "network", "kicked", "crashed", "overload", "server-stopped"] {
                offenders.record_close(ip(3), harmless, at(4));
            }
            let record = Record { refused: 1, faulty: 1, wrong_secrets: 1, last_code: Some("protocol"), last: at(2) };
            let all = offenders.all(at(5));
            assert_eq!((all.len(), all[0], all[1].0), (2, (ip(1), record), ip(2)));
            assert_eq!(offenders.all(at(3602)).len(), 1);
            offenders.record_close(ip(1), "full", at(3602));
            assert_eq!(offenders.all(at(3602))[0].1.total(), 1, "it was quiet for an hour");
        })
        .unwrap();
    }

    #[test]
    fn their_number_is_bounded_and_the_worst_stay() {
        st::run(|| {
            let (offenders, now) = (Offenders::default(), st::now());
            for n in 0..3 * MAX_ADDRESSES as u32 {
                offenders.record_close(ip(n), "refused", now);
                offenders.record_close(ip(7), "refused", now);
            }
            let all = offenders.all(now);
            assert_eq!((all.len(), all[0].0), (MAX_ADDRESSES, ip(7)));
            offenders.record_wrong_secret("2001:db8::1".parse().unwrap(), now);
            let network: IpAddr = "2001:db8::".parse().unwrap();
            assert!(offenders.all(now).iter().any(|(ip, _)| *ip == network));
        })
        .unwrap();
    }

    #[test]
    fn each_code_is_one_of_close() {
        let counted = CLOSE_CODES.iter().filter(|code| Offence::of_code(code).is_some()).count();
        assert_eq!(counted, 12, "no code is misspelt");
    }
}
