use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::rtmp::chunk::{ChunkDecoder, ChunkStreamId};
use crate::rtmp::client::Client;

/// Takes and decodes the queued messages of a server.
fn take_replies(server: &mut Server<()>) -> Vec<Message> {
    let bytes = server.protocol().take_output();
    let (mut rest, mut decoder, mut messages) = (&bytes[..], ChunkDecoder::new(), Vec::new());
    while let Some(message) = decoder.decode(&mut rest).unwrap() {
        messages.push(message);
    }
    messages
}

fn commands(server: &mut Server<()>) -> Vec<Command> {
    let is_command = |message: &Message| message.kind == MessageType::COMMAND;
    take_replies(server).iter().filter(|m| is_command(m)).map(|m| Command::read(m.kind, &m.payload).unwrap()).collect()
}

/// Sends a command to a server. Returns its event and its replies.
fn send(stream_id: u32, command: &Command) -> (Option<Event>, Vec<Command>) {
    let mut client = Protocol::new(());
    client.send_command(stream_id, command);
    let mut server = Server::new(());
    server.protocol().feed(&client.take_output()).unwrap();
    let event = server.poll_event().unwrap();
    (event, commands(&mut server))
}

fn code(command: &Command) -> String {
    command.args[0].as_object().unwrap().get("code").unwrap().as_str().unwrap().to_owned()
}

#[test]
fn streams_are_created_one_after_the_other() {
    let mut client = Protocol::new(());
    client.send_command(0, &Command::new("createStream", 2.0));
    client.send_command(0, &Command::new("createStream", 3.0));
    let mut server = Server::new(());
    server.protocol().feed(&client.take_output()).unwrap();
    assert_eq!(server.poll_event().unwrap(), None);
    let ids: Vec<_> = commands(&mut server).iter().map(|reply| (reply.transaction, reply.number(0))).collect();
    assert_eq!(ids, [(2.0, Some(1.0)), (3.0, Some(2.0))]);
}

#[test]
fn publish_and_play_are_for_the_application() {
    let name = "livestream?token=1".to_owned();
    let publish = Command::new("publish", 5.0).arg(name.as_str()).arg("live");
    assert_eq!(send(1, &publish), (Some(Event::Publish(Publish { stream_id: 1, name: name.clone() })), vec![]));
    let play = Command::new("play", 4.0).arg(name.as_str()).arg(-2000.0);
    assert_eq!(send(3, &play).0, Some(Event::Play(Play { stream_id: 3, name: name.clone() })));
    let play2 = Command::new("play2", 0.0).arg(Object::new().with("streamName", name.as_str()));
    assert_eq!(send(3, &play2).0, Some(Event::Play(Play { stream_id: 3, name })));
    assert_eq!(send(3, &Command::new("play2", 0.0)).0, None);
}

#[test]
fn many_commands_end_a_stream() {
    assert_eq!(send(1, &Command::new("closeStream", 0.0)).0, Some(Event::Stop(1)));
    assert_eq!(send(0, &Command::new("deleteStream", 7.0).arg(2.0)).0, Some(Event::Stop(2)));
    assert_eq!(send(0, &Command::new("deleteStream", 7.0).arg(f64::NAN)).0, Some(Event::Stop(0)));
    assert_eq!(send(1, &Command::new("play", 0.0).arg(false)).0, Some(Event::Stop(1)));
    assert_eq!(send(1, &Command::new("publish", 0.0).arg(false)).0, Some(Event::Stop(1)));
    let (event, replies) = send(0, &Command::new("FCUnpublish", 6.0).arg("livestream"));
    assert_eq!(event, Some(Event::Stop(0)));
    assert_eq!((replies[0].name.as_str(), replies[1].name.as_str()), ("onFCUnpublish", "_result"));
}

#[test]
fn commands_without_effect_get_a_reply() {
    for call in ["releaseStream", "FCPublish", "FCSubscribe", "getStreamLength", "_checkbw", "noSuchCall"] {
        let (event, replies) = send(0, &Command::new(call, 9.0).arg("livestream"));
        assert_eq!(event, None, "{call}");
        assert_eq!((replies[0].name.as_str(), replies[0].transaction), ("_result", 9.0), "{call}");
    }
    assert_eq!(send(0, &Command::new("noSuchCall", 0.0)), (None, vec![]), "no transaction, no reply");
    let (event, replies) = send(1, &Command::new("seek", 9.0).arg(1000.0));
    assert_eq!((event, code(&replies[0]).as_str()), (None, "NetStream.Seek.Failed"));
}

#[test]
fn only_commands_of_a_registered_name_reach_the_application() {
    let check = Command::new("onSrsBandCheckStarting", 3.0).object(Object::new().with("limit", 9.0)).arg(true);
    let mut client = Protocol::new(());
    let mut call = |server: &mut Server<()>, command: &Command| {
        client.send_command(0, command);
        server.protocol().feed(&client.take_output()).unwrap();
        (server.poll_event().unwrap(), commands(server))
    };
    let mut server = Server::new(());
    let (event, replies) = call(&mut server, &check);
    assert_eq!((event, replies[0].name.as_str()), (None, "_result"), "not registered yet");
    server.register_command("onSrsBandCheckStarting");
    server.register_command("createStream");
    assert_eq!(call(&mut server, &check), (Some(Event::Command(Box::new(check))), vec![]), "its values are decoded");
    let many = (0..40).fold(Command::new("onSrsBandCheckStarting", 0.0), |command, n| command.arg(f64::from(n)));
    let (Some(Event::Command(command)), _) = call(&mut server, &many) else { panic!("no event") };
    assert_eq!((command.args.len(), command.number(15)), (MAX_COMMAND_ARGS, Some(15.0)), "the others are dropped");
    let (event, replies) = call(&mut server, &Command::new("createStream", 4.0));
    assert_eq!((event, replies[0].number(0)), (None, Some(1.0)), "commands of RTMP stay with the server");
    let long =
        Command::new("onSrsBandCheckStarting", 0.0).arg("x".repeat(65_000).as_str()).arg("x".repeat(1000).as_str());
    client.send_command(0, &long);
    server.protocol().feed(&client.take_output()).unwrap();
    assert!(server.poll_event().is_err(), "more than 64 KiB");
}

#[test]
fn pause_and_receive() {
    assert_eq!(send(1, &Command::new("pause", 0.0).arg(true).arg(0.0)).0, Some(Event::Pause(true)));
    assert_eq!(send(1, &Command::new("pauseRaw", 0.0).arg(false).arg(0.0)).0, Some(Event::Pause(false)));
    assert_eq!(send(1, &Command::new("receiveAudio", 0.0).arg(false)).0, Some(Event::ReceiveAudio(false)));
    assert_eq!(send(1, &Command::new("receiveVideo", 0.0).arg(true)).0, Some(Event::ReceiveVideo(true)));
}

#[test]
fn the_reply_to_connect_is_that_of_the_original() {
    let mut server = Server::new(());
    let connect = Connect { transaction: 1.0, object_encoding: 3.0, ..Connect::default() };
    server.accept_connect(&connect, 60_000);
    let replies = take_replies(&mut server);
    let kinds: Vec<_> = replies.iter().map(|message| message.kind.0).collect();
    // Window, bandwidth, chunk size (not returned by the decoder), _result, onBWDone.
    assert_eq!(kinds, [5, 6, 20, 20]);
    let result = Command::read(MessageType::COMMAND, &replies[2].payload).unwrap();
    assert_eq!((result.name.as_str(), code(&result).as_str()), ("_result", "NetConnection.Connect.Success"));
    let properties = result.object.as_object().unwrap();
    assert_eq!(properties.get("fmsVer").unwrap().as_str(), Some("FMS/3,5,3,888"));
    assert_eq!(properties.get("fourCcList"), None, "the client did not send it");
    let information = result.args[0].as_object().unwrap();
    assert_eq!(information.get("objectEncoding").unwrap().as_number(), Some(3.0));
}

#[test]
fn enhanced_capabilities_are_those_of_a_server_that_forwards() {
    let list = Value::StrictArray(vec![Value::from("hvc1"), Value::from("av01")]);
    let object = Object::new()
        .with("fourCcList", list.clone())
        .with("videoFourCcInfoMap", Object::new().with("hvc1", 1.0))
        .with("capsEx", 15.0);
    let connect = Connect { object, ..Connect::default() };
    let properties = connect.add_enhanced_properties(Object::new());
    assert_eq!(properties.get("fourCcList"), Some(&list));
    let map = properties.get("videoFourCcInfoMap").unwrap().as_object().unwrap();
    assert_eq!(map.get("*").unwrap().as_number(), Some(crate::rtmp::client::CAN_FORWARD));
    assert_eq!(properties.get("audioFourCcInfoMap"), None);
    assert_eq!(properties.get("capsEx").unwrap().as_number(), Some(14.0), "all but reconnect");
    for list in [vec![Value::from("hvc1"); 65], vec![Value::from("hvc1x")], vec![Value::from(1.0)]] {
        let hostile =
            Connect { object: Object::new().with("fourCcList", Value::StrictArray(list)), ..Connect::default() };
        assert_eq!(hostile.add_enhanced_properties(Object::new()).get("fourCcList"), None);
    }
    let hostile = Connect { object: Object::new().with("capsEx", f64::NAN), ..Connect::default() };
    assert_eq!(hostile.add_enhanced_properties(Object::new()).get("capsEx").unwrap().as_number(), Some(0.0));
}

#[test]
fn a_long_name_is_not_sent_back() {
    let mut server = Server::new(());
    server.start_play(&Play { stream_id: 1, name: "n".repeat(60_000) });
    assert!(server.protocol().output_len() < 2000);
}

#[test]
fn amf3_commands_are_understood() {
    let mut client = Protocol::new(());
    let payload = [&[0][..], &Command::new("createStream", 2.0).write()].concat().into();
    let message = Message { kind: MessageType::COMMAND_AMF3, timestamp: 0, stream_id: 0, payload };
    client.send(ChunkStreamId::COMMAND, &message);
    let mut server = Server::new(());
    server.protocol().feed(&client.take_output()).unwrap();
    assert_eq!(server.poll_event().unwrap(), None);
    assert_eq!(commands(&mut server)[0].number(0), Some(1.0));
}

#[test]
fn a_client_and_a_server_understand_each_other() {
    for complex in [false, true] {
        let (near, far) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            let (mut server, _) = Server::accept(far).unwrap();
            let connect = server.connect().unwrap();
            assert_eq!((connect.app.as_str(), connect.tc_url.as_str()), ("live", "rtmp://there/live"));
            server.accept_connect(&connect, 60_000);
            let Event::Publish(publish) = server.next_event().unwrap() else { panic!("no publish") };
            server.start_publish(&publish);
            let Event::Media(message) = server.next_event().unwrap() else { panic!("no media") };
            assert_eq!(server.next_event().unwrap(), Event::Stop(0));
            assert_eq!(server.next_event().unwrap(), Event::Stop(publish.stream_id));
            let Event::Publish(publish) = server.next_event().unwrap() else { panic!("no second publish") };
            server.send_stream_error(publish.stream_id, "NetStream.Publish.BadName", "it is taken");
            server.flush().unwrap();
            message
        });
        let mut client = Client::handshake(near, complex).unwrap();
        client.connect("live", "rtmp://there/live", &Object::new()).unwrap();
        let stream_id = client.publish("livestream").unwrap();
        let sent =
            Message { kind: MessageType::VIDEO, timestamp: 0x0123_4567, stream_id, payload: vec![7; 100_000].into() };
        client.send(&sent).unwrap();
        client.unpublish(stream_id, "livestream").unwrap();
        let error = client.publish("livestream").unwrap_err().to_string();
        assert!(error.contains("NetStream.Publish.BadName"), "{error}");
        assert_eq!(server.join().unwrap(), sent);
    }
}

#[test]
fn a_first_command_other_than_connect_is_an_error() {
    let (near, far) = UnixStream::pair().unwrap();
    let client = thread::spawn(move || {
        let mut client = Client::handshake(near, false).unwrap();
        client.protocol().send_command(0, &Command::new("createStream", 1.0));
        client.protocol().flush().unwrap();
    });
    let (mut server, _) = Server::accept(far).unwrap();
    let error = server.connect().unwrap_err().to_string();
    assert_eq!(error, "the first command is \"createStream\", not connect");
    client.join().unwrap();
}

#[test]
fn a_whole_session_may_be_split_at_any_byte() {
    let mut client = Protocol::new(());
    client.set_chunk_size(300);
    for (stream_id, command) in [
        (0, Command::new("releaseStream", 2.0).arg("s")),
        (0, Command::new("FCPublish", 3.0).arg("s")),
        (0, Command::new("createStream", 4.0)),
        (1, Command::new("publish", 5.0).arg("s").arg("live")),
    ] {
        client.send_command(stream_id, &command);
    }
    client.user_control(UserControl::PingRequest(9));
    for time in [0, 40, 0x00ff_ffff, 0x0100_0000] {
        let payload = vec![7; 700].into();
        let message = Message { kind: MessageType::VIDEO, timestamp: time, stream_id: 1, payload };
        client.send(ChunkStreamId::VIDEO, &message);
    }
    client.send_command(0, &Command::new("FCUnpublish", 6.0).arg("s"));
    client.send_command(0, &Command::new("deleteStream", 7.0).arg(1.0));
    let bytes = client.take_output();

    let serve = |pieces: &[&[u8]]| {
        let mut server = Server::new(());
        let mut events = Vec::new();
        for piece in pieces {
            server.protocol().feed(piece).unwrap();
            while let Some(event) = server.poll_event().unwrap() {
                events.push(event);
            }
        }
        (events, take_replies(&mut server))
    };
    let whole = serve(&[&bytes]);
    assert_eq!(whole.0.len(), 1 + 4 + 2, "publish, video, and two ends");
    for at in 0..bytes.len() {
        assert_eq!(serve(&[&bytes[..at], &bytes[at..]]), whole, "split at {at}");
    }
    assert_eq!(serve(&bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
}
