//! The table of all directives: the only place with their ranges, defaults, reload effects and descriptions.

use super::kind::Kind;
use super::reload::Reload::{self, Next, Now, Restart};
use super::schema::{BlockKind, Row, Shape};
use super::srs;
use super::units::TimeUnit;
use BlockKind::{
    ApiAuth, ApiHttps, Bandcheck, Dvr, Engine, Exec, Exporter, Forward, Hls, HttpApi, HttpHooks, HttpRemux, HttpServer,
    Ladder, PithyPrint, Publish, RawApi, Root, Rtmps, Security, Transcode, Vhost,
};

/// Creates the row of a directive with a default.
const fn setting(
    block: BlockKind,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reload: Reload,
    summary: &'static str,
    text: &'static str,
) -> Row {
    Row { block, name, shape: Shape::Setting { kind, default: Some(default) }, reload: Some(reload), summary, text }
}

/// Creates the row of a directive without a default.
const fn optional(
    block: BlockKind,
    name: &'static str,
    kind: Kind,
    reload: Reload,
    summary: &'static str,
    text: &'static str,
) -> Row {
    Row { block, name, shape: Shape::Setting { kind, default: None }, reload: Some(reload), summary, text }
}

/// Creates the row of a block.
const fn block(
    block: BlockKind,
    name: &'static str,
    shape: Shape,
    reload: Option<Reload>,
    summary: &'static str,
    text: &'static str,
) -> Row {
    Row { block, name, shape, reload, summary, text }
}

/// Creates the row of a flat HLS directive, which stands in the vhost instead of the block.
const fn flat_hls(name: &'static str, kind: Kind, default: &'static str, summary: &'static str) -> Row {
    setting(Vhost, name, kind, default, STREAMS, summary, "The same as in the hls block, which takes precedence.")
}

const fn unsupported(block: BlockKind, name: &'static str) -> Row {
    Row { block, name, shape: Shape::Unsupported, reload: None, summary: "not supported in this version", text: "" }
}

const fn number(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

const fn text(name: &'static str) -> Kind {
    Kind::Text { name, is_secret: false }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Time { min: min * 1000, max: max * 1000, bare: TimeUnit::Seconds }
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Time { min, max, bare: TimeUnit::Milliseconds }
}

/// Creates a time whose range is in milliseconds and whose numbers without a unit are seconds.
const fn millis_of_seconds(min: u64, max: u64) -> Kind {
    Kind::Time { min, max, bare: TimeUnit::Seconds }
}

const CHUNK_SIZE: Kind = Kind::Size { min: 128, max: 65536 };
const PITHY_INTERVAL: Kind = millis(100, 3_600_000);
const TIMEOUT: Kind = seconds(1, 3600);
const BUFFER_SIZE: Kind = Kind::Size { min: 1 << 20, max: 4 << 30 };
const HLS_SHAPE: Shape = Shape::Either { kind: Kind::Switch, default: Some("off"), block: Hls };
const FORWARD_SHAPE: Shape = Shape::Either { kind: Kind::Targets, default: None, block: Forward };
const AUTH_SHAPE: Shape =
    Shape::Either { kind: Kind::Choice(&["required", "none"]), default: Some("required"), block: ApiAuth };
const FRAGMENT: Kind = Kind::Time { min: 500, max: 600_000, bare: TimeUnit::Seconds };
const WINDOW: Kind = seconds(1, 86_400);
const TD_RATIO: Kind = Kind::Ratio { min: 1000, max: 10_000 };
const DISPOSE: Kind = seconds(0, 604_800);
const ENDLIST_DELAY: Kind = seconds(0, 604_800);
const ON_ERROR: Kind = Kind::Choice(&["ignore", "disconnect"]);
const TANKS: Kind = Kind::Choice(&["console", "file"]);
const LEVELS: Kind = Kind::Choice(&["verbose", "info", "trace", "warn", "error"]);
const LADDER_SHAPE: Shape = Shape::Either { kind: Kind::Heights, default: None, block: Ladder };
const FF_LOG_LEVELS: Kind =
    Kind::Choice(&["quiet", "panic", "fatal", "error", "warning", "info", "verbose", "debug", "trace"]);
const PROGRAM: Kind = Kind::Path("PROGRAM");
const FPS: Kind = Kind::Ratio { min: 0, max: 1_000_000 };
const STALL: Kind = seconds(0, 86_400);
const NICE: Kind = number(0, 19, "");
const CPUS: Kind = number(0, 1024, "");
const PROCESS_MEMORY: Kind = Kind::Size { min: 0, max: 1 << 40 };
const FILE: Kind = Kind::Path("FILE");
const DIRECTORY: Kind = Kind::Path("DIRECTORY");

const CLIENTS: Reload = Next("new connections; nobody is disconnected");
const STREAMS: Reload = Now("running streams of the vhost");
const PUBLISHERS: Reload = Now("running publishers of the vhost");
const REQUESTS: Reload = Next("new requests to connect, publish or play; running streams continue");
const LOG: Reload = Now("the log");
const TLS: Reload = Next("new TLS connections");
const HTTP_CONNECTIONS: Reload = Next("new HTTP connections");
const HTTP_REQUESTS: Reload = Next("new HTTP requests");
const HOOKS: Reload = Now("questions and events after the reload");
const TESTS: Reload = Next("new bandwidth tests");
const ALL_CLIENTS: Reload = Now("all clients");

const COMMANDS: Reload = Next("events after the reload");

const FFMPEG_SUMMARY: &str = "the program";
const FFMPEG_TEXT: &str = "The program: a path, which may be relative to the working directory, or a name that is looked up in \
    PATH.";
const STALL_SUMMARY: &str = "time without output after which ffmpeg is started again";
const STALL_TEXT: &str =
    "Time without progress of the output after which ffmpeg is ended and started again; 0 means never.";
const LAG_SUMMARY: &str = "delay at which ffmpeg is started again";
const LAG_TEXT: &str =
    "Delay of the output against the stream at which ffmpeg is ended and started again; 0 means never.";
const NICE_SUMMARY: &str = "nice value of the process";
const NICE_TEXT: &str = "Nice value of the process: with a higher one it leaves more of a busy processor to others.";
const CPUS_SUMMARY: &str = "processors that a process may use";
const CPUS_TEXT: &str = "Processors that a process may use; 0 means all.";
const MEMORY_SUMMARY: &str = "address space of a process";
const MEMORY_TEXT: &str = "Address space of a process, which is more than its memory; 0 means no limit. ffmpeg takes some \
    hundred megabytes.";

const CHUNK_SIZE_TEXT: &str = "Size of the RTMP chunks that are sent. Large chunks cost the least CPU (srs.conf uses \
    65000); a small size is for clients that cannot handle large ones. After a reload, players get the new size within \
    the stream (Set Chunk Size).";

/// All known directives, block by block.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    optional(Root, "listen", Kind::Addresses,
        Now("new connections; clients of a removed address stay connected"),
        "addresses to serve RTMP on",
        "Addresses to serve RTMP on, as many as needed: a port (on every IPv4 address), ADDRESS:PORT, or \
         [ADDRESS]:PORT for IPv6 only. The word reuseport behind an address lets other processes of the same user \
         listen on it too (SO_REUSEPORT); adding it to an open address, or removing it, takes effect after a restart. \
         Required."),
    setting(Root, "max_connections", number(1, 1_000_000, ""), "1000", CLIENTS,
        "clients served at a time",
        "Publishers and players served at a time; further clients are refused. Each takes a file descriptor, and one \
         more for each forward target of its stream. The server raises the limit of open files (ulimit -n) if it may, \
         and warns if that is too low."),
    setting(Root, "max_connections_per_address", number(0, 1_000_000, ""), "0", CLIENTS,
        "clients of one address served at a time",
        "Clients served at a time per client address; 0 means no limit. The addresses of an IPv6 /64 network count as \
         one; connections from a proxy_protocol balancer do not count. Many players may share one address behind a \
         router, so leave room for them."),
    setting(Root, "max_memory", Kind::Memory { max: 1 << 40 }, "30%", ALL_CLIENTS,
        "memory held for clients",
        "Memory that may be held for all clients together, in bytes or as a share of the machine's memory (or of the \
         control group's limit); 0 means no limit. Above it the server frees caches, then refuses new streams, then \
         disconnects the clients that hold most: see docs/overload.md. Values below 64m are hardly useful."),
    setting(Root, "max_busy", number(0, 100, "percent"), "98", ALL_CLIENTS,
        "CPU share of RTMP work above which the server is overloaded",
        "CPU share of RTMP work above which the server is overloaded; 0 turns this off. After 3 s it rejects new \
         streams (503 over HTTP), after 6 s it disconnects 0.5 % of the players per second, newest first. See \
         docs/overload.md."),
    setting(Root, "handshake_timeout", TIMEOUT, "10s", CLIENTS,
        "time for the handshake",
        "Time that a client has for the RTMP handshake, including that of TLS. A slower client is disconnected."),
    setting(Root, "command_timeout", TIMEOUT, "30s", CLIENTS,
        "time for each of connect, publish and play",
        "Time from the handshake to connect, and again from there, or from the end of a stream, to publish or play. A \
         slower client is disconnected."),
    setting(Root, "send_timeout", TIMEOUT, "30s", CLIENTS,
        "time without progress after which a client is disconnected",
        "Time after which a client that reads nothing of what it is sent is disconnected."),
    setting(Root, "default_app", Kind::Text { name: "NAME", is_secret: false }, "live", REQUESTS,
        "application of clients that name none",
        "Application of RTMP clients that name none: rtmp://host/key is the stream key of this application, and so is \
         __defaultApp__, as in SRS. See docs/configuration.md for all forms of URLs."),
    setting(Root, "chunk_size", CHUNK_SIZE, "4096", Now("running streams of all vhosts without their own chunk_size"),
        "size of the RTMP chunks that are sent", CHUNK_SIZE_TEXT),
    setting(Root, "daemon", Kind::Switch, "off", Restart("a running process cannot leave its terminal"),
        "detach from the terminal",
        "Detaches from the terminal at the start and runs in the background. Errors of the start are printed before \
         that. Use off under a service manager such as systemd."),
    setting(Root, "pid", Kind::Path("FILE | off"), "off", Restart("other programs find the running server by this file"),
        "file with the process id",
        "File with the process id, for programs that send signals; removed at the end. It is locked, so that two \
         servers cannot use the same file."),
    setting(Root, "srs_log_tank", TANKS, "console", LOG,
        "destination of the log",
        "Destination of the log: console is standard output, file is srs_log_file."),
    setting(Root, "srs_log_level", LEVELS, "trace", LOG,
        "lowest level that is logged",
        "Lowest level that is logged, from verbose (everything) to error (failures only). The normal level is trace: \
         connections and summaries. See docs/logging.md."),
    setting(Root, "srs_log_file", FILE, "./objs/srs.log", LOG,
        "file of the log",
        "Log file, used with srs_log_tank file. A relative path starts at the working directory."),
    optional(Root, "proxy_protocol", Kind::Networks, Next("new connections"),
        "load balancers that send a PROXY protocol header",
        "Load balancers whose RTMP connections begin with a PROXY protocol header, version 1 or 2. The client address \
         is taken from the header; a connection from there without one is closed. Use all only where nobody but the \
         balancer can connect."),
    block(Root, "pithy_print", Shape::Block(PithyPrint), None,
        "intervals of the summary lines",
        "Intervals of the summary lines in the log. Each stage writes one line per interval, however many clients it \
         has, for one client after the other. See docs/logging.md."),
    block(Root, "rtmps", Shape::Block(Rtmps), None,
        "RTMP over TLS",
        "RTMP over TLS, for clients that use rtmps://. Needs a server built with ./configure --with-ssl."),
    block(Root, "http_server", Shape::Block(HttpServer), None,
        "HTTP server",
        "HTTP server for the HLS files of live streams (from memory), other files of a directory, and a page at / that \
         lists and plays the streams. The block may also be named http_stream. Needs a server built with \
         ./configure --with-http; another one ignores it, with a warning."),
    block(Root, "exporter", Shape::Block(Exporter), None,
        "metrics on an address of their own",
        "Metrics for Prometheus on an address of their own, as SRS has it. /metrics of http_api has the same."),
    block(Root, "http_api", Shape::Block(HttpApi), None,
        "HTTP API",
        "HTTP API, compatible with that of SRS, and metrics for Prometheus: see docs/http-api.md. Its limits of \
         connections and time are those of http_server. Needs a server built with ./configure --with-http; another one \
         ignores it, with a warning."),
    block(Root, "vhost", Shape::Named(Vhost),
        Some(Now("clients of a removed vhost, which are disconnected; adding one disconnects nobody")),
        "a virtual host",
        "Settings of the streams of one host name; there may be many vhosts. A client that connects to rtmp://HOST/APP \
         gets vhost HOST (in any case of letters), else __defaultVhost__, else it is refused."),

    setting(PithyPrint, "publish", PITHY_INTERVAL, "1100ms", LOG,
        "interval for publishers", "Interval of the summary line of publishers."),
    setting(PithyPrint, "play", PITHY_INTERVAL, "1300ms", LOG,
        "interval for players", "Interval of the summary line of players."),
    setting(PithyPrint, "forwarder", PITHY_INTERVAL, "2000ms", LOG,
        "interval for forwarders", "Interval of the summary line of forwarders."),

    setting(Rtmps, "enabled", Kind::Switch, "off", TLS,
        "RTMP over TLS is on", "Turns RTMP over TLS on."),
    setting(Rtmps, "listen", Kind::Addresses, "1936", TLS,
        "addresses to serve RTMP over TLS on",
        "Addresses to serve RTMP over TLS on, as for the listen at the top of the file, but none of those."),
    setting(Rtmps, "cert", FILE, "./conf/server.crt", TLS,
        "file of the certificate",
        "PEM file with the certificate, followed by the intermediate certificates. It is checked at the start and at \
         each reload, which picks up a renewed certificate. A relative path starts at the working directory."),
    setting(Rtmps, "key", FILE, "./conf/server.key", TLS,
        "file of the private key", "PEM file with the private key of the certificate."),
    setting(Rtmps, "plain", Kind::Switch, "off", TLS,
        "RTMP without TLS on the same ports",
        "Serves clients without TLS on the same ports too; they are recognized by their first byte."),

    setting(HttpServer, "enabled", Kind::Switch, "off", HTTP_CONNECTIONS,
        "the HTTP server is on",
        "Turns the HTTP server on, as srs.conf does. While it is off, no live file is kept in memory."),
    setting(HttpServer, "listen", Kind::Addresses, "8080", HTTP_CONNECTIONS,
        "addresses to serve HTTP on",
        "Addresses to serve HTTP on, as for the listen at the top of the file, but none of those."),
    setting(HttpServer, "dir", DIRECTORY, "./objs/nginx/html", HTTP_REQUESTS,
        "directory of the files",
        "Directory of the files; live files in memory take precedence. Nothing outside it is served, not through \
         symbolic links either, and nothing whose name begins with a dot. A relative path starts at the working \
         directory."),
    setting(HttpServer, "page", Kind::Switch, "on", HTTP_REQUESTS,
        "page with the list of live streams",
        "Serves a page at / that lists the live streams by name and plays them. To hide the stream list, set page off."),
    setting(HttpServer, "api", Kind::Switch, "off", HTTP_REQUESTS,
        "HTTP API on the same ports",
        "Serves the API of http_api below /api/v1 too, whether http_api is enabled or not. Who may use it is set by auth \
         in http_api."),
    setting(HttpServer, "max_connections", number(1, 1_000_000, ""), "4000", HTTP_CONNECTIONS,
        "connections served at a time",
        "HTTP connections served at a time; further ones are answered 503. Each takes up to two file descriptors."),
    setting(HttpServer, "max_connections_per_address", number(0, 1_000_000, ""), "0", HTTP_CONNECTIONS,
        "connections of one address served at a time",
        "HTTP connections served at a time per client address; 0 means no limit. Behind nginx or a CDN, all \
         connections come from a few addresses."),
    setting(HttpServer, "request_timeout", TIMEOUT, "10s", HTTP_CONNECTIONS,
        "time for a request to arrive",
        "Time from the first byte of a request to the last byte of its body. A slower client is answered 408 and \
         disconnected."),
    setting(HttpServer, "idle_timeout", TIMEOUT, "60s", HTTP_CONNECTIONS,
        "time between two requests",
        "Time that a connection may be idle between two requests. It is 5 s at most while three quarters of \
         max_connections are taken."),
    setting(HttpServer, "send_timeout", TIMEOUT, "30s", HTTP_CONNECTIONS,
        "time without progress of a response",
        "Time after which a client that reads nothing of a response is disconnected, plus one second for each 4 KB of \
         the response."),
    setting(HttpServer, "live_memory", BUFFER_SIZE, "512m", Now("segments completed after the reload"),
        "memory for live segments",
        "Memory for live segments. A stream needs hls_window and some segments more: 60 s of 5 Mbit/s are 38 MB. \
         Without room, the oldest segments of the largest stream are dropped and served from dir, which must then be \
         the hls_path of the streams."),

    setting(HttpApi, "enabled", Kind::Switch, "off", HTTP_CONNECTIONS,
        "the HTTP API is on",
        "Turns the API on, as srs.conf does."),
    setting(HttpApi, "listen", Kind::Addresses, "127.0.0.1:1985", HTTP_CONNECTIONS,
        "addresses to serve the API on",
        "Addresses to serve the API on, as for the listen at the top of the file, but none of those. Other addresses \
         than those of the machine itself (127.0.0.1, [::1]) need an auth."),
    setting(HttpApi, "crossdomain", Kind::Switch, "off", HTTP_REQUESTS,
        "pages of other sites may use the API",
        "Lets pages of other sites use the API from a browser (CORS), and with callback=NAME also by JSONP. A browser \
         sends such requests for any page that is open in it, so do not combine it with an API that needs no secret."),
    block(HttpApi, "auth", AUTH_SHAPE, Some(HTTP_REQUESTS),
        "who may use the API",
        "Secrets of those who may use the API. The form without a block is for an API without secrets: required \
         allows loopback addresses only, none allows any."),
    block(HttpApi, "raw_api", Shape::Block(RawApi), None,
        "the raw API of SRS", "The path /api/v1/raw of SRS."),

    block(HttpApi, "https", Shape::Block(ApiHttps), None,
        "the API over TLS",
        "The API over TLS, on addresses of its own and beside that without TLS. Needs a server built with ./configure \
         --with-ssl."),

    setting(ApiHttps, "enabled", Kind::Switch, "off", HTTP_CONNECTIONS,
        "the API over TLS is on", "Turns the API over TLS on, while http_api is on."),
    setting(ApiHttps, "listen", Kind::Addresses, "127.0.0.1:1990", HTTP_CONNECTIONS,
        "addresses to serve the API over TLS on",
        "Addresses to serve the API over TLS on, as for the listen of http_api, but none of those."),
    setting(ApiHttps, "cert", FILE, "./conf/server.crt", TLS,
        "file of the certificate", "PEM file with the certificate, followed by the intermediate certificates. See cert in rtmps."),
    setting(ApiHttps, "key", FILE, "./conf/server.key", TLS,
        "file of the private key", "PEM file with the private key of the certificate."),

    setting(Exporter, "enabled", Kind::Switch, "off", HTTP_CONNECTIONS,
        "the exporter is on", "Turns the exporter on."),
    setting(Exporter, "listen", Kind::Addresses, "127.0.0.1:9972", HTTP_CONNECTIONS,
        "addresses to serve metrics on",
        "Addresses to serve /metrics on. Other addresses than those of the machine itself need an auth in http_api, as the API \
         does."),
    setting(Exporter, "max_streams", number(0, 100_000, ""), "1000", HTTP_REQUESTS,
        "streams with metrics of their own",
        "Streams with metrics of their own, the first ones by name; the others are summed up under the label other. It also \
         counts for /metrics of the API. Each stream adds nine time series to Prometheus."),
    unsupported(Exporter, "label"),
    unsupported(Exporter, "tag"),

    setting(ApiAuth, "enabled", Kind::Switch, "off", HTTP_REQUESTS,
        "secrets are asked for", "Asks for a secret. With off, the block means the same as auth required."),
    optional(ApiAuth, "username", Kind::Text { name: "NAME", is_secret: false }, HTTP_REQUESTS,
        "name of a login",
        "Name of a login (HTTP Basic) that may do everything. It needs a password."),
    optional(ApiAuth, "password", Kind::Text { name: "SECRET", is_secret: true }, HTTP_REQUESTS,
        "password of the login", "Password of the login."),
    optional(ApiAuth, "token", Kind::Token, HTTP_REQUESTS,
        "a token that may be sent instead of a login",
        "A token (Authorization: Bearer SECRET); as many lines as needed, each with a name for the log. read only \
         shows, kick disconnects clients too, admin reloads the configuration too."),

    setting(RawApi, "enabled", Kind::Switch, "off", HTTP_REQUESTS,
        "the raw API is on", "Turns the raw API on."),
    setting(RawApi, "allow_reload", Kind::Switch, "off", HTTP_REQUESTS,
        "it may reload the configuration",
        "Allows POST /api/v1/raw?rpc=reload. POST /api/v1/reload needs no permission here."),
    setting(RawApi, "allow_query", Kind::Switch, "off", HTTP_REQUESTS,
        "it may show the configuration",
        "Allows GET /api/v1/raw?rpc=query. GET /api/v1/config needs no permission here."),

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
        "Restricts who may publish and play: by client address (over RTMP and RTMPS only), by stream keys, and by signed \
         URLs."),
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
        "Records the streams of the vhost as FLV files that can be sought in. A slow, full or missing disk never affects \
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
        "Makes the vhost one for bandwidth tests, and for nothing else: with srs_bench bandwidth, with the clients of SRS \
         0.9 to 4.0, and with browsers at /bandwidth of http_server. See docs/bandwidth-test.md."),
    optional(Vhost, "refer", Kind::Hosts, REQUESTS,
        "hosts whose pages may publish and play",
        "Hosts whose pages may publish and play: the host of the client's pageUrl must be an item or a subdomain of \
         one, and a client without a pageUrl is refused. Without the directive, everybody may. The client itself says \
         its pageUrl, so this prevents embedding elsewhere but is no login."),
    optional(Vhost, "refer_publish", Kind::Hosts, REQUESTS,
        "hosts whose pages may publish", "As refer, for publishing only; a publisher must pass both lists."),
    optional(Vhost, "refer_play", Kind::Hosts, REQUESTS,
        "hosts whose pages may play", "As refer, for playing only; a player must pass both lists."),

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

    setting(Forward, "enabled", Kind::Switch, "on", STREAMS,
        "forwarding is on", "Forwards the streams. With off, none of the destinations is used."),
    optional(Forward, "destination", Kind::Targets, STREAMS,
        "targets that get each published stream",
        "Targets: HOST[:PORT] for a server of the same cluster, or an rtmp:// or rtmps:// URL in which [vhost], [app], \
         [stream] and [param] stand for those of the stream. Each target has its own connection with automatic \
         reconnection, and a slow one delays nobody. See docs/forwarding.md."),
    optional(Forward, "backend", Kind::Urls, HOOKS,
        "backends that are asked for further targets",
        "Asked for further targets when a stream is published, with the request on_forward of SRS; the answer is \
         {\"code\":0,\"data\":{\"urls\":[URL, ...]}}. See docs/callbacks.md."),

    setting(Hls, "enabled", Kind::Switch, "off", STREAMS,
        "HLS is on",
        "Writes the streams of the vhost as HLS. A stream for which a reload turns it off, or changes hls_path, ends \
         its playlist with the next keyframe, after 10 s at the latest."),
    setting(Hls, "hls_path", DIRECTORY, "./objs/nginx/html", STREAMS,
        "root directory of the HLS files",
        "Root directory of the files APP/STREAM.m3u8 and APP/STREAM-N.ts, below a directory of the vhost's name except \
         for __defaultVhost__. N continues after a restart, and no name is used twice. See docs/hls.md for stream \
         names that cannot have HLS."),
    setting(Hls, "hls_fragment", FRAGMENT, "10s", STREAMS,
        "minimum length of a segment",
        "Minimum length of a segment: it ends at the first keyframe after this time, or without video after this time \
         alone. Set the keyframe interval of the encoder to this time or to a part of it."),
    setting(Hls, "hls_window", WINDOW, "60s", STREAMS,
        "time that a playlist spans",
        "Time that a playlist spans, at least three target durations. See docs/hls.md for the number of segments."),
    setting(Hls, "hls_td_ratio", TD_RATIO, "1.5", STREAMS,
        "target duration as a multiple of hls_fragment",
        "Target duration of a playlist as a multiple of hls_fragment, or the longest segment if that is longer. \
         Players reload the playlist about once in this time and do not like it to change, so leave room for late \
         keyframes."),
    setting(Hls, "hls_cleanup", Kind::Switch, "on", STREAMS,
        "removal of segments that left the playlist",
        "Removes segments that left the playlist once no player can be loading them any more. With off, they stay."),
    setting(Hls, "hls_dispose", DISPOSE, "120s", STREAMS,
        "time after which an ended stream is removed",
        "Time after its end after which the files of a stream are removed; 0 means never. Its playlist stays without \
         segments, since it keeps the number of the next one. See docs/hls.md for what bounds the number of files."),
    setting(Hls, "hls_endlist_delay", ENDLIST_DELAY, "5s", STREAMS,
        "time after which a stopped stream is marked as over",
        "Time after its publisher has stopped after which the playlist says that the stream is over (EXT-X-ENDLIST); \
         players then stop at its end. An encoder that publishes again sooner continues the playlist. After a lost \
         connection the playlist says so after hls_dispose."),
    setting(Hls, "hls_on_error", ON_ERROR, "ignore", STREAMS,
        "reaction to a failing disk",
        "Reaction when the files of a stream cannot be written: ignore, or disconnect its publisher."),
    setting(Hls, "sessions", Kind::Switch, "off", HTTP_REQUESTS,
        "viewers are clients",
        "Gives each viewer of the HTTP server a session (the parameter hls_ctx), so that it is a client: security and \
         callbacks decide about it, and it is in the API. Only for playlists and segments that this HTTP server serves. See \
         docs/hls.md."),

    setting(HttpHooks, "enabled", Kind::Switch, "off", HOOKS,
        "callbacks are on", "Asks and tells the backends. With off, none of the URLs is used."),
    optional(HttpHooks, "on_connect", Kind::Urls, HOOKS,
        "backends that are asked once per connection",
        "Asked once per connection, before its first on_publish or on_play: only then the stream's name and parameters \
         are known. A refusal ends the connection."),
    optional(HttpHooks, "on_close", Kind::Urls, HOOKS,
        "backends that are told of the end of a connection",
        "Told when a connection ends for which on_connect passed, or would have passed."),
    optional(HttpHooks, "on_publish", Kind::Urls, HOOKS,
        "backends that are asked before a client publishes",
        "Asked when the stream's name is free and reserved for the client, before the client is told anything."),
    optional(HttpHooks, "on_unpublish", Kind::Urls, HOOKS,
        "backends that are told when a client no longer publishes",
        "Told once for each on_publish that passed."),
    optional(HttpHooks, "on_play", Kind::Urls, HOOKS,
        "backends that are asked before a client plays",
        "Asked before a client plays over RTMP or HTTP-FLV. Viewers of HLS are not asked about."),
    optional(HttpHooks, "on_stop", Kind::Urls, HOOKS,
        "backends that are told when a client no longer plays",
        "Told once for each on_play that passed."),
    optional(HttpHooks, "on_bandwidth", Kind::Urls, HOOKS,
        "backends that are told the result of a bandwidth test",
        "Told when a bandwidth test of this vhost is complete, with its figures. See docs/bandwidth-test.md."),
    optional(HttpHooks, "on_update", Kind::Urls, HOOKS,
        "backends that are asked again about clients that are in",
        "Asked every hooks_recheck about each client that publishes or plays. A refusal disconnects the client; a backend \
         that does not answer disconnects nobody."),
    optional(HttpHooks, "on_dvr", Kind::Urls, HOOKS,
        "backends that are told of recordings",
        "Told of each recording that is complete."),
    optional(HttpHooks, "on_hls", Kind::Urls, HOOKS,
        "backends that are told of HLS segments",
        "Told of each segment when its file is written."),
    optional(HttpHooks, "on_hls_notify", Kind::Urls, HOOKS,
        "URLs that are fetched for each HLS segment",
        "One of the URLs, chosen at random, is fetched for each segment when its file is written. [app], [stream], [param], \
         [ts_url], [server_id] and [service_id] in it stand for those of the segment."),
    optional(HttpHooks, "on_server_start", Kind::Urls, HOOKS,
        "backends that are told of a start of the server",
        "Told when the server has started, and what is live then."),
    setting(HttpHooks, "hooks_timeout", millis_of_seconds(100, 10_000), "3s", HOOKS,
        "time for one request",
        "Time for one request to a backend, from the connection to the end of its answer."),
    setting(HttpHooks, "hooks_retry", number(0, 3, ""), "1", HOOKS,
        "further attempts of a question",
        "Further attempts if a backend cannot be reached, does not answer in time, or answers with a status of 500 or \
         more. What is only told is retried until it is delivered."),
    setting(HttpHooks, "on_hook_failure", Kind::Choice(&["deny", "allow"]), "deny", HOOKS,
        "decision while a backend does not answer",
        "Decision about a client if a backend gave no answer in all attempts. A backend that failed 5 times in a row is \
         not asked again for 5 s, and clients need not wait."),
    setting(HttpHooks, "hooks_recheck", seconds(1, 86_400), "30s", HOOKS,
        "time between two on_update", "Time between two on_update about a client."),
    setting(HttpHooks, "hooks_format", Kind::Choice(&["json", "form"]), "json", HOOKS,
        "form of requests and answers",
        "json is that of SRS. form is that of nginx-rtmp: url-encoded fields, a status of 2xx allows, and 3xx allows under \
         the name in Location."),
    optional(HttpHooks, "hooks_secret", Kind::Text { name: "SECRET", is_secret: true }, HOOKS,
        "secret with which requests are signed",
        "Adds X-SRS-Signature: sha256=HMAC with the HMAC-SHA256 of the body to each request, so that a backend can tell \
         them from others."),
    optional(HttpHooks, "hooks_spool", FILE, HOOKS,
        "file that keeps events over a restart",
        "Keeps the events that are not delivered in a file, so that they are told after a restart, also after a crash. \
         Several vhosts may have the same file."),

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

    setting(Dvr, "enabled", Kind::Switch, "off", STREAMS,
        "recording is on",
        "Records the streams that dvr_apply names. After a reload that turns it on, a recording begins at the next keyframe."),
    setting(Dvr, "dvr_apply", Kind::Streams, "all", STREAMS,
        "streams that are recorded", "Streams that are recorded: all, or some by application and name."),
    setting(Dvr, "dvr_plan", Kind::Choice(&["session", "segment"]), "session", STREAMS,
        "where a file ends",
        "End of a file: session is that of the publisher, segment is also after dvr_duration."),
    setting(Dvr, "dvr_path", FILE, "./objs/nginx/html/[app]/[stream].[timestamp].flv", STREAMS,
        "names of the files",
        "Name of a file, in which [vhost], [app], [stream], [2006], [01], [02], [15], [04], [05], [999] and [timestamp] \
         stand for the stream and the time of its start. Until its end it has .tmp behind it; a name that is taken gets a \
         number. After a reload, a running recording goes on in a new file."),
    setting(Dvr, "dvr_duration", seconds(1, 604_800), "30s", STREAMS,
        "length of a file of dvr_plan segment",
        "Length of a file of dvr_plan segment, which ends at the next keyframe."),
    setting(Dvr, "dvr_wait_keyframe", Kind::Switch, "on", STREAMS,
        "files begin with a keyframe",
        "Waits for a keyframe before dvr_plan segment begins the next file. With off, files have their exact length, and \
         players show no picture until the first keyframe."),
    setting(Dvr, "time_jitter", Kind::Choice(&["full", "zero", "off"]), "full", STREAMS,
        "start of the timestamps",
        "Timestamps of a file start at 0; with off, they are those of the stream. They are corrected in any case, so full \
         and zero mean the same."),
    setting(Dvr, "dvr_max_age", seconds(0, 315_360_000), "0", STREAMS,
        "age after which a recording is removed",
        "Age after which a recording is removed; 0 means never. Only files that this server has recorded are removed."),
    setting(Dvr, "dvr_max_size", Kind::Size { min: 0, max: 1 << 50 }, "0", STREAMS,
        "size of all recordings",
        "Size of all recordings of the vhost, above which the oldest are removed; 0 means no limit."),
    setting(Dvr, "dvr_min_free", Kind::Size { min: 0, max: 1 << 50 }, "1g", STREAMS,
        "free space that recordings leave",
        "Free space that recordings leave on the file system: below it they end, which is logged, and go on when there is \
         more; 0 means that they fill it."),

    setting(HttpRemux, "enabled", Kind::Switch, "off", HTTP_REQUESTS,
        "HTTP-FLV is on", "Turns live streams over HTTP on. Needs http_server."),
    setting(HttpRemux, "mount", Kind::Mounts, "[vhost]/[app]/[stream].flv", HTTP_REQUESTS,
        "paths of the streams",
        "Paths of the streams, with or without a directory before [app]. The vhost is no part of the path: it is the host \
         of the request, or the parameter vhost, as for RTMP."),
    setting(HttpRemux, "has_audio", Kind::Switch, "on", HTTP_REQUESTS,
        "viewers get audio", "Sends audio. With off, viewers get video only."),
    setting(HttpRemux, "has_video", Kind::Switch, "on", HTTP_REQUESTS,
        "viewers get video", "Sends video. With off, viewers get audio only."),
    setting(HttpRemux, "wait", seconds(0, 300), "5s", HTTP_REQUESTS,
        "time that a viewer waits for a publisher",
        "Time that a viewer waits for a stream that nobody publishes, before it is answered 404."),

    setting(Security, "enabled", Kind::Switch, "off", REQUESTS,
        "addresses are checked", "Checks the address of a client before it publishes or plays over RTMP."),
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

    unsupported(HttpRemux, "drop_if_not_match"),
    unsupported(HttpRemux, "fast_cache"),
    unsupported(HttpRemux, "guess_has_av"),

    // Remove a line when its feature arrives.
    setting(Root, "ff_log_dir", Kind::Path("DIRECTORY | /dev/null"), "./objs", Next("processes started after the reload"),
        "directory of the log files of ffmpeg and of commands",
        "Directory of the log files ffmpeg-encoder-VHOST-APP-STREAM-ENGINE.log and exec-….log; /dev/null turns them off. A \
         file of 1 MB becomes FILE.log.1, and of more than 256 files the oldest are removed."),
    setting(Root, "ff_log_level", FF_LOG_LEVELS, "info", Now("running engines, which are started again"),
        "level of ffmpeg's own log", "Level of ffmpeg's own log (its option -loglevel)."),
    setting(Root, "max_processes", number(0, 10_000, ""), "64", Next("processes started after the reload"),
        "engines and commands that run at a time",
        "Engines and commands that run at a time; further ones wait until one has ended."),
    block(Vhost, "transcode", Shape::Labelled(Transcode), Some(STREAMS),
        "engines of ffmpeg for published streams",
        "Runs ffmpeg for each published stream, once for each engine: for all streams of the vhost, those of an application \
         (transcode APP), or one stream (transcode APP/STREAM). All blocks that fit a stream apply. See docs/transcoding.md."),
    block(Vhost, "ladder", LADDER_SHAPE, Some(STREAMS),
        "renditions of published streams",
        "Makes renditions STREAM_720p and so on of each published stream, with aligned keyframes and never larger than the \
         stream, by one ffmpeg for all of them; the embedded HTTP server then answers STREAM.m3u8 with a master playlist. \
         The form with heights and without a block has the defaults of the block. See docs/transcoding.md."),
    block(Vhost, "exec", Shape::Block(Exec), None,
        "commands that run at events of streams",
        "Runs commands at events, without a shell. In their arguments, [vhost], [app], [stream], [param], [port], [url] and \
         [engine] stand for those of the stream. See docs/transcoding.md."),

    setting(Transcode, "enabled", Kind::Switch, "off", STREAMS,
        "the engines of the block are on", "Turns the engines of the block on."),
    setting(Transcode, "ffmpeg", PROGRAM, "ffmpeg", STREAMS, FFMPEG_SUMMARY, FFMPEG_TEXT),
    block(Transcode, "engine", Shape::Labelled(Engine), Some(STREAMS),
        "an engine", "An ffmpeg with its options; [engine] in its output stands for its name."),
    setting(Transcode, "stall_timeout", STALL, "30s", STREAMS, STALL_SUMMARY, STALL_TEXT),
    setting(Transcode, "max_lag", STALL, "60s", STREAMS, LAG_SUMMARY, LAG_TEXT),
    setting(Transcode, "nice", NICE, "5", STREAMS, NICE_SUMMARY, NICE_TEXT),
    setting(Transcode, "max_cpus", CPUS, "0", STREAMS, CPUS_SUMMARY, CPUS_TEXT),
    setting(Transcode, "max_process_memory", PROCESS_MEMORY, "0", STREAMS, MEMORY_SUMMARY, MEMORY_TEXT),

    setting(Engine, "enabled", Kind::Switch, "off", STREAMS, "the engine is on", "Turns the engine on."),
    block(Engine, "perfile", Shape::Free, Some(STREAMS),
        "options in front of the input",
        "Options of ffmpeg in front of its input, such as re; for -re. Each has at most one value, in quotes if it contains \
         blanks."),
    setting(Engine, "iformat", text("FORMAT"), "flv", STREAMS,
        "format of the input", "Format of the input (-f); off leaves it out."),
    block(Engine, "vfilter", Shape::Free, Some(STREAMS),
        "filters", "Options between input and video, such as filter_complex or vf."),
    optional(Engine, "vcodec", text("ENCODER"), STREAMS,
        "encoder of video",
        "Encoder of video: any that this ffmpeg has, copy to keep the video as it is, or vn for none. Required."),
    setting(Engine, "vbitrate", number(0, 1_000_000, "kbit/s"), "0", STREAMS,
        "bit rate of video", "Bit rate of video (-b:v); 0 leaves it to the encoder."),
    setting(Engine, "vfps", FPS, "0", STREAMS,
        "frames in a second", "Frames in a second (-r); 0 keeps those of the input."),
    setting(Engine, "vwidth", number(0, 16_384, "pixels"), "0", STREAMS,
        "width of the picture",
        "Width of the picture, with vheight (-s and -aspect). Odd numbers are rounded down; 0 keeps the size."),
    setting(Engine, "vheight", number(0, 16_384, "pixels"), "0", STREAMS,
        "height of the picture", "Height of the picture, see vwidth."),
    setting(Engine, "vthreads", number(0, 1024, ""), "1", STREAMS,
        "threads of the encoder", "Threads of the encoder (-threads); 0 leaves that to ffmpeg."),
    optional(Engine, "vprofile", text("PROFILE"), STREAMS,
        "profile of the encoder", "Profile of the encoder (-profile:v), such as main."),
    optional(Engine, "vpreset", text("PRESET"), STREAMS,
        "preset of the encoder", "Preset of the encoder (-preset), such as veryfast."),
    block(Engine, "vparams", Shape::Free, Some(STREAMS),
        "further options of video", "Further options of video, such as g 50; for -g 50."),
    optional(Engine, "acodec", text("ENCODER"), STREAMS,
        "encoder of audio",
        "Encoder of audio: any that this ffmpeg has, copy to keep the audio as it is, or an for none. Required."),
    setting(Engine, "abitrate", number(0, 100_000, "kbit/s"), "0", STREAMS,
        "bit rate of audio", "Bit rate of audio (-b:a); 0 leaves it to the encoder."),
    setting(Engine, "asample_rate", number(0, 384_000, "Hz"), "0", STREAMS,
        "sample rate of audio", "Sample rate of audio (-ar); 0 keeps that of the input."),
    setting(Engine, "achannels", number(0, 16, ""), "0", STREAMS,
        "channels of audio", "Channels of audio (-ac); 0 keeps those of the input."),
    block(Engine, "aparams", Shape::Free, Some(STREAMS),
        "further options of audio",
        "Further options of audio. With acodec copy only bsf:a is used, as in SRS."),
    setting(Engine, "oformat", text("FORMAT"), "flv", STREAMS,
        "format of the output", "Format of the output (-f); off leaves it out."),
    optional(Engine, "output", Kind::Text { name: "URL", is_secret: true }, STREAMS,
        "output of ffmpeg",
        "The output, with the variables [vhost], [port], [app], [stream], [param], [engine], [timestamp] and those of times. \
         A stream of this server that an engine has made is never transcoded again. Required."),

    setting(Ladder, "enabled", Kind::Switch, "off", STREAMS, "the ladder is on", "Turns the ladder on."),
    optional(Ladder, "heights", Kind::Heights, STREAMS,
        "heights of the renditions",
        "Heights of the renditions; those above the height of the stream are left out."),
    setting(Ladder, "ffmpeg", PROGRAM, "ffmpeg", STREAMS, FFMPEG_SUMMARY, FFMPEG_TEXT),
    setting(Ladder, "vcodec", text("ENCODER"), "libx264", STREAMS,
        "encoder of video", "Encoder of video, such as libx264, or that of a GPU."),
    setting(Ladder, "vpreset", text("PRESET"), "veryfast", STREAMS,
        "preset of the encoder", "Preset of the encoder (-preset); off leaves it out."),
    setting(Ladder, "acodec", text("ENCODER"), "copy", STREAMS,
        "encoder of audio", "Encoder of audio; copy keeps the audio of the stream in all renditions."),
    setting(Ladder, "abitrate", number(8, 100_000, "kbit/s"), "128", STREAMS,
        "bit rate of audio", "Bit rate of audio, unless acodec is copy."),
    setting(Ladder, "keyframe_interval", millis_of_seconds(200, 60_000), "2s", STREAMS,
        "time between keyframes",
        "Time between keyframes, which all renditions have at the same times. Make hls_fragment a multiple of it."),
    setting(Ladder, "max_fps", FPS, "0", STREAMS,
        "most frames in a second", "Frames in a second of all renditions; 0 keeps those of the stream."),
    setting(Ladder, "stall_timeout", STALL, "30s", STREAMS, STALL_SUMMARY, STALL_TEXT),
    setting(Ladder, "max_lag", STALL, "60s", STREAMS, LAG_SUMMARY, LAG_TEXT),
    setting(Ladder, "nice", NICE, "5", STREAMS, NICE_SUMMARY, NICE_TEXT),
    setting(Ladder, "max_cpus", CPUS, "0", STREAMS, CPUS_SUMMARY, CPUS_TEXT),
    setting(Ladder, "max_process_memory", PROCESS_MEMORY, "0", STREAMS, MEMORY_SUMMARY, MEMORY_TEXT),

    setting(Exec, "enabled", Kind::Switch, "off", STREAMS, "commands are on", "Turns the commands on."),
    optional(Exec, "publish", Kind::Command, STREAMS,
        "a command that runs while a stream is published",
        "A command that is started when a stream is published, started again when it ends, and stopped with the stream, as \
         exec_push of nginx-rtmp. As many lines as needed."),
    optional(Exec, "on_publish", Kind::Command, COMMANDS,
        "a command that runs when a stream is published", "A command that runs once when a stream is published."),
    optional(Exec, "on_unpublish", Kind::Command, COMMANDS,
        "a command that runs when a stream has ended", "A command that runs once when a stream has ended."),
    optional(Exec, "on_play", Kind::Command, COMMANDS,
        "a command that runs when a client plays", "A command that runs once when a client plays over RTMP."),
    optional(Exec, "on_stop", Kind::Command, COMMANDS,
        "a command that runs when a client has stopped", "A command that runs once when such a client has stopped."),
    setting(Exec, "timeout", seconds(0, 86_400), "60s", COMMANDS,
        "time for a command that runs once",
        "Time after which a command that runs once is ended; 0 means never."),
    setting(Exec, "nice", NICE, "5", COMMANDS, NICE_SUMMARY, NICE_TEXT),
    setting(Exec, "max_cpus", CPUS, "0", COMMANDS, CPUS_SUMMARY, CPUS_TEXT),
    setting(Exec, "max_process_memory", PROCESS_MEMORY, "0", COMMANDS, MEMORY_SUMMARY, MEMORY_TEXT),

    unsupported(Root, "heartbeat"),
    unsupported(Vhost, "ingest"),
];

/// Names of root directives in other versions, and their names here.
pub(super) const ALIASES: &[(&str, &str)] = &[("http_stream", "http_server")];

/// Returns the row of a directive in a block.
pub(super) fn find(block: BlockKind, name: &str) -> Option<&'static Row> {
    TABLE.iter().chain(srs::ROWS).find(|row| row.block == block && row.name == name)
}

/// Returns the place of a row in the table.
pub(super) fn index(row: &'static Row) -> usize {
    TABLE.iter().position(|other| std::ptr::eq(other, row)).unwrap_or(TABLE.len())
}

/// Returns the rows of a block, in the order of the table.
pub(super) fn rows(block: BlockKind) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().chain(srs::ROWS).filter(move |row| row.block == block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_and_every_example_is_valid() {
        for row in TABLE {
            if let Shape::Setting { kind, default } | Shape::Either { kind, default, .. } = row.shape {
                let example = row.example();
                let words: Vec<_> = example.trim_end_matches(';').split(' ').skip(1).collect();
                assert!(kind.read(&words).is_ok(), "{example}");
                assert!(default.is_none_or(|d| kind.read(&[d]).is_ok()), "{}", row.name);
            }
        }
    }

    #[test]
    fn names_are_plain_and_stand_once_in_a_block() {
        for (i, row) in TABLE.iter().enumerate() {
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            assert!(TABLE[..i].iter().all(|other| (other.block, other.name) != (row.block, row.name)), "{}", row.name);
        }
    }

    #[test]
    fn each_row_has_a_reload_effect_and_a_description_of_at_most_three_sentences() {
        for row in TABLE {
            let is_supported = !matches!(row.shape, Shape::Unsupported);
            assert_eq!(row.reload.is_some(), is_supported && !matches!(row.shape, Shape::Block(_)), "{}", row.name);
            assert!(!row.summary.is_empty() && !row.summary.ends_with('.'), "{}", row.name);
            if is_supported {
                let sentences = row.text.matches(". ").count() + 1;
                assert!(row.text.ends_with('.') && sentences <= 3, "{}: {sentences} sentences", row.name);
            }
        }
    }
}
