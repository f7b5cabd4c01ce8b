//! Attacks by bytes: what is no RTMP, RTMP that lies, and RTMP that stops.

use std::path::Path;
use std::time::Duration;

use crate::attacker::{Attacker, End, Target};
use crate::random::Random;
use crate::rig::{Rig, is_long, times};
use crate::rtmp::{
    ABORT, AGGREGATE, AUDIO, COMMAND, COMMAND_AMF3, DATA, NULL, SET_CHUNK_SIZE, VIDEO, WINDOW, chunked, command,
    connect, connected, frame, handshake, header, keyframe, message, number, object, playing, publishing, text,
};

#[test]
fn bytes_through_tcp() {
    let mut rig = Rig::plain("", "");
    all(&mut rig);
    rig.finish();
}

#[cfg(feature = "ssl")]
#[test]
fn bytes_through_tls() {
    let mut rig = Rig::encrypted("", "");
    all(&mut rig);
    rig.attack("TLS that is none, or breaks off", crate::tls::broken_tls);
    rig.attack("greetings of TLS as fast as they go", crate::tls::greetings);
    rig.finish();
}

fn all(rig: &mut Rig) {
    rig.attack("random bytes", random_bytes);
    rig.attack("valid sessions cut short", cut_sessions);
    rig.attack("mutated sessions", mutated_sessions);
    rig.attack("other protocols", other_protocols);
    rig.attack("handshakes of one byte a while, 200 at a time", slow_handshakes);
    rig.attack("headers that claim 16 MB, 1000 connections", claims);
    rig.attack("chunk sizes of 0, 1, 2^31-1 and less than nothing", chunk_sizes);
    rig.attack("chunk streams by the thousand, type 3 first, lengths that change, aborts", chunk_streams);
    rig.attack("acknowledgement windows of 0 and 1", windows);
    rig.attack("AMF0 and AMF3 bombs", amf);
    rig.attack("aggregates that lie", aggregates);
    rig.attack("empty and lying audio and video", media);
    rig.attack("timestamps that jump", timestamps);
}

/// Sends each to a connection of its own, gives the server a moment to answer, and leaves.
pub(crate) fn each(target: Target, inputs: impl IntoIterator<Item = Vec<u8>>, end: End) {
    for input in inputs {
        if let Some(mut attacker) = Attacker::connect(target) {
            attacker.send(&input);
            attacker.listen(Duration::from_millis(2));
            attacker.leave(end);
        }
    }
}

/// What a client sends before its first message.
const HANDSHAKE: usize = 1 + 2 * 1536;

fn random_bytes(rig: &Rig) {
    let mut random = Random::new(1);
    let inputs = (0..times(150, 5000)).map(|n| {
        let count = random.below(20_000);
        let bytes = random.bytes(count);
        match n % 3 {
            0 => bytes,
            1 => [&[3], &bytes[..]].concat(),
            _ => [connected(), bytes].concat(),
        }
    });
    each(rig.target, inputs, End::Fin);
}

/// Sessions of real clients, from the corpus of the fuzz targets.
fn real_sessions() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let read = |name: String| std::fs::read(corpus.join(name)).expect("a file of the corpus");
    let clients = ["publish", "play", "dump"];
    clients
        .map(|client| [read(format!("handshake/{client}-client")), read(format!("session/{client}"))].concat())
        .into()
}

fn cut_sessions(rig: &Rig) {
    let ends = [Some(End::Fin), Some(End::Rst), None];
    let mut silent = Vec::new();
    for session in real_sessions() {
        // In a sample, each place has one of the ends, and there are few in the handshake, which looks the same to a server wherever
        // it is cut.
        let is_place = |at: &usize| is_long() || if *at < HANDSHAKE { at % 512 == 1 } else { at.is_multiple_of(67) };
        for (n, at) in (0..session.len()).filter(is_place).enumerate() {
            for (number, end) in ends.into_iter().enumerate() {
                if !is_long() && n % ends.len() != number {
                    continue;
                }
                let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
                attacker.send(&session[..at]);
                match end {
                    Some(end) => attacker.leave(end),
                    None => silent.push(attacker),
                }
            }
            if silent.len() > 1000 {
                silent.clear();
            }
        }
    }
    // Silence, for those who are left: the server has other things to do.
    std::thread::sleep(Duration::from_secs(1));
}

fn mutated_sessions(rig: &Rig) {
    let mut random = Random::new(2);
    let sessions = real_sessions();
    let inputs = (0..times(600, 30_000)).map(|n| {
        let session = &sessions[n % sessions.len()];
        // The handshake is opaque but for its first byte; changes are for what follows it.
        [&session[..HANDSHAKE], &random.mutate(&session[HANDSHAKE..])].concat()
    });
    each(rig.target, inputs, End::Rst);
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
            if let Some(mut attacker) = Attacker::connect(rig.target) {
                attacker.send(greeting);
                assert!(
                    attacker.is_closed_within(Duration::from_secs(10)),
                    "{:?} is listened to",
                    greeting.escape_ascii().to_string()
                );
            }
        }
    }
}

fn slow_handshakes(rig: &Rig) {
    let mut all: Vec<_> = (0..200).filter_map(|_| Attacker::connect(rig.target)).collect();
    for byte in handshake().into_iter().take(times(4, 15)) {
        for attacker in &mut all {
            attacker.send(&[byte]);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn claims(rig: &Rig) {
    let claim = [connected(), header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 128]].concat();
    let mut all: Vec<_> = (0..1000).filter_map(|_| Attacker::connect(rig.target)).collect();
    for attacker in &mut all {
        attacker.send(&claim);
    }
    std::thread::sleep(Duration::from_millis(500));
    let memory = rig.process("VmRSS") >> 10;
    // Of 16 GB that are claimed.
    assert!(memory < 100, "{memory} MB for claims alone");
}

fn chunk_sizes(rig: &Rig) {
    let inputs = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX].into_iter().flat_map(|size| {
        let set = message(2, 0, SET_CHUNK_SIZE, 0, &size.to_be_bytes());
        let ones = chunked(4, 0, AUDIO, 1, &[0; 3000], 1);
        [
            [handshake(), set.clone(), chunked(3, 0, COMMAND, 0, &connect()[12..], 0x7fff_ffff)].concat(),
            [publishing("sizes"), set.clone(), ones].concat(),
            [publishing("sizes"), header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 100], set, vec![0; 100_000]].concat(),
        ]
    });
    each(rig.target, inputs.collect::<Vec<_>>(), End::Fin);
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
        publishing("streams").into_iter().chain(many(60_000)).collect(),
        [handshake(), vec![0xc5, 0, 0]].concat(),
        [connected(), vec![0x85, 0, 0, 0], vec![0; 200]].concat(),
        [publishing("streams"), again].concat(),
        [publishing("streams"), longer].concat(),
    ];
    inputs.extend(aborts());
    each(rig.target, inputs, End::Fin);
}

/// An Abort behind each chunk of a message of ten, before the first among them: of its own chunk stream, of others, of none there is,
/// and of less than a whole number. The rest of the message comes all the same, and is then one that nobody has begun.
fn aborts() -> Vec<Vec<u8>> {
    let whole = [2_u32, 3, 6, 64, u32::MAX].map(|csid| csid.to_be_bytes().to_vec());
    let short = (0..4).map(|size| vec![0; size]);
    let mut all = Vec::new();
    for abort in whole.into_iter().chain(short).map(|what| message(2, 0, ABORT, 0, &what)) {
        for place in 0..=10 {
            let mut session = publishing("aborts");
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
        let set = message(2, 0, WINDOW, 0, &window.to_be_bytes());
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[publishing("windows"), set].concat());
        // Without reading any of the acknowledgements.
        for n in 0..times(2000, 50_000) {
            if !attacker.send(&message(4, u32::try_from(n).expect("small"), AUDIO, 1, &[0xaf, 1, 0])) {
                break;
            }
        }
    }
}

/// Payloads that a reader of AMF trips over.
fn bombs() -> Vec<Vec<u8>> {
    const DEPTH: usize = 100_000;
    let name = [text("connect"), number(1.0)].concat();
    let with = |value: &[u8]| [&name[..], value].concat();
    let repeated = |bytes: &[u8]| with(&bytes.repeat(DEPTH));
    let mut all = vec![
        // Objects, arrays of both kinds, and objects of a class, each in another.
        repeated(&[3, 0, 1, b'a']),
        repeated(&[8, 0, 0, 0, 1, 0, 1, b'a']),
        repeated(&[10, 0, 0, 0, 1]),
        repeated(&[16, 0, 1, b'c', 0, 1, b'a']),
        // AMF3: arrays and objects in each other.
        with(&[&[17][..], &[9, 3, 1].repeat(DEPTH)].concat()),
        with(&[&[17][..], &[10, 11, 1, 3, b'a'].repeat(DEPTH)].concat()),
        // Counts.
        with(&[10, 0xff, 0xff, 0xff, 0xff]),
        with(&[8, 0xff, 0xff, 0xff, 0xff]),
        with(&[17, 9, 0xff, 0xff, 0xff, 0xff, 1]),
        with(&[17, 13, 0xff, 0xff, 0xff, 0xff, 0]),
        with(&[&[10, 0, 0xff, 0xff, 0xff][..], &[5].repeat(60_000)].concat()),
        // References to what is there, to what is not, and to themselves.
        with(&[3, 0, 1, b'a', 7, 0, 0, 0, 0, 9]),
        with(&[7, 0xff, 0xff]),
        with(&[17, 10, 0, 17, 10, 2, 17, 6, 2]),
        with(&[17, 9, 5, 1, 9, 0, 9, 0]),
        // Text that is cut short, or none.
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
        // Every bomb as a command before anything else, and one in four in each of the other places.
        let mut inputs = vec![[handshake(), message(3, 0, COMMAND, 0, &bomb)].concat()];
        match n % 4 {
            0 => inputs.push([connected(), message(3, 0, COMMAND_AMF3, 0, &[&[0], &bomb[..]].concat())].concat()),
            1 => inputs.push([publishing("amf"), message(5, 0, DATA, 1, &bomb)].concat()),
            2 => {
                let metadata = [&text("@setDataFrame")[..], &text("onMetaData"), &bomb].concat();
                inputs.push([publishing("amf"), message(5, 0, DATA, 1, &metadata)].concat());
            }
            _ => inputs.push([playing("amf"), command(1, "pause", 0.0, &bomb)].concat()),
        }
        inputs
    });
    each(rig.target, inputs.collect::<Vec<_>>(), End::Fin);
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
    let tiny = part(AUDIO, 0, &[]).repeat(times(20_000, 1_000_000));
    let payloads = [
        nested,
        tiny,
        part(VIDEO, 0xff_ffff, &[0x17]),
        part(VIDEO, 1, &[0x17; 30]),
        vec![VIDEO, 0, 0],
        part(AGGREGATE, 0, &[]).repeat(1000),
        // A million that are no media.
        part(SET_CHUNK_SIZE, 0, &[]).repeat(times(100_000, 1_000_000)),
    ];
    let inputs = payloads.map(|payload| {
        let session =
            [publishing("aggregates"), message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes())].concat();
        [session, chunked(6, 0, AGGREGATE, 1, &payload, 0xff_ffff)].concat()
    });
    each(rig.target, inputs, End::Fin);
}

fn media(rig: &Rig) {
    let mut random = Random::new(3);
    let mut session = publishing("media");
    for first in 0..=u8::MAX {
        for kind in [AUDIO, VIDEO] {
            session.extend(message(6, 0, kind, 1, &[]));
            session.extend(message(6, 0, kind, 1, &[first]));
            session.extend(message(6, 0, kind, 1, &[first, 0]));
        }
    }
    let mut lies = publishing("lies");
    // Sequence headers: AVC with an SPS that is noise, or longer than it is; AAC; HEVC; enhanced ones.
    for prefix in [
        &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1][..],
        &[0xaf, 0],
        &[0x1c, 0, 0, 0, 0],
        &[0x90, b'h', b'v', b'c', b'1'],
    ] {
        let kind = if prefix[0] == 0xaf { AUDIO } else { VIDEO };
        for size in (0..80).chain([1000, 70_000]) {
            let noise = random.bytes(size);
            lies.extend(message(6, 0, kind, 1, &[prefix, &[0xff, 0xff], &noise].concat()));
            lies.extend(message(6, 0, kind, 1, &[prefix, &noise].concat()));
            lies.extend(message(6, 0, kind, 1, &[prefix, &vec![0; size]].concat()));
            lies.extend(message(6, 40, VIDEO, 1, &keyframe(50)));
            lies.extend(message(4, 40, AUDIO, 1, &[&[0xaf, 1][..], &noise].concat()));
            // ADTS where there is to be none, its lengths those of much more and of less than its head.
            for adts in [[0xff, 0xf1, 0x50, 0x83, 0xff, 0xff, 0xfc], [0xff, 0xf9, 0x50, 0x80, 0, 0x1f, 0xfc]] {
                lies.extend(message(4, 40, AUDIO, 1, &[&[0xaf, 1][..], &adts, &noise].concat()));
                lies.extend(message(4, 40, AUDIO, 1, &[&[0xaf, 0][..], &adts, &noise].concat()));
            }
        }
    }
    each(rig.target, [session, lies], End::Fin);
}

fn timestamps(rig: &Rig) {
    let mut random = Random::new(4);
    let Some(mut player) = Attacker::connect(rig.target) else { return };
    player.send(&playing("jumps"));
    let mut session = publishing("jumps");
    for n in 0..times(2000, 50_000) {
        let timestamp = u32::try_from(random.next() >> 32).expect("32 bits") >> random.below(32);
        let payload = if n % 20 == 0 { keyframe(100) } else { frame(100) };
        let kind = if n % 3 == 0 { AUDIO } else { VIDEO };
        session.extend(message(6, timestamp, kind, 1, &payload));
    }
    each(rig.target, [session], End::Fin);
    player.listen(Duration::from_millis(200));
}
