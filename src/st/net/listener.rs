//! Sockets that listen.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use may::io::{CoIo, WaitIo};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::super::block;
use super::TcpStream;

/// Connections that the kernel may hold for us until they are accepted; as many as it does if nobody has told it otherwise
/// (net.core.somaxconn). Whoever finds no room there tries again a second later.
const BACKLOG: i32 = 4096;

/// A TCP socket that listens. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct TcpListener(Arc<Listening>);

struct Listening {
    io: CoIo<net::TcpListener>,
    closing: AtomicBool,
    /// Those who may still be accepted when it closes.
    rest: AtomicI32,
}

/// Binds and listens, without the runtime: for [`TcpListener::new`]. An address that somebody listens on already is an error,
/// also for the same user, unless both say `reuse_port` (SO_REUSEPORT); an IPv6 address takes IPv6 connections only.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
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
    /// Takes a socket that listens.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(socket: net::TcpListener) -> io::Result<Self> {
        Ok(Self(Arc::new(Listening {
            io: CoIo::new(socket)?,
            closing: AtomicBool::new(false),
            rest: AtomicI32::new(BACKLOG),
        })))
    }

    /// Binds and listens, see [`bind`].
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2).
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::new(bind(address, false)?)
    }

    /// Blocks until a client connects. `None` after [`TcpListener::close`], once those who were waiting then have been accepted: as many
    /// as may wait, if more keep coming.
    ///
    /// # Errors
    /// Those of accept(2); with EMFILE and its like the connection stays in the kernel's queue.
    pub fn accept(&self) -> io::Result<Option<TcpStream>> {
        loop {
            let is_closing = self.0.closing.load(Ordering::Relaxed);
            if is_closing && self.0.rest.load(Ordering::Relaxed) <= 0 {
                return Ok(None);
            }
            match self.0.io.inner().accept() {
                Ok((stream, peer)) => {
                    if is_closing {
                        self.0.rest.fetch_sub(1, Ordering::Relaxed);
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

    /// Ends the coroutine that accepts: it gets those who have connected already, then `None`.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        self.0.io.waker().wakeup();
    }

    /// Lets another socket of this process listen on a part of the same address, for as long as it takes to put one in the place
    /// of the other: an address on which this one listens for all addresses, or the other way round.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_reuse_port(&self, reuse_port: bool) -> io::Result<()> {
        SockRef::from(self.0.io.inner()).set_reuse_port(reuse_port)
    }

    /// The address that it listens on, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.io.inner().local_addr()
    }
}
