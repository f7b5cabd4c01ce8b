//! One connection of an attacker, plain or over TLS. No method panics, whatever the server does.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::common::wire::Transport;

/// Time limit of a connection attempt. The kernel retries after one second, and after three.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A port of the server.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

pub(crate) struct Attacker {
    socket: TcpStream,
    transport: Box<dyn Transport>,
    /// The server has closed the connection.
    pub(crate) closed: bool,
}

/// Way to close a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Close {
    Fin,
    Rst,
}

impl Attacker {
    /// Connects; `None` if the server refuses.
    pub(crate) fn connect(endpoint: Endpoint) -> Option<Attacker> {
        let socket = TcpStream::connect_timeout(&([127, 0, 0, 1], endpoint.port).into(), CONNECT_TIMEOUT).ok()?;
        Attacker::of(socket, endpoint)
    }

    /// Connects up to `count` times.
    pub(crate) fn connect_many(count: usize, endpoint: Endpoint) -> Vec<Attacker> {
        (0..count).filter_map(|_| Attacker::connect(endpoint)).collect()
    }

    /// Connects from the address 127.0.0.`last`.
    pub(crate) fn connect_from(last: u8, endpoint: Endpoint) -> Option<Attacker> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).ok()?;
        socket.connect_timeout(&SocketAddr::from(([127, 0, 0, 1], endpoint.port)).into(), CONNECT_TIMEOUT).ok()?;
        Attacker::of(socket.into(), endpoint)
    }

    fn of(socket: TcpStream, endpoint: Endpoint) -> Option<Attacker> {
        socket.set_nodelay(true).ok()?;
        // A server that stops reading must not block the attack.
        socket.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
        let handle = socket.try_clone().ok()?;
        let transport = transport(socket, endpoint.tls)?;
        Some(Attacker { socket: handle, transport, closed: false })
    }

    /// Sends; returns true if all bytes were sent.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.closed && (self.transport.write_all(bytes).is_err() || self.transport.flush().is_err()) {
            self.closed = true;
        }
        !self.closed
    }

    /// Reads and discards what arrives within `time`, or until the server closes the connection.
    pub(crate) fn discard_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.read(deadline, &mut [0; 16 * 1024]) > 0 {}
    }

    /// Returns what arrives within `time`, or until the server closes the connection.
    pub(crate) fn receive_for(&mut self, time: Duration) -> Vec<u8> {
        let deadline = Instant::now() + time;
        let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match self.read(deadline, &mut buffer) {
                0 => return received,
                n => received.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Returns true if `bytes` bytes arrive within `time`.
    pub(crate) fn receives(&mut self, bytes: usize, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut count = 0;
        while count < bytes {
            match self.read(deadline, &mut [0; 16 * 1024]) {
                0 => return false,
                n => count += n,
            }
        }
        true
    }

    /// Returns the next bytes that arrive within `time`; empty if none do, or if the server closes the connection.
    #[cfg(any(all(feature = "hls", feature = "http"), feature = "ssl"))]
    pub(crate) fn receive_some(&mut self, time: Duration) -> Vec<u8> {
        let mut buffer = vec![0; 16 * 1024];
        let count = self.read(Instant::now() + time, &mut buffer);
        buffer.truncate(count);
        buffer
    }

    fn read(&mut self, deadline: Instant, buffer: &mut [u8]) -> usize {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.closed || left.is_zero() {
            return 0;
        }
        self.transport.set_read_timeout(left.max(Duration::from_millis(1)));
        match self.transport.read(buffer) {
            Ok(n) => {
                self.closed = n == 0;
                n
            }
            Err(error) => {
                self.closed = !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                0
            }
        }
    }

    /// Shuts down one direction of the connection, or both.
    #[cfg(all(feature = "hls", feature = "http"))]
    pub(crate) fn shutdown(&self, how: Shutdown) {
        // Fails if the server has closed the connection.
        let _ = self.socket.shutdown(how);
    }

    /// Reads and discards what has arrived so far, without waiting. Returns the number of bytes.
    pub(crate) fn drain(&mut self) -> usize {
        let mut count = 0;
        if self.socket.set_nonblocking(true).is_ok() {
            let mut buffer = [0; 64 * 1024];
            while let Ok(n) = self.transport.read(&mut buffer) {
                count += n;
                if n < buffer.len() {
                    break;
                }
            }
        }
        let _ = self.socket.set_nonblocking(false);
        count
    }

    /// Reads one byte if one has arrived.
    pub(crate) fn read_byte(&mut self) {
        self.transport.set_read_timeout(Duration::from_millis(1));
        let _ = self.transport.read(&mut [0]);
    }

    /// Returns true if the server closes the connection within `limit`.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.closed && Instant::now() < deadline {
            self.discard_for(deadline.saturating_duration_since(Instant::now()));
        }
        self.closed
    }

    /// Closes the connection. RST discards what was not read or sent.
    pub(crate) fn close(mut self, how: Close) {
        if how == Close::Fin {
            // A socket that is closed with unread bytes sends RST.
            let _ = self.socket.shutdown(Shutdown::Write);
            self.drain();
        } else {
            // Zero linger time makes close send RST.
            let socket = socket2::Socket::from(self.socket.try_clone().expect("a handle"));
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Sets the smallest receive buffer that the kernel allows.
    pub(crate) fn shrink_receive_buffer(&self) {
        let _ = socket2::SockRef::from(&self.socket).set_recv_buffer_size(2048);
    }
}

#[cfg(feature = "ssl")]
fn transport(socket: TcpStream, tls: bool) -> Option<Box<dyn Transport>> {
    if tls {
        crate::tls_client::wrap(socket).map(|tls| Box::new(tls) as Box<dyn Transport>)
    } else {
        Some(Box::new(socket))
    }
}

#[cfg(not(feature = "ssl"))]
fn transport(socket: TcpStream, _: bool) -> Option<Box<dyn Transport>> {
    Some(Box::new(socket))
}
