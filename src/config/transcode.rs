//! `transcode`, `ladder` and `exec`: programs that run for streams.

use std::time::Duration;

use super::error::Reason;
use super::reader::{Reader, Section};

/// Engines for the streams of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// The streams: an application, an application and a stream, or empty for all of the vhost.
    pub scope: String,
    /// `enabled`.
    pub enabled: bool,
    /// `ffmpeg`: the program, a path or a name in `PATH`.
    pub ffmpeg: String,
    /// Limits of each engine, and the reasons to restart it.
    pub supervision: Supervision,
    /// `engine`: by name, those that are off included.
    pub engines: Vec<Engine>,
}

/// Limits of a process, and the reasons to restart it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supervision {
    /// `nice`: nice value, from 0 to 19.
    pub nice: u8,
    /// `max_process_memory`: address space in bytes; 0 means no limit.
    pub max_memory: u64,
    /// `max_cpus`: processors that it may use; 0 means all.
    pub max_cpus: usize,
    /// `stall_timeout`: time without output after which it is restarted; zero means never.
    pub stall_timeout: Duration,
    /// `max_lag`: delay of its output at which it is restarted; zero means never.
    pub max_lag: Duration,
}

/// One ffmpeg for each stream, with the directives of SRS. Empty texts and zeros are left out of its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The name; may be empty.
    pub name: String,
    /// `enabled`.
    pub enabled: bool,
    /// `perfile`: options in front of the input.
    pub perfile: Vec<FreeOption>,
    /// `iformat`: format of the input; `off` leaves it out.
    pub iformat: String,
    /// `vfilter`: options of filters.
    pub vfilter: Vec<FreeOption>,
    /// `vcodec`: an encoder, `copy`, or `vn` for no video.
    pub vcodec: String,
    /// `vbitrate` in kbit/s.
    pub vbitrate: u64,
    /// `vfps` in thousandths.
    pub vfps: u64,
    /// `vwidth`, made even.
    pub vwidth: u64,
    /// `vheight`, made even.
    pub vheight: u64,
    /// `vthreads`.
    pub vthreads: u64,
    /// `vprofile`.
    pub vprofile: String,
    /// `vpreset`.
    pub vpreset: String,
    /// `vparams`: further options of video.
    pub vparams: Vec<FreeOption>,
    /// `acodec`: an encoder, `copy`, or `an` for no audio.
    pub acodec: String,
    /// `abitrate` in kbit/s.
    pub abitrate: u64,
    /// `asample_rate` in Hz.
    pub asample_rate: u64,
    /// `achannels`.
    pub achannels: u64,
    /// `aparams`: further options of audio.
    pub aparams: Vec<FreeOption>,
    /// `oformat`: format of the output; `off` leaves it out.
    pub oformat: String,
    /// `output`: a URL or a file, with variables.
    pub output: String,
}

/// An option of ffmpeg by its name, with or without a leading dash, and its value if it has one.
pub type FreeOption = (String, Option<String>);

/// Renditions of each stream with aligned keyframes, by one ffmpeg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// The heights of the renditions in pixels, in the order of the file; empty if there is no ladder.
    pub heights: Vec<u32>,
    /// `ffmpeg`.
    pub ffmpeg: String,
    /// `vcodec`.
    pub vcodec: String,
    /// `vpreset`; `off` leaves it out.
    pub vpreset: String,
    /// `acodec`.
    pub acodec: String,
    /// `abitrate` in kbit/s, for another `acodec` than `copy`.
    pub abitrate: u64,
    /// `keyframe_interval`.
    pub keyframe_interval: Duration,
    /// `max_fps` in thousandths; 0 means no limit.
    pub max_fps: u64,
    /// Limits of ffmpeg, and the reasons to restart it.
    pub supervision: Supervision,
}

/// Commands that run at events of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// `enabled`.
    pub enabled: bool,
    /// `publish`: commands that run as long as a stream is published.
    pub publish: Vec<Vec<String>>,
    /// `on_publish`: commands that run once when a stream is published.
    pub on_publish: Vec<Vec<String>>,
    /// `on_unpublish`: commands that run once when it has ended.
    pub on_unpublish: Vec<Vec<String>>,
    /// `on_play`: commands that run once when a client plays.
    pub on_play: Vec<Vec<String>>,
    /// `on_stop`: commands that run once when it has stopped.
    pub on_stop: Vec<Vec<String>>,
    /// `on_dvr`: commands that run once when a recording is complete.
    pub on_dvr: Vec<Vec<String>>,
    /// `timeout`: time for the commands that run once; zero means no limit.
    pub timeout: Duration,
    /// Limits of a command.
    pub supervision: Supervision,
}

impl Transcode {
    pub(super) fn read_all(reader: &mut Reader, vhost: Section<'_>) -> Vec<Transcode> {
        let blocks = vhost.named("transcode");
        blocks.into_iter().map(|(scope, section)| Transcode::read(reader, section, scope)).collect()
    }

    fn read(reader: &mut Reader, section: Section<'_>, scope: &str) -> Transcode {
        let enabled = reader.switch(section, "enabled");
        let engines = section.named("engine");
        let engines: Vec<_> = engines.into_iter().map(|(name, engine)| Engine::read(reader, engine, name)).collect();
        Transcode {
            scope: scope.trim_matches('/').to_owned(),
            enabled,
            ffmpeg: path(reader, section, "ffmpeg"),
            supervision: Supervision {
                stall_timeout: reader.duration(section, "stall_timeout"),
                max_lag: reader.duration(section, "max_lag"),
                ..Supervision::read(reader, section)
            },
            engines,
        }
    }

    /// Returns whether the engines are for a stream.
    pub fn applies_to(&self, app: &str, stream: &str) -> bool {
        let rest = self.scope.strip_prefix(app);
        self.scope.is_empty()
            || rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/').is_some_and(|name| name == stream))
    }
}

impl Supervision {
    /// Reads the limits. The times of restarts are zero.
    fn read(reader: &mut Reader, section: Section<'_>) -> Supervision {
        Supervision {
            nice: u8::try_from(reader.number(section, "nice")).unwrap_or(0),
            max_memory: reader.number(section, "max_process_memory"),
            max_cpus: reader.size(section, "max_cpus"),
            stall_timeout: Duration::ZERO,
            max_lag: Duration::ZERO,
        }
    }
}

impl Engine {
    fn read(reader: &mut Reader, section: Section<'_>, name: &str) -> Engine {
        let engine = Engine {
            name: name.to_owned(),
            enabled: reader.switch(section, "enabled"),
            perfile: reader.options(section, "perfile"),
            iformat: text(reader, section, "iformat"),
            vfilter: reader.options(section, "vfilter"),
            vcodec: text(reader, section, "vcodec"),
            vbitrate: reader.number(section, "vbitrate"),
            vfps: reader.ratio(section, "vfps"),
            vwidth: even(reader.number(section, "vwidth")),
            vheight: even(reader.number(section, "vheight")),
            vthreads: reader.number(section, "vthreads"),
            vprofile: text(reader, section, "vprofile"),
            vpreset: text(reader, section, "vpreset"),
            vparams: reader.options(section, "vparams"),
            acodec: text(reader, section, "acodec"),
            abitrate: reader.number(section, "abitrate"),
            asample_rate: reader.number(section, "asample_rate"),
            achannels: reader.number(section, "achannels"),
            aparams: reader.options(section, "aparams"),
            oformat: text(reader, section, "oformat"),
            output: text(reader, section, "output"),
        };
        if engine.enabled {
            engine.check(reader, section);
        }
        engine
    }

    fn check(&self, reader: &mut Reader, section: Section<'_>) {
        let at = section.position("enabled").unwrap_or("the configuration").to_owned();
        let mut problem = |text: String| reader.problem(at.clone(), Reason::Other(text));
        let name = &self.name;
        for (directive, value, example) in [
            ("vcodec", &self.vcodec, "vcodec libx264;\" (copy keeps the video, vn leaves it out)"),
            ("acodec", &self.acodec, "acodec aac;\" (copy keeps the audio, an leaves it out)"),
            ("output", &self.output, "output rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost];\""),
        ] {
            if value.is_empty() {
                problem(format!("engine \"{name}\" has no \"{directive}\"; add e.g. \"{example}"));
            }
        }
        if self.vcodec == "vn" && self.acodec == "an" {
            problem(format!(
                "engine \"{name}\" has neither video nor audio (vcodec vn, acodec an); change one, or write \"enabled off;\""
            ));
        }
        if (self.vwidth == 0) != (self.vheight == 0) {
            problem(format!("engine \"{name}\" has only one of \"vwidth\" and \"vheight\"; add the other"));
        }
    }
}

impl Ladder {
    /// Reads the ladder of a vhost, in either form.
    pub(super) fn read(reader: &mut Reader, vhost: Section<'_>) -> Ladder {
        let block = vhost.block("ladder");
        let mut heights = match vhost.is_block("ladder") {
            true => reader.heights(block, "heights"),
            false => reader.heights(vhost, "ladder"),
        };
        if vhost.is_block("ladder") {
            let is_on = reader.switch(block, "enabled");
            if is_on && heights.is_empty() {
                let at = block.position("enabled").unwrap_or("the configuration").to_owned();
                reader.problem(
                    at,
                    Reason::Other("ladder has no \"heights\"; add e.g. \"heights 720p 480p;\"".to_owned()),
                );
            }
            if !is_on {
                heights.clear();
            }
        }
        Ladder {
            heights,
            ffmpeg: path(reader, block, "ffmpeg"),
            vcodec: text(reader, block, "vcodec"),
            vpreset: text(reader, block, "vpreset"),
            acodec: text(reader, block, "acodec"),
            abitrate: reader.number(block, "abitrate"),
            keyframe_interval: reader.duration(block, "keyframe_interval"),
            max_fps: reader.ratio(block, "max_fps"),
            supervision: Supervision {
                stall_timeout: reader.duration(block, "stall_timeout"),
                max_lag: reader.duration(block, "max_lag"),
                ..Supervision::read(reader, block)
            },
        }
    }
}

impl Exec {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>) -> Exec {
        Exec {
            enabled: reader.switch(section, "enabled"),
            publish: reader.commands(section, "publish"),
            on_publish: reader.commands(section, "on_publish"),
            on_unpublish: reader.commands(section, "on_unpublish"),
            on_play: reader.commands(section, "on_play"),
            on_stop: reader.commands(section, "on_stop"),
            on_dvr: reader.commands(section, "on_dvr"),
            timeout: reader.duration(section, "timeout"),
            supervision: Supervision::read(reader, section),
        }
    }
}

fn text(reader: &mut Reader, section: Section<'_>, name: &str) -> String {
    reader.text(section, name).unwrap_or_default()
}

fn path(reader: &mut Reader, section: Section<'_>, name: &str) -> String {
    reader.path(section, name).to_string_lossy().into_owned()
}

/// Encoders take even sizes only.
fn even(number: u64) -> u64 {
    number / 2 * 2
}

#[cfg(test)]
mod tests;
