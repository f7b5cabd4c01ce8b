//! `dvr`: recording.

use std::time::Duration;

use super::reader::{Reader, Section};

/// Extension of recordings in MP4.
const MP4: &str = ".mp4";

/// Name of a recording in a `dvr_path` that is a directory, as in SRS.
const DEFAULT_NAME: &str = "[stream].[timestamp].flv";

/// Recording of the streams of a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dvr {
    /// `enabled`.
    pub enabled: bool,
    /// `dvr_apply`: the streams `APP/STREAM` that are recorded; empty for all.
    pub apply: Vec<String>,
    /// `dvr_plan`.
    pub plan: DvrPlan,
    /// `dvr_path`: the name of a file, with variables.
    pub path: String,
    /// `dvr_duration`: length of a file of [`DvrPlan::Segment`].
    pub duration: Duration,
    /// `dvr_wait_keyframe`: such a file ends before a keyframe.
    pub wait_keyframe: bool,
    /// `time_jitter`.
    pub time_jitter: TimeJitter,
    /// `dvr_max_age`: age after which a recording is removed; zero for never.
    pub max_age: Duration,
    /// `dvr_max_size`: bytes of all recordings of the vhost, above which the oldest are removed; 0 for no limit.
    pub max_size: u64,
    /// `dvr_min_free`: free bytes of the file system below which nothing is recorded.
    pub min_free: u64,
}

/// The plan by which one file ends and the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DvrPlan {
    /// With the publisher.
    Session,
    /// Also after `dvr_duration`.
    Segment,
}

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DvrFormat {
    /// FLV.
    Flv,
    /// Fragmented MP4.
    Mp4,
}

/// The start of the timestamps in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeJitter {
    /// Zero.
    Zero,
    /// The time of the stream.
    Off,
}

impl Dvr {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>) -> Dvr {
        let mut path = reader.path(section, "dvr_path").to_string_lossy().into_owned();
        if !path.ends_with(".flv") && !path.ends_with(MP4) {
            path = format!("{}/{DEFAULT_NAME}", path.trim_end_matches('/'));
        }
        Dvr {
            enabled: reader.switch(section, "enabled"),
            apply: reader.streams(section, "dvr_apply"),
            plan: if reader.choice(section, "dvr_plan") == "segment" { DvrPlan::Segment } else { DvrPlan::Session },
            path,
            duration: reader.duration(section, "dvr_duration"),
            wait_keyframe: reader.switch(section, "dvr_wait_keyframe"),
            time_jitter: if reader.choice(section, "time_jitter") == "off" {
                TimeJitter::Off
            } else {
                TimeJitter::Zero
            },
            max_age: reader.duration(section, "dvr_max_age"),
            max_size: reader.number(section, "dvr_max_size"),
            min_free: reader.number(section, "dvr_min_free"),
        }
    }

    /// Returns the format of the files: that of the extension in `dvr_path`.
    pub fn format(&self) -> DvrFormat {
        if self.path.ends_with(MP4) { DvrFormat::Mp4 } else { DvrFormat::Flv }
    }

    /// Returns whether `dvr_apply` names a stream.
    pub fn applies_to(&self, app: &str, stream: &str) -> bool {
        let is_named = |name: &String| {
            name.strip_prefix(app).and_then(|rest| rest.strip_prefix('/')).is_some_and(|name| name == stream)
        };
        self.apply.is_empty() || self.apply.iter().any(is_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_extension_is_the_format() {
        let of = |path: &str| {
            let text = format!("listen 1; vhost __defaultVhost__ {{ dvr {{ dvr_path {path}; }} }}");
            let dvr = Config::parse("t", &text).unwrap().vhost("x").unwrap().dvr.clone();
            (dvr.format(), dvr.path)
        };
        assert_eq!(of("/rec/[stream].mp4"), (DvrFormat::Mp4, "/rec/[stream].mp4".to_owned()));
        assert_eq!(of("/rec/[stream].flv"), (DvrFormat::Flv, "/rec/[stream].flv".to_owned()));
        for directory in ["/rec/mp4", "/rec/mp4/"] {
            assert_eq!(of(directory), (DvrFormat::Flv, "/rec/mp4/[stream].[timestamp].flv".to_owned()));
        }
    }
}
