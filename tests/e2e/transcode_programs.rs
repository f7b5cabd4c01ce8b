//! Transcoding by programs that misbehave, most of them scripts in the place of ffmpeg, and with disks that are full.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::align::Aligned;
use crate::api::curl;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Settings, binary};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;
use crate::transcode::{LIMIT, Transcoding, copy, publish_for_ever};
use crate::transcode_trouble::{OUTPUT, is_gone};

/// Reports progress as ffmpeg does.
const PROGRESS: &str = "n=0
while :; do
    n=$((n + 1))
    printf 'frame=%d\\nout_time_us=%d000000\\nspeed=1x\\nprogress=continue\\n' $n $n
    sleep 0.2
done
";

/// Writes a program that takes the place of ffmpeg, and returns a block of engines that uses it.
fn engines_of(scratch: &Scratch, script: &str) -> String {
    let path = scratch.file("program.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).expect("a script in the scratch folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    format!("transcode {{ enabled on; ffmpeg {}; {} }}", path.display(), copy("x", OUTPUT))
}

/// Returns the value of a metric without labels.
fn metric(transcoding: &Transcoding, name: &str) -> u64 {
    let (status, text) = curl(transcoding.api, "/metrics", &[]);
    assert_eq!(status, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[test]
fn a_program_that_ignores_signals_is_in_nobodys_way() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let vhost = engines_of(&scratch, &format!("trap '' INT TERM\n{PROGRESS}"));
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let url = transcoding.server.url("cam");
    let mut first = publish_for_ever(&scratch, "first", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let stubborn = transcoding.wait_running("engine x", 0);
    first.interrupt();
    first.wait(CLIENT_TIMEOUT);
    transcoding.server.wait_log(&["publish stopped", "live/cam"], LIMIT);
    assert!(!is_gone(stubborn), "it was asked to end, and ignores that");
    let _second = publish_for_ever(&scratch, "second", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let next = transcoding.wait_running("engine x", stubborn);
    assert!(is_gone(stubborn));
    assert!(transcoding.server.log_line(&["publish refused"]).is_none());
    assert!(metric(&transcoding, "srs_transcode_killed_total") >= 1);
    assert!(metric(&transcoding, "srs_transcode_frames_total") >= 2);
    // Neither does it keep the server from ending.
    transcoding.server.process().signal(Signal::SIGTERM);
    transcoding.server.process().wait_success(CLIENT_TIMEOUT);
    assert!(is_gone(next));
}

#[test]
fn a_program_that_floods_its_log_fills_no_disk_and_delays_no_player() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let vhost = engines_of(&scratch, &format!("yes 'the same line again and again' >&2 &\n{PROGRESS}"));
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    let url = transcoding.server.url("cam");
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    transcoding.server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    let log = scratch.file("logs/ffmpeg-encoder-__defaultVhost__-live-cam-x.log");
    eventually("the log says that it is not complete", LIMIT, || {
        std::fs::read_to_string(&log).ok().filter(|text| text.contains("bytes are left out"))
    });
    publisher.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    transcoding.wait_no_process();
    let sizes = |folder: &Path| -> u64 {
        let files = std::fs::read_dir(folder).expect("a folder").flatten();
        files.map(|file| file.metadata().expect("a file").len()).sum()
    };
    assert!(sizes(&scratch.file("logs")) <= 2_100_000);
    transcoding.server.assert_healthy();
}

#[test]
fn a_full_disk_costs_logs_and_files_but_no_stream() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    for (folder, name) in [("logs", "ffmpeg-encoder-__defaultVhost__-live-cam-x.log"), ("files", "cam.ts")] {
        std::fs::create_dir(scratch.file(folder)).expect("a folder in the scratch folder");
        symlink("/dev/full", scratch.file(folder).join(name)).expect("a link in the scratch folder");
    }
    let file = "engine file { enabled on; vcodec copy; acodec copy; oformat mpegts; output files/[stream].ts; }";
    let vhost = format!("transcode {{ enabled on; {} {file} }}", copy("x", OUTPUT));
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let url = transcoding.server.url("cam");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let x = transcoding.wait_running("engine x", 0);
    transcoding.server.wait_log(&["log of a process not written", "No space left on device"], LIMIT);
    transcoding.server.wait_log(&["process failed, started again", "engine file", "No space left on device"], LIMIT);
    eventually("the stream goes on", LIMIT, || (transcoding.live(50) == ["cam", "cam_x"]).then_some(()));
    assert_eq!(transcoding.running("engine x"), Some(x));
    transcoding.server.assert_healthy();
}

#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    let (ffmpeg, python) = (need!(ffmpeg), need!(python));
    let scratch = Scratch::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("trunk-scripts/transcode-churn.py");
    let mut command = Command::new(python);
    command.arg(script).args(["5", "6", "1"]).env("TRANSCODE_CHURN_SERVER", binary()).env("TMPDIR", scratch.folder());
    command.env("PATH", path_with(&ffmpeg));
    let mut churn = Process::spawn(&scratch, "churn", command);
    churn.wait_success(Duration::from_secs(150));
    let said = churn.log();
    assert!(said.contains("kill -9 of the server") && said.ends_with("ok\n"), "{said}");
}

/// Returns the search path with the directory of a program in front.
fn path_with(program: &Path) -> std::ffi::OsString {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let all = program.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&paths));
    std::env::join_paths(all).expect("paths of this machine")
}
