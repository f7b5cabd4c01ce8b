//! Socket options.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use super::stream::TcpStream;

/// Time between keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

impl TcpStream {
    /// Makes the kernel delay acknowledgements of small segments (TCP_QUICKACK off), until one segment alone has waited for 40 ms.
    pub fn delay_acks(&self) -> io::Result<()> {
        self.set_number(libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)
    }

    /// Returns whether the kernel delays acknowledgements.
    pub fn delays_acks(&self) -> bool {
        self.number(libc::IPPROTO_TCP, libc::TCP_QUICKACK).is_ok_and(|quick| quick == 0)
    }

    /// Sets whether small writes are sent at once (TCP_NODELAY).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().io.inner().set_nodelay(nodelay)
    }

    /// Makes the kernel detect that a peer is gone which has nothing to acknowledge (SO_KEEPALIVE): probes start after
    /// `idle`. The limit of [`TcpStream::set_ack_timeout`] applies to them.
    pub fn set_keepalive(&self, idle: Duration) -> io::Result<()> {
        let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(self.socket().io.inner()).set_tcp_keepalive(&keepalive)
    }

    /// Makes the kernel fail the connection with `TimedOut` when sent bytes, or keepalive probes, are not acknowledged
    /// for `timeout`, or the peer does not read for that long while there is something to send (TCP_USER_TIMEOUT).
    /// Without it that takes 15 minutes: retransmissions go on, and the socket still has room.
    pub fn set_ack_timeout(&self, timeout: Duration) -> io::Result<()> {
        SockRef::from(self.socket().io.inner()).set_tcp_user_timeout(Some(timeout))
    }

    /// Returns what the peer has not acknowledged: the bytes that the kernel holds for it (SIOCOUTQ), and the time since its
    /// last acknowledgement. Zeros if there is nothing.
    pub fn unacknowledged(&self) -> (usize, Duration) {
        let bytes = self.send_queue();
        let since_ack = || self.tcp_info().map_or(Duration::ZERO, |info| info.since_ack);
        (bytes, if bytes > 0 { since_ack() } else { Duration::ZERO })
    }

    #[allow(unsafe_code)] // As `set_number`.
    fn send_queue(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.socket().io.inner());
        // SAFETY: the descriptor is open as long as `self` is; the call writes one C int, which `bytes` is.
        let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
        if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
    }

    /// Makes the socket readable only from `bytes` bytes on, or at its end (SO_RCVLOWAT).
    pub fn set_receive_low_water(&self, bytes: usize) -> io::Result<()> {
        self.set_number(libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
    }

    /// Limits the bytes that the kernel accepts beyond those in flight (TCP_NOTSENT_LOWAT). Without a limit it accepts
    /// megabytes for a client that reads nothing.
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

    #[allow(unsafe_code)] // As `set_number`.
    fn number(&self, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
        let (mut number, mut size): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.socket().io.inner());
        // SAFETY: the descriptor is open as long as `self` is; the call writes `size` bytes at most, which `number` has, and `size`.
        let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut number).cast(), &raw mut size) };
        if result == 0 { Ok(number) } else { Err(io::Error::last_os_error()) }
    }
}
