//! Many streams for few targets, and streams that end as soon as they have begun: what a stranger may have the server do to others.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::common::amf::Amf;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::Wire;
use crate::forward::origin;
use crate::players::PATIENCE;

/// What may be on the way to one target at a time.
const STARTS_OF_TARGET: usize = 32;

/// Keyframes of H.264, numbered.
fn frame(number: u8) -> Tag {
    Tag { kind: VIDEO, timestamp: u32::from(number) * 40, payload: vec![0x17, 1, 0, 0, 0, number] }
}

fn header() -> Tag {
    Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 0, 0, 0, 0, 1] }
}

/// One that publishes, and has begun.
fn begun(port: u16, stream: &str) -> Wire {
    let mut publisher = Wire::next_publisher(port, stream);
    publisher.send_tag(&header());
    publisher.send_tag(&frame(0));
    publisher
}

/// A target that never says a word.
struct Silent {
    listener: TcpListener,
    callers: Vec<TcpStream>,
}

impl Silent {
    fn new() -> Silent {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        Silent { listener, callers: Vec::new() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// How many are connected and have not given up.
    fn callers(&mut self) -> usize {
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
    let mut silent = Silent::new();
    let mut master = origin(&scratch, &format!("127.0.0.1:{} {}", slave.port, silent.address()), "");
    let mut player = Wire::player(slave.port, "s");
    let mut publisher = Wire::publisher(master.port, "s");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(silent.callers(), 0);
    publisher.send_tag(&header());
    (0..20).for_each(|number| publisher.send_tag(&frame(number)));
    player.wait_frames(20);
    let numbers: Vec<_> = player.frames().map(|tag| tag.payload[5]).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    eventually("the other is called, too", PATIENCE, || (silent.callers() == 1).then_some(()));
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn only_so_many_streams_are_on_their_way_and_a_silent_target_does_not_keep_them_from_another() {
    const STREAMS: usize = 100;
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut silent = Silent::new();
    let mut master = origin(&scratch, &format!("{} 127.0.0.1:{}", silent.address(), slave.port), "");
    let mut publishers: Vec<_> = (0..STREAMS).map(|number| begun(master.port, &format!("s{number}"))).collect();
    eventually("all streams are at the other target", Duration::from_secs(5), || {
        assert!(silent.callers() <= STARTS_OF_TARGET, "{} at a time", silent.callers());
        (slave.log().matches("] publish started: ").count() == STREAMS).then_some(())
    });
    assert_eq!(silent.callers(), STARTS_OF_TARGET);
    for (number, publisher) in publishers.iter_mut().enumerate() {
        publisher.command(0, "FCUnpublish", 0.0, &[Amf::Null, Amf::text(&format!("s{number}"))]);
        publisher.wait_status("NetStream.Unpublish.Success");
        assert!(silent.callers() <= STARTS_OF_TARGET, "{} at a time", silent.callers());
    }
    // Those that are connected, and those that wait for a place, and not ten seconds later.
    eventually("all forwarders have ended", Duration::from_secs(5), || {
        assert!(silent.callers() <= STARTS_OF_TARGET, "{} at a time", silent.callers());
        (master.log().matches("forward finished").count() == 2 * STREAMS).then_some(())
    });
    eventually("nobody is there any more", PATIENCE, || (silent.callers() == 0).then_some(()));
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
        let _publisher = begun(master.port, &format!("s{number}"));
        eventually("it is at the target", PATIENCE, || {
            (slave.log().matches("] publish started: ").count() == number + 1).then_some(())
        });
        // Dropped: lost, and the name is kept for a minute.
    }
    eventually("the earliest are given up", PATIENCE, || {
        (master.log().matches("forward stopped").count() == NAMES - CLIENTS).then_some(())
    });
    // One of those that are kept goes on in the same connection.
    let _publisher = begun(master.port, &format!("s{}", NAMES - 1));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(slave.log().matches("] publish started: ").count(), NAMES);
    assert_eq!(master.log().matches("forward stopped").count(), NAMES - CLIENTS);
    master.assert_healthy();
    slave.assert_healthy();
}
