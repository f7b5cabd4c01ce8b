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
mod tests {
    use super::super::{Config, Vhost};
    use super::*;

    fn vhost(text: &str) -> Result<Vhost, String> {
        let config = Config::parse("a.conf", &format!("listen 1935; vhost v {{ {text} }}"));
        config.map(|config| (**config.vhost("v").unwrap()).clone()).map_err(|error| error.to_string())
    }

    const SAMPLE: &str = "transcode live/livestream {
        enabled on;
        ffmpeg ./objs/ffmpeg/bin/ffmpeg;
        engine HD {
            enabled on;
            perfile { re; rtsp_transport tcp; }
            iformat flv;
            vfilter { i ./doc/ffmpeg-logo.png; filter_complex 'overlay=10:10; [a]x'; }
            vcodec libx264; vbitrate 1500; vfps 25.5; vwidth 769; vheight 320; vthreads 12; vprofile main; vpreset medium;
            vparams { t 100; coder 1; b_strategy 2; }
            acodec libfdk_aac; abitrate 70; asample_rate 44100; achannels 2;
            aparams { profile:a aac_low; }
            oformat flv;
            output rtmp://127.0.0.1:[port]/[app]?vhost=[vhost]/[stream]_[engine];
        }
        engine { enabled off; }
    }";

    #[test]
    fn the_sample_of_srs_is_read_as_it_is() {
        let vhost = vhost(SAMPLE).unwrap();
        let [transcode] = vhost.transcode.as_slice() else { panic!("{:?}", vhost.transcode) };
        assert_eq!(
            (transcode.scope.as_str(), transcode.enabled, transcode.ffmpeg.as_str()),
            ("live/livestream", true, "./objs/ffmpeg/bin/ffmpeg")
        );
        let names: Vec<_> = transcode.engines.iter().map(|engine| engine.name.as_str()).collect();
        assert_eq!(names, ["", "HD"]);
        let engine = &transcode.engines[1];
        let option = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        assert_eq!(engine.perfile, [("re".to_owned(), None), option("rtsp_transport", "tcp")]);
        assert_eq!(
            engine.vfilter,
            [option("i", "./doc/ffmpeg-logo.png"), option("filter_complex", "overlay=10:10; [a]x")]
        );
        assert_eq!((engine.vbitrate, engine.vfps, engine.vwidth, engine.vheight), (1500, 25_500, 768, 320));
        assert_eq!(engine.output, "rtmp://127.0.0.1:[port]/[app]?vhost=[vhost]/[stream]_[engine]");
        assert_eq!(transcode.engines[0].iformat, "flv");
    }

    #[test]
    fn scopes_are_a_vhost_an_application_or_a_stream() {
        let text = "transcode { } transcode live { } transcode live/a { } transcode /live/b/c/ { }";
        let vhost = vhost(text).unwrap();
        let matching = |app: &str, stream: &str| {
            let all = vhost.transcode.iter().filter(|transcode| transcode.applies_to(app, stream));
            all.map(|transcode| transcode.scope.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(matching("live", "a"), ["", "live", "live/a"]);
        assert_eq!(matching("live", "b/c"), ["", "live", "live/b/c"]);
        assert_eq!(matching("live2", "a"), [""]);
        assert_eq!(matching("liv", "e/a"), [""]);
    }

    #[test]
    fn what_cannot_work_is_said() {
        for (text, expected) in [
            ("transcode { engine a { enabled on; acodec aac; output x; } }", "engine \"a\" has no \"vcodec\""),
            ("transcode { engine a { enabled on; vcodec vn; acodec an; output x; } }", "neither video nor audio"),
            ("transcode { engine a { enabled on; vcodec copy; acodec copy; } }", "has no \"output\""),
            (
                "transcode { engine a { enabled on; vcodec copy; acodec copy; output x; vwidth 4; } }",
                "only one of \"vwidth\" and",
            ),
            ("transcode { engine a { } engine a { } }", "already set"),
            ("transcode live { } transcode live { }", "already set"),
            ("transcode a b { }", "\"transcode\" takes at most one name"),
            ("transcode { engine a { vparams { a b c; } } }", "\"a\" takes at most one value"),
            ("transcode { engine a { vparams { a { } } } }", "\"a\" takes no block"),
            ("transcode { engine a { vparams x; } }", "\"vparams\" needs a block"),
            ("transcode { engine a { achannels 99; } }", "\"achannels\" must be"),
            ("transcode live;", "\"transcode\" needs a block"),
            ("ladder 720;", "\"ladder\" must be"),
            ("ladder 720p 720p;", "contains 720p twice"),
            ("ladder { enabled on; }", "ladder has no \"heights\""),
            ("exec { publish; }", "\"publish\" takes"),
        ] {
            let error = vhost(text).map(drop).unwrap_err();
            assert!(error.starts_with("a.conf:1: ") && error.contains(expected), "{text}: {error}");
        }
        assert!(vhost("transcode { engine a { enabled off; } }").is_ok(), "what is off needs nothing");
    }

    #[test]
    fn a_ladder_has_two_forms() {
        assert_eq!(vhost("").unwrap().ladder.heights, Vec::<u32>::new());
        assert_eq!(vhost("ladder 1080p 720p;").unwrap().ladder.heights, [1080, 720]);
        let block =
            vhost("ladder { enabled on; heights 480p 240p; vpreset fast; keyframe_interval 1; max_fps 29.97; }");
        let ladder = block.unwrap().ladder;
        assert_eq!((ladder.heights.as_slice(), ladder.vpreset.as_str()), (&[480, 240][..], "fast"));
        assert_eq!((ladder.keyframe_interval, ladder.max_fps), (Duration::from_secs(1), 29_970));
        assert!(vhost("ladder { heights 480p; enabled off; }").unwrap().ladder.heights.is_empty());
    }

    #[test]
    fn commands_are_words_and_may_be_repeated() {
        let exec =
            vhost("exec { enabled on; publish a 'b c' [stream]; publish d; on_stop e; timeout 0; }").unwrap().exec;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(exec.publish, [words(&["a", "b c", "[stream]"]), words(&["d"])]);
        assert_eq!((exec.on_stop, exec.on_play.len(), exec.timeout), (vec![words(&["e"])], 0, Duration::ZERO));
    }

    #[test]
    fn a_reload_names_the_engine() {
        let config = |text: &str| Config::parse("a", &format!("listen 1; vhost v {{ {text} }}")).unwrap();
        let engine = |name: &str, rate: u32, output: &str| {
            format!("engine {name} {{ enabled on; vcodec copy; acodec copy; vbitrate {rate}; output {output}; }}")
        };
        let old = config(&format!("transcode live {{ {} {} }}", engine("a", 1, "x"), engine("b", 1, "x")));
        let new = config(&format!("transcode live {{ {} {} }}", engine("a", 2, "y"), engine("c", 1, "x")));
        let plan: Vec<_> = old.changes_to(&new).iter().map(ToString::to_string).collect();
        let effect = "takes effect at once for running streams of the vhost";
        assert_eq!(
            plan,
            [
                format!("engine b in transcode live in vhost v: removed; {effect}"),
                format!("engine c in transcode live in vhost v: added; {effect}"),
                format!("output in engine a in transcode live in vhost v: …, changed in a hidden part; {effect}"),
                format!("vbitrate in engine a in transcode live in vhost v: 1 -> 2; {effect}"),
            ]
        );
    }
}
