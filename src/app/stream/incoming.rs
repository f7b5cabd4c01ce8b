//! What a publisher sends: each message gets its place on the timeline and in the backlog; what joining players need is kept.

use std::time::Instant;

use bytes::Bytes;

use super::backlog::Mark;
use super::configs::{CLEAR_DATA_FRAME, ConfigKey, ON_META_DATA, SET_DATA_FRAME};
use super::state::State;
use super::track::Track;
use crate::codec::flv;
use crate::rtmp::command::without_amf3_marker;
use crate::rtmp::message::{Message, MessageType};

impl State {
    /// Takes a message of the publisher.
    pub(super) fn on_message(&mut self, message: &Message, arrived: Instant) {
        if let Some(publisher) = &mut self.publisher {
            publisher.heard = publisher.heard.max(arrived);
        }
        match message.kind {
            MessageType::AUDIO => self.on_audio(message, arrived),
            MessageType::VIDEO => self.on_video(message, arrived),
            MessageType::DATA | MessageType::DATA_AMF3 => self.on_data(message, arrived),
            _ => {}
        }
        if self.backlog.is_full(self.playing > 0) {
            self.flush();
        }
    }

    fn on_audio(&mut self, message: &Message, arrived: Instant) {
        let tag = flv::audio(&message.payload);
        if let (Some(publisher), Some(tag)) = (&mut self.publisher, &tag) {
            publisher.audio = Some(tag.codec);
        }
        let time = match tag {
            Some(tag) if tag.is_config() => {
                let channels = !tag.is_sequence_header();
                self.on_config(ConfigKey::Audio { track: tag.track, channels }, message.payload.clone(), arrived)
            }
            // Also an empty message, which encoders send for silence.
            _ => self.append(Track::Audio, message, Mark::Plain, arrived),
        };
        if let (Some(sink), Some(tag)) = (&mut self.sink, &tag) {
            sink.on_audio(time, tag, &message.payload);
        }
    }

    fn on_video(&mut self, message: &Message, arrived: Instant) {
        let tag = flv::video(&message.payload);
        if let (Some(publisher), Some(tag)) = (&mut self.publisher, &tag) {
            publisher.video = Some(tag.codec);
        }
        let time = match tag {
            Some(tag) if tag.is_config() => {
                let colour = !tag.is_sequence_header();
                self.on_config(ConfigKey::Video { track: tag.track, colour }, message.payload.clone(), arrived)
            }
            Some(tag) if tag.is_keyframe() && tag.track == 0 => {
                self.gop = Some(self.backlog.next());
                self.append(Track::Video, message, Mark::Key, arrived)
            }
            _ => self.append(Track::Video, message, Mark::Plain, arrived),
        };
        self.last_video = Some(self.timeline.latest());
        if let (Some(sink), Some(tag)) = (&mut self.sink, &tag) {
            sink.on_video(time, tag, &message.payload);
        }
    }

    fn on_data(&mut self, message: &Message, arrived: Instant) {
        let skipped = message.payload.len() - without_amf3_marker(message.kind, &message.payload).len();
        let mut payload = message.payload.slice(skipped..);
        // Encoders say @setDataFrame to have the rest kept for players that join.
        if payload.starts_with(SET_DATA_FRAME) {
            payload = payload.slice(SET_DATA_FRAME.len()..);
        }
        if payload.starts_with(ON_META_DATA) {
            self.on_config(ConfigKey::Metadata, payload, arrived);
        } else if payload.starts_with(CLEAR_DATA_FRAME) {
            self.configs.remove(ConfigKey::Metadata);
        } else {
            self.append(Track::Data, &Message { payload, ..message.clone() }, Mark::Plain, arrived);
        }
    }

    /// Keeps what joining players need, and hands it on to those that are here. Returns its time.
    fn on_config(&mut self, key: ConfigKey, payload: Bytes, arrived: Instant) -> u64 {
        let track = key.track();
        let number = self.backlog.next();
        let time = self.timeline.of_config(track);
        self.backlog.append(track, time, Mark::Config, &payload, arrived);
        let is_other = self.configs.keep(key, &payload, number, &self.account);
        if is_other && key != ConfigKey::Metadata {
            // What came before cannot be decoded with this: the next player waits for the next keyframe.
            self.gop = None;
        }
        time
    }

    /// Puts a message on the timeline and into the backlog. Returns its time.
    fn append(&mut self, track: Track, message: &Message, mark: Mark, arrived: Instant) -> u64 {
        let time = self.timeline.correct(track, message.timestamp, arrived);
        self.backlog.append(track, time, mark, &message.payload, arrived);
        time
    }
}
