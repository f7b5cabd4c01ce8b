//! Targets of RTMP: handshake, chunks, messages, both sides of a session, names, AMF.

use std::path::{Component, Path};

use bytes::{Bytes, BytesMut};
use srs::app::session::request::{AppRequest, StreamRequest};
use srs::codec::{amf0, amf3, flv};
use srs::config::{Config, Target as ForwardTarget};
use srs::rtmp::chunk::{ChunkDecoder, ChunkHeader, ChunkStreamId, encode};
use srs::rtmp::client::Client;
use srs::rtmp::command::Command;
use srs::rtmp::connect::Connect;
use srs::rtmp::handshake;
use srs::rtmp::message::{Aggregate, Message, MessageType, UserControl};
use srs::rtmp::protocol::Polled;
use srs::rtmp::server::{Event, Server};

use super::Script;

/// Runs both sides of the handshake, in either form.
pub fn handshake(data: &[u8]) {
    let mut client = Script::new(data);
    if handshake::accept(&mut client).is_ok() {
        assert_eq!(client.received, 1 + 2 * handshake::SIZE, "S0, S1 and S2");
    }
    for complex in [false, true] {
        let mut server = Script::new(data);
        if handshake::connect(&mut server, complex).is_ok() {
            assert_eq!(server.received, 1 + 2 * handshake::SIZE, "C0, C1 and C2");
        }
    }
}

/// Decodes all messages of `pieces`, up to an error.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, bool) {
    let (mut decoder, mut messages) = (ChunkDecoder::new(), Vec::new());
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, false),
            }
        }
        assert!(piece.is_empty(), "all of the input is consumed");
    }
    (messages, true)
}

/// Decodes a chunk stream in one piece, in two, and byte by byte, then encodes and decodes each message again.
pub fn chunk(data: &[u8]) {
    let Some((&split, data)) = data.split_first() else { return };
    let whole = decode([data]);
    let (front, back) = data.split_at(usize::from(split).min(data.len()));
    assert_eq!(decode([front, back]), whole, "in two pieces");
    assert_eq!(decode(data.chunks(1)), whole, "byte by byte");
    for message in &whole.0 {
        if matches!(message.kind, MessageType::SET_CHUNK_SIZE | MessageType::ABORT) {
            continue;
        }
        let header = ChunkHeader {
            csid: ChunkStreamId::VIDEO,
            kind: message.kind,
            timestamp: message.timestamp,
            stream_id: message.stream_id,
        };
        let mut out = BytesMut::new();
        encode(&mut out, &header, &message.payload, 128);
        assert_eq!(decode([&out[..]]), (vec![message.clone()], true));
    }
}

/// Decodes messages: user control, commands in AMF0 and AMF3, aggregates.
pub fn message(data: &[u8]) {
    if let Some(event) = UserControl::read(data) {
        assert_eq!(UserControl::read(&event.write()), Some(event));
    }
    for kind in [MessageType::COMMAND, MessageType::COMMAND_AMF3] {
        if let Ok(command) = Command::read(kind, data) {
            let written = command.write();
            let again = Command::read(MessageType::COMMAND, &written).expect("written values can be read");
            assert_eq!(again.write(), written);
            let _ = (again.text(0), again.number(1));
        }
    }
    let payload = Bytes::copy_from_slice(data);
    let mut aggregate =
        Aggregate::new(Message { kind: MessageType::AGGREGATE, timestamp: 5000, stream_id: 1, payload });
    let mut bytes = 0;
    while let Ok(Some(message)) = aggregate.next_message() {
        bytes += message.payload.len() + 11;
        assert_eq!(message.stream_id, 1);
    }
    assert!(bytes <= data.len());
}

/// Feeds the input of a client after the handshake to the server side.
pub fn session(data: &[u8]) {
    let (mut server, mut client) = (Server::new(()), ChunkDecoder::new());
    server.accept_connect(&Connect::new("live", "rtmp://localhost/live"), 4096);
    for piece in data.chunks(1400) {
        if server.protocol().feed(piece).is_err() {
            return;
        }
        loop {
            match server.poll_event() {
                Ok(Some(Event::Publish(publish))) => server.start_publish(&publish),
                Ok(Some(Event::Play(play))) => server.start_play(&play),
                Ok(Some(Event::Pause(paused))) => server.send_pause_status(1, paused),
                Ok(Some(Event::Media(message))) => media(&message),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        let replies = server.protocol().take_output();
        let mut rest = &replies[..];
        while client.decode(&mut rest).expect("the replies are a valid chunk stream").is_some() {}
    }
}

/// Feeds the input of a server to the client side: from the reply to `connect` until the client publishes a stream.
pub fn client(data: &[u8]) {
    let replies = [&[3][..], &[0; 2 * handshake::SIZE], data].concat();
    let Ok(mut client) = Client::handshake(Script::new(&replies), false) else {
        unreachable!("the replies contain a handshake")
    };
    client.protocol().limit_incomplete(64 * 1024);
    let url = "rtmp://127.0.0.1/live";
    if client.connect("live", url, &amf0::Object::new()).is_err() || client.publish("stream").is_err() {
        return;
    }
    let mut fed = 0;
    loop {
        match client.protocol().poll_message() {
            Ok(Polled::Message(message)) => {
                if let Ok(command) = Command::from_message(&message) {
                    let text = srs::rtmp::client::info_text(&command, "tcUrl");
                    if let (Some(there), Some(target)) = (text, ForwardTarget::parse(url)) {
                        let names = srs::config::StreamNames { vhost: "v", app: "live", stream: "stream", params: "" };
                        target.resolve(names).redirected(there);
                    }
                }
            }
            Ok(Polled::Yield) => {}
            // The input after the replies to the commands, in pieces as from a network.
            Ok(Polled::Empty) => {
                let piece = &data[fed.min(data.len())..(fed + 100).min(data.len())];
                if piece.is_empty() || client.protocol().feed(piece).is_err() {
                    return;
                }
                fed += piece.len();
            }
            Err(_) => return,
        }
        assert!(client.protocol().output_len() <= 100 * (data.len() + 100), "replies are bounded by the requests");
    }
}

/// Checks the names in `connect` and `publish`: application, URL and stream, one per line. A valid name cannot leave the
/// folder of the application.
pub fn request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (app, url, stream) = (line(), line(), line());
    let config = Config::parse("fuzz", "listen 1935; vhost __defaultVhost__ { } vhost demo.com { }").unwrap();
    let Ok(app) = AppRequest::new(&Connect::new(app, url), &config) else { return };
    let Ok(StreamRequest { vhost, app, stream, name, .. }) = app.stream(stream, &config) else { return };
    assert_eq!(name, format!("{}/{app}/{stream}", vhost.name));
    let path = Path::new("html").join(&app).join(format!("{stream}.m3u8"));
    assert!(
        path.starts_with("html/") && path.components().all(|part| matches!(part, Component::Normal(_))),
        "{path:?}"
    );
    assert!(!name.chars().any(char::is_control) && app.len() <= 255 && stream.len() <= 255);
    // The server to which the stream is forwarded must derive the same name.
    let again = AppRequest::new(&Connect::new(&app, &format!("rtmp://{}/{app}", vhost.name)), &config);
    assert_eq!(again.unwrap().stream(&stream, &config).unwrap().name, name);
}

fn media(message: &Message) {
    match message.kind {
        MessageType::AUDIO => drop(flv::read_audio_header(&message.payload)),
        MessageType::VIDEO => drop(flv::read_video_header(&message.payload)),
        _ => drop(amf0::read_all(&message.payload)),
    }
}

fn written(values: &[amf0::Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| amf0::write(&mut out, value));
    out
}

/// Reads AMF0 and checks that writing, reading and writing again gives the same bytes.
pub fn amf0(data: &[u8]) {
    if let Ok(values) = amf0::read_all(data) {
        let first = written(&values);
        let again = amf0::read_all(&first).expect("written values can be read");
        assert_eq!(written(&again), first);
        let _ = format!("{values:?}");
    }
}

/// Reads AMF3 and checks the round trip of the resulting AMF0.
pub fn amf3(data: &[u8]) {
    let mut rest = data;
    if let Ok(value) = amf3::read(&mut rest) {
        assert!(data.ends_with(rest));
        let first = written(std::slice::from_ref(&value));
        assert_eq!(written(&amf0::read_all(&first).expect("written values can be read")), first);
    }
}
