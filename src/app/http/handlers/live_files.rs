//! Playlists and segments of live streams, from memory.

use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::{Body, Response};
use crate::app::http::router::Handler;
use crate::app::outputs::live_files::LiveFiles;
use crate::http::request::Request;
use crate::memory::Category;

pub(crate) struct LiveFileHandler(LiveFiles);

impl LiveFileHandler {
    pub(crate) fn new(files: LiveFiles) -> Self {
        Self(files)
    }
}

impl Handler for LiveFileHandler {
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let Some(file) = self.0.get(&request.path) else { return Ok(None) };
        if let Err(response) = exchange.admit_viewer() {
            return Ok(Some(*response));
        }
        let pages = file.pages(|| exchange.memory().charge(Category::Hls));
        Ok(Some(Response::file(request, &file.metadata, |range| match pages {
            Some(pages) => Body::Pages(file.body.clone(), pages, range),
            None => Body::Charged(file.body.clone(), range),
        })))
    }
}
