//! The command line: reads the configuration, starts the log and the server, and says what is wrong if they do not start.
//!
//! The order of a start: all that can be wrong is looked at while there is a terminal to say it on; then the process leaves it, if
//! it is to; only then threads are started, since they would not come along.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use srs::app::rtmp::tls::Rtmps;
use srs::app::server;
use srs::app::server::control::Control;
use srs::app::server::listeners::Sockets;
use srs::config::Config;
use srs::log::Back;
use srs::os::{self, PidFile};
use srs::st::{self, Inbox};
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

    /// Says what a server that runs with the configuration FILE would do if NEW came in its place and it were told to reload,
    /// and exits
    #[structopt(long = "reload-plan", value_name = "NEW", parse(from_os_str))]
    reload_plan: Option<PathBuf>,
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
    if let Some(new) = options.reload_plan {
        return plan(&config, &new);
    }
    for warning in &config.warnings {
        eprintln!("{warning}");
    }
    let rtmps = match Rtmps::load(&config) {
        Ok(rtmps) => rtmps,
        Err(error) => return fail(error),
    };
    if options.test {
        println!("{}: the configuration is good", options.config.display());
        return ExitCode::SUCCESS;
    }
    match serve(config, rtmps, options.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("{error:#}")),
    }
}

/// Runs the server until it is told to end.
fn serve(config: Config, rtmps: Rtmps, file: PathBuf) -> anyhow::Result<()> {
    st::bound_heap();
    let inherited = st::net::inherited();
    // After a change of the working directory, which nothing here does, it would still be the same file.
    let file = std::path::absolute(file)?;
    let pid_file = config.pid.as_deref().map(PidFile::claim).transpose()?.map(Arc::new);
    let (sockets, unwanted) = Sockets::bind(&config.listeners(), inherited)?;
    let back = Back::open(&config.log)?;
    if config.daemon {
        os::detach().context("cannot leave the terminal")?;
    }
    if let Some(pid_file) = &pid_file {
        pid_file.write()?;
    }

    let log = back.start()?;
    for address in unwanted {
        log::warn!(
            "the service manager listens on {address}, and no \"listen\" of the configuration: nobody is served there"
        );
    }
    let orders = Arc::new(Inbox::new());
    let (inbox, abandoned) = (orders.clone(), pid_file.clone());
    let remove = move || abandoned.iter().for_each(|file| file.remove());
    os::watch_signals(move |order| inbox.post(order), remove).context("cannot watch for signals")?;
    let (ended, end) = mpsc::channel();
    st::run(move || server::start(config, sockets, rtmps, Control { file, orders, ended }))??;
    // The coroutines serve; this thread waits. If their end of the channel is lost, the server goes on without control.
    if end.recv().is_err() {
        loop {
            std::thread::park();
        }
    }
    drop(log);
    // Its owner is also the thread that watches for signals, which does not end.
    pid_file.iter().for_each(|file| file.remove());
    Ok(())
}

/// Prints what a reload would change.
fn plan(present: &Config, new: &Path) -> ExitCode {
    let new = match Config::load(new) {
        Ok(new) => new,
        Err(error) => {
            eprintln!("{error}");
            return fail("the reload would fail, and the configuration would stay as it is");
        }
    };
    for warning in &new.warnings {
        println!("{warning}");
    }
    let changes = present.changes_to(&new);
    for change in &changes {
        println!("{change}");
    }
    if changes.is_empty() {
        println!("nothing would change");
    }
    ExitCode::SUCCESS
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
