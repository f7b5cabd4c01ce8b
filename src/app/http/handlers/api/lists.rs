//! Lists of vhosts, streams, clients, forwarders, processes and closes, and single items of them.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::{Answer, error, offload};
use super::call::Call;
use super::core::Core;
use super::event_log::EventLog;
use super::json::{
    ClientJson, CloseJson, ForwarderJson, NO_CLIENT, NO_STREAM, NO_VHOST, Object, OffenderJson, SettingJson,
    StreamJson, VhostJson, to_json,
};
use super::list::{List, Page};
use super::offenders::Offenders;
use super::system::unix_ms;
use crate::app::http::response::Response;
use crate::app::stats::collect::{self, ClientEntry, ClientFacts, ClientWalk, StreamWalk};
use crate::app::stats::snapshot::{Section, Snapshot, StreamReport};
use crate::app::stream::{Source, StreamNames};
use crate::st;

type Item = Map<String, Value>;

pub(super) fn vhosts(core: &Core, call: &Call<'_>, id: &str) -> Response {
    let vhosts = collect::vhosts(&core.ctx);
    let json = |vhost| VhostJson::new(vhost, core.id(&vhost.name));
    if !id.is_empty() {
        return match vhosts.iter().find(|vhost| vhost.name == id || core.id(&vhost.name) == id) {
            Some(vhost) => core.json(core.envelope().with("vhost", json(vhost))),
            None => error(NO_VHOST),
        };
    }
    let mut list = core.begin_list(call, "vhosts");
    vhosts.iter().for_each(|vhost| list.push(|| json(vhost)));
    core.end_list(list)
}

pub(super) fn streams(core: &Core, call: &Call<'_>, id: &str) -> Response {
    let now_ms = unix_ms();
    let report = |source: &Source| collect::stream(&core.ctx, source);
    let json = |stream: &StreamReport| {
        to_json(&StreamJson::new(stream, core.id(&stream.name), core.id(&stream.vhost), now_ms))
    };
    if !id.is_empty() {
        return match core.find_stream(id).as_ref().and_then(report) {
            Some(stream) => core.json(core.envelope().with_json("stream", &json(&stream))),
            None => error(NO_STREAM),
        };
    }
    let filters = ["vhost", "app", "stream"].map(|name| call.query(name));
    let [vhost, app, name] = &filters;
    let is_wanted = |names: StreamNames<'_>| {
        core.is_vhost(vhost, names.vhost)
            && is_equal(app, names.app)
            && name.as_deref().is_none_or(|name| names.stream == name || core.is_stream(names.name, name))
    };
    let mut list = core.begin_list(call, "streams");
    for source in StreamWalk::new(&core.ctx) {
        if source.with_names(is_wanted) == Some(true)
            && list.count()
            && let Some(stream) = report(&source)
        {
            list.write(&json(&stream));
        }
    }
    core.end_list(list)
}

pub(super) fn clients(core: &Core, call: &Call<'_>, id: &str) -> Response {
    let json = |client: ClientEntry| {
        let client = client.report(&core.ctx, st::now());
        to_json(&ClientJson::new(&client, core.id(&client.vhost), core.id(&client.stream_name)))
    };
    if !id.is_empty() {
        return match id.parse().ok().and_then(|id| ClientEntry::find(&core.ctx, id)) {
            Some(client) => core.json(core.envelope().with_json("client", &json(client))),
            None => error(NO_CLIENT),
        };
    }
    let filter = ClientFilter::read(core, call);
    // While clients come and go, only numbers tell where the last page ended.
    let after = call.query("after").and_then(|after| after.parse().ok()).unwrap_or(0);
    let (mut list, page) = (core.begin_list(call, "clients"), Page::read(&call.request.query));
    if filter.passes_all() {
        let mut walk = ClientWalk::new(&core.ctx, after);
        list.add_total(walk.initial_count());
        walk.skip_clients(page.start());
        walk.take(page.count()).for_each(|client| list.write(&json(client)));
    } else {
        for client in ClientWalk::new(&core.ctx, 0).filter(|client| filter.passes(&client.facts())) {
            if client.id() <= after {
                list.add_total(1);
            } else if list.count() {
                list.write(&json(client));
            }
        }
    }
    core.end_list(list)
}

struct ClientFilter<'a> {
    core: &'a Core,
    vhost: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    ip: Option<String>,
    r#type: Option<String>,
}

impl<'a> ClientFilter<'a> {
    fn read(core: &'a Core, call: &Call<'_>) -> Self {
        let [vhost, app, stream, ip, r#type] = ["vhost", "app", "stream", "ip", "type"].map(|name| call.query(name));
        Self { core, vhost, app, stream, ip, r#type }
    }

    fn passes_all(&self) -> bool {
        [&self.vhost, &self.app, &self.stream, &self.ip, &self.r#type].iter().all(|filter| filter.is_none())
    }

    fn passes(&self, client: &ClientFacts<'_>) -> bool {
        let is_stream = |wanted: &str| client.stream() == wanted || self.core.is_stream(client.stream_name(), wanted);
        let is_ip = |wanted: &str| wanted.parse().is_ok_and(|ip: IpAddr| ip.to_canonical() == client.ip.to_canonical());
        self.r#type.as_deref().is_none_or(|wanted| ClientJson::type_of(client.state, client.kind) == wanted)
            && self.ip.as_deref().is_none_or(is_ip)
            && is_equal(&self.app, client.app())
            && self.core.is_vhost(&self.vhost, client.vhost())
            && self.stream.as_deref().is_none_or(is_stream)
    }
}

pub(super) fn forwarders(core: &Core, call: &Call<'_>) -> Answer {
    let mut list = core.begin_list(call, "forwarders");
    feature_items(core, call, &mut list, ("forward", "target"), ForwarderJson::from)?;
    Ok(core.end_list(list))
}

/// Returns server, limits, vhosts, streams, closes and features in one.
pub(super) fn snapshot(core: &Core) -> Response {
    let Snapshot { server, limits, vhosts, streams, closes, features } = collect::snapshot(&core.ctx);
    let data = core.envelope().begin_object("data");
    let data = data.with("server", server).with("limits", limits);
    let data = with_list(with_list(data, "vhosts", vhosts), "streams", streams).with("closes", closes);
    let mut sections = List::new(data, "features", Page::all());
    for Section { name, numbers, items, .. } in features {
        let section = with_list(Object::new().with("name", name).with("numbers", numbers), "items", items);
        sections.write(&section.finish());
    }
    core.json(sections.finish().0.end_object())
}

/// Adds a whole list as a field of an answer. May yield.
fn with_list<T: Serialize>(answer: Object, name: &str, items: Vec<T>) -> Object {
    let mut list = List::new(answer, name, Page::all());
    // Each item is freed before the next one is written: to free thousands takes milliseconds too.
    items.into_iter().for_each(|item| list.push(|| item));
    list.finish().0
}

pub(super) fn processes(core: &Core, call: &Call<'_>) -> Answer {
    let mut list = core.begin_list(call, "processes");
    feature_items(core, call, &mut list, ("transcode", "process"), |item| item)?;
    Ok(core.end_list(list))
}

/// Writes what a feature reports of all streams, or of the one that the query names, by stream and by another field. May wait.
fn feature_items<T: Serialize>(
    core: &Core,
    call: &Call<'_>,
    list: &mut List,
    (feature, field): (&str, &'static str),
    json: impl Fn(Item) -> T,
) -> Result<(), Box<Response>> {
    let stream = call.query("stream");
    let is_wanted = |item: &Item| {
        let name = text(item, "stream");
        let is_last = |wanted: &str| name.rsplit('/').next().is_some_and(|last| last == wanted);
        stream.as_deref().is_none_or(|wanted| core.is_stream(name, wanted) || is_last(wanted))
    };
    let features = core.ctx.features.all().iter().filter(|other| other.name() == feature);
    let mut items: Vec<_> =
        features.filter_map(|feature| feature.snapshot()).flat_map(|section| section.items).collect();
    let items = offload(move || {
        items.sort_by(|a, b| {
            ["stream", field].map(|field| text(a, field)).cmp(&["stream", field].map(|field| text(b, field)))
        });
        items
    })?;
    for item in items {
        list.push_if(is_wanted(&item), || json(item));
    }
    Ok(())
}

fn text<'a>(item: &'a Item, field: &str) -> &'a str {
    item.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the addresses that cause trouble, those with most of it first.
pub(super) fn offenders(core: &Core, call: &Call<'_>, offenders: &Offenders) -> Response {
    let mut list = core.begin_list(call, "offenders");
    offenders.all(st::now()).iter().for_each(|offender| list.push(|| OffenderJson::from(offender)));
    core.end_list(list)
}

pub(super) fn closes(core: &Core, events: &EventLog) -> Response {
    let closes: Vec<_> = collect::closes(&core.ctx).iter().map(CloseJson::from).collect();
    let recent = format!("[{}]", events.recent_closes().join(","));
    core.json(core.envelope().with("closes", closes).with_json("recent", &recent))
}

/// Returns the effective configuration: all values, or with `changed=1` those that are not defaults. May wait.
pub(super) fn config(core: &Core, call: &Call<'_>) -> Answer {
    let only_changed = call.query("changed").is_some_and(|value| value != "0");
    let (block, directive) = (call.query("block"), call.query("directive"));
    let config = core.ctx.config.get();
    // Some hundred values for each vhost.
    let values = offload(move || config.effective())?;
    let mut list = List::new(core.envelope(), "config", Page::all());
    for value in values {
        let is_wanted = (!only_changed || !value.is_default())
            && is_equal(&block, &value.block)
            && is_equal(&directive, value.directive);
        list.push_if(is_wanted, || SettingJson::from(&value));
    }
    Ok(core.end_list(list))
}

fn is_equal(wanted: &Option<String>, value: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == value)
}
