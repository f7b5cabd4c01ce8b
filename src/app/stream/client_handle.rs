use std::io;

use crate::app::session::close::CloseReason;

/// A client as others see it: its socket, its coroutine, and its end.
pub trait ClientHandle: Send + Sync {
    /// Writes without blocking. Returns the number of bytes written, 0 if the socket is full. Fails when the connection has.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Prefetches into the processor's cache what the next [`try_write`](Self::try_write) reads.
    fn prefetch(&self) {}
    fn wake(&self);
    fn close(&self, reason: CloseReason);
}
