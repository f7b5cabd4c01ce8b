//! `srs_ctl` against a server: tables, JSON, exit codes, and the live view in a terminal.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::api::{jq, start};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::wire::Wire;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Returns the command without what the environment of the tests says.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srs_ctl"));
    for name in ["SRS_API", "SRS_API_TOKEN", "SRS_API_LOGIN", "SRS_API_CACERT"] {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("srs_ctl runs")
}

/// Returns what a command prints; it must succeed.
pub(crate) fn prints(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Returns the exit code and the error of a command.
pub(crate) fn fails(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_operator_sees_and_steers_the_server() {
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "");
    let api = format!("127.0.0.1:{port}");
    let ctl = |arguments: &[&str]| prints(&[&["--api", &api], arguments].concat());
    assert_eq!(ctl(&["streams"]), "no streams\n");
    let mut publisher = Wire::publisher(server.port, "cam \u{e9} 1");
    let mut player = Wire::player(server.port, "cam \u{e9} 1");
    send(&mut publisher, 1, 0..12);
    player.wait_frames(24);
    let table = ctl(&["streams"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("STREAM") && lines[1].starts_with("live/cam \u{e9} 1"), "{table}");
    assert!(lines[1].contains("live") && lines[1].contains("H264"), "{table}");
    let json = ctl(&["streams", "--json", "--app", "live"]);
    assert_eq!(jq(&json, ".total, .streams[0].players"), "1\n1");
    assert_eq!(jq(&ctl(&["clients", "--kind", "play", "--json"]), ".total, .clients[0].type"), "1\nrtmp-play");
    let id = jq(&ctl(&["--json", "clients", "--kind", "publish"]), ".clients[0].id");
    let client = ctl(&["client", &id]);
    assert!(client.contains("fmle-publish") && client.contains("live/cam \u{e9} 1"), "{client}");
    let stream = ctl(&["stream", "live/cam \u{e9} 1"]);
    assert!(stream.contains("players") && stream.contains("playing"), "{stream}");
    let status = ctl(&["status"]);
    assert!(status.contains("version") && status.contains("2 of 1000"), "{status}");
    let config = ctl(&["config"]);
    let listen = config.lines().find(|line| line.starts_with("listen in http_api "));
    assert!(listen.is_some_and(|line| line.contains(&format!(" 127.0.0.1:{port} "))), "{config}");
    assert_eq!(ctl(&["forwarders"]), "no forwarders\n");
    assert_eq!(ctl(&["processes"]), "no programs\n");
    assert_eq!(ctl(&["offenders"]), "no offenders\n");
    assert_eq!(ctl(&["reload", "--dry-run"]), "no changes\n");

    let kicked = ctl(&["kick", "live/cam \u{e9} 1", "--ban", "60"]);
    assert!(kicked.starts_with("disconnected: 1; ban 1: __defaultVhost__/live/cam"), "{kicked}");
    publisher.wait_closed(LIMIT);
    assert!(ctl(&["bans"]).contains("stream"));
    assert_eq!(ctl(&["unban", "1"]), "lifted\n");
    assert_eq!(ctl(&["kick", "127.0.0.1"]), "disconnected: 1\n");
    eventually("the closes", LIMIT, || {
        let closes = ctl(&["closes"]);
        let is_count = |line: &str| line.split_whitespace().eq(["kicked", "2"]);
        closes.lines().any(is_count).then_some(())
    });
    server.assert_healthy();
}

#[test]
fn scripts_see_why_it_failed() {
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "auth { enabled on; token look read s1; token boss admin s2; }");
    let api = format!("http://127.0.0.1:{port}/");
    let with = |token: &str, arguments: &[&str]| fails(&[&["--api", &api, "--token", token], arguments].concat());
    assert_eq!(with("s1", &["streams"]).0, 0);
    let refusal = "srs_ctl: no such stream; give its name as in its URL, such as live/livestream\n";
    assert_eq!(with("s1", &["stream", "live/none"]), (1, refusal.to_owned()));
    assert_eq!(with("s2", &["kick", "live/none"]).0, 1);
    assert_eq!(with("s2", &["unban", "7"]).0, 1);
    assert_eq!(fails(&["--api", &api, "nonsense"]).0, 2);
    assert_eq!(fails(&["--api", "ftp://x", "streams"]).0, 2);
    assert_eq!(fails(&["--api", "127.0.0.1:1", "streams"]).0, 3);
    let (code, error) = fails(&["--api", &format!("127.0.0.1:{}", server.port), "streams"]);
    assert!(code == 3 && error.contains("another port than that of http_api"), "that is RTMP: {error}");
    let (code, error) = with("s1", &["kick", "1"]);
    assert!(code == 4 && error.contains("needs the role kick"), "{code} {error}");
    assert_eq!(fails(&["--api", &api, "streams"]).0, 4);
    assert!(prints(&["--api", &api, "--token", "s1", "offenders"]).contains("127.0.0.1"), "a secret was missing");
    for wrong in [&["events", "--type", "publish"][..], &["clients", "--ip", "1.2.3"], &["clients", "--kind", "x"]] {
        assert_eq!(with("s1", wrong).0, 2, "{wrong:?}");
    }
    for (arguments, said) in [
        (&["client", "abc"][..], "\"srs_ctl clients\" lists them"),
        (&["kick", ""], "it is empty"),
        (&["kick", "1", "--ban", "0"], "seconds from 1 to 2592000"),
        (&["streams", "--api", "http://a:99999"], "not a URL of an API"),
        (&["top"], "needs a terminal"),
        (&["nonsense"], "no command or option \"nonsense\""),
    ] {
        let (code, error) = fails(arguments);
        assert!(code == 2 && error.contains(said), "{arguments:?}: {error}");
    }
    let (code, error) = with("wrong", &["events"]);
    assert!(code == 4 && error.contains("the secret is wrong"), "{error}");
    // The configuration has address and secret.
    let file = scratch.file("srs.conf").display().to_string();
    assert_eq!(fails(&["-c", &file, "reload", "--dry-run"]).0, 0);
    assert_eq!(fails(&["reload", "--dry-run", "-c", &file]).0, 0, "options may stand behind the command");
    assert_eq!(fails(&["-c", "/none", "streams"]).0, 2);
    std::fs::write(&file, "lisen 1;").expect("a file");
    let (code, error) = fails(&["--api", &api, "--token", "s2", "reload"]);
    assert!(code == 1 && error.contains("unknown directive \"lisen\""), "{code} {error}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(prints(&["completions", shell]).contains("srs_ctl"), "{shell}");
    }
    server.assert_healthy();
}

#[test]
fn events_go_on_after_a_restart_of_the_server() {
    let scratch = Scratch::new();
    let (server, port) = start(&scratch, "");
    let mut follow = command(&["--api", &format!("127.0.0.1:{port}"), "events", "--json", "--type", "published"]);
    follow.env_remove("SRS_API");
    let follower = Process::spawn(&scratch, "events", follow);
    let count = || follower.log().matches("\"event\":\"published\"").count();
    // It may not have connected yet.
    let mut publishers = Vec::new();
    eventually("the first event", LIMIT, || {
        publishers.push(Wire::publisher(server.port, &format!("cam{}", publishers.len())));
        (count() > 0).then_some(())
    });
    let rtmp = server.port;
    drop(publishers);
    drop(server);
    let before = count();
    let file = scratch.file("srs.conf");
    let mut server =
        eventually("the port is free", LIMIT, || crate::common::server::Server::run(&scratch, rtmp, &file));
    let _publisher = Wire::publisher(rtmp, "again");
    eventually("an event of the new server", LIMIT, || (count() > before).then_some(()));
    assert!(follower.log().contains("started anew"), "{}", follower.log());
    server.assert_healthy();
}

/// A tmux with one window. Dropping it ends it.
struct Tmux<'a> {
    socket: &'a Path,
}

impl Tmux<'_> {
    fn call(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(self.socket).args(arguments).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait(&self, words: &[&str]) -> String {
        eventually(&format!("a screen with {words:?}"), LIMIT, || {
            let screen = self.call(&["capture-pane", "-p"]);
            words.iter().all(|word| screen.contains(word)).then_some(screen)
        })
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}

#[test]
fn the_live_view_fits_terminals_and_obeys_keys() {
    need!(tmux);
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, "");
    let mut publishers: Vec<_> = (0..300).map(|at| Wire::publisher(server.port, &format!("cam{at:03}"))).collect();
    send(&mut publishers[42], 1, 0..12);
    let _player = Wire::player(server.port, "cam042");
    let socket = scratch.file("tmux");
    let tmux = Tmux { socket: &socket };
    let program = format!("{} --api 127.0.0.1:{port} top", env!("CARGO_BIN_EXE_srs_ctl"));
    tmux.call(&["new-session", "-d", "-x", "80", "-y", "24", &program]);
    let small = tmux.wait(&["simple_rtmp_server", "streams 300", "live/cam000", "1/300 streams"]);
    assert_eq!(small.lines().filter(|line| line.starts_with("live/cam")).count(), 19, "{small}");
    assert!(small.lines().all(|line| line.chars().count() <= 80), "{small}");
    tmux.call(&["resize-window", "-x", "200", "-y", "50"]);
    let large = tmux.wait(&["VIDEO", "JITTER", "live/cam041"]);
    assert_eq!(large.lines().filter(|line| line.starts_with("live/cam")).count(), 42, "{large}");
    tmux.call(&["send-keys", "/", "c", "a", "m", "0", "4", "2", "Enter"]);
    tmux.wait(&["1/1 streams", "H264", "live/cam042"]);
    tmux.call(&["send-keys", "Enter"]);
    tmux.wait(&["clients of live/cam042", "publishing", "playing"]);
    tmux.call(&["send-keys", "Escape"]);
    tmux.wait(&["/300 streams"]);
    tmux.call(&["send-keys", "/", "c", "a", "m", "0", "4", "2", "Enter", "k"]);
    tmux.wait(&["Disconnect the publisher of live/cam042?"]);
    tmux.call(&["send-keys", "y"]);
    publishers[42].wait_closed(LIMIT);
    tmux.wait(&["streams 299"]);
    tmux.call(&["send-keys", "q"]);
    eventually("it ends", LIMIT, || tmux.call(&["list-sessions"]).is_empty().then_some(()));
    server.assert_healthy();
}
