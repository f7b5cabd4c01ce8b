use super::*;
use crate::app::outputs::dvr::recorder::Refusal;
use crate::codec::mp4::tests::{AAC_44100_STEREO, avc_record, read};
use crate::codec::mp4::{Kind, Reason};

const MP4: &str = "dvr_path /rec/[stream].mp4;";

impl Rig {
    fn mp4(directives: &str) -> Self {
        Self::new(&format!("{MP4} {directives}"), true)
    }

    fn mp4_headers(&mut self) {
        let avc = [&[0x17, 0, 0, 0, 0][..], &avc_record()].concat();
        self.send(Track::Video, 0, PacketKind::Header, &avc);
        self.send(Track::Audio, 0, PacketKind::Header, &[&[0xaf, 0][..], AAC_44100_STEREO].concat());
    }
}

impl MemoryDisk {
    /// Returns the samples of each file: kind, decoding time, last byte.
    fn samples(&self) -> Vec<Vec<(char, u64, u8)>> {
        let samples = |file: &Vec<u8>| {
            let kind = |kind| if kind == Kind::Video { 'v' } else { 'a' };
            read(file).1.into_iter().map(|(k, dts, .., data)| (kind(k), dts, data[data.len() - 1])).collect()
        };
        self.0.borrow().files.iter().map(samples).collect()
    }
}

#[test]
fn a_session_is_one_file_from_the_first_frame() {
    let mut rig = Rig::mp4("");
    rig.mp4_headers();
    rig.audio(5000, 10);
    rig.key(5010, 11);
    // Nothing that is no frame is in the file.
    rig.send(Track::Data, 5010, PacketKind::Regular, b"\x02\x00\x01x");
    rig.send(Track::Video, 5020, PacketKind::Regular, &[0x57, 0]);
    rig.send(Track::Video, 5020, PacketKind::Regular, &[0x17, 2, 0, 0, 0]);
    rig.send(Track::Video, 5030, PacketKind::Regular, &[0x27, 1, 0, 0, 0]);
    rig.send(Track::Audio, 5030, PacketKind::Regular, &[]);
    rig.inter(5050, 12);
    rig.audio(5040, 13);
    let (disk, dropped) = rig.end();
    assert_eq!((disk.samples(), dropped), (vec![vec![('v', 10, 11), ('v', 50, 12), ('a', 0, 10), ('a', 40, 13)]], 0));
}

#[test]
fn a_crash_costs_the_last_second() {
    let mut rig = Rig::mp4("");
    rig.mp4_headers();
    let count = |rig: &mut Rig, dts| {
        rig.inter(dts, 1);
        rig.disk.samples().first().map_or(0, Vec::len)
    };
    rig.key(0, 0);
    assert_eq!((count(&mut rig, 400), count(&mut rig, 960)), (0, 0));
    assert_eq!(count(&mut rig, 1000), 3, "the last frame is held back");
    rig.key(1400, 1);
    assert_eq!(count(&mut rig, 1440), 3);
    rig.key(1500, 1);
    assert_eq!(count(&mut rig, 1540), 6, "the fragment ends before a keyframe");
    rig.now += Duration::from_secs(1);
    assert_eq!(count(&mut rig, 1541), 8, "a publisher that is slower than its timestamps");
    let large = vec![9; 2 << 20];
    rig.send(Track::Video, 1600, PacketKind::Regular, &[&[0x27, 1, 0, 0, 0][..], &large].concat());
    assert_eq!(count(&mut rig, 1601), 10, "much is not collected");
    assert_eq!(rig.end().1, 0);
}

#[test]
fn a_file_has_the_time_of_its_first_frame() {
    #[derive(Clone, Default)]
    struct Ages(Rc<RefCell<Vec<Duration>>>);
    impl Disk for Ages {
        fn open(&mut self, _: Bytes, age: Duration) -> bool {
            self.0.borrow_mut().push(age);
            true
        }
        fn write(&mut self, _: Bytes) -> bool {
            true
        }
        fn write_fragment(&mut self, _: Bytes) -> bool {
            true
        }
        fn close(&mut self, _: Ending) {}
        fn has_failed(&self) -> bool {
            false
        }
        fn has_room_for_gop(&self) -> bool {
            true
        }
    }
    let (ages, now) = (Ages::default(), Instant::now());
    let mut recorder = Recorder::new(ages.clone(), &settings(MP4), true);
    let avc = Bytes::from([&[0x17, 0, 0, 0, 0][..], &avc_record()].concat());
    let key = Bytes::from_static(&[0x17, 1, 0, 0, 0, 9]);
    for (payload, kind, dts) in
        [(avc, PacketKind::Header, 0), (key.clone(), PacketKind::Keyframe, 0), (key, PacketKind::Keyframe, 700)]
    {
        let tag = read_video_header(&payload).map(Tag::Video);
        let packet = Packet { track: Track::Video, dts, kind, tag, payload: &payload };
        recorder.packet(&packet, now + Duration::from_millis(dts));
    }
    recorder.finish(now);
    assert_eq!(*ages.0.borrow(), [Duration::from_millis(700)]);
}

#[test]
fn other_parameters_start_a_file_at_the_next_keyframe() {
    let mut rig = Rig::mp4("");
    rig.mp4_headers();
    rig.key(0, 10);
    rig.audio(10, 11);
    // The same headers again change nothing.
    rig.mp4_headers();
    rig.inter(40, 12);
    rig.send(Track::Audio, 40, PacketKind::Header, &[0xaf, 0, 0x11, 0x90]);
    rig.audio(50, 13);
    rig.inter(80, 14);
    rig.key(1000, 15);
    rig.audio(1010, 16);
    // A track that appears later.
    let (disk, dropped) = rig.end();
    let expected = [vec![('v', 0, 10), ('v', 40, 12), ('v', 80, 14), ('a', 10, 11)], vec![('v', 0, 15), ('a', 10, 16)]];
    assert_eq!((disk.samples(), dropped), (expected.to_vec(), 0), "sound of other parameters is not decodable");
    let mut rig = Rig::mp4("");
    rig.send(Track::Audio, 0, PacketKind::Header, &[&[0xaf, 0][..], AAC_44100_STEREO].concat());
    (0..100).for_each(|n| rig.audio(n * 23, 1));
    rig.mp4_headers();
    rig.key(2300, 2);
    rig.inter(2340, 3);
    let samples = rig.end().0.samples();
    assert_eq!((samples.len(), samples[0].len()), (2, 100));
    assert_eq!(samples[1], [('v', 0, 2), ('v', 40, 3)]);
}

#[test]
fn a_publisher_that_changes_parameters_with_each_keyframe_has_few_files() {
    let mut rig = Rig::mp4("");
    let round = |rig: &mut Rig, n: u64| {
        let config = if n.is_multiple_of(2) { AAC_44100_STEREO } else { &[0x11, 0x90] };
        rig.send(Track::Audio, n * 40, PacketKind::Header, &[&[0xaf, 0][..], config].concat());
        rig.key(n * 40, n as u8);
        rig.audio(n * 40, n as u8);
    };
    rig.mp4_headers();
    (0..100).for_each(|n| round(&mut rig, n));
    rig.now += Duration::from_secs(1);
    (100..200).for_each(|n| round(&mut rig, n));
    let samples = rig.end().0.samples();
    assert_eq!(samples.len(), 1 + 1 + 16 + 1);
    let pictures = samples.iter().flatten().filter(|sample| sample.0 == 'v').count();
    assert_eq!(pictures, 200, "all of the track that does not change");
}

#[test]
fn a_track_that_is_not_possible_is_reported_once() {
    let mut rig = Rig::mp4("");
    for n in 0..3 {
        rig.send(Track::Video, n * 40, PacketKind::Keyframe, &[0x14, 0, 0x20]);
        rig.send(Track::Audio, n * 40, PacketKind::Regular, &[0xb2, 1, 2]);
    }
    let refusal = |kind, codec: &str| Refusal { kind, codec: codec.to_owned(), reason: Reason::Codec };
    let refusals = rig.recorder.take_refusals();
    assert_eq!(refusals, [refusal(Kind::Video, "VP6"), refusal(Kind::Audio, "Speex")]);
    // The sound can be recorded.
    rig.send(Track::Audio, 200, PacketKind::Regular, &[0x2e, 0xff, 0xfb, 0x90, 0x64]);
    rig.send(Track::Video, 240, PacketKind::Keyframe, &[0x14, 0, 0x20]);
    rig.send(Track::Video, 280, PacketKind::Regular, &[0x27, 1, 0, 0, 0, 1]);
    let refusals = rig.recorder.take_refusals();
    assert_eq!(refusals, [Refusal { kind: Kind::Video, codec: "H.264".to_owned(), reason: Reason::Header }]);
    assert_eq!(rig.end().0.samples(), [[('a', 200, 0x64)]]);
    // A stream without anything that is possible has no file.
    let mut rig = Rig::mp4("");
    rig.send(Track::Video, 0, PacketKind::Keyframe, &[0x14, 0, 0x20]);
    assert_eq!(rig.end().0.samples().len(), 0);
}

#[test]
fn a_slow_disk_costs_whole_gops() {
    let mut rig = Rig::mp4("");
    rig.mp4_headers();
    rig.key(0, 10);
    rig.inter(600, 11);
    rig.key(1000, 20);
    rig.disk.0.borrow_mut().has_room = false;
    rig.inter(1040, 21);
    rig.key(2000, 30);
    rig.audio(2010, 31);
    rig.inter(2040, 32);
    rig.disk.0.borrow_mut().has_room = true;
    rig.inter(2080, 33);
    rig.key(3000, 40);
    let (disk, dropped) = rig.end();
    let expected = [('v', 0, 10), ('v', 600, 11), ('v', 1000, 20), ('v', 1040, 21), ('v', 3000, 40)];
    assert_eq!((disk.samples(), dropped), (vec![expected.to_vec()], 4));
    // No room in the middle of a GOP.
    let mut rig = Rig::mp4("");
    rig.mp4_headers();
    rig.key(0, 10);
    rig.inter(1000, 11);
    rig.disk.0.borrow_mut().has_room = false;
    rig.inter(1960, 12);
    rig.inter(2000, 13);
    rig.inter(2040, 14);
    rig.disk.0.borrow_mut().has_room = true;
    rig.key(3000, 20);
    let (disk, dropped) = rig.end();
    assert_eq!((disk.samples(), dropped), (vec![vec![('v', 0, 10), ('v', 3000, 20)]], 4));
}

#[test]
fn after_a_failure_a_new_file_begins_a_while_later() {
    let mut rig = Rig::mp4("");
    rig.mp4_headers();
    rig.disk.0.borrow_mut().opens = false;
    rig.key(0, 10);
    rig.inter(1000, 11);
    rig.disk.0.borrow_mut().opens = true;
    rig.key(2000, 20);
    rig.now += Duration::from_secs(11);
    rig.inter(2040, 21);
    rig.key(3000, 30);
    rig.inter(4000, 31);
    rig.disk.0.borrow_mut().has_failed = true;
    rig.inter(4040, 32);
    rig.now += Duration::from_secs(11);
    rig.key(5000, 40);
    assert_eq!(rig.end().0.samples(), [vec![('v', 0, 30)], vec![('v', 0, 40)]]);
}

#[test]
fn a_time_beyond_32_bits_and_another_format_at_a_reload() {
    let mut rig = Rig::mp4("time_jitter off;");
    let wrap = 1 << 32;
    rig.mp4_headers();
    rig.key(wrap - 40, 1);
    rig.inter(wrap, 2);
    rig.recorder.reconfigure(&settings("dvr_path /rec/[stream].flv;"));
    rig.key(wrap + 40, 3);
    rig.recorder.reconfigure(&settings(MP4));
    rig.key(wrap + 80, 4);
    let (disk, _) = rig.end();
    let files = &disk.0.borrow().files;
    let times = |file: &Vec<u8>| read(file).1.iter().map(|sample| sample.1).collect::<Vec<_>>();
    assert_eq!((times(&files[0]), times(&files[2])), (vec![wrap - 40, wrap], vec![0]));
    assert_eq!(tags(&files[1]).len(), 3);
}
