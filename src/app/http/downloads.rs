//! Downloads that wait for their clients to take more: what they keep from being freed, and which of them end when memory is short.
//!
//! A client that takes a segment drop by drop keeps all of it, also when nobody else wants it any more. By itself that is little, and
//! bounded by the slowest that it may be; thousands who each do so with another segment hold what there is.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use crate::st::Shared;
use crate::st::net::TcpStream;

/// The downloads of all connections that wait, by the number of the connection.
#[derive(Default)]
pub(super) struct Downloads(Shared<HashMap<u64, Download>>);

struct Download {
    stream: TcpStream,
    since: Instant,
    body: Body,
    /// It has been told to end.
    is_over: bool,
}

/// Which bytes a download is of: where they are, and how many are freed with the last of those who wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Body {
    address: usize,
    size: usize,
}

/// A download's place among those that wait. Dropping it takes it out.
pub(super) struct Waiting<'a> {
    downloads: &'a Downloads,
    number: u64,
}

/// What is done about downloads, and what comes of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Downloads that were told to end now.
    pub(crate) downloads: usize,
    /// Bytes that will be free when these are gone, and those that were told before.
    pub(crate) bytes: usize,
}

impl Downloads {
    /// Notes that a connection waits, in a download of `body` that began at `since`.
    pub(super) fn wait(&self, number: u64, stream: &TcpStream, body: &Bytes, since: Instant) -> Waiting<'_> {
        let body = Body { address: body.as_ptr().addr(), size: body.len() };
        let download = Download { stream: stream.clone(), since, body, is_over: false };
        self.0.with(|downloads| downloads.insert(number, download));
        Waiting { downloads: self, number }
    }

    /// Takes a connection out whose coroutine is lost.
    pub(super) fn forget(&self, number: u64) {
        self.0.try_with(|downloads| downloads.remove(&number));
    }

    /// Ends downloads, those first that have lasted longest, until `excess` bytes will be free.
    pub(super) fn shed(&self, excess: usize) -> Ended {
        self.0.with(|downloads| {
            let all = downloads.values().map(|download| (download.body, download.since, download.is_over));
            let (bodies, bytes) = to_go(all, excess);
            let mut ended = Ended { downloads: 0, bytes };
            for download in downloads.values_mut().filter(|download| bodies.contains(&download.body)) {
                if !std::mem::replace(&mut download.is_over, true) {
                    ended.downloads += 1;
                    download.stream.interrupt();
                }
            }
            ended
        })
    }
}

/// The bodies that nobody is to wait for any more, so that `excess` bytes will be free; and how many bytes will be. Given are the body
/// of each download, since when it lasts, and whether it is over.
fn to_go(downloads: impl Iterator<Item = (Body, Instant, bool)>, excess: usize) -> (HashSet<Body>, usize) {
    // Those who wait longest for each; nobody if all that there are know that it is over.
    let mut bodies: HashMap<Body, Option<Instant>> = HashMap::new();
    for (body, since, is_over) in downloads {
        let oldest = bodies.entry(body).or_default();
        if !is_over {
            *oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        }
    }
    let mut freed = bodies.iter().filter(|(_, oldest)| oldest.is_none()).map(|(body, _)| body.size).sum();
    let mut by_age: Vec<_> = bodies.into_iter().filter_map(|(body, oldest)| Some((oldest?, body))).collect();
    by_age.sort_unstable_by_key(|(oldest, _)| *oldest);
    let mut gone = HashSet::new();
    for (_, body) in by_age {
        if freed >= excess {
            break;
        }
        freed += body.size;
        gone.insert(body);
    }
    (gone, freed)
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.downloads.forget(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_go_first_with_all_who_wait_for_the_same() {
        let start = Instant::now();
        let body = |address| Body { address, size: 100 };
        let waits = |address, second, is_over| (body(address), start + Duration::from_secs(second), is_over);
        let all = [waits(1, 5, false), waits(2, 1, false), waits(1, 3, false), waits(3, 4, false)];
        let given = |excess| to_go(all.into_iter(), excess);
        assert_eq!(given(0), (HashSet::new(), 0));
        assert_eq!(given(1), (HashSet::from([body(2)]), 100));
        assert_eq!(given(101), (HashSet::from([body(2), body(1)]), 200), "of each body, who waits longest counts");
        assert_eq!(given(5000), (HashSet::from([body(2), body(1), body(3)]), 300), "that is all there is");
        // One is about to go, and one of two who wait for another.
        let all = [waits(1, 1, true), waits(2, 2, true), waits(2, 3, false), waits(3, 4, false)];
        assert_eq!(to_go(all.into_iter(), 100), (HashSet::from([]), 100));
        assert_eq!(to_go(all.into_iter(), 101), (HashSet::from([body(2)]), 200));
    }
}
