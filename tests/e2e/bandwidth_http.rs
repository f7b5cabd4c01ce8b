//! Bandwidth tests over HTTP: the requests, the page in a browser, and what the server tells of results.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bandwidth::NO_INTERVAL;
use crate::browser::Browser;
use crate::common::http_client::{Answer, Client};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens};
use crate::http;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(60);

const KEY: &str = "X-Bandwidth-Key: secret\r\n";

/// Starts a server with a vhost for tests; `root` is beside it.
fn start(scratch: &Scratch, more: &str, root: &str) -> (Server, u16) {
    let vhosts = format!("vhost bandcheck.srs.com {{ bandcheck {{ enabled on; key secret; {more} }} }}");
    http::start(scratch, "", Settings { vhosts: &vhosts, root, ..Settings::default() })
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn post(client: &mut Client, path: &str, fields: &str, body: &[u8]) -> Answer {
    client
        .send(format!("POST {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    client.send(body);
    client.answer(true).expect("an answer")
}

#[test]
fn bytes_go_both_ways_and_make_a_result() {
    let scratch = Scratch::new();
    let api_port = free_port();
    let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api_port}; }}");
    let (mut server, port) = start(&scratch, "interval 1h; limit_kbps 0;", &root);
    let mut client = Client::new(port);
    let limits = json(&client.get("/api/v1/bandwidth", KEY));
    assert_eq!((limits["limit_kbps"].as_u64(), limits["max_transfers"].as_u64()), (Some(0), Some(16)));
    let download = client.get("/api/v1/bandwidth/download?bytes=3000000&test=a", KEY);
    assert_eq!((download.status, download.body.len()), (200, 3_000_000));
    assert_eq!(download.field("Content-Type"), Some("application/octet-stream"));
    assert_eq!(download.field("Access-Control-Allow-Origin"), None, "not for pages of other sites");
    let ping = client.get("/api/v1/bandwidth/download?bytes=0&test=a&key=secret", "");
    assert_eq!((ping.status, ping.body.len()), (200, 0));
    let upload = post(&mut client, "/api/v1/bandwidth/upload?test=a", KEY, &vec![7; 2_500_000]);
    assert_eq!((upload.status, json(&upload)["bytes"].as_u64()), (200, Some(2_500_000)));

    // Another test, also of the same address, comes too early.
    let other = client.get("/api/v1/bandwidth/download?bytes=1&test=b", KEY);
    assert_eq!(other.status, 429);
    assert!(other.field("Retry-After").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s > 3500)));
    assert!(json(&other)["error"].as_str().is_some_and(|text| text.contains("try again in")), "{other:?}");

    let path = "/api/v1/bandwidth/result?test=a&download_kbps=1e30&upload_kbps=100&latency_ms=1.5&jitter_ms=0.25";
    let report = json(&post(&mut client, path, KEY, b""));
    assert_eq!((report["protocol"].as_str(), report["ip"].as_str()), (Some("http"), Some("127.0.0.1")));
    assert_eq!((report["publish_kbps"].as_u64(), report["publish_bytes"].as_u64()), (Some(100), Some(2_500_000)));
    assert!(report["play_bytes"].as_u64() > Some(1_000_000) && report["play_kbps"].as_u64() > Some(0), "{report}");
    assert!(report["play_kbps"].as_f64() < Some(1e20), "no more than was transferred: {report}");
    assert_eq!((report["rtt_ms"].as_f64(), report["jitter_ms"].as_f64()), (Some(1.5), Some(0.25)));
    assert_eq!(post(&mut client, path, KEY, b"").status, 404, "the test is over");
    server.wait_log(&["bandwidth test complete: ", "protocol=http", "publish_kbps=100"], LIMIT);

    let mut api = Client::new(api_port);
    let get = |api: &mut Client, path: &str| {
        api.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes());
        api.answer(true).expect("an answer")
    };
    let metrics = String::from_utf8(get(&mut api, "/metrics").body).expect("text");
    for (name, value) in [("started_total", 1), ("completed_total", 1), ("refused_total", 1), ("running", 0)] {
        let line = format!("srs_bandwidth_test_{name} {value}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let snapshot = json(&get(&mut api, "/api/v1/snapshot"));
    let features = snapshot["data"]["features"].as_array().expect("features");
    let feature = features.iter().find(|feature| feature["name"] == "bandwidth_test").expect("the feature");
    assert_eq!(feature["items"][0]["publish_kbps"], 100);
    let mut events = TcpStream::connect(("127.0.0.1", api_port)).expect("a connection");
    events.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let request = "GET /api/v1/events?type=bandwidth_tested&last=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    events.write_all(request.as_bytes()).expect("a request");
    let mut lines = BufReader::new(events).lines().map_while(Result::ok);
    let data = lines.find(|line| line.starts_with("data: ") && line.contains("publish_kbps")).expect("the event");
    let event: Value = serde_json::from_str(&data[6..]).expect("JSON");
    assert_eq!(
        (event["event"].as_str(), event["vhost"].as_str()),
        (Some("bandwidth_tested"), Some("bandcheck.srs.com"))
    );
    assert_eq!((event["ip"].as_str(), &event["bandwidth"]["publish_kbps"]), (Some("127.0.0.1"), &100.into()));
    server.assert_healthy();
}

#[test]
fn requests_without_a_right_to_test_are_refused() {
    let scratch = Scratch::new();
    let api = free_port();
    let root =
        format!("http_api {{ enabled on; listen 127.0.0.1:{api}; auth {{ enabled on; token ops read opsecret; }} }}");
    let (mut server, port) = start(&scratch, NO_INTERVAL, &root);
    let mut client = Client::new(port);
    for (path, fields, due) in [
        ("/api/v1/bandwidth/download?bytes=1", "", 401),
        ("/api/v1/bandwidth/download?bytes=1&key=", "", 401),
        ("/api/v1/bandwidth/download?bytes=1&key=secre", "", 401),
        ("/api/v1/bandwidth/download?bytes=1", "Authorization: Bearer wrong\r\n", 401),
        ("/api/v1/bandwidth/download?bytes=1&vhost=__defaultVhost__", KEY, 404),
        ("/api/v1/bandwidth/download", KEY, 400),
        ("/api/v1/bandwidth/download?bytes=-1", KEY, 400),
        ("/api/v1/bandwidth/download?bytes=9999999999", KEY, 400),
        ("/api/v1/bandwidth/upload", KEY, 404),
        ("/api/v1/bandwidth/other", KEY, 404),
    ] {
        let answer = client.get(path, fields);
        assert_eq!(answer.status, due, "{path} {fields}: {answer:?}");
        assert!(json(&answer)["error"].is_string(), "{path}");
    }
    let long = format!("/api/v1/bandwidth/download?bytes=1&test={}", "x".repeat(33));
    assert_eq!(client.get(&long, KEY).status, 400);
    let login = client.get("/api/v1/bandwidth/download?bytes=5", "Authorization: Bearer opsecret\r\n");
    assert_eq!((login.status, login.body.len()), (200, 5), "a login of the API is as good as the key");
    client.send(b"POST /api/v1/bandwidth/upload HTTP/1.1\r\nHost: h\r\nX-Bandwidth-Key: secret\r\nContent-Length: 999999999\r\n\r\n");
    assert_eq!(client.answer(true).expect("an answer").status, 413);
    // Guessing.
    let mut client = Client::new(port);
    let guess = |client: &mut Client, key: &str| client.get(&format!("/api/v1/bandwidth?key={key}"), "").status;
    let statuses: Vec<_> = (0..12).map(|n| guess(&mut client, &n.to_string())).collect();
    assert!(statuses.contains(&429) && statuses[0] == 401, "{statuses:?}");
    assert_eq!(guess(&mut client, "secret"), 429, "also with the right key");
    assert_eq!(Client::elsewhere(port).get("/api/v1/bandwidth", KEY).status, 200, "others are not affected");
    server.wait_log(&["wrong key of a bandwidth test: "], LIMIT);
    server.assert_healthy();
}

#[test]
fn transfers_keep_the_limit_and_end_with_the_test() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, &format!("{NO_INTERVAL} limit_kbps 4000;"), "");
    // 4000 kbit/s for two connections together: a megabyte takes two seconds.
    let started = std::time::Instant::now();
    let mut clients = [Client::new(port), Client::new(port)];
    for client in &mut clients {
        client.send(format!("GET /api/v1/bandwidth/download?bytes=500000 HTTP/1.1\r\nHost: h\r\n{KEY}\r\n").as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.answer(true).expect("an answer").body.len(), 500_000);
    }
    let mut client = Client::new(port);
    assert_eq!(post(&mut client, "/api/v1/bandwidth/upload", KEY, &vec![0; 500_000]).status, 200);
    assert!(started.elapsed() > Duration::from_millis(2500), "{:?}", started.elapsed());
    // Nobody says that the test is over.
    let line = server.wait_log(&["bandwidth test complete: ", "protocol=http"], LIMIT);
    let kbps = |name: &str| {
        let value = line.split_once(name).expect("a value").1.split(' ').next().expect("a value");
        value.parse::<u64>().expect("a number")
    };
    assert!((1..4400).contains(&kbps(" play_kbps=")) && (1..4400).contains(&kbps(" publish_kbps=")), "{line}");
    server.assert_healthy();
}

#[test]
fn curl_uploads_in_chunks_and_waits_for_100_continue() {
    let curl = need!(curl);
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, &format!("{NO_INTERVAL} limit_kbps 0;"), "");
    let file = scratch.file("noise");
    std::fs::File::create(&file).and_then(|mut file| file.write_all(&vec![1; 3_000_000])).expect("a file");
    let from = format!("@{}", file.display());
    for more in [&["-H", "Transfer-Encoding: chunked"][..], &["-H", "Expect: 100-continue"], &[]] {
        let output = Command::new(&curl)
            .args(["-sS", "-H", "X-Bandwidth-Key: secret", "--data-binary", &from])
            .args(more)
            .arg(format!("http://127.0.0.1:{port}/api/v1/bandwidth/upload"))
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.trim(), "{\"bytes\":3000000}", "{more:?} {output:?}");
    }
    server.assert_healthy();
}

#[test]
fn a_backend_is_told_the_result() {
    let scratch = Scratch::new();
    let hooks = free_port();
    let listen = format!("127.0.0.1:{hooks}");
    let backend = Process::start(&scratch, "hooks", env!("CARGO_BIN_EXE_srs_hooks"), ["--json", "--listen", &listen]);
    eventually("srs_hooks listens", LIMIT, || listens(hooks).then_some(()));
    let vhosts = format!(
        "vhost bandcheck.srs.com {{ bandcheck {{ enabled on; key secret; limit_kbps 2000; }} \
         http_hooks {{ enabled on; on_bandwidth http://{listen}/api/v1/bandwidth; }} }}"
    );
    let mut server = Server::with(&scratch, Settings { vhosts: &vhosts, ..Settings::default() });
    let url = format!("rtmp://127.0.0.1:{}/app?key=secret&vhost=bandcheck.srs.com", server.port);
    let output = Command::new(env!("CARGO_BIN_EXE_srs_bench")).args(["bandwidth", "--json", &url]).output();
    let result: Value = serde_json::from_slice(&output.expect("srs_bench runs").stdout).expect("JSON");
    let event: Value = eventually("the event", LIMIT, || {
        let log = backend.log();
        let line = log.lines().find(|line| line.starts_with('{') && line.contains("on_bandwidth"))?;
        Some(serde_json::from_str(line).expect("JSON"))
    });
    for name in ["play_kbps", "publish_kbps", "play_bytes", "publish_bytes"] {
        assert_eq!(event[name], result[name], "{name}: {event} {result}");
    }
    assert_eq!((event["protocol"].as_str(), event["vhost"].as_str()), (Some("rtmp"), Some("bandcheck.srs.com")));
    server.assert_healthy();
}

#[test]
fn a_browser_runs_the_page() {
    let chromium = need!(chromium);
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, &format!("{NO_INTERVAL} limit_kbps 50000;"), "");
    let url = format!("http://127.0.0.1:{port}/bandwidth#key=wrong");
    let mut browser = Browser::open(&scratch, &chromium, (700, 900), &url);
    let text =
        |browser: &mut Browser, id: &str| browser.evaluate(&format!("document.getElementById('{id}').textContent"));
    let press = |browser: &mut Browser| browser.evaluate("document.getElementById('start').click()");
    eventually("the page is ready", LIMIT, || {
        (browser.evaluate("(document.getElementById('key') || {}).value") == "wrong").then_some(())
    });
    press(&mut browser);
    eventually("the key is refused", LIMIT, || text(&mut browser, "status").contains("key").then_some(()));
    browser.evaluate("document.getElementById('key').value = 'secret'");
    press(&mut browser);
    eventually("the test is done", LIMIT, || {
        let status = text(&mut browser, "status");
        assert!(!status.starts_with("Failed") || status.contains("key"), "{status}");
        status.starts_with("Done").then_some(())
    });
    for id in ["download", "upload"] {
        let shown = text(&mut browser, id);
        let (rate, unit) = shown.split_once(' ').expect("a rate and its unit");
        let rate: f64 = rate.parse().expect("a number");
        assert!(unit == "Mbit/s" && rate > 0.5 && rate < 55.0, "{id}: {shown}");
        let points =
            browser.evaluate(&format!("document.getElementById('plot-{id}').getAttribute('points').split(' ').length"));
        assert!(points.parse::<u32>().expect("a number") > 10, "{id}: {points} points");
    }
    for id in ["latency", "jitter"] {
        assert!(text(&mut browser, id).ends_with(" ms"), "{id}");
    }
    assert!(text(&mut browser, "verdict").starts_with("Good for "), "{}", text(&mut browser, "verdict"));
    server.wait_log(&["bandwidth test complete: ", "protocol=http"], LIMIT);
    let picture = browser.screenshot();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bandwidth.png");
    std::fs::write(&path, picture).expect("the build's tmp folder can be written");
    server.assert_healthy();
}

#[test]
fn without_tests_there_is_no_page() {
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", Settings::default());
    let mut client = Client::new(port);
    for path in ["/bandwidth", "/bandwidth/page.js", "/api/v1/bandwidth", "/api/v1/bandwidth/download?bytes=1"] {
        assert_eq!(client.get(path, "").status, 404, "{path}");
    }
    server.assert_healthy();
}
