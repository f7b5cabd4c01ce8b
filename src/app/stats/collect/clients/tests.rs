use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::app::session::info::StreamInfo;
use crate::config::{Config, ConfigCell};
use crate::memory::Category;
use crate::st::{self, net::TcpStream};

/// A server with clients and viewers whose numbers alternate in runs of different lengths, longer than a chunk too.
struct Rig {
    ctx: Context,
    stream: TcpStream,
}

impl Rig {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap(), Duration::from_secs(20)).unwrap();
        let config = Config::parse("t", "listen 1; vhost a { }").unwrap();
        Self { ctx: Context::new(ConfigCell::new(Arc::new(config)).0), stream }
    }

    fn add_client(&self) -> u64 {
        let number = self.ctx.clients.next_number();
        self.ctx.clients.add_viewer(number, &self.stream, ClientKind::Flv);
        number
    }

    fn add_viewer(&self) -> u64 {
        let (number, now) = (self.ctx.clients.next_number(), st::now());
        let [vhost, app, stream, params] = ["v", "live", "s", ""].map(str::to_owned);
        let viewer = Viewer {
            client: Arc::new(ClientInfo::of_test(number)),
            requested: "v/live/s".to_owned(),
            stream: Arc::new(StreamInfo { name: "v/live/s".to_owned(), vhost, app, stream, params }),
            since: now,
            last: now,
            timeout: Duration::from_secs(10),
            bytes: 0,
            close: None,
            _charge: Arc::new(self.ctx.memory.charge(Category::Http)),
        };
        assert!(self.ctx.viewers.add(&number.to_string(), viewer));
        number
    }

    /// Adds clients and viewers, and returns their numbers. Some numbers are those of others.
    fn fill(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (clients, viewers) in [(1, 2), (CHUNK + 5, 1), (3, 2 * CHUNK + 7), (CHUNK, CHUNK), (0, 1)] {
            numbers.extend((0..clients).map(|_| self.add_client()));
            self.ctx.clients.next_number();
            numbers.extend((0..viewers).map(|_| self.add_viewer()));
        }
        numbers
    }

    fn remove(&self, number: u64) {
        match self.ctx.clients.get(number) {
            Some(client) => self.ctx.clients.remove(&client),
            None => {
                self.ctx.viewers.close(number, &crate::app::session::close::CloseReason::Kicked);
                self.ctx.viewers.reap(st::now());
            }
        }
    }

    fn page(&self, after: u64, start: usize, count: usize) -> Vec<u64> {
        let mut walk = ClientWalk::new(&self.ctx, after);
        walk.skip_clients(start);
        walk.take(count).map(|client| client.id()).collect()
    }
}

#[test]
fn each_page_has_the_clients_of_its_place() {
    st::run(|| {
        let rig = Rig::new();
        assert!(rig.page(0, 0, 10).is_empty());
        let all = rig.fill();
        assert_eq!(ClientWalk::new(&rig.ctx, 0).initial_count(), all.len());
        assert_eq!(rig.page(0, 0, usize::MAX), all);
        for start in (0..all.len() + 20).step_by(13) {
            let expected: Vec<_> = all.iter().copied().skip(start).take(31).collect();
            assert_eq!(rig.page(0, start, 31), expected, "{start}");
            if let Some(after) = start.checked_sub(1).and_then(|at| all.get(at)) {
                assert_eq!(rig.page(*after, 0, 31), expected, "after {after}");
            }
        }
        for beyond in [u64::MAX, all[all.len() - 1], 1 << 40] {
            assert!(rig.page(beyond, 0, 10).is_empty());
        }
        assert!(rig.page(0, usize::MAX, usize::MAX).is_empty());
    })
    .unwrap();
}

#[test]
fn who_stays_is_listed_once_while_others_come_and_go() {
    st::run(|| {
        let rig = Rig::new();
        let all = rig.fill();
        let (mut listed, mut after) = (Vec::new(), 0);
        // Pages of a client of the API: between two of them, and within them, each third client leaves and others come.
        loop {
            let before = listed.len();
            for client in ClientWalk::new(&rig.ctx, after).take(40) {
                listed.push(client.id());
                rig.add_client();
                rig.add_viewer();
                let leaves = all.get((listed.len() * 7) % all.len()).filter(|number| **number % 3 == 0);
                leaves.into_iter().for_each(|number| rig.remove(*number));
            }
            let Some(last) = listed.last().filter(|_| listed.len() > before) else { break };
            after = *last;
            if after > all[all.len() - 1] {
                break;
            }
        }
        assert!(listed.is_sorted_by(|a, b| a < b), "in order, and nobody twice");
        let missing: Vec<_> = all.iter().filter(|number| **number % 3 != 0 && !listed.contains(number)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let new = ClientWalk::new(&rig.ctx, 0);
        rig.add_client();
        assert_eq!(
            new.map(|client| client.id()).max(),
            rig.ctx.clients.last_number().checked_sub(1),
            "not who came later"
        );
    })
    .unwrap();
}

#[test]
fn facts_and_reports_name_the_same() {
    st::run(|| {
        let rig = Rig::new();
        let (client, viewer) = (rig.add_client(), rig.add_viewer());
        rig.ctx.viewers.count(&viewer.to_string(), 5);
        for (number, kind, state, stream) in [
            (client, ClientKind::Flv, ClientState::Connecting, ""),
            (viewer, ClientKind::Hls, ClientState::Playing, "v/live/s"),
        ] {
            let entry = ClientEntry::find(&rig.ctx, number).unwrap();
            let (facts, report) = (entry.facts(), entry.report(&rig.ctx, st::now()));
            assert_eq!((facts.kind, facts.state, facts.stream_name()), (kind, state, stream));
            assert_eq!((report.id, report.kind, report.state, &*report.stream_name), (number, kind, state, stream));
            assert_eq!((facts.vhost(), facts.app(), facts.stream()), (&*report.vhost, &*report.app, &*report.stream));
            assert_eq!((report.ip, report.bytes_out), (entry.ip(), if number == viewer { 5 } else { 0 }));
        }
        assert!(ClientEntry::find(&rig.ctx, 99).is_none());
    })
    .unwrap();
}
