//! Accepts connections and hands each to the server of its protocol.

use std::time::Duration;

use crate::app::server::listeners::Listener;
use crate::config::ListenKind;
use crate::log::{Throttle, quoted};
use crate::st;
use crate::st::net::TcpStream;

const ACCEPT_BATCH: usize = 16;

/// Pause of the acceptor when the system has no file descriptor or memory for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Receiver of accepted connections. Must return at once: each connection gets a coroutine of its own.
pub(crate) trait ServeAccepted: Send + Sync {
    fn serve_accepted(&self, stream: &TcpStream, kind: ListenKind);
}

pub(crate) fn run(listener: &Listener, protocols: &dyn ServeAccepted) {
    let mut warning = Throttle::new(LOG_INTERVAL);
    let mut warned = false;
    let mut accepted = 0;
    loop {
        match listener.socket.accept() {
            Ok(None) => return,
            Ok(Some(stream)) => {
                if std::mem::take(&mut warned) {
                    log::info!("accepting clients again");
                }
                protocols.serve_accepted(&stream, listener.listen().kind);
                accepted = (accepted + 1) % ACCEPT_BATCH;
                if accepted == 0 {
                    st::yield_now();
                }
            }
            Err(error) => {
                // For example EMFILE: the connection waits in the kernel.
                if warning.pass(st::now()) {
                    warned = true;
                    let advice = quoted("raise the limit of open files (ulimit -n)");
                    log::warn!("cannot accept clients: error={} advice={advice}", quoted(error));
                }
                st::sleep(ACCEPT_RETRY);
            }
        }
    }
}
