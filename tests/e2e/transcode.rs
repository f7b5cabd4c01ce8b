//! Transcoding with real ffmpeg: engines, a ladder, commands, loops, reload, and what others see of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::align::Aligned;
use crate::api::curl;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Time for programs to start and to deliver, on a machine with other work.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A server with an API.
pub(crate) struct Transcoding {
    pub(crate) server: Server,
    pub(crate) api: u16,
    #[cfg_attr(not(feature = "hls"), allow(dead_code, reason = "read by the tests of HLS"))]
    pub(crate) http: u16,
}

impl Transcoding {
    /// Starts a server. `PORT2` in the configuration is its second RTMP port.
    pub(crate) fn start(scratch: &Scratch, settings: Settings<'_>) -> Transcoding {
        for _ in 0..5 {
            let [port, second, api, http] = [(); 4].map(|()| free_port());
            let text = |text: &str| text.replace("PORT2", &second.to_string());
            let root = format!(
                "listen 127.0.0.1:{second};\nff_log_dir logs;\nhttp_api {{ enabled on; listen 127.0.0.1:{api}; }}\n\
                 http_server {{ enabled on; listen 127.0.0.1:{http}; dir html; }}\n{}",
                text(settings.root)
            );
            let (vhost, vhosts) = (text(settings.vhost), text(settings.vhosts));
            let settings = Settings { root: &root, vhost: &vhost, vhosts: &vhosts };
            let configuration = write_configuration(scratch, port, settings);
            if let Some(server) = Server::run(scratch, port, &configuration) {
                eventually("the API listens", LIMIT, || (listens(api) && listens(http)).then_some(()));
                return Transcoding { server, api, http };
            }
        }
        panic!("five ports in a row were taken");
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = curl(self.api, path, &[]);
        assert_eq!(status, 200, "{path}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn list(&self, name: &str) -> Vec<Value> {
        self.get(&format!("/api/v1/{name}?count=100"))[name].as_array().expect("a list").clone()
    }

    /// Returns the programs.
    pub(crate) fn processes(&self) -> Vec<Value> {
        self.list("processes")
    }

    /// Returns the process id of a running program whose name contains `word`.
    pub(crate) fn running(&self, word: &str) -> Option<i64> {
        let processes = self.processes();
        let process =
            processes.iter().find(|process| process["process"].as_str().is_some_and(|name| name.contains(word)));
        process.filter(|process| process["state"] == "running").and_then(|process| process["pid"].as_i64())
    }

    /// Waits until a program runs that has another process id than `old`, and has encoded something.
    pub(crate) fn wait_running(&self, word: &str, old: i64) -> i64 {
        let what = format!("{word} runs, and not as {old}: {:?}", self.processes());
        eventually(&what, LIMIT, || {
            let has_output = |process: &&Value| process["out_ms"].as_i64().is_some_and(|ms| ms > 0);
            let pid = self.running(word).filter(|pid| *pid != old)?;
            self.processes().iter().find(|process| process["pid"] == pid).filter(has_output).map(|_| pid)
        })
    }

    /// Returns the names of the live streams that have some frames, sorted.
    pub(crate) fn live(&self, frames: i64) -> Vec<String> {
        let streams = self.list("streams");
        let is_live =
            |stream: &&Value| stream["publish"]["active"] == true && stream["frames"].as_i64() >= Some(frames);
        let name = |stream: &Value| stream["name"].as_str().expect("a name").to_owned();
        let mut names: Vec<_> = streams.iter().filter(is_live).map(name).collect();
        names.sort();
        names
    }

    /// Returns the stream of a name.
    pub(crate) fn stream(&self, name: &str) -> Option<Value> {
        self.list("streams").into_iter().find(|stream| stream["name"] == name)
    }

    /// Waits until nothing runs any more: no program in the API, and no child of the server.
    pub(crate) fn wait_no_process(&self) {
        let children = || children_of(self.server.pid());
        let what = format!("nothing runs: {:?}, children {:?}", self.processes(), children());
        eventually(&what, LIMIT, || (self.processes().is_empty() && children().is_empty()).then_some(()));
    }
}

/// Returns the process ids of the children of a process, those that nobody has reaped included.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parent_of == Some(parent)
    };
    ids.filter(is_child).collect()
}

/// Publishes a file again and again.
pub(crate) fn publish_for_ever(scratch: &Scratch, name: &str, ffmpeg: &Path, source: &Source, url: &str) -> Process {
    let input = source.path.to_str().expect("a path of ours");
    let arguments =
        ["-nostdin", "-hide_banner", "-re", "-stream_loop", "-1", "-i", input, "-c", "copy", "-f", "flv", url];
    Process::start(scratch, name, ffmpeg, arguments)
}

/// Returns an engine that keeps codecs, which costs next to nothing.
pub(crate) fn copy(name: &str, output: &str) -> String {
    format!("engine {name} {{ enabled on; vcodec copy; acodec copy; output {output}; }}\n")
}

#[test]
fn engines_and_a_ladder_run_and_the_source_stays_exact() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let vhost = "transcode live {
            enabled on;
            engine low {
                enabled on;
                vcodec libx264; vbitrate 100; vfps 12.5; vwidth 161; vheight 90; vpreset ultrafast; vprofile baseline;
                vparams { g 12; } acodec aac; abitrate 32; asample_rate 22050; achannels 1;
                output rtmp://127.0.0.1:[port]/[app]?vhost=[vhost]/[stream]_[engine];
            }
            engine sound {
                enabled on; vcodec vn; acodec aac; abitrate 48;
                output rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost];
            }
            engine picture {
                enabled on; vfilter { vf fps=2; } vcodec mjpeg; acodec an; oformat image2; vparams { update 1; }
                output html/[app]/[stream].jpg;
            }
        }
        transcode other { enabled on; engine never { enabled on; vcodec copy; acodec copy; output rtmp://127.0.0.1/x/y; } }
        ladder { enabled on; heights 720p 180p 90p; vpreset ultrafast; keyframe_interval 1; }";
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost, ..Settings::default() });
    let source = media::longest_h264_aac(&ffmpeg);
    let url = transcoding.server.url("cam");
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    let renditions = ["cam_180p", "cam_90p"]
        .map(|name| Player::ffmpeg(&scratch, name, &ffmpeg, &transcoding.server.url(name), MediaKinds::Both));
    transcoding.server.wait_players(3);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);

    eventually("all renditions are live", LIMIT, || {
        let due = ["cam", "cam_180p", "cam_90p", "cam_low"];
        (transcoding.live(10) == due && transcoding.live(0).contains(&"cam_sound".to_owned())).then_some(())
    });
    let size = |name: &str| {
        let stream = transcoding.stream(name).expect("a stream");
        (stream["video"]["width"].as_i64(), stream["video"]["height"].as_i64())
    };
    assert_eq!(size("cam_low"), (Some(160), Some(90)), "an odd width is made even");
    assert_eq!(size("cam_180p"), (Some(320), Some(180)));
    assert_eq!(size("cam_90p"), (Some(160), Some(90)));
    let cam = transcoding.stream("cam").expect("the source");
    assert_eq!((&cam["players"], &cam["clients"]), (&Value::from(1), &Value::from(2)), "engines are no viewers");
    let names: Vec<_> = transcoding.processes().iter().map(|process| process["process"].clone()).collect();
    assert_eq!(names, ["engine low of live", "engine picture of live", "engine sound of live", "ladder"]);
    transcoding.wait_running("low", 0);
    let field = |process: &str, field: &str| {
        let processes = transcoding.processes();
        processes.iter().find(|other| other["process"] == process).expect("a process")[field].clone()
    };
    let outputs = ["__defaultVhost__/live/cam_180p", "__defaultVhost__/live/cam_90p"];
    assert_eq!(field("ladder", "outputs"), Value::from(outputs.to_vec()));
    assert_eq!(field("engine picture of live", "picture"), "/live/cam.jpg");
    assert_eq!(field("engine low of live", "picture"), Value::Null);
    publisher.wait_success(LIMIT);

    let received = player.finish(&source.tags);
    Aligned::new(&source.tags, &received).assert_whole();
    transcoding.wait_no_process();
    let jpeg = std::fs::read(scratch.file("html/live/cam.jpg")).expect("a picture");
    assert!(jpeg.starts_with(b"\xff\xd8"));

    let times = renditions.map(|rendition| keyframe_times(&rendition.finish(&[])));
    let count = times[0].len().min(times[1].len());
    // On a slow machine the programs begin late.
    assert!(count >= 2, "{times:?}");
    assert_eq!(times[0][..count], times[1][..count], "keyframes are aligned");
    let log = transcoding.server.log();
    assert!(!log.contains("srs_engine"), "no line shows a token");
    transcoding.server.assert_healthy();
}

fn keyframe_times(tags: &[Tag]) -> Vec<u32> {
    tags.iter()
        .filter(|tag| tag.kind == VIDEO && tag.is_frame() && tag.is_keyframe())
        .map(|tag| tag.timestamp)
        .collect()
}

#[test]
fn no_configuration_makes_a_loop() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let outputs = [
        ("a", "rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost]"),
        ("b", "rtmp://localhost:[port]/[app]?vhost=[vhost]/[stream]_[engine]"),
        ("c", "rtmp://127.0.0.1:PORT2/[app]/[stream]_[engine]"),
        ("d", "rtmp://127.1.2.3:[port]/[app]/[stream]_[engine]?token=x"),
        ("e", "rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=other.com"),
        ("itself", "rtmp://127.0.0.1:[port]/[app]/[stream]"),
    ];
    let engines: String = outputs.iter().map(|(name, output)| copy(name, output)).collect();
    let exec = "exec { enabled on; publish ffmpeg -nostdin -loglevel error -i [url] -c copy -f flv \
                rtmp://127.0.0.1:PORT2/[app]/[stream]_exec; }";
    let vhost = format!("transcode {{ enabled on; {engines} }}\n{exec}");
    let vhosts = format!("vhost other.com {{ {vhost} }}");
    // 127.1.2.3 needs a listener on all addresses.
    let settings = Settings { root: "listen PORT3;", vhost: &vhost, vhosts: &vhosts };
    let third = free_port().to_string();
    let (root, vhost) =
        (settings.root.replace("PORT3", &third), vhost.replace("127.1.2.3:[port]", &format!("127.1.2.3:{third}")));
    let vhosts = vhosts.replace("127.1.2.3:[port]", &format!("127.1.2.3:{third}"));
    let mut transcoding = Transcoding::start(&scratch, Settings { root: &root, vhost: &vhost, vhosts: &vhosts });
    let url = transcoding.server.url("cam");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);

    // Four seconds of each, in which a loop would have begun.
    let due = ["cam", "cam_a", "cam_b", "cam_c", "cam_d", "cam_e", "cam_exec"];
    eventually("all engines publish", LIMIT, || {
        let live = transcoding.live(100);
        assert!(live.iter().all(|name| name.matches('_').count() <= 1), "a loop: {live:?}");
        (live == due).then_some(())
    });
    assert_eq!(transcoding.live(0), due);
    transcoding.server.wait_log(&["transcoding loop", "itself"], LIMIT);
    assert_eq!(transcoding.stream("cam").expect("the source")["players"], 0);
    transcoding.server.assert_healthy();
}

#[test]
fn a_stream_that_is_forwarded_to_the_same_server_is_transcoded_once() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let vhost = format!(
        "transcode live {{ enabled on; {} }}\ntranscode fwd {{ enabled on; {} }}\n\
         forward {{ destination rtmp://127.0.0.1:PORT2/fwd/f_[stream]; }}",
        copy("x", "rtmp://127.0.0.1:[port]/live/[stream]_x"),
        copy("y", "rtmp://127.0.0.1:[port]/live/[stream]_y"),
    );
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let url = transcoding.server.url("cam");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    eventually("what was transcoded is forwarded", LIMIT, || {
        let live = transcoding.live(75);
        let is_there = |name: &str| live.iter().any(|other| other == name);
        assert!(live.iter().all(|name| name.matches("_x").count() + name.matches("_y").count() <= 1), "{live:?}");
        (is_there("cam_x") && is_there("f_cam_x") && is_there("f_cam_y")).then_some(())
    });
    transcoding.server.assert_healthy();
}

#[test]
fn hooks_and_rules_do_not_hinder_engines() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let dead = free_port();
    let vhost = format!(
        "security {{ enabled on; allow publish 127.0.0.1; allow play 192.0.2.1; }}\n\
         http_hooks {{ enabled on; on_play http://127.0.0.1:{dead}/; on_hook_failure deny; hooks_timeout 1; }}\n\
         transcode {{ enabled on; {} }}",
        copy("x", "rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]")
    );
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let url = transcoding.server.url("cam?key=1");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    eventually("the engine publishes", LIMIT, || (transcoding.live(25) == ["cam", "cam_x"]).then_some(()));
    // Anybody else is refused, and a made-up token helps nobody.
    let output = Command::new(&ffmpeg)
        .args(["-nostdin", "-loglevel", "error", "-i", &transcoding.server.url("cam?srs_engine=00"), "-f", "null", "-"])
        .output()
        .expect("ffmpeg can be started");
    assert!(!output.status.success());
    transcoding.server.wait_log(&["code=denied"], LIMIT);
    transcoding.server.assert_healthy();
}

#[test]
fn commands_run_at_events_and_no_name_reaches_a_shell() {
    let (ffmpeg, _) = (need!(ffmpeg), need!(curl));
    let scratch = Scratch::new();
    let script = scratch.file("said.sh");
    // A line as a whole: several may run at a time.
    std::fs::write(&script, "line=''; for word; do line=\"$line$word;\"; done; printf '%s\\n' \"$line\" >> said.txt\n")
        .expect("a script");
    let said = || std::fs::read_to_string(scratch.file("said.txt")).unwrap_or_default();
    let vhost = "exec {
        enabled on;
        publish sh -c 'echo $$ > pid.txt; exec sleep 1000' [stream];
        on_publish sh said.sh publish [vhost] [app] [stream] [param] [engine] '[url]';
        on_unpublish sh said.sh unpublish [stream];
        on_play sh said.sh play [stream];
        on_stop sh said.sh stop [stream];
        on_dvr sh said.sh dvr [stream] [file];
        on_dvr ffmpeg -nostdin -loglevel error -i [file] -c copy -f flv rtmp://127.0.0.1:[port]/live/again;
    }
    dvr { enabled on; dvr_path 'my films/[stream].flv'; }";
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost, ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    let url = transcoding.server.url("cam?k=$HOME");
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    transcoding.server.wait_log(&["process not started", "would change the command"], LIMIT);
    publisher.kill();
    transcoding.server.wait_log(&["publish stopped"], LIMIT);
    // Within the reconnect grace the stream is the same one.
    let url = transcoding.server.url("dog?k=1");
    let mut publisher = publish(&scratch, "second", &ffmpeg, source, &url, &[]);
    let pid = eventually("the command runs", LIMIT, || {
        std::fs::read_to_string(scratch.file("pid.txt")).ok()?.trim().parse::<u32>().ok()
    });
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &transcoding.server.url("dog"), MediaKinds::Both);
    eventually("the player plays", LIMIT, || (player.frames() > 10).then_some(()));
    publisher.wait_success(CLIENT_TIMEOUT);
    drop(player);
    let port = transcoding.server.port;
    let due = [
        format!(
            "publish;__defaultVhost__;live;dog;?k=1;exec;rtmp://127.0.0.1:{port}/live/dog?vhost=__defaultVhost__&srs_engine="
        ),
        "play;dog;".to_owned(),
        "unpublish;dog;".to_owned(),
        "stop;dog;".to_owned(),
        "dvr;dog;my films/dog.flv;".to_owned(),
    ];
    eventually("all events are told", LIMIT, || {
        due.iter().all(|line| said().lines().any(|said| said.starts_with(line.as_str()))).then_some(())
    });
    // A recording of what a command publishes runs no command.
    transcoding.server.wait_log(&["recorded:", "live/again"], LIMIT);
    eventually("the command has ended", LIMIT, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    transcoding.wait_no_process();
    assert!(!said().contains(";again;"), "{}", said());
    transcoding.server.assert_healthy();
}
