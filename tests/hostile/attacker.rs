//! One connection of somebody who means harm: plain or under TLS, and it never fails for what the server does.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::wire::Transport;

/// How long a connection is waited for: the kernel tries again after one second, and after three.
const CONNECT: Duration = Duration::from_secs(5);

/// How to reach the server.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

pub(crate) struct Attacker {
    socket: TcpStream,
    transport: Box<dyn Transport>,
    /// The server has closed the connection.
    pub(crate) closed: bool,
}

/// How an attacker leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Fin,
    Rst,
}

impl Attacker {
    /// Connects; `None` when the server does not let it.
    pub(crate) fn connect(target: Target) -> Option<Attacker> {
        let socket = TcpStream::connect_timeout(&([127, 0, 0, 1], target.port).into(), CONNECT).ok()?;
        Attacker::of(socket, target)
    }

    /// The same from the address 127.0.0.`last`.
    pub(crate) fn connect_from(last: u8, target: Target) -> Option<Attacker> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).ok()?;
        socket.connect_timeout(&SocketAddr::from(([127, 0, 0, 1], target.port)).into(), CONNECT).ok()?;
        Attacker::of(socket.into(), target)
    }

    fn of(socket: TcpStream, target: Target) -> Option<Attacker> {
        socket.set_nodelay(true).ok()?;
        // A server that takes nothing is not waited for.
        socket.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
        let handle = socket.try_clone().ok()?;
        let transport = transport(socket, target.tls)?;
        Some(Attacker { socket: handle, transport, closed: false })
    }

    /// Sends, and reads what there is to read, so that neither side is stuck. Whether all of it was sent.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.closed && (self.transport.write_all(bytes).is_err() || self.transport.flush().is_err()) {
            self.closed = true;
        }
        !self.closed
    }

    /// Reads and throws away what comes within `time`, or until the server closes.
    pub(crate) fn listen(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.read(deadline, &mut [0; 16 * 1024]) > 0 {}
    }

    /// What comes within `time`, or until the server closes.
    pub(crate) fn hear(&mut self, time: Duration) -> Vec<u8> {
        let deadline = Instant::now() + time;
        let (mut heard, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match self.read(deadline, &mut buffer) {
                0 => return heard,
                n => heard.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Whether so many bytes come within `time`.
    pub(crate) fn hears(&mut self, bytes: usize, time: Duration) -> bool {
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

    /// The next bytes that come within `time`: none when there are none, or the server closes.
    #[cfg(any(feature = "hls", feature = "ssl"))]
    pub(crate) fn hear_some(&mut self, time: Duration) -> Vec<u8> {
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

    /// Ends one direction of the connection, or both.
    #[cfg(feature = "hls")]
    pub(crate) fn shutdown(&self, how: Shutdown) {
        // It fails when the server was first.
        let _ = self.socket.shutdown(how);
    }

    /// Reads and throws away what is there now, as far as it goes in a moment. How many bytes it was.
    pub(crate) fn take_what_is_there(&mut self) -> usize {
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

    /// Reads one byte, if one is there.
    pub(crate) fn trickle(&mut self) {
        self.transport.set_read_timeout(Duration::from_millis(1));
        let _ = self.transport.read(&mut [0]);
    }

    /// Whether the server closes the connection within `limit`.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.closed && Instant::now() < deadline {
            self.listen(deadline.saturating_duration_since(Instant::now()));
        }
        self.closed
    }

    /// Closes the connection. With RST whatever was not read or sent is thrown away.
    pub(crate) fn leave(mut self, end: End) {
        if end == End::Fin {
            // A socket that is closed with unread bytes says RST.
            let _ = self.socket.shutdown(Shutdown::Write);
            self.take_what_is_there();
        } else {
            // The only way to RST: linger on, for no time.
            let socket = socket2::Socket::from(self.socket.try_clone().expect("a handle"));
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Has the kernel take as little as it can for this connection to read.
    pub(crate) fn shrink_receive_buffer(&self) {
        let _ = socket2::SockRef::from(&self.socket).set_recv_buffer_size(2048);
    }
}

#[cfg(feature = "ssl")]
fn transport(socket: TcpStream, tls: bool) -> Option<Box<dyn Transport>> {
    if tls {
        crate::rig::tls::wrap(socket).map(|tls| Box::new(tls) as Box<dyn Transport>)
    } else {
        Some(Box::new(socket))
    }
}

#[cfg(not(feature = "ssl"))]
fn transport(socket: TcpStream, _: bool) -> Option<Box<dyn Transport>> {
    Some(Box::new(socket))
}
