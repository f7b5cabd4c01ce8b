mod mp4;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::file::{Disk, Ending};
use super::recorder::Recorder;
use crate::app::stream::{Packet, PacketKind, Tag, Track};
use crate::codec::amf0::{self, Value};
use crate::codec::flv::{self, read_audio_header, read_video_header};
use crate::codec::mp4::recording::Completion;
use crate::config::{Config, Dvr};

#[derive(Default)]
struct Memory {
    files: Vec<Vec<u8>>,
    is_open: bool,
    opens: bool,
    has_room: bool,
    has_failed: bool,
}

/// A disk in memory, which has room and works until it is told otherwise.
#[derive(Clone)]
struct MemoryDisk(Rc<RefCell<Memory>>);

impl MemoryDisk {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Memory { opens: true, has_room: true, ..Memory::default() })))
    }

    /// Returns the tags of each file after its metadata: type, timestamp, last byte.
    fn tags(&self) -> Vec<Vec<(char, u32, u8)>> {
        self.0.borrow().files.iter().map(|file| tags(file)).collect()
    }
}

impl Disk for MemoryDisk {
    fn open(&mut self, head: Bytes, _: Duration) -> bool {
        let mut memory = self.0.borrow_mut();
        if memory.opens {
            memory.files.push(head.to_vec());
            (memory.is_open, memory.has_failed) = (true, false);
        }
        memory.opens
    }

    fn write(&mut self, bytes: Bytes) -> bool {
        let mut memory = self.0.borrow_mut();
        assert!(memory.is_open);
        if memory.has_room && !memory.has_failed {
            memory.files.last_mut().unwrap().extend_from_slice(&bytes);
        }
        memory.has_room
    }

    fn write_fragment(&mut self, bytes: Bytes) -> bool {
        self.write(bytes)
    }

    fn close(&mut self, ending: Ending) {
        let mut memory = self.0.borrow_mut();
        assert!(std::mem::take(&mut memory.is_open));
        let file = memory.files.last_mut().unwrap();
        let size = file.len() as u64;
        let Completion { head, tail } = ending.finish(size);
        file[..head.len()].copy_from_slice(&head);
        file.extend_from_slice(&tail);
    }

    fn has_failed(&self) -> bool {
        self.0.borrow().has_failed
    }

    fn has_room_for_gop(&self) -> bool {
        self.0.borrow().has_room
    }
}

fn tags(mut file: &[u8]) -> Vec<(char, u32, u8)> {
    flv::read_file_header(&mut file).unwrap().unwrap();
    let mut tags = Vec::new();
    while let Some(tag) = flv::read_tag(&mut file).unwrap() {
        let kind = match tag.kind {
            flv::TAG_AUDIO => 'a',
            flv::TAG_VIDEO => 'v',
            _ => 'd',
        };
        tags.push((kind, tag.timestamp, *tag.payload.last().unwrap()));
    }
    assert!(file.is_empty(), "whole tags");
    assert_eq!(tags.remove(0).0, 'd', "metadata comes first");
    tags
}

fn metadata(mut file: &[u8]) -> amf0::Object {
    flv::read_file_header(&mut file).unwrap().unwrap();
    let tag = flv::read_tag(&mut file).unwrap().unwrap();
    let mut payload = &tag.payload[..];
    amf0::read(&mut payload).unwrap();
    amf0::read(&mut payload).unwrap().as_object().unwrap().clone()
}

struct Rig {
    disk: MemoryDisk,
    recorder: Recorder<MemoryDisk>,
    now: Instant,
}

impl Rig {
    fn new(directives: &str, from_start: bool) -> Self {
        let disk = MemoryDisk::new();
        Self { recorder: Recorder::new(disk.clone(), &settings(directives), from_start), disk, now: Instant::now() }
    }

    fn send(&mut self, track: Track, dts: u64, kind: PacketKind, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let tag = match track {
            Track::Video => read_video_header(&payload).map(Tag::Video),
            Track::Audio => read_audio_header(&payload).map(Tag::Audio),
            _ => None,
        };
        self.recorder.packet(&Packet { track, dts, kind, tag, payload: &payload }, self.now);
    }

    fn headers(&mut self) {
        let mut metadata = b"\x02\x00\x0aonMetaData".to_vec();
        amf0::write(&mut metadata, &Value::EcmaArray(amf0::Object::new().with("width", 640.0)));
        self.send(Track::Data, 0, PacketKind::Header, &metadata);
        self.send(Track::Video, 0, PacketKind::Header, &[0x17, 0, 0, 0, 0, 1]);
        self.send(Track::Audio, 0, PacketKind::Header, &[0xaf, 0, 2]);
    }

    fn key(&mut self, dts: u64, n: u8) {
        self.send(Track::Video, dts, PacketKind::Keyframe, &[0x17, 1, 0, 0, 0, n]);
    }

    fn inter(&mut self, dts: u64, n: u8) {
        self.send(Track::Video, dts, PacketKind::Regular, &[0x27, 1, 0, 0, 0, n]);
    }

    fn audio(&mut self, dts: u64, n: u8) {
        self.send(Track::Audio, dts, PacketKind::Regular, &[0xaf, 1, n]);
    }

    /// Ends the recording. Returns its disk, and the messages that were dropped.
    fn end(self) -> (MemoryDisk, u64) {
        let dropped = self.recorder.finish(self.now);
        (self.disk, dropped)
    }
}

fn settings(directives: &str) -> Dvr {
    let text = format!("listen 1; vhost __defaultVhost__ {{ dvr {{ enabled on; {directives} }} }}");
    Config::parse("t", &text).unwrap().vhost("x").unwrap().dvr.clone()
}

#[test]
fn a_session_is_one_file_from_the_first_packet() {
    let mut rig = Rig::new("", true);
    rig.headers();
    rig.audio(5000, 10);
    rig.key(5010, 11);
    rig.inter(5050, 12);
    rig.audio(5040, 13);
    rig.key(65_010, 14);
    let (disk, dropped) = rig.end();
    let expected =
        [('v', 0, 1), ('a', 0, 2), ('a', 0, 10), ('v', 10, 11), ('v', 50, 12), ('a', 40, 13), ('v', 60_010, 14)];
    assert_eq!((disk.tags(), dropped), (vec![expected.to_vec()], 0));
    let files = &disk.0.borrow().files;
    let metadata = metadata(&files[0]);
    let number = |name| metadata.get(name).and_then(Value::as_number);
    assert_eq!((number("duration"), number("width")), (Some(60.01), Some(640.0)));
    assert_eq!(number("filesize"), Some(files[0].len() as f64));
    let keyframes = metadata.get("keyframes").unwrap().as_object().unwrap();
    let Some(Value::StrictArray(positions)) = keyframes.get("filepositions") else { panic!("an array") };
    let at = positions[1].as_number().unwrap() as usize;
    assert_eq!(files[0][at..][..4], [9, 0, 0, 6], "a tag of video");
}

#[test]
fn a_recording_that_starts_later_waits_for_a_keyframe() {
    let mut rig = Rig::new("", false);
    rig.headers();
    rig.inter(100, 10);
    rig.audio(110, 11);
    rig.key(140, 12);
    rig.audio(150, 13);
    assert_eq!(rig.end().0.tags(), [vec![('v', 0, 1), ('a', 0, 2), ('v', 0, 12), ('a', 10, 13)]]);
}

#[test]
fn segments_end_at_keyframes_and_begin_with_headers() {
    let mut rig = Rig::new("dvr_plan segment; dvr_duration 2s;", true);
    rig.headers();
    for second in 0..5 {
        rig.key(second * 1000, second as u8);
        rig.audio(second * 1000 + 500, 100 + second as u8);
    }
    let head = [('v', 0, 1), ('a', 0, 2)];
    let tags = rig.end().0.tags();
    assert_eq!(tags.len(), 3);
    assert_eq!(tags[1], [&head[..], &[('v', 0, 2), ('a', 500, 102), ('v', 1000, 3), ('a', 1500, 103)]].concat());
    assert_eq!(tags[2], [&head[..], &[('v', 0, 4), ('a', 500, 104)]].concat());
}

#[test]
fn segments_may_end_at_any_frame_and_audio_has_no_keyframes() {
    let mut rig = Rig::new("dvr_plan segment; dvr_duration 2s; dvr_wait_keyframe off;", true);
    rig.headers();
    rig.key(0, 0);
    rig.inter(1900, 1);
    rig.inter(2040, 2);
    assert_eq!(rig.end().0.tags().len(), 2);
    let mut rig = Rig::new("dvr_plan segment; dvr_duration 2s;", true);
    rig.send(Track::Audio, 0, PacketKind::Header, &[0xaf, 0, 2]);
    (0..300).for_each(|n| rig.audio(n * 23, 9));
    let (disk, _) = rig.end();
    assert_eq!(disk.tags().iter().map(Vec::len).collect::<Vec<_>>(), [88, 88, 88, 40]);
    let metadata = metadata(&disk.0.borrow().files[0]);
    assert_eq!(metadata.get("hasVideo"), Some(&Value::Boolean(false)));
    let keyframes = metadata.get("keyframes").unwrap().as_object().unwrap();
    let Some(Value::StrictArray(times)) = keyframes.get("times") else { panic!("an array") };
    assert_eq!(times.len(), 2, "an entry each second");
}

#[test]
fn a_slow_disk_costs_whole_gops() {
    let mut rig = Rig::new("", true);
    rig.headers();
    rig.key(0, 10);
    rig.inter(40, 11);
    rig.disk.0.borrow_mut().has_room = false;
    rig.inter(80, 12);
    rig.key(1000, 20);
    rig.audio(1010, 21);
    rig.inter(1040, 22);
    rig.disk.0.borrow_mut().has_room = true;
    rig.inter(1080, 23);
    rig.key(2000, 30);
    rig.audio(2010, 31);
    let (disk, dropped) = rig.end();
    let expected =
        [('v', 0, 1), ('a', 0, 2), ('v', 0, 10), ('v', 40, 11), ('v', 80, 12), ('v', 2000, 30), ('a', 2010, 31)];
    assert_eq!((disk.tags(), dropped), (vec![expected.to_vec()], 4));
}

#[test]
fn what_a_full_queue_refuses_is_not_in_the_index() {
    let mut rig = Rig::new("", true);
    rig.headers();
    rig.key(0, 10);
    // More than is written at a time.
    rig.now += Duration::from_secs(2);
    rig.inter(40, 11);
    rig.inter(80, 12);
    rig.disk.0.borrow_mut().has_room = false;
    rig.now += Duration::from_secs(2);
    rig.inter(120, 13);
    rig.disk.0.borrow_mut().has_room = true;
    rig.key(1000, 20);
    let (disk, dropped) = rig.end();
    let tags = disk.tags();
    assert_eq!(tags[0][2..], [('v', 0, 10), ('v', 40, 11), ('v', 1000, 20)]);
    assert!(dropped > 0);
    let files = &disk.0.borrow().files;
    let metadata = metadata(&files[0]);
    let keyframes = metadata.get("keyframes").unwrap().as_object().unwrap();
    let Some(Value::StrictArray(positions)) = keyframes.get("filepositions") else { panic!("an array") };
    let at = positions.last().unwrap().as_number().unwrap() as usize;
    assert_eq!(files[0][at + 11..][..6], [0x17, 1, 0, 0, 0, 20]);
}

#[test]
fn after_a_failure_a_new_file_begins_a_while_later() {
    let mut rig = Rig::new("", true);
    rig.headers();
    rig.key(0, 10);
    rig.now += Duration::from_secs(2);
    rig.inter(40, 11);
    rig.disk.0.borrow_mut().has_failed = true;
    rig.inter(80, 12);
    rig.key(1000, 20);
    rig.now += Duration::from_secs(11);
    rig.inter(1040, 21);
    rig.key(2000, 30);
    let tags = rig.end().0.tags();
    assert_eq!(
        tags,
        [vec![('v', 0, 1), ('a', 0, 2), ('v', 0, 10), ('v', 40, 11)], vec![('v', 0, 1), ('a', 0, 2), ('v', 0, 30)]]
    );
    let mut rig = Rig::new("", true);
    rig.disk.0.borrow_mut().opens = false;
    rig.key(0, 10);
    rig.disk.0.borrow_mut().opens = true;
    rig.key(1000, 11);
    assert_eq!(rig.end().0.tags().len(), 0);
}

#[test]
fn segments_go_on_over_the_wrap_of_timestamps_of_32_bits() {
    let wrap = 1 << 32;
    for (directives, base) in [("time_jitter off;", 0), ("", wrap - 1000)] {
        let mut rig = Rig::new(directives, true);
        rig.key(wrap - 1000, 10);
        rig.key(wrap, 11);
        rig.inter(wrap + 40, 12);
        let (disk, _) = rig.end();
        let times = [wrap - 1000, wrap, wrap + 40].map(|time| (time - base) as u32);
        assert_eq!(disk.tags(), [vec![('v', times[0], 10), ('v', times[1], 11), ('v', times[2], 12)]]);
        let metadata = metadata(&disk.0.borrow().files[0]);
        let duration = (wrap + 40 - base) as f64 / 1000.0;
        assert_eq!(metadata.get("duration"), Some(&Value::Number(duration)), "{directives}");
    }
    let mut rig = Rig::new("dvr_plan segment; dvr_duration 10h;", true);
    (0..11).for_each(|hour| rig.key(wrap + hour * 3_600_000, hour as u8));
    assert_eq!(rig.end().0.tags().iter().map(Vec::len).collect::<Vec<_>>(), [10, 1]);
}

#[test]
fn another_path_takes_effect_at_the_next_keyframe() {
    let mut rig = Rig::new("", true);
    rig.key(0, 10);
    rig.recorder.reconfigure(&settings("dvr_path /other/x.flv;"));
    rig.inter(40, 11);
    rig.key(80, 12);
    assert_eq!(rig.end().0.tags(), [vec![('v', 0, 10), ('v', 40, 11)], vec![('v', 0, 12)]]);
    let mut rig = Rig::new("time_jitter off;", true);
    rig.key(5000, 10);
    assert_eq!(rig.end().0.tags(), [vec![('v', 5000, 10)]]);
}
