//! Attacks on the worker's time by work that a server easily forgets to count.

use std::time::{Duration, Instant};

use crate::attacker::Attacker;
use crate::rig::{Rig, Setup};
use crate::rtmp::{
    AUDIO, NULL, SET_CHUNK_SIZE, VIDEO, command, connect_session, create_stream, frame, header, keyframe, message,
    play, publish_session, video_header,
};
#[cfg(all(feature = "hls", feature = "http"))]
use crate::rtmp::{set_max_chunk_size, single_chunk};

#[test]
fn work_that_is_easily_forgotten() {
    let mut rig = Rig::start(Setup::default());
    #[cfg(all(feature = "hls", feature = "http"))]
    rig.attack("frames of millions of NAL units", many_units);
    #[cfg(all(feature = "hls", feature = "http"))]
    rig.attack("small keyframes with large parameter sets", large_parameter_sets);
    rig.attack("players that skip what they have not asked for", skipped_frames);
    rig.attack("large messages in chunks of one byte", tiny_chunks);
    rig.attack("400 publishers, each just below its work budget", moderate_publishers);
    rig.finish();
}

#[cfg(all(feature = "hls", feature = "http"))]
fn many_units(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    // NAL unit lengths of one byte.
    let header = [&video_header()[..9], &[0xfc, 0xe0, 0]].concat();
    attacker.send(&[publish_session("units"), set_max_chunk_size(), message(6, 0, VIDEO, 1, &header)].concat());
    let frame = [&[0x17, 1, 0, 0, 0][..], &[1, 0x65].repeat(8_000_000)].concat();
    for n in 0..rig.count(5, 30, "frames") {
        attacker.send(&single_chunk(6, 40 * u32::try_from(n).expect("small"), VIDEO, &frame));
    }
    rig.assert_new_players_served();
}

#[cfg(all(feature = "hls", feature = "http"))]
fn large_parameter_sets(rig: &Rig) {
    let set = [&[0x67][..], &[0x55; 15_000]].concat();
    let length = u16::try_from(set.len()).expect("16 bits").to_be_bytes();
    // NAL unit lengths of one byte, and one parameter set.
    let header = [&video_header()[..9], &[0xfc, 0xe1], &length, &set, &[0]].concat();
    let first = message(6, 0, VIDEO, 1, &[0x17, 1, 0, 0, 0, 1, 0x65]);
    let mut all = Vec::new();
    for n in 0..12 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        let begin = [publish_session(format!("sets{n}")), message(6, 0, VIDEO, 1, &header), first.clone()].concat();
        attacker.send(&begin);
        all.push(attacker);
    }
    let burst = [0xc0 | 6, 0x17, 1, 0, 0, 0, 1, 0x65].repeat(180);
    let until = Instant::now() + rig.seconds(3, 30);
    while Instant::now() < until {
        all.iter_mut().for_each(|attacker| {
            attacker.send(&burst);
        });
        std::thread::sleep(Duration::from_millis(10));
    }
    rig.assert_new_players_served();
}

fn skipped_frames(rig: &Rig) {
    let Some(mut publisher) = Attacker::connect(rig.rtmp) else { return };
    publisher.send(&[publish_session("skipped"), message(6, 0, VIDEO, 1, &video_header())].concat());
    publisher.send(&message(6, 0, VIDEO, 1, &keyframe(100)));
    // Chunks of type 3, without headers of their own.
    let many = [message(6, 0, VIDEO, 1, &frame(6)), [&[0xc0 | 6][..], &frame(6)].concat().repeat(20_000)].concat();
    for _ in 0..20 {
        publisher.send(&many);
    }
    let without = |what: &str| command(1, what, 0.0, &[&NULL[..], &[1, 0]].concat());
    let session = [
        connect_session(),
        create_stream(),
        without("receiveAudio"),
        without("receiveVideo"),
        play("skipped").repeat(1000),
    ];
    let mut all = Attacker::connect_many(5, rig.rtmp);
    let until = Instant::now() + rig.seconds(3, 30);
    all.iter_mut().for_each(|player| {
        player.send(&session.concat());
    });
    while Instant::now() < until {
        for player in &mut all {
            player.send(&play("skipped").repeat(100));
            player.drain();
        }
    }
    rig.assert_new_players_served();
}

fn tiny_chunks(rig: &Rig) {
    let mut all = Vec::new();
    let one = message(2, 0, SET_CHUNK_SIZE, 0, &1_u32.to_be_bytes());
    for n in 0..10 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
        attacker.send(&[publish_session(format!("chunks{n}")), media, one.clone()].concat());
        attacker.send(&[header(6, 0, 0xff_ffff, VIDEO, 1), vec![0]].concat());
        all.push(attacker);
    }
    let burst = [0xc0 | 6, 0].repeat(64 * 1024);
    let until = Instant::now() + rig.seconds(3, 30);
    let mut sent = 0;
    while Instant::now() < until {
        for attacker in &mut all {
            sent += if attacker.send(&burst) { burst.len() / 2 } else { 0 };
        }
    }
    println!("    {} million chunks", sent / 1_000_000);
    rig.assert_new_players_served();
}

/// Sends half as many messages as let a client keep its priority.
fn moderate_publishers(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..400 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        let media = [message(4, 0, AUDIO, 1, &[0xaf, 0, 0x12, 0x10]), message(4, 0, AUDIO, 1, &[0xaf, 1, 7])].concat();
        attacker.send(&[publish_session(format!("moderate{n}")), media].concat());
        all.push(attacker);
    }
    let burst = [0xc0 | 4, 0xaf, 1, 7].repeat(100);
    let time = rig.seconds(4, 60);
    let until = Instant::now() + time;
    let mut rounds = 0;
    while Instant::now() < until {
        let started = Instant::now();
        for attacker in &mut all {
            attacker.send(&burst);
        }
        rounds += 1;
        std::thread::sleep(Duration::from_millis(10).saturating_sub(started.elapsed()));
    }
    println!("    {} messages a second of each", rounds * 100 / time.as_secs());
    rig.assert_new_players_served();
}
