//! The API with the tools around it: a real Prometheus, SRS's console, scripts for its raw API, TLS.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::api::{curl, jq, start};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{free_port, listens};
use crate::common::wire::Wire;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Returns the names of our metrics in a text.
fn metric_names(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut names: Vec<_> = words.filter(|word| word.starts_with("srs_")).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn prometheus_scrapes_what_dashboard_and_alerts_ask_for() {
    need!(curl);
    need!(jq);
    let prometheus = need!(prometheus);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "auth { enabled on; token prometheus read s1; }");
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..12);
    let mut player = Wire::player(server.port, "cam");
    player.wait_frames(24);
    drop(Wire::player(server.port, "cam"));

    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prometheus");
    let sample = std::fs::read_to_string(root.join("prometheus.yml")).expect("the sample");
    // The sample with the port, the secret and an interval of this test.
    let text = sample
        .replace("127.0.0.1:1985", &format!("127.0.0.1:{api}"))
        .replace("# authorization: { credentials: SECRET }", "authorization: { credentials: s1 }")
        .replace("15s", "1s")
        .replace("alerts.yml", &root.join("alerts.yml").display().to_string());
    assert!(text.contains("credentials: s1 }") && text.contains("interval: 1s"), "{text}");
    let file = scratch.file("prometheus.yml");
    std::fs::write(&file, text).expect("a file");
    let port = free_port();
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", scratch.file("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _prometheus = Process::spawn(&scratch, "prometheus", command);
    eventually("Prometheus listens", LIMIT, || listens(port).then_some(()));
    let query = |expression: &str| curl(port, &format!("/api/v1/query?query={expression}"), &[]).1;
    eventually("a scrape", LIMIT, || {
        let body = query("srs_stream_players");
        (jq(&body, ".data.result[0].value[1]") == "1").then_some(())
    });
    assert_eq!(jq(&query("up"), ".data.result[0].value[1]"), "1");
    let labels = jq(&query("srs_stream_players"), ".data.result[0].metric | .vhost, .app, .stream");
    assert_eq!(labels, "__defaultVhost__\nlive\ncam");
    let known = curl(port, "/api/v1/label/__name__/values", &[]).1;
    let known: Vec<_> = jq(&known, ".data[]").lines().map(str::to_owned).collect();
    for file in ["alerts.yml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let names = metric_names(&text);
        assert!(names.len() > 10, "{names:?}");
        let unknown: Vec<_> = names.iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    let rules = curl(port, "/api/v1/rules", &[]).1;
    assert_eq!(jq(&rules, "[.data.groups[].rules[] | select(.health == \"err\") | .name] | length"), "0", "{rules}");
    server.assert_healthy();
}

/// Names, types and labels of the metrics of SRS 6.
const SRS_METRICS: [(&str, &str, &[&str]); 10] = [
    ("srs_node_uname_info", "gauge", &["sysname=\"Linux\"", "nodename=", "release=", "version=", "machine="]),
    (
        "srs_build_info",
        "gauge",
        &[
            "server=\"vid-",
            "service=",
            "pid=",
            "build_date=",
            "major=",
            "version=",
            "label=\"a \\\"b\\\"\"",
            "tag=\"edge\"",
        ],
    ),
    ("srs_cpu_percent", "gauge", &[]),
    ("srs_memory", "gauge", &[]),
    ("srs_send_bytes_total", "counter", &[]),
    ("srs_receive_bytes_total", "counter", &[]),
    ("srs_streams", "gauge", &[]),
    ("srs_clients", "gauge", &[]),
    ("srs_clients_total", "counter", &[]),
    ("srs_clients_errs_total", "counter", &[]),
];

#[test]
fn the_exporter_has_metrics_of_a_bounded_number_of_streams() {
    need!(curl);
    let scratch = Scratch::new();
    let exporter = free_port();
    let block = format!("enabled on; listen 127.0.0.1:{exporter}; max_streams 1; label 'a \"b\"'; tag edge;");
    let auth = "auth { enabled on; token prometheus read s1; }";
    let (mut server, api) = start(&scratch, &format!("{auth} }} exporter {{ {block}"));
    assert_eq!(curl(api, "/metrics", &[]).0, 401);
    let _publishers = ["a", "b", "c"].map(|name| Wire::publisher(server.port, name));
    // On a loopback address, the exporter asks for no secret.
    for (port, options) in [(exporter, &[][..]), (api, &["-H", "Authorization: Bearer s1"])] {
        let (status, text) = curl(port, "/metrics", options);
        assert_eq!(status, 200);
        let streams: Vec<_> = text.lines().filter(|line| line.starts_with("srs_stream_players{")).collect();
        assert_eq!(streams.len(), 2, "{streams:?}");
        assert!(streams[0].contains("stream=\"a\"") && streams[1].contains("stream=\"other\""), "{streams:?}");
        for (name, kind, labels) in SRS_METRICS {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in {text}");
            let is_its = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
            let line = text.lines().find(is_its).unwrap_or_else(|| panic!("{name} in {text}"));
            assert!(labels.iter().all(|label| line.contains(label)), "{labels:?} in {line}");
        }
    }
    for path in ["/", "/api/v1/streams", "/metrics/x", "/healthz"] {
        assert_eq!(curl(exporter, path, &[]).0, 404, "{path}");
    }
    server.assert_healthy();
}

#[test]
#[cfg(feature = "ssl")]
fn the_api_is_served_over_tls() {
    need!(curl);
    need!(openssl);
    let scratch = Scratch::new();
    let port = free_port();
    let (cert, key) = (scratch.file("cert.pem").display().to_string(), scratch.file("key.pem").display().to_string());
    // That of a server, and not of an authority, as rustls asks for.
    let options = "req -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new("openssl").args(options.split_whitespace()).args(["-keyout", &key, "-out", &cert]).output();
    assert!(made.expect("openssl runs").status.success());
    let https = format!("https {{ enabled on; listen 127.0.0.1:{port}; cert {cert}; key {key}; }}");
    let (mut server, api) = start(&scratch, &https);
    let url = format!("https://localhost:{port}");
    let get = |options: &[&str], path: &str| {
        let url = format!("{url}{path}");
        let output = Command::new("curl").args(["-sS", "-m", "20", "--cacert", &cert]).args(options).arg(url).output();
        output.expect("curl runs")
    };
    let answer = get(&[], "/api/v1/versions");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    assert!(String::from_utf8_lossy(&answer.stdout).contains("\"code\":0"));
    // Events, and a request after another on one connection.
    let twice = get(&[&format!("{url}/api/v1/streams")], "/api/v1/clients");
    assert_eq!(String::from_utf8_lossy(&twice.stdout).matches("\"code\":0").count(), 2);
    let events =
        Process::start(&scratch, "events", "curl", ["-sSN", "--cacert", &cert, &format!("{url}/api/v1/events")]);
    eventually("the first event", LIMIT, || events.log().contains("event: hello").then_some(()));
    let ctl = Command::new(env!("CARGO_BIN_EXE_srs_ctl")).args(["--api", &url, "--cacert", &cert, "status"]).output();
    let ctl = ctl.expect("srs_ctl runs");
    assert!(ctl.status.success(), "{}", String::from_utf8_lossy(&ctl.stderr));
    // Others are not served: plain HTTP there, TLS here, a stranger's certificate.
    let plain = Command::new("curl").args(["-sS", "-m", "20"]).arg(format!("http://127.0.0.1:{port}/")).output();
    assert!(!plain.expect("curl runs").status.success());
    let wrong = Command::new("curl").args(["-sS", "-m", "20", "-k"]).arg(format!("https://127.0.0.1:{api}/")).output();
    assert!(!wrong.expect("curl runs").status.success());
    let stranger = Command::new(env!("CARGO_BIN_EXE_srs_ctl")).args(["--api", &url, "status"]).output();
    assert_eq!(stranger.expect("srs_ctl runs").status.code(), Some(3));
    // A certificate that is not there is a problem of the configuration.
    let text = std::fs::read_to_string(scratch.file("srs.conf")).expect("the configuration");
    std::fs::write(scratch.file("srs.conf"), text.replace(&cert, "/none.pem")).expect("a file");
    let (status, body) = curl(api, "/api/v1/reload", &["-X", "POST"]);
    assert!(status == 422 && body.contains("https of http_api"), "{status} {body}");
    std::fs::write(scratch.file("srs.conf"), text.replace(&https, "")).expect("a file");
    assert_eq!(curl(api, "/api/v1/reload", &["-X", "POST"]).0, 200);
    eventually("the port is closed", LIMIT, || (!listens(port)).then_some(()));
    server.assert_healthy();
}

#[test]
fn the_raw_api_answers_as_far_as_it_is_allowed_to() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "raw_api { enabled on; allow_reload on; allow_query on; }");
    let get = |query: &str| curl(api, &format!("/api/v1/raw?rpc={query}"), &[]).1;
    assert_eq!(jq(&get("reload-fetch"), ".data | .err, .state, .rid"), "0\n0\n0");
    assert_eq!(jq(&curl(api, "/api/v1/raw?rpc=reload", &["-X", "POST"]).1, ".code"), "0");
    assert_eq!(jq(&get("reload-fetch"), ".data | .err, .msg, .state, .rid"), "0\nSuccess\n90\n1");
    let file = scratch.file("srs.conf");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text} lisen 1;")).expect("a file");
    assert_eq!(curl(api, "/api/v1/raw?rpc=reload", &["-X", "POST"]).0, 422);
    assert_eq!(jq(&get("reload-fetch"), ".data | .err != 0, .state, (.msg | contains(\"lisen\"))"), "true\n90\ntrue");
    std::fs::write(&file, text).expect("a file");

    let global = get("query&scope=global");
    assert_eq!(jq(&global, ".data | .listen, .http_api.raw_api.allow_query"), format!("127.0.0.1:{}\non", server.port));
    let vhost = get("query&scope=vhost&vhost=__defaultVhost__");
    assert_eq!(jq(&vhost, ".data[\"vhost __defaultVhost__\"].publish.stall_timeout"), "5s");
    assert_eq!(jq(&get("query&scope=vhost&vhost=none"), ".code"), "2014");
    assert_eq!(jq(&get("query&scope=none"), ".code"), "1060");
    assert_eq!(jq(&get("update&scope=listen&value=1"), ".code"), "1060");
    server.assert_healthy();
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "raw_api { enabled on; }");
    for rpc in ["query", "reload-fetch"] {
        assert_eq!(jq(&curl(api, &format!("/api/v1/raw?rpc={rpc}"), &[]).1, ".code"), "1061", "{rpc}");
    }
    server.assert_healthy();
}

#[test]
fn the_console_of_srs_gets_what_it_reads() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "crossdomain on; raw_api { enabled on; }");
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..12);
    let mut player = Wire::player(server.port, "cam");
    player.wait_frames(24);
    // Its page is of another site. These are its requests, in its order, and the fields that it reads.
    let origin = ["-H", "Origin: http://console.example"];
    for (path, fields) in [
        ("/api/v1/versions", "(.code == 0) and (.data.version | type == \"string\")"),
        (
            "/api/v1/summaries",
            ".data | .ok and (.now_ms > 0) and (.self.cpu_percent != null) and (.self.mem_kbyte > 0)",
        ),
        ("/api/v1/summaries", ".data.system | .cpu_percent != null and .mem_ram_percent != null and .load_1m != null"),
        (
            "/api/v1/vhosts/",
            ".vhosts[0] | (.id | startswith(\"vid-\")) and .enabled and .clients == 2 and .kbps.recv_30s != null and .hls.enabled == false",
        ),
        (
            "/api/v1/streams/?start=0&count=10",
            ".streams[0] | .name == \"cam\" and .app == \"live\" and .publish.active and .video.codec == \"H264\"",
        ),
        (
            "/api/v1/clients/?start=0&count=10",
            "[.clients[] | .ip == \"127.0.0.1\" and (.alive > 0) and (.tcUrl | length > 0)] | all",
        ),
        ("/api/v1/raw?rpc=raw", ".http_api.raw_api.enabled"),
    ] {
        let (status, body) = curl(api, path, &origin);
        assert_eq!((status, jq(&body, fields).as_str()), (200, "true"), "{path}: {body}");
        let script =
            curl(api, &format!("{path}{}callback=JSON_CALLBACK", if path.contains('?') { "&" } else { "?" }), &[]);
        assert!(script.1.starts_with("JSON_CALLBACK({") && script.1.ends_with("})"), "{}", script.1);
    }
    // It kicks a client after the browser has asked for permission.
    let clients = curl(api, "/api/v1/clients/?type=rtmp-play", &origin).1;
    let path = format!("/api/v1/clients/{}", jq(&clients, ".clients[0].id"));
    let (status, head) = curl(api, &path, &["-i", "-X", "OPTIONS", origin[0], origin[1]]);
    assert!(status == 200 && head.contains("Access-Control-Allow-Methods: GET, HEAD, POST, DELETE"), "{head}");
    assert_eq!(jq(&curl(api, &path, &["-X", "DELETE", origin[0], origin[1]]).1, ".code"), "0");
    player.wait_closed(LIMIT);
    server.assert_healthy();
}

#[test]
fn the_commands_of_the_document_work() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..12);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http-api.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands: Vec<_> = blocks.flat_map(str::lines).filter(|line| line.starts_with("curl ")).collect();
    assert!(commands.len() > 4, "{commands:?}");
    for command in commands {
        let command = command.replace("127.0.0.1:1985", &format!("127.0.0.1:{api}"));
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &command]).stdin(Stdio::null());
        // Events do not end by themselves.
        if command.contains("/events") {
            let shell = Process::spawn(&scratch, "events", shell);
            eventually(&command, LIMIT, || shell.log().contains("event: hello").then_some(()));
            continue;
        }
        let output = shell.output().expect("bash runs");
        let (shown, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let is_fine = output.status.success() && !shown.trim().is_empty() && error.is_empty();
        assert!(is_fine, "{command}: {shown} {error}");
    }
    server.assert_healthy();
}
