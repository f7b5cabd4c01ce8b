//! A client that publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Admitted, Connection, close_reason, network};
use crate::app::limits::fairness::{self, MUCH, Turn};
use crate::app::outputs::forward::Feed;
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::Messages;
use crate::app::stream::Publication;
use crate::codec::flv::{AudioCodec, VideoCodec};
use crate::rtmp::chunk::MAX_INCOMPLETE;
use crate::rtmp::protocol::MAX_ANSWERS;
use crate::rtmp::server::{Event, Publish};
use crate::st::net::TcpStream;

/// Reads in a row after which the players get what has come.
const READS: usize = 4;

/// Where nobody waits for a single message, a publisher is heard when so many bytes have come or some time has passed: reading each
/// by itself is most of what a publisher costs.
const GATHERED_BYTES: usize = 16 * 1024;

/// That time while nobody plays its stream.
const UNWATCHED: Duration = Duration::from_millis(250);

/// With players it is the window within which messages are merged, if that is long enough to be worth it. It is no longer than
/// this, since what the publisher says beside its media waits as well.
const WORTH_GATHERING: Duration = Duration::from_millis(20);
const LONGEST_GATHERING: Duration = Duration::from_millis(350);

/// Over how long a publisher's bit rate is measured: a keyframe after a still picture is no flood.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// A publisher's stream.
struct Publishing<'a> {
    publication: &'a Publication,
    stream_id: u32,
    /// Messages of media so far.
    received: Arc<AtomicU64>,
    /// When something last came.
    heard: Instant,
    /// Since when what comes now may have lain in the socket.
    since: Instant,
    /// The publisher has said that the stream is over.
    ended: bool,
}

impl Connection<'_> {
    /// Takes a client's stream until it ends it in words. Returns what the client does instead, if that is known already.
    #[inline(never)] // What it needs is not to be on the stack of a player that waits.
    pub(super) fn publishing(&mut self, admitted: &Admitted, publish: &Publish) -> Result<Option<Event>, CloseReason> {
        let id = publish.stream_id;
        let request = match self.resolve(admitted, &publish.name, true) {
            Ok(request) => request,
            Err(reason) => return Err(self.refuse(id, "NetStream.Publish.Denied", reason)),
        };
        if let Some(why) = admitted.route.objection(&request.name) {
            return Err(self.refuse(id, "NetStream.Publish.Denied", CloseReason::Refused(why.to_owned())));
        }
        let source = self.server.sources.get(&request.name, &request.vhost);
        let publication = match source.acquire_publish(self.client.number, self.client.clone()) {
            Ok(publication) => Arc::new(publication),
            Err(busy) => {
                let reason = CloseReason::Busy(busy.to_string());
                return Err(self.refuse(id, "NetStream.Publish.BadName", reason));
            }
        };
        #[cfg(feature = "hls")]
        self.server.hls.follow(&source, &request.vhost, &self.server.config());
        self.client.publishes(&publication);
        log::info!("publishing {}{}", request.name, shown(&request.params));
        let feed = Feed {
            source,
            vhost: request.vhost.name.clone(),
            app: admitted.app.app.clone(),
            stream: request.stream,
            params: request.params,
            route: admitted.route.clone(),
        };
        let _forwarding = self.server.forwards.begin(self.server, self.client.number, feed, &request.vhost.forward);
        self.rtmp.protocol().limit_incoming(MAX_INCOMPLETE);
        self.rtmp.start_publish(publish);
        // Before anything waits for the client: a reload meanwhile may remove the vhost.
        self.client.set_stream_vhost(Some(&request.vhost));
        let result = self.rtmp.flush().map_err(close_reason).and_then(|()| self.take_media(&publication, id));
        self.client.set_stream_vhost(None);
        hear_each(&self.client.stream, true);
        // Also when it was told in the middle of a write, which then failed.
        if let Some(reason) = self.client.told() {
            let code = match reason {
                CloseReason::Replaced { .. } => "NetStream.Publish.BadName",
                _ => "NetStream.Publish.Denied",
            };
            self.part(id, code, &reason);
        }
        log::info!("no longer publishing {}", request.name);
        result
    }

    fn take_media(&mut self, publication: &Publication, stream_id: u32) -> Result<Option<Event>, CloseReason> {
        let stream = self.client.stream.clone();
        stream.set_time_limit(None);
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let _presence = self
            .client
            .enter(&self.server.publish, move || Messages { passed: counter.load(Ordering::Relaxed), dropped: 0 });
        let begun = Instant::now();
        let mut publishing = Publishing { publication, stream_id, received, heard: begun, since: begun, ended: false };
        let mut codecs = (None, None);
        let mut turn = Turn::new(begun, fairness::work(self.rtmp.protocol()));
        let mut gathers = false;
        let mut looked = begun;
        let mut measured = (begun, stream.received());
        loop {
            if let Some(reason) = self.client.told() {
                return Err(reason);
            }
            // One reading of the clock serves all that comes of one wait.
            let now = Instant::now();
            publishing.since = if gathers { looked } else { now };
            looked = now;
            let is_drained = self.hear_publisher(&mut publishing, now)?;
            let streams = publishing.received.load(Ordering::Relaxed) > 0;
            turn.look(now, fairness::work(self.rtmp.protocol()), self.server.overload.much(), streams);
            if let Some(max) = too_fast(&mut measured, now, stream.received(), publication.max_bitrate()) {
                return Err(self.refuse(stream_id, "NetStream.Publish.Denied", CloseReason::TooFast(max)));
            }
            let opening = self.server.pace.opening(now);
            let flush = publication.flush_due(now, opening);
            if publishing.ended {
                publication.end();
                self.rtmp.stop_publish(stream_id);
                return Ok(None);
            }
            log_codecs(publication, &mut codecs);
            if !is_drained {
                continue;
            }
            let silent = publishing.heard + publication.timeout();
            if now >= silent {
                return Err(CloseReason::SilentPublisher);
            }
            let gathering = gathering(publication.window(opening));
            if gathering.is_some() != gathers {
                gathers = !gathers;
                hear_each(&stream, !gathers);
                continue;
            }
            let look = gathering.map(|time| now + time);
            let deadline = [flush, look].into_iter().flatten().fold(silent, Instant::min);
            if stream.wait(Some(deadline)).timed_out && gathers {
                stream.assume_readable();
            }
        }
    }

    /// Takes what the publisher has sent, or a good piece of it. Whether that was all.
    fn hear_publisher(&mut self, publishing: &mut Publishing<'_>, now: Instant) -> Result<bool, CloseReason> {
        let stream = self.client.stream.clone();
        let before = fairness::work(self.rtmp.protocol());
        for _ in 0..READS {
            // What came with `publish` itself is here before anything is read; what comes after the end is for whoever serves
            // the connection then.
            while !publishing.ended
                && self.rtmp.protocol().output_len() <= MAX_ANSWERS
                && let Some(event) = self.rtmp.poll_event().map_err(close_reason)?
            {
                self.on_publisher(publishing, event);
                self.take_turns();
                if fairness::work(self.rtmp.protocol()).wrapping_sub(before) > MUCH {
                    return Ok(false);
                }
            }
            if self.rtmp.protocol().has_output() {
                let is_much = self.rtmp.protocol().output_len() > MAX_ANSWERS;
                self.rtmp.flush().map_err(close_reason)?;
                if is_much && !publishing.ended {
                    // There is more to be heard of what is here.
                    continue;
                }
            }
            if publishing.ended {
                return Ok(true);
            }
            let Some(fed) = self.feed().map_err(|error| network(&error))? else { return Ok(true) };
            fed.map_err(close_reason)?;
            publishing.heard = now;
            publishing.publication.heard(now);
            stream.take_turns();
            self.take_turns();
        }
        Ok(false)
    }

    fn on_publisher(&mut self, publishing: &mut Publishing<'_>, event: Event) {
        match event {
            Event::Media(message) => {
                publishing.received.fetch_add(1, Ordering::Relaxed);
                publishing.publication.on_message(&message, publishing.since);
            }
            Event::Stop(id) if id == 0 || id == publishing.stream_id => publishing.ended = true,
            Event::Publish(again) => {
                self.rtmp.refuse(again.stream_id, "NetStream.Publish.Denied", "already publishing");
            }
            Event::Play(play) => {
                self.rtmp.refuse(play.stream_id, "NetStream.Play.Failed", "a publisher cannot play");
            }
            _ => {}
        }
    }
}

/// Whether more has come since the window of the rate began than is allowed in all of it; then, what is allowed in kbit/s. `max`: 0
/// for no limit.
fn too_fast(measured: &mut (Instant, u64), now: Instant, received: u64, max: u64) -> Option<u64> {
    let (since, before) = *measured;
    let kbits = (received - before) / 125;
    if max > 0 && kbits > max * RATE_WINDOW.as_secs() {
        return Some(max);
    }
    if now.duration_since(since) >= RATE_WINDOW {
        *measured = (now, received);
    }
    None
}

/// For how long what a publisher sends may lie in its socket, where players may wait for so long; `None` as the window: there are
/// none. `None`: not at all.
fn gathering(window: Option<Duration>) -> Option<Duration> {
    match window {
        None => Some(UNWATCHED),
        Some(window) if window >= WORTH_GATHERING => Some(window.min(LONGEST_GATHERING)),
        Some(_) => None,
    }
}

/// Has a publisher's coroutine wake for each message, or only for many.
fn hear_each(stream: &TcpStream, each: bool) {
    // Without it, nothing is lost but some processor time.
    let _ = stream.set_receive_low_water(if each { 1 } else { GATHERED_BYTES });
    stream.assume_readable();
}

/// Says what is being published, once that is known and whenever it changes.
fn log_codecs(publication: &Publication, known: &mut (Option<VideoCodec>, Option<AudioCodec>)) {
    let codecs = publication.codecs();
    if codecs != *known {
        *known = codecs;
        let (video, audio) = codecs;
        let names = [video.map(|codec| codec.to_string()), audio.map(|codec| codec.to_string())];
        log::info!("the stream is {}", names.into_iter().flatten().collect::<Vec<_>>().join(" + "));
    }
}

/// Parameters, for the log.
fn shown(params: &str) -> String {
    if params.is_empty() { String::new() } else { format!(" with {} bytes of parameters", params.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_is_gathered() {
        let ms = Duration::from_millis;
        assert_eq!(gathering(None), Some(UNWATCHED), "nobody plays");
        assert_eq!((gathering(Some(ms(0))), gathering(Some(ms(19)))), (None, None));
        assert_eq!((gathering(Some(ms(20))), gathering(Some(ms(350)))), (Some(ms(20)), Some(ms(350))));
        assert_eq!(gathering(Some(ms(3000))), Some(ms(350)), "what it says beside its media waits as well");
    }

    #[test]
    fn a_rate_is_that_of_five_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // 1000 kbit/s are 625,000 bytes in five seconds, however they are spread.
        let mut measured = (start, 0);
        assert_eq!(too_fast(&mut measured, at(0), 625_000, 1000), None, "all at once");
        assert_eq!(too_fast(&mut measured, at(1), 625_200, 1000), Some(1000));
        assert_eq!(too_fast(&mut measured, at(1), 625_200, 0), None, "no limit");
        assert_eq!(too_fast(&mut measured, at(5), 625_000, 1000), None);
        assert_eq!(too_fast(&mut measured, at(6), 1_250_000, 1000), None, "the next five");
        assert_eq!(too_fast(&mut measured, at(6), 1_250_200, 1000), Some(1000));
    }
}
