//! Outgoing connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::stream::TcpStream;
use crate::st::clock;

impl TcpStream {
    /// Connects, in at most `timeout`. Errors: those of connect(2), `TimedOut` among them.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::connect_with(address, timeout, None)
    }

    /// Connects with a receive buffer of `receive_buffer` bytes (SO_RCVBUF), which must be set before the peer learns
    /// its size. Errors: those of [`TcpStream::connect`] and of setsockopt(2).
    pub fn connect_with(address: SocketAddr, timeout: Duration, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = Self::new(socket.into(), address)?;
        let deadline = clock::now() + timeout;
        loop {
            let socket = stream.socket().io.inner();
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            match socket.peer_addr() {
                Ok(_) => return Ok(stream),
                Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
                Err(error) => return Err(error),
            }
            if stream.wait(Some(deadline)).timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}
