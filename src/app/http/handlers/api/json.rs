//! The JSON of the API. Names, types and order of the fields are those of SRS 6, so that its tools work; our own follow them.

mod extensions;
mod health;

use serde::Serialize;

use crate::app::session::client::ClientKind;
use crate::app::stats::snapshot::{
    AudioReport, ClientReport, ClientState, StreamReport, StreamState, VhostReport, VideoReport,
};
use crate::config::DEFAULT_VHOST;

pub(super) use extensions::{BanJson, ChangeJson, CloseJson, ForwarderJson, RecordingJson, SettingJson};
pub(super) use health::{OffenderJson, SampleJson};

/// Error codes of SRS, sent with the status 200.
pub(super) const NO_VHOST: u32 = 2014;
pub(super) const NO_STREAM: u32 = 2048;
pub(super) const NO_CLIENT: u32 = 2049;
pub(super) const RAW_DISABLED: u32 = 1061;
pub(super) const BAD_RPC: u32 = 1060;

/// A JSON object whose fields keep their order.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    pub(super) fn with(self, name: &str, value: impl Serialize) -> Self {
        self.with_json(name, &to_json(&value))
    }

    pub(super) fn with_object(self, name: &str, value: Object) -> Self {
        self.with_json(name, &value.finish())
    }

    /// Adds a field whose value is JSON already.
    pub(super) fn with_json(mut self, name: &str, value: &str) -> Self {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.0.push_str(&to_json(&name));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    pub(super) fn begin_list(self, name: &str) -> Self {
        self.with_json(name, "[")
    }

    /// Adds an item, which is JSON, to the list that was started.
    pub(super) fn push_item(&mut self, item: &str) {
        if !self.0.ends_with('[') {
            self.0.push(',');
        }
        self.0.push_str(item);
    }

    pub(super) fn end_list(mut self) -> Self {
        self.0.push(']');
        self
    }

    /// Starts a field that is an object: fields that follow are its own.
    pub(super) fn begin_object(self, name: &str) -> Self {
        self.with_json(name, "{")
    }

    pub(super) fn end_object(mut self) -> Self {
        self.0.push('}');
        self
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Returns the JSON of a value. It is valid in scripts too: a line separator ends a line in an old script, but not in JSON.
pub(super) fn to_json(value: &impl Serialize) -> String {
    // Numbers, texts and structures of them always have a JSON form.
    let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    match json.contains('\u{2028}') || json.contains('\u{2029}') {
        true => json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"),
        false => json,
    }
}

#[derive(Serialize)]
pub(super) struct Kbps {
    recv_30s: u64,
    send_30s: u64,
}

#[derive(Serialize)]
pub(super) struct VhostJson<'a> {
    id: String,
    name: &'a str,
    enabled: bool,
    clients: u64,
    streams: u64,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
    hls: HlsJson,
}

#[derive(Serialize)]
struct HlsJson {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragment: Option<f64>,
}

#[derive(Serialize)]
#[allow(non_snake_case, reason = "the names of SRS")]
pub(super) struct StreamJson<'a> {
    id: String,
    name: &'a str,
    vhost: String,
    app: &'a str,
    tcUrl: &'a str,
    url: String,
    /// The present time, as in SRS; tools take it for that of the sample.
    live_ms: u64,
    clients: u64,
    frames: u64,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
    publish: PublishJson,
    video: Option<VideoJson<'a>>,
    audio: Option<AudioJson<'a>>,
    // Our own from here on.
    vhost_name: &'a str,
    state: StreamState,
    uptime_s: f64,
    players: u64,
    forwarders: u64,
    fps: f64,
    video_kbps: u64,
    audio_kbps: u64,
    gop_ms: Option<u64>,
    av_skew_ms: Option<i64>,
    jitter_ms: f64,
    stalls: u64,
    drops: u64,
}

#[derive(Serialize)]
struct PublishJson {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
}

#[derive(Serialize)]
struct VideoJson<'a> {
    codec: String,
    profile: &'a str,
    level: &'a str,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct AudioJson<'a> {
    codec: String,
    sample_rate: u32,
    channel: u8,
    profile: &'a str,
}

#[derive(Serialize)]
#[allow(non_snake_case, reason = "the names of SRS")]
pub(super) struct ClientJson<'a> {
    id: String,
    vhost: String,
    stream: String,
    ip: String,
    pageUrl: &'a str,
    swfUrl: &'a str,
    tcUrl: &'a str,
    url: String,
    name: &'a str,
    r#type: &'static str,
    publish: bool,
    alive: f64,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
    // Our own from here on.
    vhost_name: &'a str,
    app: &'a str,
    state: ClientState,
    messages: u64,
    drops: u64,
}

impl<'a> VhostJson<'a> {
    pub(super) fn new(vhost: &'a VhostReport, id: String) -> Self {
        Self {
            id,
            name: &vhost.name,
            enabled: vhost.enabled,
            clients: vhost.clients,
            streams: vhost.streams,
            send_bytes: vhost.bytes_out,
            recv_bytes: vhost.bytes_in,
            kbps: Kbps { recv_30s: vhost.kbps_in, send_30s: vhost.kbps_out },
            hls: HlsJson { enabled: vhost.hls, fragment: vhost.hls.then(|| seconds(vhost.hls_fragment_ms)) },
        }
    }
}

impl<'a> StreamJson<'a> {
    pub(super) fn new(stream: &'a StreamReport, id: String, vhost_id: String, now_ms: u64) -> Self {
        let (video, audio) = (stream.video.as_ref(), stream.audio.as_ref());
        Self {
            id,
            name: &stream.stream,
            vhost: vhost_id,
            app: &stream.app,
            tcUrl: &stream.tc_url,
            url: url(&stream.vhost, &stream.app, &stream.stream),
            live_ms: now_ms,
            clients: stream.players + u64::from(stream.publisher.is_some()),
            frames: stream.video_frames,
            send_bytes: stream.bytes_out,
            recv_bytes: stream.bytes_in,
            kbps: Kbps { recv_30s: stream.kbps_in, send_30s: stream.kbps_out },
            publish: PublishJson { active: stream.publisher.is_some(), cid: stream.publisher.map(|id| id.to_string()) },
            video: video.map(VideoJson::new),
            audio: audio.map(AudioJson::new),
            vhost_name: &stream.vhost,
            state: stream.state,
            uptime_s: seconds(stream.uptime_ms),
            players: stream.players,
            forwarders: stream.forwarders,
            fps: video.map_or(0.0, |video| video.fps),
            video_kbps: video.map_or(0, |video| video.kbps),
            audio_kbps: audio.map_or(0, |audio| audio.kbps),
            gop_ms: stream.gop_ms,
            av_skew_ms: stream.av_skew_ms,
            jitter_ms: stream.jitter_ms,
            stalls: stream.stalls,
            drops: stream.dropped,
        }
    }
}

impl<'a> VideoJson<'a> {
    fn new(video: &'a VideoReport) -> Self {
        Self {
            codec: codec(&video.codec),
            profile: video.profile.unwrap_or_default(),
            level: video.level.as_deref().unwrap_or_default(),
            width: video.width.unwrap_or_default(),
            height: video.height.unwrap_or_default(),
        }
    }
}

impl<'a> AudioJson<'a> {
    fn new(audio: &'a AudioReport) -> Self {
        Self {
            codec: codec(&audio.codec),
            sample_rate: audio.sample_rate.unwrap_or_default(),
            channel: audio.channels.unwrap_or_default(),
            profile: audio.profile.unwrap_or_default(),
        }
    }
}

impl<'a> ClientJson<'a> {
    pub(super) fn new(client: &'a ClientReport, vhost: String, stream: String) -> Self {
        let has_stream = !client.stream_name.is_empty();
        Self {
            id: client.id.to_string(),
            vhost,
            stream,
            ip: client.ip.to_string(),
            pageUrl: &client.page_url,
            swfUrl: "",
            tcUrl: &client.tc_url,
            url: if has_stream { url(&client.vhost, &client.app, &client.stream) } else { String::new() },
            name: &client.stream,
            r#type: Self::type_of(client.state, client.kind),
            publish: client.state == ClientState::Publishing,
            alive: seconds(client.age_ms),
            send_bytes: client.bytes_out,
            recv_bytes: client.bytes_in,
            kbps: Kbps { recv_30s: client.kbps_in, send_30s: client.kbps_out },
            vhost_name: &client.vhost,
            app: &client.app,
            state: client.state,
            messages: client.messages,
            drops: client.dropped,
        }
    }

    /// Returns the name that SRS has for clients like this.
    pub(super) fn type_of(state: ClientState, kind: ClientKind) -> &'static str {
        match state {
            ClientState::Playing if kind == ClientKind::Flv => "flv-play",
            ClientState::Playing if kind == ClientKind::Hls => "hls-play",
            ClientState::Publishing => "fmle-publish",
            ClientState::Playing => "rtmp-play",
            ClientState::Connecting | ClientState::Idle | ClientState::Closing => "Unknown",
        }
    }
}

/// Returns the name that SRS has for a codec: `H264`, `HEVC`, `AAC`.
fn codec(name: &str) -> String {
    if name == "H.265" { "HEVC".to_owned() } else { name.replace('.', "") }
}

fn url(vhost: &str, app: &str, stream: &str) -> String {
    if vhost == DEFAULT_VHOST { format!("/{app}/{stream}") } else { format!("{vhost}/{app}/{stream}") }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
