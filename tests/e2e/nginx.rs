//! nginx-rtmp pulls from the server and pushes to it, as in clusters of operators.

#[cfg(all(feature = "hls", feature = "http"))]
use std::path::Path;
use std::path::PathBuf;

use crate::align::Aligned;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, free_port, listens};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish, while_stopped};
use crate::tools::need;

/// Starts nginx with an RTMP application `live` that contains `directives`. Returns the process and its port.
pub(crate) fn start(
    scratch: &Scratch,
    (nginx, module): (PathBuf, Option<PathBuf>),
    directives: &str,
) -> (Process, u16) {
    let folder = scratch.folder().display();
    let load = module.map(|module| format!("load_module {};", module.display())).unwrap_or_default();
    on_free_port(|port| {
        // One process, so that killing it leaves no worker.
        let text = format!(
            "{load}\ndaemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr info;\n\
             events {{ worker_connections 64; }}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; {directives} }} }} }}\n"
        );
        let configuration = scratch.file("nginx.conf");
        std::fs::write(&configuration, text).expect("a file in the scratch folder");
        let arguments = ["-e".as_ref(), "stderr".as_ref(), "-c".as_ref(), configuration.as_os_str()];
        Process::start(scratch, "nginx", &nginx, arguments)
    })
}

/// Starts nginx with a shipped configuration, changed in its port and as `adapt` says. Returns the process and its port.
#[cfg(all(feature = "hls", feature = "http"))]
pub(crate) fn start_shipped(
    scratch: &Scratch,
    nginx: &Path,
    name: &str,
    adapt: impl Fn(String) -> String,
) -> (Process, u16) {
    const LISTEN: &str = "listen          8081;";
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
    let shipped = std::fs::read_to_string(shipped).expect("a shipped configuration");
    assert!(shipped.contains(LISTEN), "{name}");
    std::fs::create_dir_all(scratch.file("objs")).expect("a folder in the scratch folder");
    on_free_port(|port| {
        let text = adapt(shipped.replace(LISTEN, &format!("listen 127.0.0.1:{port};")));
        std::fs::write(scratch.file(name), text).expect("a file in the scratch folder");
        let folder = scratch.folder().to_str().expect("a path of ours");
        // One process, so that killing it leaves no worker, and with the rights to read the test's files.
        let arguments = ["-e", "stderr", "-p", folder, "-c", name, "-g", "daemon off; master_process off;"];
        Process::start(scratch, "nginx", nginx, arguments)
    })
}

/// Starts nginx on a port that nobody takes meanwhile.
fn on_free_port(mut start: impl FnMut(u16) -> Process) -> (Process, u16) {
    for _ in 0..5 {
        let port = free_port();
        let mut process = start(port);
        let is_up = eventually("nginx listens", CLIENT_TIMEOUT, || {
            if process.ended().is_some() { Some(false) } else { listens(port).then_some(true) }
        });
        if is_up {
            return (process, port);
        }
        assert!(process.log().contains("in use"), "nginx ended at once:\n{}", process.log());
    }
    panic!("five ports in a row were taken");
}

#[test]
fn nginx_pulls() {
    let (ffmpeg, nginx) = (need!(ffmpeg), need!(nginx));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let source = media::h264_aac(&ffmpeg);
    let pull = format!("pull rtmp://127.0.0.1:{}/live/livestream name=livestream live=1;", server.port);
    let (_nginx, port) = start(&scratch, nginx, &pull);

    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    server.wait_log(&["codecs known"], CLIENT_TIMEOUT);
    // nginx pulls when it has a player.
    let through = format!("rtmp://127.0.0.1:{port}/live/livestream");
    let player = while_stopped(&mut publisher, || {
        let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &through, MediaKinds::Both);
        server.wait_players(1);
        player
    });
    publisher.wait_success(CLIENT_TIMEOUT);
    // nginx chooses the frame at which its player starts; from there on nothing may be missing.
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_to_the_end().assert_one_shift();
    server.assert_healthy();
}

#[test]
fn nginx_pushes() {
    let (ffmpeg, nginx) = (need!(ffmpeg), need!(nginx));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let source = media::h264_aac(&ffmpeg);
    let push = format!("push rtmp://127.0.0.1:{}/live;", server.port);
    let (_nginx, port) = start(&scratch, nginx, &push);

    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &server.url("livestream"), MediaKinds::Both);
    server.wait_players(1);
    let through = format!("rtmp://127.0.0.1:{port}/live/livestream");
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &through, &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    // nginx connects a little after its publisher has started, and pushes from then on.
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_to_the_end().assert_one_shift();
    server.assert_healthy();
}
