//! Attacks on what is easily overlooked: bytes that are held where nobody counts them, work that nobody measures, files that nobody
//! removes.

use std::time::{Duration, Instant};

use crate::attacker::Attacker;
#[cfg(feature = "hls")]
use crate::attacker::End;
use crate::limits::{MAX_MEMORY, assert_within_limit};
use crate::rig::{Rig, times};
use crate::rtmp::{
    AGGREGATE, AUDIO, COMMAND, NULL, SET_CHUNK_SIZE, VIDEO, chunked, command, connected, create_stream, frame,
    handshake, header, keyframe, message, number, object, play, playing, publish, publishing, text, video_header,
};

/// A chunk as long as a message may be.
const LONG: u32 = 0xff_ffff;

fn long_chunks() -> Vec<u8> {
    message(2, 0, SET_CHUNK_SIZE, 0, &LONG.to_be_bytes())
}

/// A message in one chunk.
fn whole(csid: u8, timestamp: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    chunked(csid, timestamp, kind, 1, payload, LONG as usize)
}

#[test]
fn what_is_held() {
    let mut rig = Rig::plain(&format!("max_memory {MAX_MEMORY};"), "");
    rig.attack("sequence headers as long as messages may be, of one stream after the other", long_headers);
    rig.attack("messages that are complete, from players who do not take their answers", complete_messages);
    rig.attack("frames of audio in great messages, that wait for video", waiting_audio);
    rig.attack("answers that nobody takes", answers);
    rig.attack("questions whose answers are as long as they can be", great_answers);
    rig.attack("publishers of one great message", great_messages);
    rig.attack("great objects in a connect that is refused", great_connects);
    rig.attack("a great message after five hours, for players who do not read", late_message);
    #[cfg(feature = "hls")]
    rig.attack("streams with long playlists, that end, one after the other", long_playlists);
    rig.finish();
}

#[test]
fn what_is_done() {
    let mut rig = Rig::plain("", "");
    #[cfg(feature = "hls")]
    rig.attack("frames of millions of units", many_units);
    #[cfg(feature = "hls")]
    rig.attack("small keyframes with large parameter sets", large_sets);
    rig.attack("players that pass over what they do not want", unwanted);
    rig.attack("great messages in chunks of one byte", small_chunks);
    rig.attack("publishers who say just not too much, each of them", moderate);
    rig.finish();
}

#[cfg(feature = "hls")]
#[test]
fn what_is_written() {
    let mut rig = Rig::plain("", "");
    rig.attack("segments that take no time", short_segments);
    rig.attack("a segment that claims hours, and then some that take no time", long_claims);
    rig.attack("names by the thousand, each with a frame", short_streams);
    rig.attack("thousands of streams of which nothing comes, on one connection", empty_streams);
    rig.attack("directories in each other, for a file that cannot be", deep_names);
    rig.finish();
}

fn long_headers(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&[connected(), create_stream(), long_chunks()].concat());
    let header = [&[0x17, 0, 0, 0, 0][..], &vec![1; 12 << 20]].concat();
    let stop = command(1, "closeStream", 0.0, &NULL);
    for n in 0..times(20, 200) {
        attacker.send(&[publish(format!("header{n}")), whole(6, 0, VIDEO, &header), stop.clone()].concat());
        attacker.take_what_is_there();
    }
    assert_within_limit(rig, 2);
}

/// Bytes of questions whose answers are more than the system takes for who does not read them.
const QUESTIONS: usize = 512 * 1024;

/// Each is asked for its answers: sixteen times as long as the question.
fn seeks(bytes: usize) -> Vec<u8> {
    let seek = text("seek");
    let mut all = header(3, 0, seek.len(), COMMAND, 1);
    all.extend_from_slice(&seek);
    while all.len() < bytes {
        all.push(0xc0 | 3);
        all.extend_from_slice(&seek);
    }
    all
}

fn complete_messages(rig: &Rig) {
    const SIZE: usize = 4 << 20;
    let mut all = Vec::new();
    for _ in 0..times(30, 200) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.shrink_receive_buffer();
        // All but the last byte of two messages, in chunks of all but the last byte.
        let size = u32::try_from(SIZE - 1).expect("small").to_be_bytes();
        let mut begin = [playing("nothing"), message(2, 0, SET_CHUNK_SIZE, 0, &size)].concat();
        for csid in [4, 5] {
            begin.extend_from_slice(&header(csid, 0, SIZE, VIDEO, 1));
            begin.resize(begin.len() + SIZE - 1, 0);
        }
        attacker.send(&begin);
        attacker.send(&[seeks(QUESTIONS), vec![0xc4, 0, 0xc5, 0]].concat());
        all.push(attacker);
    }
    assert_within_limit(rig, all.len());
}

fn waiting_audio(rig: &Rig) {
    let part = |kind: u8, payload: &[u8]| {
        let size = u32::try_from(payload.len()).expect("small");
        [&[kind][..], &size.to_be_bytes()[1..], &[0; 7], payload, &(size + 11).to_be_bytes()].concat()
    };
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    let aac = message(4, 0, AUDIO, 1, &[0xaf, 0, 0x12, 0x10]);
    attacker.send(&[publishing("waits"), long_chunks(), message(6, 0, VIDEO, 1, &video_header()), aac].concat());
    let aggregate = [part(AUDIO, &[0xaf, 1, 7, 7]), part(0, &vec![0; 4 << 20])].concat();
    for _ in 0..times(50, 250) {
        attacker.send(&whole(6, 0, AGGREGATE, &aggregate));
    }
    assert_within_limit(rig, 2);
}

fn answers(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..times(300, 2000) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.shrink_receive_buffer();
        let session = match n % 3 {
            0 => publishing(format!("answers{n}")),
            1 => playing("nothing"),
            _ => [connected(), create_stream()].concat(),
        };
        attacker.send(&[session, seeks(QUESTIONS)].concat());
        all.push(attacker);
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_within_limit(rig, 2 * all.len());
    rig.assert_newcomers_play();
}

/// What a client says is said to it again: what its codecs are, and which name it plays.
fn great_answers(rig: &Rig) {
    // In AMF3, of which a text may be referred to: 60,000 characters of two bytes each, and the same again and again.
    let mut codecs = vec![0x11, 0x09, (18 << 1) | 1, 0x01, 0x06, 0x87, 0xa9, 0x41];
    codecs.resize(codecs.len() + 60_000, 0xe9);
    codecs.extend_from_slice(&[0x06, 0x00].repeat(17));
    let members = [("app", text("live")), ("tcUrl", text("rtmp://127.0.0.1/live")), ("fourCcList", codecs)];
    let connect = command(0, "connect", 1.0, &object(&members));
    let name = [&b"nothing...x..."[..], &[0xff; 60_000]].concat();
    let mut all = Vec::new();
    for n in 0..times(200, 1000) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.shrink_receive_buffer();
        attacker.send(&if n % 2 == 0 { [handshake(), connect.clone()].concat() } else { playing(&name) });
        all.push(attacker);
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_within_limit(rig, all.len());
}

fn great_messages(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..times(20, 100) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[publishing(format!("one{n}")), long_chunks()].concat());
        attacker.send(&whole(6, 0, VIDEO, &keyframe(12 << 20)));
        attacker.send(&whole(6, 40, VIDEO, &keyframe(100)));
        all.push(attacker);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_within_limit(rig, 2 * all.len());
}

/// A time that does not fit into three bytes is repeated in each chunk: each player has chunks of its own.
fn late_message(rig: &Rig) {
    let Some(mut publisher) = Attacker::connect(rig.target) else { return };
    let audio = |n: u32| message(4, n * 5000, AUDIO, 1, &[0xaf, 1, 7]);
    publisher.send(&[publishing("late"), long_chunks(), message(6, 0, VIDEO, 1, &video_header()), audio(0)].concat());
    let wants = |wanted: u8| command(1, "receiveVideo", 0.0, &[&NULL[..], &[1, wanted]].concat());
    let mut all: Vec<_> = (0..times(60, 500)).filter_map(|_| Attacker::connect(rig.target)).collect();
    for player in &mut all {
        player.send(&[playing("late"), wants(0), wants(1)].concat());
        player.listen(Duration::from_millis(5));
    }
    for n in 1..3500 {
        publisher.send(&audio(n));
        if n % 100 == 0 {
            all.iter_mut().for_each(|player| {
                player.take_what_is_there();
            });
        }
    }
    all.iter_mut().for_each(|player| player.listen(Duration::from_millis(2)));
    publisher.send(&whole(6, 3500 * 5000, VIDEO, &keyframe(6 << 20)));
    std::thread::sleep(Duration::from_secs(2));
    assert_within_limit(rig, all.len());
    let taken = all.iter_mut().map(Attacker::take_what_is_there).filter(|&bytes| bytes > 0).count();
    assert!(taken > all.len() / 2, "{taken} players got some of it");
}

fn great_connects(rig: &Rig) {
    // Of one byte each on the wire, and of some forty in memory.
    let nulls = [&[10][..], &59_000_u32.to_be_bytes(), &NULL.repeat(59_000)].concat();
    let members = [("app", text("..")), ("tcUrl", text("rtmp://127.0.0.1/..")), ("junk", nulls)];
    let connect = [text("connect"), number(1.0), object(&members)].concat();
    let session = [handshake(), long_chunks(), chunked(3, 0, COMMAND, 0, &connect, LONG as usize)].concat();
    let mut all = Vec::new();
    for _ in 0..times(200, 1000) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.shrink_receive_buffer();
        attacker.send(&session);
        all.push(attacker);
    }
    assert_within_limit(rig, all.len());
}

#[cfg(feature = "hls")]
fn many_units(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    // Lengths of one byte each.
    let header = [&video_header()[..9], &[0xfc, 0xe0, 0]].concat();
    attacker.send(&[publishing("units"), long_chunks(), message(6, 0, VIDEO, 1, &header)].concat());
    let frame = [&[0x17, 1, 0, 0, 0][..], &[1, 0x65].repeat(8_000_000)].concat();
    for n in 0..times(5, 30) {
        attacker.send(&whole(6, 40 * u32::try_from(n).expect("small"), VIDEO, &frame));
    }
    rig.assert_newcomers_play();
}

fn unwanted(rig: &Rig) {
    let Some(mut publisher) = Attacker::connect(rig.target) else { return };
    publisher.send(&[publishing("unwanted"), message(6, 0, VIDEO, 1, &video_header())].concat());
    publisher.send(&message(6, 0, VIDEO, 1, &keyframe(100)));
    // Without a header of their own.
    let many = [message(6, 0, VIDEO, 1, &frame(6)), [&[0xc0 | 6][..], &frame(6)].concat().repeat(20_000)].concat();
    for _ in 0..20 {
        publisher.send(&many);
    }
    let without = |what: &str| command(1, what, 0.0, &[&NULL[..], &[1, 0]].concat());
    let session =
        [connected(), create_stream(), without("receiveAudio"), without("receiveVideo"), play("unwanted").repeat(1000)];
    let mut all: Vec<_> = (0..5).filter_map(|_| Attacker::connect(rig.target)).collect();
    let until = Instant::now() + Duration::from_secs(times(5, 30) as u64);
    all.iter_mut().for_each(|player| {
        player.send(&session.concat());
    });
    while Instant::now() < until {
        for player in &mut all {
            player.send(&play("unwanted").repeat(100));
            player.take_what_is_there();
        }
    }
    rig.assert_newcomers_play();
}

fn small_chunks(rig: &Rig) {
    let mut all = Vec::new();
    let one = message(2, 0, SET_CHUNK_SIZE, 0, &1_u32.to_be_bytes());
    for n in 0..10 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
        attacker.send(&[publishing(format!("chunks{n}")), media, one.clone()].concat());
        attacker.send(&[header(6, 0, 0xff_ffff, VIDEO, 1), vec![0]].concat());
        all.push(attacker);
    }
    let burst = [0xc0 | 6, 0].repeat(64 * 1024);
    let until = Instant::now() + Duration::from_secs(times(3, 30) as u64);
    let mut sent = 0;
    while Instant::now() < until {
        for attacker in &mut all {
            sent += if attacker.send(&burst) { burst.len() / 2 } else { 0 };
        }
    }
    println!("    {} million chunks", sent / 1_000_000);
    rig.assert_newcomers_play();
}

/// Half of what a client may say and still go before those who come.
fn moderate(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..400 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let media = [message(4, 0, AUDIO, 1, &[0xaf, 0, 0x12, 0x10]), message(4, 0, AUDIO, 1, &[0xaf, 1, 7])].concat();
        attacker.send(&[publishing(format!("moderate{n}")), media].concat());
        all.push(attacker);
    }
    let burst = [0xc0 | 4, 0xaf, 1, 7].repeat(100);
    let until = Instant::now() + Duration::from_secs(times(12, 60) as u64);
    let mut turns = 0;
    while Instant::now() < until {
        let turn = Instant::now();
        for attacker in &mut all {
            attacker.send(&burst);
        }
        turns += 1;
        std::thread::sleep(Duration::from_millis(10).saturating_sub(turn.elapsed()));
    }
    println!("    {} messages a second of each", turns * 100 / times(12, 60));
    rig.assert_newcomers_play();
}

/// Two, each of which says that what follows is another stream than what the other one is for: with each a segment begins.
#[cfg(feature = "hls")]
fn headers() -> [Vec<u8>; 2] {
    [0x64, 0x4d].map(|profile| {
        let mut header = video_header();
        header[6] = profile;
        message(6, 0, VIDEO, 1, &header)
    })
}

/// Has each of them begin two segments at a time, of a millisecond each.
#[cfg(feature = "hls")]
fn begin_segments(all: &mut [Attacker], mut time: u32, pause: Duration, limit: Duration) {
    let headers = headers();
    let until = Instant::now() + limit;
    while Instant::now() < until {
        for header in &headers {
            time += 1;
            let turn = [header.clone(), message(6, time, VIDEO, 1, &keyframe(50))].concat();
            all.iter_mut().for_each(|attacker| {
                attacker.send(&turn);
            });
        }
        std::thread::sleep(pause);
    }
}

#[cfg(feature = "hls")]
fn large_sets(rig: &Rig) {
    let set = [&[0x67][..], &[0x55; 15_000]].concat();
    let length = u16::try_from(set.len()).expect("16 bits").to_be_bytes();
    // Lengths of one byte each, and one set.
    let header = [&video_header()[..9], &[0xfc, 0xe1], &length, &set, &[0]].concat();
    let first = message(6, 0, VIDEO, 1, &[0x17, 1, 0, 0, 0, 1, 0x65]);
    let mut all = Vec::new();
    for n in 0..12 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let begin = [publishing(format!("sets{n}")), message(6, 0, VIDEO, 1, &header), first.clone()].concat();
        attacker.send(&begin);
        all.push(attacker);
    }
    let burst = [0xc0 | 6, 0x17, 1, 0, 0, 0, 1, 0x65].repeat(180);
    let until = Instant::now() + Duration::from_secs(times(10, 30) as u64);
    while Instant::now() < until {
        all.iter_mut().for_each(|attacker| {
            attacker.send(&burst);
        });
        std::thread::sleep(Duration::from_millis(10));
    }
    rig.assert_newcomers_play();
}

/// The playlist of a name that is written in three times its length, as long as one may be that has room always.
#[cfg(feature = "hls")]
fn long_playlists(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&[connected(), create_stream()].concat());
    let headers = headers();
    let stop = command(1, "closeStream", 0.0, &NULL);
    for n in 0..times(800, 5000) {
        let cuts = (0..80).flat_map(|n| [headers[n % 2].clone(), message(6, 0, VIDEO, 1, &keyframe(50))].concat());
        let cuts: Vec<u8> = cuts.collect();
        attacker.send(&[publish(format!("long{n}{}", "%".repeat(210))), cuts, stop.clone()].concat());
        attacker.listen(Duration::from_millis(1));
    }
    assert!(!attacker.closed, "those were not that many");
    rig.assert_newcomers_play();
}

#[cfg(feature = "hls")]
fn long_claims(rig: &Rig) {
    let [header, _] = headers();
    let mut all = Vec::new();
    for n in 0..20 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let frames = (0..2500).flat_map(|n| message(6, 4900 * n, VIDEO, 1, &keyframe(20)));
        attacker.send(&[publishing(format!("claim{n}")), header.clone(), frames.collect()].concat());
        all.push(attacker);
    }
    begin_segments(&mut all, 2500 * 4900, Duration::from_millis(100), Duration::from_secs(times(10, 90) as u64));
    let playlist = std::fs::read_to_string(rig.scratch.folder().join("html/live/claim7.m3u8")).expect("a playlist");
    let count = playlist.matches("#EXTINF").count();
    println!("    {count} segments in the playlist");
    assert!((10..=256).contains(&count), "{count} segments in a playlist");
}

#[cfg(feature = "hls")]
fn short_streams(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&[connected(), create_stream()].concat());
    let media = [message(4, 0, AUDIO, 1, &[0xaf, 0, 0x12, 0x10]), message(4, 0, AUDIO, 1, &[0xaf, 1, 7])].concat();
    let stop = command(1, "closeStream", 0.0, &NULL);
    let until = Instant::now() + Duration::from_secs(times(10, 60) as u64);
    let mut count = 0;
    while Instant::now() < until {
        let names = (0..30).map(|n| [publish(format!("frame{}", count + n)), media.clone(), stop.clone()].concat());
        attacker.send(&names.collect::<Vec<_>>().concat());
        attacker.listen(Duration::from_millis(1));
        count += 30;
    }
    println!("    {count} names");
    assert!(!attacker.closed && count > 1000, "those were not thousands");
    rig.assert_newcomers_play();
}

#[cfg(feature = "hls")]
fn short_segments(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..20 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&publishing(format!("short{n}")));
        all.push(attacker);
    }
    begin_segments(&mut all, 0, Duration::from_millis(10), Duration::from_secs(times(10, 60) as u64));
    let names = rig.files_of_hls();
    let files = names.iter().filter(|name| name.starts_with("short7-")).count();
    println!("    {files} files of one stream");
    // At most 256 are in the playlist, and those of twice its time stay for those who know of them, four a second.
    assert!((10..320).contains(&files), "{files} files of one stream");
}

#[cfg(feature = "hls")]
fn empty_streams(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&[connected(), create_stream()].concat());
    let stop = command(1, "closeStream", 0.0, &NULL);
    let count = times(20_000, 200_000);
    for n in 0..count / 100 {
        let turn: Vec<u8> = (0..100).flat_map(|m| [publish(format!("empty{n}-{m}")), stop.clone()].concat()).collect();
        attacker.send(&turn);
        attacker.listen(Duration::from_millis(1));
    }
    assert!(!attacker.closed, "those were not thousands");
    // Somebody else's stream is there as HLS nevertheless.
    let mut other = Attacker::connect(rig.target).expect("a connection");
    other.send(&[publishing("other"), message(6, 0, VIDEO, 1, &video_header())].concat());
    let mut time = 0;
    let is_there = || rig.files_of_hls().iter().any(|name| name == "other.m3u8");
    crate::process::eventually("another stream's playlist", Duration::from_secs(10), || {
        time += 500;
        other.send(&message(6, time, VIDEO, 1, &keyframe(500)));
        std::thread::sleep(Duration::from_millis(50));
        is_there().then_some(())
    });
    assert!(!rig.files_of_hls().iter().any(|name| name.starts_with("empty")));
}

#[cfg(feature = "hls")]
fn deep_names(rig: &Rig) {
    let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
    let deep = |n: usize, parts: usize| format!("deep{n}/{}", "d/".repeat(parts));
    for n in 0..times(100, 1000) {
        for name in [deep(n, 120) + "x", deep(n, 3) + &"n".repeat(240), deep(n, 3) + "s.m3u8/x"] {
            let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
            attacker.send(&[publishing(name), media.clone()].concat());
            attacker.listen(Duration::from_millis(2));
            attacker.leave(End::Fin);
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let left = rig.files_of_hls().into_iter().filter(|name| name.starts_with("deep")).count();
    assert_eq!(left, 0, "directories for files that are not");
}
