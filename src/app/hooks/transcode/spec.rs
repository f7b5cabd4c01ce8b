//! A program that is to run for a stream: everything from which its command follows.

use std::time::{Duration, SystemTime};

use super::command::{self, Command, Picture};
use super::names::{NameError, Names};
use crate::app::stream::Codecs;
use crate::config::{Engine, Ladder, Supervision};
use crate::os::process::{Limits, LogFile};

#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) program: String,
    pub(super) kind: ProgramKind,
    pub(super) names: Names,
    pub(super) log_level: &'static str,
    pub(super) supervision: Supervision,
    pub(super) log: Option<LogFile>,
    /// As it was when the command was made.
    pub(super) media: Media,
    /// Time after which the program is ended, for one that runs once.
    pub(super) timeout: Option<Duration>,
    /// Path on `http_server` of the picture that the program writes again and again.
    pub(super) picture: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ProgramKind {
    Engine(Engine),
    Ladder { ladder: Ladder, heights: Vec<u32>, picture: Picture },
    Exec(Vec<String>),
}

/// Codecs and size of a stream. A change ends a decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Media {
    pub(super) codecs: Codecs,
    pub(super) size: Option<(u32, u32)>,
}

impl Media {
    /// Returns whether a program that was started for `self` can go on with `now`. What was not known then is no change.
    fn allows(&self, now: &Media) -> bool {
        fn same<T: PartialEq>(old: Option<T>, new: Option<T>) -> bool {
            old.zip(new).is_none_or(|(old, new)| old == new)
        }
        same(self.codecs.video, now.codecs.video)
            && same(self.codecs.audio, now.codecs.audio)
            && same(self.size, now.size)
    }
}

impl Spec {
    /// Returns whether a program that runs for `self` is what `wanted` asks for.
    pub(super) fn serves(&self, wanted: &Spec) -> bool {
        let needs_media = !matches!(self.kind, ProgramKind::Exec(_));
        self.program == wanted.program
            && self.kind == wanted.kind
            && self.names == wanted.names
            && self.log_level == wanted.log_level
            && self.supervision == wanted.supervision
            && self.log == wanted.log
            && (!needs_media || self.media.allows(&wanted.media))
    }

    pub(super) fn command(&self, time: SystemTime) -> Result<Command, NameError> {
        match &self.kind {
            ProgramKind::Engine(engine) => command::engine(engine, &self.names, self.log_level, time),
            ProgramKind::Ladder { ladder, heights, picture } => {
                command::ladder(ladder, heights, *picture, &self.names, self.log_level, time)
            }
            ProgramKind::Exec(words) => {
                let args = words.iter().skip(1).map(|word| self.names.expand(word, "exec", time));
                Ok(Command { args: args.collect::<Result<_, _>>()?, directories: Vec::new() })
            }
        }
    }

    pub(super) fn limits(&self) -> Limits {
        let Supervision { nice, max_memory, max_cpus, .. } = self.supervision;
        Limits { nice, max_memory, max_cpus }
    }

    pub(super) fn reports_progress(&self) -> bool {
        !matches!(self.kind, ProgramKind::Exec(_))
    }

    /// Returns whether a report alone is a sign of life, since the output may be one picture in a minute.
    pub(super) fn is_slow(&self) -> bool {
        let ProgramKind::Engine(engine) = &self.kind else { return false };
        engine.oformat.starts_with("image2") || matches!(engine.vcodec.as_str(), "png" | "mjpeg")
    }
}
