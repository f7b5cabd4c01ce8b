//! The running tests over HTTP: their transfers, their time, and their results.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::app::context::Context;
use crate::app::events::Event;
use crate::app::http::End;
use crate::app::limits::bandwidth_tests::{TestPermit, TestRefusal};
use crate::app::limits::pacer::Pacer;
use crate::app::session::bandwidth_report::{BandwidthReport, Transfer};
use crate::config::Vhost;
use crate::st::{self, LowClass, Shared};

pub(super) const TEST_LIMIT: Duration = Duration::from_secs(40);

/// Time without a transfer after which a test is over.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

pub(super) const MAX_TRANSFERS: usize = 16;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The factor by which a page may have measured more than the server, which counts the start of TCP too.
const MAX_REPORTED_RATIO: f64 = 1.25;

const MAX_MS: f64 = 60_000.0;

/// The running tests. Clones are the same tests.
#[derive(Clone)]
pub(super) struct Sessions {
    ctx: Context,
    tests: Shared<HashMap<Key, Test>>,
}

/// The address of a client, and the name that it gives its test.
type Key = (IpAddr, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Download,
    Upload,
}

pub(super) enum StartError {
    Rule(TestRefusal),
    TooMany,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Results {
    pub(super) play_kbps: Option<f64>,
    pub(super) publish_kbps: Option<f64>,
    pub(super) rtt_ms: Option<f64>,
    pub(super) jitter_ms: Option<f64>,
}

struct Test {
    _permit: TestPermit,
    vhost: Arc<Vhost>,
    client: u64,
    started: Instant,
    start_time: SystemTime,
    last_active: Instant,
    transfers: usize,
    flows: [Flow; 2],
    min_rtt: Option<Duration>,
    retransmits: u64,
}

struct Flow {
    pacer: Pacer,
    bytes: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// A transfer that belongs to a test. Dropping it ends it.
pub(super) struct TransferGuard {
    sessions: Sessions,
    key: Key,
    direction: Direction,
    deadline: Instant,
}

impl Sessions {
    pub(super) fn new(ctx: Context) -> Self {
        Self { ctx, tests: Shared::default() }
    }

    /// Starts a transfer, and with the first one a test. `client` is the number of the connection.
    pub(super) fn start(
        &self,
        vhost: &Arc<Vhost>,
        address: IpAddr,
        name: String,
        client: u64,
        direction: Direction,
    ) -> Result<TransferGuard, StartError> {
        let (key, now) = ((address, name), st::now());
        let is_new = self.tests.with(|tests| match tests.get(&key) {
            Some(test) => now >= test.started + TEST_LIMIT,
            None => true,
        });
        if is_new {
            self.end(&key, Results::default());
            let permit = self.ctx.bandwidth_tests.start(vhost, address).map_err(StartError::Rule)?;
            let test = Test::new(permit, vhost, client, now);
            self.tests.with(|tests| tests.insert(key.clone(), test));
            self.watch(key.clone(), now);
        }
        let started = self.tests.with(|tests| {
            let test = tests.get_mut(&key).filter(|test| test.transfers < MAX_TRANSFERS)?;
            test.transfers += 1;
            test.last_active = now;
            Some(test.started)
        });
        let deadline = started.ok_or(StartError::TooMany)? + TEST_LIMIT;
        Ok(TransferGuard { sessions: self.clone(), key, direction, deadline })
    }

    /// Ends a test with the figures of its page. `None`: there is no such test.
    pub(super) fn finish(&self, address: IpAddr, name: &str, results: Results) -> Option<Arc<BandwidthReport>> {
        self.end(&(address, name.to_owned()), results)
    }

    /// Ends the test that started at `started` when its time is up or nobody goes on with it.
    fn watch(&self, key: Key, started: Instant) {
        let sessions = self.clone();
        let watch = move || loop {
            st::sleep(CHECK_INTERVAL);
            let now = st::now();
            let is_over = sessions.tests.with(|tests| match tests.get(&key) {
                Some(test) if test.started == started => {
                    let is_idle = test.transfers == 0 && now >= test.last_active + IDLE_LIMIT;
                    Some(is_idle || now >= started + TEST_LIMIT)
                }
                _ => None,
            });
            match is_over {
                Some(false) => {}
                Some(true) => {
                    sessions.end(&key, Results::default());
                    return;
                }
                None => return,
            }
        };
        // Without memory for a coroutine, the next test of the address ends this one.
        let _ = st::spawn_low_priority(LowClass::Requests, "bandwidth test", 0, watch);
    }

    /// Removes a test, and tells its result if it has transferred anything.
    fn end(&self, key: &Key, results: Results) -> Option<Arc<BandwidthReport>> {
        let test = self.tests.with(|tests| tests.remove(key))?;
        let report = Arc::new(test.report(key.0, results));
        drop(test);
        if report.play_bytes + report.publish_bytes > 0 {
            self.ctx.events.emit(&Event::BandwidthTested(report.clone()));
        }
        Some(report)
    }
}

impl Test {
    fn new(permit: TestPermit, vhost: &Arc<Vhost>, client: u64, now: Instant) -> Self {
        let flow = || Flow { pacer: Pacer::new(vhost.bandcheck.limit_kbps, now), bytes: 0, first: None, last: None };
        Self {
            _permit: permit,
            vhost: vhost.clone(),
            client,
            started: now,
            start_time: st::system_time(),
            last_active: now,
            transfers: 0,
            flows: [flow(), flow()],
            min_rtt: None,
            retransmits: 0,
        }
    }

    fn report(&self, ip: IpAddr, results: Results) -> BandwidthReport {
        let [play, publish] = self.flows.each_ref().map(Flow::transfer);
        let unix_ms = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        };
        let rtt_ms = self.min_rtt.map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0);
        BandwidthReport {
            client_id: self.client,
            ip,
            vhost: self.vhost.name.clone(),
            protocol: "http",
            start_time: unix_ms(self.start_time),
            end_time: unix_ms(st::system_time()),
            play_kbps: plausible(results.play_kbps, play),
            publish_kbps: plausible(results.publish_kbps, publish),
            play_bytes: play.bytes,
            publish_bytes: publish.bytes,
            play_time: play.ms,
            publish_time: publish.ms,
            rtt_ms: results.rtt_ms.map_or(rtt_ms, |rtt_ms| rtt_ms.min(MAX_MS)),
            jitter_ms: results.jitter_ms.map(|jitter_ms| jitter_ms.min(MAX_MS)),
            retransmits: self.retransmits,
        }
    }
}

/// Returns the bit rate that a page has measured, but not much more than the server has counted.
fn plausible(reported: Option<f64>, counted: Transfer) -> u64 {
    let counted = counted.kbps();
    reported.map_or(counted, |kbps| kbps.min(counted as f64 * MAX_REPORTED_RATIO) as u64)
}

impl Flow {
    fn count(&mut self, bytes: u64, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.bytes += bytes;
    }

    fn transfer(&self) -> Transfer {
        let (Some(first), Some(last)) = (self.first, self.last) else { return Transfer::default() };
        let ms = u64::try_from(last.saturating_duration_since(first).as_millis()).unwrap_or(u64::MAX);
        Transfer { bytes: self.bytes, ms }
    }
}

impl TransferGuard {
    pub(super) fn count(&self, bytes: u64) {
        let now = st::now();
        self.with(|test| {
            test.last_active = now;
            test.flows[self.direction as usize].count(bytes, now);
        });
    }

    /// Waits as long as the limit demands after this many bytes. Fails when the time of the test is up.
    pub(super) fn pause(&self, bytes: u64) -> Result<(), End> {
        let now = st::now();
        let pause = self.with(|test| test.flows[self.direction as usize].pacer.add(bytes, now));
        match pause {
            Some(pause) if now < self.deadline => {
                if !pause.is_zero() {
                    st::sleep(pause.min(MAX_PAUSE));
                }
                Ok(())
            }
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "the time of the bandwidth test is up").into()),
        }
    }

    pub(super) fn set_network(&self, min_rtt: Duration, retransmits: u32) {
        self.with(|test| {
            test.min_rtt = Some(test.min_rtt.map_or(min_rtt, |rtt| rtt.min(min_rtt)));
            test.retransmits += u64::from(retransmits);
        });
    }

    /// Runs `f` on the test, if it is still the one that the transfer belongs to.
    fn with<R>(&self, f: impl FnOnce(&mut Test) -> R) -> Option<R> {
        self.sessions.tests.with(|tests| {
            let test = tests.get_mut(&self.key).filter(|test| test.started + TEST_LIMIT == self.deadline)?;
            Some(f(test))
        })
    }
}

impl Drop for TransferGuard {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds.
        self.sessions.tests.try_with(|tests| {
            let test = tests.get_mut(&self.key).filter(|test| test.started + TEST_LIMIT == self.deadline);
            if let Some(test) = test {
                test.transfers = test.transfers.saturating_sub(1);
                test.last_active = st::now();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_cannot_report_what_was_not_transferred() {
        let counted = Transfer { bytes: 1_000_000, ms: 1000 };
        assert_eq!(plausible(None, counted), 8000);
        assert_eq!(plausible(Some(8500.7), counted), 8500);
        assert_eq!(plausible(Some(1e9), counted), 10_000);
        assert_eq!(plausible(Some(5.0), Transfer::default()), 0);
    }
}
