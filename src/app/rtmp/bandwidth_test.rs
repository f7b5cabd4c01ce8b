//! Bandwidth tests over RTMP: the server's side of the exchange in [`crate::rtmp::bandwidth_test`].
//!
//! ```text
//! connect, permit ─> Exchange: play ─> publish ─> finish ─> BandwidthReport ─> Event::BandwidthTested
//!                              │         │
//!                              │         bytes received within a window
//!                              bytes acknowledged (TCP_INFO) within a window
//! ```
//!
//! Bytes that only fill the socket's buffer do not count, nor does the time in which TCP looks for its rate. The coroutine keeps
//! its low priority, so that a test takes only time that no stream needs.

mod feature;
mod measure;

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Buf;

use self::measure::{DURATION, Window};
use super::connection::Connection;
use super::errors::setup_error;
use super::test_admission::AdmittedTest;
use crate::app::events::Event;
use crate::app::limits::pacer::Pacer;
use crate::app::session::bandwidth_report::{BandwidthReport, Transfer};
use crate::app::session::close::CloseReason;
use crate::codec::amf0::Object;
use crate::config::Vhost;
use crate::rtmp::bandwidth_test::{self as exchange, NO_LIMIT_KBPS, Payload};
use crate::st;
use crate::st::net::{TcpInfo, TcpStream};

pub(crate) use feature::BandwidthTestFeature;

/// Longest wait for a message of the client and for room in the socket. This and [`CLOSE_DELAY`] are those of SRS.
const STEP_TIMEOUT: Duration = Duration::from_secs(6);

/// Longest time that a client goes on sending after its time: what the buffers of a slow line hold.
const MAX_PUBLISH_DRAIN: Duration = Duration::from_secs(60);

const CLOSE_DELAY: Duration = Duration::from_millis(600);

/// Bytes that the kernel takes beyond those in flight: what is sent behind them arrives later by the time that they take.
const MAX_UNSENT: usize = 64 * 1024;

/// Messages into which a second of the limit is divided.
const MESSAGES_PER_SECOND: u64 = 10;

/// Longest pause for the limit before the client's state is checked again.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Tests the bandwidth of a client that was admitted to a vhost for tests. Returns the reason for which the connection ends.
pub(super) fn run(
    connection: &mut Connection<'_>,
    vhost: &Arc<Vhost>,
    admitted: AdmittedTest,
) -> Result<Infallible, CloseReason> {
    let AdmittedTest { permit, is_flash } = admitted;
    let started = st::system_time();
    let (client, ctx) = (connection.client.clone(), connection.ctx.clone());
    let stream = client.stream.clone();
    let mut test = Test { connection, stream: &stream, limit_kbps: vhost.bandcheck.limit_kbps, step: "start" };
    let measured = test.measure(is_flash).inspect_err(|reason| {
        let reason = client.close_requested().unwrap_or_else(|| reason.clone());
        log::info!(
            "bandwidth test broken off: vhost={} step={} reason={}",
            vhost.name,
            test.step,
            crate::log::quoted(reason)
        );
    })?;
    // The next test may begin while this client reads its result.
    drop(permit);
    let unix_ms = |time: std::time::SystemTime| {
        time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    let report = BandwidthReport {
        client_id: client.number,
        ip: client.address().ip().to_canonical(),
        vhost: vhost.name.clone(),
        protocol: if stream.is_encrypted() { "rtmps" } else { "rtmp" },
        start_time: unix_ms(started),
        end_time: unix_ms(st::system_time()),
        play_kbps: measured.play.kbps(),
        publish_kbps: measured.publish.kbps(),
        play_bytes: measured.play.bytes,
        publish_bytes: measured.publish.bytes,
        play_time: measured.play.ms,
        publish_time: measured.publish.ms,
        rtt_ms: measured.rtt.as_secs_f64() * 1000.0,
        jitter_ms: None,
        retransmits: measured.retransmits,
    };
    let result = test.finish(&report);
    ctx.events.emit(&Event::BandwidthTested(Arc::new(report)));
    Err(result.err().unwrap_or(CloseReason::Tested))
}

struct Test<'a, 'c> {
    connection: &'a mut Connection<'c>,
    stream: &'a TcpStream,
    /// 0 for none.
    limit_kbps: u64,
    /// The message that the test waits for, for the log.
    step: &'static str,
}

struct Measurements {
    play: Transfer,
    publish: Transfer,
    rtt: Duration,
    retransmits: u64,
}

impl Test<'_, '_> {
    fn measure(&mut self, is_flash: bool) -> Result<Measurements, CloseReason> {
        self.stream.set_write_timeout(Some(STEP_TIMEOUT));
        // Without the option, the last bytes only wait longer.
        let _ = self.stream.set_unsent_limit(MAX_UNSENT);
        let protocol = self.connection.rtmp.protocol();
        protocol.limit_incomplete(exchange::MAX_INCOMPLETE);
        let before = self.stream.tcp_info()?;
        self.send(exchange::START_PLAY, self.parameters())?;
        self.expect(exchange::STARTING_PLAY)?;
        let (play, info) = self.play()?;
        self.send(exchange::STOP_PLAY, outcome(play))?;
        self.expect(exchange::STOPPED_PLAY)?;

        self.send(exchange::START_PUBLISH, self.parameters())?;
        self.expect(exchange::STARTING_PUBLISH)?;
        let publish = self.publish(is_flash)?;
        self.send(exchange::STOP_PUBLISH, outcome(publish))?;
        if !is_flash {
            self.expect(exchange::STOPPED_PUBLISH)?;
        }
        let retransmits = u64::from(info.retransmits.saturating_sub(before.retransmits));
        Ok(Measurements { play, publish, rtt: info.min_rtt, retransmits })
    }

    /// Sends the result, and waits until the client has closed or its time is up.
    fn finish(&mut self, report: &BandwidthReport) -> Result<(), CloseReason> {
        let number = |n: u64| n as f64;
        let result = Object::new()
            .with("start_time", number(report.start_time))
            .with("end_time", number(report.end_time))
            .with("play_kbps", number(report.play_kbps))
            .with("publish_kbps", number(report.publish_kbps))
            .with("play_bytes", number(report.play_bytes))
            .with("publish_bytes", number(report.publish_bytes))
            .with("play_time", number(report.play_time))
            .with("publish_time", number(report.publish_time));
        self.send(exchange::FINISHED, result)?;
        self.stream.set_time_limit(Some(CLOSE_DELAY));
        loop {
            match self.connection.rtmp.protocol().recv_message() {
                Ok(_) => self.connection.yield_if_used_up(),
                Err(crate::rtmp::Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends for the time of a test. Returns what the client has acknowledged, and the kernel's figures at the end.
    fn play(&mut self) -> Result<(Transfer, TcpInfo), CloseReason> {
        self.step = exchange::PLAYING;
        let longest = self.limit_kbps.saturating_mul(125) / MESSAGES_PER_SECOND;
        let longest = if self.limit_kbps == 0 { usize::MAX } else { usize::try_from(longest).unwrap_or(usize::MAX) };
        let mut payload = Payload::new(exchange::PLAYING, longest);
        let started = st::now();
        let mut pacer = Pacer::new(self.limit_kbps, started);
        let mut window = Window::for_sending(started);
        loop {
            let info = self.stream.tcp_info()?;
            if window.update(st::now(), info.bytes_acked) {
                return Ok((window.transfer(), info));
            }
            payload.send(self.connection.rtmp.protocol());
            let mut message = self.connection.rtmp.protocol().take_output();
            let length = message.len() as u64;
            while !message.is_empty() {
                let mut stream = self.stream;
                let written = stream.write(&message)?;
                message.advance(written);
            }
            st::yield_now();
            self.pause(pacer.add(length, st::now()))?;
        }
    }

    /// Receives until the client has sent all; from Flash, which never says so, for the time of a test.
    fn publish(&mut self, is_flash: bool) -> Result<Transfer, CloseReason> {
        self.step = exchange::PUBLISHING;
        let started = st::now();
        let mut pacer = Pacer::new(self.limit_kbps, started);
        let mut window = Window::for_receiving(started);
        let mut received = self.stream.bytes_received();
        loop {
            let now = st::now();
            let is_over = window.update(now, self.stream.bytes_received());
            if is_over && is_flash {
                return Ok(window.transfer());
            }
            if now >= started + DURATION + MAX_PUBLISH_DRAIN {
                return Err(CloseReason::Protocol("the client of a bandwidth test does not stop sending".to_owned()));
            }
            while let Some(message) = self.connection.rtmp.protocol().next_message()? {
                if exchange::name(&message) == Some(exchange::STOP_PUBLISH) {
                    window.end(st::now(), self.stream.bytes_received());
                    return Ok(window.transfer());
                }
                self.connection.yield_if_used_up();
            }
            self.receive(window.next_change(), STEP_TIMEOUT)?;
            st::yield_now();
            let total = self.stream.bytes_received();
            self.pause(pacer.add(total - received, st::now()))?;
            received = total;
        }
    }

    /// Reads once, by `deadline` if there is one. Fails when nothing comes within `timeout`.
    fn receive(&mut self, deadline: Option<Instant>, timeout: Duration) -> Result<(), CloseReason> {
        let silent_at = st::now() + timeout;
        loop {
            self.check_active()?;
            let protocol = self.connection.rtmp.protocol();
            let read = self.stream.try_read_with(|bytes| match bytes {
                [] => Err(crate::rtmp::Error::Closed),
                bytes => protocol.feed(bytes),
            })?;
            if let Some(result) = read {
                result?;
                return Ok(self.connection.rtmp.protocol().flush()?);
            }
            let now = st::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
            if now >= silent_at {
                return Err(CloseReason::SlowStart);
            }
            self.stream.wait(Some(deadline.map_or(silent_at, |deadline| deadline.min(silent_at))));
        }
    }

    fn expect(&mut self, name: &'static str) -> Result<(), CloseReason> {
        self.step = name;
        self.stream.set_time_limit(Some(STEP_TIMEOUT));
        loop {
            let message = self.connection.rtmp.protocol().recv_message().map_err(setup_error)?;
            self.connection.yield_if_used_up();
            if exchange::name(&message) == Some(name) {
                self.stream.set_time_limit(None);
                return Ok(());
            }
        }
    }

    fn send(&mut self, name: &'static str, object: Object) -> Result<(), CloseReason> {
        self.step = name;
        let protocol = self.connection.rtmp.protocol();
        exchange::send(protocol, name, object);
        self.stream.set_time_limit(None);
        Ok(protocol.flush()?)
    }

    fn parameters(&self) -> Object {
        // SRS's clients take 0 for a limit that they always exceed.
        let limit_kbps = if self.limit_kbps == 0 { NO_LIMIT_KBPS } else { self.limit_kbps };
        with_times(Object::new().with("limit_kbps", limit_kbps as f64))
    }

    fn pause(&self, time: Duration) -> Result<(), CloseReason> {
        let until = st::now() + time;
        loop {
            self.check_active()?;
            let left = until.saturating_duration_since(st::now());
            if left.is_zero() {
                return Ok(());
            }
            st::sleep(left.min(MAX_PAUSE));
        }
    }

    fn check_active(&self) -> Result<(), CloseReason> {
        self.connection.client.close_requested().map_or(Ok(()), Err)
    }
}

fn outcome(transfer: Transfer) -> Object {
    with_times(Object::new()).with("duration_delta", transfer.ms as f64).with("bytes_delta", transfer.bytes as f64)
}

fn with_times(object: Object) -> Object {
    object.with("duration_ms", DURATION.as_millis() as f64).with("interval_ms", 0.0)
}
