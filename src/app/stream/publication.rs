//! The handle of a publisher's coroutine to its stream, and the reservation before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changes::{Change, Codecs, MoreTracks};
use super::client_handle::ClientHandle;
use super::headers::HeaderKey;
use super::ingest::IngestMeter;
use super::output::EndReason;
use super::packet_log::PacketKind;
use super::source::Source;
use super::state::{Publisher, StreamState};
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv;
use crate::rtmp::message::Message;
use crate::st;

/// Changes of codecs that are reported of one publication: a publisher may change them with each message.
const MAX_CODEC_EVENTS: u8 = 16;

/// Error: the stream already has a publisher, or one that is about to publish.
#[derive(Debug, thiserror::Error)]
#[error("the stream is being published by client {client}")]
pub struct StreamBusy {
    pub client: u64,
}

/// A stream reserved for one client, which is not its publisher yet. Dropping it releases the stream.
pub struct Reservation {
    source: Source,
}

/// The right to publish a stream. Dropping it ends the publication; players stay, and are told after the vhost's
/// `reconnect_grace` unless there is a publisher by then.
pub struct Publication {
    source: Source,
    number: u64,
}

/// The stream after a round of its publisher's coroutine, and the settings that the coroutine follows.
#[derive(Debug, Clone, Copy)]
pub struct RoundEnd {
    pub timeout: Duration,
    pub max_bitrate: u64,
    pub codecs: Codecs,
    /// Time at which the open batch is to be written to players; `None` if there is nothing to write.
    pub flush_due: Option<Instant>,
    /// Time that a message may wait to be sent together with others; `None` without players: the first wakes the publisher.
    pub batch_window: Option<Duration>,
}

impl Source {
    /// Reserves the stream for the client, so that it can be checked before it publishes. Fails if the stream is reserved, or has
    /// a publisher that was not silent for the vhost's `stall_timeout`; one that was goes on until [`Reservation::publish`].
    pub fn reserve(&self, client: u64) -> Result<Reservation, StreamBusy> {
        self.with(|state| {
            if let Some(client) = state.reserved_by {
                return Err(StreamBusy { client });
            }
            state.check_replaceable()?;
            state.reserved_by = Some(client);
            Ok(Reservation { source: self.clone() })
        })
    }
}

impl Reservation {
    /// Makes the client the publisher, and tells the players. Fails if a publisher that had stalled is active again.
    pub fn publish(
        self,
        handle: Arc<dyn ClientHandle>,
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    ) -> Result<Publication, StreamBusy> {
        self.source.with(|state| {
            state.check_replaceable()?;
            if let Some(publisher) = &state.publisher {
                publisher.handle.close(CloseReason::Replaced { by: client.id });
                state.remove_publisher(EndReason::Replaced);
            }
            state.publication_count += 1;
            state.publication_start = state.log.next_seq();
            state.timeline.start_publication();
            let now = st::now();
            let resumed = state.announced.replace(stream.clone()).is_some();
            state.changes.push(Change::Published { stream: stream.clone(), client: client.clone(), resumed });
            state.publisher = Some(Publisher {
                stream,
                client,
                handle,
                last_read: now,
                last_activity: now,
                messages: 0,
                ingest: Box::new(IngestMeter::new(now)),
                codecs: Codecs::default(),
                codec_events: 0,
            });
            // Players that were not told of the loss of the last publisher are not told of the new one.
            if state.unpublish_at.take().is_none() {
                let _ = state.notify_players(PacketKind::Begin, "NetStream.Play.PublishNotify", "is now published");
            }
            Ok(Publication { source: self.source.clone(), number: state.publication_count })
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.try_with(|state| state.reserved_by = None);
    }
}

impl StreamState {
    fn check_replaceable(&self) -> Result<(), StreamBusy> {
        match &self.publisher {
            Some(publisher) if st::now().duration_since(publisher.last_activity) < self.vhost.publish.stall_timeout => {
                Err(StreamBusy { client: publisher.client.id })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn on_codecs_changed(&mut self) {
        let Some(publisher) = &mut self.publisher else { return };
        if publisher.codec_events < MAX_CODEC_EVENTS {
            publisher.codec_events += 1;
            let (stream, codecs) = (publisher.stream.clone(), publisher.codecs);
            self.changes.push(Change::CodecsKnown { stream, codecs });
        }
    }
}

impl Publication {
    /// Prefetches the stream.
    pub fn prefetch(&self) {
        self.source.prefetch();
    }

    /// Prefetches what the next message of the stream accesses beside it.
    pub fn prefetch_media(&self) {
        self.source.prefetch_media();
    }

    /// Prefetches the client of the first player, which is all that many streams have.
    pub fn prefetch_first_player(&self) {
        self.source.prefetch_first_player();
    }

    /// Records that input has arrived from the publisher, even if less than a message.
    pub fn record_read(&self, now: Instant) {
        self.with(|state| {
            if let Some(first) = state.first_subscriber() {
                first.client.prefetch();
            }
            if let Some(publisher) = &mut state.publisher {
                publisher.last_read = now;
            }
        });
    }

    /// Records that the publisher was sending media, even if less than a message.
    pub fn record_activity(&self, now: Instant) {
        self.with(|state| {
            if let Some(publisher) = &mut state.publisher {
                publisher.last_activity = now;
            }
        });
    }

    /// Appends an audio, video or data message. [`Publication::finish_round`] writes it to players. `arrived` is the
    /// earliest time at which it may have arrived, from which its waiting time counts.
    pub fn on_message(&self, message: &Message, arrived: Instant) {
        self.with(|state| state.on_message(message, arrived));
    }

    /// Ends a round of the publisher's coroutine: writes the open batch to players if its window has passed. `window_scale` gets
    /// whether messages may wait, and returns the part of an adaptive `mw_latency`, from 0 to 1, that they may.
    pub fn finish_round(&self, now: Instant, window_scale: impl FnOnce(bool) -> f64) -> RoundEnd {
        self.source.with(|state| {
            let vhost = &state.vhost;
            let window_scale = window_scale(!vhost.min_latency && !vhost.mw_latency.is_zero());
            let mut end = RoundEnd {
                timeout: vhost.publish.timeout,
                max_bitrate: vhost.publish.max_bitrate,
                codecs: Codecs::default(),
                flush_due: None,
                batch_window: None,
            };
            if !self.is_current(state) {
                return end;
            }
            end.codecs = state.publisher.as_ref().map(|publisher| publisher.codecs).unwrap_or_default();
            end.batch_window = (state.subscriber_count() > 0).then(|| state.batch_window(window_scale));
            end.flush_due = state.flush_due(now, window_scale);
            if end.flush_due.is_some_and(|due| due <= now) {
                end.flush_due = None;
                state.flush();
            } else {
                state.log.update_charge();
            }
            end
        })
    }

    pub fn codecs(&self) -> Codecs {
        self.with(|state| state.publisher.as_ref().map(|publisher| publisher.codecs)).flatten().unwrap_or_default()
    }

    /// Ends the publication at the publisher's request and tells the players at once.
    pub fn unpublish(&self) {
        self.with(|state| {
            state.remove_publisher(EndReason::Unpublished);
            state.notify_unpublished();
        });
    }

    pub fn more_tracks(&self) -> MoreTracks {
        let mut tracks = MoreTracks::default();
        self.with(|state| {
            for header in state.headers.iter() {
                match header.key {
                    HeaderKey::Video { track: 1.., color_info: false } => {
                        let tag = flv::read_video_header(&header.payload);
                        tracks.video.extend(tag.map(|tag| (tag.track, tag.codec)));
                    }
                    HeaderKey::Audio { track: 1.., channel_config: false } => {
                        let tag = flv::read_audio_header(&header.payload);
                        tracks.audio.extend(tag.map(|tag| (tag.track, tag.codec)));
                    }
                    _ => {}
                }
            }
        });
        tracks
    }

    /// Calls `f` if the publication is still the present one.
    fn with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> Option<R> {
        self.source.with(|state| self.is_current(state).then(|| f(state)))
    }

    pub(super) fn is_current(&self, state: &StreamState) -> bool {
        state.publisher.is_some() && state.publication_count == self.number
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.try_with(|state| {
            if self.is_current(state) {
                state.remove_publisher(EndReason::Lost);
            }
        });
    }
}
