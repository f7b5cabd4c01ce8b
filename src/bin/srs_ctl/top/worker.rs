//! The thread that asks the API, so that the view reacts to keys while the server is slow.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::rows::{ClientRow, StreamRow};
use crate::api::{Api, encode};
use crate::failure::Failure;
use crate::output::text;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// Also ask for clients: of a stream by its id, or of all for an empty one. `None`: no longer.
    Clients(Option<String>),
    /// Carry out a kick, which is described in a few words.
    Kick { path: String, what: String },
}

#[derive(Debug)]
pub(super) enum Update {
    Sample(Box<Sample>),
    Message(String),
    Failed(String),
}

/// The state of the server at one time.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// `data` of the snapshot.
    pub(super) data: Value,
    pub(super) streams: Vec<StreamRow>,
    /// The clients, and whose they are, if they were asked for.
    pub(super) clients: Option<(String, Vec<ClientRow>)>,
}

/// Asks the API once.
pub(super) fn sample(api: &Api, clients_of: Option<&str>) -> Result<Sample, Failure> {
    let mut snapshot = api.get("/api/v1/snapshot")?;
    let at = Instant::now();
    let streams = api.list("streams", "")?.iter().map(StreamRow::from).collect();
    let clients = match clients_of {
        Some(stream) => {
            let query = if stream.is_empty() { String::new() } else { format!("&stream={}", encode(stream)) };
            let rows = api.list("clients", &query)?.iter().map(ClientRow::from).collect();
            Some((stream.to_owned(), rows))
        }
        None => None,
    };
    Ok(Sample { at, data: snapshot["data"].take(), streams, clients })
}

/// Asks the API each interval and after each request, until the view ends.
pub(super) fn run(api: &Api, interval: Duration, requests: &Receiver<Request>, updates: &Sender<Update>) {
    let mut clients_of: Option<String> = None;
    loop {
        let update = match requests.recv_timeout(interval) {
            Ok(Request::Clients(of)) => {
                clients_of = of;
                None
            }
            Ok(Request::Kick { path, what }) => Some(match api.post(&path) {
                Ok(answer) => Update::Message(format!("{what}: {} disconnected", text(&answer["kicked"]))),
                Err(failure) => Update::Message(format!("{what}: {}", failure.text().unwrap_or_default())),
            }),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let next = match sample(api, clients_of.as_deref()) {
            Ok(sample) => Update::Sample(Box::new(sample)),
            Err(failure) => Update::Failed(failure.text().unwrap_or_default().to_owned()),
        };
        for update in update.into_iter().chain([next]) {
            if updates.send(update).is_err() {
                return;
            }
        }
    }
}
