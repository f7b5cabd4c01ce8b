//! Messages of a publisher: each gets its corrected time and goes to packet log and outputs; headers are cached for players that
//! join.

use std::time::Instant;

use bytes::Bytes;

use super::frame_type::with_frame_type;
use super::gop::KEYFRAME_TIMEOUT;
use super::headers::{CLEAR_DATA_FRAME, HeaderKey, ON_META_DATA, SET_DATA_FRAME};
use super::output::{Packet, Tag};
use super::packet_log::PacketKind;
use super::state::StreamState;
use super::track::Track;
use crate::codec::flv;
use crate::rtmp::command::without_amf3_marker;
use crate::rtmp::message::{Message, MessageType};

impl StreamState {
    pub(super) fn on_message(&mut self, message: &Message, arrived: Instant) {
        if let Some(publisher) = &mut self.publisher {
            publisher.last_activity = publisher.last_activity.max(publisher.last_read).max(arrived);
            publisher.messages += 1;
        }
        let has_players = self.subscriber_count() > 0;
        // Without players, a batch is closed when its allocation is used up.
        if !has_players && !self.log.has_room(message.payload.len()) {
            self.flush();
        }
        match message.kind {
            MessageType::AUDIO => self.on_audio(message, arrived),
            MessageType::VIDEO => self.on_video(message, arrived),
            MessageType::DATA | MessageType::DATA_AMF3 => self.on_data(message, arrived),
            _ => {}
        }
        if self.log.is_batch_full(has_players) {
            self.flush();
        }
    }

    fn on_audio(&mut self, message: &Message, arrived: Instant) {
        let tag = flv::read_audio_header(&message.payload);
        if let (Some(publisher), Some(tag)) = (&mut self.publisher, &tag)
            && publisher.codecs.on_audio(tag)
        {
            self.on_codecs_changed();
        }
        match tag {
            Some(tag) if tag.is_config() => {
                let key = HeaderKey::Audio { track: tag.track, channel_config: !tag.is_sequence_header() };
                self.on_header(key, Some(Tag::Audio(tag)), &message.payload, arrived);
            }
            // Also an empty message, which encoders send for silence.
            _ => self.append(Track::Audio, PacketKind::Regular, tag.map(Tag::Audio), message, arrived),
        }
    }

    fn on_video(&mut self, message: &Message, arrived: Instant) {
        let (tag, message) = with_frame_type(flv::read_video_header(&message.payload), message);
        if let (Some(publisher), Some(tag)) = (&mut self.publisher, &tag)
            && publisher.codecs.on_video(tag)
        {
            self.on_codecs_changed();
        }
        match tag {
            Some(tag) if tag.is_config() => {
                let key = HeaderKey::Video { track: tag.track, color_info: !tag.is_sequence_header() };
                self.on_header(key, Some(Tag::Video(tag)), &message.payload, arrived);
            }
            _ => {
                let (track, is_keyframe) = tag.map_or((0, false), |tag| (tag.track, tag.is_keyframe()));
                self.gop.on_frame(track, is_keyframe, self.log.next_seq());
                if self.gop.lacks_keyframe(arrived) {
                    let seconds = KEYFRAME_TIMEOUT.as_secs();
                    log::warn!(
                        "no keyframe in the video, players get no picture: stream={} seconds={seconds}",
                        self.name
                    );
                }
                let kind = if is_keyframe { PacketKind::Keyframe } else { PacketKind::Regular };
                self.append(Track::Video, kind, tag.map(Tag::Video), &message, arrived);
            }
        }
        self.last_video_time = Some(self.timeline.latest());
    }

    fn on_data(&mut self, message: &Message, arrived: Instant) {
        let skipped = message.payload.len() - without_amf3_marker(message.kind, &message.payload).len();
        let mut payload = message.payload.slice(skipped..);
        // With @setDataFrame, an encoder asks the server to keep the rest for players that join.
        if payload.starts_with(SET_DATA_FRAME) {
            payload = payload.slice(SET_DATA_FRAME.len()..);
        }
        if payload.starts_with(ON_META_DATA) {
            self.on_header(HeaderKey::Metadata, None, &payload, arrived);
        } else if payload.starts_with(CLEAR_DATA_FRAME) {
            self.headers.remove(HeaderKey::Metadata);
        } else {
            self.append(Track::Data, PacketKind::Regular, None, &Message { payload, ..message.clone() }, arrived);
        }
    }

    fn on_header(&mut self, key: HeaderKey, tag: Option<Tag>, payload: &Bytes, arrived: Instant) {
        let track = key.track();
        let seq = self.log.next_seq();
        let dts = self.timeline.header_time(track);
        self.log.append(track, dts, PacketKind::Header, payload, arrived);
        let has_changed = self.headers.insert(key, payload, seq, &self.memory);
        if has_changed && key != HeaderKey::Metadata {
            // The GOP cannot be decoded with the new header: players that join wait for the next keyframe.
            self.gop.clear_start();
        }
        self.outputs.packet(&self.name, &Packet { track, dts, kind: PacketKind::Header, tag, payload });
    }

    fn append(&mut self, track: Track, kind: PacketKind, tag: Option<Tag>, message: &Message, arrived: Instant) {
        let dts = self.timeline.correct(track, message.timestamp, arrived);
        let video_track = if let Some(Tag::Video(tag)) = tag { tag.track } else { 0 };
        self.log.append_on(track, video_track, dts, kind, &message.payload, arrived);
        // The other tracks of a multitrack stream do not decide where a segment starts.
        let kind = if video_track == 0 { kind } else { PacketKind::Regular };
        if let Some(publisher) = &mut self.publisher
            && track != Track::Data
        {
            publisher.ingest.on_media(track, dts, kind, message.payload.len(), publisher.last_activity);
        }
        self.outputs.packet(&self.name, &Packet { track, dts, kind, tag, payload: &message.payload });
    }
}
