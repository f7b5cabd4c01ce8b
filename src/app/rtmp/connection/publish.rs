//! Serves a client that publishes: reads its media into the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Admitted, Connection, close_reason, io_close_reason};
use crate::app::limits::fairness::{self, PriorityController, WORK_BUDGET};
use crate::app::outputs::forward::PublishedStream;
use crate::app::rtmp::READS_PER_TURN;
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::MessageCounts;
use crate::app::stream::Publication;
use crate::codec::flv::{AudioCodec, VideoCodec};
use crate::log::quoted;
use crate::rtmp::chunk::MAX_INCOMPLETE;
use crate::rtmp::protocol::MAX_PENDING_REPLIES;
use crate::rtmp::server::{Event, Publish};
use crate::st::net::TcpStream;

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

struct PublishState<'a> {
    publication: &'a Publication,
    stream_id: u32,
    received: Arc<AtomicU64>,
    last_read: Instant,
    /// Earliest time at which the input that is read now can have arrived.
    arrived_after: Instant,
    stopped: bool,
}

impl Connection<'_> {
    /// Reads a client's stream until the client ends it. Returns the client's next event, if it is known already.
    #[inline(never)] // Keeps its locals off the stack of a waiting player.
    pub(super) fn serve_publisher(
        &mut self,
        admitted: &Admitted,
        publish: &Publish,
    ) -> Result<Option<Event>, CloseReason> {
        let id = publish.stream_id;
        let request = match self.resolve(admitted, &publish.name, true) {
            Ok(request) => request,
            Err(reason) => return Err(self.refuse(id, "NetStream.Publish.Denied", reason)),
        };
        if let Some(why) = admitted.route.loop_error(&request.name) {
            return Err(self.refuse(id, "NetStream.Publish.Denied", CloseReason::Refused(why.to_owned())));
        }
        let source = self.server.sources.get_or_create(&request.name, &request.vhost);
        let publication = match source.acquire_publish(self.client.number, self.client.clone()) {
            Ok(publication) => Arc::new(publication),
            Err(busy) => {
                let reason = CloseReason::Busy(busy.to_string());
                return Err(self.refuse(id, "NetStream.Publish.BadName", reason));
            }
        };
        #[cfg(feature = "hls")]
        self.server.hls.attach(&source, &request.vhost, &self.server.config());
        self.client.set_publication(&publication);
        log::info!("publish started: stream={} params_bytes={}", request.name, request.params.len());
        let published = PublishedStream {
            source,
            vhost: request.vhost.name.clone(),
            app: admitted.app.app.clone(),
            stream: request.stream,
            params: request.params,
            route: admitted.route.clone(),
        };
        let _forward = self.server.forwards.publish(self.server, self.client.number, published, &request.vhost.forward);
        self.rtmp.protocol().limit_incomplete(MAX_INCOMPLETE);
        self.rtmp.start_publish(publish);
        // Set before the first wait, during which a reload may remove the vhost.
        self.client.set_stream_vhost(Some(&request.vhost));
        let flushed = self.rtmp.flush().map_err(close_reason);
        let result = flushed.and_then(|()| self.receive_media(&publication, &request.name, id));
        self.client.set_stream_vhost(None);
        set_read_coalescing(&self.client.stream, false);
        if let Some(reason) = self.client.close_requested() {
            let code = match reason {
                CloseReason::Replaced { .. } => "NetStream.Publish.BadName",
                _ => "NetStream.Publish.Denied",
            };
            self.send_close_status(id, code, &reason);
        }
        log::info!("publish stopped: stream={}", request.name);
        result
    }

    fn receive_media(
        &mut self,
        publication: &Publication,
        name: &str,
        stream_id: u32,
    ) -> Result<Option<Event>, CloseReason> {
        let stream = self.client.stream.clone();
        stream.set_time_limit(None);
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let _registration = self.client.register(&self.server.publish_stats, move || MessageCounts {
            passed: counter.load(Ordering::Relaxed),
            dropped: 0,
        });
        let started = Instant::now();
        let mut state = PublishState {
            publication,
            stream_id,
            received,
            last_read: started,
            arrived_after: started,
            stopped: false,
        };
        let mut codecs = (None, None);
        let mut priority = PriorityController::new(started, fairness::work_units(self.rtmp.protocol()));
        let mut coalescing = false;
        let mut last_wake = started;
        let mut rate_window = (started, stream.bytes_received());
        loop {
            if let Some(reason) = self.client.close_requested() {
                return Err(reason);
            }
            // One clock reading serves everything that follows one wait.
            let now = Instant::now();
            state.arrived_after = if coalescing { last_wake } else { now };
            last_wake = now;
            let all_read = self.read_publisher_input(&mut state, now)?;
            let has_media = state.received.load(Ordering::Relaxed) > 0;
            let work = fairness::work_units(self.rtmp.protocol());
            priority.update(now, work, self.server.load_shedder.work_budget(), has_media);
            if let Some(max) = exceeded_rate(&mut rate_window, now, stream.bytes_received(), publication.max_bitrate())
            {
                return Err(self.refuse(stream_id, "NetStream.Publish.Denied", CloseReason::TooFast(max)));
            }
            let window_scale = self.server.batching.window_scale(now);
            let flush = publication.flush_if_due(now, window_scale);
            if state.stopped {
                publication.unpublish();
                self.rtmp.stop_publish(stream_id);
                return Ok(None);
            }
            log_codecs(publication, name, &mut codecs);
            if !all_read {
                continue;
            }
            let silent = state.last_read + publication.timeout();
            if now >= silent {
                return Err(CloseReason::SilentPublisher);
            }
            let interval = read_interval(publication.batch_window(window_scale));
            if interval.is_some() != coalescing {
                coalescing = !coalescing;
                set_read_coalescing(&stream, coalescing);
                continue;
            }
            let next_read = interval.map(|time| now + time);
            let deadline = [flush, next_read].into_iter().flatten().fold(silent, Instant::min);
            if stream.wait(Some(deadline)).timed_out && coalescing {
                stream.assume_readable();
            }
        }
    }

    /// Reads and handles the publisher's input, bounded by reads and work. Returns whether that was all.
    fn read_publisher_input(&mut self, state: &mut PublishState<'_>, now: Instant) -> Result<bool, CloseReason> {
        let stream = self.client.stream.clone();
        let work_before = fairness::work_units(self.rtmp.protocol());
        for _ in 0..READS_PER_TURN {
            // Events come before the read: some arrived together with `publish`. Those after the stop are left.
            while !state.stopped
                && self.rtmp.protocol().output_len() <= MAX_PENDING_REPLIES
                && let Some(event) = self.rtmp.poll_event().map_err(close_reason)?
            {
                self.handle_publisher_event(state, event);
                self.yield_if_used_up();
                if fairness::work_units(self.rtmp.protocol()).wrapping_sub(work_before) > WORK_BUDGET {
                    return Ok(false);
                }
            }
            if self.rtmp.protocol().has_output() {
                let replies_full = self.rtmp.protocol().output_len() > MAX_PENDING_REPLIES;
                self.rtmp.flush().map_err(close_reason)?;
                if replies_full && !state.stopped {
                    // The loop above stopped early: more events can be there.
                    continue;
                }
            }
            if state.stopped {
                return Ok(true);
            }
            let Some(fed) = self.read_socket().map_err(|error| io_close_reason(&error))? else { return Ok(true) };
            fed.map_err(close_reason)?;
            state.last_read = now;
            state.publication.record_activity(now);
            stream.yield_if_busy();
            self.yield_if_used_up();
        }
        Ok(false)
    }

    fn handle_publisher_event(&mut self, state: &mut PublishState<'_>, event: Event) {
        match event {
            Event::Media(message) => {
                state.received.fetch_add(1, Ordering::Relaxed);
                state.publication.on_message(&message, state.arrived_after);
            }
            Event::Stop(id) if id == 0 || id == state.stream_id => state.stopped = true,
            Event::Publish(again) => {
                let why = "this connection already publishes a stream";
                self.rtmp.send_stream_error(again.stream_id, "NetStream.Publish.Denied", why);
            }
            Event::Play(play) => {
                let why = "a connection that publishes cannot play";
                self.rtmp.send_stream_error(play.stream_id, "NetStream.Play.Failed", why);
            }
            _ => {}
        }
    }
}

/// Returns `max` (kbit/s, 0 for no limit) if more arrived in the current rate window than is allowed for all of it.
/// Starts a new window when it is over.
fn exceeded_rate(window: &mut (Instant, u64), now: Instant, received: u64, max: u64) -> Option<u64> {
    let (started, received_before) = *window;
    let kbits = (received - received_before) / 125;
    if max > 0 && kbits > max * RATE_WINDOW.as_secs() {
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

/// Wakes the publisher's coroutine for every [`COALESCE_BYTES`] only, or for any byte.
fn set_read_coalescing(stream: &TcpStream, coalescing: bool) {
    // If the socket does not take the option, the only loss is processor time.
    let _ = stream.set_receive_low_water(if coalescing { COALESCE_BYTES } else { 1 });
    stream.assume_readable();
}

fn log_codecs(publication: &Publication, name: &str, logged: &mut (Option<VideoCodec>, Option<AudioCodec>)) {
    let codecs = publication.codecs();
    if codecs != *logged {
        *logged = codecs;
        let (video, audio) = codecs;
        let video = video.map_or_else(|| "none".to_owned(), |codec| codec.to_string());
        let audio = audio.map_or_else(|| "none".to_owned(), |codec| codec.to_string());
        log::info!("codecs known: stream={name} video={} audio={}", quoted(video), quoted(audio));
    }
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
        assert_eq!(exceeded_rate(&mut window, at(1), 625_200, 0), None, "no limit");
        assert_eq!(exceeded_rate(&mut window, at(5), 625_000, 1000), None);
        assert_eq!(exceeded_rate(&mut window, at(6), 1_250_000, 1000), None, "the next five");
        assert_eq!(exceeded_rate(&mut window, at(6), 1_250_200, 1000), Some(1000));
    }
}
