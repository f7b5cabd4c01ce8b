//! The HTTP API with curl and jq, as operators and the tools of SRS use it.

use std::process::Command;
use std::time::Duration;

use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::common::wire::Wire;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Starts a server with an API. Returns it and the port of the API.
pub(crate) fn start(scratch: &Scratch, api: &str) -> (Server, u16) {
    start_with(scratch, api, "")
}

/// Starts a server with an API and directives in its vhost. Returns it and the port of the API.
pub(crate) fn start_with(scratch: &Scratch, api: &str, vhost: &str) -> (Server, u16) {
    start_with_vhosts(scratch, api, vhost, "")
}

/// Starts the same with more vhosts.
pub(crate) fn start_with_vhosts(scratch: &Scratch, api: &str, vhost: &str, vhosts: &str) -> (Server, u16) {
    for _ in 0..5 {
        let (port, api_port) = (free_port(), free_port());
        let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api_port}; {api} }}");
        let configuration = write_configuration(scratch, port, Settings { root: &root, vhost, vhosts });
        if let Some(server) = Server::run(scratch, port, &configuration) {
            eventually("the API listens", LIMIT, || listens(api_port).then_some(()));
            return (server, api_port);
        }
    }
    panic!("five ports in a row were taken");
}

/// Calls curl, and returns the status and the body.
pub(crate) fn curl(port: u16, path: &str, options: &[&str]) -> (u16, String) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let output = Command::new("curl").args(["-sS", "-m", "20", "-w", "\n%{http_code}"]).args(options).arg(url).output();
    let output = output.expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (body, status) = text.rsplit_once('\n').expect("a status after the body");
    (status.parse().expect("a status"), body.to_owned())
}

/// Returns what jq finds in a body.
pub(crate) fn jq(body: &str, filter: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;
    let mut jq =
        Command::new("jq").args(["-rc", filter]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("jq runs");
    jq.stdin.take().expect("a pipe").write_all(body.as_bytes()).expect("jq reads");
    let output = jq.wait_with_output().expect("jq ends");
    assert!(output.status.success(), "no JSON: {body}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn streams_and_clients_are_listed_and_kicked() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let get = |path: &str| curl(api, path, &[]);
    let (status, body) = get("/api/v1/versions");
    assert_eq!((status, jq(&body, ".code,.data.version")), (200, format!("0\n{}", env!("CARGO_PKG_VERSION"))));

    let mut publisher = Wire::publisher(server.port, "cam");
    let mut players: Vec<_> = (0..3).map(|_| Wire::player(server.port, "cam")).collect();
    send(&mut publisher, 1, 0..12);
    players.iter_mut().for_each(|player| player.wait_frames(24));
    let (_, body) = get("/api/v1/streams");
    let filter = ".total, (.streams[0] | .name, .app, .url, .clients, .players, .publish.active, .state, .video.codec)";
    assert_eq!(jq(&body, filter), "1\ncam\nlive\n/live/cam\n4\n3\ntrue\nlive\nH264");
    assert_eq!(get("/api/v1/streams/").0, 200, "no redirect");
    let (id, cid) = (jq(&body, ".streams[0].id"), jq(&body, ".streams[0].publish.cid"));
    for name in [id.as_str(), "live/cam", "__defaultVhost__/live/cam"] {
        assert_eq!(jq(&get(&format!("/api/v1/streams/{name}")).1, ".stream.name"), "cam", "{name}");
    }
    assert_eq!(get("/api/v1/streams/none"), (200, "{\"code\":2048}".to_owned()));

    let (_, body) = get("/api/v1/clients?start=1&count=2");
    assert_eq!(jq(&body, ".total, (.clients | length)"), "4\n2");
    assert_eq!(jq(&get("/api/v1/clients?type=rtmp-play").1, ".total"), "3");
    assert_eq!(jq(&get("/api/v1/clients?stream=cam&type=fmle-publish").1, ".clients[0].id"), cid);
    assert_eq!(jq(&get("/api/v1/clients?ip=192.0.2.1").1, ".total"), "0");
    assert_eq!(jq(&get(&format!("/api/v1/clients/{cid}")).1, ".client | .publish, .stream"), format!("true\n{id}"));
    assert_eq!(jq(&get("/api/v1/vhosts").1, ".vhosts[] | .name, .clients, .streams"), "__defaultVhost__\n4\n1");

    // One player by its number, the publisher by the name of its stream.
    let (_, body) = get("/api/v1/clients?type=rtmp-play");
    let player = jq(&body, ".clients[0].id");
    assert_eq!(jq(&curl(api, &format!("/api/v1/clients/{player}"), &["-X", "DELETE"]).1, ".code"), "0");
    players[0].wait_closed(LIMIT);
    server.wait_log(&["code=kicked"], LIMIT);
    let gone = || curl(api, &format!("/api/v1/clients/{player}"), &["-X", "DELETE"]).1;
    eventually("the client is gone", LIMIT, || (gone() == "{\"code\":2049}").then_some(()));
    let (status, body) = curl(api, "/api/v1/streams/live/cam/kick", &["-X", "POST"]);
    assert_eq!((status, jq(&body, ".kicked")), (200, "1".to_owned()));
    publisher.wait_closed(LIMIT);
    assert_eq!(curl(api, "/api/v1/streams/live/none/kick", &["-X", "POST"]).0, 404);
    let (_, body) = curl(api, "/api/v1/clients/kick?ip=127.0.0.1", &["-X", "POST"]);
    assert_eq!(jq(&body, ".kicked"), "2");
    eventually("the closes are counted", LIMIT, || {
        let body = get("/api/v1/closes").1;
        (jq(&body, ".closes[] | select(.code == \"kicked\") | .count") == "4").then_some(())
    });
    // A GET changes nothing, whatever it claims to be.
    assert_eq!(get(&format!("/api/v1/clients/{cid}?method=DELETE&callback=f")).0, 200);
    assert_eq!(get("/api/v1/reload").0, 405);
    assert_eq!(curl(api, "/healthz", &["-X", "POST"]).0, 405);
    server.assert_healthy();
}

#[test]
fn every_endpoint_of_srs_answers() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "raw_api { enabled on; }");
    for (path, filter, expected) in [
        ("/", ".urls | has(\"api\")", "true"),
        ("/api", ".urls.v1 != null", "true"),
        ("/api/v1/", ".urls | has(\"streams\") and has(\"clients\")", "true"),
        ("/api/v1/summaries", ".data | .ok and .self.pid > 0 and .system.cpus_online > 0", "true"),
        ("/api/v1/rusages", ".data.ok and .data.ru_maxrss > 0", "true"),
        ("/api/v1/self_proc_stats", ".data.pid == (.pid | tonumber)", "true"),
        ("/api/v1/system_proc_stats", ".data.user > 0", "true"),
        ("/api/v1/meminfos", ".data.MemTotal > .data.RealInUse", "true"),
        ("/api/v1/authors", ".data.license", "MIT"),
        (
            "/api/v1/features",
            ".data | .features.api, (.options | test(\"--with-http\")), (.build2 | tonumber) > 1e9",
            "true\ntrue\ntrue",
        ),
        ("/api/v1/requests?a=b", ".data | .uri, .METHOD, (.server | has(\"link\"))", "/api/v1/requests?a=b\nGET\ntrue"),
        ("/api/v1/raw?rpc=raw", ".http_api | .enabled, .raw_api.allow_reload", "true\nfalse"),
        ("/api/v1/raw?rpc=none", ".code", "1060"),
        ("/api/v1/snapshot", ".data.server.clients, .data.limits.max_connections", "0\n1000"),
        ("/api/v1/vhosts/none", ".code", "2014"),
        ("/api/v1/clients/x", ".code", "2049"),
    ] {
        let (status, body) = curl(api, path, &[]);
        assert_eq!((status, jq(&body, filter).as_str()), (200, expected), "{path}: {body}");
    }
    assert_eq!(curl(api, "/api/v1/none", &[]).0, 404);
    assert_eq!(curl(api, "/healthz", &[]).0, 200);
    assert_eq!(curl(api, "/readyz", &[]).0, 200);
    // Without crossdomain, no page of another site gets anything.
    let (_, head) = curl(api, "/api/v1/streams", &["-I", "-H", "Origin: http://other.example"]);
    assert!(!head.to_lowercase().contains("access-control"), "{head}");
    assert_eq!(curl(api, "/api/v1/streams", &["-X", "OPTIONS"]).0, 405);
    assert_eq!(curl(api, "/api/v1/streams", &["-H", "Host: evil.example"]).0, 403);
    assert_eq!(curl(api, "/api/v1/reload", &["-X", "POST", "-H", "Origin: http://evil.example"]).0, 403);
    server.assert_healthy();
}

#[test]
fn who_may_do_what_depends_on_the_secret() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let auth = "crossdomain on; auth { enabled on; username root; password \"a:b c\"; token look read s1; token help kick s2; }";
    let (mut server, api) = start(&scratch, auth);
    let status = |path: &str, options: &[&str]| curl(api, path, options).0;
    let bearer = |secret: &str| format!("Authorization: Bearer {secret}");
    let (read, kick) = (bearer("s1"), bearer("s2"));
    assert_eq!(status("/api/v1/streams", &[]), 401);
    assert_eq!(status("/metrics", &[]), 401);
    assert_eq!(status("/healthz", &[]), 200, "load balancers have no secret");
    assert!(curl(api, "/api/v1/streams", &["-I"]).1.contains("WWW-Authenticate: Basic realm="));
    assert_eq!(status("/api/v1/streams", &["-u", "root:a:b c"]), 200);
    assert_eq!(status("/api/v1/streams", &["-H", &read]), 200);
    assert_eq!(status("/metrics", &["-H", &read]), 200);
    assert_eq!(status("/api/v1/clients/1", &["-X", "DELETE", "-H", &read]), 403);
    assert_eq!(status("/api/v1/clients/1", &["-X", "DELETE", "-H", &kick]), 200);
    assert_eq!(status("/api/v1/reload", &["-X", "POST", "-H", &kick]), 403);
    assert_eq!(status("/api/v1/reload?dry_run=1", &["-X", "POST", "-u", "root:a:b c"]), 200);

    let (code, head) = curl(api, "/api/v1/streams", &["-i", "-X", "OPTIONS", "-H", "Origin: http://other.example"]);
    assert!(code == 200 && head.contains("Access-Control-Allow-Headers: *, Authorization"), "{head}");
    let (_, script) = curl(api, "/api/v1/clients/9?callback=f.g", &["-H", &read]);
    assert_eq!(script, "f.g({\"code\":2049})");
    assert_eq!(status("/api/v1/versions?callback=alert(1)", &["-H", &read]), 400);

    let guess = bearer("guess");
    let limited = || status("/api/v1/streams", &["-H", &guess]) == 429;
    eventually("guessing is slowed down", LIMIT, || limited().then_some(()));
    assert_eq!(status("/api/v1/streams", &["-H", &read]), 429, "the address has to wait");
    let log = server.log();
    assert!(log.contains("API login failed: count=") && !log.contains("guess") && !log.contains("a:b c"));
    server.assert_healthy();
}

#[test]
fn a_reload_tells_what_it_changes_or_why_it_does_not() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let file = scratch.file("srs.conf");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let post = |path: &str| curl(api, path, &["-X", "POST"]);
    std::fs::write(&file, format!("{text}\nmax_connections 77;\n")).expect("a file");
    let expected = "max_connections\n1000\n77";
    let filter = ".changes[0] | .directive, .before, .after";
    let (status, body) = post("/api/v1/reload?dry_run=1");
    assert_eq!((status, jq(&body, filter).as_str()), (200, expected), "{body}");
    assert_eq!(jq(&curl(api, "/api/v1/snapshot", &[]).1, ".data.limits.max_connections"), "1000");
    let (status, body) = post("/api/v1/reload");
    assert_eq!((status, jq(&body, filter).as_str()), (200, expected), "{body}");
    assert_eq!(jq(&curl(api, "/api/v1/snapshot", &[]).1, ".data.limits.max_connections"), "77");
    std::fs::write(&file, format!("{text}\nmax_conections 78;\n")).expect("a file");
    let (status, body) = post("/api/v1/reload");
    assert_eq!(status, 422);
    assert!(jq(&body, ".errors[0]").contains("unknown directive \"max_conections\""), "{body}");
    std::fs::write(&file, &text).expect("a file");
    server.assert_healthy();
}

#[test]
fn metrics_are_what_prometheus_reads() {
    need!(curl);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let mut publisher = Wire::publisher(server.port, "a\"b{c}");
    send(&mut publisher, 1, 0..4);
    let _player = Wire::player(server.port, "a\"b{c}");
    let (status, text) = curl(api, "/metrics", &[]);
    assert_eq!(status, 200);
    for line in [
        "# TYPE srs_send_bytes_total counter",
        "srs_streams 1",
        "srs_connections{kind=\"play\"} 1",
        "srs_stream_players{vhost=\"__defaultVhost__\",app=\"live\",stream=\"a\\\"b{c}\"} 1",
        "srs_forward_forwarders 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    let script = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as parse\n\
                  print(sorted(s.labels.get('stream', '') for f in parse(sys.stdin.read()) for s in f.samples)[-1])";
    let python = need!(prometheus_parser);
    let file = scratch.file("metrics.txt");
    std::fs::write(&file, &text).expect("a file");
    let input = std::fs::File::open(&file).expect("the file");
    let output = Command::new(python).args(["-c", script]).stdin(input).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "a\"b{c}");
    server.assert_healthy();
}

#[test]
fn the_http_server_has_the_api_only_if_asked_to() {
    need!(curl);
    let scratch = Scratch::new();
    let (mut server, port) = crate::http::start(&scratch, "api on;", Settings::default());
    assert_eq!(curl(port, "/api/v1/versions", &[]).0, 200);
    drop(server);
    let scratch = Scratch::new();
    let (other, port) = crate::http::start(&scratch, "", Settings::default());
    server = other;
    assert_eq!(curl(port, "/api/v1/versions", &[]).0, 404);
    assert_eq!(curl(port, "/metrics", &[]).0, 404);
    server.assert_healthy();
}
