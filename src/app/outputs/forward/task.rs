//! The coroutine of a forwarder: one connection after the other, as long as the stream lives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::forwarder::Forwarder;
use super::session;
use super::target::{Dialer, ForwardState, Target};
use crate::app::stream::{Consumer, Source, StartPosition};
use crate::config::Destination;
use crate::log::quoted;
use crate::st::{self, LowClass};

/// Delay before a failed target is tried again: the first, and the longest. It doubles in between.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Bytes kept of an error text, which can contain text of the target.
const MAX_ERROR_LEN: usize = 512;

/// Starts a forwarder. With `wait_for_media`, it connects when the stream's first message has arrived. `on_end` runs
/// when it has ended. Fails when the system has no memory for a coroutine.
pub(super) fn start(
    dialer: &Arc<Dialer>,
    source: Source,
    target: Target,
    wait_for_media: bool,
    on_end: impl Fn(&Arc<Forwarder>) + Send + 'static,
) -> io::Result<Arc<Forwarder>> {
    let forwarder = Arc::new(Forwarder::new(dialer.ctx.clients.next_number(), target));
    let consumer = Arc::new(source.join_forwarder(forwarder.clone()));
    if wait_for_media {
        // A consumer that got nothing is woken by the next message.
        consumer.fill(&mut Vec::new());
    }
    forwarder.register(consumer.clone(), dialer.ctx.stats.forward.register(forwarder.clone()));
    let task = ForwardTask { dialer: dialer.clone(), name: source.name(), forwarder: forwarder.clone(), on_end };
    st::spawn_low_priority(LowClass::Requests, "forward", forwarder.number(), move || {
        task.run(&source, &consumer);
    })?;
    Ok(forwarder)
}

struct ForwardTask<F: Fn(&Arc<Forwarder>)> {
    dialer: Arc<Dialer>,
    name: String,
    forwarder: Arc<Forwarder>,
    on_end: F,
}

impl<F: Fn(&Arc<Forwarder>)> ForwardTask<F> {
    fn run(&self, source: &Source, consumer: &Arc<Consumer>) {
        let forwarder = &self.forwarder;
        let configured = &forwarder.target().destination;
        let (name, target) = (&self.name, &configured.log_url);
        forwarder.wait_for_media(consumer);
        log::info!("forward started: stream={name} target={target}");
        let mut destination = configured.clone();
        let mut position = StartPosition::Retained;
        let mut retry_delay = MIN_RETRY_DELAY;
        let mut was_redirected = false;
        loop {
            let result = self.run_session(source, consumer, &destination, position);
            forwarder.clear_connection();
            if forwarder.is_stopped() {
                log::info!("forward stopped: stream={name} target={target}");
                return;
            }
            if consumer.stream_ended() {
                if !source.is_live() {
                    log::info!("forward finished: stream={name} target={target}");
                    return;
                }
                position = consumer.reset_for_next();
                continue;
            }
            consumer.pause(true);
            position = StartPosition::JoinPoint;
            destination = configured.clone();
            if forwarder.was_stable() {
                retry_delay = MIN_RETRY_DELAY;
                was_redirected = false;
            }
            match result {
                Err(Failure::Redirected(redirected)) if !was_redirected => {
                    was_redirected = true;
                    log::info!("forward redirected: stream={name} target={target} to={}", redirected.log_url);
                    destination = *redirected;
                    continue;
                }
                Err(failure) if failure.is_permanent() => {
                    let error = failure.to_string();
                    log::error!("forward disabled: stream={name} target={target} error={}", quoted(error));
                    return;
                }
                result => {
                    was_redirected = false;
                    let delay = jittered(retry_delay);
                    let mut error = result.err().map_or_else(|| "ended".to_owned(), |failure| failure.to_string());
                    error.truncate(error.floor_char_boundary(MAX_ERROR_LEN));
                    log::warn!(
                        "forward failed: stream={name} target={target} error={} retry_seconds={:.1}",
                        quoted(&error),
                        delay.as_secs_f32()
                    );
                    forwarder.set_last_error(error);
                    forwarder.set_state(ForwardState::Waiting);
                    forwarder.pause(delay);
                    retry_delay = (retry_delay * 2).min(MAX_RETRY_DELAY);
                }
            }
        }
    }

    fn run_session(
        &self,
        source: &Source,
        consumer: &Consumer,
        destination: &Destination,
        position: StartPosition,
    ) -> Result<(), Failure> {
        self.forwarder.check_active()?;
        session::run(&self.dialer, &self.forwarder, source, consumer, destination, position)
    }
}

impl<F: Fn(&Arc<Forwarder>)> Drop for ForwardTask<F> {
    fn drop(&mut self) {
        (self.on_end)(&self.forwarder);
        self.forwarder.unregister();
    }
}

/// Returns `delay` changed by up to a fifth, so that forwarders which failed together do not reconnect together.
fn jittered(delay: Duration) -> Duration {
    let mut random = [0; 1];
    let _ = getrandom::fill(&mut random);
    delay.mul_f64(0.8 + 0.4 * f64::from(random[0]) / 255.0)
}
