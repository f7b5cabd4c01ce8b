//! The loop of a viewer: writes what the stream has for it, and reads next to nothing.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::writer::BodyWriter;
use crate::app::rtmp::server::record_close;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::session::write_queue::WriteQueue;
use crate::app::stats::reporter::Registration;
use crate::app::stream::{Consumer, Framing};
use crate::http::websocket::{Closed, Reader};
use crate::log::Throttle;
use crate::st::{self, net::TcpStream};

const MAX_READS: usize = 4;

/// Bytes that a viewer may send beyond [`INPUT_RATE`] for each second that it watches. Expected are only answers to pings.
const MAX_INPUT: u64 = 64 * 1024;
const INPUT_RATE: u64 = 1024;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const DROP_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The entry of a viewer in the list of clients. Its end is recorded when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    entry: Arc<Entry>,
}

struct Entry {
    ctx: Context,
    client: Arc<Client>,
}

/// A viewer whose response begins. The fields are dropped in the order of their events.
pub(super) struct Viewer {
    _registration: Registration,
    consumer: Arc<Consumer>,
    name: String,
    websocket: Option<Box<Reader>>,
    send_timeout: Duration,
    queue: WriteQueue,
    /// Last time at which a byte was written, or at which the queue was empty.
    last_progress: Instant,
    input_limit: InputLimit,
    logged_drops: u64,
    drop_log: Throttle,
    session: Session,
}

struct InputLimit {
    started: Instant,
    received: u64,
}

impl Session {
    pub(super) fn new(ctx: &Context, client: Arc<Client>) -> Self {
        let entry = Entry { ctx: ctx.clone(), client: client.clone() };
        Self { client, entry: Arc::new(entry) }
    }

    pub(super) fn end(&self, reason: &CloseReason) {
        record_close(&self.entry.ctx, &self.client, reason);
    }
}

impl Viewer {
    pub(super) fn new(
        session: Session,
        consumer: Arc<Consumer>,
        name: String,
        framing: Framing,
        send_timeout: Duration,
        registration: Registration,
    ) -> Self {
        let now = st::now();
        let received = session.client.stream.bytes_received();
        Self {
            _registration: registration,
            consumer,
            name,
            websocket: (framing == Framing::WebSocket).then(Box::default),
            send_timeout,
            queue: WriteQueue::default(),
            last_progress: now,
            input_limit: InputLimit { started: now, received },
            logged_drops: 0,
            drop_log: Throttle::new(DROP_LOG_INTERVAL),
            session,
        }
    }

    /// Sends the stream until it ends, or the viewer leaves.
    pub(super) fn run(mut self, writer: &mut BodyWriter<'_, '_>) -> Result<(), End> {
        // The buffer of the request is freed before the wait.
        let early = self.read(&writer.take_input());
        let reason = match early.and_then(|()| self.serve()) {
            Ok(reason) => {
                self.close_websocket();
                reason
            }
            Err(reason) => reason,
        };
        let session = self.session.clone();
        drop(self);
        session.end(&reason);
        match reason {
            CloseReason::StreamEnded => Ok(()),
            reason => Err(End::Viewer(reason)),
        }
    }

    fn serve(&mut self) -> Result<CloseReason, CloseReason> {
        let stream = self.session.client.stream.clone();
        let (mut priority, mut stack_trimmed) = (None, false);
        loop {
            let draining = match self.session.client.close_requested() {
                None => false,
                Some(CloseReason::ServerStopped) => true,
                Some(reason) => return Ok(reason),
            };
            self.read_input(&stream)?;
            let mut is_skipping = false;
            if self.queue.is_empty() {
                self.consumer.fill(&mut self.queue.0);
                self.last_progress = st::now();
                is_skipping = self.queue.is_empty() && self.consumer.has_more();
            }
            if self.write(&stream)? {
                continue;
            }
            if is_skipping {
                st::yield_now();
                continue;
            }
            if self.queue.is_empty() {
                if draining {
                    return Ok(CloseReason::ServerStopped);
                }
                if self.consumer.is_finished() {
                    return Ok(CloseReason::StreamEnded);
                }
                self.queue = WriteQueue::default();
                if !std::mem::replace(&mut stack_trimmed, true) {
                    st::trim_stack();
                }
            }
            self.log_drops();
            if priority.is_none() && self.consumer.stats().sent > 0 {
                priority = Some(st::raise_priority());
            }
            let deadline = (!self.queue.is_empty()).then(|| self.last_progress + self.send_timeout);
            stream.wait(deadline);
            if deadline.is_some_and(|deadline| st::now() >= deadline) {
                return Err(CloseReason::NotReading);
            }
        }
    }

    fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        if self.queue.is_empty() {
            return Ok(false);
        }
        let written = stream.try_write_vectored(&self.queue.slices())?;
        if written == 0 {
            return Ok(false);
        }
        self.queue.advance(written);
        self.last_progress = st::now();
        stream.yield_if_busy();
        Ok(true)
    }

    /// Reads what the viewer sends, unless it does not read what it is sent.
    #[inline(never)] // Keeps its locals off the stack of a waiting viewer.
    fn read_input(&mut self, stream: &TcpStream) -> Result<(), CloseReason> {
        for _ in 0..MAX_READS {
            if self.websocket.is_some() && !self.queue.is_empty() {
                return Ok(());
            }
            let read = stream.try_read_with(|bytes| match bytes {
                [] => Err(CloseReason::ByPeer),
                bytes => self.read(bytes),
            })?;
            let Some(result) = read else { return Ok(()) };
            result?;
            self.input_limit.check(stream.bytes_received())?;
            stream.yield_if_busy();
        }
        Ok(())
    }

    /// Reads bytes of the viewer: the frames of a WebSocket, else nothing that counts.
    fn read(&mut self, bytes: &[u8]) -> Result<(), CloseReason> {
        let Some(websocket) = &mut self.websocket else { return Ok(()) };
        let result = websocket.feed(bytes);
        let answers = websocket.take_output();
        if !answers.is_empty() {
            self.consumer.detach(&mut self.queue.0);
            self.queue.push(answers.into());
        }
        match result {
            Ok(()) => Ok(()),
            Err(Closed) => {
                let _ = self.write(&self.session.client.stream.clone());
                Err(CloseReason::ByPeer)
            }
        }
    }

    /// Sends the end of the stream to a WebSocket.
    fn close_websocket(&mut self) {
        let Some(websocket) = &mut self.websocket else { return };
        websocket.close();
        let mut stream = &self.session.client.stream;
        stream.resume();
        stream.set_time_limit(Some(CLOSE_TIMEOUT));
        self.consumer.detach(&mut self.queue.0);
        self.queue.push(Bytes::from(websocket.take_output()));
        for piece in self.queue.0.drain(..) {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    }

    fn log_drops(&mut self) {
        let total = self.consumer.stats().dropped;
        if total > self.logged_drops && self.drop_log.pass(st::now()) {
            let dropped = total - self.logged_drops;
            log::warn!("player too slow, messages dropped: stream={} dropped={dropped} total={total}", self.name);
            self.logged_drops = total;
        }
    }
}

impl InputLimit {
    fn check(&self, received: u64) -> Result<(), CloseReason> {
        let seconds = st::now().duration_since(self.started).as_secs();
        if received - self.received > MAX_INPUT + INPUT_RATE * seconds {
            return Err(CloseReason::Protocol("a viewer of a live stream sends too much".to_owned()));
        }
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ctx.clients.remove(&self.client);
        // Without effect if the end was recorded.
        let reason = if std::thread::panicking() { CloseReason::Crashed } else { CloseReason::ByPeer };
        record_close(&self.ctx, &self.client, &reason);
    }
}
