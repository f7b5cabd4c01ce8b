//! Handles, identities and envelopes that all endpoints share.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::json::Object;
use super::list::List;
use super::tickets::Tickets;
use crate::app::context::Context;
use crate::app::http::response::Response;
use crate::memory::Category;

pub(super) struct Core {
    pub(super) ctx: Context,
    /// Makes ids of names: the same name has the same id until the server ends, and nobody can look for two names with one id.
    ids: RandomState,
    server_id: String,
    /// Changes with each start.
    pub(super) service_id: String,
    pub(super) tickets: Tickets,
}

impl Core {
    pub(super) fn new(ctx: Context) -> Self {
        let ids = RandomState::new();
        let (server_id, service_id) = (make_id("vid-", ids.hash_one("server")), make_id("", ids.hash_one("service")));
        Self { ctx, ids, server_id, service_id, tickets: Tickets::new() }
    }

    /// Returns whether `id` is that of the stream `name`, or its name, with or without its vhost.
    pub(super) fn is_stream(&self, name: &str, id: &str) -> bool {
        let rest = name.split_once('/').map_or("", |(_, rest)| rest);
        !id.is_empty() && (name == id || rest == id || (id.starts_with("vid-") && self.id(name) == id))
    }

    /// Returns whether `wanted` is absent, or the id or the name of a vhost.
    pub(super) fn is_vhost(&self, wanted: &Option<String>, name: &str) -> bool {
        wanted.as_deref().is_none_or(|wanted| name == wanted || self.id(name) == wanted)
    }

    pub(super) fn id(&self, name: &str) -> String {
        if name.is_empty() { String::new() } else { make_id("vid-", self.ids.hash_one(name)) }
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

    /// Returns an answer with a page of a list.
    pub(super) fn list(&self, name: &str, list: List) -> Response {
        let total = list.total();
        self.json(self.envelope().with_json(name, &list.finish()).with("total", total))
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
