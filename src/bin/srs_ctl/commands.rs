//! Commands that ask once and print the answer.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::api::{Api, encode};
use crate::failure::Failure;
use crate::options::Command;
use crate::output::{Table, bytes, duration, number, print_fields, print_line, rate, show, text};
use crate::{recordings, reports};

/// Runs a command.
pub(crate) fn run(api: &Api, command: &Command, as_json: bool) -> Result<(), Failure> {
    match command {
        Command::Status => status(api, as_json),
        Command::Streams { vhost, app } => {
            let query = query(&[("vhost", vhost), ("app", app)]);
            list(api, "streams", &query, as_json, streams)
        }
        Command::Stream { name } => stream(api, name, as_json),
        Command::Clients { stream, ip, kind } => {
            let query = query(&[("stream", stream), ("ip", &ip.map(|ip| ip.to_string()))]);
            // By RTMP, HTTP-FLV or HLS.
            let is_wanted = |client: &Value| {
                kind.as_deref().is_none_or(|kind| text(&client["type"]).ends_with(&format!("-{kind}")))
            };
            list_of(api, "clients", &query, as_json, is_wanted, clients)
        }
        Command::Client { id } => client(api, *id, as_json),
        Command::Forwarders { stream } => list(api, "forwarders", &query(&[("stream", stream)]), as_json, forwarders),
        Command::Processes { stream } => {
            list(api, "processes", &query(&[("stream", stream)]), as_json, reports::processes)
        }
        Command::Offenders => list(api, "offenders", "", as_json, reports::offenders),
        Command::Kick { target, ban } => kick(api, target, *ban, as_json),
        Command::Record { stream, stop } => recordings::record(api, stream, *stop, as_json),
        Command::Recordings { stream } => {
            list(api, "recordings", &query(&[("stream", stream)]), as_json, recordings::print)
        }
        Command::Download { id, output } => recordings::download(api, id, output.as_deref()),
        Command::Delete { id } => {
            show(&api.delete(&format!("/api/v1/recordings/{}", encode(id)))?, as_json, |_| Ok(print_line("removed")?))
        }
        Command::Bans => show(&api.get("/api/v1/bans")?, as_json, |answer| bans(items(answer, "bans"))),
        Command::Unban { id } => {
            show(&api.delete(&format!("/api/v1/bans/{id}"))?, as_json, |_| print_line("lifted").map_err(Failure::from))
        }
        Command::Reload { dry_run } => reload(api, *dry_run, as_json),
        Command::Config { all } => {
            let path = if *all { "/api/v1/config" } else { "/api/v1/config?changed=1" };
            show(&api.get(path)?, as_json, |answer| config(items(answer, "config")))
        }
        Command::Closes => show(&api.get("/api/v1/closes")?, as_json, closes),
        // The caller has done these.
        Command::Events(_) | Command::Top { .. } | Command::Completions { .. } | Command::Sign(_) => Ok(()),
    }
}

fn query(pairs: &[(&str, &Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    given.map(|(name, value)| format!("&{name}={}", encode(value))).collect()
}

fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

/// Prints all pages of a list.
fn list(
    api: &Api,
    name: &str,
    query: &str,
    as_json: bool,
    print: impl FnOnce(&[Value]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    list_of(api, name, query, as_json, |_| true, print)
}

/// Prints those items of all pages of a list that are wanted.
fn list_of(
    api: &Api,
    name: &str,
    query: &str,
    as_json: bool,
    is_wanted: impl Fn(&Value) -> bool,
    print: impl FnOnce(&[Value]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut all = api.list(name, query)?;
    all.retain(is_wanted);
    if as_json {
        let total = all.len();
        return Ok(print_line(&json!({ name: all, "total": total }).to_string())?);
    }
    print(&all)
}

/// Returns the name of a stream, without the default vhost.
pub(crate) fn stream_name(item: &Value) -> String {
    let name = format!("{}/{}", text(&item["app"]), text(&item["name"]));
    match item["vhost_name"].as_str() {
        Some(vhost) if vhost != "__defaultVhost__" => format!("{vhost}/{name}"),
        _ => name,
    }
}

/// Returns the state of a client, with the protocol of a player that does not use RTMP.
pub(crate) fn client_state(client: &Value) -> String {
    match text(&client["type"]).split_once("-play") {
        Some((protocol @ ("flv" | "hls"), _)) => format!("{protocol} {}", text(&client["state"])),
        _ => text(&client["state"]),
    }
}

/// Returns codec, size and frame rate.
pub(crate) fn video(stream: &Value) -> String {
    let video = &stream["video"];
    if video.is_null() {
        return String::new();
    }
    let (width, height) = (number(&video["width"]), number(&video["height"]));
    let size = if width > 0 { format!(" {width}x{height}") } else { String::new() };
    format!("{}{size} {:.0}fps", text(&video["codec"]), stream["fps"].as_f64().unwrap_or(0.0))
}

/// Returns codec and sample rate.
pub(crate) fn audio(stream: &Value) -> String {
    let audio = &stream["audio"];
    if audio.is_null() { String::new() } else { format!("{} {}", text(&audio["codec"]), text(&audio["sample_rate"])) }
}

fn status(api: &Api, as_json: bool) -> Result<(), Failure> {
    show(&api.get("/api/v1/snapshot")?, as_json, |answer| {
        let (server, limits) = (&answer["data"]["server"], &answer["data"]["limits"]);
        let traffic = |name: &str| {
            let traffic = &server[name];
            format!("in {}, out {}", rate(number(&traffic["kbps_in"])), rate(number(&traffic["kbps_out"])))
        };
        let memory = match number(&limits["max_memory_bytes"]) {
            0 => bytes(number(&server["held_bytes"])),
            max => format!("{} of {}", bytes(number(&server["held_bytes"])), bytes(max)),
        };
        let clients = format!("{} of {}", text(&server["clients"]), text(&limits["max_connections"]));
        print_fields(&[
            ("server", api.url().to_owned()),
            ("version", text(&server["version"])),
            ("pid", text(&server["pid"])),
            ("uptime", duration(server["uptime_ms"].as_f64().unwrap_or(0.0) / 1000.0)),
            (
                "state",
                limits["refusing"].as_str().map_or("serving".to_owned(), |why| format!("refuses streams: {why}")),
            ),
            ("streams", text(&server["streams"])),
            ("clients", clients),
            ("publishers", format!("{}: {}", text(&server["publishers"]), traffic("publish"))),
            ("players", format!("{}: {}", text(&server["players"]), traffic("play"))),
            ("forwarders", format!("{}: {}", text(&server["forwarders"]), traffic("forward"))),
            ("busy", format!("{:.0} %", server["busy"].as_f64().unwrap_or(0.0) * 100.0)),
            ("memory", format!("{} resident, {memory} held for clients", bytes(number(&server["resident_bytes"])))),
            ("open files", text(&server["open_files"])),
        ])?;
        Ok(())
    })
}

fn streams(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "STREAM", "STATE", ">PLAYERS", "VIDEO", "AUDIO", ">IN", ">OUT", ">UPTIME", ">JITTER", ">STALLS", ">DROPS",
    ]);
    for stream in all {
        table.push(vec![
            stream_name(stream),
            text(&stream["state"]),
            text(&stream["players"]),
            video(stream),
            audio(stream),
            rate(number(&stream["kbps"]["recv_30s"])),
            rate(number(&stream["kbps"]["send_30s"])),
            duration(stream["uptime_s"].as_f64().unwrap_or(0.0)),
            format!("{:.0} ms", stream["jitter_ms"].as_f64().unwrap_or(0.0)),
            text(&stream["stalls"]),
            text(&stream["drops"]),
        ]);
    }
    Ok(table.print("no streams")?)
}

fn clients(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&[">ID", "STATE", "ADDRESS", "STREAM", ">AGE", ">IN", ">OUT", ">SENT", ">DROPS"]);
    for client in all {
        let has_stream = !text(&client["name"]).is_empty();
        table.push(vec![
            text(&client["id"]),
            client_state(client),
            text(&client["ip"]),
            if has_stream { stream_name(client) } else { String::new() },
            duration(client["alive"].as_f64().unwrap_or(0.0)),
            rate(number(&client["kbps"]["recv_30s"])),
            rate(number(&client["kbps"]["send_30s"])),
            bytes(number(&client["send_bytes"])),
            text(&client["drops"]),
        ]);
    }
    Ok(table.print("no clients")?)
}

fn stream(api: &Api, name: &str, as_json: bool) -> Result<(), Failure> {
    let answer = api.get(&format!("/api/v1/streams/{}", encode(name)))?;
    if as_json {
        return Ok(print_line(&answer["stream"].to_string())?);
    }
    let stream = &answer["stream"];
    let profile = |of: &Value| [text(&of["profile"]), text(&of["level"])].join(" ");
    let optional = |value: &Value| if value.is_null() { String::new() } else { format!("{value} ms") };
    print_fields(&[
        ("stream", stream_name(stream)),
        ("id", text(&stream["id"])),
        ("state", text(&stream["state"])),
        ("uptime", duration(stream["uptime_s"].as_f64().unwrap_or(0.0))),
        ("publisher", text(&stream["publish"]["cid"])),
        ("players", text(&stream["players"])),
        ("forwarders", text(&stream["forwarders"])),
        ("video", format!("{} {}", video(stream), profile(&stream["video"])).trim().to_owned()),
        ("audio", format!("{} {}", audio(stream), profile(&stream["audio"])).trim().to_owned()),
        (
            "bit rate",
            format!("video {}, audio {}", rate(number(&stream["video_kbps"])), rate(number(&stream["audio_kbps"]))),
        ),
        ("out", rate(number(&stream["kbps"]["send_30s"]))),
        ("keyframes", optional(&stream["gop_ms"])),
        ("audio behind video", optional(&stream["av_skew_ms"])),
        ("jitter", format!("{:.1} ms", stream["jitter_ms"].as_f64().unwrap_or(0.0))),
        ("stalls", text(&stream["stalls"])),
        ("drops", text(&stream["drops"])),
    ])?;
    print_line("")?;
    clients(&api.list("clients", &format!("&stream={}", encode(&text(&stream["id"]))))?)
}

fn client(api: &Api, id: u64, as_json: bool) -> Result<(), Failure> {
    let answer = api.get(&format!("/api/v1/clients/{id}"))?;
    let client = &answer["client"];
    if as_json {
        return Ok(print_line(&client.to_string())?);
    }
    let rate_of = |name: &str| rate(number(&client["kbps"][name]));
    let bytes_of = |name: &str| bytes(number(&client[name]));
    let has_stream = !text(&client["name"]).is_empty();
    let fields = [
        ("client", text(&client["id"])),
        ("state", client_state(client)),
        ("type", text(&client["type"])),
        ("address", text(&client["ip"])),
        ("stream", if has_stream { stream_name(client) } else { String::new() }),
        ("connected", duration(client["alive"].as_f64().unwrap_or(0.0))),
        ("received", format!("{}, {}", bytes_of("recv_bytes"), rate_of("recv_30s"))),
        ("sent", format!("{}, {}", bytes_of("send_bytes"), rate_of("send_30s"))),
        ("messages", text(&client["messages"])),
        ("drops", text(&client["drops"])),
        ("tcUrl", text(&client["tcUrl"])),
        ("pageUrl", text(&client["pageUrl"])),
    ];
    let shown: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Ok(print_fields(&shown)?)
}

fn forwarders(all: &[Value]) -> Result<(), Failure> {
    let mut table =
        Table::new(&["STREAM", "TARGET", "STATE", ">DELAY", ">OUT", ">SENT", ">DROPS", ">ATTEMPTS", "LAST ERROR"]);
    for forwarder in all {
        table.push(vec![
            text(&forwarder["stream"]),
            text(&forwarder["target"]),
            text(&forwarder["state"]),
            format!("{} ms", text(&forwarder["delay_ms"])),
            rate(number(&forwarder["kbps_out"])),
            bytes(number(&forwarder["bytes_out"])),
            text(&forwarder["dropped"]),
            text(&forwarder["attempts"]),
            text(&forwarder["last_error"]),
        ]);
    }
    Ok(table.print("no forwarders")?)
}

/// Returns the path of a kick: digits are a client, an address is one, everything else is a stream.
pub(crate) fn kick_path(target: &str, ban: Option<u64>) -> String {
    let ban = ban.map(|seconds| format!("ban={seconds}")).unwrap_or_default();
    if target.parse::<u64>().is_ok() {
        format!("/api/v1/clients/{target}/kick?{ban}")
    } else if target.parse::<IpAddr>().is_ok() {
        format!("/api/v1/clients/kick?ip={}&{ban}", encode(target))
    } else {
        format!("/api/v1/streams/{}/kick?{ban}", encode(target))
    }
}

fn kick(api: &Api, target: &str, ban: Option<u64>, as_json: bool) -> Result<(), Failure> {
    show(&api.post(&kick_path(target, ban))?, as_json, |answer| {
        let ban = &answer["ban"];
        let banned = match ban.is_null() {
            true => String::new(),
            false => format!("; ban {}: {} for {} s", text(&ban["id"]), text(&ban["what"]), text(&ban["seconds_left"])),
        };
        Ok(print_line(&format!("disconnected: {}{banned}", text(&answer["kicked"])))?)
    })
}

fn bans(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&[">ID", "KIND", "WHAT", ">LEFT"]);
    for ban in all {
        let left = duration(ban["seconds_left"].as_f64().unwrap_or(0.0));
        table.push(vec![text(&ban["id"]), text(&ban["kind"]), text(&ban["what"]), left]);
    }
    Ok(table.print("no bans")?)
}

fn reload(api: &Api, dry_run: bool, as_json: bool) -> Result<(), Failure> {
    let path = if dry_run { "/api/v1/reload?dry_run=1" } else { "/api/v1/reload" };
    show(&api.post(path)?, as_json, |answer| {
        let mut table = Table::new(&["DIRECTIVE", "BEFORE", "AFTER", "TAKES EFFECT"]);
        for change in items(answer, "changes") {
            let row = ["directive", "before", "after", "takes_effect"].map(|name| text(&change[name]));
            table.push(row.to_vec());
        }
        Ok(table.print("no changes")?)
    })
}

fn config(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&["DIRECTIVE", "VALUE", "ORIGIN"]);
    for setting in all {
        let block = text(&setting["block"]);
        let place = if block.is_empty() { String::new() } else { format!(" in {block}") };
        let name = format!("{}{place}", text(&setting["directive"]));
        table.push(vec![name, text(&setting["value"]), text(&setting["origin"])]);
    }
    Ok(table.print("everything has its default")?)
}

fn closes(answer: &Value) -> Result<(), Failure> {
    let mut table = Table::new(&["CODE", ">COUNT"]);
    for close in items(answer, "closes") {
        table.push(vec![text(&close["code"]), text(&close["count"])]);
    }
    table.print("no connection was closed")?;
    let recent = items(answer, "recent");
    if recent.is_empty() {
        return Ok(());
    }
    print_line("")?;
    let mut table = Table::new(&[">CLIENT", "ADDRESS", ">LASTED", "CODE", "REASON"]);
    for close in recent {
        let lasted = duration(close["seconds"].as_f64().unwrap_or(0.0));
        let [client, ip, code, reason] = ["client", "ip", "code", "reason"].map(|name| text(&close[name]));
        table.push(vec![client, ip, lasted, code, reason]);
    }
    Ok(table.print("")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_client_an_address_or_a_stream() {
        assert_eq!(kick_path("12", None), "/api/v1/clients/12/kick?");
        assert_eq!(kick_path("2001:db8::1", Some(60)), "/api/v1/clients/kick?ip=2001%3Adb8%3A%3A1&ban=60");
        assert_eq!(kick_path("live/a b", Some(5)), "/api/v1/streams/live/a%20b/kick?ban=5");
    }
}
