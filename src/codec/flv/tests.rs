use proptest::prelude::*;

use super::ex::MAX_MOD_EX;
use super::*;

/// Reads a header, and checks that every shorter payload is rejected.
fn read_whole_video(header: &[u8]) -> VideoTag {
    for end in 0..header.len() {
        assert_eq!(read_video_header(&header[..end]), None, "{end} bytes");
    }
    let tag = read_video_header(header).unwrap();
    assert_eq!(tag.body, header.len());
    tag
}

/// Reads a header, and checks that every shorter payload is rejected.
fn read_whole_audio(header: &[u8]) -> AudioTag {
    for end in 0..header.len() {
        assert_eq!(read_audio_header(&header[..end]), None, "{end} bytes");
    }
    let tag = read_audio_header(header).unwrap();
    assert_eq!(tag.body, header.len());
    tag
}

fn legacy_video(frame: FrameKind, codec: VideoCodec, packet: VideoPacket, body: usize) -> VideoTag {
    VideoTag { frame, codec, packet, composition_time: 0, track: 0, multitrack: false, body }
}

#[test]
fn h264() {
    let sequence_header = read_whole_video(&[
        0x17, // key frame, AVC
        0x00, // sequence header
        0x00, 0x00, 0x00, // composition time
    ]);
    assert_eq!(sequence_header, legacy_video(FrameKind::Key, VideoCodec::Avc, VideoPacket::SequenceHeader, 5));
    assert!(sequence_header.is_sequence_header() && sequence_header.is_config() && !sequence_header.is_keyframe());

    let keyframe = read_whole_video(&[
        0x17, // key frame, AVC
        0x01, // NALU
        0x00, 0x00, 0x50, // composition time
    ]);
    assert_eq!(keyframe.composition_time, 80);
    assert!(keyframe.is_keyframe() && !keyframe.is_config());

    let inter = read_whole_video(&[
        0x27, // inter frame, AVC
        0x01, // NALU
        0xff, 0xff, 0xd8, // composition time, negative
    ]);
    assert_eq!((inter.frame, inter.composition_time), (FrameKind::Inter, -40));
    assert!(!inter.is_keyframe() && !inter.is_config());

    let end = read_whole_video(&[
        0x17, // key frame, AVC
        0x02, // end of sequence
        0x00, 0x00, 0x00, // composition time
    ]);
    assert_eq!(end.packet, VideoPacket::SequenceEnd);
    assert!(!end.is_keyframe() && !end.is_config());
}

#[test]
fn h265_with_codec_id_12() {
    let tag = read_whole_video(&[
        0x1c, // key frame, codec 12
        0x01, // NALU
        0x00, 0x00, 0x28, // composition time
    ]);
    assert_eq!((tag.codec, tag.composition_time), (VideoCodec::Hevc, 40));
    assert!(tag.is_keyframe() && tag.codec.is_h265());
}

#[test]
fn codecs_without_packet_types() {
    let vp6 = read_whole_video(&[0x14]); // key frame, VP6
    assert_eq!(vp6, legacy_video(FrameKind::Key, VideoCodec::Vp6, VideoPacket::Raw, 1));
    assert!(vp6.is_keyframe() && !vp6.is_config());
    let h263 = read_whole_video(&[0x32]); // disposable inter frame, Sorenson H.263
    assert_eq!(h263, legacy_video(FrameKind::DisposableInter, VideoCodec::SorensonH263, VideoPacket::Raw, 1));
    let unknown = read_whole_video(&[0x6f]); // frame type 6, codec 15
    assert_eq!(unknown, legacy_video(FrameKind::Other(6), VideoCodec::Other(15), VideoPacket::Raw, 1));
    assert!(!unknown.is_keyframe());
}

#[test]
fn command_frames_are_no_sequence_headers() {
    let seek = read_video_header(&[
        0x57, // command frame, AVC
        0x00, // start of a seek
    ]);
    assert_eq!(seek, Some(legacy_video(FrameKind::Command, VideoCodec::Avc, VideoPacket::Raw, 1)));
    let enhanced = read_video_header(&[
        0xd0, // enhanced, command frame, sequence start
        0x01, // end of a seek
    ]);
    assert_eq!(enhanced, Some(legacy_video(FrameKind::Command, VideoCodec::Other(0), VideoPacket::Raw, 1)));
    assert!(!seek.unwrap().is_config() && !enhanced.unwrap().is_config() && !seek.unwrap().is_keyframe());
}

#[test]
fn enhanced_h265() {
    let sequence_header = read_whole_video(&[
        0x90, // enhanced, key frame, sequence start
        b'h', b'v', b'c', b'1', // codec
    ]);
    assert!(sequence_header.is_sequence_header() && !sequence_header.is_keyframe());
    assert_eq!(sequence_header.codec, VideoCodec::FourCc(*b"hvc1"));
    assert!(sequence_header.codec.is_h265());

    let keyframe = read_whole_video(&[
        0x91, // enhanced, key frame, coded frames
        b'h', b'v', b'c', b'1', // codec
        0xff, 0xff, 0xff, // composition time
    ]);
    assert_eq!((keyframe.packet, keyframe.composition_time), (VideoPacket::Frame, -1));
    assert!(keyframe.is_keyframe());

    let inter = read_whole_video(&[
        0xa3, // enhanced, inter frame, coded frames without composition time
        b'h', b'v', b'c', b'1', // codec
    ]);
    assert_eq!((inter.frame, inter.packet, inter.composition_time), (FrameKind::Inter, VideoPacket::Frame, 0));
}

#[test]
fn enhanced_av1() {
    let frame = read_whole_video(&[
        0x91, // enhanced, key frame, coded frames
        b'a', b'v', b'0', b'1', // codec, which has no composition time
    ]);
    assert!(frame.is_keyframe());
    let descriptor = read_whole_video(&[
        0x95, // enhanced, key frame, MPEG-2 TS sequence start
        b'a', b'v', b'0', b'1', // codec
    ]);
    assert_eq!(descriptor.packet, VideoPacket::Mpeg2TsSequenceHeader);
    assert!(descriptor.is_sequence_header() && descriptor.is_config());
    let metadata = read_whole_video(&[
        0x94, // enhanced, key frame, metadata
        b'a', b'v', b'0', b'1', // codec
    ]);
    assert!(metadata.is_config() && !metadata.is_sequence_header() && !metadata.is_keyframe());
    let of_command = read_whole_video(&[
        0xd4, // enhanced, command frame, which metadata overrules
        b'a', b'v', b'0', b'1', // codec
    ]);
    assert_eq!(of_command.packet, VideoPacket::Metadata);
}

#[test]
fn enhanced_packet_types_unknown_are_kept() {
    let tag = read_whole_video(&[0x9f, b'x', 0x00, 0xff, b'\n']);
    assert_eq!(tag.packet, VideoPacket::Other(15));
    assert_eq!(tag.codec.to_string(), r"x\x00\xff\n");
    assert!(!tag.is_keyframe());
    let tag = read_whole_audio(&[0x9f, b'n', b'e', b'w', b'1']);
    assert_eq!((tag.packet, tag.codec), (AudioPacket::Other(15), AudioCodec::FourCc(*b"new1")));
}

#[test]
fn multitrack_video() {
    let one = read_whole_video(&[
        0x96, // enhanced, key frame, multitrack
        0x00, // one track, sequence start
        b'a', b'v', b'c', b'1', // codec
        0x03, // track
    ]);
    assert_eq!((one.multitrack, one.track, one.packet), (true, 3, VideoPacket::SequenceHeader));
    assert!(one.codec.is_h264());

    let many = read_whole_video(&[
        0x96, // enhanced, key frame, multitrack
        0x11, // many tracks of one codec, coded frames
        b'a', b'v', b'c', b'1', // codec of all
        0x01, // track
        0x00, 0x00, 0x09, // size of the track
        0x00, 0x00, 0x10, // composition time
    ]);
    assert_eq!((many.track, many.packet, many.composition_time), (1, VideoPacket::Frame, 16));

    let many_codecs = read_whole_video(&[
        0x96, // enhanced, key frame, multitrack
        0x23, // many tracks of many codecs, coded frames without composition time
        b'v', b'p', b'0', b'9', // codec of the first track
        0x02, // track
        0x00, 0x00, 0x09, // size of the track
    ]);
    assert_eq!((many_codecs.track, many_codecs.codec), (2, VideoCodec::FourCc(*b"vp09")));

    let within = read_whole_video(&[0x96, 0x06, b'a', b'v', b'c', b'1', 0x00]);
    assert_eq!(within.packet, VideoPacket::Other(6), "multitrack inside of multitrack is not defined");
}

#[test]
fn mod_ex() {
    let nanoseconds = read_whole_video(&[
        0x97, // enhanced, key frame, ModEx
        0x02, // three bytes
        0x01, 0x02, 0x03, // nanoseconds
        0x01, // type 0: time offset; then coded frames
        b'h', b'v', b'c', b'1', // codec
        0x00, 0x00, 0x05, // composition time
    ]);
    assert_eq!((nanoseconds.packet, nanoseconds.composition_time), (VideoPacket::Frame, 5));
    assert!(nanoseconds.is_keyframe());

    let mut long = vec![
        0x97, // ModEx
        0xff, 0x01, 0x2b, // 300 bytes, in a long size
    ];
    long.extend_from_slice(&[0xee; 300]);
    long.extend_from_slice(&[
        0x17, // type 1: unknown; then ModEx
        0x00, 0xee, // one byte
        0x06, // then multitrack
        0x01, // one track, coded frames
        b'a', b'v', b'0', b'1', // codec
        0x04, // track
    ]);
    let long = read_whole_video(&long);
    assert_eq!((long.track, long.packet), (4, VideoPacket::Frame));

    let command = read_video_header(&[
        0xd7, // enhanced, command frame, ModEx
        0x00, 0xee, // one byte
        0x01, // then coded frames
        0x00, // start of a seek
    ]);
    assert_eq!(command.map(|tag| (tag.packet, tag.body)), Some((VideoPacket::Raw, 4)));

    let audio = read_whole_audio(&[
        0x97, // enhanced, ModEx
        0x00, 0xee, // one byte
        0x01, // then coded frames
        b'O', b'p', b'u', b's', // codec
    ]);
    assert_eq!(audio.packet, AudioPacket::Frame);
}

#[test]
fn mod_ex_chains_are_bounded() {
    // First byte; then extensions of one byte each, the last followed by coded frames.
    let chain =
        |length: usize| [b"\x97".to_vec(), b"\x00\xee\x07".repeat(length - 1), b"\x00\xee\x01av01".to_vec()].concat();
    assert!(read_video_header(&chain(MAX_MOD_EX)).unwrap().is_keyframe());
    assert_eq!(read_video_header(&chain(MAX_MOD_EX + 1)), None);
    assert_eq!(read_audio_header(&chain(1_000_000)), None);
}

#[test]
fn aac() {
    let sequence_header = read_whole_audio(&[
        0xaf, // AAC, 44 kHz, 16 bits, stereo
        0x00, // sequence header
    ]);
    assert_eq!((sequence_header.codec, sequence_header.packet), (AudioCodec::Aac, AudioPacket::SequenceHeader));
    assert_eq!((sequence_header.sample_rate, sequence_header.channels), (Some(44_100), Some(2)));
    assert!(sequence_header.is_sequence_header() && sequence_header.is_config());
    let frame = read_whole_audio(&[
        0xaf, // AAC, 44 kHz, 16 bits, stereo
        0x01, // raw
    ]);
    assert!(frame.packet == AudioPacket::Frame && !frame.is_config());
}

#[test]
fn audio_without_packet_types() {
    // First byte, codec, samples a second, channels.
    let cases = [
        (0x2f, AudioCodec::Mp3, 44_100, 2),
        (0x2a, AudioCodec::Mp3, 22_050, 1),
        (0x12, AudioCodec::AdpcmSwf, 5_512, 1),
        (0x36, AudioCodec::LinearPcmLe, 11_025, 1),
        (0x4f, AudioCodec::Nellymoser16, 16_000, 1),
        (0x5f, AudioCodec::Nellymoser8, 8_000, 1),
        (0x72, AudioCodec::G711A, 8_000, 1),
        (0xb6, AudioCodec::Speex, 16_000, 1),
        (0xef, AudioCodec::Mp38k, 8_000, 2),
        (0xdf, AudioCodec::Other(13), 44_100, 2),
    ];
    for (first, codec, sample_rate, channels) in cases {
        let tag = read_whole_audio(&[first]);
        assert_eq!((tag.codec, tag.packet), (codec, AudioPacket::Raw), "{first:#04x}");
        assert_eq!((tag.sample_rate, tag.channels), (Some(sample_rate), Some(channels)), "{first:#04x}");
        assert!(!tag.is_config());
    }
}

#[test]
fn enhanced_opus() {
    let sequence_header = read_whole_audio(&[
        0x90, // enhanced, sequence start
        b'O', b'p', b'u', b's', // codec
    ]);
    assert!(sequence_header.is_sequence_header());
    assert_eq!((sequence_header.sample_rate, sequence_header.channels), (None, None));
    let channels = read_whole_audio(&[
        0x94, // enhanced, multichannel configuration
        b'O', b'p', b'u', b's', // codec
    ]);
    assert!(channels.is_config() && !channels.is_sequence_header());
    let end = read_whole_audio(&[
        0x92, // enhanced, sequence end
        b'O', b'p', b'u', b's', // codec
    ]);
    assert_eq!(end.packet, AudioPacket::SequenceEnd);
}

#[test]
fn multitrack_audio() {
    let tag = read_whole_audio(&[
        0x95, // enhanced, multitrack
        0x20, // many tracks of many codecs, sequence start
        b'm', b'p', b'4', b'a', // codec of the first track
        0x07, // track
        0x00, 0x00, 0x02, // size of the track
    ]);
    assert_eq!((tag.track, tag.multitrack, tag.packet), (7, true, AudioPacket::SequenceHeader));
    assert!(tag.codec.is_aac());
}

#[test]
fn names_for_logs() {
    let videos = [
        (VideoCodec::Avc, "H.264"),
        (VideoCodec::Hevc, "H.265"),
        (VideoCodec::Vp6, "VP6"),
        (VideoCodec::Other(9), "video codec 9"),
        (VideoCodec::FourCc(*b"avc1"), "H.264"),
        (VideoCodec::FourCc(*b"av01"), "AV1"),
        (VideoCodec::FourCc(*b"vp09"), "VP9"),
        (VideoCodec::FourCc(*b"a\x1bb\""), r#"a\x1bb\""#),
    ];
    for (codec, name) in videos {
        assert_eq!(codec.to_string(), name);
    }
    let audios = [
        (AudioCodec::Aac, "AAC"),
        (AudioCodec::Mp3, "MP3"),
        (AudioCodec::Other(12), "audio codec 12"),
        (AudioCodec::FourCc(*b"Opus"), "Opus"),
        (AudioCodec::FourCc(*b".mp3"), "MP3"),
        (AudioCodec::FourCc(*b"new1"), "new1"),
    ];
    for (codec, name) in audios {
        assert_eq!(codec.to_string(), name);
    }
}

proptest! {
    #[test]
    fn arbitrary_payloads_do_not_panic(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        for first in [0x17, 0x90, 0x96, 0x97, 0xaf] {
            let payload = [&[first][..], &payload].concat();
            if let Some(tag) = read_video_header(&payload) {
                prop_assert!(tag.body <= payload.len());
            }
            if let Some(tag) = read_audio_header(&payload) {
                prop_assert!(tag.body <= payload.len());
            }
        }
    }
}
