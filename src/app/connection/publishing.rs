//! A client that publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Admitted, Connection, close_reason, network};
use crate::app::close::CloseReason;
use crate::app::pithy::Messages;
use crate::app::source::{Busy, Publication};
use crate::rtmp::server::{Event, Publish};
use crate::st;

/// What one read takes at most: some messages, so that they go out together.
const READ_BUFFER: usize = 16 * 1024;

/// Full reads in a row after which the players get what has come.
const READS: usize = 4;

impl Connection<'_> {
    /// Takes a client's stream until it ends it in words. Returns what the client does instead, if that is known already.
    pub(super) fn publishing(&mut self, admitted: &Admitted, publish: &Publish) -> Result<Option<Event>, CloseReason> {
        let id = publish.stream_id;
        let request = match self.resolve(admitted, &publish.name, true) {
            Ok(request) => request,
            Err(why) => return Err(self.refuse(id, "NetStream.Publish.Denied", why)),
        };
        let source = self.server.sources.get(&request.name, &request.vhost);
        let publication = match source.acquire_publish(self.client.number, self.client.clone()) {
            Ok(publication) => publication,
            Err(busy @ Busy { .. }) => return Err(self.refuse(id, "NetStream.Publish.BadName", busy.to_string())),
        };
        log::info!("publishing {}{}", request.name, shown(&request.params));
        self.rtmp.start_publish(publish);
        self.rtmp.flush().map_err(close_reason)?;
        let result = self.take_media(&publication, id, &request.vhost.publish.timeout);
        if let Err(CloseReason::Replaced { by }) = &result {
            self.refuse(id, "NetStream.Publish.BadName", format!("stalled, and client {by} took over the stream"));
        }
        log::info!("no longer publishing {}", request.name);
        result
    }

    fn take_media(
        &mut self,
        publication: &Publication,
        stream_id: u32,
        timeout: &std::time::Duration,
    ) -> Result<Option<Event>, CloseReason> {
        let stream = self.client.stream.clone();
        stream.set_time_limit(None);
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let _presence = self.server.publish.enter(self.client.number, &stream, move || Messages {
            passed: counter.load(Ordering::Relaxed),
            dropped: 0,
        });
        let mut codecs = String::new();
        let mut buffer = vec![0; READ_BUFFER];
        let mut heard = Instant::now();
        let mut reads = 0;
        loop {
            if let Some(reason) = self.client.told() {
                return Err(reason);
            }
            if let Some(n) = stream.try_read(&mut buffer).map_err(|error| network(&error))? {
                if n == 0 {
                    return Err(CloseReason::ByPeer);
                }
                heard = Instant::now();
                publication.heard(heard);
                self.rtmp.protocol().feed(&buffer[..n]).map_err(close_reason)?;
                while let Some(event) = self.rtmp.poll_event().map_err(close_reason)? {
                    match event {
                        Event::Media(message) => {
                            received.fetch_add(1, Ordering::Relaxed);
                            publication.on_message(&message, heard);
                        }
                        Event::Stop(id) if id == 0 || id == stream_id => {
                            self.rtmp.stop_publish(stream_id);
                            return Ok(None);
                        }
                        Event::Publish(again) => {
                            self.rtmp.refuse(again.stream_id, "NetStream.Publish.BadName", "already publishing");
                        }
                        Event::Play(play) => {
                            self.rtmp.refuse(play.stream_id, "NetStream.Play.Failed", "a publisher cannot play");
                        }
                        _ => {}
                    }
                }
                if self.rtmp.protocol().has_output() {
                    self.rtmp.flush().map_err(close_reason)?;
                }
                stream.take_turns();
                reads += 1;
                if n == buffer.len() && reads < READS {
                    continue;
                }
            }
            reads = 0;
            let flush = publication.flush_due(Instant::now(), st::busy_share());
            if codecs.is_empty() || received.load(Ordering::Relaxed) < 100 {
                log_codecs(publication, &mut codecs);
            }
            let silent = heard + *timeout;
            if Instant::now() >= silent {
                return Err(CloseReason::SilentPublisher);
            }
            stream.wait(Some(flush.map_or(silent, |flush| flush.min(silent))));
        }
    }
}

/// Says what is being published, once that is known.
fn log_codecs(publication: &Publication, known: &mut String) {
    let codecs = publication.codecs();
    if codecs != *known {
        log::info!("the stream is {codecs}");
        *known = codecs;
    }
}

/// Parameters, for the log.
fn shown(params: &str) -> String {
    if params.is_empty() { String::new() } else { format!(" with {} bytes of parameters", params.len()) }
}
