//! Sockets that block a coroutine, not the worker.
//!
//! | part | function |
//! |---|---|
//! | [`TcpListener`], [`bind`], [`inherited_listeners`] | listening sockets, own ones and those of a service manager |
//! | [`TcpStream`] | `try_read`, `try_write`: never block; `Read`, `Write`: block the coroutine up to a time-out |
//! | [`TcpStream::wait`] | ends on readiness, on a deadline, or on [`TcpStream::wake`] from any coroutine |
//! | [`TcpStream::wait_with_handler`] | the same, with events handled on the stack of the event loop |
//! | [`TcpStream::interrupt`] | ends blocking calls, so that a coroutine can send its client a last message |
//! | [`PageFile`] | bytes that a socket takes without a copy |
//! | TLS session | once set, all reads and writes go through it |
//!
//! Reads and writes try first and wait only when the kernel has no data (or no room). Events are edge-triggered, and a wait for
//! one direction also consumes the event of the other, which [`TcpStream`] therefore remembers.

mod blocking;
mod connect;
mod event_loop;
mod inherited;
mod listener;
mod options;
mod page_file;
mod page_pipe;
mod raw_socket;
mod stream;
mod tcp_info;
mod wait;
mod wait_timer;
mod watched;

pub(super) use event_loop::{drive as drive_event_loop, prepare as prepare_event_loop};
pub use inherited::{inherited_listeners, listens_on};
pub use listener::{TcpListener, bind};
pub use page_file::{MAX_PAGE_FILE_DESCRIPTORS, PageFile};
pub use stream::TcpStream;
pub use tcp_info::TcpInfo;
pub use wait::{EventHandler, WaitResult, set_eager_yield};
