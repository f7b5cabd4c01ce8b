//! A stream as HLS, on the worker: from its segments to the disk's thread, the files in memory and the playlist.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::buffers::Buffers;
use super::disk::{Disk, Job, Target};
use super::handover::Handover;
use super::playlist::{Entry, Lengths, Playlist};
use super::segmenter::{Segment, Segmenter};
use crate::app::CloseReason;
use crate::app::limits::fairness::Breather;
use crate::app::outputs::live_files::{LiveFile, LiveFiles};
use crate::app::stream::{Outlet, Sink};
use crate::codec::flv::{AudioTag, VideoTag};
use crate::config::{Hls, HlsOnError, Vhost};
use crate::memory::{Account, Held, Part};
use crate::st::Shared;

/// How long a stream that ended is kept in memory where `hls_dispose` says that it stays on disk.
const KEEP: Duration = Duration::from_secs(120);

/// Files in memory that go in one go: others may want to run meanwhile.
const BATCH: usize = 256;

/// A stream that is, or was lately, published. Clones are the same.
#[derive(Clone)]
pub(super) struct Stream(Shared<State>);

/// A publisher's stream on its way into segments. Dropping it ends the last one.
pub(super) struct Recording(Stream);

struct State {
    /// vhost/app/stream.
    name: String,
    settings: Hls,
    target: Arc<Target>,
    segmenter: Segmenter,
    /// Of the publisher's stream: where segments are counted.
    account: Account,
    /// The segment that is being written.
    open: Held,
    /// Where what the disk has of it from before is said.
    before: Arc<OnceLock<Playlist>>,
    /// Whether that was asked: not before there is something to write.
    has_asked: bool,
    /// Whose the files in memory are: a stream that goes elsewhere on disk has the same paths there.
    owner: String,
    /// It goes on elsewhere, and its playlist is to give way.
    is_moved: bool,
    /// What the files in memory say. `None` until it is known which number comes next.
    playlist: Option<Playlist>,
    /// Segments that wait for that.
    waiting: VecDeque<Segment>,
    disk: Disk,
    live: LiveFiles,
    /// Files in memory that are to go, and when.
    leaving: VecDeque<(Instant, String)>,
    publisher: Option<Arc<dyn Outlet>>,
    ended_at: Instant,
    /// The playlist is to say that nothing follows.
    says_end: bool,
    is_closed: bool,
    /// The disk's thread had too much to do to be told that it is closed.
    owes_close: bool,
}

impl Stream {
    pub(super) fn new(name: &str, base: &str, settings: &Hls, disk: Disk, live: LiveFiles, buffers: Buffers) -> Self {
        let account = Account::default();
        let clock = Arc::new(SystemTime::now);
        Self(Shared::new(State {
            name: name.to_owned(),
            settings: settings.clone(),
            target: Arc::new(Target::new(settings.path.clone(), base.to_owned())),
            segmenter: Segmenter::new(name, settings.fragment, clock, buffers),
            open: account.hold(Part::Hls),
            account,
            before: Arc::default(),
            has_asked: false,
            owner: settings.path.join(base).display().to_string(),
            is_moved: false,
            playlist: None,
            waiting: VecDeque::new(),
            disk,
            live,
            leaving: VecDeque::new(),
            publisher: None,
            ended_at: Instant::now(),
            says_end: false,
            is_closed: false,
            owes_close: false,
        }))
    }

    /// A publisher of the stream `name` begins, and what is held for it counts in `memory`. `None` if another one is here: two
    /// streams of different vhosts may come to the same files.
    pub(super) fn begin(
        &self,
        name: &str,
        settings: &Hls,
        publisher: Arc<dyn Outlet>,
        account: &Account,
    ) -> Option<Recording> {
        self.0.with(|state| {
            if state.publisher.is_some() {
                return None;
            }
            if std::mem::take(&mut state.is_closed) {
                // The disk may have gone on without us.
                (state.before, state.has_asked, state.playlist) = (Arc::default(), false, None);
            }
            state.name = name.to_owned();
            state.publisher = Some(publisher);
            (state.says_end, state.is_moved) = (false, false);
            state.set(settings);
            state.segmenter.begin();
            (state.open, state.account) = (account.hold(Part::Hls), account.clone());
            Some(Recording(self.clone()))
        })
    }

    /// When it ended, if nobody publishes it.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.0.with(|state| state.publisher.is_none().then_some(state.ended_at))
    }

    /// When it ended, if it is kept yet.
    pub(super) fn kept_since(&self) -> Option<Instant> {
        self.0.with(|state| (state.publisher.is_none() && !state.is_closed).then_some(state.ended_at))
    }

    /// Ends what is kept of a stream that has ended. Nothing is done if it is published again.
    pub(super) fn close(&self, now: Instant) {
        self.0.with(|state| {
            if state.publisher.is_none() && !state.is_closed {
                state.close(now);
            }
        });
    }

    /// Whether it is closed, and there only for what has to be done yet.
    pub(super) fn is_closed(&self) -> bool {
        self.0.with(|state| state.publisher.is_none() && state.is_closed)
    }

    /// Removes some of the files in memory whose time has come. Whether there may be more.
    pub(super) fn remove_due(&self, now: Instant) -> bool {
        self.0.with(|state| state.remove_due(now))
    }

    /// Lets go of what is in memory of a stream that nobody publishes: it is on disk, as far as that has got. How many files that were.
    pub(super) fn shed(&self, breather: &mut Breather) -> usize {
        let mut count = 0;
        while let Some(shed) = self.0.with(State::shed) {
            count += shed;
            breather.look();
        }
        count
    }

    /// Does what is due. Whether the stream is over and done with.
    pub(super) fn look_after(&self, now: Instant) -> bool {
        self.0.with(|state| state.look_after(now))
    }
}

impl Sink for Recording {
    fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) {
        self.0.0.with(|state| {
            let done = state.segmenter.on_video(time, tag, payload);
            state.take(done);
        });
    }

    fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) {
        self.0.0.with(|state| {
            let done = state.segmenter.on_audio(time, tag, payload);
            state.take(done);
        });
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        self.0.0.with(|state| {
            let is_same_place = vhost.hls.path == state.settings.path;
            if is_same_place {
                state.set(&vhost.hls);
            }
            is_same_place
        })
    }

    fn succeed(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Sink>>) -> Option<Box<dyn Sink>> {
        Some(Box::new(Handover::new(*self, next())))
    }
}

impl Recording {
    /// Whether the segment that is open has video.
    pub(super) fn has_video(&self) -> bool {
        self.0.0.with(|state| state.segmenter.has_video())
    }

    /// Ends it, and not because the publisher has: its playlist is to say that nothing follows. `is_moved`: the stream goes on elsewhere.
    pub(super) fn end_for_good(self, is_moved: bool) {
        self.0.0.try_with(|state| (state.says_end, state.is_moved) = (true, is_moved));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.0.0.try_with(|state| {
            let done = state.segmenter.end();
            state.take(done);
            state.publisher = None;
            state.ended_at = Instant::now();
            // Nothing has come of it, so nothing is kept.
            state.is_closed = !state.has_asked && state.waiting.is_empty();
        });
    }
}

impl State {
    fn set(&mut self, settings: &Hls) {
        self.segmenter.set_fragment(settings.fragment);
        self.settings = settings.clone();
    }

    /// Takes what the segmenter has done, and counts what it holds.
    fn take(&mut self, done: Option<Segment>) {
        self.open.set(self.segmenter.held());
        if self.segmenter.is_open() {
            self.is_numbered();
        }
        if let Some(mut segment) = done {
            segment.body = self.account.count_as(Part::Hls, segment.body, segment.room);
            self.on_segment(segment);
        }
    }

    fn on_segment(&mut self, segment: Segment) {
        self.waiting.push_back(segment);
        if self.is_numbered() {
            while let Some(segment) = self.waiting.pop_front() {
                self.put(segment);
            }
            return;
        }
        // A disk that does not answer. What is kept is what a playlist would have.
        let mut kept: u64 = self.waiting.iter().map(|segment| segment.duration).sum();
        while kept > milliseconds(self.settings.window) && self.waiting.len() > 1 {
            kept -= self.waiting.pop_front().map_or(0, |segment| segment.duration);
            if let Some(first) = self.waiting.front_mut() {
                first.discontinuity = true;
            }
        }
    }

    /// Whether it is known which number comes next. The disk is asked, and not waited for.
    fn is_numbered(&mut self) -> bool {
        if self.playlist.is_none() {
            self.playlist = self.before.get().cloned();
        }
        if !self.has_asked {
            self.has_asked = self.disk.send(&self.target, Job::Open(self.before.clone()));
            // That it was to be closed is no longer so.
            self.owes_close &= !self.has_asked;
        }
        self.playlist.is_some()
    }

    fn put(&mut self, segment: Segment) {
        let longest = self.longest();
        let Some(playlist) = &mut self.playlist else { return };
        let Segment { body, duration, discontinuity, at, .. } = segment;
        let number = playlist.next_number();
        // The first of all has nothing before it.
        let entry = Entry { number, duration, discontinuity: discontinuity && number > 0, at: Some(at) };
        let fragment = milliseconds(self.settings.fragment);
        let target = fragment.saturating_mul(self.settings.td_ratio) / 1000;
        let lengths = Lengths { window: milliseconds(self.settings.window), fragment, target };
        let job = Job::Segment { entry: entry.clone(), body: body.clone(), lengths, cleanup: self.settings.cleanup };
        let gone = playlist.push(entry, &lengths);

        let folder = self.target.folder();
        let path = format!("{folder}{}", playlist.file_name(number));
        self.live.put(&self.owner, &path, LiveFile::new(&path, body, SystemTime::now()));
        // For who has just read the old playlist. Whoever is slower finds it on disk.
        let due = Instant::now() + Duration::from_secs(2 * playlist.target()).min(longest);
        self.leaving.extend(gone.iter().map(|entry| (due, format!("{folder}{}", playlist.file_name(entry.number)))));
        // That of before the stream came back may be on its way out.
        let path = self.playlist_path();
        self.leaving.retain(|(_, leaving)| *leaving != path);
        self.put_playlist();
        self.remove_due(Instant::now());

        self.disk.send(&self.target, job);
    }

    /// Has the playlist in memory be as it is now.
    fn put_playlist(&self) {
        let Some(playlist) = &self.playlist else { return };
        let path = self.playlist_path();
        // Also when it ended before its vhost's files were to be elsewhere.
        if (self.is_moved || self.publisher.is_none())
            && self.live.owner(&path).is_some_and(|owner| *owner != *self.owner)
        {
            // Its successor has begun to be there.
            return;
        }
        // Who is slow to take it may keep each version.
        let text = self.account.count(Part::Hls, playlist.text().into());
        self.live.put(&self.owner, &path, LiveFile::new(&path, text, SystemTime::now()));
    }

    /// The same when the stream is over. Memory may have been short.
    fn renew_playlist(&self) {
        if self.owns(&self.playlist_path()) {
            self.put_playlist();
        }
    }

    /// Whether there is a file of the stream in memory under this path.
    fn owns(&self, path: &str) -> bool {
        self.live.owner(path).is_some_and(|owner| *owner == *self.owner)
    }

    fn playlist_path(&self) -> String {
        format!("{}.m3u8", self.target.base)
    }

    /// How long a segment that left the playlist stays in memory at most, however long it says that it is.
    fn longest(&self) -> Duration {
        2 * self.settings.window.max(3 * self.settings.fragment)
    }

    fn remove_due(&mut self, now: Instant) -> bool {
        for _ in 0..BATCH {
            let Some((_, path)) = self.leaving.pop_front_if(|(due, _)| *due <= now) else { return false };
            self.live.remove(&self.owner, &path);
        }
        true
    }

    fn look_after(&mut self, now: Instant) -> bool {
        self.remove_due(now);
        if self.is_closed {
            self.owes_close = self.owes_close && !self.tell_closed();
            return self.is_done();
        }
        if !self.waiting.is_empty() && self.is_numbered() {
            while let Some(segment) = self.waiting.pop_front() {
                self.put(segment);
            }
        }
        let failure = self.target.take_failure();
        if let Some(publisher) = &self.publisher {
            if let Some(why) = failure
                && self.settings.on_error == HlsOnError::Disconnect
            {
                publisher.close(CloseReason::Hls(why));
            }
            return false;
        }
        if self.says_end {
            self.say_end();
        }
        let dispose = self.settings.dispose;
        let keep = if dispose.is_zero() { KEEP } else { dispose };
        if now.saturating_duration_since(self.ended_at) >= keep {
            self.close(now);
        }
        false
    }

    /// It is tried again with the next look if the disk's thread has too much to do.
    fn say_end(&mut self) {
        if let Some(playlist) = &mut self.playlist
            && self.waiting.is_empty()
            && self.disk.send(&self.target, Job::End)
        {
            playlist.end();
            self.says_end = false;
            self.renew_playlist();
        }
    }

    /// The stream is over: who plays it is told, and what is in memory goes when they have had the time to load it.
    fn close(&mut self, now: Instant) {
        self.is_closed = true;
        // It is tried again with each look. What is in memory does not wait for that.
        self.owes_close = (self.owes_close || self.has_asked) && !self.tell_closed();
        // The disk has not answered in all that time.
        self.waiting.clear();
        let (longest, path) = (self.longest(), self.playlist_path());
        let Some(playlist) = &mut self.playlist else { return };
        let due = now + Duration::from_millis(playlist.duration()).min(longest);
        let folder = self.target.folder();
        self.leaving
            .extend(playlist.entries().map(|entry| (due, format!("{folder}{}", playlist.file_name(entry.number)))));
        self.leaving.push_back((due, path));
        if !self.settings.dispose.is_zero() {
            playlist.end();
            self.renew_playlist();
        }
        self.playlist = None;
    }

    /// Has the disk's thread close it. Whether that has room for it.
    fn tell_closed(&self) -> bool {
        let Hls { dispose, cleanup, .. } = self.settings;
        self.disk.send(&self.target, Job::Close { dispose: !dispose.is_zero(), cleanup })
    }

    /// Whether the stream is over, and nothing is left to be done.
    fn is_done(&self) -> bool {
        self.is_closed && self.leaving.is_empty() && !self.owes_close
    }

    /// Lets go of some. `None` if there is nothing.
    fn shed(&mut self) -> Option<usize> {
        // What is done with may have another stream of its name in its place.
        if self.publisher.is_some() || self.is_done() {
            return None;
        }
        // What the disk has no answer for yet is lost.
        let waiting = std::mem::take(&mut self.waiting).len();
        let segments = self.live.remove_oldest(&self.owner, BATCH);
        let path = self.playlist_path();
        let has_playlist = self.owns(&path);
        self.live.remove(&self.owner, &path);
        let count = waiting + segments + usize::from(has_playlist);
        if count == 0 {
            self.leaving.clear();
        }
        (count > 0).then_some(count)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
