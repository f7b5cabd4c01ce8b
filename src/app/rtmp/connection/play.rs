//! Serves a client that plays: writes batches of the stream, and replies to its commands.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Admitted, Connection, close_reason, io_close_reason};
use crate::app::limits::fairness::{self, PriorityController};
use crate::app::rtmp::write_queue::WriteQueue;
use crate::app::rtmp::{CLOSE_TIMEOUT, READS_PER_TURN};
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::MessageCounts;
use crate::app::stream::Consumer;
use crate::log::Throttle;
use crate::rtmp::message::UserControl;
use crate::rtmp::protocol::MAX_PENDING_REPLIES;
use crate::rtmp::server::{Event, Play};
use crate::st;

/// Time between pings to a player while there is nothing to send.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes that the kernel buffers for a player in addition to those in flight.
const MAX_UNSENT: usize = 512 * 1024;

const DROP_LOG_INTERVAL: Duration = Duration::from_secs(5);

struct PlayState<'a> {
    consumer: Arc<Consumer>,
    name: &'a str,
    stream_id: u32,
    queue: WriteQueue,
    queued_replies: usize,
    paused: bool,
    stack_trimmed: bool,
    priority: PriorityController,
    logged_drops: u64,
    drop_log: Throttle,
}

enum Input {
    /// Nothing more to read, or too many replies are queued to read more.
    Drained,
    Pending,
    Stop,
    Play(Play),
}

impl Connection<'_> {
    /// Sends a stream until the client ends the playback. Returns the client's next event, if it is known already.
    pub(super) fn serve_player(&mut self, admitted: &Admitted, play: &Play) -> Result<Option<Event>, CloseReason> {
        let request = match self.resolve(admitted, &play.name, false) {
            Ok(request) => request,
            Err(reason) => return Err(self.refuse(play.stream_id, "NetStream.Play.Failed", reason)),
        };
        let source = self.server.sources.get_or_create(&request.name, &request.vhost);
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
        let consumer = Arc::new(source.join(self.client.clone(), play.stream_id));
        drop(source);
        self.client.set_consumer(&consumer);
        consumer.receive_audio(self.wants_audio);
        consumer.receive_video(self.wants_video);
        let counted = consumer.clone();
        let _registration = self.client.register(&self.server.play_stats, move || {
            let stats = counted.stats();
            MessageCounts { passed: stats.sent, dropped: stats.dropped }
        });
        let mut state = PlayState {
            consumer,
            name: &request.name,
            stream_id: play.stream_id,
            queue: WriteQueue::default(),
            queued_replies: 0,
            paused: false,
            stack_trimmed: false,
            priority: PriorityController::new(Instant::now(), fairness::work_units(self.rtmp.protocol())),
            logged_drops: 0,
            drop_log: Throttle::new(DROP_LOG_INTERVAL),
        };
        self.client.set_stream_vhost(Some(&request.vhost));
        let next = self.send_media(&mut state);
        self.client.set_stream_vhost(None);
        if let Some(reason) = self.client.close_requested() {
            self.send_player_close_status(&mut state, &reason);
        }
        let next = next?;
        self.rtmp.stop_play(play.stream_id);
        log::info!("play stopped: stream={}", request.name);
        Ok(next.map(Event::Play))
    }

    fn send_media(&mut self, state: &mut PlayState<'_>) -> Result<Option<Play>, CloseReason> {
        let stream = self.client.stream.clone();
        // The replies to `play` and the first media go out in one write.
        self.queue_replies(state);
        self.fill(state);
        let mut last_progress = Instant::now();
        loop {
            let close_requested = self.client.close_requested();
            // When the server stops, the player still gets what the stream has for it.
            let draining = matches!(close_requested, Some(CloseReason::ServerStopped));
            if let Some(reason) = close_requested.filter(|_| !draining) {
                return Err(reason);
            }
            let mut input_pending = false;
            match self.read_player_input(state)? {
                Input::Drained => {}
                Input::Pending => input_pending = true,
                Input::Stop => return state.finish(self).map(|()| None),
                Input::Play(play) => return state.finish(self).map(|()| Some(play)),
            }
            let mut skipping = false;
            if state.queue.is_empty() {
                last_progress = Instant::now();
                // Above the limit, no input was read.
                input_pending |= state.queued_replies > MAX_PENDING_REPLIES;
                state.queued_replies = 0;
                self.rtmp.protocol().set_in_flight_replies(0);
                self.fill(state);
                // A player that receives neither audio nor video skips many messages, a part of them in each call.
                skipping = state.queue.is_empty() && state.consumer.has_more();
                state.log_drops();
                if draining && state.queue.is_empty() && !skipping {
                    return Err(CloseReason::ServerStopped);
                }
            }
            let deadline = if state.queue.is_empty() {
                state.queue = WriteQueue::default();
                if !state.stack_trimmed {
                    state.stack_trimmed = true;
                    st::trim_stack();
                }
                last_progress + PING_INTERVAL
            } else {
                let written =
                    stream.try_write_vectored(&state.queue.slices()).map_err(|error| io_close_reason(&error))?;
                if written > 0 {
                    state.queue.advance(written);
                    last_progress = Instant::now();
                    stream.yield_if_busy();
                    continue;
                }
                last_progress + self.send_timeout
            };
            if skipping {
                st::yield_now();
            }
            let now = Instant::now();
            let work = fairness::work_units(self.rtmp.protocol());
            let busy = input_pending || skipping;
            let has_media = !busy && state.consumer.stats().sent > 0;
            state.priority.update(now, work, self.server.load_shedder.work_budget(), has_media);
            if busy {
                // Checked here because a player that never stops sending never gets to the wait below.
                if now >= deadline && !state.queue.is_empty() {
                    return Err(CloseReason::NotReading);
                }
                continue;
            }
            if stream.wait(Some(deadline)).timed_out {
                if !state.queue.is_empty() {
                    return Err(CloseReason::NotReading);
                }
                let uptime = self.client.connected_at.elapsed().as_millis() as u32;
                self.rtmp.protocol().user_control(UserControl::PingRequest(uptime));
                self.queue_replies(state);
            }
        }
    }

    /// Finishes the message that is being written, and sends the reason of the close after it.
    #[inline(never)] // Keeps its buffer off the stack of a waiting player.
    fn send_player_close_status(&mut self, state: &mut PlayState<'_>, reason: &CloseReason) {
        let stream = &self.client.stream;
        stream.resume();
        stream.set_time_limit(Some(CLOSE_TIMEOUT));
        if state.finish(self).is_ok() {
            self.send_close_status(state.stream_id, "NetStream.Play.Failed", reason);
        }
        self.close_status_sent = true;
    }

    fn fill(&mut self, state: &mut PlayState<'_>) {
        let chunk_size = state.consumer.fill(&mut state.queue.0);
        // Replies come after these messages and use the same chunk size.
        self.rtmp.protocol().assume_chunk_size(chunk_size);
    }

    /// Reads and handles the player's commands, up to [`READS_PER_TURN`] reads, and queues the replies.
    fn read_player_input(&mut self, state: &mut PlayState<'_>) -> Result<Input, CloseReason> {
        // A player that does not read its replies causes no more of them.
        let reads = if state.queued_replies > MAX_PENDING_REPLIES { 0 } else { READS_PER_TURN };
        for _ in 0..reads {
            while self.rtmp.protocol().output_len() <= MAX_PENDING_REPLIES
                && let Some(event) = self.rtmp.poll_event().map_err(close_reason)?
            {
                self.yield_if_used_up();
                match event {
                    // Later events belong to whatever serves the connection next.
                    Event::Stop(id) if id == 0 || id == state.stream_id => return Ok(Input::Stop),
                    Event::Play(play) => return Ok(Input::Play(play)),
                    Event::Publish(publish) => {
                        let why = "a connection that plays cannot publish";
                        self.rtmp.send_stream_error(publish.stream_id, "NetStream.Publish.Denied", why);
                    }
                    Event::Pause(paused) if paused != state.paused => {
                        state.paused = paused;
                        state.consumer.pause(paused);
                        self.rtmp.send_pause_status(state.stream_id, paused);
                    }
                    Event::ReceiveAudio(wanted) => {
                        self.wants_audio = wanted;
                        state.consumer.receive_audio(wanted);
                    }
                    Event::ReceiveVideo(wanted) => {
                        self.wants_video = wanted;
                        state.consumer.receive_video(wanted);
                    }
                    _ => {}
                }
            }
            if self.rtmp.protocol().output_len() > MAX_PENDING_REPLIES {
                break;
            }
            let Some(fed) = self.read_socket().map_err(|error| io_close_reason(&error))? else {
                self.queue_replies(state);
                return Ok(Input::Drained);
            };
            fed.map_err(close_reason)?;
            self.client.stream.yield_if_busy();
            self.yield_if_used_up();
        }
        self.queue_replies(state);
        Ok(if state.queued_replies > MAX_PENDING_REPLIES { Input::Drained } else { Input::Pending })
    }

    /// Moves the protocol's replies to the end of the write queue.
    fn queue_replies(&mut self, state: &mut PlayState<'_>) {
        if self.rtmp.protocol().has_output() {
            state.consumer.detach(&mut state.queue.0);
            let replies = self.rtmp.protocol().take_output();
            state.queued_replies += replies.len();
            self.rtmp.protocol().set_in_flight_replies(state.queued_replies);
            state.queue.push(replies);
        }
    }
}

impl PlayState<'_> {
    /// Writes the rest of the message that is partly written, so that other messages can follow.
    fn finish(&mut self, connection: &mut Connection<'_>) -> Result<(), CloseReason> {
        self.consumer.pause(true);
        self.consumer.detach(&mut self.queue.0);
        let mut stream = &connection.client.stream;
        while !self.queue.is_empty() || self.consumer.continue_partial(&mut self.queue.0) {
            for piece in self.queue.0.drain(..) {
                stream.write_all(&piece).map_err(|error| io_close_reason(&error))?;
            }
        }
        connection.rtmp.protocol().set_in_flight_replies(0);
        Ok(())
    }

    fn log_drops(&mut self) {
        let total = self.consumer.stats().dropped;
        if total > self.logged_drops && self.drop_log.pass(Instant::now()) {
            let dropped = total - self.logged_drops;
            log::warn!("player too slow, messages dropped: stream={} dropped={dropped} total={total}", self.name);
            self.logged_drops = total;
        }
    }
}
