//! Targets of texts: requests over HTTP, the PROXY header, configuration files, answers of backends, spool and key files.

use srs::app::hooks::http_callbacks::decoders;
use srs::codec::proxy::{self, Header};
use srs::config::{Config, StreamKeys};
#[cfg(feature = "http")]
use srs::http::conditions::{self, Part};
#[cfg(feature = "http")]
use srs::http::request;

use super::Script;

/// Parses the head of an HTTP request, its query and its range.
#[cfg(feature = "http")]
pub fn http(data: &[u8]) {
    let Ok(Some((request, length))) = request::parse(data) else { return };
    assert!(length <= data.len() && length <= request::MAX_HEAD);
    let path = &request.path;
    assert!(!path.split(['/', '\\']).any(|part| part == ".." || part == "."), "{path:?} leaves the folder");
    assert!(!path.chars().any(char::is_control), "{path:?}");
    // Bytes after the head do not matter, and a truncated head is incomplete.
    let head = &data[..length];
    assert!(matches!(request::parse(head), Ok(Some((again, same))) if same == length && again == request));
    for end in [0, length / 2, length - 1] {
        assert_eq!(request::parse(&head[..end]), Ok(None), "the first {end} bytes");
    }
    for size in [0, 1, 188, u64::MAX] {
        if let Some(Part::Bytes(bytes)) = request.range().map(|range| conditions::parse_range(range, size)) {
            assert!(bytes.start < bytes.end && bytes.end <= size);
        }
    }
    let _ = request.conditions();
    for (name, value) in request.query.pairs() {
        assert!(request.query.get(&name).is_some(), "{name:?}={value:?}");
    }
}

/// Parses an HTTP request with its body, which arrives at once, in pieces, and byte by byte: the result must be the same.
#[cfg(feature = "http")]
pub fn http_body(data: &[u8]) {
    const MAX_BODY: u64 = 1000;
    let Ok(Some((request, length))) = request::parse(data) else { return };
    let rest = &data[length..];
    let decode = |piece: usize| {
        let mut decoder = request.body_decoder(MAX_BODY)?;
        let (mut at, mut body) = (0, Vec::new());
        for end in (piece..rest.len()).step_by(piece).chain([rest.len()]) {
            let consumed = decoder.decode(&rest[at..end], &mut body)?;
            assert!(consumed <= end - at && body.len() as u64 <= MAX_BODY);
            at += consumed;
        }
        assert!(body.len() <= at, "a body is never longer than its coding");
        Ok((decoder.is_finished(), at, body))
    };
    let whole = decode(rest.len().max(1));
    for piece in [1, 7] {
        match (&whole, decode(piece)) {
            (Ok(whole), Ok(pieces)) => assert_eq!(*whole, pieces, "in pieces of {piece} bytes"),
            // A line that is too long is refused before its end arrives, perhaps for another reason.
            (Err::<_, srs::http::refusal::Refusal>(_), Err(_)) => {}
            (whole, pieces) => panic!("{whole:?} differs from {pieces:?} in pieces of {piece} bytes"),
        }
    }
}

/// Parses a PROXY header with increasing input, and checks that the parser never asks for bytes after the header.
pub fn proxy(data: &[u8]) {
    let mut have = 0;
    loop {
        match proxy::parse(&data[..have]) {
            Ok(Header::Incomplete(more)) => {
                assert!(more > 0);
                have += more;
                assert!(have <= 8192, "the size of a header is limited");
            }
            Ok(Header::Complete(_)) => {
                for end in 0..have {
                    assert!(
                        !matches!(proxy::parse(&data[..end]), Ok(Header::Complete(_))),
                        "complete at {end} and at {have}"
                    );
                }
                return;
            }
            Err(error) => {
                assert!(!error.to_string().chars().any(|c| c.is_control()), "{error}");
                return;
            }
        }
        if have > data.len() {
            return;
        }
    }
}

/// Parses a configuration, and checks that an error has one line per problem and a limited length.
pub fn directive(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse("fuzz", text) {
        Ok(config) => assert!(!config.listen.is_empty()),
        Err(error) => {
            let text = error.to_string();
            assert!(text.lines().count() <= 21, "{text}");
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}

/// Reads the answer of a backend of callbacks.
pub fn callback_answer(data: &[u8]) {
    let mut backend = Script::new(data);
    if let Some(length) = decoders::ask(&mut backend) {
        assert!(length <= 64 * 1024 + 4096, "{length}");
    }
    assert!(backend.received > 0, "the question");
}

/// Reads a spool file as it is, then with the right checksum before each line, and what it is rewritten to.
pub fn spool(data: &[u8]) {
    decoders::rewrite_spool(data);
    let (rewritten, _) = decoders::rewrite_spool(decoders::with_checksums(&String::from_utf8_lossy(data)).as_bytes());
    assert_eq!(decoders::rewrite_spool(rewritten.as_bytes()), (rewritten, 0));
}

/// Reads a file of stream keys. No key is in an error.
pub fn stream_keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = || text.trim_start_matches('\u{feff}').lines().map(|line| line.split('#').next().unwrap_or_default());
    match StreamKeys::parse(text) {
        Ok(keys) => lines().filter_map(|line| line.split_whitespace().next()).for_each(|key| {
            assert!(keys.find(key).is_some(), "{key:?}");
        }),
        Err((line, problem)) => {
            let text = lines().nth(line - 1).expect("a line of the file");
            let mut words = text.split_whitespace();
            let key = words.next().expect("an empty line is no mistake");
            // A short key, or one that is a word behind it too, can be in the text by chance.
            let by_chance = key.len() < 12 || words.any(|word| word.contains(key));
            assert!(by_chance || !problem.contains(key), "{problem}");
        }
    }
}
