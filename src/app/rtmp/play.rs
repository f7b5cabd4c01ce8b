//! Serves a client that plays: sends batches of the stream, and replies to its commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::events::GateAction;
use crate::app::rtmp::connection::{Admitted, Connection, ask_immediate};
use crate::app::rtmp::pump::{Handled, Next, Pump, Role, Round};
use crate::app::session::close::CloseReason;
use crate::app::session::info::StreamInfo;
use crate::app::stats::reporter::{MessageCounts, Registration};
use crate::app::stream::Consumer;
use crate::log::Throttle;
use crate::rtmp::message::UserControl;
use crate::rtmp::protocol::Protocol;
use crate::rtmp::server::{Event, Play};
use crate::st::{self, net::TcpStream};

const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes that the kernel buffers for a player in addition to those in flight.
const MAX_UNSENT: usize = 512 * 1024;

const DROP_LOG_INTERVAL: Duration = Duration::from_secs(5);

struct PlayerRole<'a, 'c> {
    connection: &'a mut Connection<'c>,
    consumer: &'a Consumer,
    name: &'a str,
    stream_id: u32,
    paused: bool,
    /// The server stops, and the player gets the rest of the stream.
    draining: bool,
    logged_drops: u64,
    drop_log: Throttle,
}

struct Playback {
    consumer: Arc<Consumer>,
    info: Arc<StreamInfo>,
    stream_id: u32,
    _registration: Option<Registration>,
}

impl Connection<'_> {
    /// Sends a stream until the client ends the playback. Returns the client's next `play`, if that ended it.
    pub(super) fn serve_player(&mut self, admitted: &Admitted, play: &Play) -> Result<Option<Play>, CloseReason> {
        let playback = self.start_playback(admitted, play)?;
        let (protocol, consumer) = (self.rtmp.protocol(), &*playback.consumer);
        let mut pump = Pump::new(protocol, Some(consumer), &self.ctx.admission, self.send_timeout);
        let result = pump.run(&mut PlayerRole {
            connection: self,
            consumer,
            name: &playback.info.name,
            stream_id: playback.stream_id,
            paused: false,
            draining: false,
            logged_drops: 0,
            drop_log: Throttle::new(DROP_LOG_INTERVAL),
        });
        self.end_playback(&playback, &mut pump, result)
    }

    /// Accepts a `play`, or refuses it: checks it, queues the replies, and joins the stream.
    #[inline(never)] // Keeps its locals off the stack of a waiting player.
    fn start_playback(&mut self, admitted: &Admitted, play: &Play) -> Result<Playback, CloseReason> {
        let (stream_id, refused) = (play.stream_id, "NetStream.Play.Failed");
        let request = match self.resolve(admitted, &play.name) {
            Ok(request) => request,
            Err(reason) => return Err(self.refuse(stream_id, refused, reason)),
        };
        let passed = ask_immediate(self.ctx, GateAction::Play, admitted, request).and_then(|passed| {
            let granted = self.ask_blocking_gates(&passed.gate_request)?;
            passed.rename(self.ctx, granted)
        });
        let (request, info) = match passed {
            Ok(passed) => (passed.request, passed.info),
            Err(reason) => return Err(self.refuse(stream_id, refused, reason)),
        };
        let source = self.ctx.streams.get_or_create(&request.name, &request.vhost);
        // Most players name the stream as its publisher does: theirs is the publisher's description, without one of their own.
        let info = source.published_stream().filter(|published| *published == info).unwrap_or(info);
        log::info!("play started: stream={}", request.name);
        // The stream's vhost can differ from the connection's, and from that of the playback before.
        if source.chunk_size() != self.rtmp.protocol().chunk_size() {
            self.rtmp.protocol().set_chunk_size(source.chunk_size());
        }
        self.rtmp.start_play(play);
        self.rtmp.protocol().release_buffers();
        let stream = &self.client.stream;
        stream.set_time_limit(None);
        // Without the limit, the kernel buffers uncounted megabytes for a player that does not read.
        let _ = stream.set_unsent_limit(MAX_UNSENT);
        let consumer = source.join(self.client.clone(), stream_id, info.clone(), admitted.info.clone());
        let consumer = Arc::new(consumer);
        self.client.set_consumer(&consumer, &info);
        consumer.receive_audio(self.wants_audio);
        consumer.receive_video(self.wants_video);
        let counted = consumer.clone();
        let count = move || {
            let stats = counted.stats();
            MessageCounts { passed: stats.sent, dropped: stats.dropped }
        };
        let is_viewer = admitted.info.engine.is_none();
        let _registration = is_viewer.then(|| self.client.register(&self.ctx.stats.play, count));
        self.client.set_stream_vhost(Some(&request.vhost));
        Ok(Playback { consumer, info, stream_id, _registration })
    }

    /// Finishes the message that is being written, and tells the client of the end.
    #[inline(never)] // As `start_playback`.
    fn end_playback(
        &mut self,
        playback: &Playback,
        pump: &mut Pump<'_>,
        result: Result<Option<Play>, CloseReason>,
    ) -> Result<Option<Play>, CloseReason> {
        self.client.set_stream_vhost(None);
        playback.consumer.pause(true);
        let result = result.and_then(|next| {
            pump.finish(self.rtmp.protocol())?;
            Ok(next)
        });
        if let Some(reason) = self.client.close_requested() {
            self.rtmp.protocol().user_control(UserControl::StreamEof(playback.stream_id));
            self.close_stream(pump, playback.stream_id, "NetStream.Play.Failed", &reason);
        }
        let next = result?;
        self.rtmp.stop_play(playback.stream_id);
        log::info!("play stopped: stream={}", playback.info.name);
        Ok(next)
    }
}

impl Role for PlayerRole<'_, '_> {
    type End = Option<Play>;
    type Error = CloseReason;

    fn not_reading() -> CloseReason {
        CloseReason::NotReading
    }

    fn protocol(&mut self) -> &mut Protocol<TcpStream> {
        self.connection.rtmp.protocol()
    }

    fn start_round(&mut self, _: Instant) -> Result<Option<Self::End>, CloseReason> {
        match self.connection.client.close_requested() {
            None => Ok(None),
            Some(CloseReason::ServerStopped) => {
                self.draining = true;
                Ok(None)
            }
            Some(reason) => Err(reason),
        }
    }

    fn handle_next(&mut self) -> Result<Handled<Self::End>, CloseReason> {
        let rtmp = &mut self.connection.rtmp;
        let Some(event) = rtmp.poll_event()? else { return Ok(Handled::NoMessage) };
        match event {
            Event::Stop(id) if id == 0 || id == self.stream_id => return Ok(Handled::End(None)),
            Event::Play(play) => return Ok(Handled::End(Some(play))),
            Event::Publish(publish) => {
                let why = "a connection that plays cannot publish";
                rtmp.send_stream_error(publish.stream_id, "NetStream.Publish.Denied", why);
            }
            Event::Pause(paused) if paused != self.paused => {
                self.paused = paused;
                self.consumer.pause(paused);
                rtmp.send_pause_status(self.stream_id, paused);
            }
            Event::ReceiveAudio(wanted) => {
                self.connection.wants_audio = wanted;
                self.consumer.receive_audio(wanted);
            }
            Event::ReceiveVideo(wanted) => {
                self.connection.wants_video = wanted;
                self.consumer.receive_video(wanted);
            }
            _ => {}
        }
        Ok(Handled::Message)
    }

    fn finish_round(&mut self, round: &Round) -> Result<Next<Self::End>, CloseReason> {
        self.log_drops(round.now);
        if self.draining && round.all_sent {
            return Err(CloseReason::ServerStopped);
        }
        Ok(Next::Wait(round.all_sent.then(|| round.now + PING_INTERVAL)))
    }

    fn on_deadline(&mut self) {
        let uptime = st::now().duration_since(self.connection.client.connected_at).as_millis() as u32;
        self.protocol().user_control(UserControl::PingRequest(uptime));
    }

    fn has_media(&self, is_busy: bool) -> bool {
        !is_busy && self.consumer.stats().sent > 0
    }
}

impl PlayerRole<'_, '_> {
    fn log_drops(&mut self, now: Instant) {
        let total = self.consumer.stats().dropped;
        if total > self.logged_drops && self.drop_log.pass(now) {
            let dropped = total - self.logged_drops;
            log::warn!("player too slow, messages dropped: stream={} dropped={dropped} total={total}", self.name);
            self.logged_drops = total;
        }
    }
}
