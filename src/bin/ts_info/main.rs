//! `ts_info FILE.ts|-`: what is in a transport stream, and what is wrong with it.

mod read;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use structopt::StructOpt;

/// Shows what is in a transport stream: tables, streams, frames, clock references, continuity.
#[derive(StructOpt)]
#[structopt(name = "ts_info")]
struct Options {
    /// One line of JSON instead of text.
    #[structopt(long)]
    json: bool,
    /// The file; - for standard input.
    #[structopt(name = "FILE")]
    file: String,
}

fn main() -> ExitCode {
    let options = Options::from_args();
    let mut bytes = Vec::new();
    let read = if options.file == "-" {
        io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(&options.file).map(|read| bytes = read)
    };
    if let Err(error) = read {
        eprintln!("ts_info: {}: {error}", options.file);
        return ExitCode::FAILURE;
    }
    let report = read::read(&bytes);
    let text = if options.json { report.json() } else { report.text() };
    // Whoever reads may have had enough.
    let _ = io::stdout().write_all(text.as_bytes());
    if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
