//! What a publisher's coroutine has in hand of its source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Publisher, State};
use super::{Outlet, Source};
use crate::app::session::close::CloseReason;
use crate::codec::flv;
use crate::rtmp::message::Message;

/// The name of a stream is taken.
#[derive(Debug, thiserror::Error)]
#[error("the stream is being published by client {by}")]
pub struct Busy {
    /// Who publishes it.
    pub by: u64,
}

/// The right to publish a stream. Dropping it ends the publication; players that stay are told after the vhost's
/// `reconnect_grace`, unless a publisher is there by then.
pub struct Publication {
    source: Source,
    number: u64,
}

impl Source {
    /// Claims the stream for a publisher. One that has been silent for the vhost's `stall_timeout` loses it to the new one.
    ///
    /// # Errors
    /// [`Busy`] when it is being published.
    pub fn acquire_publish(&self, client: u64, outlet: Arc<dyn Outlet>) -> Result<Publication, Busy> {
        self.0.with(|state| {
            if let Some(publisher) = &state.publisher {
                if publisher.heard.elapsed() < state.vhost.publish.stall_timeout {
                    return Err(Busy { by: publisher.client });
                }
                publisher.outlet.close(CloseReason::Replaced { by: client });
                state.lose_publisher();
            }
            state.publications += 1;
            state.begun = state.backlog.next();
            state.timeline.begin_publication();
            state.publisher = Some(Publisher { client, outlet, heard: Instant::now(), video: None, audio: None });
            if state.tell_loss.take().is_none() {
                // Else they know when it has its first message.
                let _ = state.notify("NetStream.Play.PublishNotify", "is now published");
            }
            Ok(Publication { source: self.clone(), number: state.publications })
        })
    }
}

impl Publication {
    /// Whether the stream is still this publisher's.
    pub fn is_current(&self) -> bool {
        self.source.0.with(|state| self.holds(state))
    }

    /// Notes that something has arrived of the publisher, be it less than a message.
    pub fn heard(&self, now: Instant) {
        self.with(|state| {
            if let Some(publisher) = &mut state.publisher {
                publisher.heard = now;
            }
        });
    }

    /// How long a message may wait now for others, if anybody plays the stream. When the first player comes, the publisher is woken.
    /// `opening`: see [`Publication::flush_due`].
    pub fn window(&self, opening: f64) -> Option<Duration> {
        self.with(|state| (state.playing > 0).then(|| state.window(opening))).flatten()
    }

    /// Takes a message of the publisher: audio, video or data. Nothing is written yet, see [`Publication::flush_due`].
    /// `arrived` is when that may have been at the earliest: from then on it has waited.
    pub fn on_message(&self, message: &Message, arrived: Instant) {
        self.with(|state| state.on_message(message, arrived));
    }

    /// Offers what has come to the players, if there are any and it is time for that. If it is not, returns when it is.
    /// `opening` is how much of `mw_latency` they may wait where it adapts, from 0 to 1.
    pub fn flush_due(&self, now: Instant, opening: f64) -> Option<Instant> {
        self.with(|state| {
            if state.playing == 0 {
                return None;
            }
            let due = state.backlog.opened()? + state.window(opening);
            if due > now {
                return Some(due);
            }
            state.flush();
            None
        })?
    }

    /// How long the publisher may be silent before it is to be closed.
    pub fn timeout(&self) -> Duration {
        self.source.0.with(|state| state.vhost.publish.timeout)
    }

    /// What the vhost lets a publisher send, in kbit/s; 0 for no limit.
    pub fn max_bitrate(&self) -> u64 {
        self.source.0.with(|state| state.vhost.publish.max_bitrate)
    }

    /// Ends the publication, as its publisher said: players are told at once.
    pub fn end(&self) {
        self.with(|state| {
            state.lose_publisher();
            state.notify_unpublished();
        });
    }

    /// The codecs of video and audio that the publisher sends, as far as it has sent any.
    pub fn codecs(&self) -> (Option<flv::VideoCodec>, Option<flv::AudioCodec>) {
        let codecs = self.with(|state| state.publisher.as_ref().map(|publisher| (publisher.video, publisher.audio)));
        codecs.flatten().unwrap_or_default()
    }

    /// Ends the publication, as dropping it does, when nobody is left to drop it: its coroutine overflowed its stack.
    pub fn abandon(&self) {
        self.source.0.try_with(|state| {
            state.abandoned += 1;
            self.leave(state);
        });
    }

    fn leave(&self, state: &mut State) {
        if self.holds(state) {
            state.lose_publisher();
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.source.0.with(|state| self.holds(state).then(|| f(state)))
    }

    fn holds(&self, state: &State) -> bool {
        state.publisher.is_some() && state.publications == self.number
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.0.try_with(|state| self.leave(state));
    }
}
