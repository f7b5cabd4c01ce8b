//! Parameter sets of H.264 and H.265, as a player needs them before a keyframe: complete, in the order in which they refer to
//! each other, and the last version of each.

use super::nalu::{Codec, Error, MAX_PARAMETER_SETS, Nalus, START_CODE, VideoConfig};
use super::sps;

/// Maximum number of parameter sets of a frame. Real frames have three.
const MAX_SETS: usize = 64;

/// A kind of parameter set, in the order of the stream: each kind refers to the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Video,
    Sequence,
    /// Extensions of sequence parameter sets of H.264.
    SequenceExtension,
    Picture,
    /// Any other unit of a decoder configuration, such as an SEI message for the whole stream.
    Other,
}

/// Effect of the parameter sets of a frame on the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetsChange {
    /// The frame contains parameter sets.
    pub has_sets: bool,
    /// A sequence parameter set has changed, and with it perhaps the size of the picture.
    pub is_new_sequence: bool,
}

impl Kind {
    fn of(codec: Codec, nalu: &[u8]) -> Self {
        let Some(&first) = nalu.first() else { return Self::Other };
        match (codec, codec.nalu_type(first)) {
            (Codec::H265, 32) => Self::Video,
            (Codec::H264, 7) | (Codec::H265, 33) => Self::Sequence,
            (Codec::H264, 13 | 15) => Self::SequenceExtension,
            (Codec::H264, 8) | (Codec::H265, 34) => Self::Picture,
            _ => Self::Other,
        }
    }
}

impl VideoConfig {
    /// Takes over the parameter sets of a frame, which replace those of the same kind and number. Decoders do the same,
    /// so a later keyframe without sets of its own needs these. Fails when the lengths in the frame are wrong, or there
    /// are too many sets.
    pub fn update_from_frame(&mut self, frame: &[u8]) -> Result<SetsChange, Error> {
        let mut found = Vec::new();
        for nalu in Nalus::new(frame, self.length_size) {
            let nalu = nalu?;
            if is_parameter_set(self.codec, nalu) && found.len() < MAX_SETS {
                found.push(nalu);
            }
        }
        let mut in_band = SetsChange { has_sets: !found.is_empty(), is_new_sequence: false };
        if found.is_empty() || found.iter().all(|set| self.contains(set)) {
            return Ok(in_band);
        }
        let old = std::mem::take(&mut self.parameter_sets);
        let mut sets: Vec<&[u8]> = split(&old).collect();
        for new in found {
            let id = identity(self.codec, new);
            match sets.iter_mut().find(|old| identity(self.codec, old) == id) {
                Some(old) if *old == new => continue,
                Some(old) => *old = new,
                None => sets.push(new),
            }
            in_band.is_new_sequence |= matches!(id.0, Kind::Video | Kind::Sequence);
        }
        let size: usize = sets.iter().map(|set| START_CODE.len() + set.len()).sum();
        if size > MAX_PARAMETER_SETS {
            self.parameter_sets = old;
            return Err(Error::ParameterSets(size));
        }
        self.parameter_sets = join(self.codec, sets);
        Ok(in_band)
    }

    fn contains(&self, set: &[u8]) -> bool {
        split(&self.parameter_sets).any(|old| old == set)
    }
}

/// Returns whether a NAL unit is a parameter set.
pub(super) fn is_parameter_set(codec: Codec, nalu: &[u8]) -> bool {
    Kind::of(codec, nalu) != Kind::Other
}

/// Sorts parameter sets after start codes into the order of the stream. Records may list them in any order.
pub(super) fn sort(codec: Codec, sets: &[u8]) -> Vec<u8> {
    join(codec, split(sets).collect())
}

fn join(codec: Codec, mut sets: Vec<&[u8]>) -> Vec<u8> {
    sets.sort_by_key(|set| Kind::of(codec, set));
    sets.into_iter().flat_map(|set| [&START_CODE, set]).flatten().copied().collect()
}

/// Returns kind and number of a set. A set without a valid number stands for all of its kind.
fn identity(codec: Codec, set: &[u8]) -> (Kind, u32) {
    (Kind::of(codec, set), sps::set_number(codec, set).unwrap_or(0))
}

/// Returns the units between start codes. A unit cannot contain a start code (annex B).
fn split(mut sets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        sets = sets.strip_prefix(&START_CODE)?;
        let end = sets.windows(START_CODE.len()).position(|at| at == START_CODE).unwrap_or(sets.len());
        let (set, rest) = sets.split_at(end);
        sets = rest;
        Some(set)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VPS: &[u8] = &[0x40, 1, 0x0c];
    const SPS: &[u8] = &[0x42, 1, 1];
    const PPS: &[u8] = &[0x44, 1, 0xc0];
    const SLICE: &[u8] = &[0x26, 1, 0xaf];

    fn units(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
    }

    fn config(codec: Codec, sets: &[&[u8]]) -> VideoConfig {
        VideoConfig { codec, length_size: 4, parameter_sets: join(codec, sets.to_vec()) }
    }

    fn sets(config: &VideoConfig) -> Vec<&[u8]> {
        split(&config.parameter_sets).collect()
    }

    #[test]
    fn a_set_of_one_kind_replaces_that_kind_only() {
        let mut config = config(Codec::H265, &[VPS, SPS, PPS]);
        let new_pps: &[u8] = &[0x44, 1, 0xc1];
        let in_band = config.update_from_frame(&units(&[new_pps, SLICE])).unwrap();
        assert_eq!(in_band, SetsChange { has_sets: true, is_new_sequence: false });
        assert_eq!(sets(&config), [VPS, SPS, new_pps]);
        let new_sps: &[u8] = &[0x42, 1, 2];
        assert!(config.update_from_frame(&units(&[new_sps, SLICE])).unwrap().is_new_sequence);
        assert_eq!(sets(&config), [VPS, new_sps, new_pps]);
        assert_eq!(config.update_from_frame(&units(&[SLICE])), Ok(SetsChange::default()));
        let same = config.update_from_frame(&units(&[new_pps, new_sps, SLICE])).unwrap();
        assert_eq!(same, SetsChange { has_sets: true, is_new_sequence: false });
        assert_eq!(sets(&config), [VPS, new_sps, new_pps]);
    }

    #[test]
    fn a_set_of_another_number_is_one_more() {
        let (sps, pps_0, pps_1): (&[u8], &[u8], &[u8]) = (&[0x67, 100, 0, 31, 0x80], &[0x68, 0x80], &[0x68, 0x40]);
        let mut config = config(Codec::H264, &[sps, pps_0]);
        config.update_from_frame(&units(&[pps_1])).unwrap();
        assert_eq!(sets(&config), [sps, pps_0, pps_1]);
    }

    #[test]
    fn sets_in_any_order_are_sorted() {
        let sei: &[u8] = &[0x4e, 1, 5];
        assert_eq!(sets(&config(Codec::H265, &[PPS, sei, SPS, VPS])), [VPS, SPS, PPS, sei]);
        let mut empty = config(Codec::H265, &[]);
        empty.update_from_frame(&units(&[PPS, SPS, VPS, SLICE])).unwrap();
        assert_eq!(sets(&empty), [VPS, SPS, PPS]);
    }

    #[test]
    fn sets_without_end_are_an_error() {
        let mut config = config(Codec::H264, &[&[0x67, 100, 0, 31, 0x80]]);
        let large = [&[0x68, 0x80][..], &vec![0x55; MAX_PARAMETER_SETS]].concat();
        let before = config.clone();
        assert!(matches!(config.update_from_frame(&units(&[&large])), Err(Error::ParameterSets(_))));
        assert_eq!(config, before);
    }

    proptest! {
        #[test]
        fn any_frame_leaves_sorted_sets(frame in prop::collection::vec(any::<u8>(), 0..600), is_h264: bool) {
            let mut config = config(if is_h264 { Codec::H264 } else { Codec::H265 }, &[]);
            config.length_size = 1;
            let _ = config.update_from_frame(&frame);
            prop_assert!(config.parameter_sets.len() <= MAX_PARAMETER_SETS);
            prop_assert!(sets(&config).is_sorted_by_key(|set| Kind::of(config.codec, set)));
        }
    }
}
