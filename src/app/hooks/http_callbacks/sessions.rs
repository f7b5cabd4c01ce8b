//! The clients that backends know: so that each question that passed is followed by exactly one event of its end.
//!
//! | question | passed, then |
//! |---|---|
//! | `on_connect`, once per connection | `on_close` |
//! | `on_publish` | `on_unpublish` |
//! | `on_play` | `on_stop` |
//!
//! A client can leave while a backend is asked. Then the events of its end follow the answer at once.

use std::collections::HashMap;
use std::sync::Arc;

use super::hook::{Hook, Traffic};
use super::spool::Receipt;
use crate::app::session::info::{ClientInfo, StreamInfo};

pub(super) struct EndEvent {
    pub(super) hook: Hook,
    pub(super) client: Arc<ClientInfo>,
    pub(super) stream: Option<Arc<StreamInfo>>,
    pub(super) traffic: Traffic,
    pub(super) vhost: String,
    /// Events with the same key are told in order.
    pub(super) key: String,
    /// The same event in a spool file, in case that the process had died before.
    pub(super) ends: Vec<Receipt>,
}

#[derive(Default)]
pub(super) struct Sessions(HashMap<u64, Session>);

struct Session {
    client: Arc<ClientInfo>,
    connected: bool,
    /// The end of the connection, and of what is allowed, in spool files.
    close_ends: Vec<Receipt>,
    ends: Vec<Receipt>,
    is_asking: bool,
    /// The last action that the client was allowed: `on_publish` or `on_play`, and the stream.
    allowed: Option<(Hook, Arc<StreamInfo>)>,
    closed: Option<Traffic>,
    vhost: String,
    key: String,
}

/// Returns the order of events: those of a publisher are in the order of its stream, those of a player in its own.
pub(super) fn key(hook: Hook, client: &ClientInfo, stream: &StreamInfo) -> String {
    if hook == Hook::Publish { stream.name.clone() } else { format!("client {}", client.id) }
}

impl Sessions {
    /// Starts to ask about a client. Returns whether `on_connect` is to be asked first.
    pub(super) fn start(&mut self, hook: Hook, client: &Arc<ClientInfo>, stream: &StreamInfo) -> bool {
        let session = self.0.entry(client.id).or_insert_with(|| Session {
            client: client.clone(),
            connected: false,
            close_ends: Vec::new(),
            ends: Vec::new(),
            is_asking: false,
            allowed: None,
            closed: None,
            vhost: String::new(),
            key: String::new(),
        });
        session.is_asking = true;
        session.vhost.clone_from(&stream.vhost);
        session.key = key(hook, client, stream);
        !session.connected
    }

    pub(super) fn set_connected(&mut self, client: u64, ends: Vec<Receipt>) {
        if let Some(session) = self.0.get_mut(&client) {
            session.connected = true;
            session.close_ends = ends;
        }
    }

    /// Ends what [`Sessions::start`] began. `allowed` is what the client may do, if anything; `ends` is its end in spool files.
    pub(super) fn finish(
        &mut self,
        client: u64,
        allowed: Option<(Hook, Arc<StreamInfo>)>,
        ends: Vec<Receipt>,
    ) -> Vec<EndEvent> {
        let Some(session) = self.0.get_mut(&client) else { return Vec::new() };
        session.is_asking = false;
        session.ends = ends;
        if let Some((hook, stream)) = &allowed {
            session.key = key(*hook, &session.client, stream);
        }
        session.allowed = allowed;
        match session.closed {
            Some(traffic) => self.close(client, traffic),
            None => {
                if !session.connected && session.allowed.is_none() {
                    self.0.remove(&client);
                }
                Vec::new()
            }
        }
    }

    /// Ends what `hook` allowed a client, which no longer publishes or plays it.
    pub(super) fn stop(&mut self, client: u64, hook: Hook) -> Option<EndEvent> {
        self.0.get_mut(&client)?.stop(Some(hook))
    }

    pub(super) fn close(&mut self, client: u64, traffic: Traffic) -> Vec<EndEvent> {
        match self.0.get_mut(&client) {
            None => return Vec::new(),
            Some(session) if session.is_asking => {
                session.closed = Some(traffic);
                return Vec::new();
            }
            Some(_) => {}
        }
        let Some(mut session) = self.0.remove(&client) else { return Vec::new() };
        let mut events: Vec<_> = session.stop(None).into_iter().collect();
        if session.connected {
            let ends = std::mem::take(&mut session.close_ends);
            events.push(session.end_event(Hook::Close, None, traffic, ends));
        }
        events
    }

    pub(super) fn allowed(&self, client: u64) -> Option<&(Hook, Arc<StreamInfo>)> {
        self.0.get(&client)?.allowed.as_ref()
    }

    pub(super) fn clients(&self) -> Vec<u64> {
        let mut all: Vec<_> = self.0.keys().copied().collect();
        all.sort_unstable();
        all
    }
}

impl Session {
    /// Ends what the client was allowed, if that is `hook` or `hook` is none.
    fn stop(&mut self, hook: Option<Hook>) -> Option<EndEvent> {
        let (allowed, stream) = self.allowed.take_if(|(allowed, _)| hook.is_none_or(|hook| hook == *allowed))?;
        let end = if allowed == Hook::Publish { Hook::Unpublish } else { Hook::Stop };
        let ends = std::mem::take(&mut self.ends);
        Some(self.end_event(end, Some(stream), Traffic::default(), ends))
    }

    fn end_event(&self, hook: Hook, stream: Option<Arc<StreamInfo>>, traffic: Traffic, ends: Vec<Receipt>) -> EndEvent {
        let (client, vhost, key) = (self.client.clone(), self.vhost.clone(), self.key.clone());
        EndEvent { hook, client, stream, traffic, vhost, key, ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAFFIC: Traffic = Traffic { sent: 1, received: 2 };

    fn client(id: u64) -> Arc<ClientInfo> {
        Arc::new(ClientInfo { app: "a".into(), ..ClientInfo::of_test(id) })
    }

    fn stream() -> Arc<StreamInfo> {
        let [vhost, app, stream] = ["v", "a", "s"].map(str::to_owned);
        Arc::new(StreamInfo { vhost, app, stream, name: "v/a/s".into(), params: String::new() })
    }

    fn hooks(events: impl IntoIterator<Item = EndEvent>) -> Vec<Hook> {
        events.into_iter().map(|event| event.hook).collect()
    }

    /// Asks about a client, which passes `on_connect`.
    fn ask(sessions: &mut Sessions, id: u64, hook: Hook) {
        if sessions.start(hook, &client(id), &stream()) {
            sessions.set_connected(id, vec![]);
        }
    }

    #[test]
    fn each_question_that_passed_has_one_end() {
        let mut sessions = Sessions::default();
        ask(&mut sessions, 1, Hook::Publish);
        assert!(sessions.finish(1, Some((Hook::Publish, stream())), vec![]).is_empty());
        assert!(sessions.stop(1, Hook::Play).is_none());
        assert_eq!(hooks(sessions.stop(1, Hook::Publish)), [Hook::Unpublish]);
        assert!(sessions.stop(1, Hook::Publish).is_none(), "once");
        assert!(!sessions.start(Hook::Play, &client(1), &stream()), "on_connect is asked once");
        sessions.finish(1, Some((Hook::Play, stream())), vec![]);
        assert_eq!(hooks(sessions.stop(1, Hook::Play)), [Hook::Stop]);
        assert_eq!(hooks(sessions.close(1, TRAFFIC)), [Hook::Close]);
        assert!(sessions.close(1, TRAFFIC).is_empty() && sessions.clients().is_empty());
    }

    #[test]
    fn a_client_that_never_came_to_publish_is_ended_with_its_connection() {
        let mut sessions = Sessions::default();
        ask(&mut sessions, 1, Hook::Publish);
        sessions.finish(1, Some((Hook::Publish, stream())), vec![]);
        assert_eq!(hooks(sessions.close(1, TRAFFIC)), [Hook::Unpublish, Hook::Close]);
    }

    #[test]
    fn a_client_that_leaves_while_a_backend_is_asked_is_ended_after_the_answer() {
        let mut sessions = Sessions::default();
        ask(&mut sessions, 1, Hook::Play);
        assert!(sessions.close(1, TRAFFIC).is_empty());
        let events = sessions.finish(1, Some((Hook::Play, stream())), vec![]);
        assert_eq!(events[1].traffic, TRAFFIC);
        assert_eq!(hooks(events), [Hook::Stop, Hook::Close]);
        ask(&mut sessions, 2, Hook::Play);
        sessions.close(2, TRAFFIC);
        assert_eq!(hooks(sessions.finish(2, None, vec![])), [Hook::Close], "refused, but connected");
        assert!(sessions.clients().is_empty());
    }

    #[test]
    fn who_is_refused_is_forgotten_unless_it_is_connected() {
        let mut sessions = Sessions::default();
        sessions.start(Hook::Play, &client(1), &stream());
        assert!(sessions.finish(1, None, vec![]).is_empty() && sessions.clients().is_empty());
        assert!(sessions.close(1, TRAFFIC).is_empty());
        ask(&mut sessions, 2, Hook::Play);
        sessions.finish(2, None, vec![]);
        assert_eq!(hooks(sessions.close(2, TRAFFIC)), [Hook::Close]);
    }

    #[test]
    fn events_of_a_publisher_are_in_the_order_of_its_stream() {
        assert_eq!(key(Hook::Publish, &client(1), &stream()), "v/a/s");
        assert_eq!(key(Hook::Play, &client(1), &stream()), "client 1");
    }
}
