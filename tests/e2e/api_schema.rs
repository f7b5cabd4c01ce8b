//! The description of the API (OpenAPI) against the API: each path answers, and each answer has the fields that are described, no
//! fewer and no more.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::common::wire::Wire;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Keywords of schemas that describe and do not decide here.
const IGNORED: [&str; 7] = ["description", "minimum", "maximum", "minLength", "default", "pattern", "format"];

/// An answer: status, content type without parameters, body.
type Answer = (u16, String, String);

fn ask(api: u16, method: &str, path: &str) -> Answer {
    let url = format!("http://127.0.0.1:{api}{path}");
    let options = ["-sS", "-m", "20", "-X", method, "-w", "\n%{http_code} %{content_type}"];
    let output = Command::new("curl").args(options).arg(url).output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, end) = text.rsplit_once('\n').expect("a status after the body");
    let (status, kind) = end.split_once(' ').expect("a content type");
    let kind = kind.split(';').next().unwrap_or_default().to_owned();
    (status.parse().expect("a status"), kind, body.to_owned())
}

/// The document.
struct Schema(Value);

impl Schema {
    fn resolve<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
            Some(pointer) => self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere")),
            None => node,
        }
    }

    /// Checks a value against a schema.
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolve(schema);
        let keywords = schema.as_object().expect("a schema is an object");
        for (keyword, expected) in keywords {
            let is_fine = match keyword.as_str() {
                "type" => is_type(expected, value),
                "const" => expected == value,
                "enum" => expected.as_array().is_some_and(|all| all.contains(value)),
                "anyOf" => {
                    let all = expected.as_array().expect("a list");
                    let errors: Vec<_> = all.iter().filter_map(|one| self.check(one, value, at).err()).collect();
                    if errors.len() == all.len() {
                        return Err(errors.join(" and "));
                    }
                    true
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(expected, item, &format!("{at}[{index}]"))?;
                    }
                    true
                }
                "properties" | "required" | "additionalProperties" => true,
                other if IGNORED.contains(&other) => true,
                other => panic!("{at}: the test does not know the keyword {other}"),
            };
            if !is_fine {
                return Err(format!("{at}: {value} instead of {keyword} {expected}"));
            }
        }
        value.as_object().map_or(Ok(()), |object| self.check_object(keywords, object, at))
    }

    fn check_object(&self, schema: &Map<String, Value>, object: &Map<String, Value>, at: &str) -> Result<(), String> {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        if let Some(missing) = required.into_iter().find(|name| !object.contains_key(*name)) {
            return Err(format!("{at}.{missing} is missing"));
        }
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match (schema.get("properties").and_then(|all| all.get(name)), schema.get("additionalProperties")) {
                (Some(schema), _) => self.check(schema, value, &at)?,
                (None, Some(Value::Bool(false))) => return Err(format!("{at} is not described")),
                (None, Some(schema @ Value::Object(_))) => self.check(schema, value, &at)?,
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// Fails unless the answer to a request is one that the document describes. Returns its JSON.
    fn assert_described(&self, api: u16, method: &str, template: &str, path: &str) -> (u16, Value) {
        let (status, kind, body) = ask(api, method, path);
        let operation = &self.0["paths"][template][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {template} is not described");
        let response = self.resolve(&operation["responses"][status.to_string()]);
        let content = &response["content"][&kind];
        assert!(content.is_object(), "{method} {path}: {status} {kind} is not described: {body}");
        if !kind.ends_with("json") {
            return (status, Value::Null);
        }
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"));
        if let Err(error) = self.check(&content["schema"], &value, "answer") {
            panic!("{method} {path}: {error}");
        }
        (status, value)
    }
}

fn is_type(expected: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no type {other}"),
    };
    match expected {
        Value::Array(all) => all.iter().filter_map(Value::as_str).any(is),
        one => one.as_str().is_some_and(is),
    }
}

/// Starts a server with something to show under each path.
fn start(scratch: &Scratch) -> (Server, u16) {
    for _ in 0..5 {
        let (port, api, dead) = (free_port(), free_port(), free_port());
        let root = format!(
            "http_api {{ enabled on; listen 127.0.0.1:{api}; raw_api {{ enabled on; allow_reload on; allow_query on; }} }}"
        );
        let vhost = format!("forward 127.0.0.1:{dead};");
        let settings = Settings { root: &root, vhost: &vhost, ..Settings::default() };
        let configuration = write_configuration(scratch, port, settings);
        if let Some(server) = Server::run(scratch, port, &configuration) {
            eventually("the API listens", LIMIT, || listens(api).then_some(()));
            return (server, api);
        }
    }
    panic!("five ports in a row were taken");
}

#[test]
fn every_answer_has_the_fields_that_are_described() {
    need!(curl);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch);
    let (status, kind, text) = ask(api, "GET", "/api/v1/openapi.json");
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let schema = Schema(serde_json::from_str(&text).expect("JSON"));
    let paths: Vec<_> = schema.0["paths"].as_object().expect("paths").keys().cloned().collect();

    // The list of endpoints has the same names.
    let (_, urls) = schema.assert_described(api, "GET", "/api/v1", "/api/v1/");
    let listed: BTreeSet<_> = urls["urls"].as_object().expect("endpoints").keys().map(String::as_str).collect();
    let described = paths.iter().filter_map(|path| path.strip_prefix("/api/v1/")?.split('/').next());
    assert_eq!(listed, described.collect::<BTreeSet<_>>());

    let mut publisher = Wire::publisher(server.port, "cam");
    let mut player = Wire::player(server.port, "cam");
    send(&mut publisher, 1, 0..12);
    player.wait_frames(24);
    let mut refused = Wire::connect(server.port);
    refused.try_connect_app(&"a".repeat(300), &[]);
    refused.wait_closed(LIMIT);
    let list = |path: &str, name: &str| {
        let template = format!("/api/v1/{name}");
        eventually(&format!("an item of {path}"), LIMIT, || {
            let (_, answer) = schema.assert_described(api, "GET", &template, path);
            answer[name].as_array().filter(|items| !items.is_empty()).cloned()
        })
    };
    let samples = eventually("a sample of the server", LIMIT, || {
        let (_, answer) = schema.assert_described(api, "GET", "/api/v1/history", "/api/v1/history");
        answer["samples"].as_array().filter(|samples| !samples.is_empty()).cloned()
    });
    assert!(samples[0]["memory_bytes"].as_u64() > Some(1 << 20), "{samples:?}");
    for name in ["vhosts", "forwarders", "config", "offenders", "closes"] {
        list(&format!("/api/v1/{name}"), name);
    }
    let streams = list("/api/v1/streams?app=live", "streams");
    let clients = list("/api/v1/clients?type=rtmp-play", "clients");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (stream, client) = (text(&streams[0]["id"]), text(&clients[0]["id"]));
    for path in &paths {
        if !schema.0["paths"][path]["get"].is_object() || path.ends_with("/events") {
            continue;
        }
        let id = match path.split('/').nth(3) {
            Some("streams") => &stream,
            Some("clients") => &client,
            Some("vhosts") => "__defaultVhost__",
            _ => "none",
        };
        let (status, value) = schema.assert_described(api, "GET", path, &path.replace("{id}", id));
        let is_missing = path.starts_with("/api/v1/recordings/");
        assert_eq!(status, if is_missing { 404 } else { 200 }, "{path}: {value}");
        if path.contains("{id}") {
            schema.assert_described(api, "GET", path, &path.replace("{id}", "none"));
        }
    }
    for rpc in ["raw", "query", "query&scope=vhost", "reload-fetch", "none"] {
        schema.assert_described(api, "GET", "/api/v1/raw", &format!("/api/v1/raw?rpc={rpc}"));
    }
    let url = format!("http://127.0.0.1:{api}/api/v1/events?last=1000");
    let reader = Process::start(&scratch, "events", "curl", ["-sSN", &url]);
    let events = eventually("more than five events", LIMIT, || {
        let log = reader.log();
        let whole = &log[..log.rfind('\n').map_or(0, |end| end)];
        (whole.matches("\ndata: ").count() > 6).then(|| whole.to_owned())
    });
    let data: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("data: ")).skip(1).collect();
    for data in data {
        let event = serde_json::from_str(data).expect("JSON");
        schema.check(&schema.0["components"]["schemas"]["Event"], &event, "event").expect(data);
    }

    // Requests that change something: first of names that do not exist, then of those that do.
    for path in paths.iter().filter(|path| path.contains("{id}")) {
        for method in ["POST", "DELETE"] {
            if schema.0["paths"][path][method.to_lowercase()].is_object() {
                let (status, value) = schema.assert_described(api, method, path, &path.replace("{id}", "77777"));
                assert!(status == 404 || value["code"] == 2049, "{method} {path}: {status} {value}");
            }
        }
    }
    let post = |template: &str, path: &str| schema.assert_described(api, "POST", template, path);
    assert_eq!(post("/api/v1/streams/{id}/kick", &format!("/api/v1/streams/{stream}/kick?ban=600")).0, 200);
    let bans = list("/api/v1/bans", "bans");
    let ban = format!("/api/v1/bans/{}", text(&bans[0]["id"]));
    assert_eq!(schema.assert_described(api, "DELETE", "/api/v1/bans/{id}", &ban).0, 200);
    assert_eq!(post("/api/v1/clients/{id}/kick", &format!("/api/v1/clients/{client}/kick")).1["kicked"], 1);
    assert_eq!(post("/api/v1/clients/kick", "/api/v1/clients/kick?ip=127.0.0.1").0, 200);
    assert_eq!(post("/api/v1/clients/kick", "/api/v1/clients/kick?ip=x").0, 400);
    assert_eq!(post("/api/v1/raw", "/api/v1/raw?rpc=reload").0, 200);
    let file = scratch.file("srs.conf");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text}\nmax_connections 77;\n")).expect("a file");
    assert_eq!(post("/api/v1/reload", "/api/v1/reload?dry_run=1").1["changes"].as_array().map(Vec::len), Some(1));
    std::fs::write(&file, format!("{text}\nmax_conections 77;\n")).expect("a file");
    assert_eq!(post("/api/v1/reload", "/api/v1/reload").0, 422);
    std::fs::write(&file, text).expect("a file");
    server.assert_healthy();
}
