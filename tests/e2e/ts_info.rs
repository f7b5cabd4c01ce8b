//! `ts_info` compared with ffprobe, on segments of the server and of ffmpeg, and on other input.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::tools::need;

const PACKET: usize = 188;

/// Runs `ts_info` with this standard input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ts_info"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ts_info can be started");
    // ts_info may end before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("a child of ours can be waited for")
}

/// Returns the report on these bytes, and true if they are valid.
pub(crate) fn report(bytes: &[u8]) -> (String, bool) {
    let output = run(&["--json", "-"], bytes);
    (String::from_utf8(output.stdout).expect("text"), output.status.success())
}

/// Returns each number with this name in a JSON text.
fn numbers(json: &str, name: &str) -> Vec<u64> {
    let name = format!("\"{name}\":");
    let number = |rest: &str| rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok();
    json.split(&name).skip(1).map(|rest| number(rest).unwrap_or_else(|| panic!("{name} in {json}"))).collect()
}

/// Returns PID, first pts and number of packets of each stream, by ffprobe.
fn ffprobe_streams(file: &Path) -> Vec<(u64, u64, u64)> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-show_entries", "stream=id,start_pts,nb_read_packets"])
        .args(["-of", "compact=p=0:nk=1"])
        .arg(file)
        .output()
        .expect("ffprobe can be started");
    let text = String::from_utf8(output.stdout).expect("text");
    let stream = |line: &str| {
        let fields: Vec<_> = line.split('|').collect();
        let [id, pts, packets] = fields[..] else { return None };
        let id = u64::from_str_radix(id.strip_prefix("0x")?, 16).ok()?;
        Some((id, pts.parse().ok()?, packets.parse().ok()?))
    };
    let streams = text.lines().filter(|line| !line.is_empty());
    let mut streams: Vec<_> = streams.map(|line| stream(line).unwrap_or_else(|| panic!("{text}"))).collect();
    // ffprobe may list the streams of a program twice.
    streams.sort_unstable();
    streams.dedup();
    streams
}

fn assert_agrees(file: &Path) {
    let (json, is_sound) = report(&std::fs::read(file).unwrap());
    assert!(is_sound, "{}: {json}", file.display());
    let (pids, first, frames) = (numbers(&json, "pid"), numbers(&json, "first_pts"), numbers(&json, "frames"));
    let streams: Vec<_> =
        pids.into_iter().zip(first).zip(frames).map(|((pid, pts), frames)| (pid, pts, frames)).collect();
    assert_eq!(streams, ffprobe_streams(file), "pid, first pts, frames of {}", file.display());
    assert_eq!(streams.len(), 2);
}

#[test]
fn it_agrees_with_ffprobe_and_finds_what_is_broken() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let vhost = format!("hls {{ enabled on; hls_path {}; hls_fragment 1; }}", folder.display());
    let mut server = Server::with(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("s"), &[]).wait_success(CLIENT_TIMEOUT);
    let own = folder.join("live/s-2.ts");
    eventually("a segment", CLIENT_TIMEOUT, || own.exists().then_some(()));
    assert_agrees(&own);
    server.assert_healthy();

    let theirs = scratch.file("theirs.ts");
    let mut remux = Command::new(&ffmpeg);
    remux.args(["-nostdin", "-v", "error", "-i"]).arg(&source.path).args(["-c", "copy"]).arg(&theirs);
    assert!(remux.status().expect("ffmpeg can be started").success());
    assert_agrees(&theirs);

    let whole = std::fs::read(&own).unwrap();
    // Continuity errors of all streams, bytes between packets, and validity.
    let seen = |bytes: &[u8]| {
        let (json, is_sound) = report(bytes);
        (numbers(&json, "continuity_errors")[0], numbers(&json, "skipped_bytes")[0], is_sound)
    };
    let at = 20 * PACKET;
    assert_eq!(seen(&[&whole[..at], &whole[at + PACKET..]].concat()), (1, 0, false), "a packet is missing");
    assert_eq!(seen(&[&whole[..at], &whole[at + 1..]].concat()), (1, 187, false), "a byte is missing");
    assert_eq!(seen(&whole[..whole.len() - 1]), (0, 187, false), "the end is missing");
    let mut changed = whole.clone();
    changed[PACKET + 10] ^= 1;
    assert!(report(&changed).0.contains("\"broken_tables\":1"), "a changed bit in a table");

    let text = run(&[own.to_str().unwrap()], b"");
    let text = (text.status.success(), String::from_utf8(text.stdout).unwrap());
    assert!(
        text.0 && ["H.264", "AAC", "0 continuity errors", "ADTS frames"].iter().all(|word| text.1.contains(word)),
        "{text:?}"
    );
}

#[test]
fn what_is_no_transport_stream_is_said_to_be_none() {
    let scratch = Scratch::new();
    let fails = |arguments: &[&str], input: &[u8], why: &str| {
        let output = run(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{said}");
        assert!(said.starts_with("ts_info: ") && said.contains(why), "{said}");
    };
    let none = "not a transport stream";
    fails(&["-"], b"", none);
    fails(&["-"], b"FLV\x01\x05", none);
    fails(&["-"], &[0x47; 187], none);
    fails(&[scratch.file("absent.ts").to_str().unwrap()], b"", "No such file");
    fails(&[scratch.folder().to_str().unwrap()], b"", "directory");
    // ts_info must not wait for the end of endless input, nor keep it in memory: 200 MB of address space are enough.
    let script = "ulimit -v 200000; exec \"$0\" - < /dev/zero";
    let output = Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_ts_info")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(none), "{said}");
}
