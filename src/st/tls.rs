//! TLS under a connection: what makes RTMP to RTMPS.
//!
//! `rustls` knows no socket, so it fits below a coroutine as it is: bytes go in, bytes come out. [`TcpStream::accept_tls`] and
//! [`TcpStream::connect_tls`] shake hands and leave a [`Session`] with the connection, which from then on reads and writes
//! through it; whoever has the connection sees no difference. Every buffer has a bound: `rustls` keeps at most one message of
//! the handshake, of at most `GREETING` bytes, or one record of the peer's, and of ours what `UNSENT` allows.
//!
//! The arithmetic of a handshake (a signature, a chain of certificates) takes a millisecond of processor time and more stack
//! than a coroutine should have, so it is done beside the worker, of two connections at a time: the others wait for their turn until
//! their time limit has passed. Records are another matter: a few microseconds each.

mod files;
mod session;

pub use files::{Acceptor, Connector, Error};
pub(super) use session::Session;

use std::io;

use rustls::{ClientConnection, Connection, ServerConnection};

use super::net::TcpStream;
use super::offload::compute;

/// Bytes that may come of a client before hands are shaken, since `rustls` keeps up to 64 KB of a message that is not complete. A greeting
/// has 2 KB with the longest keys in use, may have to be said twice, and certificates of clients are not asked for.
const GREETING: usize = 16 * 1024;

/// The same of a server, whose certificate has others behind it. It is one that somebody has chosen.
const CERTIFICATES: usize = 64 * 1024;

impl TcpStream {
    /// Shakes hands as the server. From here on all that is read and written is under TLS.
    ///
    /// # Errors
    /// Those of reading and writing, and `InvalidData` when the client's TLS is none, or none that this server takes.
    pub fn accept_tls(&self, acceptor: &Acceptor) -> io::Result<()> {
        let session = ServerConnection::new(acceptor.config()).map_err(invalid)?;
        self.shake_hands(session.into(), GREETING)
    }

    /// Shakes hands as the client of the server called `name`: a host name or an address.
    ///
    /// # Errors
    /// As [`TcpStream::accept_tls`]; also when the server's certificate is not for `name` or not trusted.
    pub fn connect_tls(&self, connector: &Connector, name: &str) -> io::Result<()> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = bare.to_owned().try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name that a certificate could have"))
        })?;
        let session = ClientConnection::new(connector.config(), name).map_err(invalid)?;
        self.shake_hands(session.into(), CERTIFICATES)
    }

    /// `most`: the bytes that may come before the peer has said all that belongs to it.
    fn shake_hands(&self, session: Connection, most: usize) -> io::Result<()> {
        // On the heap: it is handed to another thread and back, and is a kilobyte and more.
        let mut session = Box::new(session);
        let mut came = 0;
        loop {
            while session.wants_write() {
                self.write_with(|| nothing_if_blocked(session.write_tls(&mut self.wire())))?;
            }
            if !session.is_handshaking() {
                break;
            }
            match self.read_with(|| none_if_blocked(session.read_tls(&mut self.wire())))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => came += n,
            }
            let arithmetic = move || {
                let result = session.process_new_packets().map(drop);
                (session, result)
            };
            let (returned, result) = compute(|| self.check_patience(), arithmetic)?;
            session = returned;
            if let Err(error) = result {
                // The peer is told by an alert, if it can be.
                let _ = session.write_tls(&mut self.wire());
                return Err(invalid(error));
            }
            if came > most && session.is_handshaking() {
                let error = format!("TLS: the handshake is not done after {most} bytes of the other end");
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        self.set_session(Session::new(session));
        Ok(())
    }

    /// Fails when a read would, whatever there is to be read: the time limit has passed, or somebody has interrupted.
    fn check_patience(&self) -> io::Result<()> {
        self.read_with(|| Ok(Some(0))).map(drop)
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}"))
}

fn nothing_if_blocked(result: io::Result<usize>) -> io::Result<usize> {
    Ok(none_if_blocked(result)?.unwrap_or(0))
}

fn none_if_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
