//! The loop of a connection that carries a stream. It serves publishers, players and forwarders.
//!
//! ```text
//! socket ── read_input ──> Protocol ──> Role::handle_next ──> replies ──┐
//!                                                                       ├──> WriteQueue ── write ──> socket
//!                          stream ──> Consumer ── fill ─────────────────┘
//! ```
//!
//! One round reads, fills the queue if it is empty, writes, updates the priority, and waits for the next event. The rounds of a
//! publisher that sends one message after the other run on the stack of the event loop; its coroutine does whatever needs more.
//!
//! | limit | effect |
//! |---|---|
//! | more than [`MAX_PENDING_REPLIES`] of replies are unwritten | no input is read |
//! | no byte was written for the send timeout | the peer does not read: the loop fails |
//! | [`MAX_READS`], [`WORK_BUDGET`] | the round's reading ends, and what is queued is written |
//! | work quantum, work budget | the coroutine yields; it loses its priority |

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::app::limits::admission::Admission;
use crate::app::limits::fairness::{self, PriorityController, WORK_BUDGET, WorkQuantum};
use crate::app::rtmp::CLOSE_TIMEOUT;
use crate::app::session::write_queue::WriteQueue;
use crate::app::stream::Consumer;
use crate::rtmp;
use crate::rtmp::protocol::{MAX_PENDING_REPLIES, Protocol};
use crate::st;
use crate::st::net::{EventHandler, TcpStream, WaitResult};

const MAX_READS: usize = 4;

/// The purpose of a connection, which decides what its input means and when it ends.
pub(crate) trait Role {
    type End;
    type Error: From<rtmp::Error> + From<io::Error>;

    fn not_reading() -> Self::Error;

    fn protocol(&mut self) -> &mut Protocol<TcpStream>;

    fn start_round(&mut self, now: Instant) -> Result<Option<Self::End>, Self::Error>;

    fn handle_next(&mut self) -> Result<Handled<Self::End>, Self::Error>;

    fn on_input(&mut self, _now: Instant) {}

    /// Decides what follows when nothing more can be written now.
    fn finish_round(&mut self, round: &Round) -> Result<Next<Self::End>, Self::Error>;

    fn on_deadline(&mut self) {}

    /// Returns whether the next events can be handled on the stack of the event loop, see [`TcpStream::wait_with_handler`].
    fn has_handler(&self) -> bool {
        false
    }

    /// Prefetches what an event accesses at `depth`, 1 to 3, pointers from this value, see [`EventHandler::prefetch`].
    fn prefetch(&self, _depth: usize) {}

    /// Returns whether the connection has carried media, for which it gets high priority. `is_busy`: it does not wait now.
    fn has_media(&self, is_busy: bool) -> bool;
}

pub(crate) enum Handled<End> {
    Message,
    NoMessage,
    /// The message ends the loop. Later messages belong to what serves the connection next.
    End(End),
}

pub(crate) struct Round {
    pub(crate) now: Instant,
    pub(crate) all_sent: bool,
    pub(crate) input_pending: bool,
}

pub(crate) enum Next<End> {
    Wait(Option<Instant>),
    Round,
    End(End),
}

enum Input<End> {
    Drained,
    Pending,
    End(End),
}

pub(crate) struct Pump<'a> {
    stream: TcpStream,
    consumer: Option<&'a Consumer>,
    admission: Admission,
    send_timeout: Duration,
    queue: WriteQueue,
    /// Bytes of the replies in the queue, written ones included, until the queue is empty.
    queued_replies: usize,
    /// Last time at which a byte was written, or at which the queue was empty.
    last_progress: Instant,
    quantum: WorkQuantum,
    priority: PriorityController,
    stack_trimmed: bool,
    /// The present round runs on the stack of the event loop, which must not block.
    in_handler: bool,
}

impl<'a> Pump<'a> {
    pub(crate) fn new(
        protocol: &Protocol<TcpStream>,
        consumer: Option<&'a Consumer>,
        admission: &Admission,
        send_timeout: Duration,
    ) -> Self {
        let now = st::now();
        Self {
            stream: protocol.stream().clone(),
            consumer,
            admission: admission.clone(),
            send_timeout,
            queue: WriteQueue::default(),
            queued_replies: 0,
            last_progress: now,
            quantum: WorkQuantum::default(),
            priority: PriorityController::new(now, fairness::work_units(protocol)),
            stack_trimmed: false,
            in_handler: false,
        }
    }

    /// Runs the loop until the role, the peer or a failure ends it. [`Pump::finish`] writes what is left in the queue.
    pub(crate) fn run<R: Role>(&mut self, role: &mut R) -> Result<R::End, R::Error> {
        // The replies to the command that started the role, and the first media, are one write.
        self.queue_replies(role.protocol());
        self.fill(role.protocol());
        let mut now = st::now();
        loop {
            st::prefetch_stack();
            if let Some(end) = role.start_round(now)? {
                return Ok(end);
            }
            let mut input_pending = match self.read_input(role, now)? {
                Input::Drained => false,
                Input::Pending => true,
                Input::End(end) => return Ok(end),
            };
            // A player that receives neither audio nor video skips many messages, a part of them in each round.
            let mut is_skipping = false;
            if self.queue.is_empty() {
                // Above the limit, no input was read.
                input_pending |= self.replies_full();
                self.forget_replies(role.protocol());
                is_skipping = self.fill(role.protocol());
            }
            if self.write()? {
                now = self.last_progress;
                continue;
            }
            let all_sent = self.queue.is_empty() && !is_skipping;
            let next = role.finish_round(&Round { now, all_sent, input_pending })?;
            let (deadline, starts_next) = match next {
                Next::Wait(deadline) => (deadline, false),
                Next::Round => (None, true),
                Next::End(end) => return Ok(end),
            };
            if is_skipping {
                st::yield_now();
            }
            let is_busy = input_pending || is_skipping || starts_next;
            let work = fairness::work_units(role.protocol());
            self.priority.update(now, work, self.admission.work_budget(), role.has_media(is_busy));
            let mut timed_out = false;
            if is_busy {
                now = st::now();
            } else if self.queue.is_empty() && self.priority.is_high() && role.has_handler() {
                match self.wait_with_handler(role, deadline)? {
                    ControlFlow::Continue(end) => (now, timed_out) = (end.now, end.timed_out),
                    ControlFlow::Break(end) => return Ok(end),
                }
                self.quantum.restart(fairness::work_units(role.protocol()));
            } else {
                (now, timed_out) = self.wait(deadline);
                // Others have run.
                self.quantum.restart(work);
            }
            // A peer that never stops sending never gets to the wait.
            if (is_busy || timed_out) && self.send_deadline().is_some_and(|deadline| now >= deadline) {
                return Err(R::not_reading());
            }
            if timed_out {
                role.on_deadline();
                self.queue_replies(role.protocol());
            }
        }
    }

    /// Blocks until the queue is written, and with it the rest of a message that was begun: other messages can follow.
    pub(crate) fn finish(&mut self, protocol: &mut Protocol<TcpStream>) -> io::Result<()> {
        if let Some(consumer) = self.consumer {
            consumer.detach(&mut self.queue.0);
        }
        let mut stream = &self.stream;
        while !self.queue.is_empty() || self.consumer.is_some_and(|rest| rest.continue_partial(&mut self.queue.0)) {
            for piece in self.queue.0.drain(..) {
                stream.write_all(&piece)?;
            }
        }
        self.forget_replies(protocol);
        Ok(())
    }

    /// Does the same before a close, even of an interrupted connection, in at most [`CLOSE_TIMEOUT`], which stays set.
    pub(crate) fn finish_before_close(&mut self, protocol: &mut Protocol<TcpStream>) -> io::Result<()> {
        self.stream.resume();
        self.stream.set_time_limit(Some(CLOSE_TIMEOUT));
        self.finish(protocol)
    }

    /// Reads and handles input, and queues the replies. Bounded by reads and work.
    #[inline(never)] // Keeps its locals off the stack of a waiting player.
    fn read_input<R: Role>(&mut self, role: &mut R, now: Instant) -> Result<Input<R::End>, R::Error> {
        // A peer that does not read its replies causes no more of them.
        if self.replies_full() {
            return Ok(Input::Drained);
        }
        let mut input = Input::Pending;
        let work_before = fairness::work_units(role.protocol());
        'reads: for _ in 0..MAX_READS {
            // Messages come before the read: some arrived together with the command that started the role.
            while role.protocol().has_input() && role.protocol().output_len() <= MAX_PENDING_REPLIES {
                match role.handle_next()? {
                    Handled::Message => {}
                    Handled::NoMessage => break,
                    Handled::End(end) => return Ok(Input::End(end)),
                }
                let work = fairness::work_units(role.protocol());
                if self.in_handler {
                    if self.quantum.is_used_up(work) {
                        break 'reads;
                    }
                    continue;
                }
                self.quantum.yield_if_used_up(work);
                if work.wrapping_sub(work_before) > WORK_BUDGET {
                    break 'reads;
                }
            }
            let protocol = role.protocol();
            if protocol.output_len() > MAX_PENDING_REPLIES {
                break;
            }
            if self.stream.is_drained() {
                input = Input::Drained;
                break;
            }
            let fed = self.stream.try_read_with(|bytes| match bytes {
                [] => Err(rtmp::Error::Closed),
                bytes => protocol.feed(bytes),
            });
            match fed? {
                Some(result) => result?,
                None => {
                    input = Input::Drained;
                    break;
                }
            }
            role.on_input(now);
            if self.in_handler {
                continue;
            }
            self.stream.yield_if_busy();
            self.quantum.yield_if_used_up(fairness::work_units(role.protocol()));
        }
        self.queue_replies(role.protocol());
        Ok(if self.replies_full() { Input::Drained } else { input })
    }

    fn queue_replies(&mut self, protocol: &mut Protocol<TcpStream>) {
        if !protocol.has_output() {
            return;
        }
        if self.queue.is_empty() {
            self.last_progress = st::now();
        }
        if let Some(consumer) = self.consumer {
            consumer.detach(&mut self.queue.0);
        }
        let replies = protocol.take_output();
        self.queued_replies += replies.len();
        protocol.set_in_flight_replies(self.queued_replies);
        self.queue.push(replies);
    }

    fn replies_full(&self) -> bool {
        self.queued_replies > MAX_PENDING_REPLIES
    }

    fn forget_replies(&mut self, protocol: &mut Protocol<TcpStream>) {
        self.queued_replies = 0;
        protocol.set_in_flight_replies(0);
    }

    /// Queues the stream's next output. Returns whether there is more to examine although there was no output.
    fn fill(&mut self, protocol: &mut Protocol<TcpStream>) -> bool {
        let Some(consumer) = self.consumer else { return false };
        let chunk_size = consumer.fill(&mut self.queue.0);
        // Replies come after this output and use the same chunk size.
        protocol.assume_chunk_size(chunk_size);
        self.last_progress = st::now();
        self.queue.is_empty() && consumer.has_more()
    }

    fn write(&mut self) -> io::Result<bool> {
        if self.queue.is_empty() {
            return Ok(false);
        }
        let written = self.stream.try_write_vectored(&self.queue.slices())?;
        if written == 0 {
            return Ok(false);
        }
        self.queue.advance(written);
        self.last_progress = st::now();
        self.stream.yield_if_busy();
        Ok(true)
    }

    /// Waits for an event of the socket, at most until `deadline` or the send timeout. Returns the time, and whether it is up.
    fn wait(&mut self, deadline: Option<Instant>) -> (Instant, bool) {
        if self.queue.is_empty() {
            self.release();
        }
        let end = self.stream.wait(earliest(deadline, self.send_deadline()));
        (end.now, end.timed_out)
    }

    /// Waits for an event that the event loop cannot handle. Breaks with the end of the loop, if one of the events has led to it.
    #[inline(never)] // Keeps its locals off the stack of a waiting player.
    fn wait_with_handler<R: Role>(
        &mut self,
        role: &mut R,
        deadline: Option<Instant>,
    ) -> Result<ControlFlow<R::End, WaitResult>, R::Error> {
        self.release();
        let stream = self.stream.clone();
        let mut result = Ok(None);
        let wait = stream.wait_with_handler(deadline, RoundHandler { pump: self, role, result: &mut result })?;
        Ok(result?.map_or(ControlFlow::Continue(wait), ControlFlow::Break))
    }

    /// Does a round on the stack of the event loop. [`Next::Round`]: the coroutine has to go on.
    fn handle_event<R: Role>(&mut self, role: &mut R, event: WaitResult) -> Result<Next<R::End>, R::Error> {
        let now = event.now;
        if event.timed_out {
            role.on_deadline();
        }
        self.quantum.restart(fairness::work_units(role.protocol()));
        if let Some(end) = role.start_round(now)? {
            return Ok(Next::End(end));
        }
        match self.read_input(role, now)? {
            Input::Drained => {}
            Input::Pending => return Ok(Next::Round),
            Input::End(end) => return Ok(Next::End(end)),
        }
        let work = fairness::work_units(role.protocol());
        if !self.queue.is_empty() || !self.priority.is_within(now, work, self.admission.work_budget()) {
            return Ok(Next::Round);
        }
        role.finish_round(&Round { now, all_sent: true, input_pending: false })
    }

    fn release(&mut self) {
        self.queue.release();
        if !self.stack_trimmed {
            self.stack_trimmed = true;
            st::trim_stack();
        }
    }

    fn send_deadline(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then(|| self.last_progress + self.send_timeout)
    }
}

/// Handles the events of a connection in rounds.
struct RoundHandler<'p, 'a, R: Role> {
    pump: &'p mut Pump<'a>,
    role: &'p mut R,
    /// The end of the loop, if one of the events has led to it.
    result: &'p mut Result<Option<R::End>, R::Error>,
}

impl<R: Role> EventHandler for RoundHandler<'_, '_, R> {
    fn handle(&mut self, event: WaitResult) -> Option<Option<Instant>> {
        self.pump.in_handler = true;
        let round = self.pump.handle_event(self.role, event);
        self.pump.in_handler = false;
        match round {
            Ok(Next::Wait(deadline)) => return Some(deadline),
            Ok(Next::Round) => {}
            Ok(Next::End(end)) => *self.result = Ok(Some(end)),
            Err(error) => *self.result = Err(error),
        }
        None
    }

    fn prefetch(&self, depth: usize) {
        if depth == 1 {
            st::prefetch_all(&*self.pump);
            st::prefetch_all(&*self.role);
        } else {
            self.role.prefetch(depth - 1);
        }
    }
}

/// Returns the earlier of two deadlines.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

#[cfg(test)]
mod tests;
