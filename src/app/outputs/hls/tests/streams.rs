//! Tests of whole streams: the paths of their files, their owners, and the move to another directory.

use super::*;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stream::{ClientHandle, Packet, PacketKind, Tag, Track};
use crate::memory::MemoryTracker;

#[test]
fn files_are_below_hls_path_whatever_the_names_are() {
    let config = crate::config::Config::parse("t", "listen 1; vhost __defaultVhost__ { } vhost demo.com { }").unwrap();
    let default = config.vhost("x").unwrap();
    let demo = config.vhost("demo.com").unwrap();
    let default = |name: &str| file_base(&format!("__defaultVhost__/{name}"), default, &config).ok();
    assert_eq!(default("live/s").as_deref(), Some("live/s"));
    assert_eq!(default("a/b/c").as_deref(), Some("a/b/c"));
    assert_eq!(default("live/demo.com").as_deref(), Some("live/demo.com"));
    assert_eq!(default("live/s.m3u8").as_deref(), Some("live/s.m3u8"), "its playlist is s.m3u8.m3u8");
    assert_eq!(file_base("demo.com/live/s", demo, &config).as_deref(), Ok("demo.com/live/s"));
    assert_eq!(default("demo.com/live/s"), None, "it belongs to the other vhost");
    for directory in ["s.m3u8", "s-1.ts", "s.m3u8.tmp"] {
        assert_eq!(default(&format!("live/{directory}/x")), None, "{directory} may be a file of stream s");
    }
    assert!(
        default(&format!("live/{}", "n".repeat(227))).is_some()
            && default(&format!("live/{}", "n".repeat(228))).is_none()
    );
    assert!(default(&format!("{}s", "a/".repeat(16))).is_some() && default(&format!("{}s", "a/".repeat(17))).is_none());
    for name in ["../s", "live/..", "live/../../s", "/etc/s", "live//s", "live/.", "live\\s", "live/s\0", "", "live/"] {
        assert_eq!(default(name), None, "{name:?}");
    }
}

/// A publisher without a connection.
struct NullClient;

impl ClientHandle for NullClient {
    fn try_write(&self, _: &[u8]) -> std::io::Result<usize> {
        Ok(0)
    }
    fn wake(&self) {}
    fn close(&self, _: crate::app::CloseReason) {}
}

fn stream_in(folder: &tempfile::TempDir) -> (HlsStream, crate::config::Hls, LiveFiles) {
    let text = format!("listen 1; vhost v {{ hls on; hls_fragment 1; hls_path {}; }}", folder.path().display());
    let hls = crate::config::Config::parse("t", &text).unwrap().vhost("v").unwrap().hls.clone();
    let live = LiveFiles::new();
    let writer = SegmentWriter::start().unwrap();
    (HlsStream::new("v/live/s", "live/s", &hls, writer, live.clone(), BufferPool::default()), hls, live)
}

fn publish(stream: &HlsStream, hls: &crate::config::Hls) -> HlsOutput {
    HlsOutput::start(stream, hls, Arc::new(NullClient), &MemoryTracker::default()).unwrap()
}

fn send_keyframe(output: &mut dyn Output, time: u64) {
    send_to(output, time, AVC_HEADER);
    send_to(output, time, &frame(true, 100));
}

#[test]
fn two_streams_do_not_share_files() {
    let folder = tempfile::tempdir().unwrap();
    let (stream, hls, _) = stream_in(&folder);
    let memory = MemoryTracker::default();
    let one = HlsOutput::start(&stream, &hls, Arc::new(NullClient), &memory).unwrap();
    assert!(HlsOutput::start(&stream, &hls, Arc::new(NullClient), &memory).is_none());
    drop(one);
    assert!(HlsOutput::start(&stream, &hls, Arc::new(NullClient), &memory).is_some());
}

#[test]
fn of_streams_that_have_ended_no_more_are_kept_than_may_be() {
    let folders: [_; 5] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let streams = folders.each_ref().map(stream_in);
    let begin = |(stream, hls, _): &(HlsStream, crate::config::Hls, LiveFiles)| {
        let mut output = publish(stream, hls);
        send_keyframe(&mut output, 0);
        output
    };
    let mut outputs: Vec<_> = streams.iter().map(begin).collect();
    let last = outputs.pop();
    for ended in [2, 0, 1, 0] {
        drop(outputs.remove(ended));
    }
    let kept = || streams.each_ref().map(|(stream, ..)| stream.retained_since().is_some());
    let all = || streams.iter().map(|(stream, ..)| stream);
    close_excess(all(), 4, Instant::now(), &mut TimeSlice::new(Duration::MAX));
    assert_eq!(kept(), [true, true, true, true, false], "the last one is published");
    close_excess(all(), 2, Instant::now(), &mut TimeSlice::new(Duration::MAX));
    assert_eq!(kept(), [false, true, false, true, false], "those that ended first are closed");
    drop(last);
    close_excess(all(), 2, Instant::now(), &mut TimeSlice::new(Duration::MAX));
    assert_eq!(kept(), [false, true, false, false, true]);
}

#[test]
fn of_a_stream_that_never_had_a_segment_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (stream, hls, _) = stream_in(&folder);
    let mut output = publish(&stream, &hls);
    send_to(&mut output, 0, AVC_HEADER);
    assert!(!stream.tick(Instant::now()), "it is published");
    drop(output);
    assert!(stream.retained_since().is_none() && stream.tick(Instant::now()));
    assert!(HlsOutput::start(&stream, &hls, Arc::new(NullClient), &MemoryTracker::default()).is_some());
}

#[test]
fn nothing_is_put_behind_the_end_of_a_stream() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let (stream, hls, live) = stream_in(&folder);
        let mut output = publish(&stream, &hls);
        send_keyframe(&mut output, 0);
        // The segment waits for its number, which may be known before or after this.
        drop(output);
        stream.close(Instant::now());
        let end = Instant::now() + Duration::from_secs(20);
        while !stream.tick(Instant::now()) {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(live.usage(), (0, 0));
    }
}

#[test]
fn a_stream_that_went_elsewhere_does_not_come_back_in_memory() {
    for is_published in [true, false] {
        move_stream(is_published);
    }
}

/// Moves a stream to another directory, while it is published or between two publishers.
fn move_stream(is_published: bool) {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (old, hls, live) = stream_in(&folders[0]);
    let mut new_hls = hls.clone();
    new_hls.path = folders[1].path().to_owned();
    let new = HlsStream::new(
        "v/live/s",
        "live/s",
        &new_hls,
        SegmentWriter::start().unwrap(),
        live.clone(),
        BufferPool::default(),
    );
    let list = |stream: &HlsStream, is_due: &dyn Fn(&MediaPlaylist) -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            stream.tick(Instant::now());
            let file = live.get("live/s.m3u8");
            let list = file.and_then(|file| m3u8_rs::parse_media_playlist_res(&file.body).ok());
            if let Some(list) = list.filter(is_due) {
                return list;
            }
            assert!(Instant::now() < end, "no such playlist");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut output = publish(&old, &hls);
    for time in [0, 2000, 4000] {
        send_keyframe(&mut output, time);
    }
    if is_published {
        output.finish(true);
    } else {
        drop(output);
    }
    list(&old, &|list| list.end_list == is_published && list.segments.len() == 3);
    let mut output = publish(&new, &new_hls);
    for time in [6000, 8000] {
        send_keyframe(&mut output, time);
    }
    list(&new, &|list| !list.end_list && list.segments.len() == 1);
    // The files of the old one in memory expire.
    old.close(Instant::now());
    old.tick(Instant::now() + Duration::from_secs(1000));
    let list = list(&new, &|_| true);
    assert!(!list.end_list && live.get(&format!("live/{}", list.segments[0].uri)).is_some());
}

#[test]
fn what_is_on_its_way_out_goes_also_when_nothing_comes_of_the_next_publisher() {
    let folder = tempfile::tempdir().unwrap();
    let (stream, hls, live) = stream_in(&folder);
    let start = || publish(&stream, &hls);
    let mut output = start();
    send_keyframe(&mut output, 0);
    drop(output);
    let end = Instant::now() + Duration::from_secs(20);
    while live.get("live/s.m3u8").is_none() {
        stream.tick(Instant::now());
        assert!(Instant::now() < end);
    }
    stream.close(Instant::now());
    drop(start());
    assert!(stream.tick(Instant::now() + Duration::from_secs(1000)));
    assert_eq!(live.usage(), (0, 0));
}

#[test]
fn when_memory_is_short_nothing_is_kept_of_streams_that_nobody_publishes() {
    let folders: [_; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [(over, hls, live), (published, other_hls, other_live)] = folders.each_ref().map(stream_in);
    let mut outputs = [publish(&over, &hls), publish(&published, &other_hls)];
    let end = Instant::now() + Duration::from_secs(20);
    for (output, live) in outputs.iter_mut().zip([&live, &other_live]) {
        let mut time = 0;
        while live.usage().0 < 4 {
            send_keyframe(output, time);
            time += 2000;
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let [output, _output] = outputs;
    drop(output);
    let mut time_slice = TimeSlice::new(Duration::MAX);
    let (files, mut evicted) = (live.usage().0, 0);
    // The last segments stay until they are on disk.
    while live.usage() != (0, 0) {
        assert!(Instant::now() < end);
        evicted += over.evict(&mut time_slice);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((evicted, published.evict(&mut time_slice)), (files, 0));
    assert!(other_live.usage().0 >= 4);
    over.close(Instant::now());
    assert_eq!(live.usage(), (0, 0), "its end is marked on disk only");
    assert!(over.tick(Instant::now() + Duration::from_secs(1000)));
    let text = || fs::read_to_string(folders[0].path().join("live/s.m3u8")).unwrap_or_default();
    while !text().contains("ENDLIST") {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stream_is_closed_in_memory_before_the_disk_has_time_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_, hls, live) = stream_in(&folder);
    let (writer, never_reads) = SegmentWriter::stalled();
    let stream = HlsStream::new("v/live/s", "live/s", &hls, writer.clone(), live, BufferPool::default());
    let mut output = publish(&stream, &hls);
    send_keyframe(&mut output, 0);
    drop(output);
    let others = |n| Arc::new(StreamFiles::new(PathBuf::from("/"), format!("live/{n}")));
    while writer.send(&others(0), Job::Close { dispose: true, cleanup: true }) {}
    stream.close(Instant::now());
    assert!(stream.retained_since().is_none() && stream.is_closed());
    assert!(!stream.tick(Instant::now() + Duration::from_secs(1000)), "the writer thread does not know yet");
    drop(HlsOutput::start(&stream, &hls, Arc::new(NullClient), &MemoryTracker::default()));
    assert!(!stream.tick(Instant::now() + Duration::from_secs(1000)), "that publisher sent nothing");
    drop(never_reads);
}

#[test]
fn of_a_flood_of_names_no_more_are_known_than_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("listen 1; vhost v {{ hls on; hls_path {}; }}", folder.path().display());
    let config = crate::config::Config::parse("t", &text).unwrap();
    let vhost = config.vhost("v").unwrap();
    let all = Hls::new(LiveFiles::new()).unwrap();
    let client = Arc::new(ClientInfo::of_test(1));
    let start = |n: usize| {
        let [vhost_name, app, stream, params] = ["v", "live", &n.to_string(), ""].map(str::to_owned);
        let info = StreamInfo { name: format!("v/live/{n}"), vhost: vhost_name, app, stream, params };
        let (stream, handle) = (Arc::new(info), Arc::new(NullClient) as Arc<dyn ClientHandle>);
        let memory = MemoryTracker::default();
        let publishing = Publishing { stream: &stream, client: &client, handle: &handle, memory: &memory };
        all.start_output(&publishing, vhost, &config)
    };
    let first = start(0);
    assert!((1..MAX_STREAMS).all(|n| start(n).is_some()) && start(MAX_STREAMS).is_none());
    assert!(start(1).is_some(), "an old name");
    all.tick(Instant::now(), &mut TimeSlice::new(Duration::MAX));
    assert_eq!(all.0.streams.with(|streams| streams.len()), 1);
    assert!(start(MAX_STREAMS).is_some() && start(0).is_none());
    drop(first);
    assert!(start(0).is_some());
}

/// Publishes a stream that moves to another directory at the time `switch`. Returns the last playlists of both.
fn hand_over(messages: &[(u64, Vec<u8>)], switch: u64) -> [MediaPlaylist; 2] {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [(old, hls, old_live), (new, new_hls, new_live)] = folders.each_ref().map(stream_in);
    let mut output: Box<dyn Output> = Box::new(publish(&old, &hls));
    let mut is_switched = false;
    for (time, payload) in messages {
        if *time >= switch && !std::mem::replace(&mut is_switched, true) {
            output = output.replace_with(&mut || Some(Box::new(publish(&new, &new_hls)) as Box<dyn Output>)).unwrap();
            // As the source does with the sequence headers.
            for header in [AVC_HEADER, AAC_HEADER] {
                send_to(&mut *output, *time, header);
            }
        }
        send_to(&mut *output, *time, payload);
    }
    drop(output);
    [(old, old_live), (new, new_live)].map(|(stream, live)| {
        let playlist = || {
            stream.tick(Instant::now());
            let file = live.get("live/s.m3u8")?;
            let list = m3u8_rs::parse_media_playlist_res(&file.body).unwrap();
            (!list.segments.is_empty()).then_some(list)
        };
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // The number of the next segment is asked of the disk first.
            if let Some(list) = playlist() {
                // Once more, for the end mark after the last segment.
                stream.tick(Instant::now());
                return playlist().unwrap_or(list);
            }
            assert!(Instant::now() < end, "no playlist");
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

fn send_to(output: &mut dyn Output, time: u64, payload: &[u8]) {
    let payload = &Bytes::copy_from_slice(payload);
    let (track, tag) = match payload[0] {
        0xaf => (Track::Audio, Tag::Audio(flv::read_audio_header(payload).unwrap())),
        _ => (Track::Video, Tag::Video(flv::read_video_header(payload).unwrap())),
    };
    output.packet(&Packet { track, dts: time, kind: PacketKind::Regular, tag: Some(tag), payload });
}

fn milliseconds_of(list: &MediaPlaylist) -> u64 {
    list.segments.iter().map(|segment| (segment.duration * 1000.0).round() as u64).sum()
}

#[test]
fn a_stream_goes_elsewhere_at_a_keyframe() {
    let mut messages = vec![(0, AVC_HEADER.to_vec())];
    messages.extend((0..125).map(|n| (n * 40, frame(n % 50 == 0, 100))));
    let [old, new] = hand_over(&messages, 2500);
    assert_eq!((milliseconds_of(&old), old.end_list), (4000, true));
    assert_eq!((milliseconds_of(&new), new.end_list), (1000, false));
}

#[test]
fn a_stream_without_keyframes_goes_elsewhere_after_ten_seconds() {
    let mut messages = vec![(0, AVC_HEADER.to_vec())];
    messages.extend((0..500).map(|n| (n * 40, frame(n == 0 || n == 450, 100))));
    let [old, new] = hand_over(&messages, 2000);
    assert_eq!((milliseconds_of(&old), old.end_list), (12_000, true));
    assert_eq!((milliseconds_of(&new), new.end_list), (2000, false));
}

#[test]
fn sound_alone_goes_elsewhere_at_once() {
    let mut messages = vec![(0, AAC_HEADER.to_vec())];
    messages.extend((0..200).map(|n| (n * 1024 * 1000 / 44_100, aac(n as u8))));
    let [old, new] = hand_over(&messages, 2000);
    assert!(milliseconds_of(&old).abs_diff(2000) < 50 && old.end_list, "{old:?}");
    assert!(milliseconds_of(&old) + milliseconds_of(&new) > 4600 && !new.end_list, "{new:?}");
}
