//! Attacks by HTTP requests: malformed ones, and requests for files outside of the served directory.

use std::fmt::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close};
use crate::http::{LARGE, LARGE_SIZE, SMALL, assert_no_secret, create_files, exchange, get, get_and_close, statuses};
use crate::random::Random;
use crate::rig::{Rig, Setup};

#[test]
fn http_requests() {
    let mut rig = Rig::start(Setup { side_by_side: true, ..Setup::default() });
    create_files(rig.scratch.folder());
    rig.attack_from_rest("huge heads", huge_heads);
    rig.attack("random bytes and mutated requests", random_requests);
    rig.attack("other protocols", other_protocols);
    rig.attack("request smuggling", smuggling);
    rig.attack("paths out of the directory", paths);
    rig.attack("ranges", ranges);
    rig.attack("bodies", bodies);
    rig.attack("half-closed connections", half_closed);
    rig.attack("heads of five bytes a second, 500 at a time", slow_heads);
    rig.finish();
}

fn random_requests(rig: &Rig) {
    let mut random = Random::new(11);
    let browser = "GET /live/healthy.m3u8?x=1 HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: Mozilla/5.0\r\n\
                   Accept: */*\r\nRange: bytes=0-99\r\nIf-None-Match: \"a-1\"\r\nConnection: keep-alive\r\n\r\n";
    for n in 0..rig.count(1500, 50_000, "requests") {
        let count = random.below(3000);
        let input = match n % 5 {
            0 => random.bytes(count),
            _ => random.mutate(browser.as_bytes()),
        };
        let (answer, _) = exchange(rig.http, &input, Duration::from_millis(1));
        assert_no_secret(&answer, "random request");
    }
}

fn other_protocols(rig: &Rig) {
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let greetings: [&[u8]; 6] = [
        &crate::rtmp::connect_session(),
        &hello,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS rtsp://x RTSP/1.0\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ];
    for greeting in greetings {
        let (answer, closed) = exchange(rig.http, greeting, Duration::from_secs(15));
        let shown = greeting[..greeting.len().min(30)].escape_ascii().to_string();
        assert!(closed, "{shown}: the server keeps the connection");
        assert!(statuses(&answer).iter().all(|status| *status >= 400), "{shown}: the server serves the request");
    }
}

fn huge_heads(rig: &Rig) {
    let long = "x".repeat(rig.count(1 << 20, 64 << 20, "bytes"));
    let many: String = (0..20_000).fold(String::new(), |mut many, n| {
        write!(many, "a{n}: b\r\n").expect("memory");
        many
    });
    for (head, expected) in [
        (format!("GET /{long} HTTP/1.1\r\n"), [414, 414]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {long}"), [431, 431]),
        (format!("GET / HTTP/1.1\r\n{many}"), [431, 431]),
        (long.clone(), [414, 400]),
        (format!("GET / HTTP/1.1\r\n{long}: x"), [431, 431]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nRange: bytes={}", "0-1,".repeat(100_000)), [431, 431]),
    ] {
        let (answer, closed) = exchange(rig.http, head.as_bytes(), Duration::from_secs(15));
        let shown = &head[..head.len().min(40)];
        assert!(closed, "{shown}: the server keeps the connection");
        // The kernel may discard the response if more input follows it.
        let statuses = statuses(&answer);
        assert!(
            statuses.is_empty() || (statuses.len() == 1 && expected.contains(&statuses[0])),
            "{shown}: {statuses:?}"
        );
    }
    // The longest accepted heads, on many connections.
    let most = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}", "x".repeat(8000));
    let mut all = Attacker::connect_many(1000, rig.http);
    for attacker in &mut all {
        attacker.send(most.as_bytes());
    }
    std::thread::sleep(Duration::from_millis(300));
    // The heads are 8 MB.
    rig.assert_memory_below(150);
}

/// Sends requests whose end two HTTP implementations may see at different places. The server must refuse them and close the
/// connection.
fn smuggling(rig: &Rig) {
    let inner = "GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    let with = |fields: &str| format!("GET /small.txt HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let length = inner.len();
    let shapes = [
        with(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")) + "0\r\n\r\n" + inner,
        with(&format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n")) + "0\r\n\r\n" + inner,
        with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n" + inner,
        with("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n" + inner,
        with("Transfer-Encoding : chunked\r\n") + "0\r\n\r\n" + inner,
        with("Transfer-Encoding:\tchunked\r\nTransfer-Encoding: identity\r\n") + "0\r\n\r\n" + inner,
        with(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n")) + inner,
        with(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n")) + inner,
        with(&format!("Content-Length: 0, {length}\r\n")) + inner,
        with(&format!("Content-Length: +{length}\r\n")) + inner,
        with("Content-Length: -1\r\n") + inner,
        with("Content-Length: 0x10\r\n") + inner,
        with("Content-Length: 1e1\r\n") + inner,
        with("Content-Length: 18446744073709551617\r\n") + inner,
        with("Content-Length : 5\r\n") + inner,
        with(" Content-Length: 5\r\n") + inner,
        // Folded lines, lines that end in LF or CR alone, fields without names.
        with(&format!("X: a\r\n Content-Length: {length}\r\n")) + inner,
        with(&format!("X: a\r\n\tTransfer-Encoding: chunked, {length}\r\n")) + inner,
        with("X: a\nTransfer-Encoding: chunked\r\n") + inner,
        with("X: a\rTransfer-Encoding: chunked\r\n") + inner,
        "GET /small.txt HTTP/1.1\nHost: x\n\n".to_owned() + inner,
        "GET /small.txt HTTP/1.1\r\nHost: x\r\n\n".to_owned() + inner,
        with(": empty\r\n") + inner,
        with("X\0Y: a\r\n") + inner,
        with("X: a\0b\r\n") + inner,
        with("X Y: a\r\n") + inner,
        // Hosts, versions and request lines.
        with("Host: y\r\n") + inner,
        "GET /small.txt HTTP/1.1\r\n\r\n".to_owned() + inner,
        "GET /small.txt HTTP/1.2x\r\nHost: x\r\n\r\n".to_owned() + inner,
        "GET /small.txt HTTP/2.0\r\nHost: x\r\n\r\n".to_owned() + inner,
        "GET /small.txt  HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + inner,
        "GET /small.txt\r\n\r\n".to_owned() + inner,
        "GET /small.txt HTTP/1.1 x\r\nHost: x\r\n\r\n".to_owned() + inner,
        "GET\t/small.txt\tHTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + inner,
    ];
    for shape in &shapes {
        let (answer, closed) = exchange(rig.http, shape.as_bytes(), Duration::from_secs(15));
        let statuses = statuses(&answer);
        assert!(statuses.len() <= 1 && statuses.iter().all(|status| *status >= 400), "{shape:?}: {statuses:?}");
        assert!(closed, "{shape:?}: the server keeps the connection");
    }
    // A valid request with a body is served, and so is the request after it.
    let plain = with(&format!("Content-Length: {length}\r\n")) + inner + &get_and_close("/small.txt");
    let (answer, _) = exchange(rig.http, plain.as_bytes(), Duration::from_secs(15));
    assert_eq!(statuses(&answer), [200, 200], "{plain:?}");
    let absolute = "GET http://elsewhere/small.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (answer, _) = exchange(rig.http, absolute.as_bytes(), Duration::from_secs(15));
    assert_eq!(statuses(&answer), [200], "the absolute form means its path");
}

fn paths(rig: &Rig) {
    let (answer, _) = exchange(rig.http, get_and_close("/small.txt").as_bytes(), Duration::from_secs(15));
    assert_eq!(statuses(&answer), [200], "an existing file is served");
    let up = [
        "..",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e%252e",
        "..%00",
        "..%2f",
        "..;",
        "...",
        "%c0%ae%c0%ae",
        "．．",
        "%u002e.",
    ];
    let slash = ["/", "%2f", "\\", "%5c", "//", "/./", "%252f", "%c0%af", "/%00/"];
    let mut paths = Vec::new();
    for up in up {
        for slash in slash {
            paths.push(format!("/{up}{slash}secret"));
            paths.push(format!("/sub{slash}{up}{slash}{up}{slash}secret"));
            paths.push(format!("/{}etc/passwd", format!("{up}{slash}").repeat(8)));
            paths.push(format!("/{up}{slash}srs.conf"));
        }
    }
    let others = [
        "/link",
        "/sub/link",
        "/etc/passwd",
        "/up/secret",
        "/up/srs.conf",
        "/beside/secret",
        "/.secret",
        "/sub/.hidden/secret",
        "/live.tmp",
        "//etc/passwd",
        "/%2fetc/passwd",
        "//../secret",
        "/secret%00.txt",
        "/small.txt%00/../../secret",
        "/small.txt/../../secret",
        "/live/../../secret",
        "file:///etc/passwd",
        "http://x/../secret",
        "http://x:80@y/%2e%2e/secret",
        "/?/../secret",
        "/#/../secret",
        "/%",
        "/%2",
        "/%zz",
        "*",
        "secret",
        "../secret",
        "/\u{0}",
        "/proc/self/environ",
        "/sub/./../../secret",
        "/html/../secret",
        "/html-beside/secret",
        "/../html-beside/secret",
        "/live/healthy.m3u8/../../../secret",
    ];
    paths.extend(others.map(str::to_owned));
    for path in &paths {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let (answer, closed) = exchange(rig.http, request.as_bytes(), Duration::from_secs(15));
            assert_no_secret(&answer, path);
            assert!(closed, "{path}: the server keeps the connection");
            if method == "GET" {
                // These are requests for the page at /.
                let is_root = path.starts_with("/?") || path.starts_with("/#");
                let statuses = statuses(&answer);
                assert!(is_root || statuses.iter().all(|status| *status >= 300), "{path}: {statuses:?}");
            }
        }
    }
}

fn ranges(rig: &Rig) {
    let huge = "9".repeat(40);
    let most = u64::MAX;
    let mut values: Vec<String> = [
        "bytes=0-0,1-1,2-2",
        "bytes=0-,0-,0-,0-",
        "bytes=-0",
        "bytes=5-1",
        "bytes=--1",
        "bytes=1--1",
        "bytes=0x0-0x1",
        "bytes=",
        "bytes",
        "=",
        "seconds=0-1",
        "bytes=\u{1d7d8}-",
        "bytes = 0 - 1",
    ]
    .map(str::to_owned)
    .into();
    values.extend([format!("bytes={huge}-"), format!("bytes=-{huge}"), format!("bytes=0-{huge}")]);
    values.extend([format!("bytes={most}-{most}"), format!("bytes=-{most}"), format!("bytes=1-{most}")]);
    values.push(format!("bytes={}", (0..1000).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(",")));
    values.push(format!("bytes={}", ["0-"; 2000].join(",")));
    for value in &values {
        for path in ["/small.txt", "/live/healthy.m3u8"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nRange: {value}\r\nConnection: close\r\n\r\n");
            let (answer, closed) = exchange(rig.http, request.as_bytes(), Duration::from_secs(15));
            let statuses = statuses(&answer);
            assert!(closed && matches!(statuses[..], [200 | 206 | 400 | 416 | 431]), "{value}: {statuses:?}");
            // The parts together must not be longer than the file.
            assert!(answer.len() < 64 * 1024, "{value}: {} bytes", answer.len());
        }
    }
    // Pieces of a large file, in many requests on one connection.
    let mut random = Random::new(12);
    for _ in 0..rig.count(20, 500, "connections") {
        let Some(mut attacker) = Attacker::connect(rig.http) else { continue };
        for _ in 0..20 {
            let at = random.next() % LARGE_SIZE;
            attacker.send(
                format!("GET /{LARGE} HTTP/1.1\r\nHost: x\r\nRange: bytes={at}-{}\r\n\r\n", at + 1000).as_bytes(),
            );
        }
        attacker.discard_for(Duration::from_millis(20));
        attacker.close(Close::Rst);
    }
}

fn bodies(rig: &Rig) {
    let post = |length: &str, body: &str| {
        format!("POST /{SMALL} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    for (request, expected) in [
        (post("5", "hello"), 405),
        (post("1000000000", "x"), 413),
        (post("99999999999999999999999999", ""), 400),
        (chunked.to_owned(), 411),
        (get("/small.txt").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"), 417),
        ("DELETE /small.txt HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 405),
        ("PUT /new.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx".to_owned(), 405),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 405),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nCookie: a\r\n\r\n".to_owned(), 405),
    ] {
        let (answer, closed) = exchange(rig.http, request.as_bytes(), Duration::from_secs(15));
        assert_eq!(statuses(&answer), [expected], "{request:?}");
        assert!(closed, "{request:?}: the server keeps the connection, though it cannot know where the body ends");
    }
    assert!(!rig.scratch.folder().join("html/new.txt").exists());
    // Bodies that do not arrive: they have the same time limit as heads. And one that never ends.
    let mut waiting = Attacker::connect_many(200, rig.http);
    for (n, attacker) in waiting.iter_mut().enumerate() {
        attacker.send(get("/small.txt").replace("\r\n\r\n", "\r\nContent-Length: 16000\r\n\r\n").as_bytes());
        if n % 2 == 0 {
            attacker.send(&[b'x'; 8000]);
        }
    }
    let mut endless = Attacker::connect(rig.http).expect("a connection");
    endless.send(post("1000000000", "").as_bytes());
    let until = Instant::now() + Duration::from_secs(20);
    while endless.send(&[b'x'; 64 * 1024]) {
        assert!(Instant::now() < until, "the server reads a refused body without end");
    }
    for attacker in waiting.iter_mut().take(rig.count(3, 200, "incomplete bodies")) {
        assert!(attacker.is_closed_within(Duration::from_secs(20)), "the server waits for a body without end");
    }
}

fn half_closed(rig: &Rig) {
    for n in 0..rig.count(100, 3000, "connections") {
        let Some(mut attacker) = Attacker::connect(rig.http) else { continue };
        let request = get("/small.txt");
        let end = if n % 2 == 0 { request.len() } else { n % request.len() };
        attacker.send(&request.as_bytes()[..end]);
        attacker.shutdown(Shutdown::Write);
        let answer = attacker.receive_for(Duration::from_secs(15));
        assert!(attacker.closed, "the server keeps a connection that ended after {end} bytes");
        assert_eq!(statuses(&answer), if end == request.len() { vec![200] } else { Vec::new() });
    }
}

fn slow_heads(rig: &Rig) {
    let head = "GET / HTTP/1.1\r\nHost: x\r\nX: ".to_owned() + &"x".repeat(1000);
    let mut all = Attacker::connect_many(500, rig.http);
    let started = Instant::now();
    let mut bytes = head.bytes();
    // A head must be complete after `request_timeout`, even if it keeps arriving.
    let time = rig.seconds(3, 14);
    while started.elapsed() < time {
        let byte = bytes.next().expect("a long head");
        for attacker in &mut all {
            attacker.send(&[byte]);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = Duration::from_secs(20).saturating_sub(started.elapsed());
    assert!(all[0].is_closed_within(left), "the server keeps a connection with a slow head");
}
