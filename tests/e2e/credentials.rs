//! Stream keys and signed URLs, with ffmpeg, rtmpdump and GStreamer.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, write_configuration};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

const SECRET: &str = "s3cr3t of the vhost";

/// Signs as the documentation says, with openssl, which shares nothing with the server.
fn signed(stream: &str, purpose: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
    let expires = now + seconds;
    let script = format!("printf %s '{stream}?expires={expires}{purpose}' | openssl dgst -sha256 -hmac '{SECRET}'");
    let output = Command::new("bash").args(["-c", &script]).output().expect("openssl is here: test.sh installs it");
    let text = String::from_utf8(output.stdout).expect("hexadecimal digits");
    let (_, signature) = text.trim().rsplit_once(' ').expect("algorithm and digest");
    format!("expires={expires}&sign={signature}")
}

fn server(scratch: &Scratch, vhost: &str) -> Server {
    Server::with(scratch, Settings { vhost, ..Settings::default() })
}

/// Asks to publish, and returns code and text of the answer.
fn try_publish(port: u16, stream: &str) -> (String, String) {
    let mut wire = Wire::connect(port);
    wire.connect_app("live");
    let id = wire.create_stream();
    wire.publish(id, stream);
    let due = ["NetStream.Publish.Start", "NetStream.Publish.Denied", "NetStream.Publish.BadName"];
    let answer = wire.wait_command("a decision", |command| due.contains(&command.code()));
    (answer.code().to_owned(), answer.description().to_owned())
}

fn assert_denied(port: u16, stream: &str, text: &str) {
    let (code, description) = try_publish(port, stream);
    assert!(code == "NetStream.Publish.Denied" && description.contains(text), "{stream}: {code} {description}");
}

#[test]
fn a_stream_key_publishes_under_its_name_and_is_shown_nowhere() {
    let (ffmpeg, rtmpdump, gst_launch) = (need!(ffmpeg), need!(rtmpdump), need!(gstreamer));
    let scratch = Scratch::new();
    let keys = scratch.file("keys");
    std::fs::write(&keys, "# KEY NAME\nk3y-of-cam cam\nk3y-of-any\nk3y-of-gate gate 100 10.0.0.0/8\n").expect("a file");
    let vhost = format!("security {{ stream_keys '{}'; }}", keys.display());
    let vhosts = "vhost off.example.com { enabled off; }";
    let mut server = Server::with(&scratch, Settings { vhost: &vhost, vhosts, ..Settings::default() });
    assert_denied(server.port, "cam", "the stream key is not valid");
    // A URL that is refused before the gates are asked is logged without the key, too.
    let mut elsewhere = Wire::connect(server.port);
    elsewhere.connect_app("live");
    let id = elsewhere.create_stream();
    elsewhere.publish(id, "k3y-of-cam?vhost=off.example.com");
    elsewhere.wait_closed(ANSWER_TIMEOUT);
    server.wait_log(&["connection closed: code=refused", "off.example.com"], ANSWER_TIMEOUT);
    assert_denied(server.port, "k3y-of-gate", "not valid for 127.0.0.1");
    assert_denied(server.port, "k3y-of-any", "NAME?key=KEY");
    assert_eq!(try_publish(server.port, "other?a=b&key=k3y-of-any").0, "NetStream.Publish.Start");
    server.wait_log(&["publish started: stream=__defaultVhost__/live/other params_bytes=3"], ANSWER_TIMEOUT);

    let source = media::h264_aac(&ffmpeg);
    let url = server.url("cam");
    let players = [
        Player::ffmpeg(&scratch, "ffplay", &ffmpeg, &url, MediaKinds::Both),
        Player::rtmpdump(&scratch, "rtmpdump", &rtmpdump, &url, &["--live"]),
        Player::gstreamer(&scratch, "gst", &gst_launch, &url),
    ];
    server.wait_players(3);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("k3y-of-cam"), &[]);
    eventually("ten frames at each player", CLIENT_TIMEOUT, || {
        players.iter().all(|player| player.frames() > 10).then_some(())
    });
    // The name is in use, whichever key it has, and a key is not the name of a stream.
    assert_eq!(try_publish(server.port, "k3y-of-cam").0, "NetStream.Publish.BadName");
    let mut wire = Wire::connect(server.port);
    wire.connect_app("live");
    let id = wire.create_stream();
    wire.play(id, "k3y-of-cam");
    assert!(wire.wait_status("NetStream.Play.Failed").description().contains("this is a stream key"));
    publisher.wait_success(CLIENT_TIMEOUT);
    drop(players);

    // An encoder with a wrong key is told so, and ends.
    let mut wrong = publish(&scratch, "wrong", &ffmpeg, source, &server.url("k3y-0f-cam"), &[]);
    assert!(!wrong.wait(CLIENT_TIMEOUT).success());
    assert!(wrong.log().contains("the stream key is not valid"), "{}", wrong.log());

    // A reload reads the file again, and a mistake in it changes nothing.
    std::fs::write(&keys, "new-k3y cam\n").expect("a file");
    server.process().signal(Signal::SIGHUP);
    server.wait_log(&["configuration changed", "stream_keys", "hidden part"], ANSWER_TIMEOUT);
    assert_denied(server.port, "k3y-of-cam", "the stream key is not valid");
    assert_eq!(try_publish(server.port, "new-k3y").0, "NetStream.Publish.Start");
    std::fs::write(&keys, "new-k3y cam\nnew-k3y cam\n").expect("a file");
    server.process().signal(Signal::SIGHUP);
    server.wait_log(&["configuration unchanged", "keys:2: the key stands on an earlier line"], ANSWER_TIMEOUT);
    assert_eq!(try_publish(server.port, "new-k3y").0, "NetStream.Publish.Start");
    let log = server.log();
    assert!(!log.contains("k3y-of") && !log.contains("new-k3y") && !log.contains("k3y-0f"), "a key is in the log");
    server.assert_healthy();
}

#[test]
fn a_missing_file_of_keys_is_an_error_of_the_configuration() {
    let scratch = Scratch::new();
    let vhost = "security { stream_keys ./no-such-file; }";
    let configuration = write_configuration(&scratch, 1935, Settings { vhost, ..Settings::default() });
    let mut command = Command::new(crate::common::server::binary());
    let output = command.arg("-t").arg("-c").arg(&configuration).output().expect("the server can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && said.contains("srs.conf:4: cannot read the stream keys of ./no-such-file"),
        "{said}"
    );
}

#[test]
fn a_signed_url_is_needed_to_publish_and_to_play() {
    let (ffmpeg, rtmpdump) = (need!(ffmpeg), need!(rtmpdump));
    let scratch = Scratch::new();
    let mut server = server(&scratch, &format!("security {{ secret '{SECRET}'; }}"));
    assert_denied(server.port, "cam", "is not signed");
    // A viewer's signature does not allow to publish.
    assert_denied(server.port, &format!("cam?{}", signed("live/cam", "", 60)), "is wrong");
    assert_denied(server.port, &format!("other?{}", signed("live/cam", "&publish", 60)), "is wrong");
    assert_denied(server.port, &format!("cam?{}", signed("live/cam", "&publish", -1)), "has expired");
    let play_url = server.url(&format!("cam?{}", signed("live/cam", "", 60)));
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &play_url, MediaKinds::Both);
    let dump = Player::rtmpdump(&scratch, "rtmpdump", &rtmpdump, &play_url, &["--live"]);
    server.wait_players(2);
    let url = server.url(&format!("cam?{}", signed("live/cam", "&publish", 60)));
    let source = media::h264_aac(&ffmpeg);
    let _publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    eventually("ten frames at each player", CLIENT_TIMEOUT, || {
        (player.frames() > 10 && dump.frames() > 10).then_some(())
    });
    let url = server.url("cam?sign=00&expires=99999999999");
    let mut refused = Process::start(&scratch, "refused", &ffmpeg, ["-nostdin", "-i", &url, "-f", "null", "-"]);
    assert!(!refused.wait(CLIENT_TIMEOUT).success());
    server.wait_log(&["code=denied", "the URL is not signed"], ANSWER_TIMEOUT);
    assert!(!server.log().contains(SECRET));
    server.assert_healthy();
}

#[cfg(all(feature = "hls", feature = "http"))]
#[test]
fn http_flv_of_a_vhost_with_a_secret_is_for_signed_urls_only() {
    use crate::common::http_client::Client;

    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let vhost =
        format!("security {{ secret '{SECRET}'; }} http_remux {{ enabled on; wait 60; mount [app]/[stream].flv; }}");
    let (mut server, port) = crate::http::start(&scratch, "", Settings { vhost: &vhost, ..Settings::default() });
    let publishing = signed("live/cam", "&publish", 600);
    for query in ["", "?sign=00", &format!("?{}", signed("live/other", "", 600)), &format!("?{publishing}")] {
        assert_eq!(Client::new(port).get(&format!("/live/cam.flv{query}"), "").status, 403, "{query}");
    }
    let url = format!("http://127.0.0.1:{port}/live/cam.flv?{}", signed("live/cam", "", 600));
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    let url = server.url(&format!("cam?{publishing}"));
    let _publisher = publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url, &[]);
    eventually("ten frames at the player", CLIENT_TIMEOUT, || (player.frames() > 10).then_some(()));
    server.assert_healthy();
}

#[cfg(all(feature = "hls", feature = "http"))]
#[test]
fn hls_of_a_vhost_with_a_secret_is_for_signed_urls_only() {
    use crate::common::http_client::Client;

    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let vhost = format!(
        "security {{ secret '{SECRET}'; }} hls {{ enabled on; hls_path html; hls_fragment 1; hls_window 60; }}"
    );
    let (mut server, port) = crate::http::start(&scratch, "", Settings { vhost: &vhost, ..Settings::default() });
    let url = server.url(&format!("cam?{}", signed("live/cam", "&publish", 60)));
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url, &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let mut client = Client::new(port);
    let good = signed("live/cam", "", 60);
    let playlist = eventually("segments", CLIENT_TIMEOUT, || {
        let answer = client.get(&format!("/live/cam.m3u8?{good}"), "");
        let text = String::from_utf8(answer.body).expect("text");
        (answer.status == 200 && text.matches("#EXTINF").count() > 2).then_some(text)
    });
    let segment = playlist.lines().find(|line| line.starts_with("cam-")).expect("a segment").to_owned();
    assert!(segment.ends_with(&format!(".ts?{good}")), "{segment}");
    assert_eq!(client.get(&format!("/live/{segment}"), "").status, 200);
    let bare = segment.split('?').next().expect("a name");
    let elsewhere = signed("live/other", "", 60);
    let old = signed("live/cam", "", -1);
    for query in [
        "",
        "?sign=00",
        &format!("?{elsewhere}"),
        &format!("?{old}"),
        &format!("?{}", signed("live/cam", "&publish", 60)),
    ] {
        for file in ["cam.m3u8", bare] {
            // The files are also on disk, below the root of the web server.
            for path in [format!("/live/{file}{query}"), format!("/live/%63{}{query}", &file[1..])] {
                let answer = client.get(&path, "");
                assert_eq!(answer.status, 403, "{path} {:?}", String::from_utf8_lossy(&answer.body));
            }
        }
    }
    // ffmpeg plays with nothing but the URL.
    let url = format!("http://127.0.0.1:{port}/live/cam.m3u8?{good}");
    let arguments = ["-nostdin", "-v", "warning", "-live_start_index", "0", "-i", &url, "-t", "2", "-f", "null", "-"];
    let mut player = Process::start(&scratch, "player", &ffmpeg, arguments);
    player.wait_success(CLIENT_TIMEOUT);
    server.assert_healthy();
}
