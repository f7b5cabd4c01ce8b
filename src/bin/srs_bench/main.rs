//! srs_bench: load for an RTMP and HTTP server, from one core: clients by the thousand, and what they saw.
//!
//! Everything runs on the server's own coroutines (`st`), in its client's words (`rtmp::client`). Players count what they read;
//! with `--check` they also take it apart and look for gaps. A synthesized stream carries the time at which each of its video
//! frames was sent, so that latency is measured from end to end, through the media.

mod check;
mod histogram;
mod http;
mod media;
mod player;
mod publisher;
mod report;
mod stats;
mod target;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use srs::st;
use structopt::StructOpt;

use self::media::Media;
use self::player::Manner;
use self::stats::Stats;
use self::target::Target;

/// Measuring begins so long after the last client was started: what comes first is as old as the GOP is long.
const SETTLE: Duration = Duration::from_secs(1);

/// Load for an RTMP and HTTP server
#[derive(StructOpt, Clone)]
#[structopt(name = "srs_bench")]
enum Command {
    /// Plays: each URL by its share of the clients
    Play(Options),
    /// Publishes: {n} in the URL is the number of the client, from 1
    Publish(Options),
    /// Publishes one synthesized stream and plays it, and measures how long it takes from end to end
    Latency(Options),
    /// Gets http:// URLs, each client over and over on a connection of its own; messages are answers
    Http(Options),
    /// Writes a synthesized stream of --duration seconds to an FLV file, named in place of the URL
    File(Options),
}

#[derive(StructOpt, Clone)]
struct Options {
    /// What to publish or play, as in rtmp://127.0.0.1/live/livestream or rtmp://127.0.0.1/live/stream{n}
    #[structopt(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// The number of clients
    #[structopt(short = "c", long = "clients", default_value = "1", value_name = "N")]
    clients: u32,
    /// The time over which the clients start, in seconds [default: that of --stay, or 1]
    #[structopt(long = "ramp", value_name = "S")]
    ramp: Option<f64>,
    /// How long to measure, in seconds, from one second after the last client has started
    #[structopt(long = "duration", default_value = "10", value_name = "S")]
    duration: f64,
    /// Players take every message apart: look for gaps and damage, and measure latency. So many of them, or all
    #[structopt(long = "check", value_name = "N", require_equals = true)]
    check: Option<Option<u32>>,
    /// That many of the players read no more than 4 KB a second
    #[structopt(long = "slow", default_value = "0", value_name = "N")]
    slow: u32,
    /// Each player leaves after so many seconds and comes again on another connection
    #[structopt(long = "stay", value_name = "S")]
    stay: Option<f64>,
    /// An FLV file to publish, over and over, instead of a synthesized stream
    #[structopt(long = "file", value_name = "FLV", conflicts_with = "bitrate")]
    file: Option<std::path::PathBuf>,
    /// The bit rate of a synthesized stream, in kbit/s
    #[structopt(long = "bitrate", default_value = "500", value_name = "KBPS")]
    bitrate: u32,
    /// Its frame rate, in frames a second
    #[structopt(long = "fps", default_value = "25", value_name = "FPS")]
    fps: u32,
    /// The time from keyframe to keyframe, in seconds
    #[structopt(long = "gop", default_value = "2", value_name = "S")]
    gop: f64,
    /// Prints one JSON object instead of a table
    #[structopt(long = "json")]
    json: bool,
}

impl Options {
    /// How player `n` of all goes about it, from 0: the slow ones come first, those that check are spread over the rest, since
    /// a server may reach some sooner than others.
    fn manner(&self, n: u32) -> Manner {
        let wanted = self.check.map_or(0, |check| check.unwrap_or(self.clients));
        let others = u64::from(self.clients.saturating_sub(self.slow).max(1));
        let Some(n) = n.checked_sub(self.slow).map(u64::from) else { return Manner::Slow };
        let up_to = |n: u64| n * u64::from(wanted).min(others) / others;
        if up_to(n + 1) > up_to(n) { Manner::Checks } else { Manner::Counts }
    }
}

fn main() -> ExitCode {
    let command = Command::from_args();
    match run(&command) {
        Ok(stats) => {
            let options = command.options();
            if !matches!(command, Command::File(_)) {
                print!("{}", if options.json { report::json(&stats) } else { report::table(&stats) });
            }
            if stats.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("srs_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn options(&self) -> &Options {
        match self {
            Self::Play(options)
            | Self::Publish(options)
            | Self::Latency(options)
            | Self::Http(options)
            | Self::File(options) => options,
        }
    }
}

fn run(command: &Command) -> anyhow::Result<Arc<Stats>> {
    let options = command.options().clone();
    if let Command::File(_) = command {
        let media = Media::synthesized(options.bitrate, options.fps, options.gop);
        media.write(options.urls[0].as_ref(), (options.duration * 1000.0) as u64)?;
        return Ok(Arc::default());
    }
    if let Command::Http(_) = command {
        return get(options);
    }
    anyhow::ensure!(options.stay.is_none_or(|stay| stay >= 0.1), "--stay: at least 0.1 seconds");
    let targets = options.urls.iter().map(|url| Target::parse(url)).collect::<anyhow::Result<Vec<_>>>()?;
    let media = Arc::new(match &options.file {
        Some(file) => Media::from_file(file)?,
        None => Media::synthesized(options.bitrate, options.fps, options.gop),
    });
    let stats = Arc::new(Stats::default());
    let seen = stats.clone();
    let command = command.clone();
    st::run(move || drive(&command, &targets, &media, &seen))?;
    Ok(stats)
}

/// The same for HTTP.
fn get(options: Options) -> anyhow::Result<Arc<Stats>> {
    let urls = options.urls.iter().map(|url| http::Url::parse(url)).collect::<anyhow::Result<Vec<_>>>()?;
    let stats = Arc::new(Stats::default());
    let seen = stats.clone();
    st::run(move || {
        let spawn = |n: u32| http::spawn(n + 1, urls[n as usize % urls.len()].clone(), seen.clone());
        drive_clients(&options, &seen, spawn);
    })?;
    Ok(stats)
}

/// Starts what the command asks for.
fn drive(command: &Command, targets: &[Target], media: &Arc<Media>, stats: &Arc<Stats>) {
    let options = command.options();
    if let Command::Latency(_) = command {
        publisher::spawn(0, targets[0].numbered(1), media.clone(), false, stats.clone());
        // The first player finds a stream that is there.
        st::sleep(Duration::from_secs(1));
    }
    let stay = options.stay.map(Duration::from_secs_f64);
    drive_clients(options, stats, |n| {
        let target = targets[n as usize % targets.len()].numbered(n + 1);
        match command {
            Command::Publish(_) => publisher::spawn(n + 1, target, media.clone(), true, stats.clone()),
            Command::Play(_) => player::spawn(n + 1, target, options.manner(n), stay, stats.clone()),
            // The last two are not driven here.
            Command::Latency(_) | Command::Http(_) | Command::File(_) => {
                player::spawn(n + 1, target, Manner::Checks, stay, stats.clone());
            }
        }
    });
}

/// Starts the clients over the ramp, lets them settle, measures for the duration, and stops them.
fn drive_clients(options: &Options, stats: &Stats, spawn: impl Fn(u32)) {
    let begin = Instant::now();
    let ramp = options.ramp.or(options.stay).unwrap_or(1.0);
    for n in 0..options.clients {
        let due = begin + Duration::from_secs_f64(ramp * f64::from(n) / f64::from(options.clients));
        st::sleep(due.saturating_duration_since(Instant::now()));
        spawn(n);
        report::progress(stats, options.json);
    }
    st::sleep(SETTLE);
    let end = Instant::now() + Duration::from_secs_f64(options.duration);
    stats.measure_from_now();
    while Instant::now() < end {
        st::sleep(Duration::from_millis(200).min(end.saturating_duration_since(Instant::now())));
        report::progress(stats, options.json);
    }
    stats.stop();
    report::end_progress(options.json);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manners(arguments: &str) -> Vec<Manner> {
        let words = format!("srs_bench play rtmp://a/b/c {arguments}");
        let command = Command::from_iter_safe(words.split_whitespace()).unwrap();
        let options = command.options();
        (0..options.clients).map(|n| options.manner(n)).collect()
    }

    #[test]
    fn those_that_check_are_spread_over_those_that_are_not_slow() {
        let count = |manners: &[Manner], manner| manners.iter().filter(|&&other| other == manner).count();
        assert_eq!(count(&manners("-c 50"), Manner::Counts), 50);
        assert_eq!(count(&manners("-c 50 --check"), Manner::Checks), 50);
        let some = manners("--check=5 -c 502 --slow 2");
        assert_eq!([Manner::Slow, Manner::Checks, Manner::Counts].map(|m| count(&some, m)), [2, 5, 495]);
        assert_eq!(some.last(), Some(&Manner::Checks));
        assert_eq!(count(&some[..252], Manner::Checks), 2);
        assert_eq!(count(&manners("-c 3 --slow 5 --check=9"), Manner::Slow), 3);
        assert_eq!(count(&manners("-c 3 --check=9"), Manner::Checks), 3);
    }
}
