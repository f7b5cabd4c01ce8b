use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

/// Starts children without a launcher, which is the server's program and not that of the tests.
fn start() -> (Processes, Receiver<ProcessEvent>) {
    let (sender, events) = channel();
    (Processes::start(Vec::new(), std::time::Instant::now, move |event| drop(sender.send(event))).unwrap(), events)
}

fn shell(script: &str) -> Spawn {
    Spawn {
        program: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("GIVEN", "value".to_owned())],
        limits: Limits::default(),
        directories: Vec::new(),
        stdout: None,
        log: None,
        hidden: None,
    }
}

fn next(events: &Receiver<ProcessEvent>) -> ProcessEvent {
    events.recv_timeout(Duration::from_secs(20)).expect("an event")
}

fn end_of(events: &Receiver<ProcessEvent>, id: u64) -> (ProcessEnd, Vec<String>) {
    loop {
        if let ProcessEvent::Exited { id: ended, end, last_lines } = next(events)
            && ended == id
        {
            return (end, last_lines);
        }
    }
}

#[test]
fn a_child_tells_its_status_and_its_last_lines() {
    let (processes, events) = start();
    processes.spawn(1, shell("echo out; echo one >&2; echo $GIVEN >&2; exit 3"));
    assert!(matches!(next(&events), ProcessEvent::Started { id: 1, .. }));
    assert_eq!(end_of(&events, 1), (ProcessEnd::Status(3), vec!["one".to_owned(), "value".to_owned()]));
    processes.spawn(2, Spawn { program: "/nowhere/program".to_owned(), ..shell("") });
    assert!(matches!(end_of(&events, 2).0, ProcessEnd::NotStarted(_)));
}

#[test]
fn signals_reach_the_whole_group_and_a_stopped_one_too() {
    let (processes, events) = start();
    // The inner shell would hold the pipe of the outer one.
    processes.spawn(1, shell("sh -c 'trap \"\" INT; sleep 1000' & echo $! >&2; kill -STOP $$"));
    let ProcessEvent::Started { pid, .. } = next(&events) else { panic!("it starts first") };
    assert!(pid > 1);
    let is_stopped = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") T ");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_stopped() {
        assert!(std::time::Instant::now() < deadline, "it does not stop itself");
        std::thread::yield_now();
    }
    processes.signal(1, StopSignal::Interrupt);
    processes.signal(1, StopSignal::Kill);
    let (end, lines) = end_of(&events, 1);
    assert_eq!(end, ProcessEnd::Signal(9));
    if let Some(inner) = lines.first() {
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{inner}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !is_gone() {
            assert!(std::time::Instant::now() < deadline, "{inner} is still there");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_flood_is_read_to_its_end_and_kept_in_bounds() {
    let (processes, events) = start();
    let folder = tempfile::tempdir().unwrap();
    let log = LogFile { path: folder.path().join("x-flood.log"), max_bytes: 50_000 };
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo the end >&2";
    let on_stdout = move |bytes: &[u8]| _ = counter.fetch_add(bytes.len(), Ordering::Relaxed);
    processes.spawn(1, Spawn { stdout: Some(Box::new(on_stdout)), log: Some(log), ..shell(script) });
    let (end, lines) = end_of(&events, 1);
    assert_eq!(end, ProcessEnd::Status(0));
    assert_eq!(count.load(Ordering::Relaxed), 3_000_000);
    assert_eq!(lines.len(), 1, "one line of zeros, cut");
    for file in std::fs::read_dir(folder.path()).unwrap() {
        assert!(file.unwrap().metadata().unwrap().len() <= 50_000);
    }
}

#[test]
fn a_secret_is_not_in_the_log() {
    let (processes, events) = start();
    let folder = tempfile::tempdir().unwrap();
    let log = LogFile { path: folder.path().join("x-secret.log"), max_bytes: 50_000 };
    let script = "echo 'a?k=5&secret b' >&2; echo secret >&2; echo rest >&2";
    processes.spawn(1, Spawn { hidden: Some("secret".to_owned()), log: Some(log.clone()), ..shell(script) });
    let (_, lines) = end_of(&events, 1);
    assert_eq!(lines, ["a?k=5&… b", "…", "rest"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(&log.path).unwrap_or_default();
        if text == "a?k=5&… b\n…\nrest\n" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text:?}");
        std::thread::yield_now();
    }
}

#[test]
fn many_come_and_go_and_no_descriptor_stays() {
    let (processes, events) = start();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for round in 0..10 {
        for n in 0..20 {
            processes.spawn(round * 100 + n, shell("sleep 0.01; exit 7"));
        }
        let mut ends = 0;
        while ends < 20 {
            if let ProcessEvent::Exited { end, .. } = next(&events) {
                assert_eq!(end, ProcessEnd::Status(7));
                ends += 1;
            }
        }
    }
    // Other tests open descriptors too.
    assert!(descriptors() < before + 100, "{} and {before}", descriptors());
}
