//! Gates of a connection: the checks that every server has, and how a connection asks all gates.
//!
//! Gates are asked before any status reaches the client, for `publish` after the name is reserved. So a refusal reaches the
//! client as a status, and no race produces a publication without its end.

mod credentials;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::credentials::CredentialGate;
use crate::app::context::Context;
use crate::app::events::{Gate, GateAction, GateAnswer, GateRequest};
use crate::app::limits::admission::Admission;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::config::{Action, refer_allows};
use crate::st::net::TcpStream;
use crate::st::{self, LowClass};

/// Longest time for one gate. It bounds gates that forget to bound themselves.
const GATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of input that are read while a gate is asked, to notice that the client has left.
const MAX_EARLY_INPUT: u64 = 64 * 1024;

pub(crate) fn built_in(admission: Admission) -> Vec<Arc<dyn Gate>> {
    vec![Arc::new(AdmissionGate(admission)), Arc::new(ReferGate), Arc::new(SecurityGate), Arc::new(CredentialGate)]
}

/// The gate that is closed while memory is short or the worker is overloaded, also for clients that were connected before.
struct AdmissionGate(Admission);

impl Gate for AdmissionGate {
    fn name(&self) -> &'static str {
        "admission"
    }

    fn asks_engines(&self) -> bool {
        true
    }

    fn check(&self, _: &GateRequest) -> Result<GateAnswer, CloseReason> {
        self.0.check().map(|()| GateAnswer::default())
    }
}

struct ReferGate;

impl Gate for ReferGate {
    fn name(&self) -> &'static str {
        "refer"
    }

    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let (vhost, page_url) = (&request.vhost, &request.client.page_url);
        let own = match request.action {
            GateAction::Connect => None,
            GateAction::Publish => Some(("refer_publish", &vhost.refer_publish)),
            GateAction::Play => Some(("refer_play", &vhost.refer_play)),
        };
        // `refer` at each action: the stream's vhost can differ from the connection's.
        for (directive, list) in [("refer", &vhost.refer)].into_iter().chain(own) {
            if !refer_allows(list, page_url) {
                let text = format!("{directive} of the vhost does not allow the page {page_url:?}");
                return Err(CloseReason::Refused(text));
            }
        }
        Ok(GateAnswer::default())
    }
}

struct SecurityGate;

impl Gate for SecurityGate {
    fn name(&self) -> &'static str {
        "security"
    }

    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let (action, verb) = match request.action {
            GateAction::Connect => return Ok(GateAnswer::default()),
            GateAction::Publish => (Action::Publish, "publish"),
            GateAction::Play => (Action::Play, "play"),
        };
        let (vhost, ip) = (&request.vhost, request.client.ip);
        if !vhost.security.allows(action, ip) {
            return Err(CloseReason::Denied(format!("security of vhost {} does not allow {ip} to {verb}", vhost.name)));
        }
        Ok(GateAnswer::default())
    }
}

/// Returns the gates that decide on a request. Programs of this server have been admitted with the stream that they run for.
fn gates_of<'a>(ctx: &'a Context, request: &'a GateRequest) -> impl Iterator<Item = &'a Arc<dyn Gate>> {
    let is_engine = request.client.engine.is_some();
    ctx.events.gates().iter().filter(move |gate| !is_engine || gate.asks_engines())
}

/// Asks the gates that answer at once, until one refuses, and returns what they grant. For `publish` that is before the name is
/// reserved: a stream that returns to its own server finds its name in use, and is to be told of the loop.
pub(crate) fn ask_immediate(ctx: &Context, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
    let mut gates = gates_of(ctx, request).filter(|gate| !gate.may_block(request));
    gates.try_fold(GateAnswer::default(), |granted, gate| gate.check(request).map(|answer| granted.merge(answer)))
}

/// Function that reads once from the client, and returns whether there was input.
pub(crate) type ReadInput<'a> = dyn FnMut() -> Result<bool, CloseReason> + 'a;

/// Asks the gates that may wait, until one refuses, and returns what they grant. `read` is called meanwhile: the end of the
/// client is an error too.
pub(crate) fn ask_blocking(
    ctx: &Context,
    client: &Client,
    request: &GateRequest,
    read: &mut ReadInput<'_>,
) -> Result<GateAnswer, CloseReason> {
    let mut gates = gates_of(ctx, request).filter(|gate| gate.may_block(request));
    gates.try_fold(GateAnswer::default(), |granted, gate| {
        ask_while_reading(gate, client, request, read).map(|answer| granted.merge(answer))
    })
}

fn ask_while_reading(
    gate: &Arc<dyn Gate>,
    client: &Client,
    request: &GateRequest,
    read: &mut ReadInput<'_>,
) -> Result<GateAnswer, CloseReason> {
    let stream = &client.stream;
    let answer: Arc<Mutex<Option<Result<GateAnswer, CloseReason>>>> = Arc::default();
    let asking = {
        let (gate, request, answer, wake) = (gate.clone(), request.clone(), answer.clone(), WakeOnDrop(stream.clone()));
        st::spawn_low_priority(LowClass::Arrivals, "gate", client.number, move || {
            // Dropped last, also when the gate panics.
            let _wake = wake;
            let result = gate.check(&request);
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        })
        .map_err(|error| CloseReason::Full(format!("no memory for a coroutine: {error}")))?
    };
    let deadline = st::now() + GATE_TIMEOUT;
    let received = stream.bytes_received();
    loop {
        if let Some(answer) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return answer;
        }
        if asking.is_finished() {
            log::error!("gate panicked, request refused: gate={}", gate.name());
            return Err(CloseReason::Refused("internal server error".to_owned()));
        }
        if let Some(reason) = client.close_requested() {
            return Err(reason);
        }
        if st::now() >= deadline {
            log::error!("gate too slow, request refused: gate={} seconds={}", gate.name(), GATE_TIMEOUT.as_secs());
            return Err(CloseReason::Refused("the server could not decide in time".to_owned()));
        }
        if stream.bytes_received() - received < MAX_EARLY_INPUT && read()? {
            continue;
        }
        stream.wait(Some(deadline));
    }
}

struct WakeOnDrop(TcpStream);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

#[cfg(test)]
mod tests;
