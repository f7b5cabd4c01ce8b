//! Pithy print: one log line an interval for each stage, however many clients are in it. The clients take turns.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::log::as_client;
use crate::st::net::TcpStream;
use crate::st::{self, Cond, Shared};

/// Messages of a client in a stage.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Messages {
    /// Sent or received.
    pub(super) passed: u64,
    /// Not sent, because the client was too slow.
    pub(super) dropped: u64,
}

/// What clients do, with a line of its own in the log.
#[derive(Clone)]
pub(super) struct Stage {
    arrow: &'static str,
    interval: Duration,
    members: Shared<Vec<Member>>,
    entered: Arc<Cond>,
}

struct Member {
    client: u64,
    stream: TcpStream,
    messages: Box<dyn Fn() -> Messages + Send + Sync>,
    since: Instant,
    /// When its last line was, and its bytes until then: rates are those since.
    last: Instant,
    sent: u64,
    received: u64,
}

/// A client's presence in a stage. Dropping it leaves.
pub(super) struct Presence {
    stage: Stage,
    client: u64,
}

impl Stage {
    /// A stage whose lines begin with `arrow`: the way of the media.
    pub(super) fn new(arrow: &'static str, interval: Duration) -> Self {
        Self { arrow, interval, members: Shared::new(Vec::new()), entered: Arc::default() }
    }

    pub(super) fn enter(
        &self,
        client: u64,
        stream: &TcpStream,
        messages: impl Fn() -> Messages + Send + Sync + 'static,
    ) -> Presence {
        let now = Instant::now();
        let (sent, received) = (stream.sent(), stream.received());
        let messages = Box::new(messages);
        let member = Member { client, stream: stream.clone(), messages, since: now, last: now, sent, received };
        self.members.with(|members| members.push(member));
        self.entered.signal();
        Presence { stage: self.clone(), client }
    }

    /// Prints, for ever. Sleeps while nobody is in the stage.
    pub(super) fn print(&self) {
        let mut turn = 0;
        loop {
            while self.members.with(|members| members.is_empty()) {
                self.entered.wait();
            }
            st::sleep(self.interval);
            self.members.with(|members| {
                let count = members.len();
                turn = if turn + 1 < count { turn + 1 } else { 0 };
                if let Some(member) = members.get_mut(turn) {
                    member.print(self.arrow, count);
                }
            });
        }
    }
}

impl Member {
    fn print(&mut self, arrow: &str, clients: usize) {
        let (sent, received) = (self.stream.sent(), self.stream.received());
        let messages = (self.messages)();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let time = self.since.elapsed().as_millis();
        let okbps = kbps(sent - self.sent, self.last.elapsed());
        let ikbps = kbps(received - self.received, self.last.elapsed());
        as_client(self.client, || {
            log::info!(
                "{arrow} clock={clock}, time={time}, msgs={}, obytes={sent}, ibytes={received}, okbps={okbps}, \
                 ikbps={ikbps}, drops={}, clients={clients}",
                messages.passed,
                messages.dropped,
            );
        });
        (self.last, self.sent, self.received) = (Instant::now(), sent, received);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let gone = self.stage.members.try_with(|members| {
            let at = members.iter().position(|member| member.client == self.client)?;
            Some(members.swap_remove(at))
        });
        // What it holds may itself use a stage, or be the last handle to a player: so not inside.
        drop(gone);
    }
}

/// Kilobits a second.
fn kbps(bytes: u64, time: Duration) -> u64 {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(8) / ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobits_a_second() {
        assert_eq!(kbps(125_000, Duration::from_secs(2)), 500);
        assert_eq!(kbps(100, Duration::ZERO), 800);
    }
}
