//! Targets of media: FLV, recordings, decoder configurations, and the way to HLS.

#[cfg(feature = "hls")]
use std::sync::Arc;
#[cfg(feature = "hls")]
use std::time::{Duration, SystemTime};

#[cfg(feature = "hls")]
use srs::app::outputs::hls::buffer_pool::BufferPool;
#[cfg(feature = "hls")]
use srs::app::outputs::hls::segmenter::Segmenter;
use srs::codec::flv::recording::Recording;
use srs::codec::mp4::{self, Fragment, Kind, Muxer, Sample, audio_config, mp3_config};
use srs::codec::nalu::{self, Nalus, VideoConfig};
#[cfg(feature = "hls")]
use srs::codec::ts::live::LiveMuxer;
use srs::codec::{aac, adts, amf0, avc, flv, hevc, mp3, picture};

// The TS reader of the tool ts_info, which shares no code with the writer of the server.
#[cfg(feature = "hls")]
#[allow(dead_code)]
#[path = "../../src/bin/ts_info/demux.rs"]
mod demux;
#[cfg(feature = "hls")]
#[allow(dead_code)]
#[path = "../../src/bin/ts_info/stream.rs"]
mod stream;

/// Reads the headers of audio and video messages, and FLV files, and makes recordings of the tags, as FLV and as MP4.
pub fn flv(data: &[u8]) {
    if let Some(tag) = flv::read_video_header(data) {
        let _ = (tag.is_config(), tag.is_keyframe(), tag.is_sequence_header(), tag.codec.to_string());
        let body = &data[tag.body..];
        let kind = picture::picture_kind(tag.codec, body);
        assert!(kind == picture::PictureKind::Unknown || !body.is_empty());
        let _ = picture::has_whole_units(tag.codec, body);
    }
    if let Some(tag) = flv::read_audio_header(data) {
        let _ = (tag.is_config(), tag.is_sequence_header(), tag.codec.to_string());
    }
    let mut rest = data;
    let _ = flv::read_file_header(&mut rest);
    // Any bytes as metadata.
    let mut start = Vec::new();
    let mut recording = Recording::start(rest, true, false, &mut start);
    assert_eq!(recording.size(), start.len() as u64);
    let mut mp4 = Mp4::default();
    while let Ok(Some(tag)) = flv::read_tag(&mut rest) {
        mp4.tag(&tag);
        let mut out = Vec::new();
        flv::write_tag(&mut out, &tag).expect("a tag from a file can be written");
        // Times of any size, in any order.
        recording.on_tag(u64::from(tag.timestamp) << (tag.payload.len() % 21), out.len(), tag.kind == flv::TAG_VIDEO);
        assert_eq!(flv::read_tag(&mut &out[..]), Ok(Some(tag)));
    }
    let size = recording.size() / 2;
    let end = recording.finish(size);
    assert_eq!(end.len(), start.len(), "it replaces the start");
    let mut head = &end[..];
    assert!(matches!(flv::read_file_header(&mut head), Ok(Some(_))));
    let metadata = flv::read_tag(&mut head).expect("a tag").expect("a whole one");
    let mut values = &metadata.payload[..];
    let (name, object) = (amf0::read(&mut values).expect("a name"), amf0::read(&mut values).expect("values"));
    assert!(
        name.as_str() == Some("onMetaData") && object.as_object().is_some() && values.is_empty() && head.is_empty()
    );
    mp4.finish();
}

/// A recording as MP4.
#[derive(Default)]
struct Mp4 {
    muxer: Muxer,
    file: Vec<u8>,
    head: usize,
}

impl Mp4 {
    /// Describes a track by a sequence header, or adds a frame to it, and sometimes ends a fragment.
    fn tag(&mut self, tag: &flv::Tag) {
        // Times of any size, in any order.
        let dts = u64::from(tag.timestamp) << (tag.payload.len() % 33);
        if let Some(header) = flv::read_video_header(&tag.payload) {
            let data = tag.payload.slice(header.body..);
            if let Ok(config) = mp4::video_config(header.codec, header.packet, &data, (dts as u32, 1)) {
                self.muxer.configure(Kind::Video, &config);
            }
            let (composition, is_sync) = (header.composition_time, header.is_keyframe());
            self.muxer.push(Kind::Video, Sample { dts, composition, is_sync, data });
        }
        if let Some(header) = flv::read_audio_header(&tag.payload) {
            let data = tag.payload.slice(header.body..);
            for config in [audio_config(header.codec, &data), mp3_config(&data)].into_iter().flatten() {
                self.muxer.configure(Kind::Audio, &config);
            }
            self.muxer.push(Kind::Audio, Sample { dts, composition: 0, is_sync: true, data });
        }
        match tag.payload.len() % 4 {
            0 => self.append(Muxer::fragment),
            1 if tag.kind == flv::TAG_SCRIPT => _ = self.muxer.discard(),
            _ => {}
        }
    }

    fn append(&mut self, fragment: impl Fn(&mut Muxer) -> Option<Fragment>) {
        let Some(fragment) = fragment(&mut self.muxer) else { return };
        if self.head == 0 {
            self.file = self.muxer.head().expect("a track has samples");
            self.head = self.file.len();
        }
        self.file.extend_from_slice(&fragment.bytes);
        self.muxer.accept(&fragment);
    }

    /// Ends the file, which must consist of whole boxes.
    fn finish(mut self) {
        self.append(Muxer::last_fragment);
        let Some(recording) = self.muxer.into_recording() else { return };
        let completion = recording.finish(self.file.len() as u64);
        assert_eq!(completion.head.len(), self.head, "it replaces the head");
        self.file.extend_from_slice(&completion.tail);
        let mut rest = &self.file[..];
        while let Some((size, _)) = rest.split_first_chunk::<4>() {
            rest = rest.get(u32::from_be_bytes(*size) as usize..).expect("a whole box");
        }
        assert!(rest.is_empty());
    }
}

/// Reads an H.264 decoder configuration and a frame after it; the first byte is the length of the record.
pub fn avc(data: &[u8]) {
    video_config(data, avc::read_config);
}

/// Reads an H.265 decoder configuration and a frame, as [`avc`].
pub fn hevc(data: &[u8]) {
    video_config(data, hevc::read_config);
}

fn video_config(data: &[u8], read: fn(&[u8]) -> Result<VideoConfig, nalu::Error>) {
    let Some((&length, data)) = data.split_first() else { return };
    let (record, frame) = data.split_at(usize::from(length).min(data.len()));
    let Ok(config) = read(record) else { return };
    // A set has a length field of two bytes in the record, and a start code of four in the result.
    assert!(config.parameter_sets.len() <= 2 * record.len());
    assert!(matches!(config.length_size, 1 | 2 | 4));
    let (mut bytes, mut units) = (0, Nalus::new(frame, config.length_size));
    for unit in units.by_ref() {
        let Ok(unit) = unit else { break };
        bytes += config.length_size + unit.len();
    }
    assert!(bytes <= frame.len() && units.next().is_none(), "it ends with the frame or the first error");
}

/// Reads an AAC decoder configuration and checks the ADTS headers made from it.
pub fn aac(data: &[u8]) {
    let Ok(config) = aac::read_config(data) else { return };
    for length in [0, 1, 371, 8184, 8185, data.len()] {
        let Some(header) = config.adts_header(length) else {
            assert!(length > 8184 - 50);
            continue;
        };
        // Decodes the header by ISO/IEC 14496-3, 1.A.2.2.
        let (header, element) = header.split_at(adts::HEADER_SIZE);
        let bits = header.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        let field = |from: u32, count: u32| bits >> (56 - from - count) & ((1 << count) - 1);
        assert_eq!((field(0, 12), field(12, 4)), (0xfff, 1), "MPEG-4, without a checksum");
        assert_eq!(field(16, 2) + 1, u64::from(config.object_type));
        assert!(field(18, 4) < 13, "a rate with a number");
        // A layout without a number is the first element of the frame, and there is a number of channels all the same.
        assert!(field(23, 3) > 0 && element.first().is_none_or(|first| first >> 5 == 5));
        assert_eq!(field(30, 13), (length + header.len() + element.len()) as u64);
        assert_eq!(field(54, 2), 0, "one frame");
    }
    let frame = config.silent_frame();
    let Some(prefix) = config.adts_header(frame.len()) else { panic!("silence is short") };
    let (first, blocks) = adts::read_frames(&[&prefix[..], &frame].concat()).expect("a frame with its header");
    assert_eq!((first.object_type, first.sample_rate, blocks), (config.object_type, config.sample_rate, 1));
}

/// Reads the MP3 frames of a message.
pub fn mp3(data: &[u8]) {
    if let Some((rate, samples)) = mp3::count_samples(data) {
        let first = mp3::read_header(data).expect("samples need a frame");
        assert_eq!(rate, first.sample_rate);
        assert!((8000..=48_000).contains(&rate) && samples >= first.samples);
        // The shortest frame, of 8 kbit/s at 24 kHz, has 24 bytes.
        assert!(samples as usize <= 1152 * (1 + data.len() / 24));
    }
}

/// Converts an FLV file to HLS segments, and parses them with an independent reader.
#[cfg(feature = "hls")]
pub fn ts(data: &[u8]) {
    let mut rest = data;
    let _ = flv::read_file_header(&mut rest);
    let mut segmenter =
        Segmenter::new("fuzz", Duration::from_secs(1), Arc::new(|| SystemTime::UNIX_EPOCH), BufferPool::default());
    segmenter.start();
    let (mut endless, mut stream, mut written) = (LiveMuxer::new(), demux::Demuxer::default(), Vec::new());
    let (mut time, mut demuxer, mut frames) = (0_u64, demux::Demuxer::default(), 0);
    loop {
        let tag = flv::read_tag(&mut rest).ok().flatten();
        let segment = match &tag {
            Some(tag) => {
                // As corrected by the stream: always increasing, without jumps.
                time += u64::from(tag.timestamp).saturating_sub(time).clamp(1, 5000);
                frames += 1;
                match (flv::read_video_header(&tag.payload), flv::read_audio_header(&tag.payload)) {
                    (Some(video), _) if tag.kind == flv::TAG_VIDEO => {
                        endless.video(time, &video, &tag.payload, &mut written);
                    }
                    (_, Some(audio)) if tag.kind == flv::TAG_AUDIO => {
                        endless.audio(time, &audio, &tag.payload, &mut written);
                    }
                    _ => {}
                }
                if frames % 3 == 0 {
                    endless.flush(&mut written);
                }
                match (flv::read_video_header(&tag.payload), flv::read_audio_header(&tag.payload)) {
                    (Some(video), _) if tag.kind == flv::TAG_VIDEO => segmenter.on_video(time, &video, &tag.payload),
                    (_, Some(audio)) if tag.kind == flv::TAG_AUDIO => segmenter.on_audio(time, &audio, &tag.payload),
                    _ => None,
                }
            }
            None => segmenter.finish(),
        };
        if let Some(segment) = segment {
            assert!(segment.duration > 0 && segment.body.len().is_multiple_of(stream::PACKET));
            assert_eq!(demuxer.feed(&segment.body, true), segment.body.len());
            assert!(demuxer.is_sound(), "{demuxer:?}");
            // Gaps of one track are filled, with two pictures and ten packets of silence a second at most.
            assert!(demuxer.pids.values().map(|pid| pid.pes).sum::<u64>() <= frames + 12 * (time / 1000 + 1));
        }
        if tag.is_none() {
            break;
        }
    }
    assert_eq!(segmenter.buffered_bytes(), 0, "nothing is left after the end");
    endless.flush(&mut written);
    assert_eq!(stream.feed(&written, true), written.len());
    assert!(written.is_empty() || stream.is_sound(), "{stream:?}");
}
