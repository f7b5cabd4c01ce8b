//! Transcoding when something fails: programs that are killed or stuck, encoders that are not there, the server killed, sources
//! that come back or change, reloads, and the end.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::flv::{self, DATA, Tag};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Settings, binary};
use crate::common::wire::Wire;
use crate::media;
use crate::players::CLIENT_TIMEOUT;
use crate::reload::ReloadableServer;
use crate::tools::need;
use crate::transcode::{LIMIT, Transcoding, children_of, copy, publish_for_ever};

fn send(pid: i64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("a signal to a process of ours");
}

pub(crate) fn is_gone(pid: i64) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

pub(crate) const OUTPUT: &str = "rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]";

#[test]
fn a_program_that_is_killed_or_stuck_is_replaced_and_no_descriptor_leaks() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let vhost = format!(
        // On a busy machine, ffmpeg takes some seconds to its first output.
        "transcode {{ enabled on; stall_timeout 12; nice 7; max_cpus 1; max_process_memory 3g; {} }}",
        copy("x", OUTPUT)
    );
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let url = transcoding.server.url("cam");
    let mut publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let first = transcoding.wait_running("engine x", 0);
    let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).expect("a process");
    let fields: Vec<_> = stat.rsplit_once(") ").expect("a stat").1.split(' ').collect();
    assert_eq!((fields[2], fields[16]), (first.to_string().as_str(), "7"), "its own group, and nice: {stat}");
    let limits = std::fs::read_to_string(format!("/proc/{first}/limits")).expect("a process");
    let memory = limits.lines().find(|line| line.starts_with("Max address space")).expect("a limit");
    assert!(memory.contains(&(3u64 << 30).to_string()), "{memory}");
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("a process");
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("processors");
    assert!(cpus.trim().parse::<u32>().is_ok(), "one processor: {cpus}");
    let sockets = |pid: i64| -> HashSet<String> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").flatten();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
    };
    let common = |pid: i64| sockets(pid).intersection(&sockets(transcoding.server.pid().into())).count();
    assert_eq!((common(first), sockets(first).len()), (0, 2), "its own connections, and none of the server");

    send(first, Signal::SIGKILL);
    transcoding.server.wait_log(&["process failed, started again", "signal 9"], LIMIT);
    let second = transcoding.wait_running("engine x", first);
    assert!(is_gone(first), "it was reaped");

    send(second, Signal::SIGSTOP);
    transcoding.server.wait_log(&["process ended by the server", "no output for stall_timeout"], LIMIT);
    let third = transcoding.wait_running("engine x", second);
    assert!(is_gone(second));

    // A publisher that is lost and comes back keeps its program.
    publisher.kill();
    transcoding.server.wait_log(&["publish stopped", "live/cam"], LIMIT);
    let mut publisher = publish_for_ever(&scratch, "back", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let frames = |transcoding: &Transcoding| {
        transcoding.stream("cam_x").and_then(|stream| stream["frames"].as_i64()).unwrap_or(0)
    };
    let before = frames(&transcoding);
    eventually("it goes on", LIMIT, || (frames(&transcoding) > before + 25).then_some(()));
    assert_eq!(transcoding.running("engine x"), Some(third));

    // One that ends and begins anew gets a new one.
    publisher.interrupt();
    publisher.wait(CLIENT_TIMEOUT);
    let _publisher = publish_for_ever(&scratch, "anew", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let fourth = transcoding.wait_running("engine x", third);

    let server = transcoding.server.pid();
    transcoding.server.process().kill();
    eventually("it ends with the server", LIMIT, || is_gone(fourth).then_some(()));
    assert!(children_of(server).is_empty());
}

#[test]
fn what_is_missing_is_said_and_tried_again_with_pauses() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    // A file where the directory of the logs is to be.
    std::fs::write(scratch.file("logs"), "").expect("a file");
    let vhost = format!(
        "transcode a {{ enabled on; {} }}\n\
         transcode live {{ enabled on; engine bad {{ enabled on; vcodec none_such; acodec copy; output {OUTPUT}; }} {} }}\n\
         transcode {{ enabled on; ffmpeg /nowhere/ffmpeg; {} }}",
        copy("other", OUTPUT),
        copy("good", OUTPUT),
        copy("lost", OUTPUT),
    );
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let output = Command::new(binary())
        .args(["-t", "-c"])
        .arg(scratch.file("srs.conf"))
        .current_dir(scratch.folder())
        .output()
        .expect("the server's program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("engine \"bad\" in transcode live") && said.contains("no encoder \"none_such\""), "{said}");
    assert!(said.contains("ffmpeg /nowhere/ffmpeg cannot be used"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");

    let url = transcoding.server.url("cam");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    transcoding.server.wait_log(&["process failed", "engine bad", "Unknown encoder 'none_such'", "retry_ms="], LIMIT);
    transcoding.server.wait_log(&["process failed", "engine lost", "cannot execute /nowhere/ffmpeg"], LIMIT);
    transcoding.server.wait_log(&["log of a process not written", "logs"], LIMIT);
    transcoding.wait_running("good", 0);
    let bad =
        || transcoding.processes().into_iter().find(|process| process["process"] == "engine bad of live").expect("it");
    eventually("it is tried again", LIMIT, || bad()["starts"].as_i64().filter(|starts| *starts >= 2));
    assert!(bad()["last_error"].as_str().is_some_and(|error| error.contains("none_such")), "{}", bad());
    assert_eq!(bad()["last_exit"], "exit status 1");
    let lines = bad()["last_lines"].as_array().expect("lines").clone();
    assert!(lines.iter().any(|line| line.as_str().is_some_and(|line| line.contains("none_such"))), "{lines:?}");
    assert_eq!(transcoding.live(0), ["cam", "cam_good"]);
    transcoding.server.assert_healthy();
}

/// A publisher that sends the first of two lists of tags again and again, and the second one from when it is told to.
struct Changing {
    is_due: Arc<[AtomicBool; 2]>,
    thread: JoinHandle<()>,
}

impl Changing {
    fn start(mut publisher: Wire, lists: [Vec<Tag>; 2]) -> Changing {
        let is_due = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let until = is_due.clone();
        let thread = std::thread::spawn(move || {
            let (start, mut base) = (Instant::now(), 0);
            for (tags, until) in lists.iter().zip(&*until) {
                let length = tags.iter().map(|tag| tag.timestamp).max().expect("tags") + 40;
                'list: loop {
                    for tag in tags {
                        let timestamp = base + tag.timestamp;
                        if tag.is_keyframe() && until.load(Ordering::Relaxed) {
                            base = timestamp;
                            break 'list;
                        }
                        let due = start + Duration::from_millis(timestamp.into());
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        publisher.send_tag(&Tag { timestamp, ..tag.clone() });
                    }
                    base += length;
                }
            }
        });
        Changing { is_due, thread }
    }

    /// Sends the second list from its first keyframe on.
    fn change(&self) {
        self.is_due[0].store(true, Ordering::Relaxed);
    }

    /// Closes the connection.
    fn end(self) {
        self.change();
        self.is_due[1].store(true, Ordering::Relaxed);
        self.thread.join().expect("it sends to the end");
    }
}

#[test]
fn a_source_that_changes_size_and_codecs_gets_new_programs() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let vhost = format!(
        "ladder {{ enabled on; heights 180p 90p; vpreset ultrafast; }}
        transcode {{ enabled on; engine y {{ enabled on; vcodec vn; acodec copy; output {OUTPUT}; }} }}"
    );
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let url = transcoding.server.url("cam");
    // One publication that becomes smaller.
    let small = scratch.file("small.flv");
    let source = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=15", "-f", "lavfi", "-i", "anoisesrc=amplitude=0.1"];
    let codecs =
        ["-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "10"];
    let mut encoder = Command::new(&ffmpeg);
    encoder.args(["-nostdin", "-loglevel", "error"]).args(source).args(codecs).arg(&small);
    assert!(encoder.status().expect("ffmpeg can be started").success());
    let media = |tags: &[Tag]| {
        tags.iter().filter(|tag| tag.kind != DATA && (tag.is_frame() || tag.is_header())).cloned().collect::<Vec<_>>()
    };
    let lists = [media(&media::h264_aac(&ffmpeg).tags), media(&flv::read(&small))];
    let changing = Changing::start(Wire::publisher(transcoding.server.port, "cam"), lists);
    let first = transcoding.wait_running("ladder", 0);
    eventually("both renditions", LIMIT, || {
        let live = transcoding.live(5);
        ["cam", "cam_180p", "cam_90p"].iter().all(|name| live.iter().any(|other| other == name)).then_some(())
    });
    changing.change();
    transcoding.wait_running("ladder", first);
    eventually("one rendition is left", LIMIT, || {
        let stream = transcoding.stream("cam_90p")?;
        let is_small = stream["video"]["width"] == 120 && stream["publish"]["active"] == true;
        (is_small && !transcoding.live(0).contains(&"cam_180p".to_owned())).then_some(())
    });
    // Another encoder takes the place of the publisher, with MP3 instead of AAC.
    let y = transcoding.wait_running("engine y", 0);
    changing.end();
    let _other = publish_for_ever(&scratch, "other", &ffmpeg, media::vp6_mp3(&ffmpeg), &url);
    transcoding.wait_running("engine y", y);
    eventually("the codec is the new one", LIMIT, || {
        transcoding.stream("cam_y").filter(|stream| stream["audio"]["codec"] == "MP3")
    });
    transcoding.server.assert_healthy();
}

#[test]
fn a_reload_adds_changes_and_removes_single_engines() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let config = |engines: &str| format!("vhost __defaultVhost__ {{ transcode {{ enabled on; {engines} }} }}");
    let engine = |name: &str, rate: u32| {
        format!(
            "engine {name} {{ enabled on; vcodec libx264; vpreset ultrafast; vbitrate {rate}; acodec copy; \
             output rtmp://127.0.0.1:[port]/[app]/[stream]_{name}; }}"
        )
    };
    let mut server = ReloadableServer::start(&scratch, &config(&(engine("a", 50) + &engine("b", 50))));
    let url = server.server.url("cam");
    let mut publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let started = |server: &ReloadableServer, name: &str| {
        let log = server.server.log();
        let name = format!("process=\"engine {name}\"");
        let lines = log.lines().filter(|line| line.contains("process started") && line.contains(&name));
        lines.filter_map(|line| line.rsplit_once("pid=")?.1.parse::<i64>().ok()).collect::<Vec<_>>()
    };
    let wait_started = |server: &ReloadableServer, name: &str, count: usize| {
        eventually(&format!("{name} was started {count} times"), LIMIT, || {
            Some(started(server, name)).filter(|pids| pids.len() == count)
        })
    };
    let (a, b) = (wait_started(&server, "a", 1)[0], wait_started(&server, "b", 1)[0]);
    server.reload(&config(&(engine("a", 50) + &engine("b", 60) + &engine("c", 50))));
    wait_started(&server, "b", 2);
    let c = wait_started(&server, "c", 1)[0];
    eventually("the old one has ended", LIMIT, || is_gone(b).then_some(()));
    assert!(!is_gone(a));
    server.reload(&config(&engine("a", 50)));
    eventually("the others have ended", LIMIT, || (children_of(server.server.pid()).len() == 1).then_some(()));
    assert!(is_gone(c) && !is_gone(a));
    server.reload("vhost __defaultVhost__ { }");
    eventually("all have ended", LIMIT, || children_of(server.server.pid()).is_empty().then_some(()));
    server.reload(&config(&engine("d", 50)));
    let d = wait_started(&server, "d", 1)[0];
    assert!(publisher.ended().is_none(), "the publisher does not notice");
    server.server.assert_healthy();
    // The server ends what runs before it ends itself.
    server.server.process().signal(Signal::SIGTERM);
    server.server.process().wait_success(CLIENT_TIMEOUT);
    assert!(is_gone(d));
}

#[test]
fn programs_wait_for_a_place() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let engines: String = ["a", "b", "c"].iter().map(|name| copy(name, OUTPUT)).collect();
    let vhost = format!("transcode {{ enabled on; {engines} }}");
    let settings = Settings { root: "max_processes 2;", vhost: &vhost, ..Settings::default() };
    let mut transcoding = Transcoding::start(&scratch, settings);
    let url = transcoding.server.url("cam");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let states = || -> Vec<String> {
        transcoding.processes().iter().map(|process| process["state"].as_str().expect("a state").to_owned()).collect()
    };
    eventually("two run and one waits", LIMIT, || (states() == ["running", "running", "queued"]).then_some(()));
    assert_eq!(children_of(transcoding.server.pid()).len(), 2);
    send(transcoding.wait_running("engine a", 0), Signal::SIGKILL);
    eventually("the one that waited runs", LIMIT, || transcoding.running("engine c"));
    assert_eq!(children_of(transcoding.server.pid()).len(), 2);
    transcoding.server.assert_healthy();
}
