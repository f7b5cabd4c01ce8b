//! The page at `/bandwidth`.

use std::sync::Arc;

use bytes::Bytes;

use super::find_vhost;
use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::{Body, Response};
use crate::app::http::router::Handler;
use crate::app::outputs::live_files::LiveFile;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::st;

/// Allows scripts, styles and data from this server only, nothing inline.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'\r\nReferrer-Policy: no-referrer\r\n";

const FILES: [(&str, &str, &[u8]); 3] = [
    ("bandwidth", "bandwidth.html", include_bytes!("page.html")),
    ("bandwidth/page.css", "page.css", include_bytes!("page.css")),
    ("bandwidth/page.js", "page.js", include_bytes!("page.js")),
];

pub(crate) struct BandwidthPageHandler {
    ctx: Context,
    files: Vec<(&'static str, Arc<LiveFile>)>,
}

impl BandwidthPageHandler {
    pub(crate) fn new(ctx: Context) -> Self {
        let now = st::system_time();
        let file = |(path, name, body): (&'static str, &str, &'static [u8])| {
            let mut file = LiveFile::new(name, Bytes::from_static(body), now);
            file.metadata.head.push_str(POLICY);
            (path, Arc::new(file))
        };
        Self { ctx, files: FILES.map(file).to_vec() }
    }
}

impl Handler for BandwidthPageHandler {
    fn handle(&self, request: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let path = request.path.trim_end_matches('/');
        let Some((_, file)) = self.files.iter().find(|(known, _)| *known == path) else { return Ok(None) };
        let config = self.ctx.config.get();
        if !config.http_server.page || find_vhost(&config, None).is_none() {
            return Ok(None);
        }
        if request.path.ends_with('/') {
            // The addresses within the page are relative to the path without a slash at its end.
            let moved = Response::text(Status::MovedPermanently, "the page has no slash at its end");
            return Ok(Some(moved.with("Location", "../bandwidth")));
        }
        Ok(Some(Response::file(request, &file.metadata, |range| {
            // The range is one of the body, so it fits.
            Body::Bytes(file.body.slice(range.start as usize..range.end as usize))
        })))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_has_nothing_inline() {
        let page = include_str!("page.html");
        for inline in ["<script>", "<style", " style=", " onclick", "javascript:"] {
            assert!(!page.contains(inline), "{inline}: the policy forbids it");
        }
        let script = include_str!("page.js");
        for unsafe_sink in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!script.contains(unsafe_sink), "{unsafe_sink}: texts are set as text");
        }
    }
}
