//! Admission of bandwidth tests over RTMP and HTTP: keys, intervals, and the number that runs at a time.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::app::session::per_ip;
use crate::config::Vhost;
use crate::log::Throttle;
use crate::st::{self, Shared};

/// Wrong keys of one address within [`WINDOW`] after which it is refused until the window ends.
const MAX_WRONG_KEYS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered at a time, of wrong keys and of tests. Further ones with wrong keys share one count; of the
/// tests, the oldest is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Time that a test takes, which a client is told to wait if another one runs.
const TEST_TIME: Duration = Duration::from_secs(10);

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The tests of the server. Clones are the same tests.
#[derive(Clone, Default)]
pub(crate) struct BandwidthTests(Shared<Table>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TestRefusal {
    WrongKey,
    TooManyKeys,
    /// A test has just begun, or as many as allowed run.
    Wait(Duration),
}

/// Permission for one test. Dropping it ends the test.
pub(crate) struct TestPermit {
    tests: BandwidthTests,
    vhost: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
pub(crate) struct TestCounts {
    pub(crate) running: u64,
    pub(crate) started: u64,
    pub(crate) refused: u64,
    pub(crate) wrong_keys: u64,
}

struct Table {
    vhosts: HashMap<String, VhostTests>,
    wrong_keys: HashMap<Option<IpAddr>, WrongKeys>,
    counts: TestCounts,
    warning: Throttle,
    unreported: u64,
}

#[derive(Default)]
struct VhostTests {
    running: usize,
    last: Option<Instant>,
    by_address: HashMap<IpAddr, Instant>,
}

struct WrongKeys {
    count: u32,
    since: Instant,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            vhosts: HashMap::new(),
            wrong_keys: HashMap::new(),
            counts: TestCounts::default(),
            warning: Throttle::new(LOG_INTERVAL),
            unreported: 0,
        }
    }
}

impl BandwidthTests {
    /// Checks the key that a client gave for a vhost with bandwidth tests. Errors: the reason of the refusal.
    pub(crate) fn check_key(&self, vhost: &Vhost, address: IpAddr, key: Option<&str>) -> Result<(), TestRefusal> {
        self.0.with(|table| table.check_key(vhost, address, key, st::now()))
    }

    pub(crate) fn start(&self, vhost: &Vhost, address: IpAddr) -> Result<TestPermit, TestRefusal> {
        self.0.with(|table| table.start(vhost, address, st::now()))?;
        Ok(TestPermit { tests: self.clone(), vhost: vhost.name.clone() })
    }

    pub(crate) fn counts(&self) -> TestCounts {
        self.0.with(|table| {
            let running = table.vhosts.values().map(|starts| starts.running as u64).sum();
            TestCounts { running, ..table.counts }
        })
    }
}

impl Drop for TestPermit {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds.
        self.tests.0.try_with(|table| {
            if let Some(starts) = table.vhosts.get_mut(&self.vhost) {
                starts.running = starts.running.saturating_sub(1);
            }
        });
    }
}

impl Table {
    fn check_key(
        &mut self,
        vhost: &Vhost,
        address: IpAddr,
        key: Option<&str>,
        now: Instant,
    ) -> Result<(), TestRefusal> {
        let address = per_ip::key(address);
        let is_known = self.wrong_keys.contains_key(&Some(address)) || self.wrong_keys.len() < MAX_ADDRESSES;
        let entry = is_known.then_some(address);
        let is_recent = |wrong: &WrongKeys| now.saturating_duration_since(wrong.since) < WINDOW;
        if self.wrong_keys.get(&entry).is_some_and(|wrong| is_recent(wrong) && wrong.count >= MAX_WRONG_KEYS) {
            self.counts.refused += 1;
            return Err(TestRefusal::TooManyKeys);
        }
        let wanted = vhost.bandcheck.key.expose();
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            self.counts.refused += 1;
            return Err(TestRefusal::WrongKey);
        };
        if !wanted.is_empty() && is_same(key.as_bytes(), wanted.as_bytes()) {
            return Ok(());
        }
        if self.wrong_keys.len() >= MAX_ADDRESSES {
            self.wrong_keys.retain(|_, wrong| is_recent(wrong));
        }
        let wrong = self.wrong_keys.entry(entry).or_insert(WrongKeys { count: 0, since: now });
        if !is_recent(wrong) {
            *wrong = WrongKeys { count: 0, since: now };
        }
        wrong.count += 1;
        self.counts.refused += 1;
        self.counts.wrong_keys += 1;
        self.unreported += 1;
        if self.warning.pass(now) {
            let count = std::mem::take(&mut self.unreported);
            log::warn!("wrong key of a bandwidth test: count={count} vhost={} last_address={address}", vhost.name);
        }
        Err(TestRefusal::WrongKey)
    }

    fn start(&mut self, vhost: &Vhost, address: IpAddr, now: Instant) -> Result<(), TestRefusal> {
        let bandcheck = &vhost.bandcheck;
        let address = per_ip::key(address);
        let starts = self.vhosts.entry(vhost.name.clone()).or_default();
        let left = |last: Option<&Instant>, interval: Duration| {
            last.map_or(Duration::ZERO, |last| interval.saturating_sub(now.saturating_duration_since(*last)))
        };
        let mut wait = left(starts.last.as_ref(), bandcheck.interval)
            .max(left(starts.by_address.get(&address), bandcheck.interval_per_address));
        if starts.running >= bandcheck.max_tests {
            wait = wait.max(left(starts.last.as_ref(), TEST_TIME)).max(Duration::from_secs(1));
        }
        if wait > Duration::ZERO {
            self.counts.refused += 1;
            return Err(TestRefusal::Wait(wait));
        }
        let interval = bandcheck.interval_per_address;
        starts.by_address.retain(|_, last| now.saturating_duration_since(*last) < interval);
        if starts.by_address.len() >= MAX_ADDRESSES
            && let Some(oldest) = starts.by_address.iter().min_by_key(|(_, last)| **last).map(|(address, _)| *address)
        {
            starts.by_address.remove(&oldest);
        }
        starts.by_address.insert(address, now);
        starts.last = Some(now);
        starts.running += 1;
        self.counts.started += 1;
        Ok(())
    }
}

impl TestRefusal {
    /// Returns the time after which the client may try again, in whole seconds.
    pub(crate) fn retry_after(self) -> Option<u64> {
        match self {
            Self::WrongKey => None,
            Self::TooManyKeys => Some(WINDOW.as_secs()),
            Self::Wait(time) => Some(time.as_secs_f64().ceil() as u64),
        }
    }
}

impl fmt::Display for TestRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKey => write!(f, "the key of the bandwidth test is wrong"),
            Self::TooManyKeys => write!(f, "too many wrong keys from your address, try again in a minute"),
            Self::Wait(_) => {
                let seconds = self.retry_after().unwrap_or_default();
                write!(f, "bandcheck rejected: another bandwidth test came first, try again in {seconds} s")
            }
        }
    }
}

/// Compares secrets in a time that depends only on their lengths.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::sync::Arc;

    fn vhost(directives: &str) -> Arc<Vhost> {
        let text = format!("listen 1; vhost b {{ bandcheck {{ enabled on; key right; {directives} }} }}");
        Config::parse("t", &text).unwrap().vhost("b").unwrap().clone()
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn wait(seconds: u64) -> Result<(), TestRefusal> {
        Err(TestRefusal::Wait(Duration::from_secs(seconds)))
    }

    #[test]
    fn the_key_is_compared_exactly_and_guessing_is_slow() {
        let (vhost, now, mut table) = (vhost(""), Instant::now(), Table::default());
        assert_eq!(table.check_key(&vhost, address(1), Some("right"), now), Ok(()));
        for key in [None, Some("")] {
            assert_eq!(table.check_key(&vhost, address(1), key, now), Err(TestRefusal::WrongKey));
        }
        for key in ["righ", "rightt", "Right", "xright", "right ", "1", "2", "3", "4", "5"] {
            assert_eq!(table.check_key(&vhost, address(1), Some(key), now), Err(TestRefusal::WrongKey), "{key}");
        }
        assert_eq!(table.check_key(&vhost, address(1), Some("right"), now), Err(TestRefusal::TooManyKeys));
        assert_eq!(table.check_key(&vhost, address(2), Some("right"), now), Ok(()), "other addresses are not affected");
        assert_eq!(table.check_key(&vhost, address(1), Some("right"), now + WINDOW), Ok(()));
        assert_eq!((table.counts.wrong_keys, table.counts.refused), (10, 13));
        for n in 0..2 * MAX_ADDRESSES as u32 {
            let _ = table.check_key(&vhost, address(n), Some("wrong"), now + WINDOW);
        }
        assert_eq!(table.wrong_keys.len(), MAX_ADDRESSES + 1, "memory is bounded");
        let late = table.check_key(&vhost, address(1 << 20), Some("right"), now + WINDOW);
        assert_eq!(late, Err(TestRefusal::TooManyKeys), "the others share one count");
    }

    #[test]
    fn tests_keep_their_distance_in_all_and_by_address() {
        let vhost = vhost("interval 10; interval_per_address 60; max_tests 2;");
        let (now, mut table) = (Instant::now(), Table::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(table.start(&vhost, address(1), at(0)), Ok(()));
        assert_eq!(table.start(&vhost, address(1), at(1)), wait(59));
        assert_eq!(table.start(&vhost, address(2), at(1)), wait(9));
        assert_eq!(table.start(&vhost, address(2), at(10)), Ok(()));
        assert_eq!(table.start(&vhost, address(3), at(25)), wait(1), "two run already");
        table.vhosts.get_mut("b").unwrap().running -= 1;
        assert_eq!(table.start(&vhost, address(3), at(25)), Ok(()));
        assert_eq!(table.start(&vhost, address(1), at(59)), wait(1));
        assert_eq!(TestRefusal::Wait(Duration::from_millis(1100)).retry_after(), Some(2));
        assert_eq!((table.counts.started, table.counts.refused), (3, 4));
    }

    #[test]
    fn addresses_are_forgotten_and_bounded() {
        let vhost = vhost("interval 0; interval_per_address 1h; max_tests 100;");
        let (now, mut table) = (Instant::now(), Table::default());
        for n in 0..MAX_ADDRESSES as u32 + 10 {
            assert_eq!(table.start(&vhost, address(n), now + Duration::from_millis(n.into())), Ok(()));
            table.vhosts.get_mut("b").unwrap().running = 0;
        }
        assert_eq!(table.vhosts["b"].by_address.len(), MAX_ADDRESSES);
        assert!(!table.vhosts["b"].by_address.contains_key(&address(0)), "the oldest goes first");
        assert_eq!(table.start(&vhost, address(1), now + Duration::from_secs(7200)), Ok(()));
        assert_eq!(table.vhosts["b"].by_address.len(), 1);
    }

    #[test]
    fn a_permit_ends_its_test() {
        st::run(|| {
            let (tests, vhost) = (BandwidthTests::default(), vhost("interval 0; interval_per_address 0;"));
            let permit = tests.start(&vhost, address(1)).ok().unwrap();
            assert_eq!(tests.counts(), TestCounts { running: 1, started: 1, refused: 0, wrong_keys: 0 });
            assert!(tests.start(&vhost, address(2)).is_err());
            drop(permit);
            assert!(tests.start(&vhost, address(2)).is_ok());
        })
        .unwrap();
    }
}
