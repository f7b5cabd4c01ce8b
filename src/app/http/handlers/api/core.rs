//! Handles, identities and envelopes that all endpoints share.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::build::Build;
use super::call::Call;
use super::json::Object;
use super::list::{List, Page};
use super::tickets::Tickets;
use crate::app::context::Context;
use crate::app::http::response::Response;
use crate::app::stats::collect::StreamWalk;
use crate::app::stream::Source;
use crate::memory::Category;

const ID_PREFIX: &str = "vid-";

pub(super) struct Core {
    pub(super) ctx: Context,
    /// Makes ids of names: the same name has the same id until the server ends, and nobody can look for two names with one id.
    ids: RandomState,
    pub(super) server_id: String,
    pub(super) service_id: String,
    pub(super) tickets: Tickets,
    pub(super) build: Build,
}

impl Core {
    pub(super) fn new(ctx: Context) -> Self {
        let ids = RandomState::new();
        let (server_id, service_id) =
            (make_id(ID_PREFIX, ids.hash_one("server")), make_id("", ids.hash_one("service")));
        Self { ctx, ids, server_id, service_id, tickets: Tickets::new(), build: Build::read() }
    }

    /// Returns whether `id` is that of the stream `name`, or its name, with or without its vhost.
    pub(super) fn is_stream(&self, name: &str, id: &str) -> bool {
        let rest = name.split_once('/').map_or("", |(_, rest)| rest);
        !id.is_empty() && (name == id || rest == id || (id.starts_with(ID_PREFIX) && self.id(name) == id))
    }

    /// Returns whether `wanted` is absent, or the id or the name of a vhost.
    pub(super) fn is_vhost(&self, wanted: &Option<String>, name: &str) -> bool {
        let is_id = |wanted: &str| wanted.starts_with(ID_PREFIX) && self.id(name) == wanted;
        wanted.as_deref().is_none_or(|wanted| name == wanted || is_id(wanted))
    }

    /// Returns the stream of a name or an id. Without a vhost in the name, a stream that is used comes before others. May wait.
    pub(super) fn find_stream(&self, id: &str) -> Option<Source> {
        let mut unused = None;
        self.ctx.streams.find(id).or_else(|| {
            let is_its = |source: &Source| self.is_stream(&source.name(), id);
            let mut all = StreamWalk::new(&self.ctx).filter(is_its);
            let used = all.find(|source| {
                let is_used = source.with_names(|_| ()).is_some();
                if !is_used {
                    unused.get_or_insert_with(|| source.clone());
                }
                is_used
            });
            used.or(unused)
        })
    }

    pub(super) fn id(&self, name: &str) -> String {
        if name.is_empty() { String::new() } else { make_id(ID_PREFIX, self.ids.hash_one(name)) }
    }

    pub(super) fn envelope(&self) -> Object {
        Object::new()
            .with("code", 0)
            .with("server", &self.server_id)
            .with("service", &self.service_id)
            .with("pid", std::process::id().to_string())
    }

    pub(super) fn data(&self, data: Object) -> Response {
        self.json(self.envelope().with_object("data", data))
    }

    pub(super) fn begin_list(&self, call: &Call<'_>, name: &str) -> List {
        List::new(self.envelope(), name, Page::read(&call.request.query))
    }

    pub(super) fn end_list(&self, list: List) -> Response {
        let (answer, total) = list.finish();
        self.json(answer.with("total", total))
    }

    pub(super) fn json(&self, object: Object) -> Response {
        Response::json(self.charge(object.finish()))
    }

    pub(super) fn charge(&self, text: String) -> Bytes {
        self.ctx.memory.charge_bytes(Category::Http, text.into())
    }
}

fn make_id(prefix: &str, mut hash: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut id = prefix.to_owned();
    while hash > 0 {
        id.push(DIGITS[(hash % 36) as usize].into());
        hash /= 36;
    }
    id
}
