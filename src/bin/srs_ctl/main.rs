//! `srs_ctl`: shows and controls a running server over its HTTP API, from anywhere.
//!
//! ```text
//! options ─> address (URL and secret) ─> api (HTTP) ─> commands, events ─> output (tables or JSON)
//!                                                  └─> top (a live view of the terminal)
//! ```
#![allow(clippy::disallowed_methods, reason = "a program without coroutines: its threads may wait")]

mod address;
mod api;
mod commands;
mod events;
mod failure;
mod options;
mod output;
mod recordings;
mod reports;
mod sign;
mod top;

use std::process::ExitCode;

use structopt::StructOpt;
use structopt::clap::ErrorKind;

use failure::Failure;
use options::{Command, Options};

fn main() -> ExitCode {
    let options = match Options::from_iter_safe(std::env::args_os()) {
        Ok(options) => options,
        Err(error) if matches!(error.kind, ErrorKind::HelpDisplayed | ErrorKind::VersionDisplayed) => {
            println!("{}", error.message);
            return ExitCode::SUCCESS;
        }
        // clap 2 calls a wrong command an argument.
        Err(error) if error.kind == ErrorKind::UnknownArgument && error.message.contains("<SUBCOMMAND>") => {
            let word = error.info.iter().flatten().next().map_or("", String::as_str);
            eprintln!("srs_ctl: there is no command or option {word:?}; \"srs_ctl --help\" lists them");
            return Failure::Usage(String::new()).exit_code();
        }
        Err(error) => {
            eprintln!("{}", error.message);
            return Failure::Usage(String::new()).exit_code();
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                eprintln!("srs_ctl: {text}");
            }
            failure.exit_code()
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if let Command::Completions { shell } = &options.command {
        Options::clap().gen_completions_to("srs_ctl", *shell, &mut std::io::stdout().lock());
        return Ok(());
    }
    if let Command::Sign(signing) = &options.command {
        return sign::run(options, signing);
    }
    let api = api::Api::new(address::find(options)?)?;
    match &options.command {
        Command::Events(filter) => events::follow(&api, filter, options.json),
        Command::Top { interval } => top::run(api, *interval),
        command => commands::run(&api, command, options.json),
    }
}
