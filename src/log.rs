//! The log: log4rs, set up from the SRS directives and written on its own thread.
//!
//! ```text
//! log::info!(..) --> Logger: level, client number, quota, escaping --> queue of 8192 lines --> thread "log" --> file or console
//! ```
//!
//! A line is formatted where it is logged and written elsewhere, so that a slow disk or a stopped terminal never blocks the
//! worker. Each line has a client number: that of the coroutine that logs, or that of [`as_client`]. log4rs keeps such values
//! by thread, where all clients would share them, so they travel with the line and are set on the log's own thread.
//!
//! A line is `[YYYY-MM-DD HH:MM:SS.mmm][level][client] text`. Control characters and characters that change the direction of
//! text are escaped, so that a client's name cannot forge a line. The length of a line and the number of lines of a client are
//! limited. `docs/logging.md` lists the lines.

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

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};
use log4rs::append::console::ConsoleAppender;
use log4rs::append::file::FileAppender;
use log4rs::config::{Appender, Config, Root};
use log4rs::encode::pattern::PatternEncoder;

use self::quota::Quota;
use crate::config::{self, LogLevel, LogTank};
use crate::st;

/// Most lines that wait to be written. Further lines are dropped and counted.
const MAX_QUEUED: usize = 8192;

const PATTERN: &str = "[{X(time)}][{X(level)}][{X(id)}] {m}{n}";

/// The reason why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log file cannot be opened.
    #[error("cannot open the log file {path}: {error}")]
    File {
        /// The path.
        path: String,
        /// The error.
        error: std::io::Error,
    },
    /// log4rs reports an error.
    #[error("cannot set up the log: {0}")]
    Setup(String),
}

struct Line {
    time: chrono::DateTime<chrono::Local>,
    level: Level,
    client: u64,
    text: String,
}

enum Message {
    Line(Line),
    /// Writes the following lines to another destination.
    Replace(Box<log4rs::Logger>),
    /// Ends the thread.
    Stop,
}

/// The receiver of the `log` macros.
struct Logger {
    sender: Sender<Message>,
}

static SENDER: OnceLock<Sender<Message>> = OnceLock::new();

/// Lines dropped because the queue was full.
static DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The client of [`as_client`].
    static CLIENT_OVERRIDE: Cell<Option<u64>> = const { Cell::new(None) };
    static QUOTA: RefCell<Quota> = RefCell::default();
}

/// The running log. Dropping it writes the waiting lines and ends its thread.
pub struct Guard {
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// An opened destination of the log.
pub struct Backend {
    logger: log4rs::Logger,
    level: LevelFilter,
}

impl Backend {
    /// Opens the log file, if the log goes to a file. Blocks the thread. Fails when the file cannot be opened.
    pub fn open(config: &config::Log) -> Result<Backend, Error> {
        Ok(Backend { logger: log4rs::Logger::new(log4rs_config(config)?), level: level(config.level) })
    }

    /// Starts the log and its thread. Call it once. Fails when the thread cannot be started.
    pub fn start(self) -> Result<Guard, Error> {
        let (sender, receiver) = bounded(MAX_QUEUED);
        let logger = self.logger;
        let thread = thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(logger, &receiver))
            .map_err(|error| Error::Setup(error.to_string()))?;
        let logger = Logger { sender: sender.clone() };
        log::set_boxed_logger(Box::new(logger)).map_err(|error| Error::Setup(error.to_string()))?;
        log::set_max_level(self.level);
        // Not set before: a second logger is refused above.
        let _ = SENDER.set(sender.clone());
        Ok(Guard { sender, thread: Some(thread) })
    }

    /// Sends the following lines to this destination; earlier lines still go to the previous one. Waits for room in the queue and
    /// so may block the thread.
    pub fn replace(self) {
        log::set_max_level(self.level);
        if let Some(sender) = SENDER.get() {
            // Fails at the end of the process, when the log has ended.
            let _ = sender.send(Message::Replace(Box::new(self.logger)));
        }
    }
}

/// Logs the lines of `f` with the number of a client, instead of that of the current coroutine. They do not count towards the
/// quota of the client. `f` must not block.
pub fn as_client<R>(client: u64, f: impl FnOnce() -> R) -> R {
    let before = CLIENT_OVERRIDE.replace(Some(client));
    let result = f();
    CLIENT_OVERRIDE.set(before);
    result
}

/// Converts a level of SRS, where "trace" is the normal one, "info" has more lines, and "verbose" all.
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

fn log4rs_config(config: &config::Log) -> Result<Config, Error> {
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

fn write_lines(mut logger: log4rs::Logger, lines: &Receiver<Message>) {
    for message in lines {
        let line = match message {
            Message::Line(line) => line,
            Message::Replace(other) => {
                logger.flush();
                logger = *other;
                continue;
            }
            Message::Stop => break,
        };
        write_line(&logger, &line);
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("log lines lost: count={dropped} reason=\"the log could not be written fast enough\"");
            write_line(&logger, &Line { level: Level::Warn, client: 0, text, ..line });
        }
    }
    logger.flush();
}

fn write_line(logger: &log4rs::Logger, line: &Line) {
    log_mdc::insert("time", line.time.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
    log_mdc::insert("level", srs_name(line.level));
    log_mdc::insert("id", line.client.to_string());
    logger.log(&Record::builder().level(line.level).args(format_args!("{}", line.text)).build());
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates log only warnings and errors: `may` logs every descriptor that it adds to its event queue.
        let own = metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
            || metadata.target().starts_with("simple_rtmp_server");
        let level = log::max_level();
        metadata.level() <= if own { level } else { level.min(LevelFilter::Warn) }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let client_override = CLIENT_OVERRIDE.try_with(Cell::get).ok().flatten();
        let client = client_override.unwrap_or_else(st::current_client);
        // Errors do not count towards the quota of a client.
        let is_limited = client_override.is_none() && record.level() != Level::Error;
        if client == 0 || self.has_quota(client, is_limited) {
            self.enqueue(record.level(), client, text::sanitized(*record.args()));
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn enqueue(&self, level: Level, client: u64, text: String) {
        let line = Line { time: st::system_time().into(), level, client, text };
        match self.sender.try_send(Message::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns whether the client may log another line, see [`Quota::take`]. Logs the number of suppressed lines when a new
    /// period starts.
    fn has_quota(&self, client: u64, is_limited: bool) -> bool {
        let now = st::now();
        let result = QUOTA.try_with(|quota| {
            let mut quota = quota.try_borrow_mut().ok()?;
            Some((quota.renew(now), quota.take(client, is_limited)))
        });
        // At the end of a thread there is no quota.
        let Ok(Some((suppressed, is_granted))) = result else { return true };
        if let Some(suppressed) = suppressed {
            self.enqueue(Level::Warn, 0, suppressed.to_string());
        }
        is_granted
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Waits for room: the thread is reading.
        if self.sender.send(Message::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of the log thread has been printed on stderr.
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
        let error = log4rs_config(&config).err().unwrap().to_string();
        assert!(error.starts_with("cannot open the log file /proc/no/such.log: "), "{error}");
    }
}
