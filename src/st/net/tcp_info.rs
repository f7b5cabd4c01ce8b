//! Figures of the kernel about a TCP connection (TCP_INFO).

use std::io;
use std::time::Duration;

use super::stream::TcpStream;

/// Size of the buffer for `struct tcp_info`. Kernels append fields at its end, 248 bytes in Linux 6.12, and write no more than
/// fits.
const BUFFER_BYTES: usize = 256;

/// Offsets in `struct tcp_info` of linux/tcp.h, which never change.
const LAST_ACK_RECV: usize = 56;
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;
const MIN_RTT: usize = 148;
const DATA_SEGS_OUT: usize = 156;

/// Figures of one connection since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Time since the last acknowledgement of the peer.
    pub since_ack: Duration,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Lowest round-trip time.
    pub min_rtt: Duration,
    /// Segments that were sent more than once.
    pub retransmits: u32,
    /// Segments with data that were sent.
    pub segments: u32,
}

impl TcpStream {
    /// Returns the kernel's figures of this connection. Fields that the kernel does not know are zero.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        let mut buffer = [0; BUFFER_BYTES];
        self.get_bytes(libc::IPPROTO_TCP, libc::TCP_INFO, &mut buffer)?;
        Ok(TcpInfo::read(&buffer))
    }

    #[allow(unsafe_code)] // The struct of `libc` ends before the bytes that were acknowledged.
    fn get_bytes(&self, level: libc::c_int, name: libc::c_int, buffer: &mut [u8; BUFFER_BYTES]) -> io::Result<()> {
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.socket().io.inner());
        let mut length = BUFFER_BYTES as libc::socklen_t;
        // SAFETY: the descriptor is open as long as `self` is; the kernel writes at most `length` bytes, which the buffer has.
        let result = unsafe { libc::getsockopt(fd, level, name, buffer.as_mut_ptr().cast(), &raw mut length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl TcpInfo {
    fn read(buffer: &[u8; BUFFER_BYTES]) -> Self {
        let number = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| buffer[at + byte]));
        let micros = |at: usize| Duration::from_micros(number(at).into());
        Self {
            bytes_acked: u64::from_ne_bytes(std::array::from_fn(|byte| buffer[BYTES_ACKED + byte])),
            since_ack: Duration::from_millis(number(LAST_ACK_RECV).into()),
            rtt: micros(RTT),
            // The kernel says u32::MAX before it has measured one.
            min_rtt: if number(MIN_RTT) == u32::MAX { Duration::ZERO } else { micros(MIN_RTT) },
            retransmits: number(TOTAL_RETRANS),
            segments: number(DATA_SEGS_OUT),
        }
    }
}
