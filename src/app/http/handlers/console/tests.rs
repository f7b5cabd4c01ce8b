use std::time::SystemTime;

use super::stream_list::render;
use super::*;
use crate::app::stats::snapshot::{AudioReport, StreamReport, StreamState, VideoReport};

fn stream(name: &str) -> StreamReport {
    let (vhost, rest) = name.split_once('/').unwrap();
    let (app, stream) = rest.rsplit_once('/').unwrap();
    let audio = AudioReport {
        codec: "AAC".to_owned(),
        profile: None,
        sample_rate: None,
        channels: None,
        kbps: 0,
        hls_obstacle: None,
    };
    StreamReport {
        name: name.to_owned(),
        vhost: vhost.to_owned(),
        app: app.to_owned(),
        stream: stream.to_owned(),
        state: StreamState::Live,
        publisher: Some(1),
        uptime_ms: 0,
        players: 2,
        forwarders: 0,
        video: None,
        audio: Some(audio),
        video_frames: 0,
        messages: 0,
        dropped: 0,
        gop_ms: None,
        av_skew_ms: None,
        jitter_ms: 0.0,
        stalls: 0,
        held_bytes: 0,
        bytes_in: 0,
        bytes_out: 0,
        kbps_in: 0,
        kbps_out: 0,
        tc_url: String::new(),
        hls: Some(format!("/{stream}.m3u8")),
        flv: None,
    }
}

fn with_video(name: &str, codec: &str) -> StreamReport {
    let codec = codec.to_owned();
    let video = VideoReport { codec, profile: None, level: None, width: None, height: None, fps: 0.0, kbps: 0 };
    StreamReport { video: Some(video), ..stream(name) }
}

#[test]
fn the_list_escapes_what_publishers_call_their_streams() {
    st::run(|| {
        let live = LiveFiles::new();
        let put = |path: &str| live.insert(path, path, LiveFile::new(path, Bytes::new(), SystemTime::UNIX_EPOCH));
        put("live/a b.m3u8");
        put("v.com/live/s.m3u8");
        let streams = [
            with_video("__defaultVhost__/live/a b", "H.264"),
            StreamReport { flv: Some("/live/s.flv?vhost=v.com".to_owned()), ..stream("v.com/live/s") },
            stream("__defaultVhost__/live/<script>\"\\\u{2028}"),
            StreamReport { state: StreamState::Idle, ..stream("v.com/live/idle") },
        ];
        let rest = "\"audio\":\"AAC\",\"players\":2,\"hls\":";
        let expected = format!(
            "{{\"server\":\"simple-rtmp-server\",\"version\":\"{}\",\"rtmp_port\":1935,\"streams\":[\
             {{\"vhost\":\"__defaultVhost__\",\"name\":\"live/a b\",\"video\":\"H.264\",{rest}\"/a b.m3u8\",\"flv\":null}},\
             {{\"vhost\":\"v.com\",\"name\":\"live/s\",\"video\":null,{rest}\"/s.m3u8\",\"flv\":\"/live/s.flv?vhost=v.com\"}},\
             {{\"vhost\":\"__defaultVhost__\",\"name\":\"live/\\u003cscript\\u003e\\\"\\\\\\u2028\",\"video\":null,{rest}null,\
             \"flv\":null}}]}}\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(render(&streams, &live, 1935), expected);
    })
    .unwrap();
}

#[test]
fn others_run_while_a_long_list_is_made() {
    let turns = st::run(|| {
        let (ended, turns) = (Shared::new(false), Shared::new(0));
        let (end, count) = (ended.clone(), turns.clone());
        let other = st::spawn("other", 0, move || {
            while !end.with(|end| *end) {
                count.with(|count| *count += 1);
                st::yield_now();
            }
        });
        let streams: Vec<_> = (0..160).map(|n| stream(&format!("v/a/{n}<<<"))).collect();
        let list = render(&streams, &LiveFiles::new(), 1935);
        ended.with(|ended| *ended = true);
        other.unwrap().join();
        assert_eq!(list.matches("\"name\"").count(), 160);
        assert!(!list.contains("unlisted"));
        turns.with(|turns| *turns)
    });
    assert!((9..=11).contains(&turns.unwrap()));
}

#[test]
fn what_is_not_listed_is_counted() {
    st::run(|| {
        let count = 4000;
        let streams: Vec<_> = (0..count).map(|n| stream(&format!("v/{n}/{}", "<".repeat(255)))).collect();
        let list = render(&streams, &LiveFiles::new(), 1935);
        let listed = list.matches("\"name\"").count();
        assert!(listed < count && (4 << 20..(4 << 20) + 2000).contains(&list.len()), "{}", list.len());
        assert!(list.ends_with(&format!("\"flv\":null}}],\"unlisted\":{}}}\n", count - listed)));
    })
    .unwrap();
}

#[test]
fn one_makes_the_list_and_the_others_get_the_last() {
    let start = std::time::Instant::now();
    let at = |ms| start + std::time::Duration::from_millis(ms);
    let mut cache = ListCache::default();
    assert_eq!(cache.get(at(0)), None);
    assert_eq!(cache.get(at(1)), None, "there is none yet");
    cache.set(Bytes::from_static(b"first"));
    assert_eq!(cache.get(at(499)), Some(Bytes::from_static(b"first")));
    assert_eq!(cache.get(at(501)), None);
    assert_eq!(cache.get(at(502)), Some(Bytes::from_static(b"first")), "another one renders");
    assert_eq!(cache.get(at(1001)), None, "that one has failed");
}

#[test]
fn only_the_port_of_media_is_added_to_the_policy() {
    assert!(policy(None).contains("script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:;"));
    let policy = policy(Some(8080));
    assert!(policy.contains("connect-src 'self' http://*:8080; media-src 'self' blob: http://*:8080;"));
    assert!(policy.contains("script-src 'self';"));
}
