//! Attacks on the HTTP API: wrong secrets, huge heads, lists at full speed, readers of events that do not read.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close, Endpoint};
use crate::common::server::free_port;
use crate::http::{exchange, statuses};
use crate::rig::{Rig, Setup};
use crate::rtmp::connect_session;

/// Time limit of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

#[test]
fn api() {
    let port = free_port();
    let root =
        format!("http_api {{ enabled on; listen 127.0.0.1:{port}; auth {{ enabled on; token look read right; }} }}");
    let mut rig = Rig::start(Setup { root: &root, ..Setup::default() });
    let api = Endpoint { port, tls: false };
    rig.attack("lists of the API at full speed", |rig| lists(rig, api));
    rig.attack_from_rest("readers of events that never read, or a byte at a time", |rig| events(rig, api));
    rig.attack_from_rest("huge heads and secrets of the API", |rig| heads(rig, api));
    rig.attack("links to recordings that nobody gave away", |rig| tickets(rig, api));
    // Last, because the addresses that guess are refused for a minute.
    rig.attack("secrets of the API, by the thousand", |rig| guess(rig, api));
    rig.finish();
}

fn get(path: &str, secret: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n\r\n").into_bytes()
}

/// Returns the status of the answer to a request from the address 127.0.0.`last`.
fn status_from(last: u8, api: Endpoint, request: &[u8]) -> Option<u16> {
    let mut attacker = Attacker::connect_from(last, api)?;
    attacker.send(request);
    statuses(&attacker.receive_some(ANSWER_TIMEOUT)).first().copied()
}

fn guess(rig: &Rig, api: Endpoint) {
    /// Secrets of an address that are compared within a minute.
    const PER_MINUTE: u64 = 10;
    let (mut refused, started) = (0, Instant::now());
    // Those of an attack that is repeated are others: the first have to wait.
    let first = 100 + 3 * u8::try_from(rig.unique_number()).expect("an attack is repeated once");
    for n in 0..rig.count(600, 20_000, "secrets") {
        let address = first + [0, 1, 2][n % 3];
        match status_from(address, api, &get("/api/v1/streams", &format!("guess{n}"))) {
            Some(401) => refused += 1,
            status => assert!(matches!(status, Some(429) | None), "{status:?}"),
        }
    }
    let minutes = 1 + started.elapsed().as_secs() / 60;
    println!("    {refused} secrets were compared");
    // From each of three addresses.
    assert!((3 * PER_MINUTE..=3 * PER_MINUTE * minutes).contains(&refused), "{refused} secrets were compared");
    let right = get("/api/v1/streams", "right");
    assert_eq!(status_from(first, api, &right), Some(429), "who has guessed has to wait");
    assert_eq!(status_from(99, api, &right), Some(200), "others need not");
    // The first of these lines may be left out: those about thousands of connections have just filled the log's room.
    let log = rig.server.log();
    let lines = log.lines().filter(|line| line.contains("API login failed")).count();
    assert!(lines < 100 && !log.contains("guess"), "{lines} log lines");
}

fn heads(rig: &Rig, api: Endpoint) {
    let long = "x".repeat(rig.count(1 << 20, 64 << 20, "bytes"));
    let head = |lines: &str| format!("GET /api/v1/streams HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n\r\n");
    for (lines, expected) in [
        (format!("Authorization: Bearer {long}"), 431),
        (format!("Authorization: Basic {long}"), 431),
        (format!("Last-Event-ID: {long}"), 431),
        ("Authorization: Bearer a\r\n".repeat(50), 401),
        ("Authorization:".to_owned(), 401),
        (format!("Authorization: {}", "Bearer ".repeat(100)), 401),
        ("Authorization: Basic =====".to_owned(), 401),
        ("Authorization: Bearer \u{fc}\u{0}".to_owned(), 400),
    ] {
        let shown = &lines[..lines.len().min(40)];
        let (answer, _) = exchange(api, head(&lines).as_bytes(), Duration::from_millis(500));
        let statuses = statuses(&answer);
        // The kernel may discard the response if more input follows it.
        assert!(statuses.is_empty() || statuses[0] == expected, "{shown:?}: {statuses:?}");
    }
    let query = format!("/api/v1/clients?{}start=99999999999999999999", "ip=1&".repeat(1000));
    for path in ["/api/v1/clients?count=4294967296&start=-1&callback=f", "/api/v1/streams/%00%ff%2e%2e", &query] {
        let (answer, _) = exchange(api, &get(path, "right"), Duration::from_millis(300));
        assert!(statuses(&answer).iter().all(|status| *status < 500), "{path:.60}");
    }
    rig.assert_memory_below(150);
}

/// Makes up the tickets of links to recordings, which need no secret.
fn tickets(rig: &Rig, api: Endpoint) {
    let get = |ticket: &str| {
        format!("GET /api/v1/recordings/0/file?ticket={ticket} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
    };
    let (zeros, long) = ("0".repeat(64), "a".repeat(2000));
    let mut made_up = vec![
        String::new(),
        "-".to_owned(),
        format!("-1-{zeros}"),
        format!("99999999999-{zeros}"),
        format!("{}-{zeros}", u64::MAX),
        format!("{long}-{long}"),
        format!("99999999999-{}", "%00".repeat(64)),
        "99999999999-%c3%bc0".to_owned(),
    ];
    made_up.extend((0..rig.count(200, 20_000, "tickets")).map(|n| format!("99999999999-{n:064x}")));
    let mut attacker = Attacker::connect(api).expect("a connection");
    for ticket in &made_up {
        if attacker.closed {
            attacker = Attacker::connect(api).expect("a connection");
        }
        attacker.send(&get(ticket));
        let answer = attacker.receive_some(ANSWER_TIMEOUT);
        assert_eq!(statuses(&answer).first(), Some(&403), "{ticket:.40}");
    }
}

/// Asks for all lists, while clients come and go; every other attacker reads nothing.
fn lists(rig: &Rig, api: Endpoint) {
    let paths = ["/api/v1/clients?count=10000", "/api/v1/streams", "/api/v1/snapshot", "/api/v1/config", "/metrics"];
    let burst: Vec<u8> = paths.iter().flat_map(|path| get(path, "right")).collect::<Vec<_>>().repeat(20);
    let mut clients = Attacker::connect_many(300, rig.rtmp);
    for client in &mut clients {
        client.send(&connect_session());
    }
    let mut all = Attacker::connect_many(30, api);
    for attacker in all.iter_mut().step_by(2) {
        attacker.shrink_receive_buffer();
        attacker.send(&burst);
    }
    let until = Instant::now() + rig.seconds(3, 30);
    let mut bytes = 0;
    while Instant::now() < until {
        for attacker in all.iter_mut().skip(1).step_by(2).take_while(|_| Instant::now() < until) {
            attacker.send(&burst);
            bytes += attacker.drain();
        }
    }
    println!("    {} MB of lists", bytes >> 20);
    assert!(bytes > 0, "those who read get answers");
}

/// Reads events as slowly as possible, while hundreds of connections make new ones.
fn events(rig: &Rig, api: Endpoint) {
    const READERS: usize = 64;
    let request = get("/api/v1/events?last=1000", "right");
    let mut readers = Attacker::connect_many(READERS + 20, api);
    for reader in &mut readers {
        reader.shrink_receive_buffer();
        reader.send(&request);
    }
    let until = Instant::now() + rig.seconds(3, 60);
    let mut count = 0;
    while Instant::now() < until {
        for mut client in Attacker::connect_many(20, rig.rtmp) {
            client.send(&connect_session());
            client.close(if count % 2 == 0 { Close::Fin } else { Close::Rst });
            count += 1;
        }
        readers.iter_mut().take(READERS / 2).for_each(Attacker::read_byte);
    }
    println!("    {count} connections, told to {READERS} readers");
    // Readers above the limit are told so, also after some that were too slow have lost their places. The places become free with the
    // readers.
    let mut more = Attacker::connect_many(READERS + 1, api);
    more.iter_mut().for_each(|reader| _ = reader.send(&request));
    let are_refused =
        more.iter_mut().any(|reader| statuses(&reader.receive_some(ANSWER_TIMEOUT)).first() == Some(&503));
    assert!(are_refused, "more than {READERS} readers are admitted");
    drop((readers, more));
    crate::common::process::eventually("a reader is admitted again", ANSWER_TIMEOUT, || {
        (status_from(1, api, &request) == Some(200)).then_some(())
    });
}
