//! The HLS of one stream without a server: FLV payloads in, files out.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use m3u8_rs::MediaPlaylist;

use super::super::buffer_pool::BufferPool;
use super::super::job::{Counters, Job, StreamFiles};
use super::super::playlist::{Durations, Entry, Playlist};
use super::super::segmenter::{Segment, Segmenter};
use super::super::writer_thread::WriterThread;
use crate::app::outputs::live_files::Unwritten;
use crate::codec::flv;
use crate::codec::ts::tests::{Demuxed, DemuxedFrame, demux};

pub(super) const AVC_HEADER: &[u8] =
    &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 3, 0x67, 0x64, 0, 1, 0, 2, 0x68, 0xeb];
pub(super) const OTHER_AVC_HEADER: &[u8] =
    &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x28, 0xff, 0xe1, 0, 3, 0x67, 0x64, 1, 1, 0, 2, 0x68, 0xeb];
pub(super) const AAC_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

pub(super) struct Rig {
    pub(super) folder: tempfile::TempDir,
    pub(super) segmenter: Segmenter,
    pub(super) writer: WriterThread,
    pub(super) files: Arc<StreamFiles>,
    pub(super) playlist: Playlist,
    /// Milliseconds since 1970.
    pub(super) clock: Arc<AtomicU64>,
    pub(super) started: Instant,
    pub(super) fragment: u64,
    pub(super) window: u64,
    pub(super) bodies: Vec<Bytes>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), 0)
    }

    /// Continues in a directory of a previous run.
    pub(super) fn at(folder: tempfile::TempDir, now: u64) -> Self {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000 + now));
        let time = clock.clone();
        let time = Arc::new(move || UNIX_EPOCH + Duration::from_millis(time.load(Ordering::Relaxed)));
        let files = Arc::new(StreamFiles::new(folder.path().to_owned(), "live/s".to_owned()));
        let mut writer = WriterThread::new(Arc::new(Counters::default()));
        let disk_playlist = Arc::default();
        writer.handle(&files, Job::Open(Arc::clone(&disk_playlist)), Instant::now());
        let mut rig = Self {
            folder,
            segmenter: Segmenter::new("v/live/s", Duration::from_secs(10), time, BufferPool::default()),
            writer,
            files,
            playlist: disk_playlist.get().unwrap().clone(),
            clock,
            started: Instant::now(),
            fragment: 10_000,
            window: 60_000,
            bodies: Vec::new(),
        };
        rig.segmenter.start();
        rig
    }

    pub(super) fn now(&self) -> Instant {
        self.started + Duration::from_millis(self.clock.load(Ordering::Relaxed) - 1_700_000_000_000)
    }

    pub(super) fn handle(&mut self, job: Job) {
        let now = self.now();
        self.handle_at(job, now);
    }

    pub(super) fn handle_at(&mut self, job: Job, now: Instant) {
        self.writer.handle(&self.files, job, now);
    }

    /// Opens the stream's files and returns the playlist on disk.
    pub(super) fn open(&mut self) -> Playlist {
        let disk_playlist = Arc::default();
        self.handle(Job::Open(Arc::clone(&disk_playlist)));
        disk_playlist.get().unwrap().clone()
    }

    pub(super) fn send(&mut self, time: u64, payload: &[u8]) {
        self.clock.fetch_max(1_700_000_000_000 + time, Ordering::Relaxed);
        let payload = Bytes::copy_from_slice(payload);
        let is_video = matches!(payload[0], 0x17 | 0x27) || matches!(payload.get(1..5), Some(b"hvc1" | b"av01"));
        let segment = if is_video {
            self.segmenter.on_video(time, &flv::read_video_header(&payload).unwrap(), &payload)
        } else {
            self.segmenter.on_audio(time, &flv::read_audio_header(&payload).unwrap(), &payload)
        };
        self.store(segment);
    }

    pub(super) fn finish(&mut self) {
        let segment = self.segmenter.finish();
        self.store(segment);
    }

    fn store(&mut self, segment: Option<Segment>) {
        let Some(Segment { body, duration, discontinuity, is_first, started_at, .. }) = segment else { return };
        let number = self.playlist.next_number();
        let entry = Entry {
            number,
            duration,
            discontinuity: discontinuity && number > 0,
            is_first,
            started_at: Some(started_at),
        };
        let durations = Durations { window: self.window, fragment: self.fragment, target: self.fragment };
        self.playlist.push(entry.clone(), &durations);
        self.bodies.push(body.clone());
        let job = Job::Segment { entry, body, durations, cleanup: true, event: None, unwritten: Unwritten::default() };
        self.handle(job);
        self.check();
    }

    /// Checks the rules that hold for each published playlist.
    fn check(&self) {
        let playlist = self.read();
        assert_eq!(fs::read_to_string(self.path("s.m3u8")).unwrap(), self.playlist.render(), "disk and memory agree");
        for segment in &playlist.segments {
            assert!(segment.duration.round() as u64 <= playlist.target_duration, "{playlist:?}");
            assert!(self.path(&segment.uri).exists(), "{} exists", segment.uri);
            assert!(segment.program_date_time.is_some());
        }
    }

    pub(super) fn read(&self) -> MediaPlaylist {
        let text = fs::read(self.path("s.m3u8")).unwrap();
        m3u8_rs::parse_media_playlist_res(&text).unwrap()
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("live").join(file)
    }

    pub(super) fn file_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("live")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    /// Sends video at 25 frames a second with a keyframe each `gop` frames, and audio at 44100 Hz, between two times in
    /// milliseconds.
    pub(super) fn run(&mut self, from: u64, to: u64, gop: Option<u64>, audio: bool) {
        let (mut video, mut sound) = (0, 0);
        loop {
            let video_time = if gop.is_some() { from + video * 40 } else { u64::MAX };
            let audio_time = if audio { from + sound * 1024 * 1000 / 44_100 } else { u64::MAX };
            if video_time.min(audio_time) >= to {
                return;
            }
            if let (Some(gop), true) = (gop, video_time <= audio_time) {
                let is_key = video.is_multiple_of(gop);
                self.send(video_time, &frame(is_key, 80 + (video % 500) as usize));
                video += 1;
            } else {
                self.send(audio_time, &aac(sound as u8));
                sound += 1;
            }
        }
    }

    pub(super) fn send_headers(&mut self, time: u64) {
        self.send(time, AVC_HEADER);
        self.send(time, AAC_HEADER);
    }

    pub(super) fn demuxed(&self) -> Vec<Demuxed> {
        self.bodies.iter().map(|body| demux(body)).collect()
    }
}

/// Returns an RTMP payload with an H.264 frame that has a composition time of 80 ms.
pub(super) fn frame(is_key: bool, size: usize) -> Vec<u8> {
    let (tag, nalu) = if is_key { (0x17, 0x65) } else { (0x27, 0x41) };
    let mut frame = vec![tag, 1, 0, 0, 80];
    frame.extend_from_slice(&u32::try_from(size).unwrap().to_be_bytes());
    frame.push(nalu);
    frame.resize(9 + size, 0x33);
    frame
}

pub(super) fn aac(fill: u8) -> Vec<u8> {
    let mut frame = vec![0xaf, 1];
    frame.resize(200, fill);
    frame
}

/// Asserts that no frame is missing, repeated or misplaced, judged by the times of video and the ADTS frames of audio.
pub(super) fn assert_continuous(all: &[Demuxed], video: usize, audio: usize) {
    let frames: Vec<DemuxedFrame> = all.iter().flat_map(|segment| segment.frames.iter().cloned()).collect();
    let mut times: Vec<u64> = Demuxed::select(true, &frames).iter().map(|frame| frame.dts).collect();
    times.sort_unstable();
    assert_eq!(times.len(), video);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 3600), "25 frames a second without a gap");
    let mut sound = Demuxed::select(false, &frames);
    sound.sort_by_key(|frame| frame.pts);
    if audio == 0 {
        // Audio that was announced and did not come is silence.
        let config = crate::codec::aac::read_config(&AAC_HEADER[2..]).unwrap();
        let silence = config.silent_frame();
        let silence = [&*config.adts_header(silence.len()).unwrap(), &silence].concat();
        let is_silence = |packet: &DemuxedFrame| packet.data.chunks(silence.len()).all(|frame| frame == silence);
        assert!(sound.iter().all(is_silence), "no sound");
        return;
    }
    let count: usize = sound.iter().map(|frame| frame.data.len() / 205).sum();
    assert_eq!(count, audio);
    let mut samples = 0;
    for packet in &sound {
        assert_eq!(packet.data.len() % 205, 0);
        let exact = sound[0].pts + samples * 90_000 / 44_100;
        assert!(packet.pts.abs_diff(exact) <= 1, "{} is not {exact}", packet.pts);
        samples += packet.data.len() as u64 / 205 * 1024;
    }
}
