//! Directives of the HTTP callbacks.

use super::super::kind::Kind;
use super::super::schema::BlockKind::HttpHooks;
use super::super::schema::Row;
use super::row::{FILE, HOOKS, millis_of_seconds, number, optional, seconds, setting};

#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
    setting(HttpHooks, "enabled", Kind::Switch, "off", HOOKS,
        "callbacks are on", "Asks and tells the backends. With off, none of the URLs is used."),
    optional(HttpHooks, "on_connect", Kind::Urls, HOOKS,
        "backends that are asked once per connection",
        "Asked once per connection, before its first on_publish or on_play: only then the stream's name and parameters \
         are known. A refusal ends the connection."),
    optional(HttpHooks, "on_close", Kind::Urls, HOOKS,
        "backends that are told of the end of a connection",
        "Told when a connection ends for which on_connect passed. Without URLs for on_connect, that is each client that \
         has asked to publish or play."),
    optional(HttpHooks, "on_publish", Kind::Urls, HOOKS,
        "backends that are asked before a client publishes",
        "Asked when the stream's name is free and reserved for the client, before the client is told anything."),
    optional(HttpHooks, "on_unpublish", Kind::Urls, HOOKS,
        "backends that are told when a client no longer publishes",
        "Told once for each on_publish that passed."),
    optional(HttpHooks, "on_play", Kind::Urls, HOOKS,
        "backends that are asked before a client plays",
        "Asked before a client plays over RTMP or HTTP-FLV, and with sessions of hls also about viewers of HLS."),
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
         more. Events are retried until they are delivered."),
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
];
