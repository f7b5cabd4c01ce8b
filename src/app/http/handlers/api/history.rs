//! The last hour of the server, so that whoever opens the console sees what was before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::core::Core;
use super::json::{Object, SampleJson};
use super::system::unix_ms;
use crate::app::context::Context;
use crate::app::http::response::Response;
use crate::app::stats::collect;
use crate::os;
use crate::st::{self, Shared};

pub(super) const INTERVAL: Duration = Duration::from_secs(10);

pub(super) const FIRST_INTERVAL: Duration = Duration::from_secs(1);

const MAX_SAMPLES: usize = 360;

#[derive(Default)]
pub(super) struct History(Shared<State>);

#[derive(Default)]
struct State {
    samples: VecDeque<SampleJson>,
    /// Time and bytes of the last sample: received and sent.
    last: Option<(Instant, [u64; 2])>,
}

impl History {
    /// Takes a sample. May wait.
    pub(super) fn sample(&self, ctx: &Context) {
        let memory = st::offload(os::usage).map_or(0, |usage| usage.memory as u64 * 1024);
        let [publish, play, forward] =
            [&ctx.stats.publish, &ctx.stats.play, &ctx.stats.forward].map(|group| group.total().bytes);
        let bytes = [publish.received, play.sent + forward.sent + collect::http_bytes(ctx)];
        let now = st::now();
        let sample = SampleJson {
            time_ms: unix_ms(),
            kbps_in: 0,
            kbps_out: 0,
            clients: ctx.clients.len() as u64 + ctx.viewers.len() as u64,
            publishers: ctx.stats.publish.count() as u64,
            players: ctx.stats.play.count() as u64 + ctx.viewers.len() as u64,
            busy: st::busy_share(),
            memory_bytes: memory,
        };
        self.0.with(|state| state.push(sample, bytes, now));
    }

    /// Forgets the samples, as when the API is turned off: a gap would be taken for silence.
    pub(super) fn clear(&self) {
        self.0.with(|state| *state = State::default());
    }

    pub(super) fn answer(&self, core: &Core) -> Response {
        let samples: Vec<_> = self.0.with(|state| state.samples.iter().copied().collect());
        let answer: Object = core.envelope().with("interval_ms", INTERVAL.as_millis() as u64);
        core.json(answer.with("samples", samples))
    }
}

impl State {
    fn push(&mut self, mut sample: SampleJson, bytes: [u64; 2], now: Instant) {
        if let Some((at, before)) = self.last.replace((now, bytes)) {
            let ms = now.saturating_duration_since(at).as_millis().max(1) as u64;
            let rate = |n: usize| bytes[n].saturating_sub(before[n]).saturating_mul(8) / ms;
            (sample.kbps_in, sample.kbps_out) = (rate(0), rate(1));
            self.samples.push_back(sample);
        }
        if self.samples.len() > MAX_SAMPLES {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_with_the_rates_of_each_interval() {
        let (mut state, start) = (State::default(), st::now());
        let sample = SampleJson {
            time_ms: 1,
            kbps_in: 0,
            kbps_out: 0,
            clients: 0,
            publishers: 0,
            players: 0,
            busy: 0.0,
            memory_bytes: 0,
        };
        state.push(sample, [1000, 5000], start);
        assert!(state.samples.is_empty(), "the first one has no rate");
        state.push(sample, [1000 + 125_000, 5000], start + INTERVAL);
        // Publishers have left, and their bytes with them.
        state.push(sample, [0, 5000 + 2 * 125_000], start + 2 * INTERVAL);
        let rates: Vec<_> = state.samples.iter().map(|sample| (sample.kbps_in, sample.kbps_out)).collect();
        assert_eq!(rates, [(100, 0), (0, 200)]);
        for n in 3..1000 {
            state.push(sample, [0, 0], start + n * INTERVAL);
        }
        assert_eq!(state.samples.len(), MAX_SAMPLES);
    }
}
