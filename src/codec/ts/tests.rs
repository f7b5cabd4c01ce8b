use std::collections::HashMap;

use mpeg2ts::pes::{PesPacketReader, ReadPesPacket};
use mpeg2ts::ts::{ReadTsPacket, TsPacketReader, TsPayload};
use proptest::prelude::*;

use super::*;
use crate::codec::nalu::START_CODE;

/// A segment parsed by the `mpeg2ts` crate.
#[derive(Debug, Default)]
pub(crate) struct Demuxed {
    /// Stream types and PIDs of the PMT, and the PID of the clock references.
    pub(crate) streams: Vec<(u8, u16)>,
    pub(crate) pcr_pid: u16,
    pub(crate) frames: Vec<DemuxedFrame>,
    /// In units of [`CLOCK_HZ`].
    pub(crate) pcrs: Vec<u64>,
    /// The first and the last continuity counter of packets with content, by PID.
    pub(crate) counters: HashMap<u16, (u8, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DemuxedFrame {
    pub(crate) is_video: bool,
    pub(crate) pts: u64,
    pub(crate) dts: u64,
    pub(crate) data: Vec<u8>,
}

impl Demuxed {
    pub(crate) fn select(is_video: bool, frames: &[DemuxedFrame]) -> Vec<DemuxedFrame> {
        frames.iter().filter(|frame| frame.is_video == is_video).cloned().collect()
    }
}

/// Parses a segment and checks packets, counters, tables and clock references.
pub(crate) fn demux(segment: &[u8]) -> Demuxed {
    assert_eq!(segment.len() % PACKET_SIZE, 0);
    let mut demuxed = Demuxed::default();
    let mut packets = TsPacketReader::new(segment);
    for number in 0.. {
        let Some(packet) = packets.read_ts_packet().unwrap() else { break };
        let pid = packet.header.pid.as_u16();
        let counter = packet.header.continuity_counter.as_u8();
        if packet.payload.is_some() {
            let (_, last) = demuxed.counters.entry(pid).or_insert((counter, counter.wrapping_sub(1) & 0x0f));
            assert_eq!(counter, (*last + 1) & 0x0f, "continuity of {pid:#x} in packet {number}");
            *last = counter;
        }
        match packet.payload {
            Some(TsPayload::Pat(pat)) => {
                assert_eq!((number, pat.table.len()), (0, 1));
                assert_eq!(pat.table[0].program_map_pid.as_u16(), 0x1000);
            }
            Some(TsPayload::Pmt(pmt)) => {
                assert_eq!(number, 1);
                demuxed.pcr_pid = pmt.pcr_pid.unwrap().as_u16();
                let streams = pmt.es_info.iter().map(|info| (info.stream_type as u8, info.elementary_pid.as_u16()));
                demuxed.streams = streams.collect();
            }
            _ => assert!(number > 1),
        }
        if let Some(pcr) = packet.adaptation_field.and_then(|field| field.pcr) {
            assert_eq!(pid, demuxed.pcr_pid);
            demuxed.pcrs.push(pcr.as_u64() / 300);
        }
    }
    let mut pes = PesPacketReader::new(TsPacketReader::new(segment));
    let mut pending = Vec::new();
    while let Some(packet) = pes.read_pes_packet().unwrap() {
        let pts = packet.header.pts.unwrap().as_u64();
        let dts = packet.header.dts.map_or(pts, |dts| dts.as_u64());
        pending.push(DemuxedFrame { is_video: packet.header.stream_id.is_video(), pts, dts, data: packet.data });
    }
    demuxed.frames = pending;
    for is_video in [true, false] {
        let number = if is_video { 0x100 } else { 0x101 };
        let is_there = demuxed.frames.iter().any(|frame| frame.is_video == is_video);
        assert_eq!(is_there, demuxed.streams.iter().any(|(_, pid)| *pid == number), "the PMT lists the streams");
    }
    demuxed
}

fn avc() -> VideoConfig {
    let parameter_sets = [0, 0, 0, 1, 0x67, 0x64, 0, 0, 0, 0, 1, 0x68, 0xeb].to_vec();
    VideoConfig { codec: Codec::H264, length_size: 4, parameter_sets }
}

/// Returns a NAL unit with its length.
fn nalu(first: u8, size: usize) -> Vec<u8> {
    let mut frame = u32::try_from(size).unwrap().to_be_bytes().to_vec();
    frame.push(first);
    frame.resize(4 + size, 0x55);
    frame
}

#[test]
fn a_keyframe_has_a_delimiter_and_its_parameter_sets_in_front() {
    let mut muxer = Muxer::new();
    muxer.video(&avc(), 0, 3600, true, &nalu(0x65, 500)).unwrap();
    muxer.video(&avc(), 3600, 0, false, &[nalu(9, 2), nalu(0x41, 100)].concat()).unwrap();
    let segment = demux(&muxer.finish().unwrap());
    assert_eq!((segment.streams, segment.pcr_pid), (vec![(0x1b, 0x100)], 0x100));
    let [key, inter] = &segment.frames[..] else { panic!() };
    assert_eq!((key.dts, key.pts), (START, START + 3600));
    let head = [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 0x64, 0, 0, 0, 0, 1, 0x68, 0xeb, 0, 0, 0, 1, 0x65, 0x55];
    assert_eq!(key.data[..head.len()], head);
    assert_eq!(key.data.len(), head.len() - 2 + 500);
    assert_eq!((inter.dts, inter.pts), (START + 3600, START + 3600));
    assert_eq!(inter.data[..12], [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x41, 0x55], "one delimiter, and no sets");
    assert_eq!(segment.pcrs, [START - PCR_LEAD, START + 3600 - PCR_LEAD]);
}

#[test]
fn parameter_sets_in_the_frame_are_not_repeated() {
    let mut muxer = Muxer::new();
    // In the wrong order, behind another unit.
    let frame = [nalu(6, 3), nalu(0x68, 4), nalu(0x67, 8), nalu(0x65, 50)].concat();
    let mut config = VideoConfig { parameter_sets: Vec::new(), ..avc() };
    config.update_from_frame(&frame).unwrap();
    muxer.video(&config, 0, 0, true, &frame).unwrap();
    let segment = demux(&muxer.finish().unwrap());
    let units: Vec<_> = segment.frames[0].data.windows(5).filter(|at| at[..4] == START_CODE).map(|at| at[4]).collect();
    assert_eq!(units, [9, 0x67, 0x68, 6, 0x65]);
    assert_eq!(segment.frames[0].data.len(), 6 + frame.len());
}

#[test]
fn small_keyframes_do_not_each_repeat_large_parameter_sets() {
    let config = VideoConfig { parameter_sets: [&[0, 0, 0, 1, 0x67][..], &[0x55; 4000]].concat(), ..avc() };
    let mut muxer = Muxer::new();
    let mut with_sets = |config: &VideoConfig, size, count| -> Vec<usize> {
        (0..count).for_each(|n| muxer.video(config, n * 3600, 0, true, &nalu(0x65, size)).unwrap());
        let frames = demux(&muxer.finish().unwrap()).frames;
        frames.iter().enumerate().filter(|(_, frame)| frame.data[6..11] == [0, 0, 0, 1, 0x67]).map(|(n, _)| n).collect()
    };
    assert_eq!(with_sets(&config, 97, 100), [0, 40, 80], "once per 4005 bytes of frames");
    assert_eq!(with_sets(&config, 97, 2), [0], "each segment starts with them");
    assert_eq!(with_sets(&config, 5000, 4), [0, 1, 2, 3]);
    assert_eq!(with_sets(&avc(), 10, 4), [0, 1, 2, 3]);
    let mut muxer = Muxer::new();
    for config in [&config, &config, &avc()] {
        muxer.video(config, 0, 0, true, &nalu(0x65, 5)).unwrap();
    }
    let sizes: Vec<_> = demux(&muxer.finish().unwrap()).frames.iter().map(|frame| frame.data.len()).collect();
    assert_eq!(sizes, [6 + 4005 + 9, 6 + 9, 6 + 13 + 9], "changed sets are written at once");
}

#[test]
fn frames_of_each_length_fill_their_packets() {
    let mut muxer = Muxer::new();
    for size in 1..800 {
        muxer.video(&avc(), size * 3600, 0, size % 7 == 0, &nalu(0x41, size as usize)).unwrap();
    }
    let segment = demux(&muxer.finish().unwrap());
    assert_eq!(segment.frames.len(), 799);
    for (index, frame) in segment.frames.iter().enumerate() {
        let sets = if (index + 1) % 7 == 0 { avc().parameter_sets.len() } else { 0 };
        assert_eq!(frame.data.len(), 6 + sets + 4 + index + 1);
    }
}

#[test]
fn a_frame_above_the_maximum_of_the_length_field() {
    let mut muxer = Muxer::new();
    muxer.video(&avc(), 0, 0, true, &nalu(0x65, 100_000)).unwrap();
    assert_eq!(demux(&muxer.finish().unwrap()).frames[0].data.len(), 6 + 13 + 4 + 100_000);
}

#[test]
fn a_frame_with_too_many_units_is_an_error() {
    let config = VideoConfig { length_size: 1, ..avc() };
    let mut muxer = Muxer::new();
    let frame = [1, 0x65].repeat(nalu::MAX_NALUS);
    muxer.video(&config, 0, 0, true, &frame).unwrap();
    assert_eq!(muxer.video(&config, 0, 0, true, &[&frame[..], &[0]].concat()), Err(nalu::Error::Count));
}

#[test]
fn several_frames_of_audio_are_one_packet_of_at_most_a_tenth_of_a_second() {
    let mut muxer = Muxer::new();
    for n in 0..100 {
        muxer.audio(AudioCodec::Aac, n * 1920, 1920, &[0xff, 0xf1, 0, 0, 0, 0, 0], &[n as u8; 200]);
    }
    let segment = demux(&muxer.finish().unwrap());
    assert_eq!((segment.streams, segment.pcr_pid), (vec![(0x0f, 0x101)], 0x101));
    assert_eq!(segment.frames.len(), 25);
    assert!(segment.frames.iter().all(|frame| frame.data.len() == 4 * 207));
    assert!(segment.pcrs.windows(2).all(|pair| pair[1] - pair[0] <= 9000));
}

#[test]
fn clock_references_are_frequent_for_any_frame_interval() {
    for step in [3600, 9000, 11_250, 18_000, 90_000, 450_000] {
        let mut muxer = Muxer::new();
        for n in 0..10 {
            muxer.video(&avc(), n * step, 0, n == 0, &nalu(0x41, 50)).unwrap();
        }
        let pcrs = demux(&muxer.finish().unwrap()).pcrs;
        assert!(pcrs.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 9000), "{step}: {pcrs:?}");
    }
    let mut muxer = Muxer::new();
    muxer.video(&avc(), 0, 0, true, &nalu(0x65, 50)).unwrap();
    for n in 0..500 {
        muxer.audio(AudioCodec::Aac, n * 1920, 1920, &[], &[1; 100]);
    }
    let segment = demux(&muxer.finish().unwrap());
    assert!(segment.pcrs.windows(2).all(|pair| pair[1] - pair[0] <= 9000), "video has stopped");
    assert_eq!(segment.pcr_pid, 0x100);
    // A pause of a day is not filled.
    muxer.video(&avc(), 0, 0, true, &nalu(0x65, 50)).unwrap();
    muxer.video(&avc(), 86_400 * CLOCK_HZ, 0, false, &nalu(0x41, 50)).unwrap();
    assert!(muxer.len() < 10 * PACKET_SIZE);
    let day = 86_400 * CLOCK_HZ;
    muxer.audio(AudioCodec::Aac, day + 20_000, 1920, &[], &[1; 100]);
    let pcrs = demux(&muxer.finish().unwrap()).pcrs;
    assert!(day + START - PCR_LEAD <= pcrs[1] && pcrs[2..].iter().all(|pcr| pcr - pcrs[1] <= 20_000), "{pcrs:?}");
}

#[test]
fn time_stamps_far_apart_do_not_make_a_large_segment() {
    for step in [2, 30, 60, 61] {
        let mut muxer = Muxer::new();
        for n in 0..2000 {
            muxer.video(&avc(), n * step * CLOCK_HZ, 0, n == 0, &nalu(0x41, 50)).unwrap();
        }
        assert!(muxer.len() < (2000 * 2 + 1000) * PACKET_SIZE, "{step}: {} packets", muxer.len() / PACKET_SIZE);
        // The limit applies to each segment.
        muxer.finish();
        muxer.video(&avc(), 200_000 * CLOCK_HZ, 0, true, &nalu(0x65, 50)).unwrap();
        muxer.video(&avc(), 200_010 * CLOCK_HZ, 0, true, &nalu(0x65, 50)).unwrap();
        assert!(muxer.len() > 100 * PACKET_SIZE);
    }
}

#[test]
fn times_wrap_after_33_bits() {
    let mut muxer = Muxer::new();
    let wrap = 1 << 33;
    for n in 0..4 {
        muxer.video(&avc(), wrap - START - 3600 + n * 3600, 7200, n == 0, &nalu(0x41, 50)).unwrap();
    }
    let segment = demux(&muxer.finish().unwrap());
    let times: Vec<_> = segment.frames.iter().map(|frame| (frame.dts, frame.pts)).collect();
    assert_eq!(times, [(wrap - 3600, 3600), (0, 7200), (3600, 10_800), (7200, 14_400)]);
    assert!(segment.pcrs.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn continuity_counters_continue_over_segments_and_tables_follow_the_streams() {
    let mut muxer = Muxer::new();
    let mut last = HashMap::new();
    let mut versions = Vec::new();
    for round in 0..4 {
        if round != 2 {
            muxer.video(&avc(), round * CLOCK_HZ, 0, true, &nalu(0x65, 5000)).unwrap();
        }
        muxer.audio(AudioCodec::Mp3, round * CLOCK_HZ, 2350, &[], &[1; 417]);
        let segment = muxer.finish().unwrap();
        versions.push(segment[PACKET_SIZE + 10] >> 1 & 0x1f);
        for (pid, (first, end)) in demux(&segment).counters {
            if let Some(before) = last.insert(pid, end) {
                assert_eq!(first, (before + 1) & 0x0f);
            }
        }
    }
    assert_eq!(versions, [0, 0, 1, 2]);
    assert!(muxer.is_empty() && muxer.finish().is_none());
    muxer.reuse_buffer(Vec::with_capacity(1000));
    assert!(muxer.finish().is_none() && muxer.capacity() == 0, "found by fuzzing: an empty segment kept its buffer");
}

#[test]
fn hevc_and_both_kinds_of_mp3_are_named() {
    let mut muxer = Muxer::new();
    let hevc = VideoConfig { codec: Codec::H265, length_size: 4, parameter_sets: vec![0, 0, 0, 1, 0x42, 1] };
    muxer.video(&hevc, 0, 0, true, &nalu(0x26, 50)).unwrap();
    muxer.audio(AudioCodec::Mp3HalfRate, 0, 2350, &[], &[1; 417]);
    let segment = demux(&muxer.finish().unwrap());
    assert_eq!(segment.streams, [(0x24, 0x100), (0x04, 0x101)]);
    let video = &Demuxed::select(true, &segment.frames)[0];
    assert_eq!(video.data[..13], [0, 0, 0, 1, 0x46, 1, 0x50, 0, 0, 0, 1, 0x42, 1]);
}

#[test]
fn a_frame_with_wrong_lengths_appends_nothing() {
    let mut muxer = Muxer::new();
    let frame = [nalu(0x41, 50), vec![0, 0, 1, 0, 7]].concat();
    assert!(muxer.video(&avc(), 0, 0, true, &frame).is_err());
    assert!(muxer.is_empty());
}

proptest! {
    #[test]
    fn any_frame_is_accepted_or_rejected(frame in prop::collection::vec(any::<u8>(), 0..2000), time in any::<u32>(), cts in any::<i32>()) {
        for length_size in [1, 2, 4] {
            let mut muxer = Muxer::new();
            let config = VideoConfig { length_size, ..avc() };
            if muxer.video(&config, time.into(), cts.into(), true, &frame).is_ok() {
                demux(&muxer.finish().unwrap());
            } else {
                prop_assert!(muxer.finish().is_none());
            }
        }
    }
}
