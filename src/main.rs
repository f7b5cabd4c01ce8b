//! The command line: reads the configuration, starts the log and the server, and says what is wrong if they do not start.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use srs::app::listeners::Sockets;
use srs::app::server;
use srs::config::Config;
use srs::{log as srs_log, st};
use structopt::StructOpt;
use structopt::clap::ErrorKind;

/// An RTMP live origin server.
#[derive(StructOpt)]
#[structopt(name = "simple_rtmp_server", version_short = "v")]
struct Options {
    /// The configuration file
    #[structopt(short = "c", value_name = "FILE", parse(from_os_str))]
    config: PathBuf,

    /// Tests the configuration file and exits
    #[structopt(short = "t")]
    test: bool,
}

fn main() -> ExitCode {
    let options = match Options::from_iter_safe(arguments()) {
        Ok(options) => options,
        Err(error) if matches!(error.kind, ErrorKind::HelpDisplayed | ErrorKind::VersionDisplayed) => {
            println!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) if error.kind == ErrorKind::MissingRequiredArgument => {
            return fail("which configuration? Say for example: simple_rtmp_server -c conf/srs.conf");
        }
        Err(error) => return fail(error.message.lines().next().unwrap_or_default()),
    };
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => return fail(error),
    };
    for warning in &config.warnings {
        eprintln!("{warning}");
    }
    if options.test {
        println!("{}: the configuration is good", options.config.display());
        return ExitCode::SUCCESS;
    }
    let sockets = match Sockets::bind(&config.listeners()) {
        Ok(sockets) => sockets,
        Err(error) => return fail(error),
    };
    let log = match srs_log::Back::open(&config.log).and_then(srs_log::Back::start) {
        Ok(log) => log,
        Err(error) => return fail(error),
    };
    let result = st::run(move || server::start(config, sockets));
    match result {
        // The coroutines serve; there is nothing left for this thread to do.
        Ok(Ok(())) => loop {
            std::thread::park();
        },
        Ok(Err(error)) => {
            drop(log);
            fail(error)
        }
        Err(error) => {
            drop(log);
            fail(error)
        }
    }
}

/// The arguments, with the original's other spellings: `-?` for help, `-V` for the version.
fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().map(|argument| match argument.to_str() {
        Some("-?") => "-h".into(),
        Some("-V") => "-v".into(),
        _ => argument,
    })
}

fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("simple_rtmp_server: {error}");
    ExitCode::FAILURE
}
