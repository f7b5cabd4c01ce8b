//! The spool file (`hooks_spool`): what has to be told outlives the process.
//!
//! The file is only appended to. Besides events that wait, it has the end of each client that is in, which becomes an event if
//! the process dies. A thread writes; what is settled is removed when the file is rewritten.

pub(super) mod format;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

pub(super) use self::format::Entry;
use self::format::{Content, Record, line_of, read};
use crate::log::{Throttle, quoted};
use crate::st;

const MAX_WAITING: usize = 16 * 1024;

/// Size of a file beyond which it is rewritten if most of it is settled, and beyond which it is not read.
const MIN_REWRITE_BYTES: u64 = 1 << 20;
const MAX_BYTES: u64 = 512 << 20;

/// Part of the file that must be in use, or it is rewritten.
const REWRITE_DIVISOR: u64 = 4;

const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Spool {
    sender: Sender<Line>,
    last_id: AtomicU64,
    waiting: Arc<AtomicUsize>,
    /// The queue is full, and this was logged.
    full: AtomicBool,
}

struct Line {
    text: String,
    /// The event that the line adds, and the one that it settles.
    adds: Option<u64>,
    settles: Option<u64>,
}

pub(super) struct Receipt {
    spool: Arc<Spool>,
    id: u64,
    settled: AtomicBool,
}

impl Receipt {
    /// Records that the event need not be told any more. Only the first call has an effect.
    pub(super) fn settle(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.spool.append(&Record { id: 0, event: None, settles: Some(self.id) });
        }
    }
}

type UnsettledEntries = Vec<(Receipt, Entry)>;

impl Spool {
    /// Opens a file, and returns what it has to tell, in order. Blocks: not for the worker. Fails when it cannot be
    /// opened or read. [`io::ErrorKind::WouldBlock`] while another process has it open.
    pub(super) fn open(path: &Path) -> io::Result<(Arc<Self>, UnsettledEntries)> {
        let mut file = open_locked(path)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(MAX_BYTES).read_to_end(&mut bytes)?;
        let Content { live, last_id, damaged } = read(&bytes);
        if damaged > 0 {
            log::warn!("callback spool damaged, lines skipped: file={} lines={damaged}", quoted(path.display()));
        }
        let (sender, receiver) = bounded(MAX_WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (last_id, full) = (AtomicU64::new(last_id), AtomicBool::new(false));
        let spool = Arc::new(Self { sender, last_id, waiting: waiting.clone(), full });
        let lines = live.iter().map(|(id, entry)| (*id, line_of(&Record::of_event(*id, entry.clone())))).collect();
        let mut writer = Writer { path: path.to_owned(), file, size: bytes.len() as u64, live: lines, torn: false };
        // Also ends a line that a crash has cut off.
        writer.rewrite()?;
        thread::Builder::new().name("callback spool".into()).spawn(move || writer.run(&receiver, &waiting))?;
        let receipt = |id| Receipt { spool: spool.clone(), id, settled: AtomicBool::new(false) };
        let entries = live.into_iter().map(|(id, entry)| (receipt(id), entry)).collect();
        Ok((spool, entries))
    }

    /// Appends an event, in the place of the one that `settles` names. Never blocks. Returns none if there is no room for it.
    pub(super) fn add(self: &Arc<Self>, entry: Entry, settles: Option<&Receipt>) -> Option<Receipt> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let settles = settles.filter(|receipt| Arc::ptr_eq(&receipt.spool, self));
        let settles =
            settles.filter(|receipt| !receipt.settled.swap(true, Ordering::Relaxed)).map(|receipt| receipt.id);
        let is_added = self.append(&Record { settles, ..Record::of_event(id, entry) });
        is_added.then(|| Receipt { spool: self.clone(), id, settled: AtomicBool::new(false) })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    fn append(&self, record: &Record) -> bool {
        let adds = record.event.is_some().then_some(record.id);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let is_sent = self.sender.try_send(Line { text: line_of(record), adds, settles: record.settles }).is_ok();
        if !is_sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if self.full.swap(!is_sent, Ordering::Relaxed) == is_sent && !is_sent {
            log::warn!("callback spool too slow, events are in memory only: waiting={MAX_WAITING}");
        }
        is_sent
    }
}

/// Opens and locks a file that only its owner may read: URLs and parameters may have secrets.
fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    live: BTreeMap<u64, String>,
    /// The last write failed, perhaps within a line.
    torn: bool,
}

impl Writer {
    fn run(&mut self, lines: &Receiver<Line>, waiting: &AtomicUsize) {
        let mut throttle = Throttle::new(LOG_INTERVAL);
        while let Ok(first) = lines.recv() {
            let mut text = String::new();
            if self.torn {
                text.push('\n');
            }
            let mut count = 0;
            for line in [first].into_iter().chain(lines.try_iter().take(MAX_WAITING)) {
                count += 1;
                text.push_str(&line.text);
                if let Some(id) = line.adds {
                    self.live.insert(id, line.text);
                }
                if let Some(id) = line.settles {
                    self.live.remove(&id);
                }
            }
            let written = self.file.write_all(text.as_bytes());
            self.torn = written.is_err();
            self.size += text.len() as u64;
            let used: u64 = self.live.values().map(|line| line.len() as u64).sum();
            let is_mostly_settled = self.size > MIN_REWRITE_BYTES && used < self.size / REWRITE_DIVISOR;
            // Lines that a failed write has lost are written again.
            let written = if is_mostly_settled || self.torn { self.rewrite() } else { written };
            if let Err(error) = written
                && throttle.pass(st::now())
            {
                let file = quoted(self.path.display());
                log::error!("callback spool not written: file={file} error={}", quoted(error));
            }
            waiting.fetch_sub(count, Ordering::Relaxed);
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".tmp");
        let _ = std::fs::remove_file(&name);
        let mut file = open_locked(Path::new(&name))?;
        let text: String = self.live.values().map(String::as_str).collect();
        file.write_all(text.as_bytes())?;
        std::fs::rename(&name, &self.path)?;
        (self.file, self.size, self.torn) = (file, text.len() as u64, false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &str) -> Entry {
        let [hook, vhost, key, session, url] = ["on_stop", "v", "k", "s-1", "http://h/"].map(str::to_owned);
        Entry { hook, vhost, key, session, url, body: body.to_owned(), is_end: false }
    }

    fn bodies(entries: &[(Receipt, Entry)]) -> Vec<&str> {
        entries.iter().map(|(_, entry)| entry.body.as_str()).collect()
    }

    /// Opens the file once its last owner has closed it.
    fn reopen(path: &Path) -> (Arc<Spool>, Vec<(Receipt, Entry)>) {
        for _ in 0..1000 {
            match Spool::open(path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                opened => return opened.unwrap(),
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it stays locked");
    }

    fn settle_down(spool: &Spool) {
        while !spool.is_idle() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_not_settled_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let (spool, entries) = Spool::open(&path).unwrap();
        assert!(entries.is_empty());
        assert_eq!(Spool::open(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock, "it has one owner");
        let first = spool.add(entry("a"), None).unwrap();
        let second = spool.add(entry("b"), None).unwrap();
        let third = spool.add(entry("c"), Some(&first)).unwrap();
        second.settle();
        second.settle();
        settle_down(&spool);
        drop((spool, first, second, third));
        let (spool, entries) = reopen(&path);
        assert_eq!(bodies(&entries), ["c"]);
        let fourth = spool.add(entry("d"), None).unwrap();
        assert!(fourth.id > entries[0].0.id);
        entries[0].0.settle();
        settle_down(&spool);
        drop((spool, entries, fourth));
        assert_eq!(bodies(&reopen(&path).1), ["d"]);
    }

    #[test]
    fn a_file_that_is_mostly_settled_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let (spool, _) = Spool::open(&path).unwrap();
        let kept = spool.add(entry("kept"), None).unwrap();
        for n in 0..3000 {
            spool.add(entry(&"x".repeat(1000)), None).unwrap().settle();
            if n % 100 == 0 {
                settle_down(&spool);
            }
        }
        settle_down(&spool);
        assert!(path.metadata().unwrap().len() < 2 * MIN_REWRITE_BYTES);
        drop((spool, kept));
        assert_eq!(bodies(&reopen(&path).1), ["kept"]);
    }
}
