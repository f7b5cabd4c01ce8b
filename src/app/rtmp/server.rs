//! The RTMP server: one coroutine for each accepted client, from the first byte to the line about its end.

use std::sync::Arc;

use crate::app::context::{Commit, Context, Feature, PrepareError};
use crate::app::events::Event;
use crate::app::rtmp::KEEPALIVE_IDLE;
use crate::app::rtmp::serve::serve;
use crate::app::rtmp::tls::TlsAcceptor;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::config::{Config, ListenKind};
use crate::log::{as_client, quoted};
use crate::st::net::TcpStream;
use crate::st::{self, LowClass};

pub(crate) struct RtmpServer {
    ctx: Context,
    tls: TlsAcceptor,
}

impl RtmpServer {
    /// Creates the server. `tls` is the certificate of its RTMPS listeners.
    pub(crate) fn new(ctx: Context, tls: TlsAcceptor) -> Self {
        Self { ctx, tls }
    }

    pub(crate) fn serve_accepted(self: &Arc<Self>, stream: &TcpStream, kind: ListenKind) {
        // A socket without keepalive is found dead at a write.
        let _ = stream.set_keepalive(KEEPALIVE_IDLE);
        let ctx = &self.ctx;
        let _ = stream.set_ack_timeout(ctx.config.get().send_timeout);
        let Some((client, rejection)) = ctx.clients.add(stream, &ctx.config.get()) else {
            ctx.stats.closed.count(&CloseReason::Full(String::new()));
            return;
        };
        let (number, unserved) = (client.number, client.clone());
        // A pointer, because what the closure owns lies on the stack of a waiting player.
        let server = self.clone();
        let spawned = st::spawn_low_priority(LowClass::Arrivals, "client", number, move || {
            let guard = ClientGuard { server, client };
            let (ctx, client) = (&guard.server.ctx, &guard.client);
            let reason = serve(ctx, &guard.server.tls, client, kind, rejection);
            record_close(ctx, client, &reason);
        });
        if let Err(error) = spawned {
            record_close(ctx, &unserved, &CloseReason::Full(format!("no memory for a coroutine: {error}")));
            ctx.clients.remove(&unserved);
        }
    }
}

impl Feature for RtmpServer {
    fn name(&self) -> &'static str {
        "rtmp"
    }

    /// Loads the certificate, even if its path is the same: a renewed certificate has the old name.
    fn prepare(&self, new: &Arc<Config>) -> Result<Commit, PrepareError> {
        let config = new.clone();
        let loaded = st::offload(move || TlsAcceptor::load(&config))??;
        let tls = self.tls.clone();
        Ok(Box::new(move || tls.replace(loaded)))
    }
}

/// Entry of a client in the list of clients. Dropping it removes the client.
struct ClientGuard {
    server: Arc<RtmpServer>,
    client: Arc<Client>,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        let ctx = &self.server.ctx;
        ctx.clients.remove(&self.client);
        record_close(ctx, &self.client, &CloseReason::Crashed);
    }
}

/// Logs and counts the end of a connection. Only the first call for a client has an effect.
#[inline(never)] // Keeps its locals off the stack of a waiting player.
pub(crate) fn record_close(ctx: &Context, client: &Client, reason: &CloseReason) {
    let Some(messages) = client.finish_stats() else { return };
    ctx.stats.closed.count(reason);
    let (bytes_in, bytes_out) = (client.stream.bytes_received(), client.stream.bytes_sent());
    let lasted = st::now().duration_since(client.connected_at);
    let (id, ip, reason_of_event) = (client.number, client.address().ip(), reason.clone());
    ctx.events.emit(&match client.info() {
        Some(info) => Event::Closed { client: info.clone(), reason: reason_of_event, lasted, bytes_in, bytes_out },
        None => Event::Refused { id, ip, reason: reason_of_event, lasted, bytes_in, bytes_out },
    });
    let line = format!(
        "connection closed: code={} reason={} seconds={:.1} bytes_in={} bytes_out={} messages={} dropped={}",
        reason.code(),
        quoted(reason),
        lasted.as_secs_f32(),
        bytes_in,
        bytes_out,
        messages.passed,
        messages.dropped
    );
    as_client(client.number, || if reason.is_ordinary() { log::info!("{line}") } else { log::warn!("{line}") });
}
