//! A client that plays.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use srs::codec::amf0::Object;
use srs::codec::flv;
use srs::rtmp::message::{Message, MessageType};
use srs::rtmp::{self, client::Client};
use srs::st::{self, net::TcpStream};

use super::check::Checker;
use super::stats::{Stats, add};
use super::target::Target;

/// How long connecting and the exchange of commands may take.
pub(super) const CONNECT: Duration = Duration::from_secs(20);

/// A player that only counts is woken when so many bytes are there: it costs the machine as little as it can.
const LOW_WATER: usize = 16 * 1024;

/// What a slow player's kernel holds for it, and how much it reads how often: 4 KB a second.
const SLOW_BUFFER: usize = 8 * 1024;
const SLOW_READ: usize = 2 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(500);

/// How often a player looks whether all are told to stop.
const LOOK: Duration = Duration::from_secs(1);

thread_local! {
    /// What is read goes through here; it is done with before anybody else can read.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// How a player goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Reads and counts.
    Counts,
    /// Takes every message apart.
    Checks,
    /// As [`Manner::Checks`], but reads only a trickle.
    Slow,
}

/// Starts a player. One that is to `stay` leaves after that time and comes again, until all are told to stop.
pub(super) fn spawn(number: u32, target: Target, manner: Manner, stay: Option<Duration>, stats: Arc<Stats>) {
    let seen = stats.clone();
    let spawned = st::spawn("player", number.into(), move || {
        let mut player = Player {
            stats: &seen,
            manner,
            checker: (manner != Manner::Counts).then(|| Checker::new(&seen, manner == Manner::Slow)),
            leave: stay.map(|stay| Instant::now() + stay),
            begin: Instant::now(),
            started: false,
            has_key: false,
        };
        while !seen.is_stopped() {
            if let Err(error) = player.play(&target) {
                return seen.ended(player.started, error);
            }
            if let (Some(leave), Some(stay)) = (&mut player.leave, stay)
                && !seen.is_stopped()
            {
                add(&seen.reconnects, 1);
                // By the clock and not by how long joining took: so many join in a second, whatever the server does.
                *leave += stay;
            }
        }
    });
    if let Err(error) = spawned {
        stats.ended(false, error);
    }
}

struct Player<'a> {
    stats: &'a Stats,
    manner: Manner,
    checker: Option<Checker<'a>>,
    leave: Option<Instant>,
    /// Of this session.
    begin: Instant,
    started: bool,
    has_key: bool,
}

impl Player<'_> {
    /// Plays until it is time to leave.
    fn play(&mut self, target: &Target) -> Result<(), rtmp::Error> {
        (self.begin, self.started, self.has_key) = (Instant::now(), false, false);
        let is_slow = self.manner == Manner::Slow;
        let stream = TcpStream::connect_with(target.address, CONNECT, is_slow.then_some(SLOW_BUFFER))?;
        stream.set_nodelay(true)?;
        stream.set_time_limit(Some(CONNECT));
        add(&self.stats.connected, 1);
        let mut client = Client::handshake(stream.clone(), false)?;
        client.connect(&target.app, &target.tc_url, &Object::new())?;
        client.play(&target.stream)?;
        stream.set_time_limit(None);
        self.started = true;
        add(&self.stats.started, 1);
        if let Some(checker) = &mut self.checker {
            checker.begin();
        }
        while let Some(message) = client.protocol().next_message()? {
            self.on_message(&message);
        }
        // Until the first keyframe is there, every player looks at what comes.
        while self.stays() && (self.checker.is_some() || !self.has_key) {
            let read = self.read(&stream, |bytes| client.protocol().feed(bytes))?;
            while let Some(message) = client.protocol().next_message()? {
                self.on_message(&message);
            }
            client.protocol().flush()?;
            if is_slow {
                st::sleep(SLOW_PAUSE);
            }
            if !read {
                self.wait(&stream);
            }
        }
        stream.set_receive_low_water(LOW_WATER)?;
        while self.stays() {
            if !self.read(&stream, |_| Ok(()))? {
                self.wait(&stream);
            }
        }
        Ok(())
    }

    fn stays(&self) -> bool {
        !self.stats.is_stopped() && self.leave.is_none_or(|leave| Instant::now() < leave)
    }

    fn wait(&self, stream: &TcpStream) {
        let look = Instant::now() + LOOK;
        stream.wait(Some(self.leave.map_or(look, |leave| leave.min(look))));
    }

    /// Reads once what is there. Whether anything was.
    fn read(
        &self,
        stream: &TcpStream,
        take: impl FnOnce(&[u8]) -> Result<(), rtmp::Error>,
    ) -> Result<bool, rtmp::Error> {
        BUFFER.with_borrow_mut(|buffer| {
            let most = if self.manner == Manner::Slow { SLOW_READ } else { buffer.len() };
            match stream.try_read(&mut buffer[..most])? {
                None => Ok(false),
                Some(0) => Err(rtmp::Error::Closed),
                Some(n) => {
                    add(&self.stats.bytes, n as u64);
                    take(&buffer[..n]).map(|()| true)
                }
            }
        })
    }

    fn on_message(&mut self, message: &Message) {
        add(&self.stats.messages, 1);
        let (is_config, is_key) = match message.kind {
            MessageType::VIDEO => flv::video(&message.payload)
                .map_or((true, false), |tag| (tag.is_config(), tag.is_keyframe() && !tag.is_config())),
            MessageType::AUDIO => (flv::audio(&message.payload).is_some_and(|tag| tag.is_config()), false),
            _ => return,
        };
        if is_key && !self.has_key {
            self.has_key = true;
            self.stats.join.add(self.begin.elapsed().as_micros() as u64);
        }
        if !is_config && let Some(checker) = &mut self.checker {
            checker.on_media(message);
        }
    }
}
