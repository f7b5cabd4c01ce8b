//! TLS on a connection, for RTMPS.
//!
//! `rustls` does no input or output, so it fits below a coroutine: bytes go in, bytes come out. [`TcpStream::accept_tls`] and
//! [`TcpStream::connect_tls`] do the handshake and attach a `Session` to the connection. From then on all reads and writes go
//! through it, and users of the connection see no difference. Every buffer is bounded: `rustls` keeps at most one handshake
//! message, of at most `MAX_CLIENT_HANDSHAKE` bytes, or one record of the peer, and `session::MAX_UNSENT` bytes to send.
//!
//! The arithmetic of a handshake (signatures, certificate chains) takes a millisecond of processor time and more stack than a
//! coroutine has. It runs on two other threads; further handshakes queue until their time limit. A record takes a few
//! microseconds and is processed on the worker.

mod files;
mod session;

pub use files::{Acceptor, Connector, Error};
pub(super) use session::Session;

use std::io;

use rustls::{ClientConnection, Connection, ServerConnection};

use self::session::{invalid_data, would_block_to_none};
use super::net::TcpStream;
use super::offload::compute;

/// Most bytes from a client during the handshake, since `rustls` buffers up to 64 KB of an incomplete message. A ClientHello has
/// 2 KB with the longest keys in use, may be needed twice, and client certificates are not requested.
const MAX_CLIENT_HANDSHAKE: usize = 16 * 1024;

/// Most bytes from a server during the handshake: it sends its certificate chain. The operator has chosen the server.
const MAX_SERVER_HANDSHAKE: usize = 64 * 1024;

impl TcpStream {
    /// Does the handshake as the server. From then on the connection uses TLS. Errors: those of reading and writing,
    /// and `InvalidData` when the client sends invalid or unsupported TLS.
    pub fn accept_tls(&self, acceptor: &Acceptor) -> io::Result<()> {
        let session = ServerConnection::new(acceptor.config()).map_err(invalid_data)?;
        self.handshake(session.into(), MAX_CLIENT_HANDSHAKE)
    }

    /// Does the handshake as a client of the server `name`: a host name or an address. Errors: those of
    /// [`TcpStream::accept_tls`]; also when the server's certificate is not for `name` or not trusted.
    pub fn connect_tls(&self, connector: &Connector, name: &str) -> io::Result<()> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = bare.to_owned().try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("TLS: {name:?} is not a valid server name"))
        })?;
        let session = ClientConnection::new(connector.config(), name).map_err(invalid_data)?;
        self.handshake(session.into(), MAX_SERVER_HANDSHAKE)
    }

    /// Does the handshake, in which the peer may send `max_bytes`.
    fn handshake(&self, session: Connection, max_bytes: usize) -> io::Result<()> {
        // Boxed: it moves to another thread and back, and has more than a kilobyte.
        let mut session = Box::new(session);
        let mut bytes_in = 0;
        loop {
            while session.wants_write() {
                self.write_blocking(|| would_block_to_zero(session.write_tls(&mut self.socket())))?;
            }
            if !session.is_handshaking() {
                break;
            }
            match self.read_blocking(|| would_block_to_none(session.read_tls(&mut self.socket())))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => bytes_in += n,
            }
            let arithmetic = move || {
                let result = session.process_new_packets().map(drop);
                (session, result)
            };
            let (returned, result) = compute(|| self.check_limits(), arithmetic)?;
            session = returned;
            if let Err(error) = result {
                // Sends an alert to the peer, if possible.
                let _ = session.write_tls(&mut self.socket());
                return Err(invalid_data(error));
            }
            if bytes_in > max_bytes && session.is_handshaking() {
                let error = format!("TLS: the handshake is incomplete after {max_bytes} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        self.set_session(Session::new(session));
        Ok(())
    }

    /// Fails when the time limit has passed or the connection is interrupted.
    fn check_limits(&self) -> io::Result<()> {
        self.read_blocking(|| Ok(Some(0))).map(drop)
    }
}

fn would_block_to_zero(result: io::Result<usize>) -> io::Result<usize> {
    Ok(would_block_to_none(result)?.unwrap_or(0))
}

#[cfg(test)]
mod tests;
