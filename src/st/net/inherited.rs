//! Listening sockets that a service manager opened for this process, see sd_listen_fds(3).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockRef, Socket};

/// First descriptor that is passed on.
const FIRST_FD: RawFd = 3;

/// Most descriptors that are taken: a wrong environment must not make the server close descriptors without end.
const MAX_FDS: RawFd = 128;

/// Returns the TCP sockets passed on to this process by LISTEN_PID and LISTEN_FDS; none at a second call. Call it before
/// anything else opens a file.
pub fn inherited_listeners() -> Vec<TcpListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let is_ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    if !is_ours || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MAX_FDS);
    (FIRST_FD..FIRST_FD + count).filter_map(listener_from_fd).collect()
}

#[allow(unsafe_code)] // There is no safe way to own a descriptor that is known by its number alone.
fn listener_from_fd(fd: RawFd) -> Option<TcpListener> {
    // It must be open: owning a closed number would later close another file.
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).ok()?;
    // SAFETY: the environment names this process, so that the descriptor was passed on to it and nobody else in it owns it; it is
    // open, and `TAKEN` ensures that it is taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let socket = Socket::from(fd);
    let is_tcp = socket.r#type().is_ok_and(|kind| kind == socket2::Type::STREAM)
        && socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if !is_tcp {
        return None;
    }
    // The service manager usually has set both already.
    let _ = socket.set_cloexec(true);
    let _ = socket.set_nonblocking(true);
    Some(socket.into())
}

/// Returns whether a listening socket accepts connections to `wanted`. A socket for all IPv6 addresses accepts IPv4 as well, if
/// it was created so, as service managers do.
pub fn listens_on(socket: &TcpListener, wanted: SocketAddr) -> bool {
    let is_dual_stack = || SockRef::from(socket).only_v6().is_ok_and(|only| !only);
    socket.local_addr().is_ok_and(|address| {
        let is_all = address.is_ipv6() && address.ip().is_unspecified() && wanted.ip().is_unspecified();
        address == wanted || address.port() == wanted.port() && is_all && is_dual_stack()
    })
}
