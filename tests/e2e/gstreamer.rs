//! GStreamer's `rtmp2src` and `rtmp2sink`.

use crate::align::Aligned;
use crate::common::flv;
use crate::common::process::Process;
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish, while_stopped};
use crate::tools::need;

#[test]
fn gstreamer_plays() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));

    let first = Player::gstreamer(&scratch, "first", &gst_launch, &url);
    server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    first.wait_time(2300);
    let second = while_stopped(&mut publisher, || {
        let second = Player::gstreamer(&scratch, "second", &gst_launch, &url);
        server.wait_players(2);
        second
    });
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

    let first = Player::ffmpeg(&scratch, "first", &ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    // GStreamer's muxer writes composition times of its own, so the published stream is written to a file, too.
    let published = scratch.file("published.flv");
    let from = format!("location={}", source.path.display());
    let (to_server, to_file) = (format!("location={url}"), format!("location={}", published.display()));
    let mut arguments = vec!["-e", "filesrc", &from, "!", "flvdemux", "name=in"];
    arguments.extend("in.video ! queue ! mux.video in.audio ! queue ! mux.audio".split(' '));
    arguments.extend("flvmux name=mux streamable=true ! tee name=out out. ! queue ! rtmp2sink".split(' '));
    arguments.extend([to_server.as_str(), "out.", "!", "queue", "!", "filesink", "async=false", to_file.as_str()]);
    let mut publisher = Process::start(&scratch, "publisher", &gst_launch, arguments);
    first.wait_time(2300);
    let second = while_stopped(&mut publisher, || {
        let second = Player::ffmpeg(&scratch, "second", &ffmpeg, &url, MediaKinds::Both);
        server.wait_players(2);
        second
    });
    publisher.wait_success(CLIENT_TIMEOUT);

    let published = flv::read(&published);
    assert!(published.len() > source.tags.len() / 2, "GStreamer published {} tags", published.len());
    let (first, second) = (first.finish(&published), second.finish(&published));
    Aligned::new(&published, &first).assert_whole();
    Aligned::new(&published, &second).assert_tail();
    server.assert_healthy();
}
