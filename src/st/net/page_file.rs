//! Bytes in pages of the kernel, which a socket takes without a copy.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

use super::page_pipe::{MAX_PIPES, PagePipe};

/// Maximum number of page files at a time: each is an open file.
const MAX_PAGE_FILES: usize = 256;

/// Maximum number of open files of all page files: with their pipes, and some that exist while one is made or sent.
pub const MAX_PAGE_FILE_DESCRIPTORS: usize = MAX_PAGE_FILES + MAX_PIPES + 16;

static PAGE_FILES: AtomicUsize = AtomicUsize::new(0);

/// An unnamed file in memory, for bytes that are sent to many clients. Writing them from the heap copies them for each client.
#[derive(Debug)]
pub struct PageFile {
    file: File,
    len: usize,
    pipe: Option<PagePipe>,
    _count: FileSlot,
}

/// One of the page files that exist.
#[derive(Debug)]
struct FileSlot;

impl PageFile {
    /// Copies `bytes`. Takes about 0.5 ms per MB.
    ///
    /// # Errors
    /// Those of memfd_create(2) and write(2), and `OutOfMemory` if there are too many page files.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let count = FileSlot::acquire().ok_or(io::ErrorKind::OutOfMemory)?;
        let mut file = File::from(memfd_create("segment", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(bytes)?;
        let pipe = PagePipe::new(bytes);
        Ok(Self { file, len: bytes.len(), pipe, _count: count })
    }

    /// Returns the number of bytes in memory: the pipe has a copy of its own.
    pub fn memory(&self) -> usize {
        self.len + self.pipe.as_ref().map_or(0, PagePipe::len)
    }

    /// Writes as many bytes to a socket as fit, at most `len` from `offset` on. `is_fast`: all of them probably do.
    pub(super) fn write_to(&self, socket: impl AsFd, offset: u64, len: usize, is_fast: bool) -> io::Result<usize> {
        let is_whole = |pipe: &&PagePipe| is_fast && offset == 0 && len == pipe.len();
        if let Some(pages) = self.pipe.as_ref().filter(is_whole).and_then(PagePipe::duplicate) {
            return pages.write_to(socket);
        }
        let mut offset = i64::try_from(offset).map_err(io::Error::other)?;
        Ok(sendfile(socket, &self.file, Some(&mut offset), len)?)
    }
}

impl FileSlot {
    fn acquire() -> Option<Self> {
        let add = |count: usize| (count < MAX_PAGE_FILES).then_some(count + 1);
        PAGE_FILES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok().then_some(Self)
    }
}

impl Drop for FileSlot {
    fn drop(&mut self) {
        PAGE_FILES.fetch_sub(1, Ordering::Relaxed);
    }
}
