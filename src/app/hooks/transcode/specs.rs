//! The programs that the configuration asks for a stream.

use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::command::{Picture, rendition_heights};
use super::names::{NameError, Names, file_name};
use super::spec::{Media, ProgramKind, Spec};
use crate::app::session::info::StreamInfo;
use crate::app::stream::Source;
use crate::config::{Config, Supervision, Vhost};
use crate::http::uri::percent_encode;
use crate::os::process::LogFile;

const MAX_LOG_BYTES: u64 = 1_000_000;

/// An event at which commands of `exec` run once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExecEvent {
    Publish,
    Unpublish,
    Play,
    Stop,
    Recorded { file: String },
}

/// A program by its place in the configuration. It is the same one after a reload that changes it.
pub(super) type Key = String;

pub(super) type InvalidPrograms = Vec<(Key, NameError)>;

/// Returns the programs for a stream, by place, and what is wrong with others.
pub(super) fn of_stream(
    config: &Config,
    stream: &StreamInfo,
    source: &Source,
    time: SystemTime,
) -> (Vec<(Key, Spec)>, InvalidPrograms) {
    let Some(vhost) = config.vhosts.get(&stream.vhost).filter(|vhost| vhost.enabled) else { return Default::default() };
    let snapshot = source.snapshot();
    let size = snapshot.media.width.zip(snapshot.media.height);
    let media = Media { codecs: snapshot.codecs, size };
    let mut specs = Vec::new();
    let blocks = vhost.transcode.iter().filter(|block| block.enabled && block.applies_to(&stream.app, &stream.stream));
    for block in blocks {
        for engine in block.engines.iter().filter(|engine| engine.enabled) {
            let key = engine_key(&engine.name, &block.scope);
            let kind = ProgramKind::Engine(engine.clone());
            specs.push((key, &block.ffmpeg, kind, block.supervision, engine.name.clone()));
        }
    }
    if let Some((width, height)) = size.filter(|_| snapshot.codecs.video.is_some()) {
        let frame_rate = snapshot.media.frame_rate.filter(|_| vhost.ladder.max_fps > 0);
        let picture = Picture { width, height, frame_rate };
        let heights = rendition_heights(&vhost.ladder, picture);
        if !heights.is_empty() {
            let kind = ProgramKind::Ladder { ladder: vhost.ladder.clone(), heights, picture };
            let supervision = vhost.ladder.supervision;
            specs.push(("ladder".to_owned(), &vhost.ladder.ffmpeg, kind, supervision, "ladder".to_owned()));
        }
    }
    let empty = String::new();
    for (index, words) in vhost.exec.publish.iter().enumerate().filter(|_| vhost.exec.enabled) {
        let kind = ProgramKind::Exec(words.clone());
        specs.push((
            format!("exec publish {index}"),
            words.first().unwrap_or(&empty),
            kind,
            vhost.exec.supervision,
            index.to_string(),
        ));
    }
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (key, program, kind, supervision, label) in specs {
        let spec = make(config, stream, program, kind, supervision, &label, media);
        match spec.command(time) {
            Ok(_) => good.push((key, spec)),
            Err(error) => bad.push((key, error)),
        }
    }
    (good, bad)
}

fn engine_key(name: &str, scope: &str) -> Key {
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    let scope = if scope.is_empty() { String::new() } else { format!(" of {scope}") };
    format!("engine{name}{scope}")
}

/// Returns the commands of `exec` that run once at an event of a stream, and what is wrong with others.
pub(super) fn of_event(
    config: &Config,
    stream: &StreamInfo,
    event: &ExecEvent,
    time: SystemTime,
) -> Vec<(Key, Result<Spec, NameError>)> {
    let Some(vhost) = config.vhosts.get(&stream.vhost) else { return Vec::new() };
    let exec = &vhost.exec;
    let (name, commands) = event_commands(vhost, event);
    let spec = |(index, words): (usize, &Vec<String>)| {
        let program = words.first().cloned().unwrap_or_default();
        let kind = ProgramKind::Exec(words.clone());
        let label = format!("{name}-{index}");
        let mut spec = make(config, stream, &program, kind, exec.supervision, &label, Media::default());
        spec.timeout = Some(exec.timeout);
        if let ExecEvent::Recorded { file } = event {
            spec.names.file = Some(file.clone());
        }
        let spec = spec.command(time).map(|_| spec);
        (format!("exec {name} {index}"), spec)
    };
    commands.iter().enumerate().map(spec).collect()
}

pub(super) fn event_commands<'a>(vhost: &'a Vhost, event: &ExecEvent) -> (&'static str, &'a [Vec<String>]) {
    let exec = &vhost.exec;
    let (name, commands) = match event {
        ExecEvent::Publish => ("on_publish", &exec.on_publish),
        ExecEvent::Unpublish => ("on_unpublish", &exec.on_unpublish),
        ExecEvent::Play => ("on_play", &exec.on_play),
        ExecEvent::Stop => ("on_stop", &exec.on_stop),
        ExecEvent::Recorded { .. } => ("on_dvr", &exec.on_dvr),
    };
    (name, if exec.enabled && vhost.enabled { commands } else { &[] })
}

/// Returns whether the streams of a vhost have programs that run as long as they are published.
pub(super) fn has_programs(vhost: &Vhost) -> bool {
    let has_engines =
        vhost.transcode.iter().any(|block| block.enabled && block.engines.iter().any(|engine| engine.enabled));
    let has_commands = vhost.exec.enabled && !vhost.exec.publish.is_empty();
    vhost.enabled && (has_engines || has_commands || !vhost.ladder.heights.is_empty())
}

fn make(
    config: &Config,
    stream: &StreamInfo,
    program: &str,
    kind: ProgramKind,
    supervision: Supervision,
    label: &str,
    media: Media,
) -> Spec {
    let (address, port) = address(config);
    let prefix = if matches!(kind, ProgramKind::Exec(_)) { "exec" } else { "ffmpeg-encoder" };
    let log = (config.ff_log_dir != Path::new("/dev/null")).then(|| {
        let name = file_name(&[prefix, &stream.vhost, &stream.app, &stream.stream, label], ".log");
        LogFile { path: config.ff_log_dir.join(name), max_bytes: MAX_LOG_BYTES }
    });
    let names = Names::new(stream, address, port);
    Spec {
        program: program.to_owned(),
        picture: picture(config, &kind, &names),
        kind,
        names,
        log_level: config.ff_log_level,
        supervision,
        log,
        media,
        timeout: None,
    }
}

/// Returns the path on `http_server` of the picture that an engine keeps up to date. Files whose names change are none.
fn picture(config: &Config, kind: &ProgramKind, names: &Names) -> Option<String> {
    let ProgramKind::Engine(engine) = kind else { return None };
    if !config.http_server.enabled || !engine.oformat.starts_with("image2") || engine.output.contains('%') {
        return None;
    }
    let at =
        |millis| names.expand(&engine.output, &engine.name, SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
    // More than a year later.
    let (file, later) = (at(0).ok()?, at(40_000_000_123).ok()?);
    let plain = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    let path = plain(Path::new(&file)).strip_prefix(plain(&config.http_server.dir)).ok()?.to_str()?.to_owned();
    (file == later && !path.split('/').any(|part| part == "..")).then(|| format!("/{}", percent_encode(&path)))
}

/// Returns host and port, and the port, at which this machine reaches the server.
fn address(config: &Config) -> (String, u16) {
    let Some(listen) = config.listen.first() else { return ("127.0.0.1:1935".to_owned(), 1935) };
    let mut address = listen.address;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
        address.set_ip(loopback.parse().unwrap_or(address.ip()));
    }
    (address.to_string(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_reached_at_its_first_address() {
        let of = |listen: &str| address(&Config::parse("t", &format!("listen {listen};")).unwrap());
        assert_eq!(of("1936 1935"), ("127.0.0.1:1936".to_owned(), 1936));
        assert_eq!(of("192.0.2.1:1935"), ("192.0.2.1:1935".to_owned(), 1935));
        assert_eq!(of("[::]:1935"), ("[::1]:1935".to_owned(), 1935));
    }

    #[test]
    fn a_picture_on_the_web_server_has_a_path_there() {
        let of = |http: &str, format: &str, output: &str| {
            let text = format!(
                "listen 1; http_server {{ {http} }} vhost v {{ transcode {{ engine x {{ enabled on; vcodec mjpeg; \
                 acodec an; oformat {format}; output {output}; }} }} }}"
            );
            let config = Config::parse("t", &text).unwrap();
            let kind = ProgramKind::Engine(config.vhost("v").unwrap().transcode[0].engines[0].clone());
            let text = str::to_owned;
            let stream = StreamInfo {
                vhost: text("v"),
                app: text("live"),
                stream: text("é"),
                name: text("v/live/é"),
                params: String::new(),
            };
            picture(&config, &kind, &Names::new(&stream, text("h"), 1))
        };
        let on = "enabled on; dir ./html;";
        assert_eq!(of(on, "image2", "html/./[app]/[stream].jpg").as_deref(), Some("/live/%C3%A9.jpg"));
        for (http, format, output) in [
            ("dir ./html;", "image2", "html/a.jpg"),
            (on, "mpegts", "html/a.jpg"),
            (on, "image2", "html/a-%d.jpg"),
            (on, "image2", "html/a-[timestamp].jpg"),
            (on, "image2", "html/a-[2006].jpg"),
            (on, "image2", "html/a-[999].jpg"),
            (on, "image2", "html/../a.jpg"),
            (on, "image2", "other/a.jpg"),
            (on, "image2", "/html/a.jpg"),
        ] {
            assert_eq!(of(http, format, output), None, "{http} {format} {output}");
        }
    }

    #[test]
    fn vhosts_without_programs_cost_nothing() {
        let has = |text: &str| {
            let config = Config::parse("t", &format!("listen 1; vhost v {{ {text} }}")).unwrap();
            has_programs(config.vhost("v").unwrap())
        };
        let engine = |on: &str| format!("engine a {{ enabled {on}; vcodec copy; acodec copy; output x; }}");
        for (text, expected) in [
            (String::new(), false),
            (format!("transcode {{ enabled on; {} }}", engine("on")), true),
            (format!("transcode {{ enabled on; {} }}", engine("off")), false),
            (format!("transcode {{ {} }}", engine("on")), false),
            ("ladder 720p;".to_owned(), true),
            ("ladder 720p; enabled off;".to_owned(), false),
            ("exec { enabled on; publish a; }".to_owned(), true),
            ("exec { enabled on; on_publish a; }".to_owned(), false),
            ("exec { publish a; }".to_owned(), false),
        ] {
            assert_eq!(has(&text), expected, "{text}");
        }
    }
}
