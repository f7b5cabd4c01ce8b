//! A stream: one publisher, any number of players, and what is between them.
//!
//! A message of the publisher is put on the source's timeline, encoded once into its [`backlog`], and offered to the players
//! that are level, in one loop that writes to each socket without blocking. What a socket does not take, and all that is
//! particular to one player (joining, falling behind, pausing), is the business of that player's own coroutine, which asks
//! for it by [`Consumer::fill`]. So the work done for a message does not grow with the number of players; only the writes do.
//!
//! | file | what is there |
//! |---|---|
//! | here | a [`Source`], as the rest of the server sees it; what it writes to ([`Outlet`], [`Sink`]) |
//! | [`registry`] | all sources, by name |
//! | [`publication`], [`consumer`] | what the coroutines of a publisher and of a player hold of a source |
//! | [`state`] | what a source consists of: who is here, and what is kept for whom |
//! | [`incoming`] | a message of the publisher, on its way into the backlog |
//! | [`timeline`], [`backlog`] | its time, corrected; its bytes, encoded |
//! | [`configs`] | what a player needs before media |
//! | [`player`] | what a player gets next |
//! | [`shedding`] | what is given up when memory is short |

mod backlog;
mod configs;
mod consumer;
mod incoming;
mod player;
mod publication;
mod registry;
mod shedding;
mod state;
mod stretched;
mod timeline;
mod track;

pub use consumer::{Begin, Consumer, ConsumerStats};
pub use publication::{Busy, Publication};
pub use registry::Sources;
pub use shedding::Holding;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::configs::{Config, ConfigKey};
use self::state::State;
use crate::app::session::close::CloseReason;
use crate::codec::flv;
use crate::config::Vhost;
use crate::memory::Account;
use crate::st::Shared;

/// Where a client's bytes go, and how it is reached by others.
pub trait Outlet: Send + Sync {
    /// Writes what fits, without blocking. 0: no room now.
    ///
    /// # Errors
    /// When the connection has failed.
    fn offer(&self, bytes: &[u8]) -> io::Result<usize>;
    /// [`offer`](Self::offer) comes next: has the processor fetch what it will look at.
    fn anticipate(&self) {}
    /// Has the client's coroutine look after itself.
    fn wake(&self);
    /// Ends the connection, for this reason.
    fn close(&self, reason: CloseReason);
}

/// Takes what a publisher sends, at times that have been corrected: milliseconds since the source began, which do not run
/// backwards within a track. It is called for each message, so it must not wait for anything. Dropping it ends it.
pub trait Sink: Send + Sync {
    /// A message of video whose header is `tag`.
    fn on_video(&mut self, time: u64, tag: &flv::VideoTag, payload: &Bytes);
    /// A message of audio whose header is `tag`.
    fn on_audio(&mut self, time: u64, tag: &flv::AudioTag, payload: &Bytes);
    /// The vhost's configuration has changed. Whether the sink goes on with it; if not, there is to be another.
    fn reconfigure(&mut self, vhost: &Vhost) -> bool;
    /// What takes its place; `next` is where the stream is to go, if anywhere. It is asked for when this one has ended, unless the two
    /// are to overlap.
    fn succeed(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Sink>>) -> Option<Box<dyn Sink>> {
        drop(self);
        next()
    }
}

/// A stream. Clones are the same stream.
#[derive(Clone)]
pub struct Source(Shared<State>);

/// A stream that is being published.
#[derive(Debug, Clone)]
pub struct Published {
    /// vhost/app/stream.
    pub name: String,
    /// What is in it, as far as anything has come.
    pub video: Option<flv::VideoCodec>,
    /// The same.
    pub audio: Option<flv::AudioCodec>,
    /// How many play it over RTMP.
    pub players: usize,
}

impl Source {
    /// A stream that nobody publishes or plays. What it holds counts in `whole`.
    pub fn new(name: &str, vhost: Arc<Vhost>, whole: &Account) -> Self {
        Self(Shared::new(State::new(name, vhost, Account::within(whole))))
    }

    /// The name of the vhost that it belongs to.
    pub fn vhost_name(&self) -> String {
        self.0.with(|state| state.vhost.name.clone())
    }

    /// Puts other settings in force, of the same vhost. They count from the next message on, also for those who publish or play
    /// now: players are told of another `chunk_size` within the stream, where it changes.
    pub fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.0.with(|state| {
            if vhost.chunk_size != state.backlog.chunk_size() {
                state.flush();
                state.backlog.set_chunk_size(vhost.chunk_size);
            }
            state.vhost = vhost.clone();
        });
    }

    /// The size of the chunks that players who join now have to know of first.
    pub fn chunk_size(&self) -> usize {
        self.0.with(|state| state.backlog.chunk_size())
    }

    /// Adds a player. It begins with what it needs to decode, at the last keyframe if the vhost's `gop_cache` is on, else with
    /// what comes next. `stream_id` is the message stream that it plays on.
    pub fn join(&self, outlet: Arc<dyn Outlet>, stream_id: u32) -> Consumer {
        self.0.with(|state| {
            state.expect_player();
            let player = state.new_player(outlet, stream_id);
            Consumer::new(self.clone(), state.add_player(player))
        })
    }

    /// Adds a forwarder: a player that publishes the stream elsewhere. It is on hold until [`Consumer::begin`]; what is published
    /// from now on is kept for it, as for any player. It gets the stream as a publisher sends it, up to the end that players are
    /// told of; then [`Consumer::is_over`], and its outlet is woken whatever it does.
    pub fn join_forwarder(&self, outlet: Arc<dyn Outlet>) -> Consumer {
        self.0.with(|state| {
            state.expect_player();
            let player = state.new_player(outlet, 0).into_forwarder();
            Consumer::new(self.clone(), state.add_player(player))
        })
    }

    /// Whether the stream is published, or its publisher was lost and may come back before players are told.
    pub fn is_live(&self) -> bool {
        self.0.with(|state| state.publisher.is_some() || state.tell_loss.is_some())
    }

    /// What is held for the stream.
    pub fn account(&self) -> Account {
        self.0.with(|state| state.account.clone())
    }

    /// The name of the stream: vhost/app/stream.
    pub fn name(&self) -> String {
        self.0.with(|state| state.name.clone())
    }

    /// What it is, if somebody publishes it.
    fn published(&self) -> Option<Published> {
        self.0.with(|state| {
            let publisher = state.publisher.as_ref()?;
            Some(Published {
                name: state.name.clone(),
                video: publisher.video,
                audio: publisher.audio,
                players: state.players.iter().flatten().filter(|player| !player.is_forwarder).count(),
            })
        })
    }

    /// Ends whatever publication there is, and tells the players, also of one that was lost and may yet come back.
    fn end(&self) {
        self.0.with(|state| {
            let is_lost = state.tell_loss.is_some();
            if state.publisher.is_some() {
                state.lose_publisher();
            } else if !is_lost {
                return;
            }
            state.notify_unpublished();
        });
    }

    /// Changes where the messages of the present publisher go beside the players: `change` gets the stream's name, the publisher,
    /// and what is there. What is there afterwards is told the sequence headers so far, be it for the second time.
    pub fn change_sink(&self, change: impl FnOnce(&str, Arc<dyn Outlet>, &mut Option<Box<dyn Sink>>)) {
        self.0.with(|state| {
            let Some(publisher) = &state.publisher else { return };
            change(&state.name, publisher.outlet.clone(), &mut state.sink);
            let Some(sink) = &mut state.sink else { return };
            for Config { key, payload, .. } in state.configs.iter() {
                match key {
                    ConfigKey::Video { .. } => {
                        if let Some(tag) = flv::video(payload) {
                            sink.on_video(state.timeline.latest(), &tag, payload);
                        }
                    }
                    ConfigKey::Audio { .. } => {
                        if let Some(tag) = flv::audio(payload) {
                            sink.on_audio(state.timeline.latest(), &tag, payload);
                        }
                    }
                    ConfigKey::Metadata => {}
                }
            }
        });
    }

    /// Tells the players that the publisher is lost, if it is time for that.
    fn tell_loss_due(&self, now: Instant) {
        self.0.with(|state| {
            if state.tell_loss.is_some_and(|due| due <= now) {
                state.notify_unpublished();
            }
        });
    }

    /// Whether neither publisher nor player has been here for `time`, and nobody else holds the source. One that was never
    /// published has nothing that is worth keeping.
    fn is_idle_for(&self, time: Duration) -> bool {
        let long = |state: &State| state.publications == 0 || state.idle_since.elapsed() >= time;
        self.0.with(|state| self.0.holders() == 1 + state.abandoned && state.is_idle() && long(state))
    }
}

#[cfg(test)]
mod tests;
