//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use structopt::StructOpt;
use structopt::clap::Shell;

/// Examples and exit codes at the end of the help text.
const AFTER_HELP: &str = "\
EXAMPLES:
    srs_ctl streams                          Streams of the server on this machine
    srs_ctl -c conf/srs.conf top             Live view; address and secret are those of the configuration
    srs_ctl --api https://live.example.com:1990 clients --stream live/cam
    srs_ctl kick live/cam --ban 60           Disconnect a publisher, and keep its stream free for a minute
    srs_ctl -c conf/srs.conf sign rtmp://live.example.com/live/cam --publish --seconds 86400
    srs_ctl record live/cam                  Record a stream that is published; --stop ends it
    srs_ctl reload --dry-run                 What would a reload change?
    srs_ctl events --type published,unpublished --json | while read -r event; do ...; done

A secret is best given in SRS_API_TOKEN: other users of the machine can read command lines.

EXIT CODES: 0 done, 1 refused or not found, 2 wrong command line, 3 the API does not answer, 4 not allowed";

/// The events of the API.
const EVENTS: &[&str] = &[
    "connected",
    "closed",
    "refused",
    "published",
    "publisher_lost",
    "unpublished",
    "played",
    "stopped",
    "codecs",
    "bandwidth_tested",
    "recorded",
    "reloaded",
];

/// Longest ban in seconds, and most events of the past, as the API allows them.
const MAX_BAN: u64 = 30 * 24 * 3600;
const MAX_LAST: u64 = 1000;

/// Shows and controls a running simple_rtmp_server over its HTTP API
#[derive(StructOpt, Debug)]
#[structopt(name = "srs_ctl", after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// URL of the API; without it, that of the configuration, else http://127.0.0.1:1985
    #[structopt(long, global = true, env = "SRS_API", value_name = "URL")]
    pub(crate) api: Option<String>,
    /// Configuration of the server, for the address of its API and a secret
    #[structopt(short = "c", long = "config-file", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Token of the API
    #[structopt(long, global = true, env = "SRS_API_TOKEN", hide_env_values = true, value_name = "SECRET")]
    pub(crate) token: Option<String>,
    /// Name and password of the API
    #[structopt(long, global = true, env = "SRS_API_LOGIN", hide_env_values = true, value_name = "NAME:PASSWORD")]
    pub(crate) login: Option<String>,
    /// PEM file with the certificate to trust instead of those of the system
    #[structopt(long, global = true, env = "SRS_API_CACERT", value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Prints the JSON of the API, one document a line
    #[structopt(long, global = true)]
    pub(crate) json: bool,
    #[structopt(subcommand)]
    pub(crate) command: Command,
}

/// Shows and controls a running simple_rtmp_server over its HTTP API
#[derive(StructOpt, Debug)]
pub(crate) enum Command {
    /// Shows the state of the server
    Status,
    /// Lists the streams
    Streams {
        /// Only those of this vhost
        #[structopt(long)]
        vhost: Option<String>,
        /// Only those of this application
        #[structopt(long)]
        app: Option<String>,
    },
    /// Shows one stream and its clients
    Stream {
        /// Its name, such as live/cam or vhost/live/cam
        #[structopt(parse(try_from_str = not_empty))]
        name: String,
    },
    /// Lists the clients
    Clients {
        /// Only those of this stream
        #[structopt(long)]
        stream: Option<String>,
        /// Only those of this address
        #[structopt(long, value_name = "ADDRESS", parse(try_from_str = address))]
        ip: Option<IpAddr>,
        /// Only publishers, or only players of all kinds
        #[structopt(long, possible_values = &["publish", "play"], value_name = "KIND")]
        kind: Option<String>,
    },
    /// Shows one client
    Client {
        /// Its number, as clients and the log show it
        #[structopt(parse(try_from_str = client_number))]
        id: u64,
    },
    /// Lists the forwarders
    Forwarders {
        /// Only those of this stream
        #[structopt(long)]
        stream: Option<String>,
    },
    /// Lists the programs that run for streams: those of transcode, ladder and exec
    Processes {
        /// Only those of this stream
        #[structopt(long)]
        stream: Option<String>,
    },
    /// Lists addresses with refused or faulty connections, or wrong secrets
    Offenders,
    /// Disconnects a client by its number, all of an address, or the publisher of a stream
    Kick {
        /// Number of a client, address, or name of a stream
        #[structopt(parse(try_from_str = not_empty))]
        target: String,
        /// Also keeps it out for this time, in seconds
        #[structopt(long, value_name = "SECONDS", parse(try_from_str = ban_seconds))]
        ban: Option<u64>,
    },
    /// Starts to record a stream, whatever the configuration says, until it is unpublished
    Record {
        /// Its name, such as live/cam or vhost/live/cam
        #[structopt(parse(try_from_str = not_empty))]
        stream: String,
        /// Stops recording it
        #[structopt(long)]
        stop: bool,
    },
    /// Lists the recordings, newest first
    Recordings {
        /// Only those of this stream
        #[structopt(long)]
        stream: Option<String>,
    },
    /// Downloads a recording
    Download {
        /// Its id
        #[structopt(parse(try_from_str = not_empty))]
        id: String,
        /// The file to write, which must not exist; without it, the name of the recording in this directory
        #[structopt(short = "o", long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Removes a recording and its file
    Delete {
        /// Its id
        #[structopt(parse(try_from_str = not_empty))]
        id: String,
    },
    /// Lists the bans
    Bans,
    /// Lifts a ban
    Unban {
        /// Its number
        #[structopt(parse(try_from_str = ban_number))]
        id: u64,
    },
    /// Reloads the configuration
    Reload {
        /// Shows what would change, and changes nothing
        #[structopt(long)]
        dry_run: bool,
    },
    /// Shows the configuration in force
    Config {
        /// Defaults too
        #[structopt(long)]
        all: bool,
    },
    /// Shows events as they happen
    Events(EventFilter),
    /// Lists closed connections by reason, and the last ones
    Closes,
    /// Shows server, streams and clients live
    Top {
        /// Time between two samples, in seconds
        #[structopt(long, default_value = "1", value_name = "SECONDS", parse(try_from_str = seconds))]
        interval: u64,
    },
    /// Signs a URL to publish, to play or to load HLS, for a vhost with a secret in security
    Sign(Signing),
    /// Prints a script that completes the command line
    Completions {
        /// The shell
        #[structopt(possible_values = &Shell::variants())]
        shell: Shell,
    },
}

/// A URL that is to be signed.
#[derive(StructOpt, Debug)]
pub(crate) struct Signing {
    /// URL of the stream, or APP/STREAM
    pub(crate) target: String,
    /// To publish; without it, to play
    #[structopt(long)]
    pub(crate) publish: bool,
    /// Time for which it is valid, in seconds
    #[structopt(long, default_value = "3600", value_name = "SECONDS", parse(try_from_str = seconds))]
    pub(crate) seconds: u64,
    /// Vhost whose secret of the configuration (-c) is taken; without it, that of the URL
    #[structopt(long, value_name = "NAME")]
    pub(crate) vhost: Option<String>,
    /// The secret
    #[structopt(long, env = "SRS_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub(crate) secret: Option<String>,
}

/// The choice of events.
#[derive(StructOpt, Debug)]
pub(crate) struct EventFilter {
    /// Starts with the last events, at most 1000
    #[structopt(long, value_name = "COUNT", parse(try_from_str = event_count))]
    pub(crate) last: Option<u64>,
    /// Only these, such as published,unpublished
    #[structopt(long = "type", value_name = "EVENT,...", use_delimiter = true, number_of_values = 1, possible_values = EVENTS)]
    pub(crate) types: Vec<String>,
    /// Only those of this stream
    #[structopt(long)]
    pub(crate) stream: Option<String>,
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address, such as 192.0.2.7"))
}

fn client_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not the number of a client; \"srs_ctl clients\" lists them"))
}

fn ban_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not the number of a ban; \"srs_ctl bans\" lists them"))
}

fn seconds(text: &str) -> Result<u64, String> {
    number(text, 1..=u64::MAX).ok_or_else(|| format!("{text:?} is not a number of seconds, such as 60"))
}

fn ban_seconds(text: &str) -> Result<u64, String> {
    number(text, 1..=MAX_BAN).ok_or_else(|| format!("{text:?} is not a number of seconds from 1 to {MAX_BAN}"))
}

fn event_count(text: &str) -> Result<u64, String> {
    number(text, 0..=MAX_LAST).ok_or_else(|| format!("{text:?} is not a number from 0 to {MAX_LAST}"))
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    text.parse().ok().filter(|number| range.contains(number))
}
