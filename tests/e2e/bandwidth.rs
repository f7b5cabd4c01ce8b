//! Bandwidth tests over RTMP: with a client written from the description of the exchange of SRS, and with `srs_bench bandwidth`.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::amf::Amf;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::players::CLIENT_TIMEOUT;

const APP: &str = "app?key=35c9b402c12a7246868752e2878f7e0e,vhost=bandcheck.srs.com";

/// Texts of the longest message of the server, at most.
const MAX_TEXTS: usize = 16 * 1024 / 52;

/// Returns a vhost for tests with these directives.
fn bandcheck(more: &str) -> String {
    format!(
        "vhost bandcheck.srs.com {{ chunk_size 65000; bandcheck {{ enabled on; key 35c9b402c12a7246868752e2878f7e0e; {more} }} }}"
    )
}

pub(crate) const NO_INTERVAL: &str = "interval 0; interval_per_address 0;";

fn server(scratch: &Scratch, more: &str) -> Server {
    Server::with(scratch, Settings { vhosts: &bandcheck(more), ..Settings::default() })
}

/// Waits for a command of the server, and returns its object. Payload that came before is dropped.
fn expect(wire: &mut Wire, name: &str) -> Amf {
    let command = wire.wait(name, ANSWER_TIMEOUT, |wire| {
        let at = wire.commands.iter().position(|command| command.name == name);
        let found = at.map(|at| wire.commands.remove(at));
        wire.commands.retain(|command| command.name != "onSrsBandCheckPlaying");
        found
    });
    assert!(command.transaction.abs() < f64::EPSILON, "{command:?}");
    object_of(&command.arguments)
}

fn number(object: &Amf, name: &str) -> f64 {
    match object.get(name) {
        Some(Amf::Number(number)) => *number,
        other => panic!("{name} is {other:?} in {object:?}"),
    }
}

/// Fields at the end of a phase, in the order of SRS.
const OUTCOME_FIELDS: [&str; 4] = ["duration_ms", "interval_ms", "duration_delta", "bytes_delta"];

fn names(object: &Amf) -> Vec<&str> {
    let Amf::Object(members) = object else { panic!("{object:?}") };
    members.iter().map(|(name, _)| name.as_str()).collect()
}

/// Returns the object behind the null that each command of the exchange has.
fn object_of(arguments: &[Amf]) -> Amf {
    let [Amf::Null, object @ Amf::Object(_)] = arguments else { panic!("{arguments:?}") };
    object.clone()
}

fn answer(wire: &mut Wire, name: &str) {
    wire.command(0, name, 0.0, &[Amf::Null, Amf::Object(Vec::new())]);
}

/// Returns the object of a payload message with this many texts.
fn payload(texts: usize) -> Amf {
    let text = "client's bandwidth check data of 47 bytes......";
    Amf::Object((0..texts).map(|n| (n.to_string(), Amf::text(text))).collect())
}

/// Sends growing payload messages for `duration`, as the client of SRS does, at no more than `limit_kbps`.
fn publish(wire: &mut Wire, duration: Duration, limit_kbps: f64) -> f64 {
    let started = Instant::now();
    let (mut texts, mut bits) = (1, 0.0);
    while started.elapsed() < duration {
        wire.command(0, "onSrsBandCheckPublishing", 0.0, &[Amf::Null, payload(texts)]);
        bits += 8.0 * 50.0 * f64::from(u32::try_from(texts).expect("small"));
        texts += 2;
        while bits / limit_kbps / 1000.0 > started.elapsed().as_secs_f64() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    bits
}

#[test]
fn a_client_written_from_the_table_goes_through_all_steps() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, "limit_kbps 8000; interval 30;");
    let mut wire = Wire::connect(server.port);
    let result = wire.connect_app(APP);
    let data = result.arguments[1].get("data").expect("data");
    for name in ["srs_server", "srs_version", "srs_primary", "srs_authors", "srs_server_ip"] {
        assert!(!data.get_text(name).is_empty(), "{name} in {data:?}");
    }
    assert!(number(data, "srs_pid") > 0.0 && number(data, "srs_id") > 0.0, "{data:?}");

    let order = expect(&mut wire, "onSrsBandCheckStartPlayBytes");
    assert_eq!(names(&order), ["limit_kbps", "duration_ms", "interval_ms"]);
    assert_eq!(["limit_kbps", "duration_ms", "interval_ms"].map(|name| number(&order, name)), [8000.0, 3000.0, 0.0]);
    answer(&mut wire, "onSrsBandCheckStartingPlayBytes");
    let mut messages = 0;
    let stop = wire.wait("the end of the download", CLIENT_TIMEOUT, |wire| {
        let mut stop = None;
        for command in wire.commands.drain(..) {
            match command.name.as_str() {
                "onSrsBandCheckPlaying" => {
                    messages += 1;
                    let [Amf::Null, Amf::Object(texts)] = &command.arguments[..] else { panic!("{command:?}") };
                    assert!(texts.len() == 2 * messages - 1 || texts.len() > MAX_TEXTS - 40, "{}", texts.len());
                    assert!(texts.len() <= MAX_TEXTS, "{} texts", texts.len());
                    let (name, text) = &texts[texts.len() - 1];
                    assert_eq!(*name, (texts.len() - 1).to_string());
                    assert!(matches!(text, Amf::String(text) if text.len() == 47), "{text:?}");
                }
                "onSrsBandCheckStopPlayBytes" => stop = Some(object_of(&command.arguments)),
                other => panic!("{other} during the download"),
            }
        }
        stop
    });
    assert!(messages > 3, "{messages} messages");
    assert_eq!(names(&stop), OUTCOME_FIELDS);
    assert!(number(&stop, "duration_delta") > 0.0 && number(&stop, "bytes_delta") > 0.0, "{stop:?}");
    answer(&mut wire, "onSrsBandCheckStoppedPlayBytes");

    let order = expect(&mut wire, "onSrsBandCheckStartPublishBytes");
    answer(&mut wire, "onSrsBandCheckStartingPublishBytes");
    // Longer than any other command: the messages of SRS grow without a bound.
    wire.command(0, "onSrsBandCheckPublishing", 0.0, &[Amf::Null, payload(3000)]);
    let duration = Duration::from_millis(u64::try_from(number(&order, "duration_ms") as i64).expect("positive"));
    publish(&mut wire, duration, number(&order, "limit_kbps"));
    answer(&mut wire, "onSrsBandCheckStopPublishBytes");
    let stop = expect(&mut wire, "onSrsBandCheckStopPublishBytes");
    assert_eq!(names(&stop), OUTCOME_FIELDS);
    assert!(number(&stop, "duration_delta") > 0.0 && number(&stop, "bytes_delta") > 0.0, "{stop:?}");
    answer(&mut wire, "onSrsBandCheckStoppedPublishBytes");
    let result = expect(&mut wire, "onSrsBandCheckFinished");
    answer(&mut wire, "finalClientPacket");

    assert!(number(&result, "end_time") - number(&result, "start_time") >= 6000.0, "epoch milliseconds: {result:?}");
    for (rate, bytes, time) in
        [("play_kbps", "play_bytes", "play_time"), ("publish_kbps", "publish_bytes", "publish_time")]
    {
        let (rate, due) = (number(&result, rate), number(&result, bytes) * 8.0 / number(&result, time));
        assert!((rate - due).abs() < 1.0, "{result:?}");
        assert!(rate > 100.0 && rate < 8000.0 * 1.1, "the limit is kept: {result:?}");
    }
    wire.wait_closed(ANSWER_TIMEOUT);
    server.wait_log(&["bandwidth test complete: ", "protocol=rtmp", "play_kbps="], ANSWER_TIMEOUT);
    assert!(!server.log().contains("35c9b402"), "the key is logged nowhere");
    server.assert_healthy();
}

#[test]
fn flash_sends_other_answers_and_no_end() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, "limit_kbps 2000; interval 0;");
    let mut wire = Wire::connect(server.port);
    let reply = wire.try_connect_app(APP, &[("swfUrl", Amf::text("http://host/bwt.swf"))]);
    assert_eq!(reply.code(), "NetConnection.Connect.Success");
    let flash_answer =
        |wire: &mut Wire, name: &str, transaction| wire.command(0, name, transaction, &[Amf::Null, Amf::Null]);
    expect(&mut wire, "onSrsBandCheckStartPlayBytes");
    flash_answer(&mut wire, "onSrsBandCheckStartingPlayBytes", 7.0);
    expect(&mut wire, "onSrsBandCheckStopPlayBytes");
    flash_answer(&mut wire, "onSrsBandCheckStoppedPlayBytes", 8.0);
    let order = expect(&mut wire, "onSrsBandCheckStartPublishBytes");
    flash_answer(&mut wire, "onSrsBandCheckStartingPublishBytes", 9.0);
    publish(&mut wire, Duration::from_millis(3200), number(&order, "limit_kbps"));
    expect(&mut wire, "onSrsBandCheckStopPublishBytes");
    let result = expect(&mut wire, "onSrsBandCheckFinished");
    assert!(number(&result, "publish_kbps") > 100.0, "{result:?}");
    server.assert_healthy();
}

#[test]
fn strangers_and_those_who_come_too_early_are_refused() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, "interval 30;");
    for app in [
        "app?vhost=bandcheck.srs.com",
        "app?key=,vhost=bandcheck.srs.com",
        "app?key=35c9b402c12a7246868752e2878f7e0,vhost=bandcheck.srs.com",
        "app?key=35c9b402c12a7246868752e2878f7e0e0,vhost=bandcheck.srs.com",
        "app?xkey=35c9b402c12a7246868752e2878f7e0e,vhost=bandcheck.srs.com",
    ] {
        let mut wire = Wire::connect(server.port);
        let reply = wire.try_connect_app(app, &[]);
        assert_eq!((reply.name.as_str(), reply.code()), ("_error", "NetConnection.Connect.Rejected"), "{app}");
        assert!(reply.description().contains("key of the bandwidth test is wrong"), "{reply:?}");
        wire.wait_closed(ANSWER_TIMEOUT);
    }
    let mut first = Wire::connect(server.port);
    first.connect_app("app?key=35c9b402c12a7246868752e2878f7e0e&vhost=bandcheck.srs.com");
    expect(&mut first, "onSrsBandCheckStartPlayBytes");
    let mut second = Wire::connect(server.port);
    second.command(
        0,
        "connect",
        1.0,
        &[Amf::Object(vec![("app".into(), Amf::text(APP)), ("tcUrl".into(), Amf::text("rtmp://127.0.0.1/app"))])],
    );
    let status = second.wait_command("onStatus", |command| command.name == "onStatus");
    assert_eq!(status.code(), "NetConnection.Connect.Rejected");
    let description = status.description();
    assert!(description.starts_with("bandcheck rejected") && description.contains("try again in"), "{status:?}");
    second.wait_closed(ANSWER_TIMEOUT);

    // The vhost does nothing else, also for streams whose name chooses it.
    let mut publisher = Wire::connect(server.port);
    publisher.connect_app("live");
    let id = publisher.create_stream();
    publisher.publish(id, "s?vhost=bandcheck.srs.com");
    let status = publisher.wait_command("onStatus", |command| command.name == "onStatus");
    assert!(status.description().contains("for bandwidth tests only"), "{status:?}");
    server.assert_healthy();
}

#[test]
fn a_client_that_leaves_makes_room_and_the_server_does_not_wait_for_a_test() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, NO_INTERVAL);
    for _ in 0..3 {
        let mut wire = Wire::connect(server.port);
        eventually("the last test has ended", ANSWER_TIMEOUT, || {
            let mut next = Wire::connect(server.port);
            next.command(
                0,
                "connect",
                1.0,
                &[Amf::Object(vec![("app".into(), Amf::text(APP)), ("tcUrl".into(), Amf::text("rtmp://h/app"))])],
            );
            let reply =
                next.wait_command("a reply", |command| ["_result", "onStatus"].contains(&command.name.as_str()));
            (reply.name == "_result").then(|| wire = next)
        });
        expect(&mut wire, "onSrsBandCheckStartPlayBytes");
        answer(&mut wire, "onSrsBandCheckStartingPlayBytes");
        wire.wait_command("payload", |command| command.name == "onSrsBandCheckPlaying");
    }
    server.wait_log(&["bandwidth test broken off: ", "step=onSrsBandCheckPlaying"], ANSWER_TIMEOUT);
    let mut bench = start_bench(&scratch, server.port, "last");
    server.wait_log(&["connect accepted: vhost=bandcheck.srs.com", "srs_bench"], ANSWER_TIMEOUT);
    server.process().interrupt();
    assert!(server.process().wait(ANSWER_TIMEOUT).success());
    assert!(!bench.wait(CLIENT_TIMEOUT).success());
}

/// Returns the URL of a test with `srs_bench`.
fn url(port: u16) -> String {
    format!("rtmp://127.0.0.1:{port}/{APP}")
}

fn start_bench(scratch: &Scratch, port: u16, name: &str) -> Process {
    let url = url(port);
    Process::start(scratch, name, env!("CARGO_BIN_EXE_srs_bench"), ["bandwidth", "--json", &url])
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_srs_bench")).arg("bandwidth").args(arguments).output().expect("srs_bench starts")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn srs_bench_prints_a_table_or_json_and_says_when_to_come_again() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, "limit_kbps 6000; interval 0; interval_per_address 1h;");
    let output = bench(&["--json", &url(server.port)]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let result = json(&text);
    assert_eq!(result["code"], 0);
    for name in ["srs_server", "srs_primary", "srs_authors", "srs_version"] {
        assert!(result[name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {result}");
    }
    assert_eq!(result["srs_server_ip"], "127.0.0.1");
    assert!(result["srs_pid"].as_u64() == Some(server.pid().into()) && result["srs_id"].as_u64() > Some(0), "{result}");
    assert!(result["duration"].as_u64() >= Some(6000) && result["play_duration"].as_u64() > Some(0), "{result}");
    for name in ["play_kbps", "publish_kbps"] {
        assert!(result[name].as_f64().is_some_and(|kbps| kbps > 100.0 && kbps < 6600.0), "{name} in {result}");
    }
    assert!(result["verdict"].as_str().is_some_and(|verdict| !verdict.is_empty()), "{result}");

    let refused = bench(&[&url(server.port)]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("try again in 3"), "{said}");
    let wrong = bench(&["--json", &url(server.port).replace("key=3", "key=4")]);
    let result = json(&String::from_utf8_lossy(&wrong.stdout));
    assert!(!wrong.status.success() && result["error"].as_str().is_some_and(|text| text.contains("key")), "{result}");
    server.assert_healthy();
}

#[test]
fn two_tests_at_once_share_the_line_and_have_their_own_results() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, &format!("{NO_INTERVAL} limit_kbps 0; max_tests 2;"));
    let mut both = ["one", "two"].map(|name| start_bench(&scratch, server.port, name));
    eventually("both are admitted", ANSWER_TIMEOUT, || {
        (server.log().matches("connect accepted: vhost=bandcheck.srs.com").count() == 2).then_some(())
    });
    let third = bench(&[&url(server.port)]);
    assert!(String::from_utf8_lossy(&third.stderr).contains("bandcheck rejected"), "{third:?}");
    for test in &mut both {
        test.wait_success(CLIENT_TIMEOUT);
        let result = json(&test.log());
        // No limit, on the loopback interface.
        assert!(result["play_kbps"].as_u64() > Some(10_000), "{result}");
        assert!(result["publish_kbps"].as_u64() > Some(10_000), "{result}");
    }
    assert_eq!(server.log().matches("bandwidth test complete: ").count(), 2, "{}", server.log());
    server.assert_healthy();
}

#[test]
#[cfg(feature = "ssl")]
fn a_test_runs_over_tls() {
    let scratch = Scratch::new();
    let (cert, key) = crate::rtmps::certificate(&scratch, "localhost");
    let port = crate::common::server::free_port();
    let (cert, key) = (cert.display(), key.display());
    let root = format!("rtmps {{ enabled on; listen 127.0.0.1:{port}; cert {cert}; key {key}; }}");
    let vhosts = bandcheck("interval 0; interval_per_address 0; limit_kbps 0;");
    let mut server = Server::with(&scratch, Settings { root: &root, vhosts: &vhosts, ..Settings::default() });
    let url = format!("rtmps://127.0.0.1:{port}/{APP}");
    let strict = bench(&[&url]);
    assert!(String::from_utf8_lossy(&strict.stderr).contains("--insecure"), "{strict:?}");
    let output = bench(&["--insecure", &url]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("download") && text.contains("good for"), "{text} {output:?}");
    server.wait_log(&["bandwidth test complete: ", "protocol=rtmps"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn a_reload_changes_the_rules_of_the_next_test() {
    let scratch = Scratch::new();
    let mut server = server(&scratch, "interval 1h;");
    let mut bench = start_bench(&scratch, server.port, "first");
    server.wait_log(&["connect accepted: vhost=bandcheck.srs.com"], ANSWER_TIMEOUT);
    let vhosts = bandcheck("interval 0; interval_per_address 0; max_tests 2;");
    let settings = Settings { vhosts: &vhosts, ..Settings::default() };
    crate::common::server::write_configuration(&scratch, server.port, settings);
    server.process().signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_log(&["configuration reloaded"], ANSWER_TIMEOUT);
    let mut next = start_bench(&scratch, server.port, "next");
    bench.wait_success(CLIENT_TIMEOUT);
    next.wait_success(CLIENT_TIMEOUT);
    // Without the vhost, the test that runs ends.
    let mut last = start_bench(&scratch, server.port, "last");
    eventually("the last test runs", ANSWER_TIMEOUT, || {
        (server.log().matches("connect accepted: vhost=bandcheck.srs.com").count() == 3).then_some(())
    });
    crate::common::server::write_configuration(&scratch, server.port, Settings::default());
    server.process().signal(nix::sys::signal::Signal::SIGHUP);
    assert!(!last.wait(CLIENT_TIMEOUT).success());
    server.wait_log(&["bandwidth test broken off: "], ANSWER_TIMEOUT);
    server.assert_healthy();
}
