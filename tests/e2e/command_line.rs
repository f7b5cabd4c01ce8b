//! The command line: the output of each option, and each failure to start.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::amf::Amf;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::Process;
use crate::common::scratch::Scratch;
use crate::common::server::{self, Server, Settings, binary};
use crate::common::wire::Wire;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the server until it ends. Returns its exit status and its output.
fn run(scratch: &Scratch, arguments: &[&str]) -> (i32, String) {
    let mut process = Process::start(scratch, "run", binary(), arguments);
    let status = process.wait(LIMIT);
    (status.code().unwrap_or_else(|| panic!("ended with {status}")), process.log())
}

/// Runs the server, which must fail with one line that contains each of `words`.
fn run_fails(scratch: &Scratch, arguments: &[&str], words: &[&str]) {
    let (status, said) = run(scratch, arguments);
    assert_eq!(status, 1, "{arguments:?}:\n{said}");
    assert_eq!(said.trim().lines().count(), 1, "{arguments:?} must print one line:\n{said}");
    for word in words {
        assert!(said.to_lowercase().contains(&word.to_lowercase()), "{arguments:?} does not print {word:?}:\n{said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn write(scratch: &Scratch, content: &str) -> PathBuf {
    let path = scratch.file("a.conf");
    std::fs::write(&path, content).expect("a file in the scratch folder");
    path
}

#[test]
fn the_environment_goes_over_the_file_and_what_it_includes() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.file("vhosts")).expect("a folder in the scratch folder");
    std::fs::write(scratch.file("vhosts/a.conf"), "vhost a.example.com { enabled off; }").expect("a file there");
    let config = write(&scratch, "listen 1;\ninclude vhosts/*.conf;\nvhost __defaultVhost__ { enabled off; }");
    let started = (0..5).find_map(|_| {
        let port = server::free_port();
        let listen = format!("SRS_LISTEN=127.0.0.1:{port}");
        let under = ["env", &listen, "SRS_VHOST_A_EXAMPLE_COM_ENABLED=on", "SRS_LISTNE=1"];
        Server::run_under(&scratch, port, &config, &under)
    });
    let mut server = started.expect("one of five ports is free");
    let url = Amf::text("rtmp://a.example.com/live");
    assert_eq!(Wire::connect(server.port).try_connect_app("live", &[("tcUrl", url)]).name, "_result");
    assert_eq!(Wire::connect(server.port).try_connect_app("live", &[]).name, "_error");
    server.wait_log(&["environment variable SRS_LISTNE", "no directive has this name"], LIMIT);
    server.assert_healthy();

    let mut process = Process::start(&scratch, "run", "env", ["SRS_LISTEN=0", binary(), "-t", "-c", text(&config)]);
    assert_eq!(process.wait(LIMIT).code(), Some(1));
    assert!(process.log().contains("environment variable SRS_LISTEN: \"listen\" must be a port"), "{}", process.log());
    std::fs::write(scratch.file("vhosts/b.conf"), "\nvhost b { gop_cach on; }").expect("a file there");
    run_fails(&scratch, &["-t", "-c", text(&config)], &["vhosts/b.conf:2: ", "did you mean \"gop_cache\""]);
}

#[test]
fn each_program_completes_its_command_line() {
    let programs = [
        (binary(), "--completions"),
        (env!("CARGO_BIN_EXE_srs_bench"), "completions"),
        (env!("CARGO_BIN_EXE_srs_hooks"), "--completions"),
        (env!("CARGO_BIN_EXE_ts_info"), "--completions"),
    ];
    for (program, option) in programs {
        for shell in ["bash", "zsh", "fish"] {
            let output = std::process::Command::new(program).args([option, shell]).output().expect("a program");
            let script = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && script.contains("help"), "{program} {shell}: {output:?}");
            if shell == "bash" {
                let check = std::process::Command::new("bash").args(["-n", "-c", &script]).status();
                assert!(check.expect("bash").success(), "{program}: {script}");
            }
        }
    }
}

#[test]
fn version() {
    let scratch = Scratch::new();
    for option in ["-v", "-V"] {
        let (status, said) = run(&scratch, &[option]);
        assert_eq!(status, 0, "{option}:\n{said}");
        assert!(said.contains(concat!(env!("CARGO_PKG_VERSION"), " (commit ")), "{option}:\n{said}");
        assert_eq!(said.contains("hls"), cfg!(feature = "hls"), "{option}:\n{said}");
    }
}

#[test]
fn help() {
    let scratch = Scratch::new();
    for option in ["-h", "-?"] {
        let (status, said) = run(&scratch, &[option]);
        assert_eq!(status, 0, "{option}:\n{said}");
        for listed in ["-c", "-t", "-v"] {
            assert!(said.contains(listed), "{option} does not list {listed}:\n{said}");
        }
    }
}

#[test]
fn the_printed_reference_is_full_conf() {
    let scratch = Scratch::new();
    let (status, said) = run(&scratch, &["--print-reference"]);
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/full.conf");
    let full = std::fs::read_to_string(full).expect("conf/full.conf is there");
    assert!(status == 0 && said == full, "run: simple_rtmp_server --print-reference > conf/full.conf");
}

#[test]
fn an_unknown_option_is_named() {
    let scratch = Scratch::new();
    let (status, said) = run(&scratch, &["--frobnicate"]);
    assert_ne!(status, 0, "{said}");
    assert!(said.contains("--frobnicate"), "{said}");
}

#[test]
fn a_good_configuration_passes_the_test() {
    let scratch = Scratch::new();
    let path = write(&scratch, "listen 1935;\nvhost __defaultVhost__ {\n    gop_cache on;\n}\n");
    let (status, said) = run(&scratch, &["-t", "-c", text(&path)]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains(text(&path)), "{said}");
}

#[test]
fn the_shipped_configurations_pass_the_test() {
    let scratch = Scratch::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files: Vec<_> =
        folder.read_dir().expect("conf/ is there").map(|entry| entry.expect("an entry").path()).collect();
    for name in ["srs.conf", "full.conf"] {
        assert!(files.contains(&folder.join(name)), "conf/{name} is missing");
    }
    let is_ours = |file: &&PathBuf| {
        let name = file.file_name().expect("a file").to_string_lossy();
        name.ends_with(".conf") && !name.starts_with("nginx")
    };
    for file in files.iter().filter(is_ours) {
        let (status, said) = run(&scratch, &["-t", "-c", text(file)]);
        assert_eq!(status, 0, "{}:\n{said}", file.display());
    }
}

#[test]
fn a_bad_configuration_is_named_with_its_line() {
    let scratch = Scratch::new();
    let path = write(&scratch, "listen 1935;\nvhost __defaultVhost__ {\n    gop_cach on;\n}\n");
    let at = format!("{}:3", text(&path));
    // `-t` reports the warning, and so does a start.
    run_fails(&scratch, &["-t", "-c", text(&path)], &[&at, "gop_cach", "gop_cache"]);
    run_fails(&scratch, &["-c", text(&path)], &[&at, "gop_cach", "gop_cache"]);
}

#[test]
fn a_missing_configuration_is_named() {
    let scratch = Scratch::new();
    let path = scratch.file("missing.conf");
    run_fails(&scratch, &["-c", text(&path)], &[text(&path), "no such file"]);
    run_fails(&scratch, &["-t", "-c", text(&path)], &[text(&path), "no such file"]);
    // A folder is not a file.
    run_fails(&scratch, &["-c", text(scratch.folder())], &[text(scratch.folder())]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let scratch = Scratch::new();
    let port = server::free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let path = server::write_configuration(&scratch, port, Settings::default());
    run_fails(&scratch, &["-c", text(&path)], &[&port.to_string(), "in use"]);
    // `-t` opens no port.
    let (status, said) = run(&scratch, &["-t", "-c", text(&path)]);
    assert_eq!(status, 0, "{said}");
}

#[test]
fn it_serves_each_port_that_it_listens_on() {
    let scratch = Scratch::new();
    let ports = [server::free_port(), server::free_port()];
    let listen = ports.map(|port| format!("127.0.0.1:{port}")).join(" ");
    let path = write(&scratch, &format!("listen {listen};\nvhost __defaultVhost__ {{\n}}\n"));
    let mut server = Server::run(&scratch, ports[0], &path).expect("the first port is free");
    let mut player = Wire::player(ports[0], "livestream");
    let mut publisher = Wire::publisher(ports[1], "livestream");
    publisher.send_tag(&Tag { kind: VIDEO, timestamp: 0, payload: vec![0x14, 0, 1] });
    player.wait_frames(1);
    server.assert_healthy();
}

#[test]
fn it_ends_at_once_when_told_and_starts_again_on_its_port() {
    let scratch = Scratch::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut server = Server::start(&scratch);
        let player = Wire::player(server.port, "livestream");
        server.process().signal(signal);
        server.process().wait(LIMIT);
        drop(player);
        // The kernel still knows connections that the server has closed.
        let path = server::write_configuration(&scratch, server.port, Settings::default());
        let again = Server::run(&scratch, server.port, &path).expect("its port is free again");
        Wire::player(again.port, "livestream");
    }
}
