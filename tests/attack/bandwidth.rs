//! Attacks on bandwidth tests, and tests at full speed, which must make no player late.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::attacker::Attacker;
use crate::rig::{Rig, Setup};
use crate::rtmp::{
    COMMAND, NULL, chunked, command, handshake, header, message, number, object, set_max_chunk_size, text,
};

/// A vhost whose tests follow each other without a pause, and one with an hour between them.
const VHOSTS: &str =
    "vhost fast.example.com { bandcheck { enabled on; key secret; interval 0; interval_per_address 0; \
                      limit_kbps 0; max_tests 4; } }
                      vhost slow.example.com { bandcheck { enabled on; key secret; interval 1h; limit_kbps 0; } }";

#[test]
fn bandwidth_tests() {
    let mut rig = Rig::start(Setup { root: VHOSTS, ..Setup::default() });
    rig.attack("keys of bandwidth tests, by the thousand", guess_keys);
    rig.attack("starts of bandwidth tests, by the thousand", starts);
    rig.attack_from_rest("bandwidth tests whose bytes nobody reads", unread);
    rig.attack_from_rest("uploads of a bandwidth test without an end", endless_uploads);
    rig.attack("answers of a bandwidth test that are wrong", wrong_answers);
    rig.attack("bandwidth tests at full speed", full_speed);
    #[cfg(all(feature = "hls", feature = "http"))]
    {
        rig.attack("bandwidth tests over HTTP at full speed", http_full_speed);
        rig.attack_from_rest("bandwidth tests over HTTP whose bytes nobody reads", http_unread);
        rig.attack("keys of bandwidth tests over HTTP, by the thousand", http_guess_keys);
    }
    rig.finish();
}

/// Returns the client's side of a session up to `connect` to a vhost for tests.
fn session(vhost: &str, key: &str) -> Vec<u8> {
    let app = format!("app?key={key}&vhost={vhost}.example.com");
    let members = [("app", text(&app)), ("tcUrl", text(format!("rtmp://127.0.0.1/{app}")))];
    [handshake(), command(0, "connect", 1.0, &object(&members))].concat()
}

fn answer(name: &str) -> Vec<u8> {
    command(0, name, 0.0, &[&NULL[..], &object(&[])].concat())
}

fn guess_keys(rig: &Rig) {
    for n in 0..rig.count(300, 20_000, "keys") {
        let address = u8::try_from(100 + n % 3).expect("below 256");
        if let Some(mut attacker) = Attacker::connect_from(address, rig.rtmp) {
            attacker.send(&session("fast", &format!("guess{n}")));
            assert!(attacker.is_closed_within(Duration::from_secs(15)), "a wrong key is refused");
        }
    }
    let lines = rig.server.log().lines().filter(|line| line.contains("wrong key of a bandwidth test")).count();
    println!("    {lines} log lines");
    assert!(lines < 100, "{lines} log lines");
    // The right key does not help an address that has guessed.
    let mut attacker = Attacker::connect_from(100, rig.rtmp).expect("a connection");
    attacker.send(&session("fast", "secret"));
    let said = attacker.receive_for(Duration::from_secs(15));
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("too many wrong keys") && !said.contains("StartPlayBytes"), "{said}");
}

fn starts(rig: &Rig) {
    let mut admitted = 0;
    for n in 0..rig.count(1000, 20_000, "starts") {
        let address = u8::try_from(110 + n % 100).expect("below 256");
        let Some(mut attacker) = Attacker::connect_from(address, rig.rtmp) else { continue };
        attacker.send(&session("slow", "secret"));
        if n % 50 == 0 {
            let said = attacker.receive_for(Duration::from_millis(200));
            admitted += usize::from(String::from_utf8_lossy(&said).contains("onSrsBandCheckStartPlayBytes"));
        }
    }
    assert!(admitted <= 1, "{admitted} tests within an hour");
}

/// Starts tests of a vhost until one is admitted. Returns its connection.
fn admitted(rig: &Rig) -> Attacker {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(mut attacker) = Attacker::connect(rig.rtmp) {
            attacker.send(&session("fast", "secret"));
            let said = attacker.receive_for(Duration::from_millis(300));
            if String::from_utf8_lossy(&said).contains("onSrsBandCheckStartPlayBytes") {
                return attacker;
            }
        }
        assert!(Instant::now() < deadline, "no test is admitted");
    }
}

fn unread(rig: &Rig) {
    let mut all: Vec<_> = (0..4).map(|_| admitted(rig)).collect();
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        attacker.send(&answer("onSrsBandCheckStartingPlayBytes"));
    }
    std::thread::sleep(Duration::from_secs(2));
    rig.assert_memory_below(64);
    // The bytes in the way are read slowly, and the server gives up before.
    let until = Instant::now() + rig.seconds(4, 20);
    while all.iter().any(|attacker| !attacker.closed) && Instant::now() < until {
        for attacker in &mut all {
            attacker.discard_for(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Uploads as fast as the server reads, in messages as long as one may be, and never says that it was all.
fn endless_uploads(rig: &Rig) {
    let mut all: Vec<_> = (0..2).map(|_| admitted(rig)).collect();
    let mut endless = admitted(rig);
    let time = rig.seconds(4, 120);
    std::thread::scope(|scope| {
        for attacker in &mut all {
            scope.spawn(move || upload(attacker, time));
        }
        scope.spawn(|| {
            // More than a message may be.
            begin_upload(&mut endless);
            endless.send(&header(5, 0, 0xff_ffff, COMMAND, 0));
            let part = vec![0; 1 << 20];
            for _ in 0..16 {
                endless.send(&part);
            }
            assert!(endless.is_closed_within(Duration::from_secs(15)), "a message without an end is refused");
        });
    });
    rig.assert_memory_below(64);
}

/// Goes to the step in which the client sends.
fn begin_upload(attacker: &mut Attacker) {
    attacker.send(&set_max_chunk_size());
    attacker.send(&answer("onSrsBandCheckStartingPlayBytes"));
    let until = Instant::now() + Duration::from_secs(5);
    let mut last_bytes = Instant::now();
    while Instant::now() < until && last_bytes.elapsed() < Duration::from_millis(500) && !attacker.closed {
        if attacker.drain() > 0 {
            last_bytes = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    attacker.send(&answer("onSrsBandCheckStoppedPlayBytes"));
    attacker.send(&answer("onSrsBandCheckStartingPublishBytes"));
}

fn upload(attacker: &mut Attacker, time: Duration) {
    begin_upload(attacker);
    let payload = [&text("onSrsBandCheckPublishing")[..], &number(0.0), &NULL, &text(vec![b'x'; 500_000])].concat();
    let chunk = chunked(5, 0, COMMAND, 0, &payload, usize::MAX);
    let until = Instant::now() + time;
    while Instant::now() < until && attacker.send(&chunk) {}
}

fn wrong_answers(rig: &Rig) {
    for wrong in [
        answer("onSrsBandCheckFinished").repeat(5000),
        answer("onSrsBandCheckStopPublishBytes").repeat(5000),
        command(0, "onSrsBandCheckStartingPlayBytes", f64::NAN, &[3, 0, 1]).repeat(2000),
        message(5, 0, COMMAND, 0, &[2, 0xff, 0xff]).repeat(5000),
        command(1, "publish", 0.0, &[&NULL[..], &text("s"), &text("live")].concat()).repeat(1000),
        message(4, 0, 8, 1, &[0xaf, 1, 2, 3]).repeat(5000),
    ] {
        let mut attacker = admitted(rig);
        attacker.send(&wrong);
        attacker.discard_for(Duration::from_millis(50));
    }
}

fn bench(rig: &Rig) -> Child {
    let url = format!("rtmp://127.0.0.1:{}/app?key=secret&vhost=fast.example.com", rig.server.port);
    Command::new(env!("CARGO_BIN_EXE_srs_bench"))
        .args(["bandwidth", "--json", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("srs_bench starts")
}

fn full_speed(rig: &Rig) {
    for _ in 0..rig.count(1, 5, "rounds") {
        let mut both = [bench(rig), bench(rig)];
        std::thread::sleep(Duration::from_secs(2));
        rig.assert_new_players_served();
        for test in &mut both {
            assert!(test.wait().expect("a child").success(), "a test is complete");
        }
    }
}

#[cfg(all(feature = "hls", feature = "http"))]
fn get(path: &str) -> String {
    format!("GET /api/v1/bandwidth{path}&vhost=fast.example.com HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[cfg(all(feature = "hls", feature = "http"))]
fn http_full_speed(rig: &Rig) {
    let time = rig.seconds(3, 30);
    let bytes: usize = std::thread::scope(|scope| {
        let download = || {
            let mut attacker = Attacker::connect(rig.http).expect("a connection");
            let until = Instant::now() + time;
            attacker.send(get("/download?bytes=1073741824&key=secret").as_bytes());
            let mut bytes = 0;
            while Instant::now() < until && !attacker.closed {
                bytes += attacker.receive_some(Duration::from_millis(100)).len();
            }
            bytes
        };
        let upload = || {
            let mut attacker = Attacker::connect(rig.http).expect("a connection");
            let until = Instant::now() + time;
            let part = vec![0x55; 1 << 20];
            let head = format!(
                "POST /api/v1/bandwidth/upload?key=secret&vhost=fast.example.com HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
                64 << 20
            );
            let mut bytes = 0;
            while Instant::now() < until && attacker.send(head.as_bytes()) {
                for _ in 0..64 {
                    bytes += if attacker.send(&part) { part.len() } else { 0 };
                }
                attacker.receive_some(Duration::from_secs(5));
            }
            bytes
        };
        let all = [scope.spawn(download), scope.spawn(download), scope.spawn(upload), scope.spawn(upload)];
        std::thread::sleep(time / 2);
        rig.assert_new_players_served();
        all.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    println!("    {} MB a second", (bytes / time.as_secs() as usize) >> 20);
    assert!(bytes > 10 << 20, "the attack is too slow: {bytes} bytes");
}

#[cfg(all(feature = "hls", feature = "http"))]
fn http_unread(rig: &Rig) {
    let mut all = Attacker::connect_many(100, rig.http);
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        attacker.send(get("/download?bytes=1073741824&key=secret").as_bytes());
    }
    std::thread::sleep(rig.seconds(3, 50));
    rig.assert_memory_below(64);
}

#[cfg(all(feature = "hls", feature = "http"))]
fn http_guess_keys(rig: &Rig) {
    let count = rig.count(2000, 50_000, "keys");
    let mut attacker = Attacker::connect(rig.http).expect("a connection");
    for n in 0..count {
        attacker.send(get(&format!("/download?bytes=0&key=guess{n}")).as_bytes());
        if n % 100 == 0 {
            attacker.drain();
        }
    }
    attacker.discard_for(Duration::from_millis(500));
}
