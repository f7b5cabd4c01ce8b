//! An endless transport stream, written message by message: for live streams over HTTP.
//!
//! Unlike segments, nothing can be corrected later: what the time stamps turn out to need holds from there on.

use super::access_unit::{AccessUnit, SentSets};
use super::audio_track::AudioTrack;
use super::packet::{self, PacketWriter, Pid};
use super::video_track::{Configuration, VideoTrack};
use super::{
    AUDIO_PES_SIZE, AUDIO_PES_TIME, AudioCodec, CLOCK_HZ, MAX_COMPOSITION, MAX_DISTANCE, MAX_PCR_INTERVAL,
    MIN_PCR_LEAD, PCR_LEAD, START, psi,
};
use crate::codec::flv::{AudioPacket, AudioTag, VideoPacket, VideoTag};

/// Units of the clock per millisecond.
const TICKS: u64 = CLOCK_HZ / 1000;

/// Time after which the tables are repeated: players that join read them.
const TABLE_INTERVAL: u64 = CLOCK_HZ / 2;

/// A writer of an endless transport stream.
#[derive(Default)]
pub struct LiveMuxer {
    video: VideoTrack,
    audio: AudioTrack,
    needs_keyframe: bool,
    /// The next continuity counter of each stream.
    counters: [u8; Pid::COUNT],
    program: Option<psi::Program>,
    version: u8,
    /// Time of the last tables.
    tables_at: Option<u64>,
    clock: ClockReferences,
    /// Time added to all presentation times, for frames that are shown before they are decoded.
    shift: u64,
    sent: SentSets,
    /// Audio frames of the next PES packet, the time stamp of the first, and their codec.
    pending: Vec<u8>,
    pending_time: u64,
    pending_codec: Option<AudioCodec>,
}

impl LiveMuxer {
    /// Creates a muxer.
    pub fn new() -> Self {
        Self { needs_keyframe: true, ..Self::default() }
    }

    /// Appends what a video message with a timestamp in milliseconds makes to `out`. Video that a transport stream cannot carry,
    /// and what cannot be decoded, makes nothing.
    pub fn video(&mut self, time: u64, tag: &VideoTag, payload: &[u8], out: &mut Vec<u8>) {
        // Encoders send the first track, which all players understand, without multitrack.
        let is_carried = !tag.multitrack && (tag.codec.is_h264() || tag.codec.is_h265());
        let Some(body) = payload.get(tag.body..).filter(|_| is_carried) else { return };
        match tag.packet {
            VideoPacket::SequenceHeader => {
                self.needs_keyframe |= self.video.on_header(tag, body).unwrap_or(true);
                if let (Some((config, _)), audio) = (self.video.config(), self.audio_codec()) {
                    let codec = config.codec;
                    self.set_program(Some(codec), audio);
                }
            }
            VideoPacket::Frame => self.frame(time * TICKS, tag, body, out),
            _ => {}
        }
    }

    fn frame(&mut self, time: u64, tag: &VideoTag, frame: &[u8], out: &mut Vec<u8>) {
        let is_key = tag.is_keyframe();
        let is_usable =
            matches!(self.video.on_frame(time / TICKS, tag, frame), Ok(Configuration::Same | Configuration::Changed));
        if !is_usable || (self.needs_keyframe && !is_key) {
            return;
        }
        // The last frames before a pause of audio would come long after video of their time, and behind the clock.
        if time > self.pending_time + 2 * AUDIO_PES_TIME {
            self.flush(out);
        }
        let Some(codec) = self.video.config().map(|(config, _)| config.codec) else { return };
        self.set_program(Some(codec), self.audio_codec());
        let Some((config, _)) = self.video.config() else { return };
        let Ok(mut unit) = AccessUnit::new(config, is_key, frame) else { return };
        unit.add_sets(&mut self.sent);
        self.needs_keyframe = false;
        let composition = (i64::from(tag.composition_time) * TICKS as i64).clamp(-MAX_COMPOSITION, MAX_COMPOSITION);
        self.shift = self.shift.max(composition.min(0).unsigned_abs());
        let dts = time + START;
        let pts = (dts + self.shift).wrapping_add_signed(composition);
        // The tables are at each keyframe, where players join.
        Tables { counters: &mut self.counters, program: self.program.as_ref(), version: self.version }.write(
            &mut self.tables_at,
            time,
            is_key,
            out,
        );
        let pcr = Some(self.clock.next(0, dts));
        let header = packet::pes_header(packet::VIDEO_STREAM, unit.size(), pts, Some(dts));
        let counter = &mut self.counters[Pid::Video as usize];
        let mut packets = PacketWriter::new(out, Pid::Video, counter, header.len() + unit.size(), pcr, is_key);
        packets.write(&header);
        unit.write(&mut packets);
    }

    /// Appends what an audio message with a timestamp in milliseconds makes to `out`. Frames are gathered until
    /// [`LiveMuxer::flush`], for at most 100 ms.
    pub fn audio(&mut self, time: u64, tag: &AudioTag, payload: &[u8], out: &mut Vec<u8>) {
        if tag.multitrack {
            return;
        }
        let frame = self.audio.on_message(time * TICKS, tag, payload);
        if tag.packet == AudioPacket::SequenceHeader {
            self.set_program(self.video_codec(), self.audio_codec());
        }
        let Ok(Some(frame)) = frame else { return };
        let Some(body) = payload.get(tag.body..) else { return };
        let size = frame.header().len() + body.len();
        let is_late = frame.end().saturating_sub(self.pending_time) > AUDIO_PES_TIME;
        let is_other = self.pending_codec.is_some_and(|codec| codec != frame.codec);
        if is_late || is_other || self.pending.len() + size > AUDIO_PES_SIZE {
            self.flush(out);
        }
        if self.pending.is_empty() {
            self.pending_time = frame.pts;
        }
        self.pending_codec = Some(frame.codec);
        self.set_program(self.video_codec(), Some(frame.codec));
        self.pending.extend_from_slice(frame.header());
        self.pending.extend_from_slice(body);
    }

    /// Appends the audio frames that were gathered to `out`.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return;
        }
        let time = self.pending_time + START;
        let has_video = self.video_codec().is_some();
        Tables { counters: &mut self.counters, program: self.program.as_ref(), version: self.version }.write(
            &mut self.tables_at,
            self.pending_time,
            false,
            out,
        );
        let counter = self.counters[Pid::Video as usize];
        let pcr = if has_video {
            // Video carries the clock. Where it pauses, packets without content do.
            if self.clock.is_late(time) {
                packet::write_clock_packet(out, Pid::Video, counter, self.clock.next(1, time));
            } else {
                self.clock.on_frame(1, time);
            }
            None
        } else {
            Some(self.clock.next(1, time))
        };
        let header = packet::pes_header(packet::AUDIO_STREAM, self.pending.len(), time + self.shift, None);
        let size = header.len() + self.pending.len();
        let mut packets = PacketWriter::new(out, Pid::Audio, &mut self.counters[Pid::Audio as usize], size, pcr, false);
        packets.write(&header);
        packets.write(&self.pending);
        self.pending.clear();
    }

    fn video_codec(&self) -> Option<crate::codec::nalu::Codec> {
        self.program.as_ref().and_then(|program| program.video)
    }

    fn audio_codec(&self) -> Option<AudioCodec> {
        let configured = self.audio.is_configured().then_some(AudioCodec::Aac);
        self.program.as_ref().and_then(|program| program.audio).or(configured)
    }

    /// Sets what the tables list. Other tables are written before the next frame.
    fn set_program(&mut self, video: Option<crate::codec::nalu::Codec>, audio: Option<AudioCodec>) {
        if video.is_none() && audio.is_none() {
            return;
        }
        let program = psi::Program { video, audio, pcr: if video.is_some() { Pid::Video } else { Pid::Audio } };
        if self.program.as_ref() != Some(&program) {
            if self.program.is_some() {
                self.version = (self.version + 1) & 0x1f;
            }
            (self.program, self.tables_at) = (Some(program), None);
        }
    }
}

/// Parts of the tables that are written.
struct Tables<'a> {
    counters: &'a mut [u8; Pid::COUNT],
    program: Option<&'a psi::Program>,
    version: u8,
}

impl Tables<'_> {
    /// Appends the tables if they are wanted here, or the last ones are long ago. `at` is the time of the last ones.
    fn write(self, at: &mut Option<u64>, time: u64, is_wanted: bool, out: &mut Vec<u8>) {
        let Some(program) = self.program else { return };
        if !is_wanted && at.is_some_and(|at| time.saturating_sub(at) < TABLE_INTERVAL) {
            return;
        }
        *at = Some(time);
        let mut next = |pid: Pid| {
            let counter = &mut self.counters[pid as usize];
            std::mem::replace(counter, (*counter + 1) & 0x0f)
        };
        let (pat, pmt) = (next(Pid::Pat), next(Pid::Pmt));
        out.extend_from_slice(&psi::pat(pat));
        out.extend_from_slice(&psi::pmt(program, self.version, pmt));
    }
}

/// The clock references, which never run backwards.
#[derive(Debug)]
struct ClockReferences {
    last: u64,
    /// Time between a clock reference and the decoding of the frames behind it. It grows when one track turns out to be behind
    /// the other.
    lead: u64,
    /// Time of the last frame of video and of audio.
    times: [u64; 2],
}

impl Default for ClockReferences {
    fn default() -> Self {
        Self { last: 0, lead: PCR_LEAD, times: [0; 2] }
    }
}

impl ClockReferences {
    /// Records a frame of a track: 0 for video, 1 for audio.
    fn on_frame(&mut self, track: usize, time: u64) {
        self.times[track] = time;
        let behind = self.times[1 - track].saturating_sub(time);
        if behind > 0 && behind <= MAX_DISTANCE {
            self.lead = self.lead.max(behind + MIN_PCR_LEAD);
        }
    }

    /// Returns the clock reference for a frame of a track.
    fn next(&mut self, track: usize, time: u64) -> u64 {
        self.on_frame(track, time);
        self.last = self.last.max(time.saturating_sub(self.lead));
        self.last
    }

    /// Returns whether the last one is too old at `time`.
    fn is_late(&self, time: u64) -> bool {
        time.saturating_sub(self.lead).saturating_sub(self.last) > MAX_PCR_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::codec::flv::{read_audio_header, read_video_header};

    const AVC: &[u8] =
        &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x1f, 1, 0, 2, 0x68, 0xeb];
    const AAC: &[u8] = &[0xaf, 0, 0x12, 0x10];
    const SOUND: &[u8] = &[0xaf, 1, 0x21, 0x10, 4];

    fn video(muxer: &mut LiveMuxer, time: u64, payload: &[u8], out: &mut Vec<u8>) {
        muxer.video(time, &read_video_header(payload).unwrap(), payload, out);
    }

    fn audio(muxer: &mut LiveMuxer, time: u64, payload: &[u8], out: &mut Vec<u8>) {
        muxer.audio(time, &read_audio_header(payload).unwrap(), payload, out);
    }

    fn picture(first: u8) -> Vec<u8> {
        [&[first, 1, 0, 0, 0, 0, 0, 0, 100][..], &[0x65; 100]].concat()
    }

    /// Checks packets and counters. Returns the packets with the start of a unit of each stream.
    fn starts(stream: &[u8]) -> HashMap<u16, usize> {
        let (packets, rest) = stream.as_chunks::<188>();
        assert!(rest.is_empty());
        let (mut starts, mut counters) = (HashMap::new(), HashMap::new());
        for packet in packets {
            assert_eq!(packet[0], 0x47);
            let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
            if packet[3] & 0x10 != 0 {
                let counter = packet[3] & 0x0f;
                let last = counters.insert(pid, counter);
                assert!(last.is_none_or(|last: u8| counter == (last + 1) & 0x0f), "continuity of {pid:#x}");
            }
            *starts.entry(pid).or_default() += usize::from(packet[1] & 0x40 != 0);
        }
        starts
    }

    #[test]
    fn tables_are_at_keyframes_and_sound_shares_packets() {
        let (mut muxer, mut out) = (LiveMuxer::new(), Vec::new());
        video(&mut muxer, 0, &picture(0x27), &mut out);
        video(&mut muxer, 0, AVC, &mut out);
        audio(&mut muxer, 0, AAC, &mut out);
        video(&mut muxer, 0, &picture(0x27), &mut out);
        assert!(out.is_empty(), "nothing that could be decoded");
        for n in 0..50_u64 {
            video(&mut muxer, n * 40, &picture(if n.is_multiple_of(25) { 0x17 } else { 0x27 }), &mut out);
            audio(&mut muxer, n * 40, SOUND, &mut out);
        }
        muxer.flush(&mut out);
        let starts = starts(&out);
        assert_eq!((starts[&0], starts[&0x1000], starts[&0x100]), (4, 4, 50), "each half second and keyframe");
        assert!((10..30).contains(&starts[&0x101]), "{starts:?}");
    }

    #[test]
    fn who_joins_at_a_keyframe_gets_the_tables_first() {
        let (mut muxer, mut out) = (LiveMuxer::new(), Vec::new());
        video(&mut muxer, 0, AVC, &mut out);
        video(&mut muxer, 0, &picture(0x17), &mut out);
        video(&mut muxer, 40, &picture(0x27), &mut out);
        let before = out.len();
        video(&mut muxer, 80, &picture(0x17), &mut out);
        let joined = &out[before..];
        assert_eq!((joined[1..3].to_vec(), joined[188 + 1..188 + 3].to_vec()), (vec![0x40, 0], vec![0x50, 0]));
    }

    #[test]
    fn sound_alone_has_the_clock_and_new_tracks_a_new_version() {
        let (mut muxer, mut out) = (LiveMuxer::new(), Vec::new());
        audio(&mut muxer, 0, AAC, &mut out);
        (0..10).for_each(|n| audio(&mut muxer, n * 23, SOUND, &mut out));
        muxer.flush(&mut out);
        let pmt = |out: &[u8]| (out[188 + 10] >> 1 & 0x1f, u16::from_be_bytes([out[188 + 13] & 0x1f, out[188 + 14]]));
        assert_eq!(pmt(&out), (0, 0x101));
        let mut later = Vec::new();
        video(&mut muxer, 230, AVC, &mut later);
        video(&mut muxer, 230, &picture(0x17), &mut later);
        assert_eq!(pmt(&later), (1, 0x100));
        starts(&[out, later].concat());
    }

    #[test]
    fn the_clock_waits_for_a_track_that_is_behind() {
        let mut clock = ClockReferences::default();
        let first = clock.next(0, START + 5 * CLOCK_HZ);
        assert_eq!(first, START + 5 * CLOCK_HZ - PCR_LEAD);
        clock.on_frame(1, START + 3 * CLOCK_HZ);
        assert_eq!(clock.next(0, START + 6 * CLOCK_HZ), first, "it stands still");
        assert_eq!(clock.next(0, START + 9 * CLOCK_HZ), START + 7 * CLOCK_HZ - MIN_PCR_LEAD);
    }
}
