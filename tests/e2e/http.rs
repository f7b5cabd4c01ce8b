//! The embedded HTTP server, byte by byte and with curl: files, ranges, conditions, persistent connections, and hostile requests.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::http_client::Client;
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Starts a server that serves the folder `html` of the scratch folder, with the directives `http` in `http_server`. Returns
/// the HTTP port as well.
pub(crate) fn start(scratch: &Scratch, http: &str, settings: Settings<'_>) -> (Server, u16) {
    std::fs::create_dir_all(scratch.file("html")).expect("a folder in the scratch folder");
    for _ in 0..5 {
        let (port, http_port) = (free_port(), free_port());
        let root =
            format!("http_server {{ enabled on; listen 127.0.0.1:{http_port}; dir html; {http} }}\n{}", settings.root);
        let configuration = write_configuration(scratch, port, Settings { root: &root, ..settings });
        if let Some(server) = Server::run(scratch, port, &configuration) {
            eventually("HTTP is listened for", LIMIT, || listens(http_port).then_some(()));
            return (server, http_port);
        }
    }
    panic!("five ports in a row were taken");
}

fn write(scratch: &Scratch, name: &str, content: &[u8]) {
    let path = scratch.file("html").join(name);
    std::fs::create_dir_all(path.parent().expect("below html")).expect("a folder");
    std::fs::write(path, content).expect("a file in the scratch folder");
}

fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn files_conditions_and_ranges_on_one_connection() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "", Settings::default());
    // Longer than the pieces in which the server reads files.
    let segment = noise(700_000);
    write(&scratch, "live/s-1.ts", &segment);
    write(&scratch, "live/s.m3u8", b"#EXTM3U\n");
    let mut client = Client::new(port);

    let playlist = client.get("/live/s.m3u8?token=1", "");
    assert_eq!((playlist.status, &playlist.body[..]), (200, &b"#EXTM3U\n"[..]));
    for (name, value) in [
        ("Content-Type", "application/vnd.apple.mpegurl"),
        ("Cache-Control", "max-age=1"),
        ("Access-Control-Allow-Origin", "*"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "keep-alive"),
    ] {
        assert_eq!(playlist.field(name), Some(value), "{}", playlist.head);
    }
    let whole = client.get("/live/s-1.ts", "");
    assert!(whole.status == 200 && whole.body == segment);
    assert_eq!(whole.field("Content-Type"), Some("video/mp2t"));
    assert!(whole.field("Cache-Control").is_some_and(|value| value.contains("max-age=86400")), "{}", whole.head);

    client.send(b"HEAD /live/s-1.ts HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n");
    let head = client.answer(false).expect("an answer");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("700000")), "HEAD ignores Range");

    let part = client.get("/live/s-1.ts", "Range: bytes=131000-400000\r\n");
    assert!(part.status == 206 && part.body == segment[131_000..=400_000]);
    assert_eq!(part.field("Content-Range"), Some("bytes 131000-400000/700000"));
    assert_eq!(client.get("/live/s-1.ts", "Range: bytes=-5\r\n").body, segment[699_995..]);
    let beyond = client.get("/live/s-1.ts", "Range: bytes=700000-\r\n");
    assert_eq!((beyond.status, beyond.field("Content-Range")), (416, Some("bytes */700000")));
    let several = client.get("/live/s-1.ts", "Range: bytes=0-1,5-6\r\n");
    assert!(several.status == 200 && several.body == segment, "several ranges get the whole file");

    let etag = whole.field("ETag").expect("an entity tag");
    let modified = whole.field("Last-Modified").expect("a date");
    for condition in [format!("If-None-Match: {etag}"), format!("If-Modified-Since: {modified}")] {
        let same = client.get("/live/s-1.ts", &format!("{condition}\r\n"));
        assert_eq!((same.status, same.field("ETag"), same.body.len()), (304, Some(etag), 0), "{condition}");
    }
    let range = format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n");
    assert_eq!(client.get("/live/s-1.ts", &range).status, 206);
    write(&scratch, "live/s-1.ts", b"another");
    assert_eq!(client.get("/live/s-1.ts", &range).body, b"another");
    assert_eq!(client.get("/live/s-1.ts", &format!("If-None-Match: {etag}\r\n")).status, 200);

    // The server skips the body of a GET, and handles the next request.
    client.send(b"GET /live/s.m3u8 HTTP/1.1\r\nHost: h\r\nContent-Length: 41\r\n\r\nGET /none HTTP/1.1\r\nHost: h\r\n\r\n0123456789");
    assert_eq!(client.answer(true).expect("an answer").status, 200);
    assert_eq!(client.get("/none", "").status, 404);
    client.send(b"OPTIONS /live/s.m3u8 HTTP/1.1\r\nHost: h\r\nOrigin: http://other\r\n\r\n");
    let options = client.answer(true).expect("an answer");
    assert_eq!((options.status, options.field("Access-Control-Allow-Methods")), (204, Some("GET, HEAD, OPTIONS")));
    let last = client.get("/live/s.m3u8", "Connection: close\r\n");
    assert_eq!(last.field("Connection"), Some("close"));
    assert!(client.answer(true).is_none(), "the server closes after the last response");
    server.assert_healthy();
}

#[test]
fn requests_are_answered_in_order_however_they_arrive() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "", Settings::default());
    for n in 0..3 {
        write(&scratch, &format!("{n}"), &noise(1000 * (n + 1)));
    }
    let request = |n: u32| format!("\r\nGET /{n} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut client = Client::new(port);
    let all: String = (0..300).map(|n| request(n % 3)).collect();
    client.send(all.as_bytes());
    for n in 0..300 {
        assert_eq!(client.answer(true).expect("an answer").body, noise(1000 * (n % 3 + 1)), "{n}");
    }
    // Byte by byte, and in pieces across two requests.
    for bytes in format!("{}{}", request(0), request(1)).as_bytes().chunks(1) {
        client.send(bytes);
        std::thread::yield_now();
    }
    assert_eq!(client.answer(true).expect("an answer").body.len(), 1000);
    assert_eq!(client.answer(true).expect("an answer").body.len(), 2000);
    server.assert_healthy();
}

#[test]
fn curl_reuses_its_connection_and_resumes() {
    let curl = need!(curl);
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "", Settings::default());
    let segment = noise(400_000);
    write(&scratch, "live/a b-1.ts", &segment);
    let url = format!("http://127.0.0.1:{port}/live/a%20b-1.ts");
    let out = scratch.file("out.ts");
    let run = |arguments: &[&str]| {
        let output = Command::new(&curl).args(["-sS", "--max-time", "20"]).args(arguments).output().expect("curl runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let out = out.to_str().expect("a path of ours");
    let connects = run(&["-o", out, "-o", out, "-o", out, "-w", "%{http_code} %{num_connects}\n", &url, &url, &url]);
    assert_eq!(connects, "200 1\n200 0\n200 0\n");
    assert_eq!(std::fs::read(out).expect("what curl wrote"), segment);
    std::fs::write(out, &segment[..123_456]).expect("a file");
    assert_eq!(run(&["-C", "-", "-o", out, "-w", "%{http_code}", &url]), "206");
    assert_eq!(std::fs::read(out).expect("what curl wrote"), segment);
    assert!(run(&["-I", &url]).contains("Content-Length: 400000"));
    let etag = scratch.file("etag");
    let etag = etag.to_str().expect("a path of ours");
    assert_eq!(run(&["--etag-save", etag, "-o", out, "-w", "%{http_code}", &url]), "200");
    assert_eq!(run(&["--etag-compare", etag, "-o", out, "-w", "%{http_code}", &url]), "304");
    assert_eq!(run(&["-z", out, "-o", out, "-w", "%{http_code}", &url]), "304");
    server.assert_healthy();
}

#[test]
fn no_path_leads_out_of_the_directory() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "", Settings::default());
    std::fs::write(scratch.file("secret"), b"secret").expect("a file in the scratch folder");
    write(&scratch, "live/a.ts", b"a");
    write(&scratch, "live/.hidden", b"secret");
    write(&scratch, "live/a.ts.tmp", b"secret");
    let html = scratch.file("html");
    symlink("../secret", html.join("link")).expect("a link");
    symlink(scratch.folder(), html.join("up")).expect("a link");
    symlink("live", html.join("inner")).expect("a link");
    let mut client = Client::new(port);
    assert_eq!(client.get("/inner/a.ts", "").body, b"a", "a link within the directory is served");
    assert_eq!((client.get("/live", "").field("Location")), Some("/live/"));
    for path in
        ["/link", "/up/secret", "/live/.hidden", "/live/a.ts.tmp", "/live/", "//secret", "/live//a.ts", "/live/a.ts/"]
    {
        let answer = client.get(path, "");
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    for path in
        ["/../secret", "/live/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/..%5csecret", "/%00", "/live/./a.ts"]
    {
        let mut client = Client::new(port);
        let answer = client.get(path, "");
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    server.assert_healthy();
}

#[test]
fn what_means_harm_is_refused_and_the_server_goes_on() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "max_connections 40;", Settings::default());
    write(&scratch, "a", b"a");
    let long = "x".repeat(9000);
    let many: String = (0..100).map(|n| format!("A{n}: b\r\n")).collect();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, status) in [
        (
            format!(
                "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            400,
        ),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"), 411),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 37\r\n\r\n{smuggled}"), 400),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n{smuggled}"), 400),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nA: b\nContent-Length: 37\r\n\r\n{smuggled}"), 400),
        (format!("GET /a HTTP/1.1\nHost: h\n\n{smuggled}"), 400),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length : 37\r\n\r\n{smuggled}"), 400),
        (format!("GET /a HTTP/1.1\r\n\r\n{smuggled}"), 400),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n{smuggled}"), 413),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\nA: {long}\r\n\r\n"), 431),
        (format!("GET /a HTTP/1.1\r\nHost: h\r\n{many}\r\n"), 431),
        (format!("GET /{long}"), 414),
        ("DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("CONNECT a:443 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
    ] {
        let mut client = Client::new(port);
        client.send(request.as_bytes());
        let answer = client.answer(true).expect("an answer");
        assert_eq!((answer.status, answer.field("Connection")), (status, Some("close")), "{request:?}: {answer:?}");
        assert!(client.answer(true).is_none(), "{request:?}: the server answers the next request");
    }
    // Slow clients get 408 after ten seconds; others are served meanwhile.
    let mut slow = Client::new(port);
    slow.send(b"GET /a HTTP/1.1\r\nHost: h\r\nX: ");
    assert_eq!(Client::new(port).get("/a", "").body, b"a");
    let mut answers = 0;
    loop {
        slow.send(b"x");
        slow.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
        let mut byte = [0];
        match slow.stream.read(&mut byte) {
            Ok(1) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("closed without a response: {other:?}"),
        }
        answers += 1;
        assert!(answers < 200, "the server waits without limit for a slow request");
    }
    // The rest of the response: the first byte has been read.
    slow.stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    assert_eq!(slow.answer(true).expect("an answer").status, 408);
    server.assert_healthy();
}

#[test]
fn slow_and_idle_clients_have_the_time_that_is_configured() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "request_timeout 1; idle_timeout 2;", Settings::default());
    write(&scratch, "a", b"a");
    let (mut slow, mut idle) = (Client::new(port), Client::new(port));
    // Empty lines are not requests (RFC 9112, 2.2), and do not extend the time limit.
    let mut empty = Client::new(port);
    let lines = std::thread::spawn(move || {
        let since = Instant::now();
        while empty.stream.write_all(b"\r\n").is_ok() && since.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(300));
        }
        since.elapsed()
    });
    let begun = Instant::now();
    slow.send(b"GET /a HTTP/1.1\r\n");
    assert_eq!(idle.get("/a", "").status, 200);
    assert_eq!(slow.answer(true).expect("a response").status, 408);
    let told = begun.elapsed();
    // The default is ten seconds.
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&told), "{told:?}");
    assert_eq!(idle.stream.read(&mut [0]).expect("the end of the connection"), 0);
    let closed = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(30)).contains(&closed), "{closed:?}");
    let closed = lines.join().expect("it ends");
    assert!((Duration::from_secs(2)..Duration::from_secs(30)).contains(&closed), "{closed:?}");
    server.assert_healthy();
}

#[test]
fn connections_beyond_the_limit_are_told() {
    exceed_limit("max_connections 10;", |port| {
        assert_eq!(Client::elsewhere(port).answer(true).expect("a response").status, 503);
    });
}

#[test]
fn connections_of_an_address_beyond_its_limit_are_told_and_others_are_not() {
    exceed_limit("max_connections_per_address 10;", |port| {
        assert_eq!(Client::elsewhere(port).get("/a", "").status, 200);
    });
}

/// Opens the ten connections that `limit` allows, and more. `elsewhere` checks clients of another address.
fn exceed_limit(limit: &str, elsewhere: impl Fn(u16)) {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, limit, Settings::default());
    write(&scratch, "a", b"a");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::new(port)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/a", "").status, 200);
    }
    let answer = Client::new(port).answer(true).expect("a response");
    assert_eq!((answer.status, answer.field("Connection")), (503, Some("close")));
    elsewhere(port);
    // Accepted connections stay, and a new one is accepted when another ends.
    assert_eq!(clients[9].get("/a", "").status, 200);
    drop(clients.remove(0));
    eventually("another client is accepted", LIMIT, || {
        let mut client = Client::new(port);
        client.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
        (client.answer(true)?.status == 200).then_some(())
    });
    server.wait_log(&["http ->", "turned_away="], LIMIT);
    server.assert_healthy();
}

#[test]
fn the_page_and_its_list() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "", Settings::default());
    let mut client = Client::new(port);
    let page = client.get("/", "");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.field("Content-Security-Policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let text = String::from_utf8(page.body).expect("the page is text");
    for file in ["console/style.css", "console/main.js"] {
        assert!(text.contains(&format!("\"{file}\"")));
        assert_eq!(client.get(&format!("/{file}"), "").status, 200, "{file}");
    }
    let hostile = "<script>alert(1)</script>";
    let _publisher = crate::common::wire::Wire::publisher(server.port, hostile);
    let list = eventually("the stream is in the list", LIMIT, || {
        let list = client.get("/streams.json", "");
        assert_eq!((list.status, list.field("Content-Type")), (200, Some("application/json")));
        let list = String::from_utf8(list.body).expect("the list is text");
        list.contains("alert(1)").then_some(list)
    });
    assert!(!list.contains('<') && list.contains("\\u003cscript"), "{list}");
    assert!(list.contains("\"hls\":null"), "{list}");
    server.assert_healthy();
    drop(server);

    let (mut server, port) = start(&scratch, "page off;", Settings::default());
    let mut client = Client::new(port);
    for path in ["/", "/console/main.js", "/streams.json"] {
        assert_eq!(client.get(path, "").status, 404, "{path}");
    }
    server.assert_healthy();
}

#[test]
fn a_port_for_http_that_is_taken_is_named() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let root = format!("http_server {{ enabled on; listen {address}; }}");
    let path = write_configuration(&scratch, free_port(), Settings { root: &root, ..Settings::default() });
    let run = |path: &Path| {
        Command::new(crate::common::server::binary()).arg("-c").arg(path).output().expect("the server runs")
    };
    let output = run(&path);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&address.to_string()) && said.contains("in use"), "{said}");
}
