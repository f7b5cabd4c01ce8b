//! Viewers of HLS: clients without a connection of their own, which ask for file after file.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::memory::Charge;
use crate::st::Shared;

/// Maximum number of viewers. A program that asks for playlists without ever using what it gets makes one each time.
const MAX_VIEWERS: usize = 50_000;

#[derive(Clone)]
pub(crate) struct Viewer {
    pub(crate) client: Arc<ClientInfo>,
    /// Name in the server of the stream that it asked for: a gate may have granted another one.
    pub(crate) requested: String,
    pub(crate) stream: Arc<StreamInfo>,
    pub(crate) since: Instant,
    pub(crate) last: Instant,
    /// Time without a request after which it has left.
    pub(crate) timeout: Duration,
    pub(crate) bytes: u64,
    pub(crate) close: Option<CloseReason>,
    /// Memory of the viewer, charged until the last copy is dropped.
    pub(crate) _charge: Arc<Charge>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamViewers {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// The viewers, by the parameter of their session. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Viewers(Shared<Table>);

#[derive(Default)]
struct Table {
    viewers: HashMap<String, Viewer>,
    sessions: BTreeMap<u64, String>,
    streams: HashMap<String, StreamViewers>,
    /// Sessions of viewers that were made to leave, and the time until which their players are told so: else the next request of
    /// a player would begin the session anew, and nobody would notice that it was closed.
    closed: HashMap<String, Instant>,
}

impl Viewers {
    /// Adds a viewer. Returns false if there are too many.
    pub(crate) fn add(&self, session: &str, viewer: Viewer) -> bool {
        self.0.with(|table| {
            let has_room = table.viewers.len() < MAX_VIEWERS && !table.viewers.contains_key(session);
            if has_room {
                table.sessions.insert(viewer.client.id, session.to_owned());
                let stream = table.streams.entry(viewer.stream.name.clone()).or_default();
                stream.count += 1;
                stream.bytes += viewer.bytes;
                table.viewers.insert(session.to_owned(), viewer);
            }
            has_room
        })
    }

    /// Records a request of a viewer for the stream `name` (vhost/app/stream), which it has asked for or plays. Returns the
    /// stream that it plays; none if there is no such session, or it has to leave.
    pub(crate) fn record_request(&self, session: &str, name: &str, now: Instant) -> Option<Arc<StreamInfo>> {
        self.0.with(|Table { viewers, .. }| {
            let viewer = viewers.get_mut(session)?;
            let is_its = viewer.requested == name || viewer.stream.name == name;
            if !is_its || viewer.close.is_some() {
                return None;
            }
            viewer.last = now;
            Some(viewer.stream.clone())
        })
    }

    /// Returns whether there is such a session, or was one that was made to leave a moment ago.
    pub(crate) fn is_known(&self, session: &str) -> bool {
        self.0.with(|table| table.viewers.contains_key(session) || table.closed.contains_key(session))
    }

    pub(crate) fn find(&self, id: u64) -> Option<Viewer> {
        self.0.with(|table| table.viewers.get(table.sessions.get(&id)?).cloned())
    }

    pub(crate) fn count(&self, session: &str, bytes: u64) {
        self.0.with(|Table { viewers, streams, .. }| {
            let Some(viewer) = viewers.get_mut(session) else { return };
            // 64 bits: at 100 Gbit/s they last for 46 years.
            viewer.bytes += bytes;
            if let Some(stream) = streams.get_mut(&viewer.stream.name) {
                stream.bytes += bytes;
            }
        });
    }

    /// Asks the viewer with this number to leave. Returns whether there is one that was not asked before.
    pub(crate) fn close(&self, id: u64, reason: &CloseReason) -> bool {
        self.0.with(|Table { viewers, sessions, .. }| {
            let viewer = sessions.get(&id).and_then(|session| viewers.get_mut(session));
            let viewer = viewer.filter(|viewer| viewer.close.is_none());
            viewer.map(|viewer| viewer.close = Some(reason.clone())).is_some()
        })
    }

    /// Removes and returns the viewers that have left, or are to leave.
    pub(crate) fn reap(&self, now: Instant) -> Vec<Viewer> {
        let is_gone =
            |viewer: &Viewer| viewer.close.is_some() || now.saturating_duration_since(viewer.last) >= viewer.timeout;
        self.0.with(|Table { viewers, sessions, streams, closed }| {
            closed.retain(|_, until| *until > now);
            let gone: Vec<_> = viewers.extract_if(|_, viewer| is_gone(viewer)).collect();
            let leave = |(session, viewer): (String, Viewer)| {
                sessions.remove(&viewer.client.id);
                if let Entry::Occupied(mut stream) = streams.entry(viewer.stream.name.clone()) {
                    stream.get_mut().count -= 1;
                    stream.get_mut().bytes -= viewer.bytes;
                    if stream.get().count == 0 {
                        stream.remove();
                    }
                }
                if viewer.close.is_some() && closed.len() < MAX_VIEWERS {
                    closed.insert(session, now + viewer.timeout);
                }
                viewer
            };
            gone.into_iter().map(leave).collect()
        })
    }

    pub(crate) fn take_all(&self) -> Vec<Viewer> {
        self.0.with(|Table { viewers, sessions, streams, .. }| {
            sessions.clear();
            streams.clear();
            viewers.drain().map(|(_, viewer)| viewer).collect()
        })
    }

    /// Returns the first viewers, `max` at most, with numbers above `after` and up to `until`, by number.
    pub(crate) fn between(&self, after: u64, until: u64, max: usize) -> Vec<Viewer> {
        self.0.with(|Table { viewers, sessions, .. }| {
            let sessions = sessions.range((Excluded(after), Included(until))).take(max);
            sessions.filter_map(|(_, session)| viewers.get(session).cloned()).collect()
        })
    }

    /// Returns the numbers of the same.
    pub(crate) fn numbers_between(&self, after: u64, until: u64, max: usize) -> Vec<u64> {
        let range = (Excluded(after), Included(until));
        self.0.with(|table| table.sessions.range(range).take(max).map(|(number, _)| *number).collect())
    }

    pub(crate) fn of_stream(&self, name: &str) -> StreamViewers {
        self.0.with(|table| table.streams.get(name).copied().unwrap_or_default())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.with(|Table { viewers, .. }| viewers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Category, MemoryTracker};
    use crate::st;

    fn viewer(id: u64, now: Instant) -> Viewer {
        let client = ClientInfo {
            id,
            ip: "::1".parse().unwrap(),
            vhost: "v".into(),
            app: "live".into(),
            app_params: String::new(),
            tc_url: String::new(),
            page_url: String::new(),
            forward_route: String::new(),
            engine: None,
        };
        let [vhost, app, stream, params] = ["v", "live", "public", ""].map(str::to_owned);
        let stream = StreamInfo { vhost, app, stream, name: "v/live/public".into(), params };
        Viewer {
            client: Arc::new(client),
            requested: "v/live/key".into(),
            stream: Arc::new(stream),
            since: now,
            last: now,
            timeout: Duration::from_secs(10),
            bytes: 0,
            close: None,
            _charge: Arc::new(MemoryTracker::default().charge(Category::Http)),
        }
    }

    #[test]
    fn a_viewer_stays_while_it_asks_for_its_stream() {
        let (viewers, start) = (Viewers::default(), st::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(viewers.add("a", viewer(1, start)) && viewers.add("b", viewer(2, start)));
        assert!(!viewers.add("a", viewer(3, start)), "the session has an owner");
        assert_eq!(viewers.record_request("a", "v/live/key", at(9)).unwrap().stream, "public");
        assert!(viewers.record_request("a", "v/live/public", at(9)).is_some());
        assert!(
            viewers.record_request("a", "v/live/other", at(9)).is_none()
                && viewers.record_request("c", "v/live/key", at(9)).is_none()
        );
        viewers.count("a", 5);
        let gone = viewers.reap(at(10));
        assert_eq!((gone.len(), gone[0].client.id), (1, 2));
        assert_eq!((viewers.reap(at(18)).len(), viewers.reap(at(19))[0].bytes), (0, 5));
        assert_eq!(viewers.len(), 0);
    }

    #[test]
    fn viewers_are_listed_by_number_and_counted_by_stream() {
        let (viewers, start) = (Viewers::default(), st::now());
        for (session, id) in [("x", 9), ("y", 4), ("z", 7)] {
            viewers.add(session, viewer(id, start));
            viewers.count(session, id);
        }
        let ids = |after, until, max| {
            let all: Vec<_> = viewers.between(after, until, max).iter().map(|viewer| viewer.client.id).collect();
            assert_eq!(viewers.numbers_between(after, until, max), all);
            all
        };
        assert_eq!(
            (ids(0, 100, 100), ids(4, 100, 1), ids(4, 8, 100), ids(9, 9, 100)),
            (vec![4, 7, 9], vec![7], vec![7], vec![])
        );
        assert_eq!(
            (viewers.find(7).map(|viewer| viewer.bytes), viewers.find(8).map(|viewer| viewer.bytes)),
            (Some(7), None)
        );
        let name = "v/live/public";
        assert_eq!(viewers.of_stream(name), StreamViewers { count: 3, bytes: 20 });
        viewers.close(9, &CloseReason::Kicked);
        viewers.reap(start);
        assert_eq!((viewers.of_stream(name), ids(0, 100, 100)), (StreamViewers { count: 2, bytes: 11 }, vec![4, 7]));
        viewers.take_all();
        assert_eq!((viewers.of_stream(name), ids(0, 100, 100)), (StreamViewers::default(), vec![]));
    }

    #[test]
    fn who_is_to_leave_gets_nothing_more() {
        let (viewers, start) = (Viewers::default(), st::now());
        viewers.add("a", viewer(1, start));
        assert!(!viewers.close(2, &CloseReason::Kicked) && viewers.close(1, &CloseReason::Kicked));
        assert!(!viewers.close(1, &CloseReason::Kicked), "once");
        assert!(viewers.record_request("a", "v/live/key", start).is_none() && viewers.is_known("a"));
        assert_eq!(viewers.reap(start)[0].close, Some(CloseReason::Kicked));
        assert!(viewers.take_all().is_empty() && viewers.between(0, 9, 9).is_empty());
        let after = |seconds| {
            viewers.reap(start + Duration::from_secs(seconds));
            viewers.is_known("a")
        };
        assert!(after(9) && !after(10), "its player is told for as long as it may take to ask again");
    }
}
