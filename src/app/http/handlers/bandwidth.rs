//! Bandwidth tests over HTTP, for browsers: the page at `/bandwidth`, and what it measures with.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bandwidth` | the page |
//! | `GET /api/v1/bandwidth` | the limits, if the key is right |
//! | `GET /api/v1/bandwidth/download?bytes=N` | N bytes; 0 measures the round-trip time |
//! | `POST /api/v1/bandwidth/upload` | the number of bytes of the body |
//! | `POST /api/v1/bandwidth/result?…` | the report, after which the test is over |
//!
//! The first transfer of an address starts its test, by the rules of `bandcheck`. Further ones belong to it until the result, or
//! until its time is up. All run in coroutines of low priority.

mod page;
mod sessions;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::json;

use self::sessions::{Direction, MAX_TRANSFERS, Results, Sessions, StartError, TEST_LIMIT, TransferGuard};
use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::handlers::api::Api;
use crate::app::http::response::{Body, Response};
use crate::app::http::router::Handler;
use crate::app::http::writer::BodyWriter;
use crate::app::limits::bandwidth_tests::TestRefusal;
use crate::config::{Config, Vhost};
use crate::http::request::{Method, Request};
use crate::http::response::{Head, ResponseLength};
use crate::http::status::Status;
use crate::st;

pub(crate) use page::BandwidthPageHandler;

const MAX_DOWNLOAD: u64 = 1 << 30;
const MAX_UPLOAD: u64 = 64 << 20;

const MAX_NAME: usize = 32;

const CHUNK: usize = 64 * 1024;

/// Bytes that the kernel takes beyond those in flight, during and after a transfer.
const TRANSFER_UNSENT: usize = 64 * 1024;
const DEFAULT_UNSENT: usize = 512 * 1024;

/// The header field with the key, which pages of other sites cannot send.
const KEY_FIELD: &str = "x-bandwidth-key";

pub(crate) struct BandwidthHandler {
    ctx: Context,
    api: Arc<Api>,
    sessions: Sessions,
}

type Answer = Result<Response, Box<Response>>;

impl BandwidthHandler {
    /// Creates the handler. `api` knows the logins that are as good as the key.
    pub(crate) fn new(ctx: Context, api: Arc<Api>) -> Self {
        Self { sessions: Sessions::new(ctx.clone()), ctx, api }
    }

    fn vhost(&self, config: &Config, request: &Request, address: IpAddr) -> Result<Arc<Vhost>, Box<Response>> {
        let wanted = request.query.get("vhost");
        let Some(vhost) = find_vhost(config, wanted.as_deref()) else {
            return Err(problem(Status::NotFound, "no vhost of this server is for bandwidth tests", None));
        };
        if self.api.has_login(request, address) {
            return Ok(vhost.clone());
        }
        let in_query = request.query.get("key");
        let key = request.headers.get_single(KEY_FIELD).or(in_query.as_deref());
        match self.ctx.bandwidth_tests.check_key(vhost, address, key) {
            Ok(()) => Ok(vhost.clone()),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    fn start(
        &self,
        vhost: &Arc<Vhost>,
        request: &Request,
        exchange: &mut Exchange<'_, '_>,
        direction: Direction,
    ) -> Result<TransferGuard, Box<Response>> {
        exchange.admit_viewer()?;
        let name = request.query.get("test").unwrap_or_default();
        if name.len() > MAX_NAME {
            return Err(problem(Status::BadRequest, "the parameter test is too long", None));
        }
        let address = exchange.peer().ip().to_canonical();
        self.sessions.start(vhost, address, name, exchange.number(), direction).map_err(|refused_by| match refused_by {
            StartError::Rule(refusal) => refused(refusal),
            StartError::TooMany => {
                let text = format!("more than {MAX_TRANSFERS} transfers at a time");
                problem(Status::TooManyRequests, &text, Some(1))
            }
        })
    }

    fn limits(&self, vhost: &Vhost) -> Response {
        json_response(
            Status::Ok,
            &json!({
                "limit_kbps": vhost.bandcheck.limit_kbps,
                "max_download_bytes": MAX_DOWNLOAD,
                "max_upload_bytes": MAX_UPLOAD,
                "max_transfers": MAX_TRANSFERS,
                "max_seconds": TEST_LIMIT.as_secs(),
            }),
        )
    }

    fn download(&self, vhost: &Arc<Vhost>, request: &Request, exchange: &mut Exchange<'_, '_>) -> Answer {
        let bytes = request.query.get("bytes").and_then(|bytes| bytes.parse::<u64>().ok());
        let Some(bytes) = bytes.filter(|bytes| *bytes <= MAX_DOWNLOAD) else {
            let text = format!("the parameter bytes must be a number from 0 to {MAX_DOWNLOAD}");
            return Err(problem(Status::BadRequest, &text, None));
        };
        let transfer = self.start(vhost, request, exchange, Direction::Download)?;
        let head = Head::new(Status::Ok, ResponseLength::Known(bytes))
            .with("Content-Type", "application/octet-stream")
            .with("Cache-Control", "no-store");
        let body = if bytes == 0 || request.method == Method::Head {
            Body::Empty
        } else {
            Body::Stream(Box::new(move |writer| send(writer, bytes, &transfer)))
        };
        Ok(Response { head, body, close: false })
    }

    fn upload(&self, vhost: &Arc<Vhost>, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Answer, End> {
        let transfer = match self.start(vhost, request, exchange, Direction::Upload) {
            Ok(transfer) => transfer,
            Err(response) => return Ok(Err(response)),
        };
        let mut total = 0;
        exchange.read_body_in_parts(|bytes| {
            total += bytes;
            transfer.count(bytes);
            transfer.pause(bytes)
        })?;
        Ok(Ok(json_response(Status::Ok, &json!({ "bytes": total }))))
    }

    fn result(&self, request: &Request, address: IpAddr) -> Answer {
        let number = |name: &str| {
            let number = request.query.get(name).and_then(|number| number.parse::<f64>().ok());
            number.filter(|number| number.is_finite() && *number >= 0.0)
        };
        let results = Results {
            play_kbps: number("download_kbps"),
            publish_kbps: number("upload_kbps"),
            rtt_ms: number("latency_ms"),
            jitter_ms: number("jitter_ms"),
        };
        match self.sessions.finish(address, &request.query.get("test").unwrap_or_default(), results) {
            Some(report) => {
                let report = serde_json::to_value(report.as_ref()).unwrap_or_default();
                Ok(json_response(Status::Ok, &report))
            }
            None => Err(problem(Status::NotFound, "no test of your address runs, or its time is up", None)),
        }
    }
}

impl Handler for BandwidthHandler {
    fn methods(&self) -> &'static [Method] {
        &[Method::Get, Method::Head, Method::Post]
    }

    fn max_body(&self) -> u64 {
        MAX_UPLOAD
    }

    #[inline(never)] // Keeps its locals off the stack of a connection that waits.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.ctx.config.get();
        let Some(path) = request.path.strip_prefix("api/v1/bandwidth") else { return Ok(None) };
        let (path, is_post) = (path.trim_matches('/'), request.method == Method::Post);
        let is_known = matches!((path, is_post), ("" | "download", false) | ("upload" | "result", true));
        let address = exchange.peer().ip().to_canonical();
        let answer = if !is_known {
            Err(problem(Status::NotFound, "no such endpoint", None))
        } else {
            match (self.vhost(&config, request, address), path) {
                (Err(response), _) => Err(response),
                (Ok(vhost), "download") => self.download(&vhost, request, exchange),
                (Ok(vhost), "upload") => self.upload(&vhost, request, exchange)?,
                (Ok(_), "result") => self.result(request, address),
                (Ok(vhost), _) => Ok(self.limits(&vhost)),
            }
        };
        Ok(Some(answer.unwrap_or_else(|response| *response).private()))
    }
}

/// Sends bytes until the transfer is complete or the time of the test is up.
fn send(writer: &mut BodyWriter<'_, '_>, bytes: u64, transfer: &TransferGuard) -> Result<(), End> {
    let stream = writer.stream().clone();
    let _ = stream.set_unsent_limit(TRANSFER_UNSENT);
    let (noise, before) = (noise(), acknowledged(&stream));
    let (mut left, mut counted) = (bytes, 0);
    while left > 0 {
        let length = left.min(CHUNK as u64);
        writer.write(noise.slice(..length as usize))?;
        left -= length;
        let acked = acknowledged(&stream).saturating_sub(before).min(bytes);
        transfer.count(acked.saturating_sub(counted));
        counted = counted.max(acked);
        st::yield_now();
        transfer.pause(length)?;
    }
    let info = stream.tcp_info().unwrap_or_default();
    transfer.set_network(info.min_rtt, info.retransmits);
    let _ = stream.set_unsent_limit(DEFAULT_UNSENT);
    Ok(())
}

fn acknowledged(stream: &st::net::TcpStream) -> u64 {
    stream.tcp_info().map_or(0, |info| info.bytes_acked)
}

/// Returns bytes without patterns, so that links which compress do not seem faster than they are.
fn noise() -> Bytes {
    static NOISE: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        };
        (0..CHUNK).map(next).collect::<Vec<_>>().into()
    };
    NOISE.get_or_init(make).clone()
}

/// Returns the vhost for tests of this name, or the first one.
fn find_vhost<'a>(config: &'a Config, name: Option<&str>) -> Option<&'a Arc<Vhost>> {
    let is_usable = |vhost: &&Arc<Vhost>| vhost.enabled && vhost.bandcheck.enabled;
    match name {
        Some(name) => config.vhosts.values().filter(is_usable).find(|vhost| vhost.name.eq_ignore_ascii_case(name)),
        None => config.vhosts.values().find(is_usable),
    }
}

fn refused(refusal: TestRefusal) -> Box<Response> {
    let status = match refusal {
        TestRefusal::WrongKey => Status::Unauthorized,
        TestRefusal::TooManyKeys | TestRefusal::Wait(_) => Status::TooManyRequests,
    };
    problem(status, &refusal.to_string(), refusal.retry_after())
}

fn problem(status: Status, text: &str, retry_after: Option<u64>) -> Box<Response> {
    let response = json_response(status, &json!({ "error": text, "retry_after": retry_after }));
    Box::new(match retry_after {
        Some(seconds) => response.with("Retry-After", seconds),
        None => response,
    })
}

fn json_response(status: Status, value: &serde_json::Value) -> Response {
    let body = Bytes::from(format!("{value}\n"));
    let head = Head::new(status, ResponseLength::Known(body.len() as u64))
        .with("Content-Type", "application/json")
        .with("Cache-Control", "no-store");
    Response { head, body: Body::Bytes(body), close: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vhost_for_tests_is_found_by_name_or_is_the_first() {
        let text =
            "listen 1; vhost __defaultVhost__ { } vhost off.com { enabled off; bandcheck { enabled on; key a; } }
            vhost b.com { bandcheck { enabled on; key b; } } vhost c.com { bandcheck { enabled on; key c; } }";
        let config = Config::parse("t", text).unwrap();
        let found = |name| find_vhost(&config, name).map(|vhost| vhost.name.as_str());
        assert_eq!([found(None), found(Some("C.com"))], [Some("b.com"), Some("c.com")]);
        assert_eq!([found(Some("off.com")), found(Some("a")), found(Some("__defaultVhost__"))], [None; 3]);
    }

    #[test]
    fn noise_has_no_patterns() {
        let noise = noise();
        let mut counts = [0_u32; 256];
        noise.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert_eq!(noise.len(), CHUNK);
        assert!(counts.iter().all(|count| (150..400).contains(count)), "{counts:?}");
    }
}
