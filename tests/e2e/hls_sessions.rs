//! Sessions of HLS viewers: callbacks, the API, and players that know nothing of them.

use crate::backend::PythonBackend;
use crate::common::http_client::Client;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Settings, free_port};
use crate::http;
use crate::media;
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::tools::need;

fn get(client: &mut Client, path: &str) -> (u16, String) {
    let answer = client.get(path, "");
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

/// Asks the API, which wants to be named by its address.
fn api_get(port: u16, path: &str) -> String {
    let mut client = Client::new(port);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes());
    let answer = client.answer(true).expect("an answer");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Returns the only address of a playlist, below the directory of the playlist.
fn address(playlist: &str) -> String {
    let line = playlist.lines().find(|line| !line.starts_with('#') && !line.is_empty());
    format!("/live/{}", line.unwrap_or_else(|| panic!("no address: {playlist}")))
}

#[test]
fn viewers_of_hls_are_clients_that_a_backend_decides_about() {
    let (python, ffmpeg) = (need!(python), need!(ffmpeg));
    let scratch = Scratch::new();
    let rules = r#"[{"when": {"action": "on_play", "param": "?token=bad"}, "body": "{\"code\":1,\"message\":\"not today\"}"},
                    {"when": {"action": "on_play", "stream": "k3y"}, "body": "{\"code\":0,\"stream\":\"cam\"}"}]"#;
    let backend = PythonBackend::start(&scratch, &python, rules);
    let url = format!("http://127.0.0.1:{}/x", backend.port);
    let vhost = format!(
        "hls {{ enabled on; hls_path html; hls_fragment 1; hls_td_ratio 1; hls_window 60; sessions on; }} \
         http_hooks {{ enabled on; on_play {url}; on_stop {url}; on_connect {url}; on_close {url}; }}"
    );
    let api = free_port();
    let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api}; }}");
    let settings = Settings { root: &root, vhost: &vhost, ..Settings::default() };
    let (mut server, port) = http::start(&scratch, "", settings);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &server.url("cam"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let mut client = Client::new(port);
    let master = eventually("a playlist", CLIENT_TIMEOUT, || {
        let (status, text) = get(&mut client, "/live/cam.m3u8?token=good");
        (status == 200).then_some(text)
    });
    let media = address(&master);
    assert!(
        master.contains("#EXT-X-STREAM-INF:") && media.contains("hls_ctx=") && media.ends_with("&token=good"),
        "{master}"
    );
    let (status, playlist) = get(&mut client, &media);
    assert_eq!(status, 200, "{playlist}");
    let segment = address(&playlist);
    assert!(segment.contains(".ts?hls_ctx="), "{segment}");
    assert_eq!(get(&mut client, &segment).0, 200);

    // Nothing without a session, not from the disk either, and a session is for one stream.
    let bare = segment.split('?').next().expect("a path");
    let invented = format!("{bare}?hls_ctx={}", "0".repeat(32));
    for path in [bare, &invented, &segment.replace("cam-", "other-")] {
        assert_eq!(get(&mut client, path).0, 403, "{path}");
    }
    let (status, text) = get(&mut client, "/live/cam.m3u8?token=bad");
    assert!(status == 403 && text.contains("not today"), "{status} {text}");

    // It is a client of the API, with the stream that it plays.
    let clients = api_get(api, "/api/v1/clients");
    assert!(clients.contains("\"hls-play\""), "{clients}");
    let id = backend.wait("on_play")["client_id"].as_str().expect("a text").to_owned();
    let one = api_get(api, &format!("/api/v1/clients/{id}"));
    assert!(one.contains("hls-play") && one.contains("cam"), "{one}");

    // A session of a server that has restarted goes on, after the backend was asked again.
    let old = media
        .replace(media.split("hls_ctx=").nth(1).expect("it is there").split('&').next().expect("it"), &"a1".repeat(16));
    let (status, playlist) = get(&mut client, &old);
    assert!(status == 200 && playlist.contains(&format!("hls_ctx={}", "a1".repeat(16))), "{status} {playlist}");

    // A granted name is played, and is what the backend is told of.
    let (_, master) = get(&mut client, "/live/k3y.m3u8");
    let (status, playlist) = get(&mut client, &address(&master));
    assert!(status == 200 && address(&playlist).starts_with("/live/cam-"), "{status} {playlist}");
    assert_eq!(get(&mut client, &address(&playlist)).0, 200);

    // ffmpeg knows nothing of sessions.
    let url = format!("http://127.0.0.1:{port}/live/cam.m3u8?token=ffmpeg");
    let arguments = ["-nostdin", "-v", "warning", "-live_start_index", "0", "-i", &url, "-t", "2", "-f", "null", "-"];
    Process::start(&scratch, "player", &ffmpeg, arguments).wait_success(CLIENT_TIMEOUT);
    let stopped = backend.wait_count("on_stop", 2);
    assert!(stopped.iter().all(|fields| fields["stream"] == "cam"), "{stopped:?}");
    let played = backend.fields_of("on_play").into_iter().filter(|fields| fields["param"] != "?token=bad").count();
    assert!(played >= 3);
    eventually("each viewer has left", CLIENT_TIMEOUT, || {
        let closes = backend.fields_of("on_close").len();
        (backend.fields_of("on_stop").len() >= played - 1 && closes >= played).then_some(())
    });
    server.assert_healthy();
}

#[test]
fn an_operator_disconnects_viewers_and_keeps_them_out() {
    let scratch = Scratch::new();
    let api = free_port();
    let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api}; }}");
    let vhost = "hls { enabled on; hls_path html; sessions on; }";
    let (mut server, port) = http::start(&scratch, "", Settings { root: &root, vhost, ..Settings::default() });
    let mut client = Client::new(port);
    let mut ask = |path: &str| get(&mut client, path);
    // A session begins before its stream has files.
    let first = address(&ask("/live/cam.m3u8").1);
    let second = address(&ask("/live/cam.m3u8").1);
    let call = |method: &str, path: &str| {
        let mut client = Client::new(api);
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{api}\r\n\r\n").as_bytes());
        let answer = client.answer(true).expect("an answer");
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON")
    };
    let clients = call("GET", "/api/v1/clients?type=hls-play");
    assert_eq!(clients["total"], 2, "{clients}");
    let id = clients["clients"][0]["id"].as_str().expect("a text");
    assert_eq!(call("DELETE", &format!("/api/v1/clients/{id}"))["kicked"], 1);
    let gone = || (call("GET", &format!("/api/v1/clients/{id}"))["code"] == 2049).then_some(());
    eventually("the viewer has left", CLIENT_TIMEOUT, gone);
    // Its player is told, and does not begin anew without noticing.
    assert_eq!((ask(&first).0, ask(&second).0), (403, 404));
    let closes = call("GET", "/api/v1/closes");
    let last = &closes["recent"][0];
    assert_eq!((&last["client"], &last["code"]), (&clients["clients"][0]["id"], &"kicked".into()), "{closes}");
    // By address, with a ban.
    assert_eq!(call("POST", "/api/v1/clients/kick?ip=127.0.0.1&ban=600")["kicked"], 1);
    assert_eq!(ask(&second).0, 403);
    let (status, text) = ask("/live/cam.m3u8");
    assert!(status == 403 && text.contains("banned"), "{status} {text}");
    server.assert_healthy();
}
