//! Requests that change something: kicks, bans, reloads.

use std::net::IpAddr;
use std::time::Duration;

use super::answer::{Answer, bad_request, error, method_not_allowed, not_found, problem, unavailable};
use super::auth::log_change;
use super::bans::{BanList, MAX_SECONDS, Target};
use super::call::Call;
use super::core::Core;
use super::json::{BanJson, ChangeJson, NO_CLIENT, Object, RAW_DISABLED};
use super::last_reload::LastReload;
use super::recordings;
use crate::app::http::response::Response;
use crate::app::session::close::CloseReason;
use crate::app::session::per_ip;
use crate::app::stats::collect::{ClientEntry, ClientWalk};
use crate::app::stream::ClientHandle;
use crate::config::{ApiRole, HttpApi};
use crate::http::request::Method;
use crate::http::status::Status;
use crate::st::Shared;

pub(super) fn change(
    core: &Core,
    bans: &BanList,
    last_reload: &Shared<LastReload>,
    call: &Call<'_>,
    (name, rest): (&str, &str),
    config: &HttpApi,
) -> Answer {
    let rest = rest.trim_end_matches('/');
    match (call.request.method, name) {
        (Method::Post, "clients") if rest == "kick" => {
            call.require(ApiRole::Kick)?;
            let ip = call.query("ip").and_then(|ip| ip.parse::<IpAddr>().ok());
            let Some(ip) = ip else { return Err(bad_request("the parameter ip must be an address")) };
            kick_address(core, bans, call, ip)
        }
        (Method::Delete, "clients") if !rest.is_empty() => {
            call.require(ApiRole::Kick)?;
            match find_client(core, rest) {
                Some(client) => kick_client(core, bans, call, client),
                None => Ok(error(NO_CLIENT)),
            }
        }
        (Method::Post, "clients") if rest.ends_with("/kick") => {
            call.require(ApiRole::Kick)?;
            match find_client(core, rest.strip_suffix("/kick").unwrap_or_default()) {
                Some(client) => kick_client(core, bans, call, client),
                None => Err(not_found("no such client")),
            }
        }
        (Method::Post, "streams") if rest.ends_with("/kick") => {
            call.require(ApiRole::Kick)?;
            kick_stream(core, bans, call, rest.strip_suffix("/kick").unwrap_or_default())
        }
        (Method::Post | Method::Delete, "streams") if rest.ends_with("/record") => {
            let stream = rest.strip_suffix("/record").unwrap_or_default();
            recordings::record(core, call, stream, call.request.method == Method::Post)
        }
        (Method::Post, "recordings") if rest.ends_with("/link") => {
            recordings::link(core, call, rest.strip_suffix("/link").unwrap_or_default(), &config.auth)
        }
        (Method::Delete, "recordings") if !rest.is_empty() => recordings::remove(core, call, rest),
        (Method::Delete, "bans") if !rest.is_empty() => {
            call.require(ApiRole::Kick)?;
            if !rest.parse().is_ok_and(|id| bans.remove(id)) {
                return Err(not_found("no such ban is in force"));
            }
            log_change(call.address, format_args!("lift ban {rest}"));
            Ok(core.json(core.envelope()))
        }
        (Method::Post, "reload") if rest.is_empty() => {
            call.require(ApiRole::Admin)?;
            reload(core, last_reload, call)
        }
        (Method::Post, "raw")
            if rest.is_empty() && config.raw_enabled && call.query("rpc").as_deref() == Some("reload") =>
        {
            call.require(ApiRole::Admin)?;
            if !config.raw_reload {
                return Ok(error(RAW_DISABLED));
            }
            reload(core, last_reload, call)
        }
        _ => Err(method_not_allowed("GET, HEAD, OPTIONS")),
    }
}

pub(super) fn bans(core: &Core, bans: &BanList) -> Response {
    let all: Vec<_> = bans.all().iter().map(BanJson::from).collect();
    let total = all.len();
    core.json(core.envelope().with("bans", all).with("total", total))
}

fn find_client(core: &Core, id: &str) -> Option<ClientEntry> {
    ClientEntry::find(&core.ctx, id.parse().ok()?)
}

/// Disconnects a client, and keeps its address out if that is asked for.
fn kick_client(core: &Core, bans: &BanList, call: &Call<'_>, client: ClientEntry) -> Answer {
    let answer = ban(core, bans, call, || Target::Ip(client.ip()))?;
    let kicked = kick(core, call, [client]);
    Ok(core.json(answer.with("kicked", kicked)))
}

/// Disconnects all clients of an address, and keeps it out if that is asked for.
fn kick_address(core: &Core, bans: &BanList, call: &Call<'_>, ip: IpAddr) -> Answer {
    let answer = ban(core, bans, call, || Target::Ip(ip))?;
    // A ban counts for the whole network of an IPv6 address.
    let is_banned = call.query("ban").is_some();
    let is_same = |other: IpAddr| {
        let is_equal = other.to_canonical() == ip.to_canonical();
        is_equal || (is_banned && per_ip::key(other) == per_ip::key(ip))
    };
    let kicked = kick(core, call, ClientWalk::new(&core.ctx, 0).filter(|client| is_same(client.ip())));
    Ok(core.json(answer.with("kicked", kicked)))
}

/// Disconnects the publisher of a stream, and keeps others from publishing it if that is asked for.
fn kick_stream(core: &Core, bans: &BanList, call: &Call<'_>, id: &str) -> Answer {
    let source = core.find_stream(id);
    let publisher = source.as_ref().and_then(|source| source.snapshot().publisher);
    let publisher = publisher.and_then(|id| core.ctx.clients.get(id));
    let is_ban = call.query("ban").is_some();
    let Some(source) = source.filter(|_| publisher.is_some() || is_ban) else {
        return Err(not_found("no such stream is published"));
    };
    let answer = ban(core, bans, call, || Target::Stream(source.name()))?;
    let kicked = kick(core, call, publisher.map(ClientEntry::Connected));
    Ok(core.json(answer.with("kicked", kicked)))
}

/// Adds the ban that the parameter `ban` asks for, and returns the begin of the answer.
fn ban(core: &Core, bans: &BanList, call: &Call<'_>, target: impl FnOnce() -> Target) -> Result<Object, Box<Response>> {
    let Some(seconds) = call.number("ban", 1..=MAX_SECONDS)? else { return Ok(core.envelope()) };
    let target = target();
    log_change(call.address, format_args!("ban {target} for {seconds} s"));
    match bans.add(target, Duration::from_secs(seconds)) {
        Some(ban) => Ok(core.envelope().with("ban", BanJson::from(&ban))),
        None => Err(unavailable("there are too many bans")),
    }
}

/// Disconnects clients, and returns the number of those that were not asked to leave before.
fn kick(core: &Core, call: &Call<'_>, clients: impl IntoIterator<Item = ClientEntry>) -> u64 {
    let mut count = 0;
    for client in clients {
        let (number, is_asked) = match client {
            ClientEntry::Connected(client) if client.close_requested().is_some() => (client.number, false),
            ClientEntry::Connected(client) => {
                client.close(CloseReason::Kicked);
                (client.number, true)
            }
            ClientEntry::Viewer(viewer) => {
                let id = viewer.client.id;
                (id, core.ctx.viewers.close(id, &CloseReason::Kicked))
            }
        };
        if is_asked {
            log_change(call.address, format_args!("disconnect client {number}"));
            count += 1;
        }
    }
    count
}

fn reload(core: &Core, last_reload: &Shared<LastReload>, call: &Call<'_>) -> Answer {
    let dry_run = call.query("dry_run").is_some_and(|value| value != "0");
    if !dry_run {
        log_change(call.address, "reload");
    }
    let outcome = core.ctx.reloads.submit(dry_run);
    if let (Some(outcome), false) = (&outcome, dry_run) {
        let error = outcome.as_ref().err().map(|problems| problems.join("\n"));
        last_reload.with(|last| last.record(error));
    }
    match outcome {
        Some(Ok(changes)) => {
            let changes: Vec<_> = changes.iter().map(ChangeJson::from).collect();
            Ok(core.json(core.envelope().with("dry_run", dry_run).with("changes", changes)))
        }
        Some(Err(problems)) => {
            Err(problem(Status::UnprocessableContent, "the configuration is invalid; nothing has changed", &problems))
        }
        None => Err(unavailable("too many reloads, or the server is stopping")),
    }
}
