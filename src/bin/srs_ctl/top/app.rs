//! The state of the view: rows, order, filter, selection, and what the user is asked.

use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::rows::{ClientRow, Rate, Rates, StreamRow};
use super::worker::{Request, Sample, Update};
use crate::commands::kick_path;

/// Time that a kick with a ban keeps out, in seconds.
const BAN_SECONDS: u64 = 60;

/// The order of the streams, by one of their columns.
pub(super) const STREAM_SORT_COLUMNS: [&str; 6] = ["STREAM", "PLAYERS", "IN", "OUT", "UPTIME", "DROPS"];
pub(super) const CLIENT_SORT_COLUMNS: [&str; 6] = ["ID", "STREAM", "IN", "OUT", "AGE", "DROPS"];

/// The kind of rows in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Streams,
    /// Clients of a stream by id and name; of all if the id is empty.
    Clients {
        id: String,
        name: String,
    },
}

/// The mode that gives the keys their meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    /// The user types a filter.
    Filter,
    /// The user is asked whether to disconnect something.
    Confirm {
        target: String,
        what: String,
    },
    Help,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) column: usize,
    pub(super) is_reversed: bool,
}

pub(super) struct App {
    pub(super) url: String,
    pub(super) data: Value,
    pub(super) streams: Vec<StreamRow>,
    pub(super) clients: Vec<ClientRow>,
    pub(super) rates: Rates,
    pub(super) received: Rate,
    pub(super) sent: Rate,
    pub(super) page: Page,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) stream_order: Order,
    pub(super) client_order: Order,
    /// Place of the selected row, and of the first one on the screen.
    pub(super) selected: usize,
    pub(super) offset: usize,
    /// Rows on the screen, as of the last drawing.
    pub(super) height: usize,
    pub(super) message: String,
    /// The API does not answer.
    pub(super) error: Option<String>,
    last_sample: Option<Instant>,
    is_done: bool,
}

impl App {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            data: Value::Null,
            streams: Vec::new(),
            clients: Vec::new(),
            rates: Rates::default(),
            received: Rate::default(),
            sent: Rate::default(),
            page: Page::Streams,
            mode: Mode::Normal,
            filter: String::new(),
            stream_order: Order { column: 0, is_reversed: false },
            client_order: Order { column: 0, is_reversed: false },
            selected: 0,
            offset: 0,
            height: 1,
            message: String::new(),
            error: None,
            last_sample: None,
            is_done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Sample(sample) => self.apply(*sample),
            Update::Message(text) => self.message = text,
            Update::Failed(text) => self.error = Some(text),
        }
    }

    pub(super) fn apply(&mut self, sample: Sample) {
        let seconds = self.last_sample.map_or(0.0, |last| sample.at.duration_since(last).as_secs_f64());
        self.last_sample = Some(sample.at);
        let server = &sample.data["server"];
        let bytes = |group: &str, name: &str| server[group][name].as_u64().unwrap_or(0);
        self.received.add(bytes("publish", "bytes_in"), seconds);
        self.sent.add(bytes("play", "bytes_out") + bytes("forward", "bytes_out"), seconds);
        self.rates.add(&sample.streams, seconds);
        // The selection stays with its row, and not with its place.
        let key = self.selected_id();
        self.data = sample.data;
        self.streams = sample.streams;
        if let (Some((of, clients)), Page::Clients { id, .. }) = (sample.clients, &self.page)
            && of == *id
        {
            self.clients = clients;
        }
        self.error = None;
        self.sort();
        if let Some(place) = key.and_then(|key| self.row_ids().iter().position(|other| *other == key)) {
            self.selected = place;
        }
        self.clamp_selection();
    }

    /// Returns the streams that the filter lets through, in their order.
    pub(super) fn shown_streams(&self) -> Vec<&StreamRow> {
        let filter = self.filter.to_lowercase();
        self.streams.iter().filter(|stream| stream.name.to_lowercase().contains(&filter)).collect()
    }

    /// Returns the clients that the filter lets through, in their order.
    pub(super) fn shown_clients(&self) -> Vec<&ClientRow> {
        let filter = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&filter);
        let is_shown = |client: &&ClientRow| has(&client.stream) || has(&client.ip) || has(&client.id.to_string());
        self.clients.iter().filter(is_shown).collect()
    }

    fn row_ids(&self) -> Vec<String> {
        match &self.page {
            Page::Streams => self.shown_streams().iter().map(|stream| stream.id.clone()).collect(),
            Page::Clients { .. } => self.shown_clients().iter().map(|client| client.id.to_string()).collect(),
        }
    }

    fn selected_id(&self) -> Option<String> {
        self.row_ids().into_iter().nth(self.selected)
    }

    fn sort(&mut self) {
        let Order { column, is_reversed } = self.stream_order;
        self.streams.sort_by(|a, b| {
            let by_name = a.name.cmp(&b.name);
            let by_column = match STREAM_SORT_COLUMNS[column] {
                "PLAYERS" => b.players.cmp(&a.players),
                "IN" => b.kbps_in.cmp(&a.kbps_in),
                "OUT" => b.kbps_out.cmp(&a.kbps_out),
                "UPTIME" => b.uptime.total_cmp(&a.uptime),
                "DROPS" => b.drops.cmp(&a.drops),
                _ => by_name,
            };
            (if is_reversed { by_column.reverse() } else { by_column }).then(by_name)
        });
        let Order { column, is_reversed } = self.client_order;
        self.clients.sort_by(|a, b| {
            let by_id = a.id.cmp(&b.id);
            let by_column = match CLIENT_SORT_COLUMNS[column] {
                "STREAM" => a.stream.cmp(&b.stream),
                "IN" => b.kbps_in.cmp(&a.kbps_in),
                "OUT" => b.kbps_out.cmp(&a.kbps_out),
                "AGE" => b.age.total_cmp(&a.age),
                "DROPS" => b.drops.cmp(&a.drops),
                _ => by_id,
            };
            (if is_reversed { by_column.reverse() } else { by_column }).then(by_id)
        });
    }

    /// Moves selection and screen so that the selected row exists and is seen.
    pub(super) fn clamp_selection(&mut self) {
        let count = self.row_ids().len();
        self.selected = self.selected.min(count.saturating_sub(1));
        let height = self.height.max(1);
        self.offset = self.offset.min(self.selected).max((self.selected + 1).saturating_sub(height));
        self.offset = self.offset.min(count.saturating_sub(height));
    }

    /// Handles a key. Returns what the worker is to do.
    pub(super) fn on_key(&mut self, key: KeyEvent) -> Vec<Request> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.is_done = true;
            return Vec::new();
        }
        let requests = match self.mode.clone() {
            Mode::Normal => self.on_normal_key(key.code),
            Mode::Filter => {
                self.on_filter_key(key.code);
                Vec::new()
            }
            Mode::Confirm { target, what } => {
                self.mode = Mode::Normal;
                let ban = match key.code {
                    KeyCode::Char('y') => None,
                    KeyCode::Char('b') => Some(BAN_SECONDS),
                    _ => return Vec::new(),
                };
                vec![Request::Kick { path: kick_path(&target, ban), what }]
            }
            Mode::Help => {
                self.mode = Mode::Normal;
                Vec::new()
            }
        };
        self.clamp_selection();
        requests
    }

    fn on_normal_key(&mut self, key: KeyCode) -> Vec<Request> {
        self.message.clear();
        match key {
            KeyCode::Char('q') => self.is_done = true,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected += 1,
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(self.height),
            KeyCode::PageDown => self.selected += self.height,
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = usize::MAX - 1,
            KeyCode::Char('s') => {
                let (order, count) = self.sort_order();
                order.column = (order.column + 1) % count;
                order.is_reversed = false;
                self.sort();
            }
            KeyCode::Char('r') => {
                let (order, _) = self.sort_order();
                order.is_reversed = !order.is_reversed;
                self.sort();
            }
            KeyCode::Char('c') => return self.open_clients(String::new(), "all streams".to_owned()),
            KeyCode::Enter if self.page == Page::Streams => {
                let selected =
                    self.shown_streams().get(self.selected).map(|stream| (stream.id.clone(), stream.name.clone()));
                if let Some((id, name)) = selected {
                    return self.open_clients(id, name);
                }
            }
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc | KeyCode::Backspace if self.page != Page::Streams => {
                self.page = Page::Streams;
                (self.selected, self.offset) = (0, 0);
                self.filter.clear();
                return vec![Request::Clients(None)];
            }
            KeyCode::Char('k') => self.ask_to_kick(),
            _ => {}
        }
        Vec::new()
    }

    fn on_filter_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::Normal,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Normal;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if !c.is_control() => self.filter.push(c),
            _ => {}
        }
    }

    fn sort_order(&mut self) -> (&mut Order, usize) {
        match self.page {
            Page::Streams => (&mut self.stream_order, STREAM_SORT_COLUMNS.len()),
            Page::Clients { .. } => (&mut self.client_order, CLIENT_SORT_COLUMNS.len()),
        }
    }

    fn open_clients(&mut self, id: String, name: String) -> Vec<Request> {
        self.clients.clear();
        self.page = Page::Clients { id: id.clone(), name };
        (self.selected, self.offset) = (0, 0);
        self.filter.clear();
        vec![Request::Clients(Some(id))]
    }

    fn ask_to_kick(&mut self) {
        let target = match &self.page {
            Page::Streams => self.shown_streams().get(self.selected).map(|stream| {
                // The id is that of one vhost.
                (stream.id.clone(), format!("the publisher of {}", stream.name))
            }),
            Page::Clients { .. } => self
                .shown_clients()
                .get(self.selected)
                .map(|client| (client.id.to_string(), format!("client {} ({})", client.id, client.ip))),
        };
        if let Some((target, what)) = target {
            self.mode = Mode::Confirm { target, what };
        }
    }
}

#[cfg(test)]
mod tests;
