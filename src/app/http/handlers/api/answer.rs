//! Answers that are not lists or reports: errors of SRS, problems, scripts for JSONP.

use super::json::Object;
use crate::app::http::response::Response;
use crate::http::status::Status;
use crate::st;

const MAX_CALLBACK: usize = 64;

pub(super) type Answer = Result<Response, Box<Response>>;

/// Returns an error as SRS sends it: with the status 200.
pub(super) fn error(code: u32) -> Response {
    Response::json(Object::new().with("code", code).finish().into())
}

/// Returns an error as RFC 9457 describes it.
pub(super) fn problem(status: Status, detail: &str, errors: &[String]) -> Box<Response> {
    let body = Object::new().with("title", status.reason()).with("status", status.code()).with("detail", detail);
    let body = if errors.is_empty() { body } else { body.with("errors", errors) };
    Box::new(Response::content(status, "application/problem+json", body.finish().into()))
}

pub(super) fn bad_request(detail: &str) -> Box<Response> {
    problem(Status::BadRequest, detail, &[])
}

pub(super) fn not_found(detail: &str) -> Box<Response> {
    problem(Status::NotFound, detail, &[])
}

/// Runs `f` on another thread, so that it delays nobody. Refuses the request if too many wait for one. May wait.
pub(super) fn offload<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Box<Response>> {
    st::offload(f).map_err(|_| unavailable("the server is busy"))
}

pub(super) fn unavailable(detail: &str) -> Box<Response> {
    problem(Status::ServiceUnavailable, detail, &[])
}

/// Returns the problem of a request with another method than these. Closes the connection, as a body may follow.
pub(super) fn method_not_allowed(methods: &str) -> Box<Response> {
    let response = *problem(Status::MethodNotAllowed, &format!("only {methods} are allowed"), &[]);
    Box::new(Response { close: true, ..response }.with("Allow", methods))
}

/// Returns a JSON answer as a script that calls `callback` with it. Others, and invalid names, are refused.
pub(super) fn jsonp(response: Response, callback: &str) -> Response {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if callback.is_empty() || callback.len() > MAX_CALLBACK || !callback.bytes().all(is_valid) {
        return *bad_request("the name of the callback is invalid");
    }
    match response.body_bytes() {
        Some(json) if response.head.status == Status::Ok => {
            let script = [callback.as_bytes(), b"(", &json, b")"].concat();
            Response::content(Status::Ok, "text/javascript", script.into())
        }
        _ => response,
    }
}
