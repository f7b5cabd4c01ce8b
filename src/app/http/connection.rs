//! One HTTP connection: reads a request, sends the response, reads the next one.

use super::channel::{Channel, End};
use super::exchange::Exchange;
use super::response::Response;
use super::router::{Router, Site};
use super::send::{Recipient, Sent, send};
use super::state::State;
use crate::http::refusal::Refusal;
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::st::net::TcpStream;

/// Returns the reason of its end.
pub(super) fn serve(state: &State, router: &Router, site: Site, number: u64, stream: &TcpStream) -> End {
    let mut channel = Channel::new(state, number, stream);
    loop {
        let answered = channel.next_request().and_then(|request| answer(&mut channel, router, site, request));
        let finished = answered.and_then(|Sent { is_kept, rest }| {
            rest.map_or(Ok(()), |rest| rest.send(&mut channel))?;
            if is_kept { Ok(()) } else { Err(End::Done) }
        });
        if let Err(end) = finished {
            close(&mut channel, &end);
            return end;
        }
    }
}

#[inline(never)] // As `send`.
fn answer(channel: &mut Channel<'_>, router: &Router, site: Site, request: Request) -> Result<Sent, End> {
    let mut exchange = Exchange::start(channel, &request, router.max_body(site, &request))?;
    let mut response = router.handle(site, &request, &mut exchange)?;
    response.close |= !exchange.is_body_read();
    channel.state.count(response.head.status);
    let to = Recipient {
        keep_alive: request.keep_alive,
        with_body: request.method != Method::Head,
        knows_chunks: request.minor_version > 0,
    };
    // A viewer of a live stream stays for hours.
    drop(request);
    send(channel, response, to)
}

/// Sends the reason if the request is the reason, and gives the client time to read it.
#[inline(never)]
fn close(channel: &mut Channel<'_>, end: &End) {
    let refusal = match end {
        End::Refused(refusal) => *refusal,
        End::SlowRequest => Refusal { status: Status::RequestTimeout, message: "the request took too long" },
        End::Done => return channel.linger(),
        _ => return,
    };
    let response = Response::refusal(refusal);
    channel.state.count(response.head.status);
    let to = Recipient { keep_alive: false, with_body: true, knows_chunks: true };
    if send(channel, response, to).is_ok() {
        channel.linger();
    }
}
