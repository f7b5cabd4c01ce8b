//! The fuzz targets: one function for each decoder of untrusted bytes. Each feeds the decoder and checks a round trip if there
//! is an encoder. The drivers are `fuzz_targets/` (libFuzzer, guided by coverage) and `tests/fuzz` (the corpus and seeded
//! mutations of it, on any toolchain).
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed assumption must end the run"
)]

use std::io::{self, Cursor, Read, Write};
use std::path::{Component, Path};
#[cfg(feature = "hls")]
use std::sync::Arc;
#[cfg(feature = "hls")]
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use srs::app::hooks::http_callbacks::decoders;
#[cfg(feature = "hls")]
use srs::app::outputs::hls::buffer_pool::BufferPool;
#[cfg(feature = "hls")]
use srs::app::outputs::hls::segmenter::Segmenter;
use srs::app::session::request::{AppRequest, StreamRequest};
use srs::codec::flv::recording::Recording;
use srs::codec::mp4::{self, Fragment, Kind, Muxer, Sample, audio_config, mp3_config};
use srs::codec::nalu::{self, Nalus, VideoConfig};
use srs::codec::proxy::{self, Header};
#[cfg(feature = "hls")]
use srs::codec::ts::live::LiveMuxer;
use srs::codec::{aac, adts, amf0, amf3, avc, flv, hevc, mp3, picture};
use srs::config::{Config, StreamKeys, Target as ForwardTarget};
#[cfg(feature = "http")]
use srs::http::conditions::{self, Part};
#[cfg(feature = "http")]
use srs::http::request;
use srs::rtmp::chunk::{ChunkDecoder, ChunkHeader, ChunkStreamId, encode};
use srs::rtmp::client::Client;
use srs::rtmp::command::Command;
use srs::rtmp::connect::Connect;
use srs::rtmp::handshake;
use srs::rtmp::message::{Aggregate, Message, MessageType, UserControl};
use srs::rtmp::protocol::Polled;
use srs::rtmp::server::{Event, Server};

// The TS reader of the tool ts_info, which shares no code with the writer of the server.
#[cfg(feature = "hls")]
#[allow(dead_code)]
#[path = "../src/bin/ts_info/demux.rs"]
mod demux;
#[cfg(feature = "hls")]
#[allow(dead_code)]
#[path = "../src/bin/ts_info/stream.rs"]
mod stream;

/// A target: the name of its file in `fuzz_targets/` and its folder in `corpus/`, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("handshake", handshake),
    ("chunk", chunk),
    ("message", message),
    ("session", session),
    ("client", client),
    ("request", request),
    ("amf0", amf0),
    ("amf3", amf3),
    ("flv", flv),
    ("avc", avc),
    ("hevc", hevc),
    ("aac", aac),
    ("mp3", mp3),
    #[cfg(feature = "hls")]
    ("ts", ts),
    #[cfg(feature = "http")]
    ("http", http),
    #[cfg(feature = "http")]
    ("http_body", http_body),
    ("proxy", proxy),
    ("directive", directive),
    ("callback_answer", callback_answer),
    ("spool", spool),
    ("stream_keys", stream_keys),
];

/// A peer that sends fixed bytes and counts the received ones.
struct Script<'a> {
    input: Cursor<&'a [u8]>,
    received: usize,
}

impl<'a> Script<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { input: Cursor::new(input), received: 0 }
    }
}

impl Read for Script<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.received += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

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

/// Reads the headers of audio and video messages, and FLV files, and makes recordings of the tags, as FLV and as MP4.
pub fn flv(data: &[u8]) {
    if let Some(tag) = flv::read_video_header(data) {
        let _ = (tag.is_config(), tag.is_keyframe(), tag.is_sequence_header(), tag.codec.to_string());
        let body = &data[tag.body..];
        let kind = picture::picture_kind(tag.codec, body);
        assert!(kind == picture::PictureKind::Unknown || !body.is_empty());
        let _ = picture::has_whole_units(tag.codec, body);
    }
    if let Some(tag) = flv::read_audio_header(data) {
        let _ = (tag.is_config(), tag.is_sequence_header(), tag.codec.to_string());
    }
    let mut rest = data;
    let _ = flv::read_file_header(&mut rest);
    // Any bytes as metadata.
    let mut start = Vec::new();
    let mut recording = Recording::start(rest, true, false, &mut start);
    assert_eq!(recording.size(), start.len() as u64);
    let mut mp4 = Mp4::default();
    while let Ok(Some(tag)) = flv::read_tag(&mut rest) {
        mp4.tag(&tag);
        let mut out = Vec::new();
        flv::write_tag(&mut out, &tag).expect("a tag from a file can be written");
        // Times of any size, in any order.
        recording.on_tag(u64::from(tag.timestamp) << (tag.payload.len() % 21), out.len(), tag.kind == flv::TAG_VIDEO);
        assert_eq!(flv::read_tag(&mut &out[..]), Ok(Some(tag)));
    }
    let size = recording.size() / 2;
    let end = recording.finish(size);
    assert_eq!(end.len(), start.len(), "it replaces the start");
    let mut head = &end[..];
    assert!(matches!(flv::read_file_header(&mut head), Ok(Some(_))));
    let metadata = flv::read_tag(&mut head).expect("a tag").expect("a whole one");
    let mut values = &metadata.payload[..];
    let (name, object) = (amf0::read(&mut values).expect("a name"), amf0::read(&mut values).expect("values"));
    assert!(
        name.as_str() == Some("onMetaData") && object.as_object().is_some() && values.is_empty() && head.is_empty()
    );
    mp4.finish();
}

/// A recording as MP4.
#[derive(Default)]
struct Mp4 {
    muxer: Muxer,
    file: Vec<u8>,
    head: usize,
}

impl Mp4 {
    /// Describes a track by a sequence header, or adds a frame to it, and sometimes ends a fragment.
    fn tag(&mut self, tag: &flv::Tag) {
        // Times of any size, in any order.
        let dts = u64::from(tag.timestamp) << (tag.payload.len() % 33);
        if let Some(header) = flv::read_video_header(&tag.payload) {
            let data = tag.payload.slice(header.body..);
            if let Ok(config) = mp4::video_config(header.codec, header.packet, &data, (dts as u32, 1)) {
                self.muxer.configure(Kind::Video, &config);
            }
            let (composition, is_sync) = (header.composition_time, header.is_keyframe());
            self.muxer.push(Kind::Video, Sample { dts, composition, is_sync, data });
        }
        if let Some(header) = flv::read_audio_header(&tag.payload) {
            let data = tag.payload.slice(header.body..);
            for config in [audio_config(header.codec, &data), mp3_config(&data)].into_iter().flatten() {
                self.muxer.configure(Kind::Audio, &config);
            }
            self.muxer.push(Kind::Audio, Sample { dts, composition: 0, is_sync: true, data });
        }
        match tag.payload.len() % 4 {
            0 => self.append(Muxer::fragment),
            1 if tag.kind == flv::TAG_SCRIPT => _ = self.muxer.discard(),
            _ => {}
        }
    }

    fn append(&mut self, fragment: impl Fn(&mut Muxer) -> Option<Fragment>) {
        let Some(fragment) = fragment(&mut self.muxer) else { return };
        if self.head == 0 {
            self.file = self.muxer.head().expect("a track has samples");
            self.head = self.file.len();
        }
        self.file.extend_from_slice(&fragment.bytes);
        self.muxer.accept(&fragment);
    }

    /// Ends the file, which must consist of whole boxes.
    fn finish(mut self) {
        self.append(Muxer::last_fragment);
        let Some(recording) = self.muxer.into_recording() else { return };
        let completion = recording.finish(self.file.len() as u64);
        assert_eq!(completion.head.len(), self.head, "it replaces the head");
        self.file.extend_from_slice(&completion.tail);
        let mut rest = &self.file[..];
        while let Some((size, _)) = rest.split_first_chunk::<4>() {
            rest = rest.get(u32::from_be_bytes(*size) as usize..).expect("a whole box");
        }
        assert!(rest.is_empty());
    }
}

/// Reads an H.264 decoder configuration and a frame after it; the first byte is the length of the record.
pub fn avc(data: &[u8]) {
    video_config(data, avc::read_config);
}

/// Reads an H.265 decoder configuration and a frame, as [`avc`].
pub fn hevc(data: &[u8]) {
    video_config(data, hevc::read_config);
}

fn video_config(data: &[u8], read: fn(&[u8]) -> Result<VideoConfig, nalu::Error>) {
    let Some((&length, data)) = data.split_first() else { return };
    let (record, frame) = data.split_at(usize::from(length).min(data.len()));
    let Ok(config) = read(record) else { return };
    // A set has a length field of two bytes in the record, and a start code of four in the result.
    assert!(config.parameter_sets.len() <= 2 * record.len());
    assert!(matches!(config.length_size, 1 | 2 | 4));
    let (mut bytes, mut units) = (0, Nalus::new(frame, config.length_size));
    for unit in units.by_ref() {
        let Ok(unit) = unit else { break };
        bytes += config.length_size + unit.len();
    }
    assert!(bytes <= frame.len() && units.next().is_none(), "it ends with the frame or the first error");
}

/// Reads an AAC decoder configuration and checks the ADTS headers made from it.
pub fn aac(data: &[u8]) {
    let Ok(config) = aac::read_config(data) else { return };
    for length in [0, 1, 371, 8184, 8185, data.len()] {
        let Some(header) = config.adts_header(length) else {
            assert!(length > 8184 - 50);
            continue;
        };
        // Decodes the header by ISO/IEC 14496-3, 1.A.2.2.
        let (header, element) = header.split_at(adts::HEADER_SIZE);
        let bits = header.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        let field = |from: u32, count: u32| bits >> (56 - from - count) & ((1 << count) - 1);
        assert_eq!((field(0, 12), field(12, 4)), (0xfff, 1), "MPEG-4, without a checksum");
        assert_eq!(field(16, 2) + 1, u64::from(config.object_type));
        assert!(field(18, 4) < 13, "a rate with a number");
        // A layout without a number is the first element of the frame, and there is a number of channels all the same.
        assert!(field(23, 3) > 0 && element.first().is_none_or(|first| first >> 5 == 5));
        assert_eq!(field(30, 13), (length + header.len() + element.len()) as u64);
        assert_eq!(field(54, 2), 0, "one frame");
    }
    let frame = config.silent_frame();
    let Some(prefix) = config.adts_header(frame.len()) else { panic!("silence is short") };
    let (first, blocks) = adts::read_frames(&[&prefix[..], &frame].concat()).expect("a frame with its header");
    assert_eq!((first.object_type, first.sample_rate, blocks), (config.object_type, config.sample_rate, 1));
}

/// Reads the MP3 frames of a message.
pub fn mp3(data: &[u8]) {
    if let Some((rate, samples)) = mp3::count_samples(data) {
        let first = mp3::read_header(data).expect("samples need a frame");
        assert_eq!(rate, first.sample_rate);
        assert!((8000..=48_000).contains(&rate) && samples >= first.samples);
        // The shortest frame, of 8 kbit/s at 24 kHz, has 24 bytes.
        assert!(samples as usize <= 1152 * (1 + data.len() / 24));
    }
}

/// Converts an FLV file to HLS segments, and parses them with an independent reader.
#[cfg(feature = "hls")]
pub fn ts(data: &[u8]) {
    let mut rest = data;
    let _ = flv::read_file_header(&mut rest);
    let mut segmenter =
        Segmenter::new("fuzz", Duration::from_secs(1), Arc::new(|| SystemTime::UNIX_EPOCH), BufferPool::default());
    segmenter.start();
    let (mut endless, mut stream, mut written) = (LiveMuxer::new(), demux::Demuxer::default(), Vec::new());
    let (mut time, mut demuxer, mut frames) = (0_u64, demux::Demuxer::default(), 0);
    loop {
        let tag = flv::read_tag(&mut rest).ok().flatten();
        let segment = match &tag {
            Some(tag) => {
                // As corrected by the stream: always increasing, without jumps.
                time += u64::from(tag.timestamp).saturating_sub(time).clamp(1, 5000);
                frames += 1;
                match (flv::read_video_header(&tag.payload), flv::read_audio_header(&tag.payload)) {
                    (Some(video), _) if tag.kind == flv::TAG_VIDEO => {
                        endless.video(time, &video, &tag.payload, &mut written);
                    }
                    (_, Some(audio)) if tag.kind == flv::TAG_AUDIO => {
                        endless.audio(time, &audio, &tag.payload, &mut written);
                    }
                    _ => {}
                }
                if frames % 3 == 0 {
                    endless.flush(&mut written);
                }
                match (flv::read_video_header(&tag.payload), flv::read_audio_header(&tag.payload)) {
                    (Some(video), _) if tag.kind == flv::TAG_VIDEO => segmenter.on_video(time, &video, &tag.payload),
                    (_, Some(audio)) if tag.kind == flv::TAG_AUDIO => segmenter.on_audio(time, &audio, &tag.payload),
                    _ => None,
                }
            }
            None => segmenter.finish(),
        };
        if let Some(segment) = segment {
            assert!(segment.duration > 0 && segment.body.len().is_multiple_of(stream::PACKET));
            assert_eq!(demuxer.feed(&segment.body, true), segment.body.len());
            assert!(demuxer.is_sound(), "{demuxer:?}");
            // Gaps of one track are filled, with two pictures and ten packets of silence a second at most.
            assert!(demuxer.pids.values().map(|pid| pid.pes).sum::<u64>() <= frames + 12 * (time / 1000 + 1));
        }
        if tag.is_none() {
            break;
        }
    }
    assert_eq!(segmenter.buffered_bytes(), 0, "nothing is left after the end");
    endless.flush(&mut written);
    assert_eq!(stream.feed(&written, true), written.len());
    assert!(written.is_empty() || stream.is_sound(), "{stream:?}");
}

/// Parses the head of an HTTP request, its query and its range.
#[cfg(feature = "http")]
pub fn http(data: &[u8]) {
    let Ok(Some((request, length))) = request::parse(data) else { return };
    assert!(length <= data.len() && length <= request::MAX_HEAD);
    let path = &request.path;
    assert!(!path.split(['/', '\\']).any(|part| part == ".." || part == "."), "{path:?} leaves the folder");
    assert!(!path.chars().any(char::is_control), "{path:?}");
    // Bytes after the head do not matter, and a truncated head is incomplete.
    let head = &data[..length];
    assert!(matches!(request::parse(head), Ok(Some((again, same))) if same == length && again == request));
    for end in [0, length / 2, length - 1] {
        assert_eq!(request::parse(&head[..end]), Ok(None), "the first {end} bytes");
    }
    for size in [0, 1, 188, u64::MAX] {
        if let Some(Part::Bytes(bytes)) = request.range().map(|range| conditions::parse_range(range, size)) {
            assert!(bytes.start < bytes.end && bytes.end <= size);
        }
    }
    let _ = request.conditions();
    for (name, value) in request.query.pairs() {
        assert!(request.query.get(&name).is_some(), "{name:?}={value:?}");
    }
}

/// Parses an HTTP request with its body, which arrives at once, in pieces, and byte by byte: the result must be the same.
#[cfg(feature = "http")]
pub fn http_body(data: &[u8]) {
    const MAX_BODY: u64 = 1000;
    let Ok(Some((request, length))) = request::parse(data) else { return };
    let rest = &data[length..];
    let decode = |piece: usize| {
        let mut decoder = request.body_decoder(MAX_BODY)?;
        let (mut at, mut body) = (0, Vec::new());
        for end in (piece..rest.len()).step_by(piece).chain([rest.len()]) {
            let consumed = decoder.decode(&rest[at..end], &mut body)?;
            assert!(consumed <= end - at && body.len() as u64 <= MAX_BODY);
            at += consumed;
        }
        assert!(body.len() <= at, "a body is never longer than its coding");
        Ok((decoder.is_finished(), at, body))
    };
    let whole = decode(rest.len().max(1));
    for piece in [1, 7] {
        match (&whole, decode(piece)) {
            (Ok(whole), Ok(pieces)) => assert_eq!(*whole, pieces, "in pieces of {piece} bytes"),
            // A line that is too long is refused before its end arrives, perhaps for another reason.
            (Err::<_, srs::http::refusal::Refusal>(_), Err(_)) => {}
            (whole, pieces) => panic!("{whole:?} differs from {pieces:?} in pieces of {piece} bytes"),
        }
    }
}

/// Parses a PROXY header with increasing input, and checks that the parser never asks for bytes after the header.
pub fn proxy(data: &[u8]) {
    let mut have = 0;
    loop {
        match proxy::parse(&data[..have]) {
            Ok(Header::Incomplete(more)) => {
                assert!(more > 0);
                have += more;
                assert!(have <= 8192, "the size of a header is limited");
            }
            Ok(Header::Complete(_)) => {
                for end in 0..have {
                    assert!(
                        !matches!(proxy::parse(&data[..end]), Ok(Header::Complete(_))),
                        "complete at {end} and at {have}"
                    );
                }
                return;
            }
            Err(error) => {
                assert!(!error.to_string().chars().any(|c| c.is_control()), "{error}");
                return;
            }
        }
        if have > data.len() {
            return;
        }
    }
}

/// Parses a configuration, and checks that an error has one line per problem and a limited length.
pub fn directive(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse("fuzz", text) {
        Ok(config) => assert!(!config.listen.is_empty()),
        Err(error) => {
            let text = error.to_string();
            assert!(text.lines().count() <= 21, "{text}");
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}

/// Reads the answer of a backend of callbacks.
pub fn callback_answer(data: &[u8]) {
    let mut backend = Script::new(data);
    if let Some(length) = decoders::ask(&mut backend) {
        assert!(length <= 64 * 1024 + 4096, "{length}");
    }
    assert!(backend.received > 0, "the question");
}

/// Reads a spool file as it is, then with the right checksum before each line, and what it is rewritten to.
pub fn spool(data: &[u8]) {
    decoders::rewrite_spool(data);
    let (rewritten, _) = decoders::rewrite_spool(decoders::with_checksums(&String::from_utf8_lossy(data)).as_bytes());
    assert_eq!(decoders::rewrite_spool(rewritten.as_bytes()), (rewritten, 0));
}

/// Reads a file of stream keys. No key is in an error.
pub fn stream_keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = || text.trim_start_matches('\u{feff}').lines().map(|line| line.split('#').next().unwrap_or_default());
    match StreamKeys::parse(text) {
        Ok(keys) => lines().filter_map(|line| line.split_whitespace().next()).for_each(|key| {
            assert!(keys.find(key).is_some(), "{key:?}");
        }),
        Err((line, problem)) => {
            let text = lines().nth(line - 1).expect("a line of the file");
            let mut words = text.split_whitespace();
            let key = words.next().expect("an empty line is no mistake");
            // A short key, or one that is a word behind it too, can be in the text by chance.
            let by_chance = key.len() < 12 || words.any(|word| word.contains(key));
            assert!(by_chance || !problem.contains(key), "{problem}");
        }
    }
}
