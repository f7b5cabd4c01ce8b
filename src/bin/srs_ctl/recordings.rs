//! Recordings: their start and end, their list, and their files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::{Api, encode};
use crate::failure::Failure;
use crate::output::{Table, bytes, date, duration, escape_controls, number, print_line, show, text};

/// Starts or ends the recording of a stream.
pub(crate) fn record(api: &Api, stream: &str, stop: bool, as_json: bool) -> Result<(), Failure> {
    let path = format!("/api/v1/streams/{}/record", encode(stream));
    let answer = if stop { api.delete(&path)? } else { api.post(&path)? };
    show(&answer, as_json, |answer| {
        let state = if stop { "recording stopped" } else { "recording" };
        let before = if answer["changed"] == true { "" } else { ", as before" };
        Ok(print_line(&format!("{}: {state}{before}", text(&answer["stream"])))?)
    })
}

/// Prints a list of recordings.
pub(crate) fn print(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&["ID", "STATE", "STREAM", "STARTED", ">LENGTH", ">SIZE", "FILE"]);
    for recording in all {
        let length = recording["duration_ms"].as_f64().map(|ms| duration(ms / 1000.0));
        let stream = format!("{}/{}", text(&recording["app"]), text(&recording["stream"]));
        table.push(vec![
            text(&recording["id"]),
            text(&recording["state"]),
            match recording["vhost"].as_str() {
                Some(vhost) if vhost != "__defaultVhost__" => format!("{vhost}/{stream}"),
                _ => stream,
            },
            date(number(&recording["started_ms"])),
            length.unwrap_or_default(),
            bytes(number(&recording["bytes"])),
            text(&recording["path"]),
        ]);
    }
    Ok(table.print("no recordings")?)
}

/// Writes the file of a recording. An existing file is not overwritten.
pub(crate) fn download(api: &Api, id: &str, output: Option<&Path>) -> Result<(), Failure> {
    let url = format!("/api/v1/recordings/{}", encode(id));
    let recording = api.get(&url)?["recording"].take();
    let output = match output {
        Some(output) => output.to_owned(),
        // Only the last part of the name, which has no directories.
        None => Path::new(recording["path"].as_str().unwrap_or_default())
            .file_name()
            .map(PathBuf::from)
            .ok_or_else(|| Failure::Refused("the recording has no name".to_owned()))?,
    };
    let failure = |error: io::Error| Failure::Refused(format!("cannot write {}: {error}", output.display()));
    let mut body = api.stream(&format!("{url}/file"))?.into_reader();
    let mut file = File::create_new(&output).map_err(failure)?;
    let (copied, expected) = (io::copy(&mut body, &mut file), number(&recording["bytes"]));
    match copied {
        Ok(count) if count == expected => {
            Ok(print_line(&escape_controls(&format!("{}: {}", output.display(), bytes(count))))?)
        }
        incomplete => {
            drop(file);
            let _ = fs::remove_file(&output);
            Err(incomplete.map_or_else(failure, |count| {
                Failure::Unreachable(format!("the download ended after {count} of {expected} bytes"))
            }))
        }
    }
}
