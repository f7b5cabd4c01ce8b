//! The header of an audio message: FLV E.4.2, and ExAudioTagHeader of Enhanced RTMP.

use std::fmt;

use super::ex::{self, Cursor};

/// The header of an audio message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioTag {
    /// The codec.
    pub codec: AudioCodec,
    /// The kind of packet.
    pub packet: AudioPacket,
    /// The sample rate of the header in Hz, `None` in Enhanced RTMP. A hint: for AAC it is always 44,100, and the real value
    /// is in the sequence header.
    pub sample_rate: Option<u32>,
    /// The number of channels of the header, `None` in Enhanced RTMP. A hint: for AAC it is always 2.
    pub channels: Option<u8>,
    /// The track, 0 unless `multitrack`. A later player needs one sequence header for each pair of track and codec.
    pub track: u8,
    /// True if the message names its tracks. It can contain several; `track`, `codec` and `body` are those of the first.
    pub multitrack: bool,
    /// The position of the codec data in the payload.
    pub body: usize,
}

/// The codec of an audio message. 13 has no name: Enhanced RTMP reserves it, and encoders that used it for Opus had different
/// layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// 0: PCM in the byte order of the sender.
    LinearPcm,
    /// 1: ADPCM of Flash.
    AdpcmSwf,
    /// 2: MP3.
    Mp3,
    /// 3: PCM, little-endian.
    LinearPcmLe,
    /// 4: Nellymoser, 16 kHz mono.
    Nellymoser16,
    /// 5: Nellymoser, 8 kHz mono.
    Nellymoser8,
    /// 6: Nellymoser.
    Nellymoser,
    /// 7: G.711 A-law.
    G711A,
    /// 8: G.711 mu-law.
    G711U,
    /// 10: AAC.
    Aac,
    /// 11: Speex.
    Speex,
    /// 14: MP3 at 8 kHz.
    Mp38k,
    /// 15: device-specific sound.
    DeviceSpecific,
    /// Any other number.
    Other(u8),
    /// A codec of Enhanced RTMP.
    FourCc([u8; 4]),
}

/// The packet type of an audio message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioPacket {
    /// A codec without packet types.
    Raw,
    /// The configuration of the decoder.
    SequenceHeader,
    /// Coded data.
    Frame,
    /// The end of a sequence: silence follows.
    SequenceEnd,
    /// The mapping of channels to speakers.
    MultichannelConfig,
    /// Anything else.
    Other(u8),
}

/// Reads the header of an audio message. `None`: the payload is empty, which signals silence, or ends inside the header.
pub fn read_audio_header(payload: &[u8]) -> Option<AudioTag> {
    const EX_HEADER: u8 = 9;

    let mut cursor = Cursor::new(payload);
    let first = cursor.u8()?;
    if first >> 4 == EX_HEADER { read_enhanced(cursor, first & 0x0f) } else { read_legacy(cursor, first) }
}

fn read_legacy(mut cursor: Cursor<'_>, first: u8) -> Option<AudioTag> {
    let codec = AudioCodec::from_id(first >> 4);
    let packet = match codec {
        AudioCodec::Aac => match cursor.u8()? {
            0 => AudioPacket::SequenceHeader,
            1 => AudioPacket::Frame,
            other => AudioPacket::Other(other),
        },
        _ => AudioPacket::Raw,
    };
    let sample_rate = match (codec, first >> 2 & 0x03) {
        (AudioCodec::Nellymoser16 | AudioCodec::Speex, _) => 16_000,
        (AudioCodec::Nellymoser8 | AudioCodec::Mp38k | AudioCodec::G711A | AudioCodec::G711U, _) => 8_000,
        (_, 0) => 5_512,
        (_, 1) => 11_025,
        (_, 2) => 22_050,
        _ => 44_100,
    };
    let channels = match codec {
        AudioCodec::Nellymoser16 | AudioCodec::Nellymoser8 | AudioCodec::Speex => 1,
        _ => 1 + (first & 0x01),
    };
    Some(AudioTag {
        codec,
        packet,
        sample_rate: Some(sample_rate),
        channels: Some(channels),
        track: 0,
        multitrack: false,
        body: cursor.at,
    })
}

/// Reads an ExAudioTagHeader, in which the low half of the first byte is the packet type.
fn read_enhanced(mut cursor: Cursor<'_>, packet_type: u8) -> Option<AudioTag> {
    const MULTITRACK: u8 = 5;

    let kind = ex::skip_mod_ex(&mut cursor, packet_type)?;
    let ex::Packet { kind, fourcc, track, multitrack } = ex::read_packet(&mut cursor, kind, MULTITRACK)?;
    Some(AudioTag {
        codec: AudioCodec::FourCc(fourcc),
        packet: AudioPacket::from_enhanced(kind),
        sample_rate: None,
        channels: None,
        track,
        multitrack,
        body: cursor.at,
    })
}

impl AudioTag {
    /// Returns true if this message configures the decoder.
    pub fn is_sequence_header(&self) -> bool {
        self.packet == AudioPacket::SequenceHeader
    }

    /// Returns true if a later player needs this message before the first frame: a sequence header or the channel mapping.
    pub fn is_config(&self) -> bool {
        self.is_sequence_header() || self.packet == AudioPacket::MultichannelConfig
    }
}

impl AudioPacket {
    fn from_enhanced(kind: u8) -> Self {
        match kind {
            0 => Self::SequenceHeader,
            1 => Self::Frame,
            2 => Self::SequenceEnd,
            4 => Self::MultichannelConfig,
            other => Self::Other(other),
        }
    }
}

impl AudioCodec {
    fn from_id(id: u8) -> Self {
        match id {
            0 => Self::LinearPcm,
            1 => Self::AdpcmSwf,
            2 => Self::Mp3,
            3 => Self::LinearPcmLe,
            4 => Self::Nellymoser16,
            5 => Self::Nellymoser8,
            6 => Self::Nellymoser,
            7 => Self::G711A,
            8 => Self::G711U,
            10 => Self::Aac,
            11 => Self::Speex,
            14 => Self::Mp38k,
            15 => Self::DeviceSpecific,
            other => Self::Other(other),
        }
    }

    /// Returns true for AAC in either signalling; both have the same layout of sequence headers and frames.
    pub fn is_aac(self) -> bool {
        matches!(self, Self::Aac | Self::FourCc([b'm', b'p', b'4', b'a']))
    }

    /// Returns true for MP3 in any signalling.
    pub fn is_mp3(self) -> bool {
        matches!(self, Self::Mp3 | Self::Mp38k | Self::FourCc([b'.', b'm', b'p', b'3']))
    }
}

/// Formats the codec name for a log; bytes of an unknown FourCC are escaped.
impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinearPcm | Self::LinearPcmLe => f.write_str("PCM"),
            Self::AdpcmSwf => f.write_str("ADPCM"),
            Self::Mp3 | Self::Mp38k => f.write_str("MP3"),
            Self::Nellymoser16 | Self::Nellymoser8 | Self::Nellymoser => f.write_str("Nellymoser"),
            Self::G711A => f.write_str("G.711 A-law"),
            Self::G711U => f.write_str("G.711 mu-law"),
            Self::Aac => f.write_str("AAC"),
            Self::Speex => f.write_str("Speex"),
            Self::DeviceSpecific => f.write_str("device-specific sound"),
            Self::Other(id) => write!(f, "audio codec {id}"),
            Self::FourCc(fourcc) => match fourcc {
                b"mp4a" => f.write_str("AAC"),
                b".mp3" => f.write_str("MP3"),
                b"Opus" => f.write_str("Opus"),
                b"fLaC" => f.write_str("FLAC"),
                b"ac-3" => f.write_str("AC-3"),
                b"ec-3" => f.write_str("E-AC-3"),
                _ => ex::write_fourcc(f, *fourcc),
            },
        }
    }
}
