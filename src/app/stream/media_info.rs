//! Properties of a stream's media, read from its cached metadata and sequence headers when somebody asks.

use super::headers::{CachedHeader, HeaderCache, HeaderKey, ON_META_DATA};
use crate::codec::nalu::Codec;
use crate::codec::{aac, amf0, avc, flv, hevc, sps};

/// Properties of a stream's media, as far as they are known. Sequence headers take precedence over metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MediaInfo {
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub frame_rate: Option<f64>,
    pub video_profile: Option<&'static str>,
    /// This and the next: the codec as playlists and browsers name it (RFC 6381).
    pub video_codec: Option<String>,
    pub audio_codec: Option<String>,
    /// Level of the video codec, times ten: 31 is level 3.1.
    pub video_level: Option<u8>,
    pub sample_rate: Option<u32>,
    pub channels: Option<u8>,
    pub audio_profile: Option<&'static str>,
    /// Reason for which MPEG-TS, and with it HLS, cannot carry the audio.
    pub audio_obstacle: Option<String>,
}

impl MediaInfo {
    pub(super) fn read(headers: &HeaderCache) -> Self {
        let find = |key| headers.iter().find(|header| header.key == key);
        let mut info = Self::default();
        if let Some(header) = find(HeaderKey::Metadata) {
            info.read_metadata(header);
        }
        if let Some(header) = find(HeaderKey::Video { track: 0, color_info: false }) {
            info.read_video(header);
        }
        if let Some(header) = find(HeaderKey::Audio { track: 0, channel_config: false }) {
            info.read_audio(header);
        }
        info
    }

    fn read_metadata(&mut self, header: &CachedHeader) {
        let mut rest = &header.payload[ON_META_DATA.len()..];
        let Ok(value) = amf0::read(&mut rest) else { return };
        let Some(object) = value.as_object() else { return };
        let number = |key| object.get(key).and_then(amf0::Value::as_number).filter(|number| *number > 0.0);
        // Out of range, the cast saturates.
        let integer = |key| number(key).map(|number: f64| number.round() as u32);
        self.width = integer("width");
        self.height = integer("height");
        self.frame_rate = number("framerate").filter(|rate| rate.is_finite());
        self.sample_rate = integer("audiosamplerate");
        let stereo = object.get("stereo").and_then(amf0::Value::as_bool).map(|stereo| 1 + u8::from(stereo));
        self.channels = integer("audiochannels").and_then(|channels| u8::try_from(channels).ok()).or(stereo);
    }

    fn read_video(&mut self, header: &CachedHeader) {
        let Some(tag) = flv::read_video_header(&header.payload) else { return };
        let record = &header.payload[tag.body..];
        let config = if tag.codec.is_h264() {
            avc::read_config(record)
        } else if tag.codec.is_h265() {
            hevc::read_config(record)
        } else {
            return;
        };
        let Ok(config) = config else { return };
        // A valid record is longer than the positions of profile and level.
        match config.codec {
            Codec::H264 => {
                self.video_profile = sps::h264_profile(record[1]);
                self.video_level = Some(record[3]);
                self.video_codec = Some(format!("avc1.{:02x}{:02x}{:02x}", record[1], record[2], record[3]));
            }
            Codec::H265 => {
                self.video_profile = sps::h265_profile(record[1] & 0x1f);
                self.video_level = Some(record[12] / 3);
                self.video_codec = Some(hevc_codec(record));
            }
        }
        if let Some((width, height)) = sps::picture_size(&config) {
            (self.width, self.height) = (Some(width), Some(height));
        }
    }

    fn read_audio(&mut self, header: &CachedHeader) {
        let Some(tag) = flv::read_audio_header(&header.payload) else { return };
        if !tag.codec.is_aac() {
            return;
        }
        match aac::read_config(&header.payload[tag.body..]) {
            Ok(config) => {
                self.sample_rate = Some(config.sample_rate);
                self.channels = Some(config.channels());
                self.audio_profile = aac_profile(config.object_type);
                self.audio_codec = Some(format!("mp4a.40.{}", config.object_type));
            }
            Err(error) => self.audio_obstacle = Some(error.to_string()),
        }
    }
}

/// Returns the name of the codec of an HEVC configuration record of at least 13 bytes (ISO/IEC 14496-15, E.3).
fn hevc_codec(record: &[u8]) -> String {
    let profile_space = ["", "A", "B", "C"][usize::from(record[1] >> 6)];
    let tier = if record[1] & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes([record[2], record[3], record[4], record[5]]).reverse_bits();
    let mut codec = format!("hvc1.{profile_space}{}.{compatibility:X}.{tier}{}", record[1] & 0x1f, record[12]);
    let constraints = &record[6..12];
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    constraints[..used].iter().for_each(|byte| codec.push_str(&format!(".{byte:X}")));
    codec
}

fn aac_profile(object_type: u8) -> Option<&'static str> {
    Some(match object_type {
        1 => "Main",
        2 => "LC",
        3 => "SSR",
        4 => "LTP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::amf0::{Object, Value};
    use crate::memory::MemoryTracker;

    fn read(headers: &[(HeaderKey, Vec<u8>)]) -> MediaInfo {
        let mut cache = HeaderCache::default();
        for (key, payload) in headers {
            cache.insert(*key, &Bytes::copy_from_slice(payload), 0, &MemoryTracker::default());
        }
        MediaInfo::read(&cache)
    }

    fn metadata(object: Object) -> (HeaderKey, Vec<u8>) {
        let mut payload = ON_META_DATA.to_vec();
        amf0::write(&mut payload, &Value::EcmaArray(object));
        (HeaderKey::Metadata, payload)
    }

    const VIDEO: HeaderKey = HeaderKey::Video { track: 0, color_info: false };
    const AUDIO: HeaderKey = HeaderKey::Audio { track: 0, channel_config: false };

    #[test]
    fn metadata_alone() {
        let object = Object::new().with("width", 640.0).with("height", 360.0).with("framerate", 29.97);
        let object = object.with("audiosamplerate", 48_000.0).with("stereo", true);
        let info = read(&[metadata(object)]);
        assert_eq!((info.width, info.height, info.frame_rate), (Some(640), Some(360), Some(29.97)));
        assert_eq!((info.sample_rate, info.channels, info.video_profile), (Some(48_000), Some(2), None));
    }

    #[test]
    fn sequence_headers_take_precedence() {
        let object = Object::new().with("width", 1.0).with("height", 1.0).with("audiosamplerate", 1.0);
        let sps = sps::tests::H264_1280X720;
        let mut video = vec![0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, sps.len() as u8];
        video.extend_from_slice(sps);
        video.extend([1, 0, 2, 0x68, 0xeb]);
        let info = read(&[metadata(object), (VIDEO, video), (AUDIO, vec![0xaf, 0, 0x12, 0x10])]);
        let expected = MediaInfo {
            width: Some(1280),
            height: Some(720),
            frame_rate: None,
            video_codec: Some("avc1.64001f".to_owned()),
            audio_codec: Some("mp4a.40.2".to_owned()),
            video_profile: Some("High"),
            video_level: Some(31),
            sample_rate: Some(44_100),
            channels: Some(2),
            audio_profile: Some("LC"),
            audio_obstacle: None,
        };
        assert_eq!(info, expected);
    }

    #[test]
    fn broken_headers_say_nothing() {
        let broken = [
            (HeaderKey::Metadata, [ON_META_DATA, &[8, 0]].concat()),
            (VIDEO, vec![0x17, 0, 0, 0, 0, 1]),
            (AUDIO, vec![0xaf, 0]),
        ];
        let audio_obstacle = Some("AAC configuration truncated at bit 0".to_owned());
        assert_eq!(read(&broken), MediaInfo { audio_obstacle, ..MediaInfo::default() });
        let object = Object::new().with("width", f64::NAN).with("height", -1.0).with("framerate", f64::INFINITY);
        assert_eq!(read(&[metadata(object.with("audiochannels", 1e9))]), MediaInfo::default());
    }
}
