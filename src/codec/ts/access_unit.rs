//! A video frame as it is in a transport stream: a delimiter, parameter sets before a keyframe, and NAL units behind start codes.

use super::packet::PacketWriter;
use crate::codec::nalu::{self, Nalus, START_CODE, VideoConfig};
use crate::codec::parameter_sets::is_parameter_set;

/// A video frame whose lengths have been checked.
pub(super) struct AccessUnit<'a> {
    config: &'a VideoConfig,
    frame: &'a [u8],
    is_key: bool,
    /// Parameter sets in front.
    sets: &'a [u8],
    /// Size of all but the parameter sets.
    size: usize,
}

/// The parameter sets that were written last.
#[derive(Debug, Default)]
pub(super) struct SentSets {
    sets: Vec<u8>,
    /// Bytes of frames since.
    since: usize,
}

impl<'a> AccessUnit<'a> {
    /// Checks a frame: NAL units after their lengths.
    ///
    /// # Errors
    /// When the lengths in the frame are wrong, or there are more than [`nalu::MAX_NALUS`] units.
    pub(super) fn new(config: &'a VideoConfig, is_key: bool, frame: &'a [u8]) -> Result<Self, nalu::Error> {
        let mut unit = Self { config, frame, is_key, sets: &[], size: config.codec.delimiter().len() };
        for (index, nalu) in Nalus::new(frame, config.length_size).enumerate() {
            let nalu = nalu?;
            if index >= nalu::MAX_NALUS {
                return Err(nalu::Error::Count);
            }
            if unit.is_written(nalu) {
                unit.size += START_CODE.len() + nalu.len();
            }
        }
        Ok(unit)
    }

    /// Inserts the parameter sets of a keyframe in front, unless they were sent and fewer bytes than their size have followed.
    /// Without this rule, keyframes of a few bytes would make much output from little input.
    pub(super) fn add_sets(&mut self, sent: &mut SentSets) {
        let sets: &[u8] = if self.is_key { &self.config.parameter_sets } else { &[] };
        if !sets.is_empty() && (sent.sets != sets || sent.since >= sets.len()) {
            if sent.sets != sets {
                sent.sets = sets.to_vec();
            }
            (self.sets, sent.since) = (sets, 0);
        }
        sent.since += self.frame.len();
    }

    pub(super) fn size(&self) -> usize {
        self.size + self.sets.len()
    }

    pub(super) fn write(&self, packets: &mut PacketWriter<'_>) {
        packets.write(self.config.codec.delimiter());
        packets.write(self.sets);
        for nalu in Nalus::new(self.frame, self.config.length_size).flatten() {
            if self.is_written(nalu) {
                packets.write(&START_CODE);
                packets.write(nalu);
            }
        }
    }

    /// Returns whether a unit is written where it is. Delimiter and parameter sets are written in front.
    fn is_written(&self, nalu: &[u8]) -> bool {
        let codec = self.config.codec;
        let kind = nalu.first().map(|&first| codec.nalu_type(first));
        kind.is_some_and(|kind| !codec.is_delimiter(kind)) && !(self.is_key && is_parameter_set(codec, nalu))
    }
}

impl SentSets {
    pub(super) fn capacity(&self) -> usize {
        self.sets.capacity()
    }
}
