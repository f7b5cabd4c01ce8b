//! The video track: decoder configuration with the parameter sets of frames, and the length of a frame.

use crate::codec::flv::VideoTag;
use crate::codec::nalu::{self, Codec, MAX_PARAMETER_SETS, VideoConfig};
use crate::codec::{avc, hevc};

/// Maximum size of a sequence header, in bytes: twice the limit of its parameter sets.
const MAX_HEADER: usize = 2 * MAX_PARAMETER_SETS;

/// Maximum distance of presentation and decoding, in milliseconds, that is no error of the encoder.
const MAX_COMPOSITION: i32 = 10_000;

/// Length of a frame as long as there was only one, in milliseconds.
const DEFAULT_STEP: u64 = 40;

/// The decoder configuration at a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Configuration {
    /// There is none for the frame, which cannot be used.
    Missing,
    /// It is the same as before.
    Same,
    /// It has changed, and segments from here on have other parameters.
    Changed,
}

/// The video of a stream.
#[derive(Default)]
pub struct VideoTrack {
    config: Option<VideoConfig>,
    header: Vec<u8>,
    /// Number of changes of the configuration.
    changes: u32,
    last_time: Option<u64>,
    step: Option<u64>,
}

/// Returns the presentation time of a frame, in milliseconds.
pub fn presentation_time(time: u64, composition: i32) -> i64 {
    (time as i64).saturating_add(composition.clamp(-MAX_COMPOSITION, MAX_COMPOSITION).into())
}

impl VideoTrack {
    /// Returns the configuration and the number of its changes.
    pub fn config(&self) -> Option<(&VideoConfig, u32)> {
        self.config.as_ref().map(|config| (config, self.changes))
    }

    /// Returns the memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.config.as_ref().map_or(0, |config| config.parameter_sets.len())
    }

    /// Returns the length of a frame, in milliseconds.
    pub fn step(&self) -> u64 {
        self.step.unwrap_or(DEFAULT_STEP)
    }

    /// Reads a sequence header. Returns whether it replaces a different one. Errors: the reason, if the header is
    /// invalid. There is no configuration then.
    pub fn on_header(&mut self, tag: &VideoTag, header: &[u8]) -> Result<bool, String> {
        if self.config.is_some() && header == self.header {
            return Ok(false);
        }
        let config = if header.len() > MAX_HEADER {
            Err(nalu::Error::ParameterSets(header.len()))
        } else if tag.codec.is_h264() {
            avc::read_config(header)
        } else {
            hevc::read_config(header)
        };
        let is_change = self.config.take().is_some();
        self.header = Vec::new();
        self.changes += 1;
        let config = config.map_err(|error| format!("invalid {} sequence header: {error}", tag.codec))?;
        (self.config, self.header) = (Some(config), header.to_vec());
        Ok(is_change)
    }

    /// Takes over the parameter sets and the time of a frame. Errors: the reason, if the frame is malformed.
    pub fn on_frame(&mut self, time: u64, tag: &VideoTag, frame: &[u8]) -> Result<Configuration, String> {
        let is_same_codec = |config: &&mut VideoConfig| tag.codec.is_h264() == (config.codec == Codec::H264);
        let Some(config) = self.config.as_mut().filter(is_same_codec) else { return Ok(Configuration::Missing) };
        let in_band =
            config.update_from_frame(frame).map_err(|error| format!("invalid {} frame dropped: {error}", tag.codec))?;
        if let Some(last) = self.last_time.replace(time).filter(|last| *last < time) {
            self.step = Some(time - last);
        }
        if in_band.is_new_sequence {
            self.changes += 1;
        }
        Ok(if in_band.is_new_sequence { Configuration::Changed } else { Configuration::Same })
    }
}
