//! Attacks by HTTP clients whose requests are valid.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close};
use crate::http::{LARGE, create_files, exchange, get, statuses};
use crate::rig::{Rig, Setup};

#[test]
fn http_behaviour() {
    let mut rig = Rig::start(Setup::default());
    create_files(rig.scratch.folder());
    rig.attack_from_rest("downloads that are not read", unread_downloads);
    rig.attack("pipelining by the thousand, without reading", pipelining);
    rig.attack("requests at full speed", flood);
    rig.attack("missing files, by the thousand", missing_files);
    rig.attack("connections that come and go", churn);
    rig.attack("more connections than the server accepts", connection_limit);
    rig.finish();
}

fn pipelining(rig: &Rig) {
    let requests = [get("/live/healthy.m3u8"), get("/small.txt"), get("/none"), get("/streams.json")].concat();
    let burst = requests.repeat(250);
    let mut all = Attacker::connect_many(20, rig.http);
    let bursts = rig.count(4, 40, "bursts of 1000 requests");
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        for _ in 0..bursts {
            if !attacker.send(burst.as_bytes()) {
                break;
            }
        }
    }
    // A client that reads receives all responses, in order.
    let mut reader = Attacker::connect(rig.http).expect("a connection");
    let count = rig.count(500, 20_000, "requests of a client that reads");
    for _ in 0..count {
        reader.send(get("/small.txt").as_bytes());
    }
    let mut answers = Vec::new();
    while !answers.ends_with(b"small") || statuses(&answers).len() < count {
        let more = reader.receive_some(Duration::from_secs(15));
        assert!(!more.is_empty(), "{} of {count} responses", statuses(&answers).len());
        answers.extend(more);
    }
    assert_eq!(statuses(&answers), vec![200; count]);
}

fn unread_downloads(rig: &Rig) {
    let mut all = Attacker::connect_many(300, rig.http);
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        attacker.send(get(&format!("/{LARGE}")).as_bytes());
    }
    let until = Instant::now() + rig.seconds(3, 60);
    while Instant::now() < until {
        for attacker in all.iter_mut().take(100) {
            attacker.read_byte();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // The server may read 128 KiB ahead of each client.
    rig.assert_memory_below(200);
}

/// Requests as much as the worker can serve. RTMP clients must get the processor time that they need.
fn flood(rig: &Rig) {
    let time = rig.seconds(3, 60);
    let burst = get("/live/healthy.m3u8").repeat(16);
    let bytes: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| request_repeatedly(rig, burst.as_bytes(), time))).collect();
        std::thread::sleep(time / 2);
        rig.assert_new_players_served();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    println!("    {} MB of responses a second", (bytes / time.as_secs() as usize) >> 20);
    assert!(bytes > 1 << 20, "the attack is too slow: {bytes} bytes of responses");
}

/// Sends the same requests on 200 connections again and again. Returns the bytes of the responses.
fn request_repeatedly(rig: &Rig, burst: &[u8], time: Duration) -> usize {
    let mut all = Attacker::connect_many(200, rig.http);
    let until = Instant::now() + time;
    let mut bytes = 0;
    while Instant::now() < until {
        for attacker in &mut all {
            attacker.send(burst);
            bytes += attacker.drain();
        }
    }
    bytes
}

fn missing_files(rig: &Rig) {
    let mut all = Attacker::connect_many(100, rig.http);
    for round in 0..rig.count(10, 300, "requests of each client") {
        for (n, attacker) in all.iter_mut().enumerate() {
            attacker.send(get(&format!("/none/{round}/{n}/{}", "x".repeat(n))).as_bytes());
        }
    }
    for attacker in &mut all {
        attacker.discard_for(Duration::from_millis(10));
    }
}

fn churn(rig: &Rig) {
    let until = Instant::now() + rig.seconds(3, 60);
    let mut count = 0;
    while Instant::now() < until {
        if let Some(mut attacker) = Attacker::connect(rig.http) {
            match count % 3 {
                1 => drop(attacker.send(b"GET / HT")),
                2 => drop(attacker.send(get("/live/healthy.m3u8").as_bytes())),
                _ => {}
            }
            attacker.close(if count % 2 == 0 { Close::Rst } else { Close::Fin });
        }
        count += 1;
    }
    println!("    {count} connections");
}

/// Opens more connections than the server accepts: further clients get 503, the connected viewer continues, and later clients
/// are served.
fn connection_limit(rig: &Rig) {
    let mut all = Attacker::connect_many(4050, rig.http);
    std::thread::sleep(Duration::from_millis(500));
    let (answer, closed) = exchange(rig.http, get("/small.txt").as_bytes(), Duration::from_secs(15));
    assert!(closed && matches!(statuses(&answer)[..], [503] | []), "{:?}", statuses(&answer));
    // Idle connections are closed after five seconds when there are this many.
    assert!(all[0].is_closed_within(Duration::from_secs(20)), "the server keeps an idle connection");
    drop(all);
    let deadline = Instant::now() + Duration::from_secs(20);
    while statuses(&exchange(rig.http, get("/small.txt").as_bytes(), Duration::from_millis(500)).0) != [200] {
        assert!(Instant::now() < deadline, "the server refuses clients though all others have left");
    }
}
