//! The frame type of video messages, for encoders that send none or a wrong one.
//!
//! A widespread library never sets the frame type of Enhanced RTMP, others mark every frame or none as a keyframe. Players
//! would get no picture, or start where nothing can be decoded. So the payload decides what is a keyframe.

use std::borrow::Cow;

use crate::codec::flv::{FrameKind, VideoPacket, VideoTag};
use crate::codec::picture::{PictureKind, has_whole_units, is_key_picture, picture_kind};
use crate::rtmp::message::Message;

/// Position and width of the frame type in the first byte of a video message (FLV E.4.3.1).
const FRAME_TYPE_SHIFT: u8 = 4;
const FRAME_TYPE_MASK: u8 = 0x70;

/// Returns the header and the message with the true frame type. The payload changes only if it has no frame type: programs
/// such as ffmpeg rely on that of the first frames.
pub(super) fn with_frame_type(tag: Option<VideoTag>, message: &Message) -> (Option<VideoTag>, Cow<'_, Message>) {
    let Some(mut tag) = tag else { return (None, Cow::Borrowed(message)) };
    let is_missing = tag.frame == FrameKind::Other(0);
    tag.frame = true_frame_type(&tag, &message.payload);
    if !is_missing || tag.frame == FrameKind::Other(0) {
        return (Some(tag), Cow::Borrowed(message));
    }
    let mut payload = message.payload.to_vec();
    let number = if tag.frame == FrameKind::Key { 1 } else { 2 };
    payload[0] = payload[0] & !FRAME_TYPE_MASK | number << FRAME_TYPE_SHIFT;
    (Some(tag), Cow::Owned(Message { payload: payload.into(), ..message.clone() }))
}

fn true_frame_type(tag: &VideoTag, payload: &[u8]) -> FrameKind {
    if tag.packet != VideoPacket::Frame {
        // Sequence headers are sent with the type of a keyframe.
        let is_unset_header = tag.frame == FrameKind::Other(0) && tag.is_config();
        return if is_unset_header { FrameKind::Key } else { tag.frame };
    }
    let data = &payload[tag.body..];
    let is_certain = || tag.multitrack || has_whole_units(tag.codec, data);
    if tag.frame == FrameKind::Inter {
        let is_key = is_key_picture(tag.codec, data) && is_certain();
        return if is_key { FrameKind::Key } else { tag.frame };
    }
    match (tag.frame, picture_kind(tag.codec, data)) {
        (FrameKind::Key | FrameKind::GeneratedKey, PictureKind::Dependent) if is_certain() => FrameKind::Inter,
        (FrameKind::Other(0), PictureKind::Key | PictureKind::Recovery) => FrameKind::Key,
        (FrameKind::Other(0), PictureKind::Dependent | PictureKind::Unknown) => FrameKind::Inter,
        (frame, _) => frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flv::read_video_header;
    use crate::rtmp::message::MessageType;

    const IDR: [u8; 6] = [0, 0, 0, 2, 0x65, 0x88];
    const P: [u8; 6] = [0, 0, 0, 2, 0x41, 0xc0];

    /// Returns whether the message is taken for a keyframe, and the first byte that players get.
    fn decided(payload: &[u8]) -> (bool, u8) {
        let message =
            Message { kind: MessageType::VIDEO, timestamp: 0, stream_id: 1, payload: payload.to_vec().into() };
        let (tag, message) = with_frame_type(read_video_header(payload), &message);
        assert_eq!(message.payload[1..], payload[1..]);
        (tag.unwrap().is_keyframe(), message.payload[0])
    }

    fn avc(first: u8, nalu: &[u8]) -> (bool, u8) {
        decided(&[&[first, 1, 0, 0, 0], nalu].concat())
    }

    #[test]
    fn a_missing_frame_type_is_set_from_the_payload() {
        assert_eq!((avc(0x07, &IDR), avc(0x07, &P)), ((true, 0x17), (false, 0x27)));
        let hevc = |packet: u8, nalu: u8| decided(&[&[0x80 | packet], &b"hvc1"[..], &[0, 0, 0, 2, nalu, 1]].concat());
        assert_eq!((hevc(3, 0x26), hevc(3, 0x02)), ((true, 0x93), (false, 0xa3)));
        let start = decided(&[&[0x80], &b"hvc1"[..], &[1; 23]].concat());
        assert_eq!(start, (false, 0x90), "a sequence header");
        let av1 = |frame: u8| decided(&[&[0x81], &b"av01"[..], &[0x12, 0, 0x32, 1, frame]].concat());
        assert_eq!((av1(0x10), av1(0x30)), ((true, 0x91), (false, 0xa1)));
        let track_1 = decided(&[&[0x86, 0x01], &b"vp09"[..], &[1, 0x82, 0x49]].concat());
        assert_eq!(track_1, (true, 0x96));
        assert_eq!(avc(0x07, &[1, 2, 3]), (false, 0x27), "unreadable");
        assert_eq!(decided(&[0x82, b'h', b'v', b'c', b'1']), (false, 0x82), "the end of a sequence");
    }

    #[test]
    fn a_wrong_frame_type_counts_for_nothing_but_is_passed_on() {
        assert_eq!(avc(0x17, &P), (false, 0x17), "marked as a keyframe");
        assert_eq!(avc(0x27, &IDR), (true, 0x27), "not marked");
        assert_eq!((avc(0x17, &[1, 2, 3]), avc(0x27, &[1, 2, 3])), ((true, 0x17), (false, 0x27)), "unreadable");
        assert_eq!(avc(0x17, &[0, 0, 0, 3, 0x41, 0x88, 0x80]), (true, 0x17), "I slices");
        assert_eq!(avc(0x27, &[&IDR[..], &[9]].concat()), (false, 0x27), "resembles a keyframe");
    }
}
