//! Bytes in a pipe, which are written to many sockets.

use std::cell::Cell;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice, tee};

/// Most bytes in a pipe. More are not written in one go.
const MAX_BYTES: usize = 512 * 1024;

/// Capacity of a pipe: 64 buffers, which hold 4 KB if they are single pages, and here up to 32 KB.
const PIPE_SIZE: usize = 256 * 1024;

/// Maximum number of pipes at a time. They have half of the pages that the kernel gives to the pipes of an unprivileged user
/// (`pipe-user-pages-soft`).
pub(super) const MAX_PIPES: usize = 128;

/// Bytes that are sent through a local socket at a time. The kernel puts them into the fewest and largest buffers.
const PART_BYTES: usize = 32 * 1024;

static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// An empty pipe, through which the worker sends.
    static EMPTY_PIPE: Cell<Option<(PipeReader, PipeWriter)>> = const { Cell::new(None) };
}

/// A copy of bytes in a pipe that nobody empties. To write it to a socket, its buffers are duplicated (tee(2)). They are those of
/// a local socket, which hold several pages each. sendfile(2) from a file in memory looks up and counts every page: a fifth more
/// work for the whole response.
#[derive(Debug)]
pub(super) struct PagePipe {
    pages: PipeReader,
    len: usize,
    _count: PipeSlot,
}

/// Duplicated buffers of a pipe.
pub(super) struct Pages {
    reader: PipeReader,
    writer: PipeWriter,
    len: usize,
}

/// One of the pipes that exist.
#[derive(Debug)]
struct PipeSlot;

impl PagePipe {
    /// Returns `None` if there are too many pipes, or the bytes do not fit.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let count = PipeSlot::acquire()?;
        let (pages, writer) = pipe().ok()?;
        let (mut sender, receiver) = UnixStream::pair().ok()?;
        sender.set_nonblocking(true).ok()?;
        for part in bytes.chunks(PART_BYTES) {
            sender.write_all(part).ok()?;
            let mut left = part.len();
            while left > 0 {
                match splice(&receiver, None, &writer, None, left, SpliceFFlags::SPLICE_F_NONBLOCK).ok()? {
                    0 => return None,
                    n => left -= n,
                }
            }
        }
        Some(Self { pages, len: bytes.len(), _count: count })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns `None` if that fails, which costs nothing but time.
    pub(super) fn duplicate(&self) -> Option<Pages> {
        let (reader, writer) = EMPTY_PIPE.take().or_else(|| pipe().ok())?;
        let duplicated = tee(&self.pages, &writer, self.len, SpliceFFlags::SPLICE_F_NONBLOCK).ok()?;
        (duplicated == self.len).then_some(Pages { reader, writer, len: duplicated })
    }
}

impl Pages {
    /// Writes as many bytes to a socket as fit.
    ///
    /// # Errors
    /// Those of splice(2).
    pub(super) fn write_to(self, socket: impl AsFd) -> io::Result<usize> {
        let written = splice(&self.reader, None, socket, None, self.len, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        // Otherwise the pipe is not empty, and is closed.
        if written == self.len {
            EMPTY_PIPE.set(Some((self.reader, self.writer)));
        }
        Ok(written)
    }
}

fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE as i32))?;
    Ok((reader, writer))
}

impl PipeSlot {
    fn acquire() -> Option<Self> {
        let add = |count: usize| (count < MAX_PIPES).then_some(count + 1);
        PIPES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok().then_some(Self)
    }
}

impl Drop for PipeSlot {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (server, client)
    }

    #[test]
    fn each_client_gets_all_pages() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
        let pipe = PagePipe::new(&bytes).unwrap();
        for _ in 0..3 {
            let (server, mut client) = connection();
            assert_eq!(pipe.duplicate().unwrap().write_to(&server).unwrap(), bytes.len());
            drop(server);
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            assert!(received == bytes);
        }
    }

    #[test]
    fn what_a_full_socket_leaves_goes_to_nobody_else() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
        let pipe = PagePipe::new(&bytes).unwrap();
        let (full, _client) = connection();
        let mut writes = std::iter::from_fn(|| Some(pipe.duplicate().unwrap().write_to(&full)));
        let result = writes.find(|result| !matches!(result, Ok(written) if *written == bytes.len()));
        match result.unwrap() {
            Ok(written) => assert!(written < bytes.len()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        let (server, mut client) = connection();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).map(|_| received)
        });
        let written = pipe.duplicate().unwrap().write_to(&server).unwrap();
        drop(server);
        assert!(reader.join().unwrap().unwrap() == bytes[..written]);
    }

    #[test]
    fn what_is_not_written_in_one_go_has_no_pipe() {
        assert_eq!(PagePipe::new(&vec![0; MAX_BYTES]).unwrap().len(), MAX_BYTES);
        assert!(PagePipe::new(&vec![0; MAX_BYTES + 1]).is_none());
    }
}
