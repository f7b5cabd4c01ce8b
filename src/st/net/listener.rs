//! Listening sockets.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::stream::TcpStream;
use super::watched::Watched;
use crate::st::block::block;

/// Most connections that the kernel queues until they are accepted: its own default limit (net.core.somaxconn). A client that
/// finds the queue full tries again one second later.
const BACKLOG: i32 = 4096;

/// A listening TCP socket. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct TcpListener(Arc<Inner>);

struct Inner {
    io: Watched<net::TcpListener>,
    closing: AtomicBool,
    /// Number of connections that are still accepted while it closes.
    left_to_accept: AtomicI32,
}

/// Creates a listening socket without the runtime, for [`TcpListener::new`]. An address that is in use is an error,
/// also for the same user, unless both sockets have `reuse_port` (SO_REUSEPORT). An IPv6 address accepts IPv6
/// connections only. Errors: those of socket(2), bind(2) and listen(2).
pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl TcpListener {
    /// Wraps a listening socket. Fails when the runtime cannot watch it.
    pub fn new(socket: net::TcpListener) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            io: Watched::new(socket)?,
            closing: AtomicBool::new(false),
            left_to_accept: AtomicI32::new(BACKLOG),
        })))
    }

    /// Creates a listening socket, see [`bind`]. Errors: those of socket(2), bind(2) and listen(2).
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::new(bind(address, false)?)
    }

    /// Blocks until a client connects. After [`TcpListener::close`] it accepts the queued connections, at most
    /// `BACKLOG`, and then returns `None`. Errors: those of accept(2); after EMFILE and similar errors the connection
    /// stays in the kernel's queue.
    pub fn accept(&self) -> io::Result<Option<TcpStream>> {
        loop {
            let is_closing = self.0.closing.load(Ordering::Relaxed);
            if is_closing && self.0.left_to_accept.load(Ordering::Relaxed) <= 0 {
                return Ok(None);
            }
            match self.0.io.inner().accept() {
                Ok((stream, peer)) => {
                    if is_closing {
                        self.0.left_to_accept.fetch_sub(1, Ordering::Relaxed);
                    }
                    return TcpStream::new(stream, peer).map(Some);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if is_closing {
                        return Ok(None);
                    }
                    block(|| self.0.io.wait_io());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes [`TcpListener::accept`] return `None` once the queued connections are accepted.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        self.0.io.wake();
    }

    /// Allows another socket of this process to listen on an overlapping address while one replaces the other:
    /// `0.0.0.0:1935` and `127.0.0.1:1935`.
    pub fn set_reuse_port(&self, reuse_port: bool) -> io::Result<()> {
        SockRef::from(self.0.io.inner()).set_reuse_port(reuse_port)
    }

    /// Returns the address that it listens on, with the port that the kernel chose for port 0.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.io.inner().local_addr()
    }
}
