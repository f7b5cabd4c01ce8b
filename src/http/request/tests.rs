use super::*;

fn get(bytes: &[u8]) -> Request {
    let (request, len) = parse(bytes).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    request
}

fn refused(bytes: &[u8]) -> Status {
    match parse(bytes) {
        Err(refusal) => refusal.status,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

/// Returns a request with these fields besides Host.
fn with(fields: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n").into_bytes()
}

#[test]
fn a_request_at_every_split() {
    let bytes = b"GET /live/a%20b.m3u8?token=1 HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\nIf-None-Match: \"x\"\r\n\r\n";
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
    }
    let request = get(bytes);
    assert_eq!((request.method, request.path.as_str()), (Method::Get, "live/a b.m3u8"));
    assert_eq!(request.query.get("token").as_deref(), Some("1"));
    assert_eq!((request.range(), request.headers.get("host")), (Some("bytes=0-1"), Some("h")));
    assert_ne!(request.conditions(), Conditions::default());
    assert!(request.keep_alive && request.body.is_empty() && request.minor_version == 1);
    // Stops at the next request.
    let twice = [&bytes[..], &bytes[..]].concat();
    assert_eq!(parse(&twice).unwrap().unwrap().1, bytes.len());
}

#[test]
fn whether_the_connection_stays() {
    assert!(get(&with("A: b")).keep_alive);
    assert!(!get(&with("Connection: close")).keep_alive);
    assert!(!get(&with("Connection: Upgrade, CLOSE")).keep_alive);
    assert!(!get(b"GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert!(get(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
}

#[test]
fn targets_of_each_form() {
    for (target, path) in [
        ("/", ""),
        ("/live/a.ts", "live/a.ts"),
        ("/a?b=/../c", "a"),
        ("/%41%c3%a9", "Aé"),
        ("/a%2Fb", "a/b"),
        ("/a..b/c...ts", "a..b/c...ts"),
        ("http://host/a", "a"),
        ("HTTPS://host:80/a?b", "a"),
        ("http://host", ""),
        ("http://host?a", ""),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(get(bytes.as_bytes()).path, path, "{target}");
    }
    assert_eq!(get(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Options);
}

#[test]
fn no_path_leads_away() {
    for target in [
        "/..",
        "/../etc/passwd",
        "/live/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/.%2E/etc/passwd",
        "/..%2fetc/passwd",
        "/..%5c..%5cetc",
        "/live/./a",
        "/a%00.ts",
        "/a%0d%0aSet-Cookie:x",
        "/%",
        "/%4",
        "/%zz",
        "/%ff",
        "/%+1",
        "a",
        "*",
        "http:/a",
        "ftp://host/a",
        "host:443",
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), Status::BadRequest, "{target}");
    }
}

#[test]
fn what_two_servers_could_read_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 99999999999999999999999",
        "Content-Length : 1",
        "A: b\r\n folded",
        "A: b\r\n\tfolded",
        "A: b\nC: d",
        "A: b\rC: d",
        "A: \0",
        "A b: c",
        " A: b",
        ": a",
        "A",
        "Host: other",
    ] {
        assert_eq!(refused(&with(fields)), Status::BadRequest, "{fields:?}");
    }
    assert_eq!(refused(b"GET / HTTP/1.1\n\n"), Status::BadRequest);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: h\n\r\n"), Status::BadRequest);
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), Status::BadRequest, "no Host");
    assert_eq!(refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Status::BadRequest);
    assert_eq!(refused(b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"), Status::BadRequest);
}

/// Returns the status of a valid request's body for a handler that reads at most `max` bytes; `None` if it is accepted.
fn body_status(fields: &str, max: u64) -> Option<Status> {
    get(&with(fields)).body_decoder(max).err().map(|refusal| refusal.status)
}

#[test]
fn bodies_that_no_handler_reads_are_small_or_refused() {
    for (fields, status) in [
        ("A: b", None),
        ("Content-Length: 0", None),
        ("Content-Length: 16384", None),
        ("Content-Length: 3\r\nContent-Length: 3", None),
        ("Content-Length: 16385", Some(Status::ContentTooLarge)),
        ("Transfer-Encoding: chunked", Some(Status::LengthRequired)),
        ("Expect: 100-continue\r\nContent-Length: 5", Some(Status::ExpectationFailed)),
        ("Expect: else", Some(Status::ExpectationFailed)),
    ] {
        assert_eq!(body_status(fields, 0), status, "{fields:?}");
    }
    assert_eq!(get(&with("Content-Length: 3\r\nContent-Length: 3")).body, BodyLength::Known(3));
}

#[test]
fn bodies_that_a_handler_reads_have_its_limit() {
    for (fields, status) in [
        ("A: b", None),
        ("Content-Length: 100000", None),
        ("Content-Length: 100001", Some(Status::ContentTooLarge)),
        ("Transfer-Encoding: Chunked", None),
        ("Expect: 100-Continue\r\nContent-Length: 5", None),
        ("Expect: else\r\nContent-Length: 5", Some(Status::ExpectationFailed)),
        ("Expect: else\r\nExpect: 100-continue", Some(Status::ExpectationFailed)),
    ] {
        assert_eq!(body_status(fields, 100_000), status, "{fields:?}");
    }
}

#[test]
fn other_codings_are_refused() {
    for value in ["gzip", "identity", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;a=b", ""] {
        assert_eq!(refused(&with(&format!("Transfer-Encoding: {value}"))), Status::NotImplemented, "{value:?}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    assert_eq!(refused(&with(twice)), Status::NotImplemented);
}

#[test]
fn methods() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("get", Method::Other),
        ("TRACE", Method::Other),
    ] {
        let request = get(format!("{name} /a HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n").as_bytes());
        assert_eq!(request.method, method);
        assert_eq!(request.range().is_some(), method == Method::Get, "{name}");
    }
    assert_eq!(refused(b"CONNECT a:443 HTTP/1.1\r\nHost: h\r\n\r\n"), Status::MethodNotAllowed);
}

#[test]
fn limits_and_other_protocols() {
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Status::VersionNotSupported);
    // A TLS hello is known by its first bytes, and so is RTMP.
    assert_eq!(refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), Status::BadRequest);
    assert_eq!(refused(b"\x03\x00\x00\x00\x00"), Status::BadRequest);
    let fields = |count: usize| (0..count).map(|n| format!("A{n}: b\r\n")).collect::<String>();
    assert!(parse(&with(fields(MAX_FIELDS - 1).trim_end())).is_ok());
    assert_eq!(refused(&with(fields(MAX_FIELDS).trim_end())), Status::HeadTooLarge);
    let long = "x".repeat(MAX_HEAD);
    assert_eq!(refused(&with(&format!("A: {long}"))), Status::HeadTooLarge);
    assert_eq!(refused(format!("GET /{long}").as_bytes()), Status::UriTooLong);
    assert_eq!(parse(&format!("GET /{long}").as_bytes()[..MAX_HEAD - 1]), Ok(None));
}

proptest::proptest! {
    /// Any bytes are parsed, refused or incomplete, and a parsed path stays below its root.
    #[test]
    fn no_bytes_panic(target in "[/.%25a-f\\\\?]{0,40}", tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = parse(&tail);
        let bytes = format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n");
        if let Ok(Some((request, _))) = parse(bytes.as_bytes()) {
            let path = std::path::Path::new(&request.path);
            let stays = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
            proptest::prop_assert!(path.components().all(stays), "{}", request.path);
        }
    }
}
