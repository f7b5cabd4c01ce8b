//! Sockets that the process was started with: those that a service manager listens on for it, as sd_listen_fds(3) describes it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockRef, Socket};

/// The first descriptor that is passed on.
const FIRST: RawFd = 3;

/// How many are taken at most; what stands in the environment is not to make us close descriptors without end.
const MAX: RawFd = 128;

/// The TCP sockets that were passed on to this process by LISTEN_PID and LISTEN_FDS. They are given once: a second call gets none.
/// To be called before anything else opens a file.
pub fn inherited() -> Vec<TcpListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let is_ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    if !is_ours || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MAX);
    (FIRST..FIRST + count).filter_map(take).collect()
}

#[allow(unsafe_code)] // There is no safe way to own a descriptor that is known by its number alone.
fn take(fd: RawFd) -> Option<TcpListener> {
    // It has to be open, or owning it would mean to close what somebody else opens later.
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).ok()?;
    // SAFETY: the environment names this process, so that the descriptor was passed on to it and nobody else in it owns it; it is
    // open, and `TAKEN` sees to it that it is taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let socket = Socket::from(fd);
    let is_tcp = socket.r#type().is_ok_and(|kind| kind == socket2::Type::STREAM)
        && socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if !is_tcp {
        return None;
    }
    // Both are for our own good only.
    let _ = socket.set_cloexec(true);
    let _ = socket.set_nonblocking(true);
    Some(socket.into())
}

/// Whether a socket that listens takes the connections of an address. One for all addresses of IPv6 takes those of IPv4 too, if it
/// was made so, as service managers do.
pub fn serves(socket: &TcpListener, wanted: SocketAddr) -> bool {
    let takes_both = || SockRef::from(socket).only_v6().is_ok_and(|only| !only);
    socket.local_addr().is_ok_and(|address| {
        let is_all = address.is_ipv6() && address.ip().is_unspecified() && wanted.ip().is_unspecified();
        address == wanted || address.port() == wanted.port() && is_all && takes_both()
    })
}
