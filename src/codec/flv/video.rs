//! The header of a video message: FLV E.4.3, and ExVideoTagHeader of Enhanced RTMP.

use std::fmt;

use super::ex::{self, Cursor};

/// What a video message is, from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoTag {
    /// The kind of frame. To be ignored for [`VideoPacket::Metadata`]; see [`is_keyframe`](Self::is_keyframe).
    pub frame: FrameKind,
    /// The codec; [`VideoCodec::Other`] of 0 for an enhanced command frame, which names none.
    pub codec: VideoCodec,
    /// The kind of packet.
    pub packet: VideoPacket,
    /// What to add to the time of the message, which is the time to decode, for the time to show: milliseconds, negative in
    /// broken streams. 0 where the message has none.
    pub composition_time: i32,
    /// The track, 0 unless `multitrack`. What must be kept for a player is one sequence header for each pair of track and
    /// codec.
    pub track: u8,
    /// Whether the message names its tracks. It may hold more than one: `track`, `codec` and `body` are those of the first.
    pub multitrack: bool,
    /// Where the data of the codec begin in the payload; in a command frame, where the command byte is or would be.
    pub body: usize,
}

/// The frame type of FLV E.4.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// 1: a frame that decoding can start with. Sequence headers carry it too.
    Key,
    /// 2: a frame that needs others.
    Inter,
    /// 3: a frame that no other needs, H.263 only.
    DisposableInter,
    /// 4: a keyframe that a server made.
    GeneratedKey,
    /// 5: no picture, but a command to a player that seeks.
    Command,
    /// Anything else.
    Other(u8),
}

/// The codec of a video message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// 2: Sorenson H.263.
    SorensonH263,
    /// 3: screen video.
    ScreenVideo,
    /// 4: On2 VP6.
    Vp6,
    /// 5: On2 VP6 with an alpha channel.
    Vp6Alpha,
    /// 6: screen video version 2.
    ScreenVideo2,
    /// 7: H.264.
    Avc,
    /// 12: H.265 as Chinese encoders and networks sent it before Enhanced RTMP, with a header as H.264 has it.
    Hevc,
    /// Any other number.
    Other(u8),
    /// A codec of Enhanced RTMP.
    FourCc([u8; 4]),
}

/// The packet type of a video message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoPacket {
    /// A codec without packet types, or a command frame.
    Raw,
    /// The configuration of the decoder.
    SequenceHeader,
    /// The configuration of the decoder as a descriptor of MPEG-2 TS, for AV1.
    Mpeg2TsSequenceHeader,
    /// Coded data.
    Frame,
    /// The end of a sequence.
    SequenceEnd,
    /// Properties of the frames to come, such as HDR colour, in AMF0.
    Metadata,
    /// Anything else.
    Other(u8),
}

/// Reads the header of a video message. `None` if the payload is empty or ends inside the header.
pub fn video(payload: &[u8]) -> Option<VideoTag> {
    let mut cursor = Cursor::new(payload);
    let first = cursor.u8()?;
    let frame = FrameKind::from_bits(first >> 4 & 0x07);
    if first & 0x80 != 0 { enhanced(cursor, frame, first & 0x0f) } else { legacy(cursor, frame, first & 0x0f) }
}

fn legacy(mut cursor: Cursor<'_>, frame: FrameKind, codec_id: u8) -> Option<VideoTag> {
    let codec = VideoCodec::from_id(codec_id);
    let mut tag = VideoTag {
        frame,
        codec,
        packet: VideoPacket::Raw,
        composition_time: 0,
        track: 0,
        multitrack: false,
        body: cursor.at,
    };
    // A command byte follows instead of a picture, whatever the codec: it is not the packet type of H.264.
    if frame == FrameKind::Command || !matches!(codec, VideoCodec::Avc | VideoCodec::Hevc) {
        return Some(tag);
    }
    tag.packet = match cursor.u8()? {
        0 => VideoPacket::SequenceHeader,
        1 => VideoPacket::Frame,
        2 => VideoPacket::SequenceEnd,
        other => VideoPacket::Other(other),
    };
    let composition_time = cursor.i24()?;
    if tag.packet == VideoPacket::Frame {
        tag.composition_time = composition_time;
    }
    tag.body = cursor.at;
    Some(tag)
}

/// ExVideoTagHeader: the low half of the first byte is a packet type.
fn enhanced(mut cursor: Cursor<'_>, frame: FrameKind, packet_type: u8) -> Option<VideoTag> {
    const CODED_FRAMES: u8 = 1;
    const METADATA: u8 = 4;
    const MULTITRACK: u8 = 6;

    let kind = ex::skip_mod_ex(&mut cursor, packet_type)?;
    if frame == FrameKind::Command && kind != METADATA {
        return Some(VideoTag {
            frame,
            codec: VideoCodec::Other(0),
            packet: VideoPacket::Raw,
            composition_time: 0,
            track: 0,
            multitrack: false,
            body: cursor.at,
        });
    }
    let ex::Packet { kind, fourcc, track, multitrack } = ex::read_packet(&mut cursor, kind, MULTITRACK)?;
    let has_composition_time = kind == CODED_FRAMES && matches!(&fourcc, b"avc1" | b"hvc1" | b"vvc1");
    let composition_time = if has_composition_time { cursor.i24()? } else { 0 };
    Some(VideoTag {
        frame,
        codec: VideoCodec::FourCc(fourcc),
        packet: VideoPacket::from_enhanced(kind),
        composition_time,
        track,
        multitrack,
        body: cursor.at,
    })
}

impl VideoTag {
    /// Whether a player can start with this message: coded data of a keyframe. A sequence header has the bits of a keyframe
    /// and is none.
    pub fn is_keyframe(&self) -> bool {
        matches!(self.frame, FrameKind::Key | FrameKind::GeneratedKey)
            && matches!(self.packet, VideoPacket::Raw | VideoPacket::Frame)
    }

    /// Whether this message configures the decoder.
    pub fn is_sequence_header(&self) -> bool {
        matches!(self.packet, VideoPacket::SequenceHeader | VideoPacket::Mpeg2TsSequenceHeader)
    }

    /// Whether a player that joins later needs this message before the first frame: a sequence header or metadata.
    pub fn is_config(&self) -> bool {
        self.is_sequence_header() || self.packet == VideoPacket::Metadata
    }
}

impl FrameKind {
    fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Key,
            2 => Self::Inter,
            3 => Self::DisposableInter,
            4 => Self::GeneratedKey,
            5 => Self::Command,
            other => Self::Other(other),
        }
    }
}

impl VideoPacket {
    fn from_enhanced(kind: u8) -> Self {
        match kind {
            0 => Self::SequenceHeader,
            // 3 is a frame whose composition time is zero and left out.
            1 | 3 => Self::Frame,
            2 => Self::SequenceEnd,
            4 => Self::Metadata,
            5 => Self::Mpeg2TsSequenceHeader,
            other => Self::Other(other),
        }
    }
}

impl VideoCodec {
    fn from_id(id: u8) -> Self {
        match id {
            2 => Self::SorensonH263,
            3 => Self::ScreenVideo,
            4 => Self::Vp6,
            5 => Self::Vp6Alpha,
            6 => Self::ScreenVideo2,
            7 => Self::Avc,
            12 => Self::Hevc,
            other => Self::Other(other),
        }
    }

    /// H.264 in either signalling: the sequence header and the frames have the same layout in both.
    pub fn is_h264(self) -> bool {
        matches!(self, Self::Avc | Self::FourCc([b'a', b'v', b'c', b'1']))
    }

    /// H.265 in either signalling: the sequence header and the frames have the same layout in both.
    pub fn is_h265(self) -> bool {
        matches!(self, Self::Hevc | Self::FourCc([b'h', b'v', b'c', b'1']))
    }
}

/// The name for a log; bytes of an unknown FourCC are escaped.
impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SorensonH263 => f.write_str("H.263"),
            Self::ScreenVideo => f.write_str("screen video"),
            Self::Vp6 => f.write_str("VP6"),
            Self::Vp6Alpha => f.write_str("VP6 with alpha"),
            Self::ScreenVideo2 => f.write_str("screen video 2"),
            Self::Avc => f.write_str("H.264"),
            Self::Hevc => f.write_str("H.265"),
            Self::Other(id) => write!(f, "video codec {id}"),
            Self::FourCc(fourcc) => match fourcc {
                b"avc1" => f.write_str("H.264"),
                b"hvc1" => f.write_str("H.265"),
                b"vvc1" => f.write_str("H.266"),
                b"av01" => f.write_str("AV1"),
                b"vp08" => f.write_str("VP8"),
                b"vp09" => f.write_str("VP9"),
                _ => ex::write_fourcc(f, *fourcc),
            },
        }
    }
}
