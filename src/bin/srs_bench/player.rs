//! A client that plays.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use srs::codec::amf0::Object;
use srs::codec::flv;
use srs::rtmp::message::{Message, MessageType};
use srs::rtmp::{self, client::Client};
use srs::st::{self, net::TcpStream};

use super::media::age_us;
use super::stats::{Stats, add};
use super::target::Target;

/// How long connecting and the exchange of commands may take.
pub(super) const CONNECT: Duration = Duration::from_secs(20);

/// A player that only counts is woken when so many bytes are there: it costs the machine as little as it can.
const LOW_WATER: usize = 16 * 1024;

/// Time stamps of video that far apart count as a gap.
const GAP: i64 = 10_000;

thread_local! {
    /// What is read goes through here; it is done with before anybody else can read.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Starts a player. With `check`, it takes every message apart.
pub(super) fn spawn(number: u32, target: Target, check: bool, stats: Arc<Stats>) {
    let counted = stats.clone();
    let spawned = st::spawn("player", number.into(), move || {
        let begin = Instant::now();
        let mut player = Player { stats: &counted, begin, started: false, has_key: false, checks: check, last: None };
        if let Err(error) = player.play(&target) {
            counted.ended(player.started, error);
        }
    });
    if let Err(error) = spawned {
        stats.ended(false, error);
    }
}

struct Player<'a> {
    stats: &'a Stats,
    begin: Instant,
    started: bool,
    has_key: bool,
    checks: bool,
    /// The time stamp of the last video message.
    last: Option<u32>,
}

impl Player<'_> {
    fn play(&mut self, target: &Target) -> Result<(), rtmp::Error> {
        let stream = TcpStream::connect(target.address, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_time_limit(Some(CONNECT));
        add(&self.stats.connected, 1);
        let mut client = Client::handshake(stream.clone(), false)?;
        client.connect(&target.app, &target.tc_url, &Object::new())?;
        client.play(&target.stream)?;
        stream.set_time_limit(None);
        self.started = true;
        add(&self.stats.started, 1);
        while let Some(message) = client.protocol().next_message()? {
            self.on_message(&message);
        }
        // Until the first keyframe is there, every player looks at what comes.
        while !self.stats.is_stopped() && (self.checks || !self.has_key) {
            let read = self.read(&stream, |bytes| client.protocol().feed(bytes))?;
            while let Some(message) = client.protocol().next_message()? {
                self.on_message(&message);
            }
            client.protocol().flush()?;
            if !read {
                stream.wait(Some(Instant::now() + Duration::from_secs(1)));
            }
        }
        stream.set_receive_low_water(LOW_WATER)?;
        while !self.stats.is_stopped() {
            if !self.read(&stream, |_| Ok(()))? {
                stream.wait(Some(Instant::now() + Duration::from_secs(1)));
            }
        }
        Ok(())
    }

    /// Reads once what is there. Whether anything was.
    fn read(
        &self,
        stream: &TcpStream,
        take: impl FnOnce(&[u8]) -> Result<(), rtmp::Error>,
    ) -> Result<bool, rtmp::Error> {
        BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer)? {
            None => Ok(false),
            Some(0) => Err(rtmp::Error::Closed),
            Some(n) => {
                add(&self.stats.bytes, n as u64);
                take(&buffer[..n]).map(|()| true)
            }
        })
    }

    fn on_message(&mut self, message: &Message) {
        add(&self.stats.messages, 1);
        if message.kind != MessageType::VIDEO {
            return;
        }
        let Some(tag) = flv::video(&message.payload) else { return };
        if tag.is_config() {
            return;
        }
        if let Some(last) = self.last.replace(message.timestamp) {
            let step = i64::from(message.timestamp.wrapping_sub(last) as i32);
            if !(0..=GAP).contains(&step) {
                add(&self.stats.gaps, 1);
            }
        }
        if tag.is_keyframe() && !self.has_key {
            self.has_key = true;
            self.stats.join.add(self.begin.elapsed().as_micros() as u64);
        }
        // One that only counts sees messages while it joins, and these are as old as the GOP is long.
        if self.checks
            && let Some(age) = age_us(message)
        {
            self.stats.latency.add(age);
        }
    }
}
