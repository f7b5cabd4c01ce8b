//! Requests over HTTP and their answers, and files that a server has and has not to serve.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::attacker::{Attacker, Endpoint};

/// Content of files that must not be served.
const SECRET: &str = "attack-secret";

/// A small file in the served directory.
pub(crate) const SMALL: &str = "small.txt";
/// A large, sparse file in the served directory.
pub(crate) const LARGE: &str = "large.bin";
pub(crate) const LARGE_SIZE: u64 = 64 << 20;

/// Creates files in the served directory and beside it.
pub(crate) fn create_files(folder: &Path) {
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

/// Returns the status of each of the responses to GET in `bytes`.
pub(crate) fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        all.push(head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        bytes = bytes.get(end + 4 + length..).unwrap_or_default();
    }
    all
}

/// Sends `bytes` on a new connection. Returns what arrives within `time`, and true if the server has closed the connection.
pub(crate) fn exchange(endpoint: Endpoint, bytes: &[u8], time: Duration) -> (Vec<u8>, bool) {
    let Some(mut attacker) = Attacker::connect(endpoint) else { return (Vec::new(), true) };
    attacker.send(bytes);
    let answer = attacker.receive_for(time);
    (answer, attacker.closed)
}

/// Returns a GET request.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Returns a GET request after which the server closes the connection.
pub(crate) fn get_and_close(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// Fails if an answer contains anything from outside of the served directory.
pub(crate) fn assert_no_secret(answer: &[u8], request: &str) {
    for secret in [SECRET, "root:", "listen 127.0.0.1"] {
        let is_there = answer.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!is_there, "{request:?} reveals {secret:?}");
    }
}
