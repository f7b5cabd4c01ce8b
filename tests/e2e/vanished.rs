//! Peers whose packets are dropped, as when a network fails. It takes a network namespace of its own: where the system does not
//! allow that, the test is passed over.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::binary;
use crate::media;
use crate::tools::need;

/// Bound for the time until a vanished peer is noticed.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(45);
const START: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const PORT: u16 = 1935;
const NEAR_ADDRESS: &str = "10.9.0.1";
const FAR_ADDRESS: &str = "10.9.0.2";
const FAR_MAC: &str = "02:00:00:00:09:02";

/// Two network namespaces with a line between them, which the processes that hold them keep.
struct Network {
    near: Process,
    far: Process,
}

impl Network {
    /// Creates the namespaces; `None` if the system does not allow it.
    fn new(scratch: &Scratch) -> Option<Network> {
        let mut attempt = Command::new("unshare");
        attempt.args(["-Urn", "ip", "link"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !attempt.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let near = Process::start(scratch, "near", "unshare", ["-Urn", "sleep", "600"]);
        wait_started(&near);
        let far = enter(&near, ["unshare", "-n", "sleep", "600"]);
        let far = Process::start(scratch, "far", &far[0], &far[1..]);
        wait_started(&far);
        let network = Network { near, far };
        let far_pid = network.far.pid().to_string();
        let near = [
            vec!["link", "set", "lo", "up"],
            vec!["link", "add", "v0", "type", "veth", "peer", "name", "v1", "address", FAR_MAC, "netns", &far_pid],
            vec!["addr", "add", "10.9.0.1/24", "dev", "v0"],
            vec!["link", "set", "v0", "up"],
            // Without it, the near side would learn from ARP that the far side is gone.
            vec!["neigh", "replace", FAR_ADDRESS, "lladdr", FAR_MAC, "dev", "v0", "nud", "permanent"],
        ];
        let far = [
            vec!["link", "set", "lo", "up"],
            vec!["addr", "add", "10.9.0.2/24", "dev", "v1"],
            vec!["link", "set", "v1", "up"],
        ];
        let ready = near.iter().all(|arguments| ip(&network.near, arguments))
            && far.iter().all(|arguments| ip(&network.far, arguments));
        ready.then_some(network)
    }

    /// Drops all packets to the far side from now on: its address is nobody's.
    fn cut(&self) {
        assert!(ip(&self.far, &["addr", "del", "10.9.0.2/24", "dev", "v1"]));
    }
}

/// Waits until `unshare` has become the command it runs: the namespaces and their user are complete only then.
fn wait_started(process: &Process) {
    let name = || fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap_or_default();
    eventually("namespaces of a process", START, || (name().trim() == "sleep").then_some(()));
}

/// Returns the command line that runs `command` in the namespaces of a process.
fn enter<const N: usize>(of: &Process, command: [&str; N]) -> Vec<String> {
    let pid = of.pid().to_string();
    let mut words = ["nsenter", "-U", "-n", "--preserve-credentials", "-t", &pid].map(str::to_owned).to_vec();
    words.extend(command.map(str::to_owned));
    words
}

fn ip(namespace: &Process, arguments: &[&str]) -> bool {
    let words = enter(namespace, ["ip"]);
    Command::new(&words[0]).args(&words[1..]).args(arguments).status().is_ok_and(|status| status.success())
}

/// Starts a server in a namespace.
fn server(scratch: &Scratch, namespace: &Process, name: &str, configuration: &str) -> Process {
    let path = scratch.file(&format!("{name}.conf"));
    fs::write(&path, configuration).expect("a file in the scratch folder");
    let words = enter(namespace, [binary(), "-c", path.to_str().expect("a path of ours")]);
    let server = Process::start(scratch, name, &words[0], &words[1..]);
    wait_line(&server, &["listener", "1935"], START);
    server
}

fn client(scratch: &Scratch, namespace: &Process, name: &str, ffmpeg: &Path, arguments: &str) -> Process {
    let mut words = enter(namespace, [ffmpeg.to_str().expect("a path"), "-nostdin", "-hide_banner", "-y"]);
    words.extend(arguments.split(' ').map(str::to_owned));
    Process::start(scratch, name, &words[0], &words[1..])
}

fn lines<'a>(log: &'a str, words: &'a [&str]) -> impl Iterator<Item = &'a str> {
    log.lines().filter(move |line| words.iter().all(|word| line.contains(word)))
}

fn wait_line(server: &Process, words: &[&str], limit: Duration) {
    let deadline = Instant::now() + limit;
    while lines(&server.log(), words).next().is_none() {
        assert!(Instant::now() < deadline, "not within {limit:?}: a line with {words:?} in\n{}", server.log());
        std::thread::sleep(POLL);
    }
}

/// The far side, with a target of forwarding, a player and a publisher, vanishes while an audio stream of 64 kbit/s is sent to
/// it, which does not fill the buffers of a socket for minutes.
#[test]
fn peers_that_vanish_are_noticed_within_45_seconds() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let Some(network) = Network::new(&scratch) else {
        eprintln!("passed over: this system allows no network namespaces");
        return;
    };
    let source = media::audio_only(&ffmpeg).path.to_str().expect("a path of ours").to_owned();
    let far = server(&scratch, &network.far, "target", &format!("listen {PORT}; vhost __defaultVhost__ {{ }}"));
    let near = format!(
        "listen {PORT}; pithy_print {{ forwarder 500; }} vhost __defaultVhost__ {{ }}
         vhost forwarded {{ forward {FAR_ADDRESS}:{PORT}; }}"
    );
    let near = server(&scratch, &network.near, "server", &near);
    let published = format!("-re -stream_loop -1 -i {source} -c copy -f flv");
    let url = |host: &str, stream: &str| format!("rtmp://{host}:{PORT}/live/{stream}");
    let forwarded = format!("{published} {}?vhost=forwarded", url(NEAR_ADDRESS, "forwarded"));
    let _publisher = client(&scratch, &network.near, "publisher", &ffmpeg, &forwarded);
    let _vanishing =
        client(&scratch, &network.far, "vanishing", &ffmpeg, &format!("{published} {}", url(NEAR_ADDRESS, "cam")));
    wait_line(&far, &["publish started", "forwarded"], START);
    wait_line(&near, &["publish started", "cam"], START);
    let played = format!("-i {}?vhost=forwarded -c copy -f null -", url(NEAR_ADDRESS, "forwarded"));
    let _player = client(&scratch, &network.far, "player", &ffmpeg, &played);
    wait_line(&near, &["play started"], START);
    std::thread::sleep(Duration::from_secs(3));

    network.cut();
    let cut = Instant::now();
    for words in [
        ["forward failed", "the target acknowledges nothing"],
        ["connection closed", "code=not-reading"],
        ["connection closed", "code=silent-publisher"],
    ] {
        wait_line(&near, &words, NOTICE_TIMEOUT.saturating_sub(cut.elapsed()));
    }
    // Meanwhile the log said how far the target was behind.
    let log = near.log();
    let delays = lines(&log, &["state=sending"]).filter_map(|line| {
        let (_, rest) = line.split_once("delay=")?;
        rest.split([',', ' ']).next()?.parse::<u64>().ok()
    });
    let longest = delays.max();
    assert!(longest.is_some_and(|delay| delay > 15_000), "{longest:?} ms");
    assert!(!log.contains("panicked"), "{log}");
}
