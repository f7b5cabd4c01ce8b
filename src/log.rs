//! The log: log4rs set up from the SRS directives, written on a thread of its own.
//!
//! A log line is formatted where it is said and written elsewhere, so that a slow disk or a stopped terminal never holds the
//! worker. The client's number is put in front of each line: that of the coroutine which speaks, or of [`as_client`]. log4rs
//! keeps such things by thread, where all clients would share them, so they travel with the line and are set on the log's own
//! thread.
//!
//! A line is `[YYYY-MM-DD HH:MM:SS.mmm][level][id] text`. Control characters in the text are escaped, and what turns text round: a
//! client's name cannot forge a line. How long a line may be is bounded, and how many a client may have.

mod quota;
mod quoted;
mod text;
mod throttle;

pub use quoted::quoted;
pub use throttle::Throttle;

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};
use log4rs::append::console::ConsoleAppender;
use log4rs::append::file::FileAppender;
use log4rs::config::{Appender, Config, Root};
use log4rs::encode::pattern::PatternEncoder;

use self::quota::Quota;
use crate::config::{self, LogLevel, LogTank};
use crate::st;

/// Lines that may wait to be written. What is said beyond that is lost, and counted.
const QUEUE: usize = 8192;

const PATTERN: &str = "[{X(time)}][{X(level)}][{X(id)}] {m}{n}";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log file cannot be opened.
    #[error("cannot open the log file {path}: {error}")]
    File {
        /// Where it was to be.
        path: String,
        /// What is wrong.
        error: std::io::Error,
    },
    /// log4rs does not take its configuration.
    #[error("cannot set up the log: {0}")]
    Setup(String),
}

struct Line {
    time: chrono::DateTime<chrono::Local>,
    level: Level,
    id: u64,
    text: String,
}

enum Item {
    Line(Line),
    /// What comes after this goes there.
    Replace(Box<log4rs::Logger>),
    /// Everything before this is to be written; then the thread ends.
    Stop,
}

/// What the `log` macros speak to.
struct Front {
    sender: Sender<Item>,
}

static FRONT: OnceLock<Sender<Item>> = OnceLock::new();

static LOST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SPEAKER: Cell<Option<u64>> = const { Cell::new(None) };
    static QUOTA: RefCell<Quota> = RefCell::default();
}

/// The log's thread. Dropping it writes what is waiting.
pub struct Guard {
    sender: Sender<Item>,
    thread: Option<JoinHandle<()>>,
}

/// Where the log is to go, opened.
pub struct Back {
    logger: log4rs::Logger,
    level: LevelFilter,
}

impl Back {
    /// Opens the file of the log, if it goes to one. This blocks the thread.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(config: &config::Log) -> Result<Back, Error> {
        Ok(Back { logger: log4rs::Logger::new(back(config)?), level: level(config.level) })
    }

    /// Starts the log, with a thread of its own. Call it once.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(self) -> Result<Guard, Error> {
        let (sender, receiver) = bounded(QUEUE);
        let logger = self.logger;
        let thread = thread::Builder::new()
            .name("log".into())
            .spawn(move || write(logger, &receiver))
            .map_err(|error| Error::Setup(error.to_string()))?;
        let front = Front { sender: sender.clone() };
        log::set_boxed_logger(Box::new(front)).map_err(|error| Error::Setup(error.to_string()))?;
        log::set_max_level(self.level);
        // The only one: a second logger is refused above.
        let _ = FRONT.set(sender.clone());
        Ok(Guard { sender, thread: Some(thread) })
    }

    /// Has the running log go here from now on; what was said before is written to where it went before. This waits for room in
    /// the log's queue and so may block the thread.
    pub fn replace(self) {
        log::set_max_level(self.level);
        if let Some(sender) = FRONT.get() {
            // Fails when the log has ended, at the end of the process.
            let _ = sender.send(Item::Replace(Box::new(self.logger)));
        }
    }
}

/// Says what `f` says in the name of a client, and not of the coroutine that runs it. `f` must not block. It is said however much
/// the client itself has said already.
pub fn as_client<R>(id: u64, f: impl FnOnce() -> R) -> R {
    let before = SPEAKER.replace(Some(id));
    let result = f();
    SPEAKER.set(before);
    result
}

/// SRS's levels: "trace" is the ordinary one, "info" tells more, "verbose" all.
fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Trace => LevelFilter::Info,
        LogLevel::Info => LevelFilter::Debug,
        LogLevel::Verbose => LevelFilter::Trace,
    }
}

fn srs_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "trace",
        Level::Debug => "info",
        Level::Trace => "verbose",
    }
}

fn back(config: &config::Log) -> Result<Config, Error> {
    let encoder = Box::new(PatternEncoder::new(PATTERN));
    let appender: Box<dyn log4rs::append::Append> = match config.tank {
        LogTank::Console => Box::new(ConsoleAppender::builder().encoder(encoder).build()),
        LogTank::File => {
            let file = FileAppender::builder().encoder(encoder).build(&config.file);
            let path = config.file.display().to_string();
            Box::new(file.map_err(|error| Error::File { path, error })?)
        }
    };
    Config::builder()
        .appender(Appender::builder().build("tank", appender))
        .build(Root::builder().appender("tank").build(LevelFilter::Trace))
        .map_err(|error| Error::Setup(error.to_string()))
}

fn write(mut logger: log4rs::Logger, lines: &Receiver<Item>) {
    for item in lines {
        let line = match item {
            Item::Line(line) => line,
            Item::Replace(other) => {
                logger.flush();
                logger = *other;
                continue;
            }
            Item::Stop => break,
        };
        write_line(&logger, &line);
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} log lines were lost: they came faster than they could be written");
            write_line(&logger, &Line { level: Level::Warn, id: 0, text, ..line });
        }
    }
    logger.flush();
}

fn write_line(logger: &log4rs::Logger, line: &Line) {
    log_mdc::insert("time", line.time.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
    log_mdc::insert("level", srs_name(line.level));
    log_mdc::insert("id", line.id.to_string());
    logger.log(&Record::builder().level(line.level).args(format_args!("{}", line.text)).build());
}

impl Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // `may` logs every descriptor that it adds to its event queue.
        let own = metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
            || metadata.target().starts_with("simple_rtmp_server");
        let level = log::max_level();
        metadata.level() <= if own { level } else { level.min(LevelFilter::Warn) }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let speaker = SPEAKER.try_with(Cell::get).ok().flatten();
        let id = speaker.unwrap_or_else(st::current_id);
        // What has failed is said, even if the client has had much said.
        let by_itself = speaker.is_none() && record.level() != Level::Error;
        if id == 0 || self.has_quota(id, by_itself) {
            self.say(record.level(), id, text::shown(*record.args()));
        }
    }

    fn flush(&self) {}
}

impl Front {
    fn say(&self, level: Level, id: u64, text: String) {
        let line = Line { time: chrono::Local::now(), level, id, text };
        match self.sender.try_send(Item::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether the client may have another line, see [`Quota::admits`]. Says what was left out, when it is time for that.
    fn has_quota(&self, client: u64, by_itself: bool) -> bool {
        let now = Instant::now();
        let asked = QUOTA.try_with(|quota| {
            let mut quota = quota.try_borrow_mut().ok()?;
            Some((quota.renew(now), quota.admits(client, by_itself)))
        });
        // At the end of a thread, there is no telling.
        let Ok(Some((left_out, is_admitted))) = asked else { return true };
        if let Some(left_out) = left_out {
            self.say(Level::Warn, 0, left_out.to_string());
        }
        is_admitted
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Waits for room if need be: the thread is reading.
        if self.sender.send(Item::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A log thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_of_srs_map_both_ways() {
        for (srs, name) in [
            (LogLevel::Error, "error"),
            (LogLevel::Warn, "warn"),
            (LogLevel::Trace, "trace"),
            (LogLevel::Info, "info"),
            (LogLevel::Verbose, "verbose"),
        ] {
            assert_eq!(srs_name(level(srs).to_level().unwrap()), name);
        }
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let config = config::Log { tank: LogTank::File, level: LogLevel::Trace, file: "/proc/no/such.log".into() };
        let error = back(&config).err().unwrap().to_string();
        assert!(error.starts_with("cannot open the log file /proc/no/such.log: "), "{error}");
    }
}
