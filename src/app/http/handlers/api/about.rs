//! The server and the API: the build, the list of endpoints, the request itself, the raw API.

use serde_json::Value;

use super::answer::{error, offload};
use super::call::Call;
use super::core::Core;
use super::json::{BAD_RPC, NO_VHOST, Object, RAW_DISABLED, to_json};
use super::last_reload::LastReload;
use super::system::unix_ms;
use crate::app::http::response::Response;
use crate::config::{Config, HttpApi};
use crate::http::request::Request;
use crate::st::Shared;

const ENDPOINTS: &[(&str, &str)] = &[
    ("versions", "the version of the server"),
    ("summaries", "the summary(pid, argv, pwd, cpu, mem) of the server"),
    ("rusages", "the rusage of the server"),
    ("self_proc_stats", "the self process stats"),
    ("system_proc_stats", "the system process stats"),
    ("meminfos", "the meminfo of system"),
    ("authors", "the license, copyright, authors and contributors"),
    ("features", "the supported features of the server"),
    ("requests", "the request itself, for http debug"),
    ("vhosts", "all vhosts or a specified vhost"),
    (
        "streams",
        "all streams or a specified stream; POST .../kick disconnects its publisher, POST and DELETE .../record start and stop its recording",
    ),
    ("clients", "all clients or a specified client; DELETE disconnects it"),
    ("raw", "raw api of SRS: rpc=raw, rpc=query, rpc=reload, rpc=reload-fetch"),
    ("snapshot", "the state of server, vhosts, streams, features and limits in one"),
    ("forwarders", "the forwarders of all streams"),
    ("processes", "the programs that run for streams"),
    (
        "recordings",
        "all recordings or a specified recording; .../file is its file, POST .../link a link to it without a secret; DELETE removes it",
    ),
    ("history", "the last hour of the server: bit rates, clients, load, memory"),
    ("offenders", "addresses with refused or faulty connections or wrong secrets"),
    ("closes", "the connections closed since the start by reason, and the last ones"),
    ("events", "server-sent events: clients and streams as they come and go"),
    ("bans", "the bans in force; DELETE lifts one"),
    ("config", "the configuration in force, and the origin of each value"),
    ("reload", "POST: reload the configuration; dry_run=1 shows the plan"),
    ("openapi.json", "the description of this API (OpenAPI 3.1)"),
    ("session", "the role that the secret of the request gives"),
];

pub(super) fn endpoints(core: &Core, path: &str) -> Response {
    let describe = |all: &[(&str, &str)]| all.iter().fold(Object::new(), |urls, (name, text)| urls.with(name, text));
    let urls = match path.trim_end_matches('/') {
        "" => describe(&[("api", "the api root"), ("metrics", "metrics for Prometheus"), ("healthz", "liveness")]),
        "api" => describe(&[("v1", "the api version 1.0")]),
        _ => describe(ENDPOINTS),
    };
    core.json(core.envelope().with_object("urls", urls))
}

/// Address of the project of which this server has the API.
const LINK: &str = "https://github.com/ossrs/srs";

/// The description of the API. A test compares it with the endpoints and with their answers.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) fn versions() -> Object {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    Object::new()
        .with("major", part(env!("CARGO_PKG_VERSION_MAJOR")))
        .with("minor", part(env!("CARGO_PKG_VERSION_MINOR")))
        .with("revision", part(env!("CARGO_PKG_VERSION_PATCH")))
        .with("version", env!("CARGO_PKG_VERSION"))
}

pub(super) fn authors() -> Object {
    Object::new().with("license", env!("CARGO_PKG_LICENSE")).with("contributors", env!("CARGO_PKG_NAME"))
}

/// Returns the request itself, without its secrets.
pub(super) fn request(request: &Request) -> Object {
    let query = request.query.as_str();
    let uri = if query.is_empty() { format!("/{}", request.path) } else { format!("/{}?{query}", request.path) };
    let is_secret =
        |name: &str| ["authorization", "cookie", "proxy-authorization"].contains(&name.to_lowercase().as_str());
    let headers = request.headers.iter().fold(Object::new(), |headers, (name, value)| {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        if is_secret(&name) { headers } else { headers.with(&name, value) }
    });
    let server = Object::new()
        .with("sigature", env!("CARGO_PKG_NAME"))
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("link", LINK);
    Object::new()
        .with("uri", uri)
        .with("path", format!("/{}", request.path))
        .with("METHOD", request.method.name())
        .with_object("headers", headers)
        .with_object("server", server.with("time", unix_ms()))
}

pub(super) fn raw(core: &Core, call: &Call<'_>, config: &HttpApi, last_reload: &Shared<LastReload>) -> Response {
    if !config.raw_enabled {
        return error(RAW_DISABLED);
    }
    match call.query("rpc").as_deref() {
        Some("raw") => raw_settings(core, config),
        Some("reload-fetch") if !config.raw_reload => error(RAW_DISABLED),
        Some("reload-fetch") => core.data(last_reload.with(|last| last.describe())),
        Some("query") if !config.raw_query => error(RAW_DISABLED),
        Some("query") => query(core, call),
        _ => error(BAD_RPC),
    }
}

/// Returns the effective configuration as a tree of blocks: of `scope=global` without the vhosts, of `scope=vhost` those or one. May wait.
fn query(core: &Core, call: &Call<'_>) -> Response {
    let (scope, wanted) = (call.query("scope"), call.query("vhost"));
    let is_vhost = match scope.as_deref() {
        None | Some("global" | "minimal") => false,
        Some("vhost") => true,
        Some(_) => return error(BAD_RPC),
    };
    let config = core.ctx.config.get();
    if let Some(name) = wanted.as_deref().filter(|_| is_vhost)
        && !config.vhosts.contains_key(name)
    {
        return error(NO_VHOST);
    }
    // Some hundred values for each vhost.
    match offload(move || to_json(&tree(&config, is_vhost, wanted.as_deref()))) {
        Ok(json) => core.json(core.envelope().with_json("data", &json)),
        Err(busy) => *busy,
    }
}

/// Returns the values of the global blocks, or of the vhosts, or of one vhost.
fn tree(config: &Config, is_vhost: bool, wanted: Option<&str>) -> serde_json::Map<String, Value> {
    let mut tree = serde_json::Map::new();
    for value in config.effective() {
        // From the innermost block to the outermost.
        let blocks: Vec<&str> = value.block.split(" in ").filter(|block| !block.is_empty()).collect();
        let of_vhost = blocks.last().and_then(|block| block.strip_prefix("vhost "));
        let is_wanted = of_vhost.is_none_or(|name| wanted.is_none_or(|wanted| name == wanted));
        if of_vhost.is_some() == is_vhost && is_wanted {
            insert(&mut tree, &blocks, value.directive, value.value);
        }
    }
    tree
}

/// Inserts a value at the end of a path of blocks, which begins with the innermost.
fn insert(tree: &mut serde_json::Map<String, Value>, blocks: &[&str], name: &str, value: Option<String>) {
    let Some((outer, inner)) = blocks.split_last() else {
        tree.insert(name.to_owned(), value.into());
        return;
    };
    let entry = tree.entry(*outer).or_insert_with(|| Value::Object(serde_json::Map::new()));
    // A directive has the form of a block or of a value, not both.
    if let Value::Object(block) = entry {
        insert(block, inner, name, value);
    }
}

fn raw_settings(core: &Core, config: &HttpApi) -> Response {
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    let raw_api = Object::new()
        .with("enabled", config.raw_enabled)
        .with("allow_reload", config.raw_reload)
        .with("allow_query", config.raw_query)
        .with("allow_update", false);
    let http_api = Object::new()
        .with("enabled", config.enabled)
        .with("listen", listen.join(" "))
        .with("crossdomain", config.crossdomain)
        .with_object("raw_api", raw_api);
    core.json(Object::new().with("code", 0).with_object("http_api", http_api))
}
