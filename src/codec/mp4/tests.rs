//! Files are read back with the readers of `mp4-atom`. Players read them in `tests/e2e/recording_mp4.rs`.

use bytes::Bytes;
use mp4_atom::{Any, Codec, Decode, DecodeMaybe, Ftyp, Mfra, Moof, Moov};
use proptest::prelude::*;

use super::recording::MAX_ENTRIES;
use super::*;
use crate::codec::flv::{AudioCodec, VideoCodec, VideoPacket};
use crate::codec::sps::tests::H264_1280X720;

/// The decoder configuration of AAC for 44.1 kHz and two channels.
pub(crate) const AAC_44100_STEREO: &[u8] = &[0x12, 0x10];

/// Returns the decoder configuration of x264 for 1280x720.
pub(crate) fn avc_record() -> Vec<u8> {
    let mut record = vec![1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, H264_1280X720.len() as u8];
    record.extend_from_slice(H264_1280X720);
    record.extend_from_slice(&[1, 0, 2, 0x68, 0xeb, 0xfd, 0xf8, 0xf8, 0]);
    record
}

fn avc() -> TrackConfig {
    video_config(VideoCodec::Avc, VideoPacket::SequenceHeader, &avc_record(), (0, 0)).unwrap()
}

fn aac() -> TrackConfig {
    audio_config(AudioCodec::Aac, AAC_44100_STEREO).unwrap()
}

fn sample(dts: u64, composition: i32, is_sync: bool, data: &[u8]) -> Sample {
    Sample { dts, composition, is_sync, data: Bytes::copy_from_slice(data) }
}

/// A sample of a file: kind, decoding time, duration, composition, sync, data.
pub(crate) type Read = (Kind, u64, u32, i64, bool, Vec<u8>);

/// Reads the whole fragments of a file. Returns its tracks, their samples and where each fragment starts.
pub(crate) fn read(file: &[u8]) -> (Moov, Vec<Read>, Vec<u64>) {
    let mut rest = file;
    Ftyp::decode(&mut rest).unwrap();
    let moov = Moov::decode(&mut rest).unwrap();
    let (mut samples, mut starts) = (Vec::new(), Vec::new());
    loop {
        let start = file.len() - rest.len();
        let Ok(Some(Any::Moof(moof))) = Any::decode_maybe(&mut rest) else { break };
        let Ok(Some(Any::Mdat(_))) = Any::decode_maybe(&mut rest) else { break };
        starts.push(start as u64);
        samples.extend(read_fragment(&moof, &file[start..]));
    }
    (moov, samples, starts)
}

fn read_fragment(moof: &Moof, bytes: &[u8]) -> Vec<Read> {
    let mut samples = Vec::new();
    for traf in &moof.traf {
        let kind = if traf.tfhd.track_id == 1 { Kind::Video } else { Kind::Audio };
        let mut dts = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        let mut at = traf.trun[0].data_offset.unwrap() as usize;
        let default = if kind == Kind::Video { head::OTHER_SAMPLE } else { head::SYNC_SAMPLE };
        for entry in &traf.trun[0].samples {
            let (duration, size) = (entry.duration.unwrap(), entry.size.unwrap() as usize);
            let is_sync = entry.flags.unwrap_or(default) == head::SYNC_SAMPLE;
            samples.push((kind, dts, duration, entry.cts.unwrap_or(0), is_sync, bytes[at..at + size].to_vec()));
            dts += u64::from(duration);
            at += size;
        }
    }
    samples
}

/// Appends a fragment to a file, after its head.
fn append(muxer: &mut Muxer, file: &mut Vec<u8>) {
    let Some(fragment) = muxer.fragment() else { return };
    if file.is_empty() {
        *file = muxer.head().unwrap();
    }
    file.extend_from_slice(&fragment.bytes);
    muxer.accept(&fragment);
}

/// Ends a file.
fn complete(mut muxer: Muxer, file: &mut Vec<u8>) {
    let last = muxer.last_fragment();
    if let Some(last) = last {
        if file.is_empty() {
            *file = muxer.head().unwrap();
        }
        file.extend_from_slice(&last.bytes);
        muxer.accept(&last);
    }
    let completion = muxer.into_recording().unwrap().finish(file.len() as u64);
    file[..completion.head.len()].copy_from_slice(&completion.head);
    file.extend_from_slice(&completion.tail);
}

/// Returns a file of three GOPs of a second, a fragment each, without and with its end.
fn three_gops() -> (Vec<u8>, Vec<u8>) {
    let mut muxer = Muxer::default();
    assert!(muxer.configure(Kind::Video, &avc()) && muxer.configure(Kind::Audio, &aac()));
    let mut file = Vec::new();
    for n in 0..75_u64 {
        let composition = [80, 40, -40][n as usize % 3];
        muxer.push(Kind::Video, sample(n * 40, composition, n % 25 == 0, &[b'v', n as u8]));
        if n % 25 == 0 {
            append(&mut muxer, &mut file);
        }
        muxer.push(Kind::Audio, sample(n * 40 + 7, 0, true, &[b'a', n as u8, 0]));
    }
    append(&mut muxer, &mut file);
    let unfinished = file.clone();
    complete(muxer, &mut file);
    (unfinished, file)
}

#[test]
fn each_sample_is_in_the_file_with_its_times() {
    let (_, file) = three_gops();
    let (moov, samples, _) = read(&file);
    for (kind, first, step) in [(Kind::Video, 0, 40), (Kind::Audio, 7, 40)] {
        let of_kind: Vec<_> = samples.iter().filter(|sample| sample.0 == kind).collect();
        assert_eq!(of_kind.len(), 75);
        for (n, (_, dts, duration, composition, is_sync, data)) in of_kind.into_iter().enumerate() {
            assert_eq!((*dts, *duration, data[1]), (first + n as u64 * step, step as u32, n as u8));
            let expected = if kind == Kind::Video { ([80, 40, -40][n % 3], n % 25 == 0) } else { (0, true) };
            assert_eq!((*composition, *is_sync), expected, "{n}");
        }
    }
    let [video, audio] = &moov.trak[..] else { panic!("two tracks") };
    let (Codec::Avc1(avc1), Codec::Mp4a(mp4a)) =
        (&video.mdia.minf.stbl.stsd.codecs[0], &audio.mdia.minf.stbl.stsd.codecs[0])
    else {
        panic!("H.264 and AAC")
    };
    assert_eq!((avc1.visual.width, avc1.visual.height), (1280, 720));
    assert_eq!(avc1.avcc.sequence_parameter_sets, [H264_1280X720]);
    let config = &mp4a.esds.es_desc.dec_config;
    assert_eq!(config.dec_specific.as_ref().unwrap().raw, AAC_44100_STEREO);
    assert_eq!((mp4a.audio.channel_count, mp4a.audio.sample_rate), (2, 44_100.into()));
}

#[test]
fn the_end_has_the_duration_and_an_index_of_keyframes() {
    let (unfinished, file) = three_gops();
    let (moov, _, _) = read(&unfinished);
    assert_eq!(moov.mvex.unwrap().mehd, None);
    let (moov, _, starts) = read(&file);
    assert_eq!(moov.mvex.unwrap().mehd.unwrap().fragment_duration, 3007);
    let size = u32::from_be_bytes(*file.last_chunk().unwrap()) as usize;
    let mfra = Mfra::decode(&mut &file[file.len() - size..]).unwrap();
    assert_eq!(starts.len(), 4, "the last one has the samples that were held back");
    let entries = |track: usize| {
        let entry = |entry: &mp4_atom::FragmentInfo| (entry.time, entry.moof_offset, entry.sample_delta);
        mfra.tfra[track].entries.iter().map(entry).collect::<Vec<_>>()
    };
    // The presentation time of keyframes; the audio of a fragment begins with the sample that was held back.
    assert_eq!(entries(0), [(80, starts[0], 1), (1040, starts[1], 1), (1960, starts[2], 1)]);
    assert_eq!(entries(1), [(7, starts[0], 1), (967, starts[1], 1), (1967, starts[2], 1)]);
}

#[test]
fn a_file_that_is_cut_at_any_byte_has_its_whole_fragments() {
    let (unfinished, _) = three_gops();
    let (moov, whole, starts) = read(&unfinished);
    let ends: Vec<_> = starts.iter().skip(1).map(|&start| start as usize).chain([unfinished.len()]).collect();
    let counts: Vec<_> = ends.iter().map(|&end| read(&unfinished[..end]).1.len()).collect();
    for end in starts[0] as usize..=unfinished.len() {
        let (tracks, samples, _) = read(&unfinished[..end]);
        let fragments = ends.iter().filter(|&&fragment_end| fragment_end <= end).count();
        let count = fragments.checked_sub(1).map_or(0, |last| counts[last]);
        assert!(samples == whole[..count] && tracks == moov, "{end} bytes");
    }
}

#[test]
fn another_description_needs_another_file() {
    let mut muxer = Muxer::default();
    assert!(muxer.configure(Kind::Audio, &aac()) && muxer.configure(Kind::Audio, &aac()));
    let other = audio_config(AudioCodec::Aac, &[0x11, 0x90]).unwrap();
    assert!(muxer.configure(Kind::Audio, &other), "nothing has been described with it");
    assert!(muxer.configure(Kind::Audio, &aac()));
    muxer.push(Kind::Audio, sample(0, 0, true, b"1"));
    assert!(!muxer.configure(Kind::Audio, &other));
    muxer.push(Kind::Audio, sample(23, 0, true, b"of the other description"));
    assert!(muxer.configure(Kind::Audio, &aac()));
    muxer.push(Kind::Audio, sample(46, 0, true, b"2"));
    let mut file = Vec::new();
    append(&mut muxer, &mut file);
    assert!(!muxer.configure(Kind::Video, &avc()), "the head is written");
    muxer.push(Kind::Video, sample(50, 0, true, b"left out"));
    complete(muxer, &mut file);
    let (_, samples, _) = read(&file);
    let data: Vec<_> = samples.iter().map(|sample| (sample.1, sample.2, sample.5.as_slice())).collect();
    assert_eq!(data, [(0, 46, &b"1"[..]), (46, 46, b"2")]);
}

#[test]
fn times_beyond_32_bits_and_gaps() {
    let mut muxer = Muxer::default();
    muxer.configure(Kind::Video, &avc());
    let wrap = 1 << 32;
    let times = [wrap - 40, wrap, wrap + 40, 3 * wrap, 3 * wrap];
    times.iter().for_each(|&dts| muxer.push(Kind::Video, sample(dts, 0, true, b"x")));
    let mut file = Vec::new();
    append(&mut muxer, &mut file);
    complete(muxer, &mut file);
    let (moov, samples, _) = read(&file);
    let durations: Vec<_> = samples.iter().map(|sample| sample.2).collect();
    // No field can hold a gap of 99 days in one piece. The time in the next fragment is right.
    assert_eq!(durations, [40, 40, u32::MAX, 0, 1]);
    assert_eq!((samples[0].1, samples[4].1), (wrap - 40, 3 * wrap));
    assert_eq!(moov.mvex.unwrap().mehd.unwrap().fragment_duration, 3 * wrap + 1);
}

#[test]
fn an_index_of_many_keyframes_is_bounded() {
    let mut muxer = Muxer::default();
    muxer.configure(Kind::Video, &avc());
    let mut file = Vec::new();
    for n in 0..3 * MAX_ENTRIES as u64 {
        muxer.push(Kind::Video, sample(n * 1000, 0, true, b"x"));
        append(&mut muxer, &mut file);
    }
    complete(muxer, &mut file);
    let size = u32::from_be_bytes(*file.last_chunk().unwrap()) as usize;
    let mfra = Mfra::decode(&mut &file[file.len() - size..]).unwrap();
    let entries = &mfra.tfra[0].entries;
    assert_eq!(entries.len(), 3 * MAX_ENTRIES / 4);
    assert!(entries.windows(2).all(|pair| pair[1].time - pair[0].time == 4000));
}

#[test]
fn what_was_lost_is_not_in_the_index() {
    let mut muxer = Muxer::default();
    muxer.configure(Kind::Video, &avc());
    let mut file = Vec::new();
    (0..3).for_each(|n| muxer.push(Kind::Video, sample(n * 40, 0, n == 0, b"x")));
    append(&mut muxer, &mut file);
    (3..5).for_each(|n| muxer.push(Kind::Video, sample(n * 40, 0, n == 3, b"x")));
    // The disk has no room for it.
    assert_eq!(muxer.fragment().unwrap().samples, 2);
    assert_eq!((muxer.discard(), muxer.pending(), muxer.start()), (1, (0, 0), None));
    muxer.push(Kind::Video, sample(1000, 0, true, b"x"));
    complete(muxer, &mut file);
    let (_, samples, starts) = read(&file);
    assert_eq!(samples.iter().map(|sample| sample.1).collect::<Vec<_>>(), [0, 40, 1000]);
    let size = u32::from_be_bytes(*file.last_chunk().unwrap()) as usize;
    let mfra = Mfra::decode(&mut &file[file.len() - size..]).unwrap();
    assert_eq!(mfra.tfra[0].entries.iter().map(|entry| entry.moof_offset).collect::<Vec<_>>(), starts);
}

fn entry(config: TrackConfig) -> Codec {
    let kind = if matches!(config.media, Media::Video { .. }) { Kind::Video } else { Kind::Audio };
    let head = head::encode(&[(kind, config)], None).unwrap();
    let (moov, _, _) = read(&head);
    moov.trak[0].mdia.minf.stbl.stsd.codecs[0].clone()
}

#[test]
fn sample_entries_of_other_codecs() {
    let video = |codec: &[u8; 4], record: &[u8]| {
        video_config(VideoCodec::FourCc(*codec), VideoPacket::SequenceHeader, record, (640, 360))
    };
    let Codec::Av01(av01) = entry(video(b"av01", &[0x81, 0, 0x0c, 0, 10, 1, 2]).unwrap()) else { panic!("AV1") };
    assert_eq!((av01.visual.width, av01.visual.height, &av01.av1c.config_obus[..]), (640, 360, &[10, 1, 2][..]));
    // VP9, profile 0, level 1.0, 8 bits, with and without a version.
    let record = [0, 10, 0x82, 2, 2, 2, 0, 0];
    let with_version = [&[1, 0, 0, 0][..], &record].concat();
    for record in [&record[..], &with_version] {
        let Codec::Vp09(vp09) = entry(video(b"vp09", record).unwrap()) else { panic!("VP9") };
        assert_eq!((vp09.vpcc.level, vp09.vpcc.bit_depth), (10, 8));
    }
    let mp3 = mp3_config(&[0xff, 0xfb, 0x90, 0xc4]).unwrap();
    assert_eq!(mp3.media, Media::Audio { channels: 1, sample_rate: 44_100 });
    let Codec::Mp4a(mp4a) = entry(mp3) else { panic!("MP3") };
    let config = mp4a.esds.es_desc.dec_config;
    assert_eq!((config.object_type_indication, config.dec_specific), (0x6b, None));
    let head = [&b"OpusHead"[..], &[1, 2, 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat();
    let Codec::Opus(opus) = entry(audio_config(AudioCodec::FourCc(*b"Opus"), &head).unwrap()) else { panic!("Opus") };
    assert_eq!((opus.dops.output_channel_count, opus.dops.pre_skip, opus.dops.input_sample_rate), (2, 0x138, 48_000));
    let mut info = [0; 34];
    // 48 kHz, two channels, 16 bits.
    info[10..14].copy_from_slice(&[0x0b, 0xb8, 0x02, 0xf0]);
    let record = [&b"fLaC"[..], &[0, 0, 0, 34], &info].concat();
    let flac = audio_config(AudioCodec::FourCc(*b"fLaC"), &record).unwrap();
    assert_eq!(flac.media, Media::Audio { channels: 2, sample_rate: 48_000 });
    assert_eq!(audio_config(AudioCodec::FourCc(*b"fLaC"), &info).as_ref(), Ok(&flac), "ffmpeg");
    assert!(matches!(entry(flac), Codec::Flac(_)));
}

#[test]
fn what_mp4_cannot_have_is_refused() {
    let video = |codec, record: &[u8]| video_config(codec, VideoPacket::SequenceHeader, record, (0, 0)).unwrap_err();
    assert_eq!(video(VideoCodec::Vp6, &[]), Reason::Codec);
    assert_eq!(video(VideoCodec::FourCc(*b"vvc1"), &[0; 40]), Reason::Codec);
    for codec in [VideoCodec::Avc, VideoCodec::Hevc, VideoCodec::FourCc(*b"av01"), VideoCodec::FourCc(*b"vp09")] {
        assert_eq!(video(codec, &[0, 1, 2]), Reason::Header, "{codec}");
    }
    let large = [&avc_record()[..], &[0; 70_000]].concat();
    assert_eq!(video(VideoCodec::Avc, &large), Reason::Header);
    let audio = |codec, record: &[u8]| audio_config(codec, record).unwrap_err();
    assert_eq!(audio(AudioCodec::Speex, &[]), Reason::Codec);
    assert_eq!(audio(AudioCodec::FourCc(*b"ac-3"), &[]), Reason::Codec);
    assert_eq!(audio(AudioCodec::Aac, &[0x12]), Reason::Header);
    for record in [
        &b"Opus"[..],
        b"OpusHead\x01",
        b"OpusHead\x01\0\0\0\0\0\0\0\0\0\0",
        b"OpusHead\x01\x02\0\0\0\0\0\0\0\0\x01\x05",
    ] {
        assert_eq!(audio(AudioCodec::FourCc(*b"Opus"), record), Reason::Header, "{}", record.escape_ascii());
    }
    assert_eq!(audio(AudioCodec::FourCc(*b"fLaC"), b"fLaC\x84\0\0\x22"), Reason::Header);
    assert_eq!(mp3_config(b"ID3\x04"), Err(Reason::Header));
}

proptest! {
    #[test]
    fn any_samples_are_in_the_file(
        samples in prop::collection::vec((any::<bool>(), 0..5000_u64, any::<i16>(), any::<bool>(), 1..40_usize, 0..8_u8), 1..100)
    ) {
        let mut muxer = Muxer::default();
        muxer.configure(Kind::Video, &avc());
        muxer.configure(Kind::Audio, &aac());
        let (mut file, mut expected, mut time) = (Vec::new(), [Vec::new(), Vec::new()], 0);
        for (is_video, step, composition, is_sync, length, cut) in samples {
            time += step;
            let kind = if is_video { Kind::Video } else { Kind::Audio };
            let data = vec![length as u8; length];
            expected[kind as usize].push((time, if is_video { i64::from(composition) } else { 0 }, data.clone()));
            muxer.push(kind, sample(time, composition.into(), is_sync, &data));
            if cut == 0 {
                append(&mut muxer, &mut file);
            }
        }
        complete(muxer, &mut file);
        let (_, read, _) = read(&file);
        for kind in Kind::ALL {
            let of_kind: Vec<_> =
                read.iter().filter(|s| s.0 == kind).map(|s| (s.1, s.3, s.5.clone())).collect();
            prop_assert_eq!(&of_kind, &expected[kind as usize]);
        }
    }

    #[test]
    fn any_bytes_are_a_description_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0..8_usize) {
        let starts: [&[u8]; 8] =
            [b"", b"OpusHead\x01", b"fLaC\0\0\0\x22", &[0x81], &[1, 0, 0, 0], &[0xff, 0xfb], &[1, 100, 0, 31, 0xff, 0xe1], &[0x12]];
        let record = [starts[start], &bytes].concat();
        let fourccs = [b"avc1", b"hvc1", b"av01", b"vp09", b"vp08"];
        let mut configs: Vec<_> = fourccs.iter()
            .filter_map(|fourcc| video_config(VideoCodec::FourCc(**fourcc), VideoPacket::SequenceHeader, &record, (1, 70_000)).ok())
            .map(|config| (Kind::Video, config))
            .collect();
        let audio = [b"mp4a", b"Opus", b"fLaC"].map(|fourcc| audio_config(AudioCodec::FourCc(*fourcc), &record));
        configs.extend(audio.into_iter().chain([mp3_config(&record)]).flatten().map(|config| (Kind::Audio, config)));
        for config in configs {
            let plain = head::encode(std::slice::from_ref(&config), None).unwrap();
            prop_assert_eq!(head::encode(&[config], Some(u64::MAX)).unwrap().len(), plain.len());
        }
    }
}
