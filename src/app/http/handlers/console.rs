//! The console: the page at `/`, for operators by the API, and for viewers by the list of live streams.
//!
//! ```text
//! /                   the page; at http_api for browsers only, because tools expect the list of endpoints there
//! /console/FILE       its modules, style sheets, and the players that `make` has downloaded
//! /console/site.json  the facts about this server that need no login
//! /streams.json       the live streams, at http_server only
//! ```
//!
//! Operators see what `/api/v1` tells them, with its secrets and roles: the page has no rights of its own.

mod assets;
mod stream_list;

use bytes::Bytes;
use serde::Serialize;

use self::assets::Assets;
use self::stream_list::ListCache;
use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::{Body, Response};
use crate::app::http::router::{HTTP_API, HTTP_SERVER, Handler, Site};
use crate::app::outputs::live_files::{LiveFile, LiveFiles};
use crate::app::stats::collect;
use crate::config::{Config, Listen};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::memory::Category;
use crate::st::{self, Shared};

const RTMP_PORT: u16 = 1935;

pub(crate) struct ConsoleHandler {
    ctx: Context,
    site: Site,
    live_files: LiveFiles,
    assets: Assets,
    list: Shared<ListCache>,
}

/// The facts about the server that the page needs before any login.
#[derive(Serialize)]
struct SiteInfo {
    server: &'static str,
    version: &'static str,
    rtmp_port: u16,
    rtmps_port: Option<u16>,
    http_port: Option<u16>,
    /// Media have the address of this page.
    is_media_here: bool,
    page: bool,
    /// `api/v1` is below the address of this page.
    has_api: bool,
}

impl ConsoleHandler {
    /// Creates the handlers of `http_server` and `http_api`, in a coroutine: it reads files. `live_files` tell which streams have
    /// HLS.
    pub(crate) fn for_sites(ctx: &Context, live_files: &LiveFiles) -> [Self; 2] {
        let config = ctx.config.get();
        let is_served = config.http_server.enabled && config.http_server.page || config.http_api.enabled;
        let assets = Assets::load(is_served);
        [HTTP_SERVER, HTTP_API].map(|site| Self {
            ctx: ctx.clone(),
            site,
            live_files: live_files.clone(),
            assets: assets.clone(),
            list: Shared::default(),
        })
    }

    fn stream_list(&self, config: &Config) -> Bytes {
        if let Some(list) = self.list.with(|cache| cache.get(st::now())) {
            return list;
        }
        let streams = collect::streams_without_traffic(&self.ctx);
        let rtmp_port = first_port(&config.listen).unwrap_or(RTMP_PORT);
        let list = stream_list::render(&streams, &self.live_files, rtmp_port);
        // Charged, since slow clients may keep many old lists.
        let list = self.ctx.memory.charge_bytes(Category::Http, list.into());
        self.list.with(|cache| cache.set(list.clone()));
        list
    }

    fn site_info(&self, config: &Config) -> SiteInfo {
        let is_server = self.site == HTTP_SERVER;
        SiteInfo {
            server: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            rtmp_port: first_port(&config.listen).unwrap_or(RTMP_PORT),
            rtmps_port: first_port(&config.rtmps.listen).filter(|_| config.rtmps.enabled),
            http_port: http_port(config),
            is_media_here: is_server,
            page: is_server,
            has_api: !is_server || config.http_server.api,
        }
    }

    fn page(&self, request: &Request, config: &Config) -> Response {
        let page = self.assets.page(request.path.ends_with('/'));
        let media = http_port(config).filter(|_| self.site == HTTP_API);
        let page = file(request, page).with("Content-Security-Policy", policy(media));
        page.with("Referrer-Policy", "no-referrer").with("Vary", "Accept")
    }
}

impl Handler for ConsoleHandler {
    fn handle(&self, request: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.ctx.config.get();
        let is_server = self.site == HTTP_SERVER;
        if is_server && !config.http_server.page {
            return Ok(None);
        }
        Ok(match request.path.as_str() {
            "" if is_server || wants_page(request) => Some(self.page(request, &config)),
            "console/" => Some(self.page(request, &config)),
            "streams.json" if is_server => Some(Response::json(self.stream_list(&config))),
            "console/site.json" => {
                let facts = serde_json::to_string(&self.site_info(&config)).unwrap_or_default();
                Some(Response::json(self.ctx.memory.charge_bytes(Category::Http, facts.into())))
            }
            path => match path.strip_prefix("console/") {
                Some(name) => match self.assets.get(name) {
                    Some(asset) => Some(file(request, asset)),
                    // An application may be named console too. The API would ask for a login, and browsers would wait for one
                    // before they run the page.
                    None => (!is_server).then(|| Response::text(Status::NotFound, "no such file")),
                },
                None => None,
            },
        })
    }
}

/// Returns the policy of the page: scripts, styles and data come from this server only, nothing is inline. hls.js plays
/// media as a blob. `media_port` is that of `http_server` if the page comes from another port: media come from there.
fn policy(media_port: Option<u16>) -> String {
    let media = media_port.map(|port| format!(" http://*:{port}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{media}; media-src 'self' blob:{media}; \
         img-src 'self' data:{media}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    )
}

fn file(request: &Request, file: &LiveFile) -> Response {
    Response::file(request, &file.metadata, |range| {
        // The range is one of the body, so it fits.
        Body::Bytes(file.body.slice(range.start as usize..range.end as usize))
    })
}

fn wants_page(request: &Request) -> bool {
    request.headers.get("accept").is_some_and(|accept| accept.contains("text/html"))
}

fn first_port(listen: &[Listen]) -> Option<u16> {
    listen.first().map(|listen| listen.address.port())
}

fn http_port(config: &Config) -> Option<u16> {
    first_port(&config.http_server.listen).filter(|_| config.http_server.enabled)
}

#[cfg(test)]
mod tests;
