//! GStreamer's `rtmp2src` and `rtmp2sink`.

use std::time::Duration;

use crate::align::Aligned;
use crate::common::flv;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::media;
use crate::players::{CLIENT_TIMEOUT, Kinds, Player, publish};
use crate::tools::need;

#[test]
fn gstreamer_plays() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));

    let first = Player::gstreamer(&scratch, "first", &gst_launch, &url);
    server.wait_clients(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    server.wait_clients(2);
    std::thread::sleep(Duration::from_millis(2500));
    let second = Player::gstreamer(&scratch, "second", &gst_launch, &url);
    publisher.wait_success(CLIENT_TIMEOUT);

    let (first, second) = (first.finish(&source.tags), second.finish(&source.tags));
    Aligned::new(&source.tags, &first).without_lost_end().assert_whole().assert_starts_at_zero();
    Aligned::new(&source.tags, &second).without_lost_end().assert_tail().assert_starts_at_zero();
    server.assert_healthy();
}

#[test]
fn gstreamer_publishes() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));

    let first = Player::ffmpeg(&scratch, "first", &ffmpeg, &url, Kinds::Both);
    server.wait_clients(1);
    // GStreamer's muxer writes composition times of its own, so the published stream is written to a file, too.
    let published = scratch.file("published.flv");
    let from = format!("location={}", source.path.display());
    let (to_server, to_file) = (format!("location={url}"), format!("location={}", published.display()));
    let mut arguments = vec!["-e", "filesrc", &from, "!", "flvdemux", "name=in"];
    arguments.extend("in.video ! queue ! mux.video in.audio ! queue ! mux.audio".split(' '));
    arguments.extend("flvmux name=mux streamable=true ! tee name=out out. ! queue ! rtmp2sink".split(' '));
    arguments.extend([to_server.as_str(), "out.", "!", "queue", "!", "filesink", "async=false", to_file.as_str()]);
    let mut publisher = Process::start(&scratch, "publisher", &gst_launch, arguments);
    eventually("the first player has 2.5 s", CLIENT_TIMEOUT, || (first.frames() > 2500 / 40 + 2500 / 24).then_some(()));
    let second = Player::ffmpeg(&scratch, "second", &ffmpeg, &url, Kinds::Both);
    publisher.wait_success(CLIENT_TIMEOUT);

    let published = flv::read(&published);
    assert!(published.len() > source.tags.len() / 2, "GStreamer published {} tags", published.len());
    let (first, second) = (first.finish(&published), second.finish(&published));
    Aligned::new(&published, &first).assert_whole();
    Aligned::new(&published, &second).assert_tail();
    server.assert_healthy();
}
