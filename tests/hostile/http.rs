//! Attacks on the HTTP server. What it serves is open to all; what is beside its directory is nobody's.

use std::fmt::Write as _;
use std::fs;
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, End, Target};
use crate::random::Random;
use crate::rig::{Rig, times};

/// What is in files that are not to be served.
const SECRET: &str = "hostile-secret";

/// A file in the directory, and one that is large: it takes no room on the disk.
const SMALL: &str = "small.txt";
const LARGE: &str = "large.bin";
const LARGE_SIZE: u64 = 64 << 20;

#[test]
fn http_requests() {
    let mut rig = Rig::plain("", "");
    lay_out(rig.scratch.folder());
    rig.attack("random bytes and mutated requests", random_requests);
    rig.attack("other protocols", other_protocols);
    rig.attack("huge heads", huge_heads);
    rig.attack("requests that smuggle another", smuggling);
    rig.attack("paths that lead away", paths);
    rig.attack("ranges", ranges);
    rig.attack("bodies", bodies);
    rig.attack("half-closed connections", half_closed);
    rig.finish();
}

#[test]
fn http_behaviour() {
    let mut rig = Rig::plain("", "");
    lay_out(rig.scratch.folder());
    rig.attack("heads of one byte a while, 500 at a time", slow_heads);
    rig.attack("pipelining by the thousand, without reading", pipelining);
    rig.attack("downloads that are not read", unread);
    rig.attack("requests as fast as they go", flood);
    rig.attack("files that are not there, by the thousand", missing);
    rig.attack("connections that come and go", churn);
    rig.attack("more connections than there may be", crowd);
    rig.finish();
}

/// Puts files into the directory of the server, and beside it.
fn lay_out(folder: &Path) {
    let html = folder.join("html");
    fs::create_dir_all(html.join("sub/.hidden")).expect("a folder in the scratch folder");
    fs::create_dir_all(folder.join("html-beside")).expect("a folder in the scratch folder");
    fs::write(html.join(SMALL), "small").expect("a file in the scratch folder");
    let large = fs::File::create(html.join(LARGE)).expect("a file in the scratch folder");
    large.set_len(LARGE_SIZE).expect("a sparse file");
    for secret in ["secret", "html-beside/secret", "html/sub/.hidden/secret", "html/.secret", "html/live.tmp"] {
        fs::write(folder.join(secret), SECRET).expect("a file in the scratch folder");
    }
    for (to, name) in [
        ("../secret", "link"),
        ("../../secret", "sub/link"),
        ("/etc", "etc"),
        ("..", "up"),
        ("../html-beside", "beside"),
    ] {
        symlink(to, html.join(name)).expect("a link in the scratch folder");
    }
}

/// What an answer says first, of each of the answers in `bytes`. They are to answer GET.
fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        all.push(head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        bytes = bytes.get(end + 4 + length..).unwrap_or_default();
    }
    all
}

/// Sends something on a connection of its own and gives what comes within `time`, or until the server closes.
fn ask(target: Target, bytes: &[u8], time: Duration) -> (Vec<u8>, bool) {
    let Some(mut attacker) = Attacker::connect(target) else { return (Vec::new(), true) };
    attacker.send(bytes);
    let heard = attacker.hear(time);
    (heard, attacker.closed)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Fails when the server answers with anything that it is to keep to itself.
fn assert_no_secret(heard: &[u8], what: &str) {
    for secret in [SECRET, "root:", "listen 127.0.0.1"] {
        let is_there = heard.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!is_there, "{what:?} gives away {secret:?}");
    }
}

fn random_requests(rig: &Rig) {
    let mut random = Random::new(11);
    let browser = "GET /live/healthy.m3u8?x=1 HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: Mozilla/5.0\r\n\
                   Accept: */*\r\nRange: bytes=0-99\r\nIf-None-Match: \"a-1\"\r\nConnection: keep-alive\r\n\r\n";
    for n in 0..times(1500, 50_000) {
        let count = random.below(3000);
        let input = match n % 5 {
            0 => random.bytes(count),
            _ => random.mutate(browser.as_bytes()),
        };
        let (heard, _) = ask(rig.http, &input, Duration::from_millis(1));
        assert_no_secret(&heard, "noise");
    }
}

fn other_protocols(rig: &Rig) {
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let greetings: [&[u8]; 6] = [
        &crate::rtmp::connected(),
        &hello,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS rtsp://x RTSP/1.0\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ];
    for greeting in greetings {
        let (heard, closed) = ask(rig.http, greeting, Duration::from_secs(15));
        let shown = greeting[..greeting.len().min(30)].escape_ascii().to_string();
        assert!(closed, "{shown} is listened to");
        assert!(statuses(&heard).iter().all(|status| *status >= 400), "{shown} is served");
    }
}

fn huge_heads(rig: &Rig) {
    let long = "x".repeat(times(1 << 20, 64 << 20));
    let many: String = (0..20_000).fold(String::new(), |mut many, n| {
        write!(many, "a{n}: b\r\n").expect("memory");
        many
    });
    for (head, due) in [
        (format!("GET /{long} HTTP/1.1\r\n"), [414, 414]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {long}"), [431, 431]),
        (format!("GET / HTTP/1.1\r\n{many}"), [431, 431]),
        (long.clone(), [414, 400]),
        (format!("GET / HTTP/1.1\r\n{long}: x"), [431, 431]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nRange: bytes={}", "0-1,".repeat(100_000)), [431, 431]),
    ] {
        let (heard, closed) = ask(rig.http, head.as_bytes(), Duration::from_secs(15));
        let shown = &head[..head.len().min(40)];
        assert!(closed, "{shown}: it is listened to");
        // What is sent after the refusal may have the kernel throw the refusal away.
        let heard = statuses(&heard);
        assert!(heard.is_empty() || (heard.len() == 1 && due.contains(&heard[0])), "{shown}: {heard:?}");
    }
    // As long as a head may be, on many connections.
    let most = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}", "x".repeat(8000));
    let mut all: Vec<_> = (0..1000).filter_map(|_| Attacker::connect(rig.http)).collect();
    for attacker in &mut all {
        attacker.send(most.as_bytes());
    }
    std::thread::sleep(Duration::from_millis(300));
    let memory = rig.process("VmRSS") >> 10;
    assert!(memory < 150, "{memory} MB for 8 MB of heads");
}

/// Two who read the same bytes and disagree about where a request ends: the server refuses, and closes.
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
        // Folded lines, lines that end in LF or CR alone, fields without a name.
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
        let (heard, closed) = ask(rig.http, shape.as_bytes(), Duration::from_secs(15));
        let statuses = statuses(&heard);
        assert!(statuses.len() <= 1 && statuses.iter().all(|status| *status >= 400), "{shape:?}: {statuses:?}");
        assert!(closed, "{shape:?}: the connection stays");
    }
    // What is plain is served, the body left out: one answer, and one for what is behind it.
    let plain = with(&format!("Content-Length: {length}\r\n")) + inner + inner;
    let (heard, _) = ask(rig.http, plain.as_bytes(), Duration::from_millis(1000));
    assert_eq!(statuses(&heard), [200, 200], "{plain:?}");
    let absolute = "GET http://elsewhere/small.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (heard, _) = ask(rig.http, absolute.as_bytes(), Duration::from_secs(15));
    assert_eq!(statuses(&heard), [200], "the absolute form is that of the path");
}

fn paths(rig: &Rig) {
    let (heard, _) = ask(rig.http, get("/small.txt").as_bytes(), Duration::from_millis(500));
    assert_eq!(statuses(&heard), [200], "what is there is served");
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
        // As Latin-1 in the request line and as it is.
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let (heard, closed) = ask(rig.http, request.as_bytes(), Duration::from_secs(15));
            assert_no_secret(&heard, path);
            assert!(closed, "{path}: no end of the answer");
            if method == "GET" {
                // The page at / is the only other thing that these lead to.
                let is_root = path.starts_with("/?") || path.starts_with("/#");
                let statuses = statuses(&heard);
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
            let (heard, closed) = ask(rig.http, request.as_bytes(), Duration::from_secs(15));
            let statuses = statuses(&heard);
            assert!(closed && matches!(statuses[..], [200 | 206 | 400 | 416 | 431]), "{value}: {statuses:?}");
            // Nobody gets more than the file by asking for its parts.
            assert!(heard.len() < 64 * 1024, "{value}: {} bytes", heard.len());
        }
    }
    // Pieces of a large file, each of a connection's many requests.
    let mut random = Random::new(12);
    for _ in 0..times(20, 500) {
        let Some(mut attacker) = Attacker::connect(rig.http) else { continue };
        for _ in 0..20 {
            let at = random.next() % LARGE_SIZE;
            attacker.send(
                format!("GET /{LARGE} HTTP/1.1\r\nHost: x\r\nRange: bytes={at}-{}\r\n\r\n", at + 1000).as_bytes(),
            );
        }
        attacker.listen(Duration::from_millis(20));
        attacker.leave(End::Rst);
    }
}

fn bodies(rig: &Rig) {
    let post = |length: &str, body: &str| {
        format!("POST /{SMALL} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    for (request, due) in [
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
        let (heard, closed) = ask(rig.http, request.as_bytes(), Duration::from_secs(15));
        assert_eq!(statuses(&heard), [due], "{request:?}");
        assert!(closed, "{request:?}: what follows is a body or is not");
    }
    assert!(!rig.scratch.folder().join("html/new.txt").exists());
    // A body that does not come: it has the time of a head, and no more. And one that never ends.
    let mut waiting: Vec<_> = (0..200).filter_map(|_| Attacker::connect(rig.http)).collect();
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
        assert!(Instant::now() < until, "a refused body is read for ever");
    }
    for attacker in waiting.iter_mut().take(times(3, 200)) {
        assert!(attacker.is_closed_within(Duration::from_secs(20)), "a body that does not come is waited for");
    }
}

fn half_closed(rig: &Rig) {
    for n in 0..times(100, 3000) {
        let Some(mut attacker) = Attacker::connect(rig.http) else { continue };
        let request = get("/small.txt");
        let end = if n % 2 == 0 { request.len() } else { n % request.len() };
        attacker.send(&request.as_bytes()[..end]);
        attacker.shutdown(Shutdown::Write);
        let heard = attacker.hear(Duration::from_secs(15));
        assert!(attacker.closed, "{end} bytes and an end are waited for");
        assert_eq!(statuses(&heard), if end == request.len() { vec![200] } else { Vec::new() });
    }
}

fn slow_heads(rig: &Rig) {
    let head = "GET / HTTP/1.1\r\nHost: x\r\nX: ".to_owned() + &"x".repeat(1000);
    let mut all: Vec<_> = (0..500).filter_map(|_| Attacker::connect(rig.http)).collect();
    let began = Instant::now();
    let mut bytes = head.bytes();
    // A head has ten seconds, however busily it comes.
    while began.elapsed() < Duration::from_secs(times(4, 14) as u64) {
        let byte = bytes.next().expect("a long head");
        for attacker in &mut all {
            attacker.send(&[byte]);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = Duration::from_secs(20).saturating_sub(began.elapsed());
    assert!(all[0].is_closed_within(left), "a slow head is listened to");
}

fn pipelining(rig: &Rig) {
    let requests = [get("/live/healthy.m3u8"), get("/small.txt"), get("/none"), get("/streams.json")].concat();
    let burst = requests.repeat(250);
    let mut all: Vec<_> = (0..20).filter_map(|_| Attacker::connect(rig.http)).collect();
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        // The socket takes what there is room for.
        for _ in 0..times(4, 40) {
            if !attacker.send(burst.as_bytes()) {
                break;
            }
        }
    }
    // One who reads has all of his, in order.
    let mut reader = Attacker::connect(rig.http).expect("a connection");
    let count = times(500, 20_000);
    for _ in 0..count {
        reader.send(get("/small.txt").as_bytes());
    }
    let mut heard = Vec::new();
    while !heard.ends_with(b"small") || statuses(&heard).len() < count {
        let more = reader.hear_some(Duration::from_secs(15));
        assert!(!more.is_empty(), "{} answers of {count}", statuses(&heard).len());
        heard.extend(more);
    }
    assert_eq!(statuses(&heard), vec![200; count]);
}

fn unread(rig: &Rig) {
    let mut all: Vec<_> = (0..300).filter_map(|_| Attacker::connect(rig.http)).collect();
    for attacker in &mut all {
        attacker.shrink_receive_buffer();
        attacker.send(get(&format!("/{LARGE}")).as_bytes());
    }
    let until = Instant::now() + Duration::from_secs(times(3, 60) as u64);
    while Instant::now() < until {
        for attacker in &mut all[..100] {
            attacker.trickle();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let memory = rig.process("VmRSS") >> 10;
    // Each has a piece of 128 KiB in hand: no file is read ahead of its reader.
    assert!(memory < 200, "{memory} MB for 300 downloads");
}

/// All that the worker has is asked for: what is left for those who stream is what they need.
fn flood(rig: &Rig) {
    let time = Duration::from_secs(times(6, 60) as u64);
    let burst = get("/live/healthy.m3u8").repeat(16);
    let answers: usize = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..2).map(|_| scope.spawn(|| ask_on(rig, burst.as_bytes(), time))).collect();
        std::thread::sleep(time / 2);
        rig.assert_newcomers_play();
        crowd.into_iter().map(|thread| thread.join().expect("it never fails")).sum()
    });
    println!("    {} MB of answers a second", (answers / time.as_secs() as usize) >> 20);
    assert!(answers > 1 << 20, "that was no flood");
}

/// Asks the same on many connections again and again. How many bytes the answers were.
fn ask_on(rig: &Rig, burst: &[u8], time: Duration) -> usize {
    let mut all: Vec<_> = (0..200).filter_map(|_| Attacker::connect(rig.http)).collect();
    let until = Instant::now() + time;
    let mut answers = 0;
    while Instant::now() < until {
        for attacker in &mut all {
            attacker.send(burst);
            answers += attacker.take_what_is_there();
        }
    }
    answers
}

fn missing(rig: &Rig) {
    let mut all: Vec<_> = (0..100).filter_map(|_| Attacker::connect(rig.http)).collect();
    for round in 0..times(10, 300) {
        for (n, attacker) in all.iter_mut().enumerate() {
            attacker.send(get(&format!("/none/{round}/{n}/{}", "x".repeat(n))).as_bytes());
        }
    }
    for attacker in &mut all {
        attacker.listen(Duration::from_millis(10));
    }
}

fn churn(rig: &Rig) {
    let until = Instant::now() + Duration::from_secs(times(3, 60) as u64);
    let mut count = 0;
    while Instant::now() < until {
        if let Some(mut attacker) = Attacker::connect(rig.http) {
            match count % 3 {
                1 => drop(attacker.send(b"GET / HT")),
                2 => drop(attacker.send(get("/live/healthy.m3u8").as_bytes())),
                _ => {}
            }
            attacker.leave(if count % 2 == 0 { End::Rst } else { End::Fin });
        }
        count += 1;
    }
    println!("    {count} connections");
}

/// All places taken: who comes then is told so, the viewer who was there goes on, and afterwards there is room.
fn crowd(rig: &Rig) {
    let mut all: Vec<_> = (0..4050).filter_map(|_| Attacker::connect(rig.http)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let (heard, closed) = ask(rig.http, get("/small.txt").as_bytes(), Duration::from_secs(15));
    assert!(closed && matches!(statuses(&heard)[..], [503] | []), "{:?}", statuses(&heard));
    // Those who do nothing have five seconds when there are so many.
    assert!(all[0].is_closed_within(Duration::from_secs(20)), "an idle connection keeps its place");
    drop(all);
    let deadline = Instant::now() + Duration::from_secs(20);
    while statuses(&ask(rig.http, get("/small.txt").as_bytes(), Duration::from_millis(500)).0) != [200] {
        assert!(Instant::now() < deadline, "there is no room though all have left");
    }
}
