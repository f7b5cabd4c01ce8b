//! Bans: streams and addresses that an operator keeps out for a time. They end with the server.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::app::events::{Gate, GateAction, GateAnswer, GateRequest};
use crate::app::session::close::CloseReason;
use crate::app::session::per_ip;
use crate::st::{self, Shared};

/// Longest ban, in seconds: 30 days.
pub(super) const MAX_SECONDS: u64 = 30 * 24 * 3600;

/// Bans at a time. Each costs some hundred bytes at most.
const MAX_BANS: usize = 10_000;

#[derive(Default)]
pub(super) struct BanList(Shared<Table>);

#[derive(Default)]
struct Table {
    last_id: u64,
    bans: BTreeMap<Target, Ban>,
}

/// The clients that a ban keeps out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// Clients of an address; of IPv6, those of its /64.
    Ip(IpAddr),
    /// Publishers of a stream, by its name in the server.
    Stream(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ban {
    pub(super) id: u64,
    pub(super) target: Target,
    pub(super) until: Instant,
}

impl BanList {
    /// Adds a ban, or replaces that of the same target. `None`: there are too many.
    pub(super) fn add(&self, target: Target, time: Duration) -> Option<Ban> {
        let target = match target {
            Target::Ip(ip) => Target::Ip(per_ip::key(ip)),
            stream => stream,
        };
        let now = st::now();
        self.0.with(|table| {
            table.bans.retain(|_, ban| ban.until > now);
            if table.bans.len() >= MAX_BANS && !table.bans.contains_key(&target) {
                return None;
            }
            table.last_id += 1;
            let ban = Ban { id: table.last_id, target: target.clone(), until: now + time };
            table.bans.insert(target, ban.clone());
            Some(ban)
        })
    }

    /// Lifts a ban. Returns whether it was in force.
    pub(super) fn remove(&self, id: u64) -> bool {
        let now = st::now();
        self.0.with(|table| {
            let before = table.bans.len();
            table.bans.retain(|_, ban| ban.until > now);
            let expired = before - table.bans.len();
            table.bans.retain(|_, ban| ban.id != id);
            before - table.bans.len() > expired
        })
    }

    pub(super) fn all(&self) -> Vec<Ban> {
        let now = st::now();
        let mut all: Vec<_> = self.0.with(|table| table.bans.values().filter(|ban| ban.until > now).cloned().collect());
        all.sort_unstable_by_key(|ban| ban.id);
        all
    }

    fn check_target(&self, target: &Target) -> Result<(), CloseReason> {
        let until = self.0.with(|table| table.bans.get(target).map(|ban| ban.until));
        let left = until.map(|until| until.saturating_duration_since(st::now()));
        match left {
            Some(left) if !left.is_zero() => {
                let seconds = left.as_secs_f64().ceil();
                Err(CloseReason::Banned(format!("an operator has banned {target}, {seconds} seconds are left")))
            }
            _ => Ok(()),
        }
    }
}

impl Gate for BanList {
    fn name(&self) -> &'static str {
        "bans"
    }

    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        if self.0.with(|table| table.bans.is_empty()) {
            return Ok(GateAnswer::default());
        }
        self.check_target(&Target::Ip(per_ip::key(request.client.ip)))?;
        if let (GateAction::Publish, Some(stream)) = (request.action, &request.stream) {
            self.check_target(&Target::Stream(stream.name.clone()))?;
        }
        Ok(GateAnswer::default())
    }
}

impl Target {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Ip(_) => "ip",
            Self::Stream(_) => "stream",
        }
    }

    pub(super) fn value(&self) -> String {
        match self {
            Self::Ip(ip) => ip.to_string(),
            Self::Stream(name) => name.clone(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "the address {ip}"),
            Self::Stream(name) => write!(f, "the stream {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Target {
        Target::Ip(text.parse().unwrap())
    }

    #[test]
    fn a_ban_ends_by_itself_or_is_lifted() {
        st::run(|| {
            let bans = BanList::default();
            let check = |target: &Target| bans.check_target(target).is_ok();
            let minute = Duration::from_secs(60);
            let ban = bans.add(ip("192.0.2.1"), minute).unwrap();
            assert!(!check(&ip("192.0.2.1")) && check(&ip("192.0.2.2")));
            let again = bans.add(ip("192.0.2.1"), minute).unwrap();
            assert_eq!((bans.all().len(), again.id), (1, ban.id + 1), "the same target has one ban");
            assert!(!bans.remove(ban.id) && bans.remove(again.id) && !bans.remove(again.id));
            assert!(check(&ip("192.0.2.1")));
            bans.add(Target::Stream("a/b/c".to_owned()), Duration::ZERO);
            assert!(check(&Target::Stream("a/b/c".to_owned())) && bans.all().is_empty());
            bans.add(ip("2001:db8::1"), minute);
            assert!(!check(&ip("2001:db8::")), "an IPv6 network counts as one address");
        })
        .unwrap();
    }

    #[test]
    fn their_number_has_a_bound() {
        st::run(|| {
            let bans = BanList::default();
            let target = |n: u32| Target::Ip(IpAddr::from(n.to_be_bytes()));
            for n in 0..MAX_BANS as u32 {
                assert!(bans.add(target(n), Duration::from_secs(60)).is_some());
            }
            assert!(bans.add(target(MAX_BANS as u32), Duration::from_secs(60)).is_none());
            assert!(bans.add(target(0), Duration::from_secs(60)).is_some(), "a present one can be prolonged");
        })
        .unwrap();
    }
}
