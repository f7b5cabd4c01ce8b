//! Attacks by bytes: input that is not RTMP, malformed RTMP, and RTMP that breaks off.

use std::path::Path;
use std::time::Duration;

use crate::attacker::{Attacker, Close, Endpoint};
use crate::random::Random;
#[cfg(feature = "ssl")]
use crate::rig::Port;
use crate::rig::{Rig, Setup};
use crate::rtmp::{
    ABORT, AGGREGATE, AUDIO, COMMAND, COMMAND_AMF3, DATA, NULL, SET_CHUNK_SIZE, VIDEO, WINDOW_SIZE, chunked, command,
    connect, connect_session, frame, handshake, header, keyframe, message, number, object, play_session,
    publish_session, set_max_chunk_size, single_chunk, text,
};
use crate::sample::is_long;

#[test]
fn bytes_through_tcp() {
    let mut rig = Rig::start(Setup::default());
    run(&mut rig);
    rig.finish();
}

#[cfg(feature = "ssl")]
#[test]
fn bytes_through_tls() {
    let mut rig = Rig::start(Setup { port: Port::Tls, ..Setup::default() });
    run(&mut rig);
    rig.attack("malformed TLS", crate::tls::malformed_tls);
    rig.attack("TLS handshakes at full speed", crate::tls::handshake_flood);
    rig.finish();
}

fn run(rig: &mut Rig) {
    rig.attack_from_rest("headers that claim 16 MB, 1000 connections", claims);
    rig.attack("random bytes", random_bytes);
    rig.attack("valid sessions cut short", cut_sessions);
    rig.attack("mutated sessions", mutated_sessions);
    rig.attack("other protocols", other_protocols);
    rig.attack("handshakes of one byte a second, 200 at a time", slow_handshakes);
    rig.attack("chunk sizes of 0, 1, 2^31-1 and negative", chunk_sizes);
    rig.attack("chunk streams by the thousand, type 3 first, lengths that change, aborts", chunk_streams);
    rig.attack("acknowledgement windows of 0 and 1", windows);
    rig.attack("AMF0 and AMF3 bombs", amf);
    rig.attack("malformed aggregates", aggregates);
    rig.attack("empty and malformed audio and video", media);
    rig.attack("timestamps that jump", timestamps);
}

/// Sends each input on a connection of its own, gives the server a moment to answer, and closes.
pub(crate) fn send_each(endpoint: Endpoint, inputs: impl IntoIterator<Item = Vec<u8>>, how: Close) {
    for input in inputs {
        if let Some(mut attacker) = Attacker::connect(endpoint) {
            attacker.send(&input);
            attacker.discard_for(Duration::from_millis(2));
            attacker.close(how);
        }
    }
}

/// Bytes that a client sends before its first message.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;

fn random_bytes(rig: &Rig) {
    let mut random = Random::new(1);
    let inputs = (0..rig.count(150, 5000, "inputs")).map(|n| {
        let count = random.below(20_000);
        let bytes = random.bytes(count);
        match n % 3 {
            0 => bytes,
            1 => [&[3], &bytes[..]].concat(),
            _ => [connect_session(), bytes].concat(),
        }
    });
    send_each(rig.rtmp, inputs, Close::Fin);
}

/// Returns sessions of real clients, from the corpus of the fuzz targets.
fn real_sessions() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let read = |name: String| std::fs::read(corpus.join(name)).expect("a file of the corpus");
    let clients = ["publish", "play", "dump"];
    clients
        .map(|client| [read(format!("handshake/{client}-client")), read(format!("session/{client}"))].concat())
        .into()
}

fn cut_sessions(rig: &Rig) {
    if !is_long() {
        rig.leave_out("cut in some places, in one way each, instead of after every byte in three ways");
    }
    let ends = [Some(Close::Fin), Some(Close::Rst), None];
    let mut silent = Vec::new();
    for session in real_sessions() {
        // The sample has few places in the handshake, which the server handles alike wherever it is cut.
        let is_cut =
            |at: &usize| is_long() || if *at < HANDSHAKE_BYTES { at % 512 == 1 } else { at.is_multiple_of(67) };
        for (n, at) in (0..session.len()).filter(is_cut).enumerate() {
            for (number, end) in ends.into_iter().enumerate() {
                if !is_long() && n % ends.len() != number {
                    continue;
                }
                let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
                attacker.send(&session[..at]);
                match end {
                    Some(end) => attacker.close(end),
                    None => silent.push(attacker),
                }
            }
            if silent.len() > 1000 {
                silent.clear();
            }
        }
    }
    // The others stay silent.
    std::thread::sleep(Duration::from_secs(1));
}

fn mutated_sessions(rig: &Rig) {
    let mut random = Random::new(2);
    let sessions = real_sessions();
    let inputs = (0..rig.count(600, 30_000, "inputs")).map(|n| {
        let session = &sessions[n % sessions.len()];
        // The handshake stays as it is: the server checks its first byte only.
        [&session[..HANDSHAKE_BYTES], &random.mutate(&session[HANDSHAKE_BYTES..])].concat()
    });
    send_each(rig.rtmp, inputs, Close::Rst);
}

fn other_protocols(rig: &Rig) {
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let greetings: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /idle/1 HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
        &hello,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x06RTMPE",
        b"OPTIONS rtsp://x RTSP/1.0\r\n\r\n",
        b"\0\0\0\0",
    ];
    for greeting in greetings {
        for _ in 0..20 {
            if let Some(mut attacker) = Attacker::connect(rig.rtmp) {
                attacker.send(greeting);
                assert!(
                    attacker.is_closed_within(Duration::from_secs(10)),
                    "{:?}: the server keeps the connection",
                    greeting.escape_ascii().to_string()
                );
            }
        }
    }
}

fn slow_handshakes(rig: &Rig) {
    let mut all = Attacker::connect_many(200, rig.rtmp);
    for byte in handshake().into_iter().take(rig.count(3, 15, "seconds")) {
        for attacker in &mut all {
            attacker.send(&[byte]);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn claims(rig: &Rig) {
    let claim = [connect_session(), header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 128]].concat();
    let mut all = Attacker::connect_many(1000, rig.rtmp);
    for attacker in &mut all {
        attacker.send(&claim);
    }
    std::thread::sleep(Duration::from_millis(500));
    // 16 GB are claimed.
    rig.assert_memory_below(100);
}

fn chunk_sizes(rig: &Rig) {
    let inputs = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX].into_iter().flat_map(|size| {
        let set = message(2, 0, SET_CHUNK_SIZE, 0, &size.to_be_bytes());
        let ones = chunked(4, 0, AUDIO, 1, &[0; 3000], 1);
        [
            [handshake(), set.clone(), chunked(3, 0, COMMAND, 0, &connect()[12..], 0x7fff_ffff)].concat(),
            [publish_session("sizes"), set.clone(), ones].concat(),
            [publish_session("sizes"), header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 100], set, vec![0; 100_000]].concat(),
        ]
    });
    send_each(rig.rtmp, inputs.collect::<Vec<_>>(), Close::Fin);
}

fn chunk_streams(rig: &Rig) {
    let many = |count: u32| {
        (0..count).flat_map(|n| {
            let mut bytes = vec![1, n.to_le_bytes()[0], n.to_le_bytes()[1]];
            bytes.extend_from_slice(&header(0, 0, 5000, AUDIO, 1)[1..]);
            bytes.extend_from_slice(&[0; 128]);
            bytes
        })
    };
    let again = [header(6, 0, 1000, VIDEO, 1), vec![0; 128], header(6, 0, 10, VIDEO, 1), vec![0; 128]].concat();
    let longer =
        [header(6, 0, 1000, VIDEO, 1), vec![0; 128], vec![0x46, 0, 0, 0, 0xff, 0xff, 0xff, VIDEO], vec![0; 128]]
            .concat();
    let mut inputs = vec![
        publish_session("streams").into_iter().chain(many(60_000)).collect(),
        [handshake(), vec![0xc5, 0, 0]].concat(),
        [connect_session(), vec![0x85, 0, 0, 0], vec![0; 200]].concat(),
        [publish_session("streams"), again].concat(),
        [publish_session("streams"), longer].concat(),
    ];
    inputs.extend(aborts());
    send_each(rig.rtmp, inputs, Close::Fin);
}

/// Returns sessions with an Abort before or after each of the ten chunks of a message: for its chunk stream, for others, for an
/// invalid one, and too short. The rest of the message follows, which is then a message without a start.
fn aborts() -> Vec<Vec<u8>> {
    let whole = [2_u32, 3, 6, 64, u32::MAX].map(|csid| csid.to_be_bytes().to_vec());
    let short = (0..4).map(|size| vec![0; size]);
    let mut all = Vec::new();
    for abort in whole.into_iter().chain(short).map(|payload| message(2, 0, ABORT, 0, &payload)) {
        for place in 0..=10 {
            let mut session = publish_session("aborts");
            for n in 0..10 {
                if n == place {
                    session.extend(&abort);
                }
                session.extend(if n == 0 { header(6, 0, 1280, VIDEO, 1) } else { vec![0xc6] });
                session.extend([0; 128]);
            }
            session.extend(&abort);
            session.extend(message(6, 40, VIDEO, 1, &keyframe(300)));
            all.push(session);
        }
    }
    all
}

fn windows(rig: &Rig) {
    for window in [0_u32, 1] {
        let set = message(2, 0, WINDOW_SIZE, 0, &window.to_be_bytes());
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.send(&[publish_session("windows"), set].concat());
        // Reads none of the acknowledgements.
        for n in 0..rig.count(2000, 50_000, "messages") {
            if !attacker.send(&message(4, u32::try_from(n).expect("small"), AUDIO, 1, &[0xaf, 1, 0])) {
                break;
            }
        }
    }
}

/// Returns payloads that could break an AMF decoder.
fn bombs() -> Vec<Vec<u8>> {
    const DEPTH: usize = 100_000;
    let name = [text("connect"), number(1.0)].concat();
    let with = |value: &[u8]| [&name[..], value].concat();
    let repeated = |bytes: &[u8]| with(&bytes.repeat(DEPTH));
    let mut all = vec![
        // Nested objects, arrays of both kinds, and typed objects.
        repeated(&[3, 0, 1, b'a']),
        repeated(&[8, 0, 0, 0, 1, 0, 1, b'a']),
        repeated(&[10, 0, 0, 0, 1]),
        repeated(&[16, 0, 1, b'c', 0, 1, b'a']),
        // Nested arrays and objects of AMF3.
        with(&[&[17][..], &[9, 3, 1].repeat(DEPTH)].concat()),
        with(&[&[17][..], &[10, 11, 1, 3, b'a'].repeat(DEPTH)].concat()),
        // Counts beyond the payload.
        with(&[10, 0xff, 0xff, 0xff, 0xff]),
        with(&[8, 0xff, 0xff, 0xff, 0xff]),
        with(&[17, 9, 0xff, 0xff, 0xff, 0xff, 1]),
        with(&[17, 13, 0xff, 0xff, 0xff, 0xff, 0]),
        with(&[&[10, 0, 0xff, 0xff, 0xff][..], &[5].repeat(60_000)].concat()),
        // References: valid, dangling, and to themselves.
        with(&[3, 0, 1, b'a', 7, 0, 0, 0, 0, 9]),
        with(&[7, 0xff, 0xff]),
        with(&[17, 10, 0, 17, 10, 2, 17, 6, 2]),
        with(&[17, 9, 5, 1, 9, 0, 9, 0]),
        // Strings that are cut short or not UTF-8.
        with(&[2, 0xff, 0xff, b'a']),
        with(&[12, 0xff, 0xff, 0xff, 0xff, b'a']),
        with(&[2, 0, 4, 0xc3, 0x28, 0xed, 0xa0]),
        with(&object(&[("app", vec![2, 0, 2, 0xff, 0xfe]), ("tcUrl", text("rtmp://\0/\r\n"))])),
    ];
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e308, -1.0, 4_294_967_296.0] {
        all.push(
            [text("connect"), number(odd), object(&[("app", text("live")), ("objectEncoding", number(odd))])].concat(),
        );
        all.push([text("createStream"), number(odd), NULL.into()].concat());
    }
    for marker in 0..=u8::MAX {
        all.push(with(&[&[marker][..], &[0; 40]].concat()));
        all.push(with(&[17, marker, 0xff, 0xff, 0xff, 0xff, 1, 1, 1]));
    }
    all
}

fn amf(rig: &Rig) {
    let inputs = bombs().into_iter().enumerate().flat_map(|(n, bomb)| {
        // Each bomb as the first command, and each fourth in each of the other places.
        let mut inputs = vec![[handshake(), message(3, 0, COMMAND, 0, &bomb)].concat()];
        match n % 4 {
            0 => inputs.push([connect_session(), message(3, 0, COMMAND_AMF3, 0, &[&[0], &bomb[..]].concat())].concat()),
            1 => inputs.push([publish_session("amf"), message(5, 0, DATA, 1, &bomb)].concat()),
            2 => {
                let metadata = [&text("@setDataFrame")[..], &text("onMetaData"), &bomb].concat();
                inputs.push([publish_session("amf"), message(5, 0, DATA, 1, &metadata)].concat());
            }
            _ => inputs.push([play_session("amf"), command(1, "pause", 0.0, &bomb)].concat()),
        }
        inputs
    });
    send_each(rig.rtmp, inputs.collect::<Vec<_>>(), Close::Fin);
}

fn aggregates(rig: &Rig) {
    let part = |kind: u8, size: u32, payload: &[u8]| {
        let mut out = vec![kind];
        out.extend_from_slice(&size.to_be_bytes()[1..]);
        out.extend_from_slice(&[0; 7]);
        out.extend_from_slice(payload);
        out.extend_from_slice(&(size + 11).to_be_bytes());
        out
    };
    let mut nested = part(AUDIO, 3, &[0xaf, 1, 0]);
    for _ in 0..200 {
        nested = part(AGGREGATE, u32::try_from(nested.len()).expect("small"), &nested);
    }
    let tiny = part(AUDIO, 0, &[]).repeat(rig.count(20_000, 1_000_000, "empty parts"));
    let payloads = [
        nested,
        tiny,
        part(VIDEO, 0xff_ffff, &[0x17]),
        part(VIDEO, 1, &[0x17; 30]),
        vec![VIDEO, 0, 0],
        part(AGGREGATE, 0, &[]).repeat(1000),
        // Parts that are not media.
        part(SET_CHUNK_SIZE, 0, &[]).repeat(rig.count(100_000, 1_000_000, "parts that are not media")),
    ];
    let inputs = payloads.map(|payload| {
        let session = [publish_session("aggregates"), set_max_chunk_size()].concat();
        [session, single_chunk(6, 0, AGGREGATE, &payload)].concat()
    });
    send_each(rig.rtmp, inputs, Close::Fin);
}

fn media(rig: &Rig) {
    let mut random = Random::new(3);
    let mut session = publish_session("media");
    for first in 0..=u8::MAX {
        for kind in [AUDIO, VIDEO] {
            session.extend(message(6, 0, kind, 1, &[]));
            session.extend(message(6, 0, kind, 1, &[first]));
            session.extend(message(6, 0, kind, 1, &[first, 0]));
        }
    }
    let mut malformed = publish_session("malformed");
    // Sequence headers of AVC, AAC, HEVC and Enhanced RTMP with noise, and with lengths beyond their ends.
    for prefix in [
        &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1][..],
        &[0xaf, 0],
        &[0x1c, 0, 0, 0, 0],
        &[0x90, b'h', b'v', b'c', b'1'],
    ] {
        let kind = if prefix[0] == 0xaf { AUDIO } else { VIDEO };
        for size in (0..80).chain([1000, 70_000]) {
            let noise = random.bytes(size);
            malformed.extend(message(6, 0, kind, 1, &[prefix, &[0xff, 0xff], &noise].concat()));
            malformed.extend(message(6, 0, kind, 1, &[prefix, &noise].concat()));
            malformed.extend(message(6, 0, kind, 1, &[prefix, &vec![0; size]].concat()));
            malformed.extend(message(6, 40, VIDEO, 1, &keyframe(50)));
            malformed.extend(message(4, 40, AUDIO, 1, &[&[0xaf, 1][..], &noise].concat()));
            // ADTS headers, which do not belong there, with lengths beyond the payload and below the header.
            for adts in [[0xff, 0xf1, 0x50, 0x83, 0xff, 0xff, 0xfc], [0xff, 0xf9, 0x50, 0x80, 0, 0x1f, 0xfc]] {
                malformed.extend(message(4, 40, AUDIO, 1, &[&[0xaf, 1][..], &adts, &noise].concat()));
                malformed.extend(message(4, 40, AUDIO, 1, &[&[0xaf, 0][..], &adts, &noise].concat()));
            }
        }
    }
    send_each(rig.rtmp, [session, malformed], Close::Fin);
}

fn timestamps(rig: &Rig) {
    let mut random = Random::new(4);
    let Some(mut player) = Attacker::connect(rig.rtmp) else { return };
    player.send(&play_session("jumps"));
    let mut session = publish_session("jumps");
    for n in 0..rig.count(2000, 50_000, "messages") {
        let timestamp = u32::try_from(random.next() >> 32).expect("32 bits") >> random.below(32);
        let payload = if n % 20 == 0 { keyframe(100) } else { frame(100) };
        let kind = if n % 3 == 0 { AUDIO } else { VIDEO };
        session.extend(message(6, timestamp, kind, 1, &payload));
    }
    send_each(rig.rtmp, [session], Close::Fin);
    player.discard_for(Duration::from_millis(200));
}
