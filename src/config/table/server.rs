//! Directives of the server as a whole, and of its RTMP listeners.

use super::super::kind::Kind;
use super::super::reload::Reload::{self, Next, Now, Restart};
use super::super::schema::BlockKind::{Exporter, HttpApi, HttpServer, PithyPrint, Root, Rtmps, Vhost};
use super::super::schema::{Row, Shape};
use super::row::{
    CHUNK_SIZE, CHUNK_SIZE_TEXT, CLIENTS, FILE, REQUESTS, TIMEOUT, TLS, block, millis, number, optional, setting,
    unsupported,
};

const PITHY_INTERVAL: Kind = millis(100, 3_600_000);
const TANKS: Kind = Kind::Choice(&["console", "file"]);
const LEVELS: Kind = Kind::Choice(&["verbose", "info", "trace", "warn", "error"]);
const LOG: Reload = Now("the log");
const ALL_CLIENTS: Reload = Now("all clients");

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
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
        "Time from the handshake to connect, and from connect or the end of a stream to the next publish or play. A \
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
        "Detaches from the terminal and runs in the background. The command ends when the server serves, or with an error. \
         Use off under a service manager such as systemd."),
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
    unsupported(Root, "heartbeat"),

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
];
