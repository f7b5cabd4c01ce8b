//! The start, change and end of an output while its stream is published.

use super::headers::HeaderKey;
use super::output::{Output, Packet, Publishing, Tag, catch_panic};
use super::packet_log::PacketKind;
use super::source::Source;
use super::state::StreamState;
use crate::codec::flv;
use crate::config::Vhost;

impl Source {
    /// Starts, changes or ends the output of a feature: one that is there is reconfigured if it is still `enabled`, or replaced
    /// if it cannot be. One that `start` creates gets the headers so far. Does nothing if the stream is not published.
    pub fn attach_output(
        &self,
        feature: &'static str,
        vhost: &Vhost,
        enabled: bool,
        mut start: impl FnMut(&Publishing<'_>) -> Option<Box<dyn Output>>,
    ) {
        self.with(|state| {
            let Some(publisher) = &state.publisher else { return };
            let publishing = Publishing {
                stream: &publisher.stream,
                client: &publisher.client,
                handle: &publisher.handle,
                memory: &state.memory,
            };
            let mut start = || if enabled { start(&publishing) } else { None };
            let name = &state.name;
            let new = match state.outputs.remove(feature) {
                Some(mut old) => match catch_panic(name, feature, || enabled && old.reconfigure(vhost)) {
                    Some(true) => return state.outputs.0.push((feature, old)),
                    Some(false) => catch_panic(name, feature, || old.replace_with(&mut start)),
                    None => catch_panic(name, feature, || drop(old)).map(|()| None),
                },
                None => catch_panic(name, feature, start),
            };
            let Some(mut new) = new.flatten() else { return };
            if catch_panic(name, feature, || state.replay_headers(&mut *new)).is_some() {
                state.outputs.0.push((feature, new));
            } else {
                catch_panic(name, feature, || drop(new));
            }
        });
    }
}

impl StreamState {
    fn replay_headers(&self, output: &mut dyn Output) {
        for header in self.headers.iter() {
            let tag = match header.key {
                HeaderKey::Video { .. } => flv::read_video_header(&header.payload).map(Tag::Video),
                HeaderKey::Audio { .. } => flv::read_audio_header(&header.payload).map(Tag::Audio),
                HeaderKey::Metadata => None,
            };
            output.packet(&Packet {
                track: header.key.track(),
                dts: self.timeline.latest(),
                kind: PacketKind::Header,
                tag,
                payload: &header.payload,
            });
        }
    }
}
