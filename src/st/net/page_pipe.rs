//! A pipe as a list of the pages of a file.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice, tee};

/// Most bytes of a file with a pipe. A larger one is not written in one go.
const PIPE_BYTES: usize = 512 * 1024;

/// Maximum number of pipes at a time. They have half of the pages that the kernel gives to the pipes of an unprivileged user
/// (`pipe-user-pages-soft`).
const MAX_PIPES: usize = 64;

static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// An empty pipe, through which the worker sends.
    static EMPTY_PIPE: Cell<Option<(PipeReader, PipeWriter)>> = const { Cell::new(None) };
}

/// All pages of a file in memory, in a pipe that nobody empties. To write the file to a socket, they are duplicated (tee(2)) instead
/// of being looked up one by one, which is a fifth of the work of sendfile(2).
#[derive(Debug)]
pub(super) struct PagePipe {
    pages: PipeReader,
    len: usize,
    _count: PipeSlot,
}

/// Duplicated pages of a file.
pub(super) struct Pages {
    reader: PipeReader,
    writer: PipeWriter,
    len: usize,
}

/// One of the pipes that exist.
#[derive(Debug)]
struct PipeSlot;

impl PagePipe {
    /// Returns `None` if there are too many pipes, or the file is too large.
    pub(super) fn new(file: &File, len: usize) -> Option<Self> {
        if len > PIPE_BYTES {
            return None;
        }
        let count = PipeSlot::acquire()?;
        let (pages, writer) = pipe().ok()?;
        let mut offset = 0;
        let mut left = len;
        while left > 0 {
            match splice(file, Some(&mut offset), &writer, None, left, SpliceFFlags::SPLICE_F_NONBLOCK).ok()? {
                0 => return None,
                n => left -= n,
            }
        }
        Some(Self { pages, len, _count: count })
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
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32))?;
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
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    fn file(bytes: &[u8]) -> File {
        let mut file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        file
    }

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
        let pipe = PagePipe::new(&file(&bytes), bytes.len()).unwrap();
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
        let pipe = PagePipe::new(&file(&bytes), bytes.len()).unwrap();
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
    fn large_files_and_files_of_another_size_have_no_pipe() {
        assert!(PagePipe::new(&file(&vec![0; PIPE_BYTES]), PIPE_BYTES).is_some());
        assert!(PagePipe::new(&file(&vec![0; PIPE_BYTES + 1]), PIPE_BYTES + 1).is_none());
        assert!(PagePipe::new(&file(&[0; 10]), 11).is_none());
    }
}
