//! Serves a client that publishes: reads its media into the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::app::events::GateAction;
use crate::app::rtmp::codec_log::CodecLog;
use crate::app::rtmp::connection::{Admitted, CheckedRequest, Connection, ask_immediate};
use crate::app::rtmp::delayed_acks::DelayedAcks;
use crate::app::rtmp::pump::{Handled, Next, Pump, Role, Round, earliest};
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::MessageCounts;
use crate::app::stream::{Publication, StreamBusy};
use crate::rtmp::chunk::MAX_INCOMPLETE;
use crate::rtmp::protocol::Protocol;
use crate::rtmp::server::{Event, Publish};
use crate::st::{self, net::TcpStream};

/// Bytes after which coalesced reads wake the coroutine. Reading each message by itself is most of a publisher's cost.
const COALESCE_BYTES: usize = 16 * 1024;

/// Time between coalesced reads while the stream has no players.
const IDLE_READ_INTERVAL: Duration = Duration::from_millis(250);

/// With players, reads coalesce for the batch window. A shorter window than this is not worth it.
const MIN_COALESCE: Duration = Duration::from_millis(20);

/// Longest time between coalesced reads with players: the publisher's commands wait as well.
const MAX_COALESCE: Duration = Duration::from_millis(350);

/// Time over which the bit rate is measured, so that a keyframe after a still picture does not exceed the limit.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Chunk streams of encoders: control, commands, metadata, audio and video.
const USUAL_CHUNK_STREAMS: usize = 6;

const UNKNOWN_AFTER: Duration = Duration::from_secs(1);

struct PublisherRole<'a, 'c> {
    connection: &'a mut Connection<'c>,
    /// That of the connection, which is one pointer farther away.
    client: Arc<Client>,
    publication: &'a Publication,
    name: &'a str,
    stream_id: u32,
    received: Arc<AtomicU64>,
    started: Instant,
    last_read: Instant,
    last_media: Instant,
    unknown_reported: bool,
    round_started: Instant,
    /// Earliest time at which the input that is read now can have arrived.
    arrived_after: Instant,
    coalescing: bool,
    granted_bitrate: Option<u64>,
    /// Start of the present rate window, and the bytes received before it.
    rate_window: (Instant, u64),
    codec_log: CodecLog,
    delayed_acks: DelayedAcks,
}

impl Connection<'_> {
    #[inline(never)] // Keeps its locals off the stack of a waiting player.
    pub(super) fn serve_publisher(&mut self, admitted: &Admitted, publish: &Publish) -> Result<(), CloseReason> {
        let id = publish.stream_id;
        let request = match self.resolve(admitted, &publish.name) {
            Ok(request) => request,
            Err(reason) => return Err(self.refuse(id, "NetStream.Publish.Denied", reason)),
        };
        let passed = match ask_immediate(self.ctx, GateAction::Publish, admitted, request) {
            Ok(passed) => passed,
            Err(reason) => return Err(self.refuse(id, "NetStream.Publish.Denied", reason)),
        };
        let source = self.ctx.streams.get_or_create(&passed.request.name, &passed.request.vhost);
        let busy = |busy: StreamBusy| CloseReason::Busy(busy.to_string());
        let reservation = match source.reserve(self.client.number) {
            Ok(reservation) => reservation,
            Err(error) => return Err(self.refuse(id, "NetStream.Publish.BadName", busy(error))),
        };
        let granted = match self.ask_blocking_gates(&passed.gate_request) {
            Ok(granted) => granted,
            Err(reason) => {
                // Free before the client is told: it may try again at once.
                drop(reservation);
                return Err(self.refuse(id, "NetStream.Publish.Denied", reason));
            }
        };
        // The requested name is free again if it is another one.
        let reservation = granted.stream.is_none().then_some(reservation);
        drop(source);
        let passed = match passed.rename(self.ctx, granted) {
            Ok(passed) => passed,
            Err(reason) => {
                drop(reservation);
                return Err(self.refuse(id, "NetStream.Publish.Denied", reason));
            }
        };
        let CheckedRequest { request, info, max_bitrate, .. } = passed;
        let reservation = match reservation {
            Some(reservation) => reservation,
            None => match self.ctx.streams.get_or_create(&request.name, &request.vhost).reserve(self.client.number) {
                Ok(reservation) => reservation,
                Err(error) => return Err(self.refuse(id, "NetStream.Publish.BadName", busy(error))),
            },
        };
        let publication = match reservation.publish(self.client.clone(), info.clone(), admitted.info.clone()) {
            Ok(publication) => Arc::new(publication),
            Err(error) => return Err(self.refuse(id, "NetStream.Publish.BadName", busy(error))),
        };
        self.client.set_publication(&publication, &info);
        log::info!("publish started: stream={} params_bytes={}", request.name, request.params.len());
        self.rtmp.protocol().limit_incomplete(MAX_INCOMPLETE);
        self.rtmp.protocol().release_buffers();
        self.rtmp.start_publish(publish);
        self.client.set_stream_vhost(Some(&request.vhost));
        let mut pump = Box::new(Pump::new(self.rtmp.protocol(), None, &self.ctx.admission, self.send_timeout));
        let result = self.receive_media(&mut pump, &publication, &request.name, id, max_bitrate);
        self.client.set_stream_vhost(None);
        if let Some((code, reason)) = self.publish_close_status(&result) {
            self.close_stream(&mut pump, id, code, &reason);
        }
        log::info!("publish stopped: stream={}", request.name);
        result?;
        self.rtmp.stop_publish(id);
        Ok(())
    }

    fn receive_media(
        &mut self,
        pump: &mut Pump<'_>,
        publication: &Publication,
        name: &str,
        stream_id: u32,
        granted_bitrate: Option<u64>,
    ) -> Result<(), CloseReason> {
        let stream = self.client.stream.clone();
        stream.set_time_limit(None);
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let _registration = self.client.register(&self.ctx.stats.publish, move || MessageCounts {
            passed: counter.load(Ordering::Relaxed),
            dropped: 0,
        });
        let now = st::now();
        let mut role = Box::new(PublisherRole {
            client: self.client.clone(),
            connection: self,
            publication,
            name,
            stream_id,
            received,
            started: now,
            last_read: now,
            last_media: now,
            unknown_reported: false,
            round_started: now,
            arrived_after: now,
            coalescing: false,
            granted_bitrate,
            rate_window: (now, stream.bytes_received()),
            codec_log: CodecLog::default(),
            delayed_acks: DelayedAcks::default(),
        });
        let result = pump.run(&mut *role);
        role.codec_log.finish(publication, name);
        set_read_coalescing(&stream, false);
        result?;
        publication.unpublish();
        Ok(pump.finish(self.rtmp.protocol())?)
    }

    /// Returns the status to send, with its reason, if the server ends the publication.
    fn publish_close_status(&self, result: &Result<(), CloseReason>) -> Option<(&'static str, CloseReason)> {
        let requested = self.client.close_requested();
        let reason = requested.or_else(|| result.clone().err().filter(|r| matches!(r, CloseReason::TooFast(_))))?;
        let code = match reason {
            CloseReason::Replaced { .. } => "NetStream.Publish.BadName",
            _ => "NetStream.Publish.Denied",
        };
        Some((code, reason))
    }
}

impl Role for PublisherRole<'_, '_> {
    type End = ();
    type Error = CloseReason;

    fn not_reading() -> CloseReason {
        CloseReason::NotReading
    }

    fn protocol(&mut self) -> &mut Protocol<TcpStream> {
        self.connection.rtmp.protocol()
    }

    fn start_round(&mut self, now: Instant) -> Result<Option<()>, CloseReason> {
        // The fetch overlaps with the read.
        self.publication.prefetch_first_player();
        if let Some(reason) = self.client.close_requested() {
            return Err(reason);
        }
        // Without coalescing, input is read as soon as it arrives.
        self.arrived_after = if self.coalescing { self.round_started } else { now };
        self.round_started = now;
        Ok(None)
    }

    fn handle_next(&mut self) -> Result<Handled<()>, CloseReason> {
        let rtmp = &mut self.connection.rtmp;
        let Some(event) = rtmp.poll_event()? else { return Ok(Handled::NoMessage) };
        match event {
            Event::Media(message) => {
                let count = self.received.fetch_add(1, Ordering::Relaxed);
                // While reads coalesce, the kernel acknowledges by its own timer, not with each read.
                if !self.coalescing {
                    self.delayed_acks.update(count, &self.client.stream);
                }
                self.last_media = self.last_read;
                self.publication.on_message(&message, self.arrived_after);
            }
            Event::Stop(id) if id == 0 || id == self.stream_id => return Ok(Handled::End(())),
            Event::Publish(again) => {
                let why = "this connection already publishes a stream";
                rtmp.send_stream_error(again.stream_id, "NetStream.Publish.Denied", why);
            }
            Event::Play(play) => {
                let why = "a connection that publishes cannot play";
                rtmp.send_stream_error(play.stream_id, "NetStream.Play.Failed", why);
            }
            _ => {}
        }
        Ok(Handled::Message)
    }

    fn on_input(&mut self, now: Instant) {
        self.last_read = now;
        self.publication.record_read(now);
    }

    fn finish_round(&mut self, round: &Round) -> Result<Next<()>, CloseReason> {
        let (now, publication) = (round.now, self.publication);
        let batching = &self.connection.ctx.batching;
        let end = publication.finish_round(now, |may_wait| batching.window_scale_of_round(now, may_wait));
        let received = self.client.stream.bytes_received();
        let limit = lower_limit(self.granted_bitrate.unwrap_or(0), end.max_bitrate);
        if let Some(max) = exceeded_rate(&mut self.rate_window, now, received, limit) {
            return Err(CloseReason::TooFast(max));
        }
        let codecs_due = self.codec_log.update(publication, self.name, end.codecs, now);
        // A large message over a slow line is media as well.
        if self.last_read > self.last_media && self.connection.rtmp.protocol().is_receiving_media() {
            self.last_media = self.last_read;
            publication.record_activity(self.last_read);
        }
        self.report_unknown(now);
        // While replies are unwritten, the send timeout applies instead.
        let silent = round.all_sent.then(|| self.last_media + end.timeout);
        if !round.input_pending && silent.is_some_and(|silent| now >= silent) {
            return Err(CloseReason::SilentPublisher);
        }
        let interval = read_interval(end.batch_window);
        if interval.is_some() != self.coalescing {
            self.coalescing = !self.coalescing;
            set_read_coalescing(&self.client.stream, self.coalescing);
            return Ok(Next::Round);
        }
        let next_read = interval.map(|time| now + time);
        Ok(Next::Wait(earliest(earliest(end.flush_due, next_read), earliest(silent, codecs_due))))
    }

    fn on_deadline(&mut self) {
        if self.coalescing {
            self.client.stream.assume_readable();
        }
    }

    fn has_handler(&self) -> bool {
        !self.coalescing && !self.client.stream.is_encrypted()
    }

    fn prefetch(&self, depth: usize) {
        match depth {
            1 => {
                st::prefetch_all(&*self.connection);
                st::prefetch(&*self.client);
                st::prefetch(self.publication);
                st::prefetch(&*self.received);
            }
            2 => {
                let chunk_streams = self.connection.rtmp.chunk_streams();
                st::prefetch_all(&chunk_streams[..chunk_streams.len().min(USUAL_CHUNK_STREAMS)]);
                self.publication.prefetch();
            }
            _ => self.publication.prefetch_media(),
        }
    }

    fn has_media(&self, _: bool) -> bool {
        self.received.load(Ordering::Relaxed) > 0
    }
}

impl PublisherRole<'_, '_> {
    /// Warns once of a publisher of which nothing is understood, such as ffmpeg with `-f mpegts`.
    fn report_unknown(&mut self, now: Instant) {
        if self.unknown_reported
            || self.received.load(Ordering::Relaxed) > 0
            || now.duration_since(self.started) < UNKNOWN_AFTER
        {
            return;
        }
        let Some((kind, bytes)) = self.connection.rtmp.first_unknown() else { return };
        self.unknown_reported = true;
        log::warn!(
            "publisher sends neither audio nor video: stream={} message_type={} message_bytes={bytes}",
            self.name,
            kind.0
        );
    }
}

/// Returns the lower of two limits, of which 0 is none.
fn lower_limit(one: u64, other: u64) -> u64 {
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}

/// Returns `max` (kbit/s, 0 for no limit) if the present rate window is over it. Starts a new window when one ends.
fn exceeded_rate(window: &mut (Instant, u64), now: Instant, received: u64, max: u64) -> Option<u64> {
    if max == 0 {
        *window = (now, received);
        return None;
    }
    let (started, received_before) = *window;
    let kbits = (received - received_before) / 125;
    if kbits > max * RATE_WINDOW.as_secs() {
        return Some(max);
    }
    if now.duration_since(started) >= RATE_WINDOW {
        *window = (now, received);
    }
    None
}

/// Returns the time between coalesced reads, if reads are to coalesce. `batch_window` is `None` without players.
fn read_interval(batch_window: Option<Duration>) -> Option<Duration> {
    match batch_window {
        None => Some(IDLE_READ_INTERVAL),
        Some(window) if window >= MIN_COALESCE => Some(window.min(MAX_COALESCE)),
        Some(_) => None,
    }
}

fn set_read_coalescing(stream: &TcpStream, coalescing: bool) {
    // If the socket does not take the option, the only loss is processor time.
    let _ = stream.set_receive_low_water(if coalescing { COALESCE_BYTES } else { 1 });
    stream.assume_readable();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_coalesce_when_nobody_waits_for_a_single_message() {
        let ms = Duration::from_millis;
        assert_eq!(read_interval(None), Some(IDLE_READ_INTERVAL), "no players");
        assert_eq!((read_interval(Some(ms(0))), read_interval(Some(ms(19)))), (None, None));
        assert_eq!((read_interval(Some(ms(20))), read_interval(Some(ms(350)))), (Some(ms(20)), Some(ms(350))));
        assert_eq!(read_interval(Some(ms(3000))), Some(ms(350)), "the publisher's commands wait as well");
    }

    #[test]
    fn a_rate_is_that_of_five_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // 1000 kbit/s are 625,000 bytes in five seconds, however they are spread.
        let mut window = (start, 0);
        assert_eq!(exceeded_rate(&mut window, at(0), 625_000, 1000), None, "all at once");
        assert_eq!(exceeded_rate(&mut window, at(1), 625_200, 1000), Some(1000));
        assert_eq!(exceeded_rate(&mut window, at(5), 625_000, 1000), None);
        assert_eq!(exceeded_rate(&mut window, at(6), 1_250_000, 1000), None, "the next five");
        assert_eq!(exceeded_rate(&mut window, at(6), 1_250_200, 1000), Some(1000));
        assert_eq!(exceeded_rate(&mut window, at(7), 9_000_000, 0), None, "no limit");
        assert_eq!(exceeded_rate(&mut window, at(8), 9_100_000, 1000), None, "what came before a limit does not count");
        assert_eq!(exceeded_rate(&mut window, at(9), 9_625_200, 1000), Some(1000));
    }
}
