//! Directives of a vhost: delivery, publishers, admission and bandwidth tests.

use super::super::kind::Kind;
use super::super::reload::Reload::{self, Next, Now};
use super::super::schema::BlockKind::{Bandcheck, Dvr, Forward, Hls, HttpHooks, HttpRemux, Publish, Security, Vhost};
use super::super::schema::{Row, Shape};
use super::row::{
    BUFFER_SIZE, CHUNK_SIZE, CHUNK_SIZE_TEXT, CLIENTS, DIRECTORY, DISPOSE, ENDLIST_DELAY, FILE, FRAGMENT, ON_ERROR,
    REQUESTS, STREAMS, TD_RATIO, TIMEOUT, WINDOW, block, millis, number, optional, seconds, setting, unsupported,
};

const HLS_SHAPE: Shape = Shape::Either { kind: Kind::Switch, default: Some("off"), block: Hls };
const FORWARD_SHAPE: Shape = Shape::Either { kind: Kind::Targets, default: None, block: Forward };
const PUBLISHERS: Reload = Now("running publishers of the vhost");
const TESTS: Reload = Next("new bandwidth tests");

/// Creates the row of a flat HLS directive, which stands in the vhost instead of the block.
const fn flat_hls(name: &'static str, kind: Kind, default: &'static str, summary: &'static str) -> Row {
    setting(Vhost, name, kind, default, STREAMS, summary, "The same as in the hls block, which takes precedence.")
}

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
    setting(Vhost, "enabled", Kind::Switch, "on", Now("clients of the vhost, which are disconnected if it is off"),
        "the vhost is on",
        "Serves this vhost. With off, its clients are refused and not sent to __defaultVhost__."),
    optional(Vhost, "chunk_size", CHUNK_SIZE, STREAMS, "size of the RTMP chunks that are sent", CHUNK_SIZE_TEXT),
    setting(Vhost, "gop_cache", Kind::Switch, "on", STREAMS,
        "players start at the last keyframe",
        "Starts a player at the last keyframe, so that it has a picture at once. With off, it starts at the live \
         point: the least delay, but no picture until the next keyframe."),
    setting(Vhost, "queue_length", seconds(1, 600), "30s", STREAMS,
        "time that a player may fall behind",
        "Time that a slow player may fall behind before it is moved on to the newest keyframe. The player stays \
         connected; the messages it missed are counted and logged as drops. The limit reached first counts, this one \
         or queue_bytes."),
    setting(Vhost, "queue_bytes", BUFFER_SIZE, "32m", STREAMS,
        "bytes that a player may fall behind",
        "Bytes of the stream that a slow player may fall behind, see queue_length."),
    setting(Vhost, "mw_latency", millis(0, 10_000), "350ms", STREAMS,
        "longest wait for a merged write",
        "Longest time that a message waits to be merged with others into one write: less CPU with many players, for \
         that much delay. From 20ms on, the publisher is read only that often too, though at least every 350 ms."),
    setting(Vhost, "mw_adaptive", Kind::Switch, "on", STREAMS,
        "short waits while the server is idle",
        "Keeps the wait near zero while the server is mostly idle, and widens it to mw_latency as it gets busy. With \
         off, the wait is always mw_latency."),
    setting(Vhost, "min_latency", Kind::Switch, "off", STREAMS,
        "no wait for a merged write",
        "Sends each message at once, regardless of mw_latency and mw_adaptive: the least delay at the highest CPU \
         cost."),
    setting(Vhost, "tcp_nodelay", Kind::Switch, "off", CLIENTS,
        "send small segments at once",
        "Sends small TCP segments at once (TCP_NODELAY). With off, the kernel collects them while a segment is \
         unacknowledged (Nagle's algorithm): much less CPU with many players, for up to one round trip of delay."),
    block(Vhost, "security", Shape::Block(Security), None,
        "who may publish and play",
        "Restricts who may publish and play: by client address, by stream keys, and by signed URLs."),
    block(Vhost, "publish", Shape::Block(Publish), None, "limits for publishers", "Limits for publishers."),
    block(Vhost, "forward", FORWARD_SHAPE, Some(STREAMS),
        "targets that get each published stream",
        "Sends each published stream on to other servers. The form with targets and without a block is that of the \
         original SRS: it means the same as destination in the block. See docs/forwarding.md."),
    setting(Vhost, "forward_tls_verify", Kind::Switch, "on", STREAMS,
        "verification of the certificates of rtmps targets",
        "Requires of an rtmps target a certificate for its name that this system trusts. With off, anybody on the way \
         can read and change the stream. See docs/forwarding.md for private authorities."),
    block(Vhost, "hls", HLS_SHAPE, Some(STREAMS),
        "HTTP Live Streaming",
        "HTTP Live Streaming: playlists and segments as files, with H.264, H.265, AAC and MP3. The form without a \
         block is that of the original SRS, with the hls_ directives beside it in the vhost. A slow, full or missing \
         disk never affects RTMP."),
    flat_hls("hls_path", DIRECTORY, "./objs/nginx/html", "root directory of the HLS files"),
    flat_hls("hls_fragment", FRAGMENT, "10s", "minimum length of a segment"),
    flat_hls("hls_window", WINDOW, "60s", "time that a playlist spans"),
    flat_hls("hls_td_ratio", TD_RATIO, "1.5", "target duration as a multiple of hls_fragment"),
    flat_hls("hls_cleanup", Kind::Switch, "on", "removal of segments that left the playlist"),
    flat_hls("hls_dispose", DISPOSE, "120s", "time after which an ended stream is removed"),
    flat_hls("hls_endlist_delay", ENDLIST_DELAY, "5s", "time after which a stopped stream is marked as over"),
    flat_hls("hls_on_error", ON_ERROR, "ignore", "reaction to a failing disk"),
    block(Vhost, "dvr", Shape::Block(Dvr), None,
        "recording",
        "Records the streams of the vhost as FLV or MP4 files. A slow, full or missing disk never affects \
         RTMP: what it cannot take is dropped, and counted. See docs/recording.md."),
    block(Vhost, "http_remux", Shape::Block(HttpRemux), None,
        "live streams over HTTP",
        "Serves the streams of the vhost over the HTTP server as endless FLV files (HTTP-FLV), and over WebSocket on the \
         same paths: about a second of delay in browsers, with mpegts.js. Viewers are players: the same gates, limits \
         and callbacks apply. See docs/http-flv.md."),
    block(Vhost, "http_hooks", Shape::Block(HttpHooks), None,
        "HTTP callbacks",
        "Asks HTTP backends before clients publish and play, and tells them when clients have stopped, with the \
         requests of SRS 6. Each directive takes several URLs, http or https; a question passes if all agree. See \
         docs/callbacks.md."),
    block(Vhost, "bandcheck", Shape::Block(Bandcheck), None,
        "bandwidth tests",
        "Reserves the vhost for bandwidth tests: with srs_bench bandwidth, with the clients of SRS 0.9 to 4.0, and with \
         browsers at /bandwidth of http_server. See docs/bandwidth-test.md."),
    optional(Vhost, "refer", Kind::Hosts, REQUESTS,
        "hosts whose pages may publish and play",
        "Hosts whose pages may publish and play: the host of the client's pageUrl must be an item or a subdomain of \
         one, and a client without a pageUrl is refused. Without the directive, everybody may. The client itself says \
         its pageUrl, so this prevents embedding elsewhere but is no login."),
    optional(Vhost, "refer_publish", Kind::Hosts, REQUESTS,
        "hosts whose pages may publish", "As refer, for publishing only; a publisher must pass both lists."),
    optional(Vhost, "refer_play", Kind::Hosts, REQUESTS,
        "hosts whose pages may play", "As refer, for playing only; a player must pass both lists."),
    unsupported(Vhost, "ingest"),

    setting(Publish, "stall_timeout", TIMEOUT, "5s", PUBLISHERS,
        "silence after which a new publisher may take the stream over",
        "Time without data after which a publisher loses its stream name to a new publisher. So an encoder that lost \
         its connection can come back before the server has noticed. Until then, the new publisher is refused."),
    setting(Publish, "reconnect_grace", seconds(0, 3600), "10s", PUBLISHERS,
        "time for a lost publisher to return",
        "Time that players wait for a publisher whose connection was lost, before they are told that the stream ended \
         (most players then stop). If the publisher returns in time, they just continue. The regular end of a stream \
         is told at once."),
    setting(Publish, "max_bitrate", number(0, 100_000_000, "kbit/s"), "0", PUBLISHERS,
        "bit rate above which a publisher is disconnected",
        "Bit rate above which a publisher is told so and disconnected, on average over 5 seconds; 0 means no limit."),
    setting(Publish, "timeout", TIMEOUT, "30s", PUBLISHERS,
        "silence after which a publisher is disconnected",
        "Time without data after which a publisher is disconnected."),

    setting(Bandcheck, "enabled", Kind::Switch, "off", TESTS,
        "bandwidth tests are allowed", "Allows bandwidth tests. Clients of this vhost can do nothing else then."),
    optional(Bandcheck, "key", Kind::Text { name: "KEY", is_secret: true }, TESTS,
        "secret of those who may test",
        "Secret of those who may test, as key=KEY in the URL; required. An address that gives ten wrong keys within a \
         minute is refused for the rest of it."),
    setting(Bandcheck, "interval", seconds(0, 86_400), "30s", TESTS,
        "time between the starts of two tests",
        "Minimum time between the starts of two tests of this vhost, whoever makes them. Clients that come too early are \
         told when to try again."),
    setting(Bandcheck, "interval_per_address", seconds(0, 86_400), "30s", TESTS,
        "time between the starts of two tests of one address",
        "Minimum time between the starts of two tests of one address, where the addresses of an IPv6 /64 network count as \
         one. Only a value above interval makes a difference."),
    setting(Bandcheck, "limit_kbps", number(0, 100_000_000, "kbit/s"), "1000", TESTS,
        "bit rate of a test",
        "Maximum bit rate of a test in each direction; 0 means no limit. A test cannot measure more than this."),
    setting(Bandcheck, "max_tests", number(1, 100, ""), "1", TESTS,
        "tests at a time",
        "Tests of this vhost that run at a time. Tests that run together share the line and measure less than it can do."),

    setting(Security, "enabled", Kind::Switch, "off", REQUESTS,
        "addresses are checked", "Checks the address of a client before it publishes or plays. HLS is covered only with sessions of hls."),
    optional(Security, "allow", Kind::Rule, REQUESTS,
        "addresses that may publish or play",
        "Allows publish or play for an address, a network or all; as many lines as needed, in any order. A client is \
         refused if a deny matches, else admitted if an allow matches. A client that no rule matches is admitted only \
         if there are denies and no allow at all."),
    optional(Security, "deny", Kind::Rule, REQUESTS,
        "addresses that must not publish or play",
        "Denies publish or play for an address, a network or all; as many lines as needed. It takes precedence over \
         allow."),
    optional(Security, "stream_keys", FILE, REQUESTS,
        "file of the keys with which clients may publish",
        "File of the keys without which no client may publish, read at each reload; a line is KEY [NAME] [MAX_BITRATE] \
         [ADDRESS]..., see docs/security.md. Applies whether enabled is on or not."),
    optional(Security, "secret", Kind::Text { name: "SECRET", is_secret: true }, REQUESTS,
        "secret of signed URLs",
        "Requires signed URLs to publish, to play and to load HLS: ?expires=UNIX_TIME&sign=HMAC, see docs/security.md. A \
         key of stream_keys is enough to publish. Applies whether enabled is on or not."),
];
