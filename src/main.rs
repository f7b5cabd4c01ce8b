//! The command line: reads the configuration, starts the log and the server, and reports errors of the start.
//!
//! Order of a start: everything is checked that can be; then, if `daemon` is on, a copy of the process goes on in the background;
//! only then threads are started, since a fork does not keep them. The process that was started ends when the copy serves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use srs::app::rtmp::tls::TlsAcceptor;
use srs::app::server::control::Control;
use srs::app::server::listeners::Sockets;
use srs::config::Config;
use srs::log::Backend;
use srs::os::{self, PidFile, WaitingStarter};
use srs::st::{self, Inbox};
use structopt::StructOpt;
use structopt::clap::{ErrorKind, Shell};

/// Examples and signals, at the end of the help text.
const AFTER_HELP: &str = "\
EXAMPLES:
    simple_rtmp_server -c conf/srs.conf                          Run with this configuration
    simple_rtmp_server -t -c conf/srs.conf                       Check the configuration
    simple_rtmp_server -c conf/srs.conf --reload-plan new.conf   Show what a reload with new.conf would change
    simple_rtmp_server --print-reference                         Show all directives with their defaults

SIGNALS:
    SIGHUP           Reload the configuration
    SIGUSR1          Reopen the log file and log the status
    SIGQUIT          Stop gracefully: stop accepting, flush buffered data to players (up to 30 s), exit
    SIGTERM, SIGINT  Stop at once";

/// RTMP live origin server with HLS output
#[derive(StructOpt)]
#[structopt(name = "simple_rtmp_server", version_short = "v", after_help = AFTER_HELP)]
struct Options {
    /// Configuration file
    #[structopt(short = "c", value_name = "FILE", parse(from_os_str), required_unless_one = &["print-reference", "completions"])]
    config: Option<PathBuf>,

    /// Checks the configuration file and exits: status 0 if it is valid, else 1
    #[structopt(short = "t")]
    test: bool,

    /// Prints what a reload would change if NEW replaced the configuration FILE, and exits
    #[structopt(long = "reload-plan", value_name = "NEW", parse(from_os_str))]
    reload_plan: Option<PathBuf>,

    /// Prints the configuration reference (conf/full.conf) and exits
    #[structopt(long = "print-reference")]
    print_reference: bool,

    /// Prints a script that completes the command line, and exits
    #[structopt(long = "completions", value_name = "SHELL", possible_values = &Shell::variants())]
    completions: Option<Shell>,
}

fn main() -> ExitCode {
    if let Some(status) = os::process::launcher::launch(std::env::args_os(), st::set_nice) {
        return status;
    }
    let version = version();
    let command_line = Options::clap().version(version.as_str()).get_matches_from_safe(arguments());
    let options = match command_line {
        Ok(matches) => Options::from_clap(&matches),
        Err(error) if matches!(error.kind, ErrorKind::HelpDisplayed | ErrorKind::VersionDisplayed) => {
            println!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) if error.kind == ErrorKind::MissingRequiredArgument => {
            return fail("no configuration file given. Example: simple_rtmp_server -c conf/srs.conf");
        }
        Err(error) => return fail(error.message.lines().next().unwrap_or_default()),
    };
    if let Some(shell) = options.completions {
        Options::clap().gen_completions_to("simple_rtmp_server", shell, &mut std::io::stdout().lock());
        return ExitCode::SUCCESS;
    }
    let Some(file) = options.config.filter(|_| !options.print_reference) else {
        print!("{}", srs::config::reference());
        return ExitCode::SUCCESS;
    };
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(error) => return fail(error),
    };
    if let Some(new) = options.reload_plan {
        return print_reload_plan(&config, &new);
    }
    for warning in &config.warnings {
        eprintln!("{warning}");
    }
    let tls_acceptor = match TlsAcceptor::load(&config) {
        Ok(tls_acceptor) => tls_acceptor,
        Err(error) => return fail(error),
    };
    if options.test {
        let problems = srs::app::check_programs(&config);
        if !problems.is_empty() {
            problems.iter().for_each(|problem| eprintln!("{}: {problem}", file.display()));
            return ExitCode::FAILURE;
        }
        println!("{}: the configuration is valid", file.display());
        return ExitCode::SUCCESS;
    }
    // Dropped after the error has been printed: a process that waits ends with this.
    let mut starter = None;
    match serve(config, tls_acceptor, file, &mut starter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("{error:#}")),
    }
}

/// Runs the server until a signal stops it. `starter` gets the process that waits for this one while it starts in the background.
fn serve(
    config: Config,
    tls_acceptor: TlsAcceptor,
    file: PathBuf,
    starter: &mut Option<WaitingStarter>,
) -> anyhow::Result<()> {
    let inherited = st::net::inherited_listeners();
    // A reload reads the same file, whatever the working directory is then.
    let file = std::path::absolute(file)?;
    let pid_file = config.pid.as_deref().map(PidFile::claim).transpose()?.map(Arc::new);
    let (sockets, unused) = Sockets::bind(&config.listeners(), inherited)?;
    let backend = Backend::open(&config.log)?;
    if config.daemon {
        *starter = Some(os::detach(st::fork).context("cannot leave the terminal")?);
    }
    if let Some(pid_file) = &pid_file {
        pid_file.write()?;
    }

    let log = backend.start()?;
    for address in unused {
        log::warn!(
            "socket of the service manager not used: address={address} reason=\"no listen directive has this address\""
        );
    }
    let commands = Arc::new(Inbox::new());
    let (inbox, signal_pid_file) = (commands.clone(), pid_file.clone());
    let remove_pid_file = move || signal_pid_file.iter().for_each(|file| file.remove());
    os::watch_signals(move |command| inbox.post(command), remove_pid_file).context("cannot watch for signals")?;
    let (ended, end) = mpsc::channel();
    st::run(move || srs::app::start(config, sockets, tls_acceptor, Control { file, commands, ended }))??;
    if let Some(starter) = starter.take() {
        starter.report_serving().context("cannot leave the terminal")?;
    }
    // The coroutines serve; this thread waits. If the control coroutine is lost, the server continues without it.
    if end.recv().is_err() {
        loop {
            std::thread::park();
        }
    }
    drop(log);
    // The signal thread, which does not end, holds the pid file too: it is not dropped.
    pid_file.iter().for_each(|file| file.remove());
    Ok(())
}

/// Prints what a reload would change.
fn print_reload_plan(present: &Config, new: &Path) -> ExitCode {
    let new = match Config::load(new) {
        Ok(new) => new,
        Err(error) => {
            eprintln!("{error}");
            return fail("the reload would fail and change nothing");
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

/// Returns the arguments. Like the original, accepts `-?` for help and `-V` for the version.
fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().map(|argument| match argument.to_str() {
        Some("-?") => "-h".into(),
        Some("-V") => "-v".into(),
        _ => argument,
    })
}

/// Returns the version, the commit if the build knows it, and the features of the build.
fn version() -> String {
    let features = [("ssl", cfg!(feature = "ssl")), ("hls", cfg!(feature = "hls")), ("http", cfg!(feature = "http"))];
    let features: Vec<_> = features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
    format!(
        "{} (commit {}; features: {})",
        env!("CARGO_PKG_VERSION"),
        option_env!("SRS_BUILD_COMMIT").filter(|commit| !commit.is_empty()).unwrap_or("unknown"),
        if features.is_empty() { "none".to_owned() } else { features.join(", ") }
    )
}

fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("simple_rtmp_server: {error}");
    ExitCode::FAILURE
}
