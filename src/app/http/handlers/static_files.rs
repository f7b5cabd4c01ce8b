//! Files of the directory `dir` of `http_server`.

use crate::app::http::End;
use crate::app::http::disk::{Disk, OpenError};
use crate::app::http::exchange::Exchange;
use crate::app::http::response::{Body, Response};
use crate::app::http::router::Handler;
use crate::config::ConfigCell;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::uri::percent_encode;
use crate::log::quoted;

const RETRY_AFTER: u64 = 1;

pub(crate) struct StaticFileHandler {
    config: ConfigCell,
    disk: Disk,
}

impl StaticFileHandler {
    pub(crate) fn new(config: ConfigCell) -> Self {
        Self { config, disk: Disk::new() }
    }
}

impl Handler for StaticFileHandler {
    #[inline(never)] // Keeps its locals off the stack of a connection that sends a file.
    fn handle(&self, request: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        Ok(Some(match self.disk.open(&self.config.get().http_server.dir, &request.path) {
            Ok(file) => {
                let metadata = file.metadata.clone();
                Response::file(request, &metadata, |range| Body::File(file, range))
            }
            Err(OpenError::NotFound) => Response::text(Status::NotFound, "no such file"),
            Err(OpenError::IsDirectory) => Response::text(Status::MovedPermanently, "this is a directory")
                .with("Location", format_args!("/{}/", percent_encode(&request.path))),
            Err(OpenError::Busy) => Response::text(Status::ServiceUnavailable, "the disk is busy, try again")
                .with("Retry-After", RETRY_AFTER),
            Err(OpenError::Failed(error)) => {
                log::debug!("HTTP file error: path={} error={}", quoted(&request.path), quoted(error));
                Response::text(Status::InternalServerError, "the file cannot be read")
            }
        }))
    }
}
