use super::*;
use crate::app::session::close::CloseReason;
use crate::rtmp::command::Command;
use crate::rtmp::message::{MessageType, UserControl};
use crate::rtmp::server::{Event, Server as Rtmp};
use crate::st::net::TcpListener;

const BOUND: Duration = Duration::from_secs(20);

struct CountingRole {
    rtmp: Rtmp<TcpStream>,
    wait: Duration,
    max_timeouts: usize,
    timeouts: usize,
    messages: usize,
    reads: usize,
    max_pending_replies: usize,
}

impl CountingRole {
    fn new(stream: TcpStream, wait: Duration) -> Self {
        let rtmp = Rtmp::new(stream);
        Self { rtmp, wait, max_timeouts: usize::MAX, timeouts: 0, messages: 0, reads: 0, max_pending_replies: 0 }
    }
}

impl Role for CountingRole {
    type End = ();
    type Error = CloseReason;

    fn not_reading() -> CloseReason {
        CloseReason::NotReading
    }

    fn protocol(&mut self) -> &mut Protocol<TcpStream> {
        self.rtmp.protocol()
    }

    fn start_round(&mut self, _: Instant) -> Result<Option<()>, CloseReason> {
        Ok((self.timeouts >= self.max_timeouts).then_some(()))
    }

    fn handle_next(&mut self) -> Result<Handled<()>, CloseReason> {
        let Some(event) = self.rtmp.poll_event()? else { return Ok(Handled::NoMessage) };
        self.messages += 1;
        self.max_pending_replies = self.max_pending_replies.max(self.rtmp.protocol().output_len());
        Ok(if matches!(event, Event::Stop(_)) { Handled::End(()) } else { Handled::Message })
    }

    fn on_input(&mut self, _: Instant) {
        self.reads += 1;
    }

    fn finish_round(&mut self, round: &Round) -> Result<Next<()>, CloseReason> {
        Ok(Next::Wait(round.all_sent.then(|| round.now + self.wait)))
    }

    fn on_deadline(&mut self) {
        self.timeouts += 1;
        self.rtmp.protocol().user_control(UserControl::PingRequest(7));
    }

    fn has_media(&self, _: bool) -> bool {
        false
    }
}

/// Returns both ends of a connection. `receive_buffer`: of the first.
fn pair(receive_buffer: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let near = TcpStream::connect_with(listener.local_addr().unwrap(), BOUND, receive_buffer).unwrap();
    (near, listener.accept().unwrap().unwrap())
}

fn pump(role: &mut CountingRole, send_timeout: Duration) -> Pump<'static> {
    Pump::new(role.protocol(), None, &Admission::default(), send_timeout)
}

fn create_stream() -> Command {
    Command::new("createStream", 2.0)
}

#[test]
fn replies_are_written_and_a_message_may_end_the_loop() {
    st::run(|| {
        let (near, far) = pair(None);
        let peer = st::spawn("peer", 0, move || {
            let mut client = Protocol::new(near);
            client.send_command(0, &create_stream());
            let reply = client.recv_message().unwrap();
            assert_eq!(Command::from_message(&reply).unwrap().name, "_result");
            client.send_command(0, &create_stream());
            client.send_command(1, &Command::new("closeStream", 0.0));
            client.send_command(0, &Command::new("createStream", 3.0));
            client.flush().unwrap();
            assert_eq!(Command::from_message(&client.recv_message().unwrap()).unwrap().transaction, 2.0);
        });
        let mut role = CountingRole::new(far, BOUND);
        let mut pump = pump(&mut role, BOUND);
        pump.run(&mut role).unwrap();
        pump.finish(role.protocol()).unwrap();
        // The reply to what came before the end, and the message after it, are the next one's.
        assert!(role.protocol().has_output());
        role.rtmp.flush().unwrap();
        peer.unwrap().join();
        assert_eq!(role.rtmp.poll_event().unwrap(), None);
        assert!(role.protocol().has_output(), "the reply to the last command");
    })
    .unwrap();
}

#[test]
fn a_wait_ends_at_the_deadline_of_the_role() {
    st::run(|| {
        let (near, far) = pair(None);
        let mut role = CountingRole::new(far, Duration::from_millis(20));
        role.max_timeouts = 3;
        let started = Instant::now();
        pump(&mut role, BOUND).run(&mut role).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(60));
        let mut peer = Protocol::new(near);
        // A User Control message of 18 bytes each. The third ping stays queued.
        while peer.stream().bytes_received() < 36 {
            peer.receive().unwrap();
        }
    })
    .unwrap();
}

#[test]
fn a_peer_that_only_sends_is_closed_and_its_replies_are_bounded() {
    st::run(|| {
        let (near, far) = pair(Some(4096));
        far.set_unsent_limit(4096).unwrap();
        let flood = near.clone();
        let flooder = st::spawn("flooder", 0, move || {
            let mut client = Protocol::new(flood);
            for _ in 0..500 {
                client.send_command(0, &create_stream());
            }
            let burst = client.take_output();
            let mut stream = client.stream();
            while stream.write_all(&burst).is_ok() {}
        });
        let mut role = CountingRole::new(far, BOUND);
        let mut pump = pump(&mut role, Duration::from_millis(200));
        assert_eq!(pump.run(&mut role).unwrap_err(), CloseReason::NotReading);
        assert!(role.max_pending_replies < MAX_PENDING_REPLIES + 4096, "{}", role.max_pending_replies);
        assert!(pump.queued_replies < 2 * MAX_PENDING_REPLIES + 4096, "{}", pump.queued_replies);
        near.shutdown();
        flooder.unwrap().join();
    })
    .unwrap();
}

#[test]
fn a_peer_that_reads_is_served_however_much_it_sends() {
    const COMMANDS: usize = 5000;
    st::run(|| {
        let (near, far) = pair(None);
        let writer = near.clone();
        let flooder = st::spawn("flooder", 0, move || {
            let mut client = Protocol::new(writer);
            for _ in 0..COMMANDS {
                client.send_command(0, &create_stream());
            }
            client.flush().unwrap();
        });
        let reader = st::spawn("reader", 0, move || {
            let mut client = Protocol::new(near.clone());
            for number in 1..=COMMANDS {
                let reply = client.recv_message().unwrap();
                assert_eq!(reply.kind, MessageType::COMMAND);
                assert_eq!(Command::from_message(&reply).unwrap().number(0), Some(number as f64));
            }
            near.shutdown();
        });
        let mut role = CountingRole::new(far, BOUND);
        assert_eq!(pump(&mut role, BOUND).run(&mut role).unwrap_err(), CloseReason::ByPeer);
        assert!(role.reads > 1);
        flooder.unwrap().join();
        reader.unwrap().join();
    })
    .unwrap();
}
