//! The tracks that the metadata of a stream announces, so that its first segment can wait for them.

use crate::codec::amf0::{self, Object, Value};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) video: bool,
    pub(super) audio: bool,
}

impl Announced {
    /// Reads a data message. Returns `None` if it is no metadata.
    pub(super) fn read(mut payload: &[u8]) -> Option<Self> {
        let name = amf0::read(&mut payload).ok()?;
        if name.as_str() != Some("onMetaData") {
            return None;
        }
        let value = amf0::read(&mut payload).ok()?;
        let metadata = value.as_object()?;
        Some(Self {
            video: is_announced(metadata, "hasVideo", "videocodecid"),
            audio: is_announced(metadata, "hasAudio", "audiocodecid"),
        })
    }
}

/// Returns whether metadata has a track, by a flag or the codec: a number, or a FourCC of Enhanced RTMP as number or text.
fn is_announced(metadata: &Object, flag: &str, codec: &str) -> bool {
    let has_codec = match metadata.get(codec) {
        Some(Value::Number(number)) => *number > 0.0,
        Some(Value::String(name)) => !name.is_empty(),
        _ => false,
    };
    metadata.get(flag).and_then(Value::as_bool).unwrap_or(has_codec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(metadata: Object) -> Vec<u8> {
        let mut bytes = Vec::new();
        amf0::write(&mut bytes, &Value::from("onMetaData"));
        amf0::write(&mut bytes, &Value::EcmaArray(metadata));
        bytes
    }

    #[test]
    fn tracks_are_announced_by_codec_or_flag() {
        let read = |metadata| Announced::read(&message(metadata)).map(|announced| (announced.video, announced.audio));
        assert_eq!(read(Object::new().with("videocodecid", 7.0).with("audiocodecid", 10.0)), Some((true, true)));
        assert_eq!(read(Object::new().with("videocodecid", "avc1")), Some((true, false)));
        assert_eq!(read(Object::new().with("hasAudio", false).with("audiocodecid", 10.0)), Some((false, false)));
        assert_eq!(read(Object::new().with("hasAudio", true).with("videocodecid", 0.0)), Some((false, true)));
        assert_eq!(Announced::read(b"\x02\x00\x06onCue!"), None);
    }
}
