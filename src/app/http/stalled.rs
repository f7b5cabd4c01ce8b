//! Stalled responses: those whose clients do not read. When memory is short, the oldest are aborted.
//!
//! A client that reads a segment slowly keeps the whole segment in memory, even when nobody else needs it any more. One
//! such client costs little, and the minimum rate in `channel` bounds the time; thousands of them, each with another
//! segment, would fill the memory.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use crate::st::Shared;
use crate::st::net::TcpStream;

#[derive(Default)]
pub(super) struct StalledResponses(Shared<HashMap<u64, StalledResponse>>);

struct StalledResponse {
    stream: TcpStream,
    started: Instant,
    body: BodyKey,
    is_aborted: bool,
}

/// The identity of a body in memory. `size` bytes are freed together with the last response that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BodyKey {
    address: usize,
    size: usize,
}

/// The registration of one stalled response. Dropping it unregisters the response.
pub(super) struct StalledGuard<'a> {
    responses: &'a StalledResponses,
    number: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) responses: usize,
    /// Bytes that will be free when these responses, and those aborted earlier, have ended.
    pub(super) bytes: usize,
}

impl StalledResponses {
    /// Registers the response of connection `number`, which sends `body` since `started`.
    pub(super) fn register(&self, number: u64, stream: &TcpStream, body: &Bytes, started: Instant) -> StalledGuard<'_> {
        let body = BodyKey { address: body.as_ptr().addr(), size: body.len() };
        let response = StalledResponse { stream: stream.clone(), started, body, is_aborted: false };
        self.0.with(|responses| responses.insert(number, response));
        StalledGuard { responses: self, number }
    }

    fn unregister(&self, number: u64) {
        self.0.try_with(|responses| responses.remove(&number));
    }

    /// Aborts responses, the oldest first, until `excess` bytes will be free.
    pub(super) fn abort_oldest(&self, excess: usize) -> Aborted {
        self.0.with(|responses| {
            let all = responses.values().map(|response| (response.body, response.started, response.is_aborted));
            let (bodies, bytes) = select_bodies(all, excess);
            let mut aborted = Aborted { responses: 0, bytes };
            for response in responses.values_mut().filter(|response| bodies.contains(&response.body)) {
                if !std::mem::replace(&mut response.is_aborted, true) {
                    aborted.responses += 1;
                    response.stream.interrupt();
                }
            }
            aborted
        })
    }
}

/// Selects the bodies whose responses are to be aborted so that `excess` bytes will be free. Returns them, and the
/// bytes that will be free. Each item of `responses` is a body, the start of the response, and whether it is aborted
/// already.
fn select_bodies(
    responses: impl Iterator<Item = (BodyKey, Instant, bool)>,
    excess: usize,
) -> (HashSet<BodyKey>, usize) {
    // The oldest response of each body that is not aborted; none when all are.
    let mut bodies: HashMap<BodyKey, Option<Instant>> = HashMap::new();
    for (body, started, is_aborted) in responses {
        let oldest = bodies.entry(body).or_default();
        if !is_aborted {
            *oldest = Some(oldest.map_or(started, |oldest| oldest.min(started)));
        }
    }
    let mut freed = bodies.iter().filter(|(_, oldest)| oldest.is_none()).map(|(body, _)| body.size).sum();
    let mut by_age: Vec<_> = bodies.into_iter().filter_map(|(body, oldest)| Some((oldest?, body))).collect();
    by_age.sort_unstable_by_key(|(oldest, _)| *oldest);
    let mut selected = HashSet::new();
    for (_, body) in by_age {
        if freed >= excess {
            break;
        }
        freed += body.size;
        selected.insert(body);
    }
    (selected, freed)
}

impl Drop for StalledGuard<'_> {
    fn drop(&mut self) {
        self.responses.unregister(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_responses_are_aborted_first_with_all_of_the_same_body() {
        let start = Instant::now();
        let body = |address| BodyKey { address, size: 100 };
        let response = |address, second, is_aborted| (body(address), start + Duration::from_secs(second), is_aborted);
        let all = [response(1, 5, false), response(2, 1, false), response(1, 3, false), response(3, 4, false)];
        let select = |excess| select_bodies(all.into_iter(), excess);
        assert_eq!(select(0), (HashSet::new(), 0));
        assert_eq!(select(1), (HashSet::from([body(2)]), 100));
        assert_eq!(select(101), (HashSet::from([body(2), body(1)]), 200), "the oldest response of a body counts");
        assert_eq!(select(5000), (HashSet::from([body(2), body(1), body(3)]), 300), "there are no more");
        // The only response of body 1 is aborted already, and one of the two of body 2.
        let all = [response(1, 1, true), response(2, 2, true), response(2, 3, false), response(3, 4, false)];
        assert_eq!(select_bodies(all.into_iter(), 100), (HashSet::from([]), 100));
        assert_eq!(select_bodies(all.into_iter(), 101), (HashSet::from([body(2)]), 200));
    }
}
