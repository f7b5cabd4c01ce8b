//! Attacks by clients that speak valid RTMP and behave as no real client does.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close};
use crate::common::process::eventually;
use crate::rig::{MEMORY_RECOVERY, Port, Rig, Setup};
use crate::rtmp::{
    AGGREGATE, AUDIO, NULL, VIDEO, command, connect_session, create_stream, frame, handshake, header, keyframe,
    message, play, play_session, publish, publish_session, set_max_chunk_size, single_chunk, video_header,
};

#[test]
fn behaviour_through_tcp() {
    run(Port::Plain);
}

#[cfg(feature = "ssl")]
#[test]
fn behaviour_through_tls() {
    run(Port::Tls);
}

fn run(port: Port) {
    let mut rig = Rig::start(Setup { port, ..Setup::default() });
    rig.attack_from_rest("questions whose answers nobody reads", unread_answers);
    rig.attack("300 clients that connect and stay silent", silence);
    rig.attack("createStream by the thousand", create_streams);
    rig.attack("play and publish in turn", flip_flop);
    rig.attack("players that never read, that read a byte a second, that only send", bad_players);
    rig.attack("publishers that stop in the middle of a message", half_messages);
    rig.attack_from_rest("a publisher without keyframes, with players that join", no_keyframes);
    rig.attack("publishers of which nothing is understood, or frames of thousands of units and tracks", odd_messages);
    rig.attack("a publisher at full speed", flood);
    rig.attack("connections that come and go", churn);
    type Attack = fn(&Rig);
    let beyond_transport: [(&str, Attack); 6] = [
        ("play of names by the thousand", many_names),
        ("messages of one byte, from publishers, players and idle clients", tiny_messages),
        ("streams of many messages that end at once", large_streams_end),
        ("keyframes that claim to be seconds apart", |rig| many_segments(rig, 2100)),
        ("keyframes that claim to be a minute apart", |rig| many_segments(rig, 60_000)),
        ("streams by the thousand, each for a moment", short_streams),
    ];
    for (name, attack) in beyond_transport {
        if port == Port::Plain {
            rig.attack(name, attack);
        } else {
            rig.attack_in_long_mode(
                name,
                "through TLS: the work begins behind the transport, and runs through TCP",
                attack,
            );
        }
    }
    // Beside the attacks of other tests: the playlist of a stream stays for seconds after its end.
    assert_few_files(&rig);
    rig.finish();
}

fn silence(rig: &Rig) {
    let mut clients = Attacker::connect_many(300, rig.rtmp);
    for (n, client) in clients.iter_mut().enumerate() {
        if n % 3 == 1 {
            client.send(&handshake());
        } else if n % 3 == 2 {
            client.send(&connect_session());
        }
    }
    std::thread::sleep(Duration::from_secs(1));
}

fn create_streams(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&connect_session());
    for _ in 0..rig.count(50, 1000, "bursts of 100 commands") {
        attacker.send(&create_stream().repeat(100));
        attacker.discard_for(Duration::from_millis(1));
    }
    attacker.send(&command(0, "deleteStream", 3.0, &NULL).repeat(1000));
    attacker.discard_for(Duration::from_millis(10));
}

fn flip_flop(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&[connect_session(), create_stream()].concat());
    let close = command(1, "closeStream", 0.0, &NULL);
    for n in 0..rig.count(150, 10_000, "rounds") {
        let name = format!("flip{}", n % 7);
        let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
        let round = [publish(&name), media, close.clone(), play(&name), close.clone()];
        if !attacker.send(&round.concat()) {
            break;
        }
        attacker.discard_for(Duration::from_millis(1));
    }
}

fn many_names(rig: &Rig) {
    let count = rig.count(2000, 100_000, "names");
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&[connect_session(), create_stream()].concat());
    for n in 0..count {
        if !attacker.send(&play(format!("name-{n}-{}", "x".repeat(n % 200)))) {
            break;
        }
        if n % 50 == 0 {
            attacker.discard_for(Duration::from_millis(1));
        }
    }
    // At the same time, 300 more names by as many connections.
    let others: Vec<_> = (0..300)
        .filter_map(|n| {
            let mut attacker = Attacker::connect(rig.rtmp)?;
            attacker.send(&play_session(format!("other-{n}")));
            Some(attacker)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(others);
    drop(attacker);
    rig.wait_status("the streams of the names are removed", |status| status.streams <= rig.streams_before());
    let lines = rig.server.log().lines().filter(|line| line.contains("/live/name-")).count();
    println!("    {lines} log lines");
    assert!(lines < 1000, "{lines} log lines for {count} names that one client plays");
}

fn bad_players(rig: &Rig) {
    let mut players = Attacker::connect_many(60, rig.rtmp);
    for player in &mut players {
        player.shrink_receive_buffer();
        player.send(&play_session("healthy"));
    }
    let ping = message(2, 0, 4, 0, &[0, 6, 0, 0, 0, 1]).repeat(50);
    let until = Instant::now() + rig.seconds(3, 60);
    let mut next_read = Instant::now();
    while Instant::now() < until {
        // The first twenty never read, the next twenty read a byte a second, the last twenty only send.
        if Instant::now() >= next_read {
            next_read += Duration::from_secs(1);
            players.iter_mut().skip(20).take(20).for_each(Attacker::read_byte);
        }
        for player in players.iter_mut().skip(40) {
            player.send(&ping);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends messages of a type without an event, each with a header of one byte: half a million fit in one read.
fn tiny_messages(rig: &Rig) {
    const ACKNOWLEDGEMENT: u8 = 3;
    let first = header(63, 0, 0, ACKNOWLEDGEMENT, 1);
    let mut clients = Vec::new();
    for n in 0..30 {
        let Some(mut client) = Attacker::connect(rig.rtmp) else { continue };
        let session = match n % 3 {
            0 => [publish_session(format!("tiny{n}")), message(6, 0, VIDEO, 1, &video_header())].concat(),
            1 => play_session("healthy"),
            _ => connect_session(),
        };
        client.send(&[session, first.clone()].concat());
        clients.push(client);
    }
    let until = Instant::now() + rig.seconds(3, 30);
    let burst = vec![0xc0 | 63; 64 * 1024];
    let mut sent = 0;
    while Instant::now() < until {
        for client in &mut clients {
            sent += if client.send(&burst) { burst.len() } else { 0 };
            client.drain();
        }
    }
    println!("    {} million messages", sent / 1_000_000);
    rig.assert_new_players_served();
}

/// Sends questions of one byte with answers of sixteen bytes, and bounds the memory for the input as well: messages of one byte
/// must not be queued in fifty times their size.
fn unread_answers(rig: &Rig) {
    const SET_PEER_BANDWIDTH: u8 = 6;
    let mut clients = Vec::new();
    for n in 0..300 {
        let Some(mut client) = Attacker::connect(rig.rtmp) else { continue };
        client.shrink_receive_buffer();
        let session = if n % 2 == 0 { play_session("healthy") } else { play_session("nothing") };
        client.send(&[session, header(63, 0, 0, SET_PEER_BANDWIDTH, 0)].concat());
        client.send(&vec![0xc0 | 63; 128 * 1024]);
        clients.push(client);
    }
    std::thread::sleep(Duration::from_secs(1));
    rig.assert_memory_below(150);
}

/// Ends streams that hold as many messages as they may, all at once.
fn large_streams_end(rig: &Rig) {
    let part = [&[AUDIO][..], &[0; 10], &11_u32.to_be_bytes()].concat();
    let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
    let aggregate = single_chunk(6, 0, AGGREGATE, &part.repeat(540_000));
    let mut publishers = Vec::new();
    for n in 0..rig.count(6, 60, "streams") {
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        publisher.send(&[publish_session(format!("large{n}")), set_max_chunk_size(), media.clone()].concat());
        publisher.send(&aggregate);
        publishers.push(publisher);
    }
    let expected = publishers.len() * (16 << 20);
    rig.wait_status("all messages are queued", |status| status.held >= expected);
    publishers.into_iter().for_each(|publisher| publisher.close(Close::Rst));
    rig.wait_status("the messages are freed", |status| status.held < expected / 8);
}

/// Publishes keyframes whose timestamps are `step` ms apart: each starts an HLS segment if it may.
fn many_segments(rig: &Rig, step: u32) {
    let mut publishers = Vec::new();
    for n in 0..4 {
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        let name = format!("segments{step}-{n}");
        publisher.send(&[publish_session(name), message(6, 0, VIDEO, 1, &video_header())].concat());
        publishers.push(publisher);
    }
    let until = Instant::now() + rig.seconds(3, 30);
    let mut time = 0_u32;
    while Instant::now() < until {
        let burst: Vec<u8> =
            (1..=100).flat_map(|n| message(6, time.wrapping_add(n * step), VIDEO, 1, &keyframe(100))).collect();
        time = time.wrapping_add(100 * step);
        for publisher in &mut publishers {
            publisher.send(&burst);
        }
    }
}

fn half_messages(rig: &Rig) {
    let mut publishers = Vec::new();
    for n in 0..20 {
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        let session = publish_session(format!("half{n}"));
        publisher.send(&[session, header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 128]].concat());
        publishers.push(publisher);
    }
    std::thread::sleep(Duration::from_millis(500));
    // Four that stop in the middle of a chunk, after 4 MB of a message of 16 MB.
    for n in 20..24 {
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        let session = publish_session(format!("half{n}"));
        publisher.send(&[session, set_max_chunk_size(), header(6, 0, 0xff_ffff, VIDEO, 1)].concat());
        publisher.send(&vec![0; 4 << 20]);
        publishers.push(publisher);
    }
    for publisher in publishers {
        publisher.close(Close::Rst);
    }
}

/// Sends messages that the server looks into, or passes over, as many as fit.
fn odd_messages(rig: &Rig) {
    const COMMAND: u8 = 20;
    const UNKNOWN: u8 = 71;
    const UNITS: usize = 4096;
    // Marked as dependent, but key pictures; without a frame type; on each track of a multitrack stream.
    let key = [&[0x27, 1, 0, 0, 0][..], &[0, 0, 0, 1, 0x65].repeat(UNITS)].concat();
    let untyped = [&[0x07, 1, 0, 0, 0][..], &[0, 0, 0, 1, 9].repeat(UNITS)].concat();
    let tracks = |n: u32| {
        let of_track = |track: u8| [&[0x96, 0x03][..], b"hvc1", &[track, 0, 0, 0, 2, 0x26, 1]].concat();
        (0..=u8::MAX).flat_map(move |track| single_chunk(6, n, VIDEO, &of_track(track))).collect::<Vec<_>>()
    };
    let bursts: [Vec<u8>; 5] = [
        single_chunk(3, 0, COMMAND, &[]).repeat(1000),
        single_chunk(3, 0, UNKNOWN, b"G").repeat(1000),
        single_chunk(6, 0, VIDEO, &key).repeat(10),
        single_chunk(6, 0, VIDEO, &untyped).repeat(10),
        tracks(0),
    ];
    let mut clients = Vec::new();
    for (n, burst) in bursts.into_iter().enumerate() {
        let (Some(mut player), Some(mut publisher)) = (Attacker::connect(rig.rtmp), Attacker::connect(rig.rtmp)) else {
            continue;
        };
        player.send(&play_session(format!("odd{n}")));
        publisher.send(&[publish_session(format!("odd{n}")), set_max_chunk_size()].concat());
        clients.push((publisher, player, burst));
    }
    let until = Instant::now() + rig.seconds(1, 20);
    while Instant::now() < until {
        for (publisher, _, burst) in &mut clients {
            publisher.send(burst);
        }
    }
}

fn flood(rig: &Rig) {
    let Some(mut player) = Attacker::connect(rig.rtmp) else { return };
    player.send(&play_session("flood"));
    let Some(mut publisher) = Attacker::connect(rig.rtmp) else { return };
    publisher
        .send(&[publish_session("flood"), set_max_chunk_size(), message(6, 0, VIDEO, 1, &video_header())].concat());
    let burst: Vec<u8> = (0..50)
        .flat_map(|n| single_chunk(6, n, VIDEO, &if n % 25 == 0 { keyframe(20_000) } else { frame(20_000) }))
        .collect();
    let until = Instant::now() + rig.seconds(2, 30);
    let mut sent = 0;
    while Instant::now() < until && publisher.send(&burst) {
        sent += burst.len();
        player.discard_for(Duration::from_millis(1));
    }
    println!("    {} MB published, {} MB charged", sent >> 20, rig.status().held >> 20);
    assert!(sent > 10 << 20, "the attack is too slow: {sent} bytes published");
}

fn short_streams(rig: &Rig) {
    for n in 0..rig.count(200, 30_000, "streams") {
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 40, VIDEO, 1, &keyframe(5000))].concat();
        // A third publishes a name and sends nothing.
        let session = if n % 3 == 0 {
            publish_session(format!("nothing{n}"))
        } else {
            [publish_session(format!("short{n}")), media].concat()
        };
        publisher.send(&session);
        publisher.discard_for(Duration::from_millis(1));
        publisher.close(if n % 2 == 0 { Close::Fin } else { Close::Rst });
    }
}

/// Fails if too many files of the streams of `short_streams` are left.
fn assert_few_files(rig: &Rig) {
    rig.wait_status("the streams are removed", |status| status.streams <= rig.streams_before());
    if cfg!(all(feature = "hls", feature = "http")) {
        eventually("at most 1000 playlists are left of the streams", MEMORY_RECOVERY, || {
            (rig.count_hls_files("short") <= 1000).then_some(())
        });
        assert_eq!(rig.count_hls_files("nothing"), 0, "files of streams without media");
    }
}

fn no_keyframes(rig: &Rig) {
    let Some(mut publisher) = Attacker::connect(rig.rtmp) else { return };
    let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(1000))].concat();
    publisher.send(&[publish_session("nokey"), set_max_chunk_size(), media].concat());
    let mut players = Vec::new();
    for n in 0..rig.count(4000, 100_000, "frames") {
        let timestamp = 40 * u32::try_from(n).expect("small");
        let is_sent = publisher.send(&single_chunk(6, timestamp, VIDEO, &frame(15_000)));
        assert!(is_sent, "the server closed the connection after {n} frames");
        if n % 500 == 0
            && let Some(mut player) = Attacker::connect(rig.rtmp)
        {
            player.send(&play_session("nokey"));
            players.push(player);
        }
    }
    // `queue_bytes` of 32 MB for the players, as much for the HLS segment that never ends, and the server itself.
    rig.assert_memory_below(120);
}

fn churn(rig: &Rig) {
    let time = rig.seconds(3, 60);
    let count: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| come_and_go(rig, time))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    println!("    {count} connections, {} a second", count / time.as_secs().max(1) as usize);
}

fn come_and_go(rig: &Rig, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < until {
        // A third sends nothing, a third part of a handshake, a third a whole session.
        if let Some(mut attacker) = Attacker::connect(rig.rtmp) {
            match count % 3 {
                1 => drop(attacker.send(&handshake()[..100])),
                2 => drop(attacker.send(&play_session("healthy"))),
                _ => {}
            }
            attacker.close(if count % 2 == 0 { Close::Rst } else { Close::Fin });
            count += 1;
        }
    }
    count
}
