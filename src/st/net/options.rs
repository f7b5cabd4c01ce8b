//! Socket options.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use super::stream::TcpStream;

impl TcpStream {
    /// Sets whether small writes are sent at once (TCP_NODELAY).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().io.inner().set_nodelay(nodelay)
    }

    /// Makes the kernel detect within minutes that the peer is gone (SO_KEEPALIVE): probes start after `idle`.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_keepalive(&self, idle: Duration) -> io::Result<()> {
        SockRef::from(self.socket().io.inner()).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(idle))
    }

    /// Makes the socket readable only from `bytes` bytes on, or at its end (SO_RCVLOWAT).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_receive_low_water(&self, bytes: usize) -> io::Result<()> {
        self.set_number(libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
    }

    /// Limits the bytes that the kernel accepts beyond those in flight (TCP_NOTSENT_LOWAT). Without a limit it accepts megabytes
    /// for a client that reads nothing.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_unsent_limit(&self, bytes: usize) -> io::Result<()> {
        self.set_number(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
    }

    #[allow(unsafe_code)] // No crate at hand has these options.
    fn set_number(&self, level: libc::c_int, name: libc::c_int, number: usize) -> io::Result<()> {
        let number = libc::c_int::try_from(number).unwrap_or(libc::c_int::MAX);
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.socket().io.inner());
        // SAFETY: the descriptor is open as long as `self` is; the value is read for the length of a C int, which it has.
        let result = unsafe {
            let value = (&raw const number).cast();
            libc::setsockopt(fd, level, name, value, size_of::<libc::c_int>() as libc::socklen_t)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
