//! The spool file of callbacks: what is told after a crash of the server or of the backend.

use std::path::Path;

use serde_json::Value;

use crate::backend::{PythonBackend, all_hooks};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, write_configuration};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::players::CLIENT_TIMEOUT;
use crate::tools::need;

fn hooks(scratch: &Scratch, port: u16) -> String {
    let spool = scratch.file("spool");
    all_hooks(port, &format!("on_hook_failure allow; hooks_timeout 10; hooks_spool '{}';", spool.display()))
}

fn run(scratch: &Scratch, port: u16, configuration: &Path) -> Server {
    Server::run(scratch, port, configuration).expect("the port is free")
}

/// Returns action, session and whether it is replayed, of each event.
fn told(backend: &PythonBackend) -> Vec<(String, String, bool)> {
    let text = |fields: &Value, key: &str| fields[key].as_str().unwrap_or_default().to_owned();
    let event = |request: Value| {
        let fields = &request["fields"];
        (text(fields, "action"), text(fields, "session_id"), fields["replayed"] == true)
    };
    backend.requests().into_iter().map(event).collect()
}

#[test]
fn what_a_dead_backend_has_missed_is_told_after_a_restart() {
    let python = need!(python);
    let scratch = Scratch::new();
    let (port, backend_port) = (free_port(), free_port());
    let vhost = hooks(&scratch, backend_port);
    let configuration = write_configuration(&scratch, port, Settings { vhost: &vhost, ..Settings::default() });
    let mut server = run(&scratch, port, &configuration);
    drop(Wire::next_publisher(port, "cam"));
    server.wait_log(&["code=by-peer"], ANSWER_TIMEOUT);
    server.process().interrupt();
    server.process().wait(CLIENT_TIMEOUT);
    assert!(server.log_line(&["callbacks kept in the spool", "count=4"]).is_some(), "{}", server.log());
    let backend = PythonBackend::on(&scratch, &python, backend_port, "[]", &[]);
    let mut server = run(&scratch, port, &configuration);
    let all = eventually("all events", CLIENT_TIMEOUT, || Some(told(&backend)).filter(|all| all.len() >= 4));
    let actions: Vec<_> = all.iter().map(|(action, _, replayed)| (action.as_str(), *replayed)).collect();
    assert_eq!(actions, ["on_connect", "on_publish", "on_unpublish", "on_close"].map(|action| (action, true)));
    server.wait_log(&["callbacks replayed from the spool: count=4"], ANSWER_TIMEOUT);
    server.process().interrupt();
    server.process().wait(CLIENT_TIMEOUT);
    // Once.
    let mut server = run(&scratch, port, &configuration);
    drop(Wire::publisher(port, "cam"));
    eventually("the next end", CLIENT_TIMEOUT, || {
        told(&backend).iter().any(|(action, _, replayed)| action == "on_close" && !replayed).then_some(())
    });
    assert_eq!(told(&backend).iter().filter(|(_, _, replayed)| *replayed).count(), 4);
    server.assert_healthy();
}

#[test]
fn after_a_crash_the_end_of_each_client_that_was_in_is_told() {
    let python = need!(python);
    let scratch = Scratch::new();
    let port = free_port();
    let backend = PythonBackend::start(&scratch, &python, "[]");
    let vhost = hooks(&scratch, backend.port);
    let configuration = write_configuration(&scratch, port, Settings { vhost: &vhost, ..Settings::default() });
    let mut server = run(&scratch, port, &configuration);
    let publisher = Wire::publisher(port, "cam");
    let player = Wire::player(port, "cam");
    drop(Wire::player(port, "cam"));
    eventually("the end of the second player", CLIENT_TIMEOUT, || {
        told(&backend).iter().any(|(action, ..)| action == "on_close").then_some(())
    });
    let spool = scratch.file("spool");
    // The two ends of the player replace those that were kept for it, and are delivered.
    let ends = || std::fs::read_to_string(&spool).unwrap_or_default().matches("\"settles\"").count();
    eventually("the spool is written", CLIENT_TIMEOUT, || (ends() >= 4).then_some(()));
    server.process().kill();
    server.process().wait(CLIENT_TIMEOUT);
    drop((publisher, player));
    // The last line is cut off, as if the machine had died while it was written.
    let bytes = std::fs::read(&spool).expect("it is there");
    std::fs::write(&spool, [&bytes[..], &b"0123abcd {\"id\":99,\"event\":{\"ho"[..]].concat()).expect("a file of ours");
    let mut server = run(&scratch, port, &configuration);
    server.wait_log(&["callback spool damaged, lines skipped", "lines=1"], ANSWER_TIMEOUT);
    let replayed = || -> Vec<_> { told(&backend).into_iter().filter(|(_, _, replayed)| *replayed).collect() };
    let all = eventually("four ends", CLIENT_TIMEOUT, || Some(replayed()).filter(|all| all.len() >= 4));
    // The events of different clients come in any order.
    let of_client = |wanted: &str| -> Vec<&str> {
        let client = |session: &str| session.rsplit_once('-').expect("service and client").1.to_owned();
        all.iter().filter(|(_, session, _)| client(session) == wanted).map(|(action, ..)| action.as_str()).collect()
    };
    assert_eq!((of_client("1"), of_client("2")), (vec!["on_unpublish", "on_close"], vec!["on_stop", "on_close"]));
    assert_eq!(all.len(), 4);
    server.assert_healthy();
}

#[test]
fn a_spool_that_cannot_be_opened_is_an_error() {
    let scratch = Scratch::new();
    let vhost = "http_hooks { enabled on; on_stop http://127.0.0.1:9/x; hooks_spool /nowhere/spool; }";
    let configuration = write_configuration(&scratch, free_port(), Settings { vhost, ..Settings::default() });
    let mut command = std::process::Command::new(crate::common::server::binary());
    let output = command.arg("-c").arg(&configuration).output().expect("the server can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("hooks_spool /nowhere/spool"), "{said}");
}
