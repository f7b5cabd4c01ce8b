//! Tests of the files on disk: numbering after a restart, removal of segments, and a failing disk.

use super::super::playlist::segment_number;
use super::*;
use crate::app::outputs::live_files::Unwritten;

fn durations(window: u64, fragment: u64) -> Durations {
    Durations { window, fragment, target: fragment }
}

#[test]
fn numbers_go_on_after_a_restart() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 95_000, Some(50), true);
    // Killed: nothing is flushed, a file is half written, and two segments were on their way out.
    fs::write(rig.path("s-9.ts.tmp"), "half").unwrap();
    let before = rig.read();
    assert_eq!((before.media_sequence, before.segments.len()), (3, 6));
    assert!(rig.path("s-2.ts").exists(), "held back");
    let others = ["s-1.ts.bak", "other-1.ts", "s-x.ts", "s-01.ts", "t-1-2.ts"];
    others.iter().for_each(|other| fs::write(rig.path(other), "not ours").unwrap());

    let mut rig = Rig::at(rig.folder, 100_000);
    rig.send_headers(0);
    rig.run(100_000, 145_000, Some(50), true);
    let after = rig.read();
    let names: Vec<_> = after.segments.iter().map(|s| (s.uri.as_str(), s.discontinuity)).collect();
    assert_eq!(names[..3], [("s-7.ts", false), ("s-8.ts", false), ("s-9.ts", true)]);
    assert_eq!(after.media_sequence, 7);
    rig.run(145_000, 400_000, Some(50), true);
    rig.writer.tick(rig.now());
    for other in others {
        assert!(rig.path(other).exists(), "{other} is not ours");
    }
    assert!(!rig.path("s-9.ts.tmp").exists() && !rig.path("s-2.ts").exists() && !rig.path("s-9.ts").exists());
    let ours = rig.file_names().iter().filter(|file| segment_number("s", file).is_some()).count();
    assert!((6..=14).contains(&ours), "the window and segments held back: {ours}");
    assert_eq!(rig.read().discontinuity_sequence, 1);
}

#[test]
fn a_name_is_not_used_twice_even_when_the_playlist_is_lost() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 45_000, Some(50), true);
    fs::write(rig.path("s.m3u8"), "#EXTM3U\ngarbage\n").unwrap();
    let rig = Rig::at(rig.folder, 50_000);
    assert_eq!(rig.playlist.next_number(), 4);
}

#[test]
fn a_segment_that_left_is_held_back_and_then_removed() {
    let mut rig = Rig::new();
    rig.window = 30_000;
    rig.send_headers(0);
    rig.run(0, 200_000, Some(50), true);
    // 30 s in the playlist, and those that left it in the 40 s before.
    let files = rig.file_names();
    assert_eq!(rig.read().segments.len(), 3);
    assert_eq!(files.len(), 1 + 3 + 4, "{files:?}");
}

#[test]
fn segments_that_claim_to_be_long_do_not_stay_for_that() {
    let mut rig = Rig::new();
    let now = rig.now();
    for number in 0..50 {
        let started_at = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(100 * number));
        let entry = Entry { number, duration: 3_600_000, discontinuity: false, is_first: false, started_at };
        let body = Bytes::from_static(b"segment");
        let job = Job::Segment {
            entry,
            body,
            durations: durations(10_000, 2000),
            cleanup: true,
            event: None,
            unwritten: Unwritten::default(),
        };
        rig.handle_at(job, now);
    }
    rig.writer.tick(now + Duration::from_secs(19));
    assert!(rig.path("s-0.ts").exists());
    rig.writer.tick(now + Duration::from_secs(21));
    assert!(!rig.path("s-0.ts").exists() && rig.path("s-49.ts").exists());
    rig.handle_at(Job::Close { dispose: true, cleanup: true }, now);
    rig.writer.tick(now + Duration::from_secs(21));
    assert!(!rig.path("s-49.ts").exists());
}

#[test]
fn a_segment_that_never_came_to_the_disk_leaves_a_discontinuity() {
    let mut rig = Rig::new();
    let now = rig.now();
    for number in [0, 1, 3, 4] {
        let entry = Entry { number, duration: 2000, discontinuity: false, is_first: false, started_at: None };
        let job = Job::Segment {
            entry,
            body: Bytes::new(),
            durations: durations(10_000, 2000),
            cleanup: true,
            event: None,
            unwritten: Unwritten::default(),
        };
        rig.handle_at(job, now);
    }
    let list = rig.read();
    let names: Vec<_> = list.segments.iter().map(|s| (s.uri.as_str(), s.discontinuity)).collect();
    assert_eq!(names, [("s-0.ts", false), ("s-1.ts", false), ("s-3.ts", true), ("s-4.ts", false)]);
}

#[test]
fn segments_do_not_wait_for_very_many_files_to_go() {
    let mut rig = Rig::new();
    let now = rig.now();
    for number in 0..200 {
        let entry = Entry { number, duration: 2000, discontinuity: false, is_first: false, started_at: None };
        let job = Job::Segment {
            entry,
            body: Bytes::new(),
            durations: durations(1_000_000, 2000),
            cleanup: true,
            event: None,
            unwritten: Unwritten::default(),
        };
        rig.handle_at(job, now);
    }
    rig.handle_at(Job::Close { dispose: true, cleanup: true }, now);
    let files = |rig: &Rig| rig.file_names().iter().filter(|file| file.ends_with(".ts")).count();
    assert!(!rig.writer.tick(now) && files(&rig) == 200);
    let mut left = Vec::new();
    while rig.writer.tick(now + Duration::from_secs(2000)) {
        left.push(files(&rig));
    }
    assert_eq!(left, [136, 72, 8]);
    assert_eq!(rig.file_names(), ["s.m3u8"]);
}

#[test]
fn a_stream_that_is_over_says_so_and_goes() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 45_000, Some(50), true);
    rig.finish();
    rig.handle(Job::Close { dispose: true, cleanup: true });
    let playlist = rig.read();
    assert!(playlist.end_list);
    assert_eq!((playlist.segments.len(), rig.file_names().len()), (5, 6), "players can load the rest");
    rig.clock.fetch_add(60_000, Ordering::Relaxed);
    rig.writer.tick(rig.now());
    assert_eq!(rig.file_names(), ["s.m3u8"]);
    assert!(rig.read().end_list && rig.read().segments.is_empty());
    let rig = Rig::at(rig.folder, 200_000);
    assert_eq!(rig.playlist.next_number(), 5, "numbering continues");
}

#[test]
fn of_a_stream_that_never_had_a_segment_nothing_stays() {
    let mut rig = Rig::new();
    for job in [Job::Finish, Job::Close { dispose: true, cleanup: true }] {
        rig.handle(job);
    }
    rig.writer.tick(rig.now());
    assert!(!rig.folder.path().join("live").exists());
}

#[test]
fn a_stream_does_not_begin_with_a_number_of_one_that_was_forgotten() {
    let mut rig = Rig::new();
    let now = rig.now();
    let mut publish = |n: usize| {
        rig.files = Arc::new(StreamFiles::new(rig.folder.path().to_owned(), format!("app{n}/s")));
        let number = rig.open().next_number();
        let entry = Entry { number, duration: 1000, discontinuity: false, is_first: false, started_at: None };
        let job = Job::Segment {
            entry,
            body: Bytes::from_static(b"s"),
            durations: durations(1000, 1000),
            cleanup: true,
            event: None,
            unwritten: Unwritten::default(),
        };
        rig.handle_at(job, now);
        rig.handle_at(Job::Close { dispose: true, cleanup: true }, now);
        rig.writer.tick(now + Duration::from_secs(10));
        number
    };
    assert_eq!((0..=1000).map(&mut publish).max(), Some(0));
    assert_eq!([publish(0), publish(1001), publish(500)], [1, 1, 1]);
    let gone = |n: usize| !rig.folder.path().join(format!("app{n}")).exists();
    assert_eq!([0, 1, 2, 3, 500].map(gone), [false, true, true, false, false]);
}

#[test]
fn a_stream_that_comes_back_while_it_goes_is_kept_apart() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 45_000, Some(50), true);
    rig.finish();
    rig.handle(Job::Close { dispose: true, cleanup: true });
    rig.playlist = rig.open();
    rig.segmenter.start();
    rig.send_headers(50_000);
    rig.run(50_000, 120_000, Some(50), true);
    rig.writer.tick(rig.now());
    let playlist = rig.read();
    assert_eq!((playlist.segments[0].uri.as_str(), playlist.end_list), ("s-5.ts", false));
    assert!(!rig.path("s-4.ts").exists());
}

#[test]
fn a_disk_that_fails_costs_files_and_comes_back() {
    let mut rig = Rig::new();
    let live = rig.folder.path().join("live");
    // A file in the place of the directory.
    fs::write(&live, "in the way").unwrap();
    rig.send_headers(0);
    let write = |rig: &mut Rig, number: u64| {
        let entry = Entry {
            number,
            duration: 10_000,
            discontinuity: false,
            is_first: false,
            started_at: Some(SystemTime::UNIX_EPOCH),
        };
        let body = Bytes::from_static(b"segment");
        let job = Job::Segment {
            entry,
            body,
            durations: durations(60_000, 10_000),
            cleanup: true,
            event: None,
            unwritten: Unwritten::default(),
        };
        rig.handle(job);
        rig.files.take_failure()
    };
    assert!(write(&mut rig, 0).is_some_and(|error| error.contains("s-0.ts: ")));
    fs::remove_file(&live).unwrap();
    assert_eq!(write(&mut rig, 1), None);
    assert_eq!(write(&mut rig, 2), None);
    let playlist = rig.read();
    let names: Vec<_> = playlist.segments.iter().map(|s| (s.uri.as_str(), s.discontinuity)).collect();
    assert_eq!(names, [("s-1.ts", true), ("s-2.ts", false)]);
    // After the removal of the directory it is made again, and its segments leave the playlist.
    fs::remove_dir_all(&live).unwrap();
    assert_eq!(write(&mut rig, 3), None);
    let playlist = rig.read();
    assert_eq!(playlist.segments.iter().map(|s| s.uri.as_str()).collect::<Vec<_>>(), ["s-3.ts"]);
    assert_eq!(playlist.media_sequence, 3);
    // The name of the next segment is taken.
    fs::write(live.join("s-4.ts"), "theirs").unwrap();
    assert!(write(&mut rig, 4).is_some());
    assert_eq!(fs::read(live.join("s-4.ts")).unwrap(), b"theirs");
    assert_eq!(write(&mut rig, 5), None);
}
