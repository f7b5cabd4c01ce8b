//! Attacks by behaviour: each byte is right, and no client would do it.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, End};
use crate::process::eventually;
use crate::rig::{MEMORY_RECOVERY, Rig, is_long, times};
use crate::rtmp::{
    AGGREGATE, AUDIO, NULL, SET_CHUNK_SIZE, VIDEO, chunked, command, connected, create_stream, frame, handshake,
    header, keyframe, message, play, playing, publish, publishing, video_header,
};

#[test]
fn behaviour_through_tcp() {
    let mut rig = Rig::plain("", "");
    all(&mut rig);
    rig.finish();
}

#[cfg(feature = "ssl")]
#[test]
fn behaviour_through_tls() {
    let mut rig = Rig::encrypted("", "");
    all(&mut rig);
    rig.finish();
}

fn all(rig: &mut Rig) {
    rig.attack("300 that connect and do nothing more", silence);
    rig.attack("createStream by the thousand", create_streams);
    rig.attack("play and publish in turn", flip_flop);
    rig.attack("players that never read, that read a byte a second, that only send", bad_players);
    rig.attack("questions whose answers nobody reads", questions);
    rig.attack("a publisher that stops in the middle of a message", half_message);
    rig.attack("a publisher as fast as it can", flood);
    rig.attack("a publisher without keyframes, with players that join", no_keyframes);
    rig.attack("connections that come and go", churn);
    // To what comes after the bytes it is the same how they came: a sample of both has these once.
    if is_long() || !rig.target.tls {
        rig.attack("play of names by the thousand", names);
        rig.attack("messages of one byte, from publishers, players and strangers", small_messages);
        rig.attack("streams of many messages that end at once", great_ends);
        rig.attack("keyframes that claim to be seconds apart", |rig| segments(rig, 2100));
        rig.attack("keyframes that claim to be a minute apart", |rig| segments(rig, 60_000));
        rig.attack("streams by the thousand, each for a moment", moments);
    }
}

fn silence(rig: &Rig) {
    let mut all: Vec<_> = (0..300).filter_map(|_| Attacker::connect(rig.target)).collect();
    for (n, attacker) in all.iter_mut().enumerate() {
        if n % 3 == 1 {
            attacker.send(&handshake());
        } else if n % 3 == 2 {
            attacker.send(&connected());
        }
    }
    std::thread::sleep(Duration::from_secs(1));
}

fn create_streams(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&connected());
    for _ in 0..times(50, 1000) {
        attacker.send(&create_stream().repeat(100));
        attacker.listen(Duration::from_millis(1));
    }
    attacker.send(&command(0, "deleteStream", 3.0, &NULL).repeat(1000));
    attacker.listen(Duration::from_millis(10));
}

fn flip_flop(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&[connected(), create_stream()].concat());
    let stop = command(1, "closeStream", 0.0, &NULL);
    for n in 0..times(200, 10_000) {
        let name = format!("flip{}", n % 7);
        let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
        let turn = [publish(&name), media, stop.clone(), play(&name), stop.clone()];
        if !attacker.send(&turn.concat()) {
            break;
        }
        attacker.listen(Duration::from_millis(1));
    }
}

fn names(rig: &Rig) {
    let count = times(3000, 100_000);
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    attacker.send(&[connected(), create_stream()].concat());
    for n in 0..count {
        if !attacker.send(&play(format!("name-{n}-{}", "x".repeat(n % 200)))) {
            break;
        }
        if n % 50 == 0 {
            attacker.listen(Duration::from_millis(1));
        }
    }
    // And at the same time, each by a connection of its own.
    let all: Vec<_> = (0..300)
        .filter_map(|n| {
            let mut attacker = Attacker::connect(rig.target)?;
            attacker.send(&playing(format!("other-{n}")));
            Some(attacker)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(all);
    drop(attacker);
    rig.wait_status("their sources are gone", |status| status.streams <= rig.streams());
    let lines = rig.server.log().lines().filter(|line| line.contains("playing __defaultVhost__/live/name-")).count();
    println!("    {lines} lines of the log");
    assert!(lines < 1000, "{lines} lines for {count} names that one client plays");
}

fn bad_players(rig: &Rig) {
    let mut all: Vec<_> = (0..60).filter_map(|_| Attacker::connect(rig.target)).collect();
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        attacker.send(&playing("healthy"));
    }
    let until = Instant::now() + Duration::from_secs(times(3, 60) as u64);
    let ping = message(2, 0, 4, 0, &[0, 6, 0, 0, 0, 1]).repeat(50);
    let mut due = Instant::now();
    while Instant::now() < until {
        // The first twenty never read, the next read a byte a second, the last only send.
        if Instant::now() >= due {
            due += Duration::from_secs(1);
            for attacker in &mut all[20..40] {
                attacker.trickle();
            }
        }
        for attacker in &mut all[40..] {
            attacker.send(&ping);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Messages of a kind that is no event, each a header of one byte: half a million fit in one turn of reading.
fn small_messages(rig: &Rig) {
    const ACKNOWLEDGEMENT: u8 = 3;
    let begin = header(63, 0, 0, ACKNOWLEDGEMENT, 1);
    let mut all = Vec::new();
    for n in 0..30 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let session = match n % 3 {
            0 => [publishing(format!("small{n}")), message(6, 0, VIDEO, 1, &video_header())].concat(),
            1 => playing("healthy"),
            _ => connected(),
        };
        attacker.send(&[session, begin.clone()].concat());
        all.push(attacker);
    }
    let until = Instant::now() + Duration::from_secs(times(3, 30) as u64);
    let burst = vec![0xc0 | 63; 64 * 1024];
    let mut sent = 0;
    while Instant::now() < until {
        for attacker in &mut all {
            sent += if attacker.send(&burst) { burst.len() } else { 0 };
            attacker.take_what_is_there();
        }
    }
    println!("    {} million", sent / 1_000_000);
    rig.assert_newcomers_play();
}

/// Each question is of one byte, and its answer of sixteen. And what is sent in one go is not held in fifty times its size.
fn questions(rig: &Rig) {
    const SET_PEER_BANDWIDTH: u8 = 6;
    let mut all = Vec::new();
    for n in 0..300 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.shrink_receive_buffer();
        let session = if n % 2 == 0 { playing("healthy") } else { playing("nothing") };
        attacker.send(&[session, header(63, 0, 0, SET_PEER_BANDWIDTH, 0)].concat());
        attacker.send(&vec![0xc0 | 63; 128 * 1024]);
        all.push(attacker);
    }
    std::thread::sleep(Duration::from_secs(1));
    let memory = rig.process("VmRSS") >> 10;
    println!("    {memory} MB in the server's memory");
    assert!(memory < 150, "{memory} MB for 300 clients that have something to say");
}

/// What is held for a stream is let go of with it, and these hold as many messages as they can.
fn great_ends(rig: &Rig) {
    let part = [&[AUDIO][..], &[0; 10], &11_u32.to_be_bytes()].concat();
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let begin = [large, message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
    let many = chunked(6, 0, AGGREGATE, 1, &part.repeat(300_000), 0xff_ffff);
    let mut all = Vec::new();
    for n in 0..times(20, 60) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[&publishing(format!("great{n}"))[..], &begin, &many].concat());
        all.push(attacker);
    }
    rig.wait_status("all of it is held", |status| status.held >= all.len() * (16 << 20));
    all.into_iter().for_each(|attacker| attacker.leave(End::Rst));
    rig.wait_status("their streams are gone", |status| status.streams <= rig.streams());
}

/// Each begins a segment, if it may.
fn segments(rig: &Rig, step: u32) {
    let mut all = Vec::new();
    for n in 0..4 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[publishing(format!("segments{step}-{n}")), message(6, 0, VIDEO, 1, &video_header())].concat());
        all.push(attacker);
    }
    let until = Instant::now() + Duration::from_secs(times(3, 30) as u64);
    let mut time = 0_u32;
    while Instant::now() < until {
        let burst: Vec<u8> =
            (1..=100).flat_map(|n| message(6, time.wrapping_add(n * step), VIDEO, 1, &keyframe(100))).collect();
        time = time.wrapping_add(100 * step);
        all.iter_mut().for_each(|attacker| {
            attacker.send(&burst);
        });
    }
}

fn half_message(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..20 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[publishing(format!("half{n}")), header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 128]].concat());
        all.push(attacker);
    }
    std::thread::sleep(Duration::from_millis(500));
    // One in the middle of a chunk, with much of a great message behind it.
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    for n in 20..24 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[publishing(format!("half{n}")), large.clone(), header(6, 0, 0xff_ffff, VIDEO, 1)].concat());
        attacker.send(&vec![0; 4 << 20]);
        all.push(attacker);
    }
    for attacker in all {
        attacker.leave(End::Rst);
    }
}

fn flood(rig: &Rig) {
    let Some(mut player) = Attacker::connect(rig.target) else { return };
    player.send(&playing("flood"));
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    attacker.send(&[publishing("flood"), large, message(6, 0, VIDEO, 1, &video_header())].concat());
    let burst: Vec<u8> = (0..50)
        .flat_map(|n| chunked(6, n, VIDEO, 1, &if n % 25 == 0 { keyframe(20_000) } else { frame(20_000) }, 0xff_ffff))
        .collect();
    let until = Instant::now() + Duration::from_secs(times(2, 30) as u64);
    let mut sent = 0;
    while Instant::now() < until && attacker.send(&burst) {
        sent += burst.len();
        player.listen(Duration::from_millis(1));
    }
    println!("    {} MB published, {} MB held", sent >> 20, rig.status().held >> 20);
    assert!(sent > 10 << 20, "that was no flood");
}

fn moments(rig: &Rig) {
    for n in 0..times(1000, 30_000) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 40, VIDEO, 1, &keyframe(5000))].concat();
        // A third says that it publishes, and then does not.
        let session = if n % 3 == 0 {
            publishing(format!("nothing{n}"))
        } else {
            [publishing(format!("moment{n}")), media].concat()
        };
        attacker.send(&session);
        attacker.listen(Duration::from_millis(1));
        attacker.leave(if n % 2 == 0 { End::Fin } else { End::Rst });
    }
    rig.wait_status("their sources are gone", |status| status.streams <= rig.streams());
    if cfg!(feature = "hls") {
        let files = |begin: &str| rig.files_of_hls().iter().filter(|name| name.starts_with(begin)).count();
        eventually("all of them is removed but a thousand playlists", MEMORY_RECOVERY, || {
            (files("moment") <= 1000).then_some(())
        });
        assert_eq!(files("nothing"), 0);
    }
}

fn no_keyframes(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.target) else { return };
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let start = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(1000))].concat();
    attacker.send(&[publishing("nokey"), large, start].concat());
    let mut players = Vec::new();
    for n in 0..times(4000, 100_000) {
        let timestamp = 40 * u32::try_from(n).expect("some days");
        if !attacker.send(&chunked(6, timestamp, VIDEO, 1, &frame(15_000), 0xff_ffff)) {
            panic!("closed after {n} frames");
        }
        if n % 500 == 0
            && let Some(mut player) = Attacker::connect(rig.target)
        {
            player.send(&playing("nokey"));
            players.push(player);
        }
    }
    let memory = rig.process("VmRSS") >> 10;
    println!("    {memory} MB in the server's memory");
    // `queue_bytes`, 32 MB, whatever the players have got of it; twice, with the segment that has no end, and what the process has.
    assert!(memory < 120, "{memory} MB for a stream without keyframes");
}

fn churn(rig: &Rig) {
    let time = Duration::from_secs(times(3, 60) as u64);
    let count: usize = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..4).map(|_| scope.spawn(|| come_and_go(rig, time))).collect();
        crowd.into_iter().map(|thread| thread.join().expect("it never fails")).sum()
    });
    println!("    {count} connections, {} a second", count / time.as_secs().max(1) as usize);
}

fn come_and_go(rig: &Rig, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < until {
        // A third does nothing, a third half of it, a third all.
        if let Some(mut attacker) = Attacker::connect(rig.target) {
            match count % 3 {
                1 => drop(attacker.send(&handshake()[..100])),
                2 => drop(attacker.send(&playing("healthy"))),
                _ => {}
            }
            attacker.leave(if count % 2 == 0 { End::Rst } else { End::Fin });
            count += 1;
        }
    }
    count
}
