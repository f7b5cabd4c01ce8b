//! Many streams for few targets, and streams that end at once: bounds on the connections that clients can make the server open.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::amf::Amf;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::Wire;
use crate::forward::origin;
use crate::players::CLIENT_TIMEOUT;

/// Connection attempts that may run to one target at a time.
const MAX_ATTEMPTS_PER_TARGET: usize = 32;

/// Returns a numbered H.264 keyframe.
fn frame(number: u8) -> Tag {
    Tag { kind: VIDEO, timestamp: u32::from(number) * 40, payload: vec![0x17, 1, 0, 0, 0, number] }
}

fn header() -> Tag {
    Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 0, 0, 0, 0, 1] }
}

/// Publishes a stream and its first frame.
fn start_stream(port: u16, stream: &str) -> Wire {
    let mut publisher = Wire::next_publisher(port, stream);
    publisher.send_tag(&header());
    publisher.send_tag(&frame(0));
    publisher
}

/// A target that never answers.
struct SilentTarget {
    listener: TcpListener,
    callers: Vec<TcpStream>,
}

impl SilentTarget {
    fn new() -> SilentTarget {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        SilentTarget { listener, callers: Vec::new() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// Returns the number of open connections.
    fn open_connections(&mut self) -> usize {
        while let Ok((caller, _)) = self.listener.accept() {
            caller.set_nonblocking(true).expect("a socket option");
            self.callers.push(caller);
        }
        self.callers.retain_mut(|caller| {
            let mut said = [0; 4096];
            loop {
                match caller.read(&mut said) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
        });
        self.callers.len()
    }
}

#[test]
fn a_target_is_called_when_the_stream_has_begun_and_then_gets_all_of_it() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut silent = SilentTarget::new();
    let mut master = origin(&scratch, &format!("127.0.0.1:{} {}", slave.port, silent.address()), "");
    let mut player = Wire::player(slave.port, "s");
    let mut publisher = Wire::publisher(master.port, "s");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(silent.open_connections(), 0);
    publisher.send_tag(&header());
    (0..20).for_each(|number| publisher.send_tag(&frame(number)));
    player.wait_frames(20);
    let numbers: Vec<_> = player.frames().map(|tag| tag.payload[5]).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    eventually("the other target gets a connection", CLIENT_TIMEOUT, || (silent.open_connections() == 1).then_some(()));
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn only_so_many_streams_are_on_their_way_and_a_silent_target_does_not_keep_them_from_another() {
    const STREAMS: usize = 100;
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut silent = SilentTarget::new();
    let mut master = origin(&scratch, &format!("{} 127.0.0.1:{}", silent.address(), slave.port), "");
    let mut publishers: Vec<_> = (0..STREAMS).map(|number| start_stream(master.port, &format!("s{number}"))).collect();
    // If they waited for attempts to the silent target, which last ten seconds each, that would take more than half a minute.
    eventually("all streams arrive at the other target", Duration::from_secs(25), || {
        assert!(
            silent.open_connections() <= MAX_ATTEMPTS_PER_TARGET,
            "{} connection attempts at a time",
            silent.open_connections()
        );
        (slave.log().matches("] publish started: ").count() == STREAMS).then_some(())
    });
    eventually("as many attempts as may run do", CLIENT_TIMEOUT, || {
        (silent.open_connections() == MAX_ATTEMPTS_PER_TARGET).then_some(())
    });
    for (number, publisher) in publishers.iter_mut().enumerate() {
        publisher.command(0, "FCUnpublish", 0.0, &[Amf::Null, Amf::text(&format!("s{number}"))]);
        publisher.wait_status("NetStream.Unpublish.Success");
        assert!(
            silent.open_connections() <= MAX_ATTEMPTS_PER_TARGET,
            "{} connection attempts at a time",
            silent.open_connections()
        );
    }
    // Connected and waiting attempts end with their streams.
    eventually("all forwarders have ended", CLIENT_TIMEOUT, || {
        assert!(
            silent.open_connections() <= MAX_ATTEMPTS_PER_TARGET,
            "{} connection attempts at a time",
            silent.open_connections()
        );
        (master.log().matches("forward finished").count() == 2 * STREAMS).then_some(())
    });
    eventually("all connections are closed", CLIENT_TIMEOUT, || (silent.open_connections() == 0).then_some(()));

    // An attempt does not outlast its stream until its time limit of ten seconds.
    let mut last = start_stream(master.port, "last");
    let begun = Instant::now();
    eventually("an attempt", CLIENT_TIMEOUT, || (silent.open_connections() == 1).then_some(()));
    last.command(0, "FCUnpublish", 0.0, &[Amf::Null, Amf::text("last")]);
    eventually("its end", CLIENT_TIMEOUT, || (silent.open_connections() == 0).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn no_more_lost_streams_are_kept_at_a_target_than_clients_may_come() {
    const CLIENTS: usize = 10;
    const NAMES: usize = 40;
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let root = format!("max_connections {CLIENTS};");
    let vhost = format!("forward 127.0.0.1:{}; publish {{ reconnect_grace 60; }}", slave.port);
    let mut master = Server::with(&scratch, Settings { root: &root, vhost: &vhost, ..Settings::default() });
    for number in 0..NAMES {
        let _publisher = start_stream(master.port, &format!("s{number}"));
        eventually("the stream arrives at the target", CLIENT_TIMEOUT, || {
            (slave.log().matches("] publish started: ").count() == number + 1).then_some(())
        });
        // Dropping it loses the publisher; the server keeps the name for a minute.
    }
    eventually("the oldest lost streams are ended", CLIENT_TIMEOUT, || {
        (master.log().matches("forward stopped").count() == NAMES - CLIENTS).then_some(())
    });
    // A publisher that returns uses the same connection to the target.
    let _publisher = start_stream(master.port, &format!("s{}", NAMES - 1));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(slave.log().matches("] publish started: ").count(), NAMES);
    assert_eq!(master.log().matches("forward stopped").count(), NAMES - CLIENTS);
    master.assert_healthy();
    slave.assert_healthy();
}
