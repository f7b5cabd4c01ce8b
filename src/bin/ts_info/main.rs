//! `ts_info FILE.ts|-`: shows the contents and the errors of a transport stream (ISO/IEC 13818-1).
//!
//! It shares no code with the muxer of the server, so that both cannot have the same fault. It reads block by block: the length
//! of a file does not matter.

mod demux;
mod report;
mod stream;

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use structopt::StructOpt;
use structopt::clap::Shell;

use demux::Demuxer;
use stream::PACKET;

/// Size of a read, in bytes.
const BLOCK: usize = 64 * 1024;

/// Bytes without any packet after which reading stops.
const MAX_GARBAGE: u64 = 1024 * 1024;

/// Examples at the end of the help text.
const AFTER_HELP: &str = "\
EXAMPLES:
    ts_info objs/nginx/html/live/livestream-1.ts                    Check a segment
    curl -s http://127.0.0.1:8080/live/livestream-1.ts | ts_info -  Check a segment from standard input
    ts_info --json segment.ts                                       The same as JSON, times in 1/90000 s

The exit status is 0 if the stream has no errors, else 1.";

/// Shows tables, streams, frames, clock references and continuity errors of an MPEG transport stream
#[derive(StructOpt)]
#[structopt(name = "ts_info", after_help = AFTER_HELP)]
struct Options {
    /// Prints one line of JSON instead of text
    #[structopt(long)]
    json: bool,
    /// Prints a script that completes the command line, and exits
    #[structopt(long, value_name = "SHELL", possible_values = &Shell::variants())]
    completions: Option<Shell>,
    /// File to read; - for standard input
    #[structopt(name = "FILE", required_unless = "completions")]
    file: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::from_args();
    if let Some(shell) = options.completions {
        Options::clap().gen_completions_to("ts_info", shell, &mut io::stdout().lock());
        return ExitCode::SUCCESS;
    }
    // Required without "completions".
    let file = options.file.unwrap_or_default();
    let read = if file == "-" { read(io::stdin().lock()) } else { File::open(&file).and_then(read) };
    let demuxer = match read {
        Ok(demuxer) => demuxer,
        Err(error) => {
            eprintln!("ts_info: {file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let text = if options.json { demuxer.json() } else { demuxer.text() };
    // The reader may have closed the pipe.
    let _ = io::stdout().write_all(text.as_bytes());
    if demuxer.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads a stream to its end. Fails when it cannot be read, or is not a transport stream.
fn read(mut input: impl Read) -> io::Result<Demuxer> {
    let mut demuxer = Demuxer::default();
    let mut buffer = Vec::with_capacity(BLOCK + 2 * PACKET);
    loop {
        let before = buffer.len();
        (&mut input).take(BLOCK as u64).read_to_end(&mut buffer)?;
        let is_end = buffer.len() - before < BLOCK;
        let used = demuxer.feed(&buffer, is_end);
        buffer.drain(..used);
        let is_garbage = demuxer.packets() == 0 && (is_end || demuxer.skipped() > MAX_GARBAGE);
        if is_garbage {
            let why = "not a transport stream: no packets of 188 bytes that begin with 0x47";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if is_end {
            return Ok(demuxer);
        }
    }
}
