//! A client that plays.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Admitted, Connection, FAREWELL, close_reason, network};
use crate::app::limits::fairness::{self, Turn};
use crate::app::rtmp::write_queue::Batch;
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::Messages;
use crate::app::stream::Consumer;
use crate::rtmp::message::UserControl;
use crate::rtmp::protocol::MAX_ANSWERS;
use crate::rtmp::server::{Event, Play};
use crate::st;

/// How often a player that has nothing to say is pinged.
const PING: Duration = Duration::from_secs(30);

/// Reads in a row after which the player gets what it is owed.
const READS: usize = 4;

/// Bytes that the kernel takes for a player beyond those that are on their way.
const UNSENT: usize = 512 * 1024;

/// How often drops of one player are mentioned.
const MENTION: Duration = Duration::from_secs(5);

/// A player's stream.
struct Playing {
    consumer: Arc<Consumer>,
    stream_id: u32,
    /// What is to be written next: whole messages, except for what has been written of the first.
    batch: Batch,
    /// Bytes of answers among it.
    answers: usize,
    paused: bool,
    /// It has been level, and the depths of its handshake and commands are behind it.
    is_settled: bool,
    turn: Turn,
    /// Drops that the log knows of, and since when.
    mentioned: (u64, Instant),
}

/// What a player wants next.
enum Next {
    Go,
    /// There is more to be heard, when this is done.
    More,
    Stop,
    Play(Play),
}

impl Connection<'_> {
    /// Sends a stream until the client ends it in words. Returns what the client does instead, if that is known already.
    pub(super) fn playing(&mut self, admitted: &Admitted, play: &Play) -> Result<Option<Event>, CloseReason> {
        let request = match self.resolve(admitted, &play.name, false) {
            Ok(request) => request,
            Err(reason) => return Err(self.refuse(play.stream_id, "NetStream.Play.Failed", reason)),
        };
        let source = self.server.sources.get(&request.name, &request.vhost);
        log::info!("playing {}", request.name);
        // The stream may be of another vhost than the connection, or than what was played before.
        if source.chunk_size() != self.rtmp.protocol().chunk_size() {
            self.rtmp.protocol().set_chunk_size(source.chunk_size());
        }
        self.rtmp.start_play(play);
        self.rtmp.protocol().release_buffers();
        let stream = &self.client.stream;
        stream.set_time_limit(None);
        // Without it the kernel takes megabytes for who reads nothing, which are in no account.
        let _ = stream.set_unsent_limit(UNSENT);
        let consumer = Arc::new(source.join(self.client.clone(), play.stream_id));
        drop(source);
        self.client.plays(&consumer);
        consumer.receive_audio(self.wants_audio);
        consumer.receive_video(self.wants_video);
        let counted = consumer.clone();
        let _presence = self.client.enter(&self.server.play, move || {
            let stats = counted.stats();
            Messages { passed: stats.sent, dropped: stats.dropped }
        });
        let mut playing = Playing {
            consumer,
            stream_id: play.stream_id,
            batch: Batch::default(),
            answers: 0,
            paused: false,
            is_settled: false,
            turn: Turn::new(Instant::now(), fairness::work(self.rtmp.protocol())),
            mentioned: (0, Instant::now()),
        };
        self.client.set_stream_vhost(Some(&request.vhost));
        let next = self.send_media(&mut playing);
        self.client.set_stream_vhost(None);
        if let Some(reason) = self.client.told() {
            self.part_from_player(&mut playing, &reason);
        }
        let next = next?;
        self.rtmp.stop_play(play.stream_id);
        log::info!("no longer playing {}", request.name);
        Ok(next.map(Event::Play))
    }

    fn send_media(&mut self, playing: &mut Playing) -> Result<Option<Play>, CloseReason> {
        let stream = self.client.stream.clone();
        // What was said so far goes with the first of the media, in one write.
        self.speak(playing);
        self.fill(playing);
        let mut progress = Instant::now();
        loop {
            let told = self.client.told();
            // When the server stops there is time to get what is still there.
            let drains = matches!(told, Some(CloseReason::ServerStopped));
            if let Some(reason) = told.filter(|_| !drains) {
                return Err(reason);
            }
            let mut more = false;
            match self.hear_player(playing)? {
                Next::Go => {}
                Next::More => more = true,
                Next::Stop => return playing.finish(self).map(|()| None),
                Next::Play(play) => return playing.finish(self).map(|()| Some(play)),
            }
            let mut skips = false;
            if playing.batch.is_empty() {
                progress = Instant::now();
                // It was not listened to for these.
                more |= playing.answers > MAX_ANSWERS;
                playing.answers = 0;
                self.rtmp.protocol().owe(0);
                self.fill(playing);
                // What it does not want may be much, and is passed over in pieces.
                skips = playing.batch.is_empty() && playing.consumer.has_more();
                playing.mention_drops();
                if drains && playing.batch.is_empty() && !skips {
                    return Err(CloseReason::ServerStopped);
                }
            }
            let deadline = if playing.batch.is_empty() {
                playing.batch = Batch::default();
                if !playing.is_settled {
                    playing.is_settled = true;
                    st::trim_stack();
                }
                progress + PING
            } else {
                let written = stream.try_write_vectored(&playing.batch.slices()).map_err(|error| network(&error))?;
                if written > 0 {
                    playing.batch.advance(written);
                    progress = Instant::now();
                    stream.take_turns();
                    continue;
                }
                progress + self.send_timeout
            };
            if skips {
                st::yield_now();
            }
            if more || skips {
                let now = Instant::now();
                playing.turn.look(now, fairness::work(self.rtmp.protocol()), self.server.overload.much(), false);
                // It may say so much that nobody ever waits for it.
                if now >= deadline && !playing.batch.is_empty() {
                    return Err(CloseReason::NotReading);
                }
                continue;
            }
            let work = fairness::work(self.rtmp.protocol());
            playing.turn.look(Instant::now(), work, self.server.overload.much(), playing.consumer.stats().sent > 0);
            if stream.wait(Some(deadline)).timed_out {
                if !playing.batch.is_empty() {
                    return Err(CloseReason::NotReading);
                }
                self.rtmp
                    .protocol()
                    .user_control(UserControl::PingRequest(self.client.since.elapsed().as_millis() as u32));
                self.speak(playing);
            }
        }
    }

    /// Tells a player why its connection ends, behind what is being written to it.
    #[inline(never)] // Its buffer is not to be on the stack of a player that waits.
    fn part_from_player(&mut self, playing: &mut Playing, reason: &CloseReason) {
        let stream = &self.client.stream;
        stream.resume();
        stream.set_time_limit(Some(FAREWELL));
        if playing.finish(self).is_ok() {
            self.part(playing.stream_id, "NetStream.Play.Failed", reason);
        }
        self.has_parted = true;
    }

    /// Takes what the player is to get next.
    fn fill(&mut self, playing: &mut Playing) {
        let chunk_size = playing.consumer.fill(&mut playing.batch.0);
        // Answers come behind it.
        self.rtmp.protocol().assume_chunk_size(chunk_size);
    }

    /// Takes what the player says, and does it.
    fn hear_player(&mut self, playing: &mut Playing) -> Result<Next, CloseReason> {
        // One that does not take its answers is not asked for more to answer.
        let reads = if playing.answers > MAX_ANSWERS { 0 } else { READS };
        for _ in 0..reads {
            while self.rtmp.protocol().output_len() <= MAX_ANSWERS
                && let Some(event) = self.rtmp.poll_event().map_err(close_reason)?
            {
                self.take_turns();
                match event {
                    // What comes after the end is for whoever serves the connection then.
                    Event::Stop(id) if id == 0 || id == playing.stream_id => return Ok(Next::Stop),
                    Event::Play(play) => return Ok(Next::Play(play)),
                    Event::Publish(publish) => {
                        self.rtmp.refuse(publish.stream_id, "NetStream.Publish.Denied", "a player cannot publish");
                    }
                    Event::Pause(paused) if paused != playing.paused => {
                        playing.paused = paused;
                        playing.consumer.pause(paused);
                        self.rtmp.paused(playing.stream_id, paused);
                    }
                    Event::ReceiveAudio(wanted) => {
                        self.wants_audio = wanted;
                        playing.consumer.receive_audio(wanted);
                    }
                    Event::ReceiveVideo(wanted) => {
                        self.wants_video = wanted;
                        playing.consumer.receive_video(wanted);
                    }
                    _ => {}
                }
            }
            if self.rtmp.protocol().output_len() > MAX_ANSWERS {
                break;
            }
            let Some(fed) = self.feed().map_err(|error| network(&error))? else {
                self.speak(playing);
                return Ok(Next::Go);
            };
            fed.map_err(close_reason)?;
            self.client.stream.take_turns();
            self.take_turns();
        }
        self.speak(playing);
        Ok(if playing.answers > MAX_ANSWERS { Next::Go } else { Next::More })
    }

    /// Puts answers to the player behind what is being written to it.
    fn speak(&mut self, playing: &mut Playing) {
        if self.rtmp.protocol().has_output() {
            playing.consumer.hold(&mut playing.batch.0);
            let answers = self.rtmp.protocol().take_output();
            playing.answers += answers.len();
            self.rtmp.protocol().owe(playing.answers);
            playing.batch.push(answers);
        }
    }
}

impl Playing {
    /// Writes what was begun, so that the connection can be used for something else.
    fn finish(&mut self, connection: &mut Connection<'_>) -> Result<(), CloseReason> {
        self.consumer.pause(true);
        self.consumer.hold(&mut self.batch.0);
        let mut stream = &connection.client.stream;
        while !self.batch.is_empty() || self.consumer.go_on(&mut self.batch.0) {
            for piece in self.batch.0.drain(..) {
                stream.write_all(&piece).map_err(|error| network(&error))?;
            }
        }
        connection.rtmp.protocol().owe(0);
        Ok(())
    }

    fn mention_drops(&mut self) {
        let (known, since) = self.mentioned;
        let dropped = self.consumer.stats().dropped;
        if dropped > known && (known == 0 || since.elapsed() >= MENTION) {
            log::warn!("too slow: {} messages dropped, {dropped} in all; goes on at a keyframe", dropped - known);
            self.mentioned = (dropped, Instant::now());
        }
    }
}
