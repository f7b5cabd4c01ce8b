//! Recordings: the list, downloads, links, removal, and the start and end of those of single streams.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::answer::{Answer, not_found, offload, problem, unavailable};
use super::auth::log_change;
use super::call::Call;
use super::core::Core;
use super::json::RecordingJson;
use super::system::unix_ms;
use super::tickets::LIFETIME;
use crate::app::http::disk::{Disk, OpenError};
use crate::app::http::response::{Body, Response};
use crate::app::session::recordings::{FinishedRecording, RecordOutcome, RecordingControl, Removal};
use crate::app::stats::collect::discard;
use crate::config::{ApiAuth, ApiRole, HttpApi};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::uri::percent_encode;

/// Answers a request that reads: the list, one recording by its id, or with `/file` after that its file.
pub(super) fn read(core: &Core, disk: &Disk, call: &Call<'_>, rest: &str) -> Answer {
    if rest.is_empty() {
        return list(core, call);
    }
    let (id, is_file) = rest.strip_suffix("/file").map_or((rest, false), |id| (id, true));
    if is_file {
        // The media are not for those who may only see figures.
        call.require(ApiRole::Admin)?;
    }
    let recording = find(core, id)?;
    if is_file {
        return download(disk, call, &recording);
    }
    Ok(core.json(core.envelope().with("recording", RecordingJson::finished(&recording))))
}

/// Answers a request for a file with a ticket. `None`: it is another one.
pub(super) fn read_by_ticket(
    core: &Core,
    disk: &Disk,
    (request, address): (&Request, IpAddr),
    config: &HttpApi,
) -> Option<Answer> {
    let rest = request.path.strip_prefix("api/v1/recordings/")?;
    let id = rest.strip_suffix("/file")?;
    let ticket = request.query.get("ticket")?;
    if !core.tickets.admits(&config.auth, id, &ticket, unix_ms() / 1000) {
        // No 401: a browser would ask for a login in a window of its own.
        return Some(Err(problem(Status::Forbidden, "the link has expired, or is not valid", &[])));
    }
    Some(read(core, disk, &Call { request, address, role: ApiRole::Admin }, rest))
}

/// Returns a link to the file of a recording that needs no secret for some hours.
pub(super) fn link(core: &Core, call: &Call<'_>, id: &str, auth: &ApiAuth) -> Answer {
    call.require(ApiRole::Admin)?;
    let recording = find(core, id)?;
    let mut url = format!("/api/v1/recordings/{}/file", recording.id);
    if auth.needs_secret() {
        let ticket = core.tickets.issue(auth, &recording.id, unix_ms() / 1000);
        let ticket = ticket.ok_or_else(|| unavailable("the system has no random numbers"))?;
        url += &format!("?ticket={ticket}");
    }
    Ok(core.json(core.envelope().with("url", url).with("seconds", LIFETIME.as_secs())))
}

pub(super) fn record(core: &Core, call: &Call<'_>, stream: &str, is_wanted: bool) -> Answer {
    call.require(ApiRole::Admin)?;
    let source = core.find_stream(stream);
    let name = source.map(|source| source.name()).unwrap_or_default();
    let recorded = control(core)?.record(&name, is_wanted);
    if recorded == RecordOutcome::NotPublished {
        return Err(not_found("no such stream is published"));
    }
    log_change(call.address, format_args!("{} recording of {name}", if is_wanted { "start" } else { "stop" }));
    let answer = core.envelope().with("stream", name).with("recording", is_wanted);
    Ok(core.json(answer.with("changed", recorded == RecordOutcome::Changed)))
}

pub(super) fn remove(core: &Core, call: &Call<'_>, id: &str) -> Answer {
    call.require(ApiRole::Admin)?;
    let recording = find(core, id)?;
    match control(core)?.remove(&recording.id) {
        Some(Removal::Removed) => {
            log_change(call.address, format_args!("remove recording {}", recording.entry.path.display()));
            Ok(core.json(core.envelope()))
        }
        Some(Removal::Unknown) => Err(unknown()),
        Some(Removal::Failed(error)) => Err(problem(Status::InternalServerError, &error, &[])),
        None => Err(unavailable("the disk does not answer")),
    }
}

/// Returns the recordings: those that are being written, then the finished ones, newest first. May wait.
fn list(core: &Core, call: &Call<'_>) -> Answer {
    let filters = ["vhost", "app", "stream", "state"].map(|name| call.query(name));
    let [vhost, app, stream, state] = &filters;
    let is_wanted = |is_finished: bool, vhost_of: &str, app_of: &str, stream_of: &str| {
        let state_of = if is_finished { RecordingJson::FINISHED } else { RecordingJson::ACTIVE };
        let is_stream =
            |wanted: &str| stream_of == wanted || core.is_stream(&format!("{vhost_of}/{app_of}/{stream_of}"), wanted);
        state.as_deref().is_none_or(|state| state == state_of)
            && core.is_vhost(vhost, vhost_of)
            && app.as_deref().is_none_or(|app| app == app_of)
            && stream.as_deref().is_none_or(is_stream)
    };
    let mut list = core.begin_list(call, "recordings");
    let control = core.ctx.recordings.control();
    for active in control.map(RecordingControl::active).unwrap_or_default() {
        let is_wanted = is_wanted(false, &active.vhost, &active.app, &active.stream);
        list.push_if(is_wanted, || RecordingJson::active(&active));
    }
    if control.is_some() && state.as_deref() != Some(RecordingJson::ACTIVE) {
        let finished = with_finished(core, |mut finished| {
            finished.sort_by_key(|recording| std::cmp::Reverse(recording.entry.started_ms));
            finished
        })?;
        for recording in &finished {
            let entry = &recording.entry;
            let is_wanted = is_wanted(true, &entry.vhost, &entry.app, &entry.stream);
            list.push_if(is_wanted, || RecordingJson::finished(recording));
        }
        discard(finished);
    }
    Ok(core.end_list(list))
}

/// Calls `f` with all finished recordings, on another thread: to copy and sort a hundred thousand takes tens of milliseconds.
fn with_finished<T: Send + 'static>(
    core: &Core,
    f: impl FnOnce(Vec<Arc<FinishedRecording>>) -> T + Send + 'static,
) -> Result<T, Box<Response>> {
    let recordings = core.ctx.recordings.clone();
    offload(move || f(recordings.control().map(RecordingControl::finished).unwrap_or_default()))
}

/// Returns the file of a recording, or the part of it that is asked for.
fn download(disk: &Disk, call: &Call<'_>, recording: &FinishedRecording) -> Answer {
    let path = recording.entry.path.to_string_lossy();
    let file = match disk.open(&recording.root, &path) {
        // Somebody else has replaced it.
        Ok(file) if file.metadata.len != recording.entry.bytes => return Err(unknown()),
        Ok(file) => file,
        Err(OpenError::NotFound | OpenError::IsDirectory) => return Err(unknown()),
        Err(OpenError::Busy) => return Err(unavailable("the disk is busy")),
        Err(OpenError::Failed(error)) => {
            return Err(problem(Status::InternalServerError, &error.to_string(), &[]));
        }
    };
    let metadata = file.metadata.clone();
    let response = Response::file(call.request, &metadata, |range| Body::File(file, range));
    let name = Path::new(&*path).file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    Ok(response.with("Content-Disposition", format_args!("attachment; filename*=UTF-8''{}", percent_encode(&name))))
}

fn find(core: &Core, id: &str) -> Result<Arc<FinishedRecording>, Box<Response>> {
    control(core)?;
    let id = id.to_owned();
    with_finished(core, move |all| all.into_iter().find(|recording| recording.id == id))?.ok_or_else(unknown)
}

fn control(core: &Core) -> Result<&dyn RecordingControl, Box<Response>> {
    core.ctx.recordings.control().ok_or_else(|| unavailable("this server does not record"))
}

fn unknown() -> Box<Response> {
    not_found("no such recording")
}
