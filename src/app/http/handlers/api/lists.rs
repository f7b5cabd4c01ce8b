//! Lists of vhosts, streams, clients, forwarders, processes and closes, and single items of them.

use serde_json::{Map, Value};

use super::answer::error;
use super::call::Call;
use super::core::Core;
use super::event_log::EventLog;
use super::json::{
    ClientJson, CloseJson, ForwarderJson, NO_CLIENT, NO_STREAM, NO_VHOST, Object, OffenderJson, SettingJson,
    StreamJson, VhostJson,
};
use super::list::{List, Page};
use super::offenders::Offenders;
use super::system::unix_ms;
use crate::app::http::response::Response;
use crate::app::stats::collect;
use crate::app::stats::snapshot::{Snapshot, StreamReport};
use crate::st;

/// Returns all vhosts, or one by its id or name.
pub(super) fn vhosts(core: &Core, call: &Call<'_>, id: &str) -> Response {
    let clients = collect::clients(&core.ctx);
    let streams = collect::streams(&core.ctx, &clients);
    let vhosts = collect::vhosts(&core.ctx, &streams, &clients);
    collect::discard(clients);
    collect::discard(streams);
    let json = |vhost| VhostJson::new(vhost, core.id(&vhost.name));
    if !id.is_empty() {
        return match vhosts.iter().find(|vhost| vhost.name == id || core.id(&vhost.name) == id) {
            Some(vhost) => core.json(core.envelope().with("vhost", json(vhost))),
            None => error(NO_VHOST),
        };
    }
    let mut list = List::new(Page::read(&call.request.query));
    vhosts.iter().for_each(|vhost| list.push(|| json(vhost)));
    core.list("vhosts", list)
}

/// Returns all streams, or one by its id or name.
pub(super) fn streams(core: &Core, call: &Call<'_>, id: &str) -> Response {
    let clients = collect::clients(&core.ctx);
    let streams = collect::streams(&core.ctx, &clients);
    collect::discard(clients);
    let now_ms = unix_ms();
    let json = |stream| StreamJson::new(stream, core.id(&stream.name), core.id(&stream.vhost), now_ms);
    if !id.is_empty() {
        return match streams.iter().find(|stream| core.is_stream(&stream.name, id)) {
            Some(stream) => core.json(core.envelope().with("stream", json(stream))),
            None => error(NO_STREAM),
        };
    }
    let filters = ["vhost", "app", "stream"].map(|name| call.query(name));
    let [vhost, app, name] = &filters;
    let is_wanted = |stream: &StreamReport| {
        core.is_vhost(vhost, &stream.vhost)
            && is_equal(app, &stream.app)
            && name.as_deref().is_none_or(|name| stream.stream == name || core.is_stream(&stream.name, name))
    };
    let mut list = List::new(Page::read(&call.request.query));
    streams.iter().filter(|stream| is_wanted(stream)).for_each(|stream| list.push(|| json(stream)));
    collect::discard(streams);
    core.list("streams", list)
}

pub(super) fn clients(core: &Core, call: &Call<'_>, id: &str) -> Response {
    if !id.is_empty() {
        return match id.parse().ok().and_then(|id| collect::client(&core.ctx, id)) {
            Some(client) => {
                let client = ClientJson::new(&client, core.id(&client.vhost), core.id(&client.stream_name));
                core.json(core.envelope().with("client", client))
            }
            None => error(NO_CLIENT),
        };
    }
    let filters = ["vhost", "app", "stream", "ip", "type"].map(|name| call.query(name));
    let [vhost, app, stream, ip, r#type] = &filters;
    let mut list = List::new(Page::read(&call.request.query));
    let clients = collect::clients(&core.ctx);
    for client in &clients {
        let is_wanted = core.is_vhost(vhost, &client.vhost)
            && is_equal(app, &client.app)
            && stream
                .as_deref()
                .is_none_or(|stream| client.stream == stream || core.is_stream(&client.stream_name, stream))
            && ip.as_deref().is_none_or(|ip| client.ip.to_string() == ip);
        if is_wanted && r#type.as_deref().is_none_or(|wanted| ClientJson::type_of(client) == wanted) {
            list.push(|| ClientJson::new(client, core.id(&client.vhost), core.id(&client.stream_name)));
        }
    }
    collect::discard(clients);
    core.list("clients", list)
}

pub(super) fn forwarders(core: &Core, call: &Call<'_>) -> Response {
    let mut list = List::new(Page::read(&call.request.query));
    feature_items(core, call, "forward", "target").into_iter().for_each(|item| list.push(|| ForwarderJson::from(item)));
    core.list("forwarders", list)
}

/// Returns server, limits, vhosts, streams, closes and features in one.
pub(super) fn snapshot(core: &Core) -> Response {
    let Snapshot { server, limits, vhosts, streams, closes, features } = collect::snapshot(&core.ctx);
    let mut list = List::new(Page::all());
    streams.iter().for_each(|stream| list.push(|| stream));
    collect::discard(streams);
    let data = Object::new().with("server", server).with("limits", limits).with("vhosts", vhosts);
    core.data(data.with_json("streams", &list.finish()).with("closes", closes).with("features", features))
}

/// Returns the programs that run for streams, or for one.
pub(super) fn processes(core: &Core, call: &Call<'_>) -> Response {
    let mut list = List::new(Page::read(&call.request.query));
    feature_items(core, call, "transcode", "process").into_iter().for_each(|item| list.push(|| item));
    core.list("processes", list)
}

/// Returns what a feature reports of all streams, or of the one that the query names, by stream and by another field.
fn feature_items(core: &Core, call: &Call<'_>, feature: &str, field: &str) -> Vec<Map<String, Value>> {
    let stream = call.query("stream");
    let features = core.ctx.features.all().iter().filter(|other| other.name() == feature);
    let items = features.filter_map(|feature| feature.snapshot()).flat_map(|section| section.items);
    let text = |item: &Map<String, Value>, name| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_wanted = |item: &Map<String, Value>| {
        let name = text(item, "stream");
        let is_last = |wanted: &str| name.rsplit('/').next().is_some_and(|last| last == wanted);
        stream.as_deref().is_none_or(|wanted| core.is_stream(&name, wanted) || is_last(wanted))
    };
    let mut items: Vec<_> = items.filter(is_wanted).collect();
    items.sort_by_cached_key(|item| (text(item, "stream"), text(item, field)));
    items
}

/// Returns the addresses that cause trouble, those with most of it first.
pub(super) fn offenders(core: &Core, call: &Call<'_>, offenders: &Offenders) -> Response {
    let mut list = List::new(Page::read(&call.request.query));
    offenders.all(st::now()).iter().for_each(|offender| list.push(|| OffenderJson::from(offender)));
    core.list("offenders", list)
}

pub(super) fn closes(core: &Core, events: &EventLog) -> Response {
    let closes: Vec<_> = collect::closes(&core.ctx).iter().map(CloseJson::from).collect();
    let recent = format!("[{}]", events.recent_closes().join(","));
    core.json(core.envelope().with("closes", closes).with_json("recent", &recent))
}

/// Returns the effective configuration: all values, or with `changed=1` those that are not defaults.
pub(super) fn config(core: &Core, call: &Call<'_>) -> Response {
    let only_changed = call.query("changed").is_some_and(|value| value != "0");
    let (block, directive) = (call.query("block"), call.query("directive"));
    let config = core.ctx.config.get();
    let mut list = List::new(Page::all());
    for value in config.effective() {
        let is_wanted = (!only_changed || !value.is_default())
            && is_equal(&block, &value.block)
            && is_equal(&directive, value.directive);
        if is_wanted {
            list.push(|| SettingJson::from(&value));
        }
    }
    core.list("config", list)
}

fn is_equal(wanted: &Option<String>, value: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == value)
}
