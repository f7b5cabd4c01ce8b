//! RTMP over TLS, with common clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::align::Aligned;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Creates a self-signed certificate for `localhost` and its key.
pub(crate) fn certificate(scratch: &Scratch, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (scratch.file("cert.pem"), scratch.file("key.pem"));
    let options = "req -x509 -nodes -days 2 -newkey rsa:2048 -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
    let mut openssl = Command::new("openssl");
    openssl
        .args(options.split_whitespace())
        .args(["-subj", &format!("/CN={name}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert);
    let output = openssl.output().expect("openssl is here: test.sh installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (cert, key)
}

/// Starts a server with RTMPS. Returns it and its RTMPS port.
pub(crate) fn server(scratch: &Scratch, more: &str) -> (Server, u16) {
    let (cert, key) = certificate(scratch, "localhost");
    let port = free_port();
    let (cert, key) = (cert.display(), key.display());
    let root = format!("rtmps {{ enabled on; listen 127.0.0.1:{port}; cert {cert}; key {key}; {more} }}");
    (Server::with(scratch, Settings { root: &root, ..Settings::default() }), port)
}

#[test]
fn ffmpeg_publishes_and_plays_over_tls() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let (mut server, port) = server(&scratch, "");
    let source = media::h264_aac(&ffmpeg);
    let url = format!("rtmps://127.0.0.1:{port}/live/livestream");
    let encrypted = Player::ffmpeg(&scratch, "encrypted", &ffmpeg, &url, MediaKinds::Both);
    let plain = Player::ffmpeg(&scratch, "plain", &ffmpeg, &server.url("livestream"), MediaKinds::Both);
    server.wait_players(1);
    // Both players wait for the stream.
    eventually("both play", CLIENT_TIMEOUT, || (server.log().matches("play started: ").count() >= 2).then_some(()));
    publish(&scratch, "publisher", &ffmpeg, source, &url, &[]).wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &encrypted.finish(&source.tags)).assert_whole();
    Aligned::new(&source.tags, &plain.finish(&source.tags)).assert_whole();
    server.assert_healthy();
}

#[test]
fn gstreamer_publishes_and_plays_over_tls() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer_tls));
    let scratch = Scratch::new();
    let (mut server, port) = server(&scratch, "");
    let source = media::h264_aac(&ffmpeg);
    // By default the elements refuse an untrusted certificate.
    let url = format!("rtmps://127.0.0.1:{port}/live/livestream tls-validation-flags=0");
    let file = scratch.file("player.flv");
    let play = format!("-e rtmp2src location={url} ! filesink buffer-mode=unbuffered location={}", file.display());
    let mut player = Process::start(&scratch, "player", &gst_launch, play.split(' '));
    server.wait_log(&["play started"], CLIENT_TIMEOUT);
    let from = source.path.display();
    let pipe = format!(
        "-e filesrc location={from} ! flvdemux name=in in.video ! queue ! mux.video in.audio ! queue ! mux.audio flvmux name=mux streamable=true ! rtmp2sink location={url}"
    );
    let mut publisher = Process::start(&scratch, "publisher", &gst_launch, pipe.split(' '));
    publisher.wait_success(CLIENT_TIMEOUT);
    let frames = || crate::common::flv::read(&file).iter().filter(|tag| tag.is_frame()).count();
    let sent = source.tags.iter().filter(|tag| tag.is_frame()).count();
    eventually("the player has all but the last frames", CLIENT_TIMEOUT, || (frames() + 10 >= sent).then_some(()));
    player.interrupt();
    player.wait(CLIENT_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn plain_and_tls_share_a_port_when_asked_and_only_then() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let (mut both, port) = server(&scratch, "plain on;");
    let source = media::h264_aac(&ffmpeg);
    let encrypted =
        Player::ffmpeg(&scratch, "player", &ffmpeg, &format!("rtmps://127.0.0.1:{port}/live/s"), MediaKinds::Both);
    both.wait_log(&["play started"], CLIENT_TIMEOUT);
    publish(&scratch, "publisher", &ffmpeg, source, &format!("rtmp://127.0.0.1:{port}/live/s"), &[])
        .wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &encrypted.finish(&source.tags)).assert_whole();
    both.assert_healthy();

    let scratch = Scratch::new();
    let (mut only, port) = server(&scratch, "");
    assert!(std::panic::catch_unwind(|| Wire::connect(port)).is_err(), "plain RTMP on a port for RTMPS");
    only.wait_log(&["without TLS"], ANSWER_TIMEOUT);
    only.assert_healthy();
}

#[test]
fn files_that_are_no_certificate_are_said_at_the_start() {
    let scratch = Scratch::new();
    let (cert, key) = certificate(&scratch, "localhost");
    let test = |cert: &Path, key: &Path| {
        let configuration = scratch.file("srs.conf");
        let (cert, key) = (cert.display(), key.display());
        std::fs::write(
            &configuration,
            format!("listen 1935;\nrtmps {{ enabled on; cert {cert}; key {key}; }}\nvhost __defaultVhost__ {{ }}"),
        )
        .expect("a file in the scratch folder");
        let output = Command::new(crate::common::server::binary())
            .arg("-t")
            .arg("-c")
            .arg(&configuration)
            .output()
            .expect("it starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(test(&cert, &key).0);
    let (good, said) = test(&scratch.file("none.pem"), &key);
    assert!(!good && said.contains("none.pem") && said.contains("cannot read the certificate"), "{said}");
    let (good, said) = test(&cert, &cert);
    assert!(!good && said.contains("contains no key"), "{said}");
}

#[test]
fn a_renewed_certificate_is_in_force_after_a_reload() {
    let scratch = Scratch::new();
    let (mut server, port) = server(&scratch, "");
    let shown = || {
        let address = format!("127.0.0.1:{port}");
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &address]).stdin(std::process::Stdio::null());
        String::from_utf8_lossy(&openssl.output().expect("openssl is here").stdout).into_owned()
    };
    let text = shown();
    assert!(text.contains("CN = localhost") || text.contains("CN=localhost"), "{text}");
    // An invalid certificate is rejected, and the old one stays in use.
    let (cert, _) = certificate(&scratch, "renewed");
    let good = std::fs::read(&cert).expect("a certificate");
    std::fs::write(&cert, "nothing").expect("a file in the scratch folder");
    server.process().signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_log(&["contains no certificate"], CLIENT_TIMEOUT);
    assert!(shown().contains("localhost"));
    std::fs::write(&cert, good).expect("a file in the scratch folder");
    server.process().signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_log(&["configuration reloaded"], CLIENT_TIMEOUT);
    assert!(shown().contains("renewed"));
    server.assert_healthy();
}
