//! The end of the server: closes connections in order, and flushes what would be lost with the process.

use std::time::Duration;

use crate::app::context::{Context, Feature};
use crate::app::server::listeners::Listeners;
use crate::app::session::close::CloseReason;
use crate::app::stream::ClientHandle;
use crate::st;

pub(super) const PLAYER_DRAIN: Duration = Duration::from_secs(30);

const PUBLISHER_DRAIN: Duration = Duration::from_secs(2);

const FLUSH_TIME: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ends all connections in order: stops accepting, closes publishers, and flushes buffered data to players.
pub(super) fn drain(ctx: &Context, listeners: &Listeners) {
    listeners.close();
    for client in ctx.clients.all() {
        if client.is_publishing() {
            client.close(CloseReason::ServerStopped);
        }
    }
    wait_while(PUBLISHER_DRAIN, || ctx.stats.publish.count() > 0);
    ctx.streams.unpublish_all();
    for client in ctx.clients.all() {
        client.close(CloseReason::ServerStopped);
    }
    wait_while(PLAYER_DRAIN, || !ctx.clients.is_empty());
    let count = ctx.clients.len();
    if count > 0 {
        log::warn!("clients disconnected before they received all data: count={count}");
    }
}

pub(super) fn finish(ctx: &Context, listeners: &Listeners, features: &[std::sync::Arc<dyn Feature>]) {
    listeners.close();
    ctx.streams.unpublish_all();
    // Lets the players' coroutines write the last messages.
    st::yield_now();
    let deadline = st::now() + FLUSH_TIME;
    for feature in features {
        feature.flush(deadline);
    }
}

fn wait_while(limit: Duration, condition: impl Fn() -> bool) {
    let deadline = st::now() + limit;
    while condition() && st::now() < deadline {
        st::sleep(POLL_INTERVAL);
    }
}
