//! Attacks on `max_memory` by what a server easily forgets to charge: headers of finished streams, complete messages, replies,
//! buffers.

use std::time::Duration;

use crate::attacker::Attacker;
#[cfg(all(feature = "hls", feature = "http"))]
use crate::disk_use::two_headers;
use crate::max_memory::{MAX_MEMORY, assert_within_limit};
use crate::rig::{Rig, Setup};
use crate::rtmp::{
    AGGREGATE, AUDIO, COMMAND, MAX_CHUNK, NULL, SET_CHUNK_SIZE, VIDEO, chunked, command, connect_session,
    create_stream, handshake, header, keyframe, message, number, object, play_session, publish, publish_session,
    set_max_chunk_size, single_chunk, text, video_header,
};

#[test]
fn memory_that_is_easily_forgotten() {
    let mut rig = Rig::start(Setup { root: &format!("max_memory {MAX_MEMORY};"), ..Setup::default() });
    rig.attack_from_rest("sequence headers of 12 MB, of one stream after the other", long_headers);
    rig.attack_from_rest("complete messages of players that do not read", complete_messages);
    rig.attack_from_rest("audio in large messages that waits for video", waiting_audio);
    rig.attack_from_rest("unread replies", unread_replies);
    rig.attack_from_rest("unread replies as long as possible", long_replies);
    rig.attack_from_rest("publishers of one large message", large_messages);
    rig.attack_from_rest("large objects in a connect that is refused", large_connects);
    rig.attack_from_rest("a large message after five hours, for players that do not read", late_message);
    #[cfg(all(feature = "hls", feature = "http"))]
    rig.attack_from_rest("streams with long playlists, one after the other", long_playlists);
    rig.finish();
}

fn long_headers(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&[connect_session(), create_stream(), set_max_chunk_size()].concat());
    let header = [&[0x17, 0, 0, 0, 0][..], &vec![1; 12 << 20]].concat();
    let stop = command(1, "closeStream", 0.0, &NULL);
    for n in 0..rig.count(20, 200, "streams") {
        attacker.send(&[publish(format!("header{n}")), single_chunk(6, 0, VIDEO, &header), stop.clone()].concat());
        attacker.drain();
    }
    assert_within_limit(rig, 2);
}

/// Bytes of questions whose replies exceed the send buffer of a client that does not read.
const QUESTION_BYTES: usize = 512 * 1024;

/// Returns `seek` commands, whose replies are sixteen times as long.
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
    for _ in 0..rig.count(30, 200, "players") {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.shrink_receive_buffer();
        // Two messages without their last bytes, each in a chunk that ends there; the last bytes follow after the questions.
        let size = u32::try_from(SIZE - 1).expect("small").to_be_bytes();
        let mut begin = [play_session("nothing"), message(2, 0, SET_CHUNK_SIZE, 0, &size)].concat();
        for csid in [4, 5] {
            begin.extend_from_slice(&header(csid, 0, SIZE, VIDEO, 1));
            begin.resize(begin.len() + SIZE - 1, 0);
        }
        attacker.send(&begin);
        attacker.send(&[seeks(QUESTION_BYTES), vec![0xc4, 0, 0xc5, 0]].concat());
        all.push(attacker);
    }
    assert_within_limit(rig, all.len());
}

fn waiting_audio(rig: &Rig) {
    let part = |kind: u8, payload: &[u8]| {
        let size = u32::try_from(payload.len()).expect("small");
        [&[kind][..], &size.to_be_bytes()[1..], &[0; 7], payload, &(size + 11).to_be_bytes()].concat()
    };
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    let aac = message(4, 0, AUDIO, 1, &[0xaf, 0, 0x12, 0x10]);
    attacker.send(
        &[publish_session("waits"), set_max_chunk_size(), message(6, 0, VIDEO, 1, &video_header()), aac].concat(),
    );
    let aggregate = [part(AUDIO, &[0xaf, 1, 7, 7]), part(0, &vec![0; 4 << 20])].concat();
    for _ in 0..rig.count(50, 250, "messages") {
        attacker.send(&single_chunk(6, 0, AGGREGATE, &aggregate));
    }
    assert_within_limit(rig, 2);
}

fn unread_replies(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..rig.count(300, 2000, "clients") {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.shrink_receive_buffer();
        let session = match n % 3 {
            0 => publish_session(format!("replies{n}")),
            1 => play_session("nothing"),
            _ => [connect_session(), create_stream()].concat(),
        };
        attacker.send(&[session, seeks(QUESTION_BYTES)].concat());
        all.push(attacker);
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_within_limit(rig, 2 * all.len());
    rig.assert_new_players_served();
}

/// Sends a codec list and a stream name that the server repeats in its replies.
fn long_replies(rig: &Rig) {
    // AMF3: a string of 60,000 characters, which take two bytes each in UTF-8, and 17 references to it.
    let mut codecs = vec![0x11, 0x09, (18 << 1) | 1, 0x01, 0x06, 0x87, 0xa9, 0x41];
    codecs.resize(codecs.len() + 60_000, 0xe9);
    codecs.extend_from_slice(&[0x06, 0x00].repeat(17));
    let members = [("app", text("live")), ("tcUrl", text("rtmp://127.0.0.1/live")), ("fourCcList", codecs)];
    let connect = command(0, "connect", 1.0, &object(&members));
    let name = [&b"nothing...x..."[..], &[0xff; 60_000]].concat();
    let mut all = Vec::new();
    for n in 0..rig.count(200, 1000, "clients") {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.shrink_receive_buffer();
        attacker.send(&if n % 2 == 0 { [handshake(), connect.clone()].concat() } else { play_session(&name) });
        all.push(attacker);
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_within_limit(rig, all.len());
}

fn large_messages(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..rig.count(20, 100, "publishers") {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.send(&[publish_session(format!("large{n}")), set_max_chunk_size()].concat());
        attacker.send(&single_chunk(6, 0, VIDEO, &keyframe(12 << 20)));
        attacker.send(&single_chunk(6, 40, VIDEO, &keyframe(100)));
        all.push(attacker);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_within_limit(rig, 2 * all.len());
}

fn large_connects(rig: &Rig) {
    // Values of one byte each on the wire, and of some forty bytes in memory.
    let nulls = [&[10][..], &59_000_u32.to_be_bytes(), &NULL.repeat(59_000)].concat();
    let members = [("app", text("..")), ("tcUrl", text("rtmp://127.0.0.1/..")), ("junk", nulls)];
    let connect = [text("connect"), number(1.0), object(&members)].concat();
    let session = [handshake(), set_max_chunk_size(), chunked(3, 0, COMMAND, 0, &connect, MAX_CHUNK)].concat();
    let mut all = Vec::new();
    for _ in 0..rig.count(200, 1000, "clients") {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.shrink_receive_buffer();
        attacker.send(&session);
        all.push(attacker);
    }
    assert_within_limit(rig, all.len());
}

/// Sends an extended timestamp, which is repeated in each chunk, so that the chunks of each player differ.
fn late_message(rig: &Rig) {
    let Some(mut publisher) = Attacker::connect(rig.rtmp) else { return };
    let audio = |n: u32| message(4, n * 5000, AUDIO, 1, &[0xaf, 1, 7]);
    publisher.send(
        &[publish_session("late"), set_max_chunk_size(), message(6, 0, VIDEO, 1, &video_header()), audio(0)].concat(),
    );
    let receive_video = |on: u8| command(1, "receiveVideo", 0.0, &[&NULL[..], &[1, on]].concat());
    let mut all = Attacker::connect_many(rig.count(60, 500, "players"), rig.rtmp);
    for player in &mut all {
        player.send(&[play_session("late"), receive_video(0), receive_video(1)].concat());
        player.discard_for(Duration::from_millis(5));
    }
    for n in 1..3500 {
        publisher.send(&audio(n));
        if n % 100 == 0 {
            all.iter_mut().for_each(|player| {
                player.drain();
            });
        }
    }
    all.iter_mut().for_each(|player| player.discard_for(Duration::from_millis(2)));
    publisher.send(&single_chunk(6, 3500 * 5000, VIDEO, &keyframe(6 << 20)));
    std::thread::sleep(Duration::from_secs(2));
    assert_within_limit(rig, all.len());
    let served = all.iter_mut().map(Attacker::drain).filter(|&bytes| bytes > 0).count();
    assert!(served > all.len() / 2, "only {served} players received a part of the message");
}

/// Publishes streams with names that triple in length when they are escaped, and playlists of the maximum size.
#[cfg(all(feature = "hls", feature = "http"))]
fn long_playlists(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&[connect_session(), create_stream()].concat());
    let headers = two_headers();
    let stop = command(1, "closeStream", 0.0, &NULL);
    for n in 0..rig.count(600, 5000, "streams") {
        let cuts = (0..80).flat_map(|n| [headers[n % 2].clone(), message(6, 0, VIDEO, 1, &keyframe(50))].concat());
        let cuts: Vec<u8> = cuts.collect();
        attacker.send(&[publish(format!("long{n}{}", "%".repeat(210))), cuts, stop.clone()].concat());
        attacker.discard_for(Duration::from_millis(1));
    }
    assert!(!attacker.closed, "the server closed the connection");
    rig.assert_new_players_served();
}
