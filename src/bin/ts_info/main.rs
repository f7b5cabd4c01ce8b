//! `ts_info FILE.ts|-`: what is in a transport stream (ISO/IEC 13818-1), and what is wrong with it.
//!
//! It shares nothing with the muxer of the server, so that both cannot be wrong in the same way, and it reads piece by piece: how
//! long a file is does not matter.

mod demux;
mod report;
mod stream;

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use structopt::StructOpt;

use demux::{Demuxer, PACKET};

/// What is read at a time.
const PIECE: usize = 64 * 1024;

/// Where so much holds no packet, nothing will.
const MAX_GARBAGE: u64 = 1024 * 1024;

/// Shows what is in a transport stream: tables, streams, frames, clock references, continuity. The exit status is 0 when nothing
/// is wrong with it, else 1.
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
    let read = if options.file == "-" { read(io::stdin().lock()) } else { File::open(&options.file).and_then(read) };
    let demuxer = match read {
        Ok(demuxer) => demuxer,
        Err(error) => {
            eprintln!("ts_info: {}: {error}", options.file);
            return ExitCode::FAILURE;
        }
    };
    let text = if options.json { demuxer.json() } else { demuxer.text() };
    // Whoever reads may have had enough.
    let _ = io::stdout().write_all(text.as_bytes());
    if demuxer.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes everything that there is to read.
///
/// # Errors
/// When it cannot be read, or is no transport stream.
fn read(mut input: impl Read) -> io::Result<Demuxer> {
    let mut demuxer = Demuxer::default();
    let mut buffer = Vec::with_capacity(PIECE + 2 * PACKET);
    loop {
        let before = buffer.len();
        (&mut input).take(PIECE as u64).read_to_end(&mut buffer)?;
        let is_end = buffer.len() - before < PIECE;
        let used = demuxer.feed(&buffer, is_end);
        buffer.drain(..used);
        let is_garbage = demuxer.packets() == 0 && (is_end || demuxer.skipped() > MAX_GARBAGE);
        if is_garbage {
            let why = "this is no transport stream: there are no packets of 188 bytes that begin with 0x47";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if is_end {
            return Ok(demuxer);
        }
    }
}
