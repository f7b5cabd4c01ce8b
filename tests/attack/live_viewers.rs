//! Attacks by viewers of live streams over HTTP and WebSocket, and on recordings.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close};
use crate::http::{exchange, get, statuses};
use crate::rig::{Rig, Setup};

/// Time limit for the server to react.
const LIMIT: Duration = Duration::from_secs(20);

const FLV: &str = "/live/healthy.flv";

#[test]
fn live_viewers() {
    let vhost = "http_remux { enabled on; wait 1; mount [app]/[stream].flv r/[app]/[stream].ts r/[app]/[stream].aac; }
                 dvr { enabled on; dvr_path rec/[stream].[timestamp].flv; dvr_max_age 1; }";
    let mut rig = Rig::start(Setup { vhost, side_by_side: true, ..Setup::default() });
    rig.attack("frames of WebSocket that lie", lying_frames);
    rig.attack("viewers that send and send", talkers);
    rig.attack("streams that nobody publishes, by the thousand", missing_streams);
    rig.attack("viewers of each format that come and go", churn);
    rig.attack_from_rest("live viewers that never read", unread);
    rig.finish();
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Breaks a rule of RFC 6455 with each frame: the server closes the connection, and allocates nothing by a length.
fn lying_frames(rig: &Rig) {
    let huge = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let long = [&[0x82, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    let long_ping = [&[0x89, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 200]].concat();
    let frames: [&[u8]; 7] = [
        &huge,
        &long,
        &long_ping,
        &[0x82, 0x01, 0],
        &[0x8b, 0x80, 0, 0, 0, 0],
        &[0xf2, 0x80, 0, 0, 0, 0],
        &[0x09, 0x80, 0, 0, 0, 0],
    ];
    for frame in frames {
        let mut viewer = Attacker::connect(rig.http).expect("a connection");
        viewer.send(upgrade(FLV).as_bytes());
        assert!(viewer.receive_some(LIMIT).starts_with(b"HTTP/1.1 101 "), "it is admitted");
        viewer.send(frame);
        // A long frame of data may be discarded as it comes, within the limit of what a viewer may send.
        let filler = vec![0; 64 * 1024];
        let deadline = Instant::now() + LIMIT;
        while viewer.send(&filler) {
            viewer.drain();
            assert!(Instant::now() < deadline, "{frame:x?} is accepted");
        }
    }
    // A head that never ends, byte by byte.
    let mut slow: Vec<_> = Attacker::connect_many(50, rig.http);
    for attacker in &mut slow {
        attacker.send(upgrade(FLV).as_bytes());
        attacker.send(&[0x82]);
        attacker.send(&[0xff]);
    }
    rig.assert_memory_below(100);
}

/// Sends data as a viewer, who has nothing to say.
fn talkers(rig: &Rig) {
    let mut all = Attacker::connect_many(20, rig.http);
    for attacker in &mut all {
        attacker.send(get(FLV).as_bytes());
    }
    let (filler, deadline) = (vec![b'x'; 64 * 1024], Instant::now() + LIMIT);
    for attacker in &mut all {
        while attacker.send(&filler) {
            attacker.drain();
            assert!(Instant::now() < deadline, "a viewer may send without end");
        }
    }
}

fn missing_streams(rig: &Rig) {
    let rounds = rig.count(5, 100, "requests of each client");
    for round in 0..rounds {
        let mut all = Attacker::connect_many(200, rig.http);
        for (n, attacker) in all.iter_mut().enumerate() {
            let extension = ["flv", "ts", "aac", "mp3"][n % 4];
            attacker.send(get(&format!("/r/live/none-{round}-{n}.{extension}")).as_bytes());
            attacker.send(get(&format!("/live/none-{round}-{n}.flv")).as_bytes());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Those that waited are answered, and new ones too.
    let (answer, _) = exchange(rig.http, get("/live/none.flv").as_bytes(), LIMIT);
    assert_eq!(statuses(&answer), [404]);
}

fn churn(rig: &Rig) {
    let until = Instant::now() + rig.seconds(2, 30);
    let paths = [FLV, "/r/live/healthy.ts", "/r/live/healthy.aac", "/r/live/healthy.mp3"];
    let mut count = 0;
    while Instant::now() < until {
        if let Some(mut attacker) = Attacker::connect(rig.http) {
            let path = paths[count % paths.len()];
            let request = if count % 3 == 0 { upgrade(path) } else { get(path) };
            attacker.send(request.as_bytes());
            if count % 2 == 0 {
                attacker.drain();
            }
            attacker.close(if count % 5 == 0 { Close::Fin } else { Close::Rst });
        }
        count += 1;
    }
    println!("    {count} viewers");
}

/// Holds a part of the stream with each viewer until it is disconnected, and all of them the same one.
fn unread(rig: &Rig) {
    let mut all = Attacker::connect_many(rig.count(300, 1000, "viewers"), rig.http);
    for (n, attacker) in all.iter_mut().enumerate() {
        attacker.shrink_receive_buffer();
        let path = [FLV, "/r/live/healthy.ts"][n % 2];
        attacker.send(if n % 3 == 0 { upgrade(path) } else { get(path) }.as_bytes());
    }
    std::thread::sleep(rig.seconds(3, 40));
    rig.assert_memory_below(200);
    rig.assert_new_players_served();
}
