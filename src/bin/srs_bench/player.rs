//! A playing client.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use srs::codec::amf0::Object;
use srs::codec::flv;
use srs::rtmp::message::{Message, MessageType};
use srs::rtmp::{self, client::Client};
use srs::st::{self, net::TcpStream};

use super::check::Checker;
use super::flv::FlvReader;
use super::stats::{Stats, add};
use super::target::Target;

/// Time limit of connecting and of the exchange of commands.
pub(super) const CONNECT: Duration = Duration::from_secs(20);

/// Bytes from which a counting player wakes up, so that it costs the machine little.
const WAKE_UP_BYTES: usize = 16 * 1024;

/// Receive buffer of a slow player, and the size and interval of its reads: 4 KB per second.
const SLOW_BUFFER: usize = 8 * 1024;
const SLOW_READ: usize = 2 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(500);

/// Interval at which a player checks whether it must stop.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    /// Read buffer that all players share: its content is consumed before another coroutine runs.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Behaviour of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Counts bytes.
    Counts,
    /// Parses every message.
    Checks,
    /// Parses every message, but reads slowly.
    Slow,
}

/// Starts a player. With `stay`, it disconnects after that time and connects again, until all clients stop.
pub(super) fn spawn(number: u32, target: Target, mode: Mode, stay: Option<Duration>, stats: Arc<Stats>) {
    let player_stats = stats.clone();
    let spawned = st::spawn("player", number.into(), move || {
        let mut player = Player {
            stats: &player_stats,
            mode,
            checker: (mode != Mode::Counts).then(|| Checker::new(&player_stats, mode == Mode::Slow)),
            leave: stay.map(|stay| Instant::now() + stay),
            session_start: Instant::now(),
            started: false,
            has_key: false,
        };
        while !player_stats.is_stopped() {
            if let Err(error) = player.play(&target) {
                return player_stats.count_end(player.started, error);
            }
            if let (Some(leave), Some(stay)) = (&mut player.leave, stay)
                && !player_stats.is_stopped()
            {
                add(&player_stats.reconnects, 1);
                // Independent of the time that joining took, so that the rate of joins stays constant.
                *leave += stay;
            }
        }
    });
    if let Err(error) = spawned {
        stats.count_end(false, error);
    }
}

struct Player<'a> {
    stats: &'a Stats,
    mode: Mode,
    checker: Option<Checker<'a>>,
    leave: Option<Instant>,
    /// Start of this session.
    session_start: Instant,
    started: bool,
    has_key: bool,
}

/// The protocol of a player.
enum Wire {
    Rtmp(Box<Client<TcpStream>>),
    Flv(FlvReader),
}

impl Wire {
    /// Asks for the stream.
    fn start(stream: &TcpStream, target: &Target) -> Result<Self, rtmp::Error> {
        if let Some(request) = target.request() {
            let mut output = stream;
            output.write_all(request.as_bytes())?;
            return Ok(Self::Flv(FlvReader::new()));
        }
        let mut client = Client::handshake(stream.clone(), false)?;
        client.connect(&target.app, &target.tc_url, &Object::new())?;
        client.play(&target.stream)?;
        Ok(Self::Rtmp(Box::new(client)))
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), rtmp::Error> {
        match self {
            Self::Rtmp(client) => client.protocol().feed(bytes),
            Self::Flv(reader) => {
                reader.feed(bytes);
                Ok(())
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<Message>, rtmp::Error> {
        match self {
            Self::Rtmp(client) => client.protocol().next_message(),
            Self::Flv(reader) => reader.next_message(),
        }
    }

    fn flush(&mut self) -> Result<(), rtmp::Error> {
        match self {
            Self::Rtmp(client) => Ok(client.protocol().flush()?),
            Self::Flv(_) => Ok(()),
        }
    }
}

impl Player<'_> {
    /// Plays until it is time to disconnect.
    fn play(&mut self, target: &Target) -> Result<(), rtmp::Error> {
        (self.session_start, self.started, self.has_key) = (Instant::now(), false, false);
        let is_slow = self.mode == Mode::Slow;
        let stream = TcpStream::connect_with(target.address, CONNECT, is_slow.then_some(SLOW_BUFFER))?;
        stream.set_nodelay(true)?;
        stream.set_time_limit(Some(CONNECT));
        add(&self.stats.connected, 1);
        let mut wire = Wire::start(&stream, target)?;
        stream.set_time_limit(None);
        self.started = true;
        add(&self.stats.started, 1);
        if let Some(checker) = &mut self.checker {
            checker.start_session();
        }
        while let Some(message) = wire.next_message()? {
            self.on_message(&message);
        }
        // Every player parses messages until the first keyframe.
        while self.is_playing() && (self.checker.is_some() || !self.has_key) {
            let read = self.read(&stream, |bytes| wire.feed(bytes))?;
            while let Some(message) = wire.next_message()? {
                self.on_message(&message);
            }
            wire.flush()?;
            if is_slow {
                st::sleep(SLOW_PAUSE);
            }
            if !read {
                self.wait(&stream);
            }
        }
        stream.set_receive_low_water(WAKE_UP_BYTES)?;
        while self.is_playing() {
            if !self.read(&stream, |_| Ok(()))? {
                self.wait(&stream);
            }
        }
        Ok(())
    }

    fn is_playing(&self) -> bool {
        !self.stats.is_stopped() && self.leave.is_none_or(|leave| Instant::now() < leave)
    }

    fn wait(&self, stream: &TcpStream) {
        let next_check = Instant::now() + CHECK_INTERVAL;
        stream.wait(Some(self.leave.map_or(next_check, |leave| leave.min(next_check))));
    }

    /// Reads available bytes once. Returns whether there were any.
    fn read(
        &self,
        stream: &TcpStream,
        consume: impl FnOnce(&[u8]) -> Result<(), rtmp::Error>,
    ) -> Result<bool, rtmp::Error> {
        BUFFER.with_borrow_mut(|buffer| {
            let max = if self.mode == Mode::Slow { SLOW_READ } else { buffer.len() };
            match stream.try_read(&mut buffer[..max])? {
                None => Ok(false),
                Some(0) => Err(rtmp::Error::Closed),
                Some(n) => {
                    add(&self.stats.bytes, n as u64);
                    consume(&buffer[..n]).map(|()| true)
                }
            }
        })
    }

    fn on_message(&mut self, message: &Message) {
        add(&self.stats.messages, 1);
        let (is_config, is_key) = match message.kind {
            MessageType::VIDEO => flv::read_video_header(&message.payload)
                .map_or((true, false), |tag| (tag.is_config(), tag.is_keyframe() && !tag.is_config())),
            MessageType::AUDIO => (flv::read_audio_header(&message.payload).is_some_and(|tag| tag.is_config()), false),
            _ => return,
        };
        if is_key && !self.has_key {
            self.has_key = true;
            self.stats.join.add(self.session_start.elapsed().as_micros() as u64);
        }
        if !is_config && let Some(checker) = &mut self.checker {
            checker.on_media(message);
        }
    }
}
