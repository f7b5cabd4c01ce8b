//! srs_bench: a load generator for RTMP and HTTP servers: thousands of clients on one core, and their measurements.
//!
//! It runs on the server's own runtime (`st`) and RTMP client (`rtmp::client`). Players count bytes; with `--check` they also
//! parse every message and look for gaps. Each video frame of a synthesized stream contains the time at which it was sent, so
//! that end-to-end latency is measured through the media.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod bandwidth;
mod check;
mod flv;
mod histogram;
mod http;
mod media;
mod player;
mod publisher;
mod report;
mod stats;
mod target;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use srs::st;
use structopt::StructOpt;
use structopt::clap::Shell;

use self::media::Media;
use self::player::Mode;
use self::stats::Stats;
use self::target::Target;

/// Delay between the start of the last client and the measurement: a new player first gets a GOP that is older than live.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Examples at the end of the help text. `{N}` stands for `{n}`, see [`parse_arguments`].
const AFTER_HELP: &str = "\
EXAMPLES:
    srs_bench play -c 500 --ramp 5 rtmp://127.0.0.1/live/livestream     500 players, started over 5 s
    srs_bench play -c 500 --check=20 rtmp://127.0.0.1/live/livestream   The same; 20 of them check every message
    srs_bench play -c 500 http://127.0.0.1:8080/live/livestream.flv     500 viewers of HTTP-FLV
    srs_bench publish -c 50 'rtmp://127.0.0.1/live/stream{N}'           50 publishers: stream1 to stream50
    srs_bench latency -c 100 rtmp://127.0.0.1/live/livestream           One publisher, 100 players, end-to-end latency
    srs_bench http -c 20 http://127.0.0.1:8080/live/livestream.m3u8     20 clients that get the playlist repeatedly
    srs_bench http -c 50 --follow --every 2 'http://127.0.0.1:8080/live/stream{N}.m3u8'   50 viewers of HLS
    srs_bench bandwidth 'rtmp://127.0.0.1/app?key=KEY&vhost=bandcheck.srs.com'   Download and upload of a line

The exit status is 0 if no client was refused or lost. `srs_bench help play` lists the options.";

/// Load generator for RTMP and HTTP servers
#[derive(StructOpt, Clone)]
#[structopt(name = "srs_bench", after_help = AFTER_HELP)]
enum Command {
    /// Plays streams; the clients are spread evenly over the URLs
    Play(Options),
    /// Publishes streams; {N} in the URL is replaced by the number of the client, from 1
    Publish(Options),
    /// Publishes one synthesized stream, plays it, and measures the end-to-end latency
    Latency(Options),
    /// Gets http:// URLs repeatedly, each client on its own connection; a message is a response
    Http(Options),
    /// Measures the bandwidth to a server with a vhost for tests (bandcheck), in both directions
    Bandwidth(bandwidth::BandwidthOptions),
    /// Writes a synthesized stream of --duration seconds to an FLV file, given instead of the URL
    File(Options),
    /// Prints a script that completes the command line
    Completions {
        /// The shell
        #[structopt(possible_values = &Shell::variants())]
        shell: Shell,
    },
}

#[derive(StructOpt, Clone)]
struct Options {
    /// Streams, e.g. rtmp://127.0.0.1/live/livestream or rtmp://127.0.0.1/live/stream{N}; to play, also those of HTTP-FLV, e.g.
    /// http://127.0.0.1:8080/live/livestream.flv
    #[structopt(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Number of clients
    #[structopt(short = "c", long = "clients", default_value = "1", value_name = "N")]
    clients: u32,
    /// Time over which the clients start, in seconds [default: the value of --stay, or 1]
    #[structopt(long = "ramp", value_name = "S")]
    ramp: Option<f64>,
    /// Length of the measurement, in seconds; it starts one second after the last client
    #[structopt(long = "duration", default_value = "10", value_name = "S")]
    duration: f64,
    /// Players that parse every message, check for gaps and damage, and measure latency: N of them, or all
    #[structopt(long = "check", value_name = "N", require_equals = true)]
    check: Option<Option<u32>>,
    /// Number of players that read only 4 KB per second
    #[structopt(long = "slow", default_value = "0", value_name = "N")]
    slow: u32,
    /// Time after which each player disconnects and connects again, in seconds
    #[structopt(long = "stay", value_name = "S")]
    stay: Option<f64>,
    /// HTTP: time from one request of a client to its next, in seconds [default: none]
    #[structopt(long = "every", default_value = "0", value_name = "S", hide_default_value = true)]
    every: f64,
    /// HTTP: the URL is a playlist of HLS, and the client also gets its newest segment each time
    #[structopt(long = "follow")]
    follow: bool,
    /// FLV file to publish in a loop instead of a synthesized stream
    #[structopt(long = "file", value_name = "FLV", conflicts_with = "bitrate")]
    file: Option<std::path::PathBuf>,
    /// Bit rate of a synthesized stream, in kbit/s
    #[structopt(long = "bitrate", default_value = "500", value_name = "KBPS")]
    bitrate: u32,
    /// Frame rate of a synthesized stream
    #[structopt(long = "fps", default_value = "25", value_name = "FPS")]
    fps: u32,
    /// Keyframe interval of a synthesized stream, in seconds
    #[structopt(long = "gop", default_value = "2", value_name = "S")]
    gop: f64,
    /// Prints one JSON object instead of a table
    #[structopt(long = "json")]
    json: bool,
}

impl Options {
    /// Returns the mode of player `n`, from 0. The slow players come first; those that check are spread over the others, since a
    /// server may serve some players earlier than others.
    fn mode(&self, n: u32) -> Mode {
        let wanted = self.check.map_or(0, |check| check.unwrap_or(self.clients));
        let others = u64::from(self.clients.saturating_sub(self.slow).max(1));
        let Some(n) = n.checked_sub(self.slow).map(u64::from) else { return Mode::Slow };
        let up_to = |n: u64| n * u64::from(wanted).min(others) / others;
        if up_to(n + 1) > up_to(n) { Mode::Checks } else { Mode::Counts }
    }
}

fn main() -> ExitCode {
    let result = match parse_arguments() {
        Command::Bandwidth(options) => bandwidth::run(&options).map(|()| true),
        Command::Play(options) => run_clients(Clients::Play, options),
        Command::Publish(options) => run_clients(Clients::Publish, options),
        Command::Latency(options) => run_clients(Clients::Latency, options),
        Command::Http(options) => run_http(options),
        Command::File(options) => write_file(&options).map(|()| true),
        Command::Completions { shell } => {
            Command::clap().gen_completions_to("srs_bench", shell, &mut std::io::stdout().lock());
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("srs_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line, or prints help or an error and exits. `clap` replaces `{n}` in help texts by a line break, so they
/// have `{N}` instead.
fn parse_arguments() -> Command {
    Command::from_args_safe().unwrap_or_else(|mut error| {
        error.message = error.message.replace("{N}", "{n}");
        error.exit()
    })
}

/// RTMP clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    Play,
    Publish,
    Latency,
}

/// Writes a synthesized stream.
fn write_file(options: &Options) -> anyhow::Result<()> {
    let media = Media::synthesized(options.bitrate, options.fps, options.gop);
    media.write(options.urls[0].as_ref(), (options.duration * 1000.0) as u64)
}

/// Runs RTMP clients, and prints the results. Returns whether no client failed.
fn run_clients(clients: Clients, options: Options) -> anyhow::Result<bool> {
    anyhow::ensure!(options.stay.is_none_or(|stay| stay >= 0.1), "--stay: must be at least 0.1 seconds");
    let targets = options.urls.iter().map(|url| Target::parse(url)).collect::<anyhow::Result<Vec<_>>>()?;
    let media = Arc::new(match &options.file {
        Some(file) => Media::from_file(file)?,
        None => Media::synthesized(options.bitrate, options.fps, options.gop),
    });
    let stats = Arc::new(Stats::default());
    let (seen, all) = (stats.clone(), options.clone());
    st::run(move || spawn_rtmp(clients, &all, &targets, &media, &seen))?;
    Ok(print_results(&stats, &options))
}

/// Runs HTTP clients, and prints the results. Returns whether no client failed.
fn run_http(options: Options) -> anyhow::Result<bool> {
    anyhow::ensure!((0.0..=3600.0).contains(&options.every), "--every: must be from 0 to 3600 seconds");
    let urls = options.urls.iter().map(|url| http::Url::parse(url)).collect::<anyhow::Result<Vec<_>>>()?;
    let stats = Arc::new(Stats::default());
    let (seen, all) = (stats.clone(), options.clone());
    st::run(move || {
        let behaviour = http::Behaviour { interval: Duration::from_secs_f64(all.every), follows_playlist: all.follow };
        let spawn = |n: u32| http::spawn(n + 1, urls[n as usize % urls.len()].numbered(n + 1), behaviour, seen.clone());
        drive_clients(&all, &seen, spawn);
    })?;
    Ok(print_results(&stats, &options))
}

fn print_results(stats: &Stats, options: &Options) -> bool {
    print!("{}", if options.json { report::json(stats) } else { report::table(stats) });
    stats.failed() == 0
}

/// Runs publishers or players.
fn spawn_rtmp(clients: Clients, options: &Options, targets: &[Target], media: &Arc<Media>, stats: &Arc<Stats>) {
    if clients == Clients::Latency {
        publisher::spawn(0, targets[0].numbered(1), media.clone(), false, stats.clone());
        // The first player must find the stream.
        st::sleep(Duration::from_secs(1));
    }
    let stay = options.stay.map(Duration::from_secs_f64);
    drive_clients(options, stats, |n| {
        let target = targets[n as usize % targets.len()].numbered(n + 1);
        match clients {
            Clients::Publish => publisher::spawn(n + 1, target, media.clone(), true, stats.clone()),
            Clients::Play => player::spawn(n + 1, target, options.mode(n), stay, stats.clone()),
            Clients::Latency => player::spawn(n + 1, target, Mode::Checks, stay, stats.clone()),
        }
    });
}

/// Starts the clients over the ramp, waits until they have settled, measures for the duration, and stops them.
fn drive_clients(options: &Options, stats: &Stats, spawn: impl Fn(u32)) {
    let started = Instant::now();
    let ramp = options.ramp.or(options.stay).unwrap_or(1.0);
    for n in 0..options.clients {
        let due = started + Duration::from_secs_f64(ramp * f64::from(n) / f64::from(options.clients));
        st::sleep(due.saturating_duration_since(Instant::now()));
        spawn(n);
        report::progress(stats, options.json);
    }
    st::sleep(SETTLE_TIME);
    let end = Instant::now() + Duration::from_secs_f64(options.duration);
    stats.start_measurement();
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

    fn modes(arguments: &str) -> Vec<Mode> {
        let words = format!("srs_bench play rtmp://a/b/c {arguments}");
        let command = Command::from_iter_safe(words.split_whitespace()).unwrap();
        let Command::Play(options) = command else { panic!("{words}") };
        (0..options.clients).map(|n| options.mode(n)).collect()
    }

    #[test]
    fn those_that_check_are_spread_over_those_that_are_not_slow() {
        let count = |modes: &[Mode], mode| modes.iter().filter(|&&other| other == mode).count();
        assert_eq!(count(&modes("-c 50"), Mode::Counts), 50);
        assert_eq!(count(&modes("-c 50 --check"), Mode::Checks), 50);
        let some = modes("--check=5 -c 502 --slow 2");
        assert_eq!([Mode::Slow, Mode::Checks, Mode::Counts].map(|m| count(&some, m)), [2, 5, 495]);
        assert_eq!(some.last(), Some(&Mode::Checks));
        assert_eq!(count(&some[..252], Mode::Checks), 2);
        assert_eq!(count(&modes("-c 3 --slow 5 --check=9"), Mode::Slow), 3);
        assert_eq!(count(&modes("-c 3 --check=9"), Mode::Checks), 3);
    }
}
