//! The descriptions of tracks: sample entries, from the sequence headers of RTMP.

use bytes::Bytes;
use mp4_atom::{BufMut, Dops, Encode, FourCC, OpusChannelMapping, esds};

use crate::codec::flv::{AudioCodec, VideoCodec, VideoPacket};
use crate::codec::{aac, avc, hevc, mp3, sps};

/// Largest decoder configuration, in bytes: those of encoders have less than a thousand.
const MAX_CONFIG: usize = 64 * 1024;

/// Object types of a decoder configuration descriptor (ISO/IEC 14496-1, table 5): AAC; MP3 at the sample rates of MPEG-2 and of
/// MPEG-1.
const AAC: u8 = 0x40;
const MP3_MPEG2: u8 = 0x69;
const MP3_MPEG1: u8 = 0x6b;

/// Audio in the same descriptor (table 6).
const AUDIO_STREAM: u8 = 5;

/// Version and flags of a box that has both, here 0.
const FULL_BOX: [u8; 4] = [0; 4];

/// Those of the configuration of VP8 and VP9.
const VP_VERSION: [u8; 4] = [1, 0, 0, 0];

/// Sample rate of Opus, whatever the input had.
const OPUS_RATE: u32 = 48_000;

/// The description of a track in the head of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackConfig {
    /// Type of the sample entry.
    pub(super) entry: FourCC,
    /// Size of the picture, or format of the sound.
    pub media: Media,
    /// The boxes in the sample entry.
    pub(super) boxes: Bytes,
}

/// Properties of a track in its sample entry, beside the configuration of the decoder. 0 for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Width and height of the picture in pixels.
    Video {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
    },
    /// Format of the sound.
    Audio {
        /// Number of channels.
        channels: u16,
        /// Sample rate in Hz.
        sample_rate: u32,
    },
}

/// The reason why a file cannot have a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// MP4 has no sample entry for the codec, or this server does not write it.
    #[error("not possible in MP4")]
    Codec,
    /// The sequence header, or the first frame of MP3, is invalid, or there was none.
    #[error("no valid sequence header")]
    Header,
}

/// Returns the description of video with this sequence header. `size` is the picture's, if the header does not contain it.
/// Fails when MP4 has none.
pub fn video_config(
    codec: VideoCodec,
    packet: VideoPacket,
    record: &[u8],
    size: (u32, u32),
) -> Result<TrackConfig, Reason> {
    let (entry, name, prefix): (_, _, &[u8]) = match codec {
        codec if codec.is_h264() => (b"avc1", b"avcC", &[]),
        codec if codec.is_h265() => (b"hvc1", b"hvcC", &[]),
        VideoCodec::FourCc([b'a', b'v', b'0', b'1']) => (b"av01", b"av1C", &[]),
        VideoCodec::FourCc([b'v', b'p', b'0', b'9']) => (b"vp09", b"vpcC", &VP_VERSION),
        VideoCodec::FourCc([b'v', b'p', b'0', b'8']) => (b"vp08", b"vpcC", &VP_VERSION),
        _ => return Err(Reason::Codec),
    };
    let size = match entry {
        b"avc1" => sps::picture_size(&avc::read_config(record).map_err(|_| Reason::Header)?),
        b"hvc1" => sps::picture_size(&hevc::read_config(record).map_err(|_| Reason::Header)?),
        b"av01" => (packet == VideoPacket::SequenceHeader && record.len() >= 4 && record[0] == 0x81)
            .then_some(None)
            .ok_or(Reason::Header)?,
        // Eight bytes, in some streams after version and flags.
        _ => (record.len() >= 8).then_some(None).ok_or(Reason::Header)?,
    }
    .unwrap_or(size);
    // No profile with the number 1 has the bit depth 0, so this is no configuration without a version.
    let prefix = if record.starts_with(prefix) { &[] } else { prefix };
    let [width, height] = [size.0, size.1].map(|pixels| u16::try_from(pixels).unwrap_or_default());
    config(entry, Media::Video { width, height }, |out| out.append_box(name, &[prefix, record]))
}

/// Returns the description of audio with this sequence header. Fails when MP4 has none. MP3 has no sequence header, see
/// [`mp3_config`].
pub fn audio_config(codec: AudioCodec, record: &[u8]) -> Result<TrackConfig, Reason> {
    match codec {
        codec if codec.is_aac() => {
            // MP4 can carry more than ADTS; players read the values from the record.
            let read = aac::read_config(record).map(|config| (u16::from(config.channels()), config.sample_rate));
            let (channels, sample_rate) = read.unwrap_or((2, 0));
            if record.len() < 2 {
                return Err(Reason::Header);
            }
            mp4a(AAC, channels, sample_rate, Some(record))
        }
        AudioCodec::FourCc([b'O', b'p', b'u', b's']) => {
            let dops = opus(record).ok_or(Reason::Header)?;
            let media = Media::Audio { channels: dops.output_channel_count.into(), sample_rate: OPUS_RATE };
            config(b"Opus", media, |out| dops.encode(out))
        }
        AudioCodec::FourCc([b'f', b'L', b'a', b'C']) => flac(record),
        _ => Err(Reason::Codec),
    }
}

/// Returns the description of MP3 that starts with this frame. Fails when it is none.
pub fn mp3_config(frame: &[u8]) -> Result<TrackConfig, Reason> {
    const MONO: u8 = 3;
    const LOWEST_OF_MPEG1: u32 = 32_000;

    let header = mp3::read_header(frame).ok_or(Reason::Header)?;
    let channels = frame.get(3).map_or(2, |byte| if byte >> 6 == MONO { 1 } else { 2 });
    let object_type = if header.sample_rate >= LOWEST_OF_MPEG1 { MP3_MPEG1 } else { MP3_MPEG2 };
    mp4a(object_type, channels, header.sample_rate, None)
}

fn mp4a(object_type: u8, channels: u16, sample_rate: u32, record: Option<&[u8]>) -> Result<TrackConfig, Reason> {
    let dec_specific =
        record.map(|record| esds::DecoderSpecific { raw: record.to_vec(), ..esds::DecoderSpecific::default() });
    let dec_config = esds::DecoderConfig {
        object_type_indication: object_type,
        stream_type: AUDIO_STREAM,
        dec_specific,
        ..esds::DecoderConfig::default()
    };
    let esds = esds::Esds { es_desc: esds::EsDescriptor { dec_config, ..esds::EsDescriptor::default() } };
    config(b"mp4a", Media::Audio { channels, sample_rate }, |out| esds.encode(out))
}

/// Reads the identification header of Opus (RFC 7845, section 5.1).
fn opus(record: &[u8]) -> Option<Dops> {
    let (fields, table) = record.strip_prefix(b"OpusHead")?.split_first_chunk::<11>()?;
    let &[version, output_channel_count, skip @ .., family] = fields;
    let [skip_0, skip_1, rate_0, rate_1, rate_2, rate_3, gain_0, gain_1] = skip;
    // Versions below 16 can be read as the first one.
    if version > 15 || output_channel_count == 0 {
        return None;
    }
    let channel_mapping = match family {
        0 => None,
        family => {
            let (&[stream_count, coupled_count], table) = table.split_first_chunk()?;
            let channel_mapping = table.get(..usize::from(output_channel_count))?.to_vec();
            Some(OpusChannelMapping { family, stream_count, coupled_count, channel_mapping })
        }
    };
    Some(Dops {
        output_channel_count,
        pre_skip: u16::from_le_bytes([skip_0, skip_1]),
        input_sample_rate: u32::from_le_bytes([rate_0, rate_1, rate_2, rate_3]),
        output_gain: i16::from_le_bytes([gain_0, gain_1]),
        channel_mapping,
    })
}

/// Returns the description of FLAC with this stream information (RFC 9639, section 8.2). ffmpeg sends nothing else; Enhanced RTMP
/// wants the mark of a file and the header of the block before it.
fn flac(record: &[u8]) -> Result<TrackConfig, Reason> {
    const STREAM_INFO: usize = 34;
    const LAST_BLOCK: u8 = 0x80;

    let record = record.strip_prefix(b"fLaC").unwrap_or(record);
    let info = if record.len() == STREAM_INFO {
        record
    } else {
        let (&[kind, size @ ..], block) = record.split_first_chunk::<4>().ok_or(Reason::Header)?;
        if kind & !LAST_BLOCK != 0 || size != [0, 0, STREAM_INFO as u8] {
            return Err(Reason::Header);
        }
        block.get(..STREAM_INFO).ok_or(Reason::Header)?
    };
    // 20 bits of the sample rate, 3 of the channels less one.
    let rate = u32::from_be_bytes([0, info[10], info[11], info[12]]);
    let (sample_rate, channels) = (rate >> 4, (rate >> 1 & 7) as u16 + 1);
    let header = [LAST_BLOCK, 0, 0, STREAM_INFO as u8];
    config(b"fLaC", Media::Audio { channels, sample_rate }, |out| out.append_box(b"dfLa", &[&FULL_BOX, &header, info]))
}

fn config(
    entry: &[u8; 4],
    media: Media,
    write: impl FnOnce(&mut Vec<u8>) -> mp4_atom::Result<()>,
) -> Result<TrackConfig, Reason> {
    let mut boxes = Vec::new();
    // Fails on what no box can hold, such as channels of Opus that do not exist.
    write(&mut boxes).map_err(|_| Reason::Header)?;
    if boxes.len() > MAX_CONFIG {
        return Err(Reason::Header);
    }
    Ok(TrackConfig { entry: entry.into(), media, boxes: boxes.into() })
}

/// Boxes whose content is copied.
trait AppendBox {
    fn append_box(&mut self, kind: &[u8; 4], content: &[&[u8]]) -> mp4_atom::Result<()>;
}

impl AppendBox for Vec<u8> {
    fn append_box(&mut self, kind: &[u8; 4], content: &[&[u8]]) -> mp4_atom::Result<()> {
        self.encode_atom(kind, |out| {
            content.iter().for_each(|part| out.append_slice(part));
            Ok(())
        })
    }
}
