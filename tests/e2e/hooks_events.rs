//! HTTP callbacks with real backends (Python, nginx) and real clients: formats, signatures, segments, targets, and clients that
//! are asked about again.

use std::process::Command;

use serde_json::Value;

use crate::backend::{PythonBackend, answer_to, server, start_nginx};
use crate::common::flv;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

#[test]
fn requests_are_signed_and_python_verifies_them() {
    let python = need!(python);
    let scratch = Scratch::new();
    let backend = PythonBackend::start(&scratch, &python, "[]");
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!("http_hooks {{ enabled on; on_publish {url}; on_unpublish {url}; hooks_secret 'a b'; }}");
    let mut server = server(&scratch, &vhost);
    drop(Wire::publisher(server.port, "cam"));
    backend.wait("on_unpublish");
    let verify = "import hashlib, hmac, json, sys\n\
                  for line in sys.stdin:\n\
                  \x20   request = json.loads(line)\n\
                  \x20   due = 'sha256=' + hmac.new(b'a b', request['body'].encode(), hashlib.sha256).hexdigest()\n\
                  \x20   assert hmac.compare_digest(due, request['headers']['x-srs-signature']), line";
    let requests: String = backend.requests().iter().map(|request| format!("{request}\n")).collect();
    std::fs::write(scratch.file("requests"), requests).expect("a file of ours");
    let input = std::fs::File::open(scratch.file("requests")).expect("it was written");
    let output = Command::new(python).args(["-c", verify]).stdin(input).output().expect("Python can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!server.log().contains("a b"));
    server.assert_healthy();
}

#[test]
fn programs_for_nginx_rtmp_work_with_hooks_format_form() {
    let (python, nginx, ffmpeg, rtmpdump) = (need!(python), need!(plain_nginx), need!(ffmpeg), need!(rtmpdump));
    let scratch = Scratch::new();
    let rules = r#"[{"when": {"call": "publish", "name": "k3y-7f"}, "status": 302, "headers": {"Location": "cam"}, "body": ""},
                    {"when": {"call": "play", "token": "bad"}, "status": 403}]"#;
    let backend = PythonBackend::start(&scratch, &python, rules);
    let (_nginx, nginx_port) = start_nginx(&scratch, &nginx, "location /close { return 204; }");
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!(
        "http_hooks {{ enabled on; hooks_format form; on_connect {url}; on_publish {url}; on_play {url}; \
         on_unpublish {url}; on_stop {url}; on_close http://127.0.0.1:{nginx_port}/close; }}"
    );
    let mut server = server(&scratch, &vhost);
    let player = Player::rtmpdump(&scratch, "rtmpdump", &rtmpdump, &server.url("cam?token=good"), &["--live"]);
    server.wait_players(1);
    let publisher_url = server.url("k3y-7f?user=1&name=other");
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &publisher_url, &[]);
    eventually("ten frames", CLIENT_TIMEOUT, || (player.frames() > 10).then_some(()));
    let refused = server.url("cam?token=bad");
    let mut refused = Process::start(&scratch, "refused", &ffmpeg, ["-nostdin", "-i", &refused, "-f", "null", "-"]);
    assert!(!refused.wait(CLIENT_TIMEOUT).success());
    publisher.wait_success(CLIENT_TIMEOUT);
    let connect = backend.wait("connect");
    assert!(connect["epoch"].as_str().is_some_and(|epoch| epoch.parse::<u64>().is_ok()), "{connect}");
    let published = backend.wait("publish");
    let text = |fields: &Value, key: &str| fields[key].as_str().unwrap_or("-").to_owned();
    let all = ["app", "name", "type", "addr", "user", "flashver"].map(|key| text(&published, key));
    assert_eq!(all, ["live", "k3y-7f", "live", "127.0.0.1", "1", ""]);
    assert_eq!(text(&backend.wait("publish_done"), "name"), "cam");
    server.wait_log(&["publish started: stream=__defaultVhost__/live/cam"], ANSWER_TIMEOUT);
    server.wait_log(&["code=hook", "status 403"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn nginx_allows_denies_and_renames() {
    let (nginx, gst_launch, ffmpeg) = (need!(plain_nginx), need!(gstreamer), need!(ffmpeg));
    let scratch = Scratch::new();
    let locations = "location /allow { return 200 '{\"code\":0}'; } location /deny { return 403; } \
                     location /rename { return 200 '{\"code\":0,\"stream\":\"public\"}'; } location /moved { return 302 /allow; } \
                     location /error { return 500; } location /page { return 200 '<html>'; }";
    let (_nginx, port) = start_nginx(&scratch, &nginx, locations);
    for (path, code) in [
        ("allow", "NetStream.Publish.Start"),
        ("deny", "NetStream.Publish.Denied"),
        ("moved", "NetStream.Publish.Denied"),
        ("error", "NetStream.Publish.Denied"),
        ("page", "NetStream.Publish.Denied"),
        ("rename", "NetStream.Publish.Start"),
    ] {
        let vhost = format!("http_hooks {{ enabled on; on_publish http://127.0.0.1:{port}/{path}; }}");
        let mut server = server(&scratch, &vhost);
        let (wire, answer) = answer_to(server.port, "publish", "k3y");
        assert_eq!(answer.code(), code, "{path}: {answer:?}");
        if path == "rename" {
            drop(wire);
            server.wait_log(&["publish stopped: stream=__defaultVhost__/live/public"], ANSWER_TIMEOUT);
            let player = Player::gstreamer(&scratch, "gst-public", &gst_launch, &server.url("public"));
            server.wait_players(1);
            let url = server.url("any-key");
            let _publisher = publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url, &[]);
            eventually("ten frames under the public name", CLIENT_TIMEOUT, || (player.frames() > 10).then_some(()));
        }
        server.assert_healthy();
    }
}

#[test]
fn a_slow_half_or_wrong_answer_is_a_failure_or_a_refusal() {
    let python = need!(python);
    let scratch = Scratch::new();
    let rules = r#"[{"when": {"stream": "slow"}, "delay": 60}, {"when": {"stream": "half"}, "cut": 3},
                    {"when": {"stream": "json"}, "body": "{\"code\":0"}, {"when": {"stream": "late"}, "delay": 0.3}]"#;
    let mut backend = PythonBackend::start(&scratch, &python, rules);
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!("http_hooks {{ enabled on; on_play {url}; hooks_timeout 5; hooks_retry 0; }}");
    let mut server = server(&scratch, &vhost);
    for (stream, code, text) in [
        ("fine", "NetStream.Play.Start", ""),
        ("late", "NetStream.Play.Start", ""),
        ("slow", "NetStream.Play.Failed", "not available"),
        ("half", "NetStream.Play.Failed", "not available"),
        ("json", "NetStream.Play.Failed", "refused by the callback backend"),
    ] {
        let (_, answer) = answer_to(server.port, "play", stream);
        assert!(answer.code() == code && answer.description().contains(text), "{stream}: {answer:?}");
    }
    backend.kill();
    let (_, answer) = answer_to(server.port, "play", "fine");
    assert!(answer.description().contains("not available"), "{answer:?}");
    server.assert_healthy();
}

#[test]
fn clients_that_are_in_are_asked_about_again() {
    let python = need!(python);
    let scratch = Scratch::new();
    let rules = r#"[{"when": {"action": "on_update", "stream": "bad"}, "body": "{\"code\":1,\"message\":\"time is up\"}"},
                    {"when": {"action": "on_update", "stream": "odd"}, "status": 500}]"#;
    let mut backend = PythonBackend::start(&scratch, &python, rules);
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!("http_hooks {{ enabled on; on_update {url}; hooks_recheck 1; }}");
    let mut server = server(&scratch, &vhost);
    let good = Wire::publisher(server.port, "good");
    let odd = Wire::publisher(server.port, "odd");
    let mut bad = Wire::player(server.port, "bad");
    let told = bad.wait_status("NetStream.Play.Failed");
    assert_eq!(told.description(), "time is up");
    bad.wait_closed(ANSWER_TIMEOUT);
    let of_good = || -> Vec<Value> {
        backend.fields_of("on_update").into_iter().filter(|fields| fields["stream"] == "good").collect()
    };
    let asked = eventually("three questions", CLIENT_TIMEOUT, || Some(of_good()).filter(|all| all.len() >= 3));
    assert_eq!((&asked[0]["role"], &asked[0]["client_id"]), (&"publish".into(), &"1".into()));
    assert!(asked[2]["seconds"].as_u64() >= Some(2), "{}", asked[2]);
    // A dead backend disconnects nobody.
    backend.kill();
    server.wait_log(&["callback failed: hook=on_update"], CLIENT_TIMEOUT);
    let mut player = Wire::player(server.port, "any");
    player.receive_for(std::time::Duration::from_secs(2));
    assert!(server.log_line(&["[1]", "code=hook"]).is_none() && server.log_line(&["[2]", "code=hook"]).is_none());
    drop((good, odd));
    server.assert_healthy();
}

#[test]
fn a_backend_names_the_targets_of_a_stream() {
    let (python, ffmpeg) = (need!(python), need!(ffmpeg));
    let scratch = Scratch::new();
    let target_scratch = Scratch::new();
    let mut target = Server::start(&target_scratch);
    let answer =
        format!(r#"{{"code":0,"data":{{"urls":["rtmp://127.0.0.1:{}/copy/[stream]","http://no"]}}}}"#, target.port);
    let rules = serde_json::json!([{"when": {"action": "on_forward", "stream": "cam"}, "body": answer}]).to_string();
    let backend = PythonBackend::start(&scratch, &python, &rules);
    let vhost = format!("forward {{ backend http://127.0.0.1:{}/api/v1/forward; }}", backend.port);
    let mut server = server(&scratch, &vhost);
    let url = format!("rtmp://127.0.0.1:{}/copy/cam", target.port);
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    target.wait_players(1);
    let source = media::h264_aac(&ffmpeg);
    let _other = Wire::publisher(server.port, "other");
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("cam?a=b"), &[]);
    eventually("ten frames from the target", CLIENT_TIMEOUT, || (player.frames() > 10).then_some(()));
    let asked = backend.wait("on_forward");
    assert!(asked["tcUrl"].is_string() && asked["param"].is_string() && asked["stream_url"].is_string(), "{asked}");
    server.wait_log(&["on_forward target not valid"], ANSWER_TIMEOUT);
    publisher.wait_success(CLIENT_TIMEOUT);
    target.wait_log(&["publish stopped: stream=__defaultVhost__/copy/cam"], CLIENT_TIMEOUT);
    server.assert_healthy();
    target.assert_healthy();
}

#[test]
fn a_start_is_told_and_so_is_what_is_live_when_a_reload_adds_the_url() {
    let python = need!(python);
    let scratch = Scratch::new();
    let backend = PythonBackend::start(&scratch, &python, "[]");
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", backend.port);
    let vhost =
        |urls: &str| format!("vhost __defaultVhost__ {{ http_hooks {{ enabled on; on_server_start {urls}; }} }}");
    let mut server = crate::reload::ReloadableServer::start(&scratch, &vhost(&url("one")));
    let first = backend.wait("on_server_start");
    assert_eq!(first["streams"], serde_json::json!([]));
    let _publisher = Wire::publisher(server.server.port, "cam");
    server.reload(&vhost(&format!("{} {}", url("one"), url("two"))));
    let told = backend.wait_count("on_server_start", 2);
    assert_eq!((&told[1]["streams"], told.len()), (&serde_json::json!(["__defaultVhost__/live/cam"]), 2));
    assert_eq!(told[0]["service_id"], told[1]["service_id"]);
    server.server.assert_healthy();
}

#[cfg(feature = "hls")]
#[test]
fn each_segment_is_told_when_its_file_is_there() {
    let (python, ffmpeg) = (need!(python), need!(ffmpeg));
    let scratch = Scratch::new();
    let backend = PythonBackend::start(&scratch, &python, "[]");
    let url = format!("http://127.0.0.1:{}", backend.port);
    let folder = scratch.file("html");
    let vhost = format!(
        "hls {{ enabled on; hls_path {}; hls_fragment 1; hls_window 60; }} http_hooks {{ enabled on; on_hls {url}/hls; \
         on_hls_notify {url}/notify/[app]/[stream]?url=[ts_url]&p=[param]; on_unpublish {url}/x; }}",
        folder.display()
    );
    let mut server = server(&scratch, &vhost);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &server.url("cam?a=b"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let told =
        eventually("six segments", CLIENT_TIMEOUT, || Some(backend.fields_of("on_hls")).filter(|told| told.len() >= 6));
    for (number, fields) in told.iter().enumerate() {
        assert_eq!((&fields["seq_no"], &fields["stream"]), (&number.into(), &"cam".into()), "{fields}");
        let file = fields["file"].as_str().expect("a path");
        assert!(std::path::Path::new(file).metadata().expect("it is there").len() > 188, "{fields}");
        assert_eq!(fields["url"], format!("live/cam-{number}.ts"));
        assert_eq!(fields["m3u8_url"], "live/cam.m3u8");
        let seconds = fields["duration"].as_f64().expect("seconds");
        assert!(seconds > 0.0 && seconds < 5.0 && std::path::Path::new(fields["cwd"].as_str().unwrap()).is_absolute());
    }
    let notified = || backend.requests().into_iter().filter(|request| request["method"] == "GET").collect::<Vec<_>>();
    let fetched = eventually("six notifications", CLIENT_TIMEOUT, || Some(notified()).filter(|all| all.len() >= 6));
    assert_eq!(fetched[0]["path"], "/notify/live/cam?url=live/cam-0.ts&p=?a=b");
    server.assert_healthy();
}

#[test]
fn each_recording_is_told_when_it_is_complete() {
    let (python, ffmpeg) = (need!(python), need!(ffmpeg));
    let scratch = Scratch::new();
    let backend = PythonBackend::start(&scratch, &python, "[]");
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!(
        "dvr {{ enabled on; dvr_path '{}/[app]/[stream].[timestamp].flv'; }} \
         http_hooks {{ enabled on; on_dvr {url}; on_publish {url}; on_unpublish {url}; }}",
        scratch.file("rec").display()
    );
    let mut server = server(&scratch, &vhost);
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("cam?a=b"), &[]).wait_success(CLIENT_TIMEOUT);
    let told = backend.wait("on_dvr");
    let file = std::path::Path::new(told["file"].as_str().expect("a path"));
    assert_eq!(told["size"].as_u64(), Some(file.metadata().expect("it is there").len()), "{told}");
    let (recorded, published) = (flv::read(file), &source.tags);
    assert!(recorded.len() >= published.len(), "{} of {} packets", recorded.len(), published.len());
    let length = f64::from(published.iter().map(|tag| tag.timestamp).max().expect("packets")) / 1000.0;
    let seconds = told["duration"].as_f64().expect("a number");
    assert!((seconds - length).abs() < 0.5, "{seconds} s in {told}, and {length} s were published");
    let ended = backend.wait("on_unpublish");
    for key in ["client_id", "session_id", "stream", "param", "stream_id", "tcUrl"] {
        assert_eq!(told[key], ended[key], "{key}");
    }
    server.assert_healthy();
}

#[test]
fn an_answer_limits_time_and_bit_rate_of_real_clients() {
    let (python, ffmpeg, rtmpdump) = (need!(python), need!(ffmpeg), need!(rtmpdump));
    let scratch = Scratch::new();
    let rules = r#"[{"when": {"action": "on_publish", "stream": "small"}, "body": "{\"code\":0,\"max_bitrate\":100}"},
                    {"when": {"action": "on_play"}, "body": "{\"code\":0,\"expire_s\":4}"}]"#;
    let backend = PythonBackend::start(&scratch, &python, rules);
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!("http_hooks {{ enabled on; on_publish {url}; on_play {url}; on_stop {url}; }}");
    let mut server = server(&scratch, &vhost);
    let source = media::h264_aac(&ffmpeg);
    let mut small = publish(&scratch, "small", &ffmpeg, source, &server.url("small"), &[]);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("cam"), &[]);
    server.wait_log(&["codecs known", "live/cam"], CLIENT_TIMEOUT);
    let mut player = Player::rtmpdump(&scratch, "player", &rtmpdump, &server.url("cam"), &["--live"]);
    backend.wait("on_stop");
    assert!(player.frames() > 10, "it plays until its time is over");
    player.process().wait(CLIENT_TIMEOUT);
    server.wait_log(&["code=hook", "granted is over"], ANSWER_TIMEOUT);
    assert!(!small.wait(CLIENT_TIMEOUT).success());
    assert!(small.log().contains("100 kbit/s"), "{}", small.log());
    // The limit is that of one publisher.
    publisher.wait_success(CLIENT_TIMEOUT);
    server.assert_healthy();
}
