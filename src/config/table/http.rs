//! Directives of the HTTP server, the API and the exporter.

use super::super::kind::Kind;
use super::super::reload::Reload::{self, Next, Now};
use super::super::schema::BlockKind::{ApiAuth, ApiHttps, Exporter, HttpApi, HttpServer, RawApi};
use super::super::schema::{Row, Shape};
use super::row::{BUFFER_SIZE, DIRECTORY, FILE, HTTP_REQUESTS, TIMEOUT, TLS, block, number, optional, setting};

const AUTH_SHAPE: Shape =
    Shape::Either { kind: Kind::Choice(&["required", "none"]), default: Some("required"), block: ApiAuth };
const HTTP_CONNECTIONS: Reload = Next("new HTTP connections");

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
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
    optional(Exporter, "label", Kind::Text { name: "TEXT", is_secret: false }, HTTP_REQUESTS,
        "label of the metrics",
        "Label of this name in srs_build_info, as in SRS: to tell servers apart. It also counts for /metrics of the API."),
    optional(Exporter, "tag", Kind::Text { name: "TEXT", is_secret: false }, HTTP_REQUESTS,
        "tag of the metrics",
        "Label of this name in srs_build_info, as label is."),

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
];
