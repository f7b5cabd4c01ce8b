//! The handle of a publisher's coroutine to its stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Publisher, StreamState};
use super::{ClientHandle, Source};
use crate::app::session::close::CloseReason;
use crate::codec::flv;
use crate::rtmp::message::Message;

/// Error: the stream already has a publisher.
#[derive(Debug, thiserror::Error)]
#[error("the stream is being published by client {client}")]
pub struct StreamBusy {
    /// Number of the publishing client.
    pub client: u64,
}

/// The right to publish a stream. Dropping it ends the publication; players stay, and are told after the vhost's
/// `reconnect_grace` unless there is a publisher by then.
pub struct Publication {
    source: Source,
    number: u64,
}

impl Source {
    /// Makes the client the publisher. Replaces a publisher that was silent for the vhost's `stall_timeout`.
    ///
    /// # Errors
    /// [`StreamBusy`] if the stream has another publisher.
    pub fn acquire_publish(&self, client: u64, handle: Arc<dyn ClientHandle>) -> Result<Publication, StreamBusy> {
        self.0.with(|state| {
            if let Some(publisher) = &state.publisher {
                if publisher.last_activity.elapsed() < state.vhost.publish.stall_timeout {
                    return Err(StreamBusy { client: publisher.client });
                }
                publisher.handle.close(CloseReason::Replaced { by: client });
                state.remove_publisher();
            }
            state.publication_count += 1;
            state.publication_start = state.log.next_seq();
            state.timeline.start_publication();
            state.publisher =
                Some(Publisher { client, handle, last_activity: Instant::now(), video: None, audio: None });
            // Players that were not told of the loss of the last publisher are not told of the new one.
            if state.unpublish_at.take().is_none() {
                let _ = state.notify_players("NetStream.Play.PublishNotify", "is now published");
            }
            Ok(Publication { source: self.clone(), number: state.publication_count })
        })
    }
}

impl Publication {
    /// Records that input has arrived from the publisher, even if less than a message.
    pub fn record_activity(&self, now: Instant) {
        self.with(|state| {
            if let Some(publisher) = &mut state.publisher {
                publisher.last_activity = now;
            }
        });
    }

    /// Returns how long a message may wait now to be sent together with others; `None` if there is no player. The first
    /// player wakes the publisher. `window_scale`: see [`Publication::flush_if_due`].
    pub fn batch_window(&self, window_scale: f64) -> Option<Duration> {
        self.with(|state| (state.player_count() > 0).then(|| state.batch_window(window_scale))).flatten()
    }

    /// Appends an audio, video or data message. [`Publication::flush_if_due`] writes it to players. `arrived` is the
    /// earliest time at which it may have arrived, from which its waiting time counts.
    pub fn on_message(&self, message: &Message, arrived: Instant) {
        self.with(|state| state.on_message(message, arrived));
    }

    /// Writes the open batch to players if its window has passed; if not, returns when that will be. `window_scale`,
    /// from 0 to 1, is the part of `mw_latency` that messages may wait if the vhost's window is adaptive.
    pub fn flush_if_due(&self, now: Instant, window_scale: f64) -> Option<Instant> {
        self.with(|state| {
            if state.player_count() == 0 {
                return None;
            }
            let due = state.log.batch_opened_at()? + state.batch_window(window_scale);
            if due > now {
                return Some(due);
            }
            state.flush();
            None
        })?
    }

    /// Returns how long the publisher may be silent before it is closed.
    pub fn timeout(&self) -> Duration {
        self.source.0.with(|state| state.vhost.publish.timeout)
    }

    /// Returns the vhost's bit rate limit for publishers, in kbit/s; 0 for no limit.
    pub fn max_bitrate(&self) -> u64 {
        self.source.0.with(|state| state.vhost.publish.max_bitrate)
    }

    /// Ends the publication at the publisher's request and tells the players at once.
    pub fn unpublish(&self) {
        self.with(|state| {
            state.remove_publisher();
            state.notify_unpublished();
        });
    }

    /// Returns the codecs of the video and audio received so far.
    pub fn codecs(&self) -> (Option<flv::VideoCodec>, Option<flv::AudioCodec>) {
        let codecs = self.with(|state| state.publisher.as_ref().map(|publisher| (publisher.video, publisher.audio)));
        codecs.flatten().unwrap_or_default()
    }

    /// Calls `f` if the publication is still the present one.
    fn with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> Option<R> {
        self.source.0.with(|state| self.is_current(state).then(|| f(state)))
    }

    pub(super) fn is_current(&self, state: &StreamState) -> bool {
        state.publisher.is_some() && state.publication_count == self.number
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.0.try_with(|state| {
            if self.is_current(state) {
                state.remove_publisher();
            }
        });
    }
}
