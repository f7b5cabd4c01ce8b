//! The channel elements of AAC: program config elements (ISO/IEC 14496-3, section 4.4.1.1), which describe layouts without a
//! number, and silent frames of any layout (section 4.4.2).

use super::bits::{BitReader, BitWriter};
use super::error::Error;

/// Identifiers of syntactic elements (section 4.5.2.1, table 4.85).
const SINGLE_CHANNEL: u32 = 0;
const CHANNEL_PAIR: u32 = 1;
const LOW_FREQUENCY: u32 = 3;
const PROGRAM_CONFIG: u32 = 5;
const END: u32 = 7;

/// A program config element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProgramConfig {
    /// The element as it begins a frame, without its comment, up to a whole byte.
    element: Vec<u8>,
    elements: Vec<ChannelElement>,
}

/// An element with one or two channels, in the order of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChannelElement {
    kind: u32,
    /// The number among the elements of its kind.
    tag: u32,
}

impl ProgramConfig {
    /// Reads the element within a decoder configuration, where it has no identifier, and skips the comment at its end.
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, Error> {
        let mut out = BitWriter::default();
        out.put(PROGRAM_CONFIG, 3);
        let mut copy = |bits: &mut BitReader<'_>, count| -> Result<u32, Error> {
            let value = bits.take(count)?;
            out.put(value, count);
            Ok(value)
        };
        // Tag, profile, sample rate.
        copy(bits, 10)?;
        let front = copy(bits, 4)?;
        let side = copy(bits, 4)?;
        let back = copy(bits, 4)?;
        let low_frequency = copy(bits, 2)?;
        let data = copy(bits, 3)?;
        let coupling = copy(bits, 4)?;
        // Numbers of mixdowns to mono and to stereo, and the matrix of one.
        for size in [4, 4, 3] {
            if copy(bits, 1)? == 1 {
                copy(bits, size)?;
            }
        }
        let mut elements = Vec::new();
        for _ in 0..front + side + back {
            let kind = if copy(bits, 1)? == 1 { CHANNEL_PAIR } else { SINGLE_CHANNEL };
            elements.push(ChannelElement { kind, tag: copy(bits, 4)? });
        }
        for _ in 0..low_frequency {
            elements.push(ChannelElement { kind: LOW_FREQUENCY, tag: copy(bits, 4)? });
        }
        for _ in 0..data {
            copy(bits, 4)?;
        }
        for _ in 0..coupling {
            copy(bits, 5)?;
        }
        if elements.is_empty() {
            return Err(Error::Channels(0));
        }
        // The comment begins at the next whole byte; there is none.
        let mut element = out.finish();
        element.push(0);
        Ok(Self { element, elements })
    }

    pub(super) fn element(&self) -> &[u8] {
        &self.element
    }

    pub(super) fn channels(&self) -> u8 {
        count(&self.elements)
    }

    /// Returns the channel configuration with the same elements, if there is one.
    pub(super) fn standard_configuration(&self) -> Option<u8> {
        (1..=7).find(|&configuration| standard(configuration) == self.elements)
    }

    pub(super) fn silent_frame(&self) -> Vec<u8> {
        silent_frame(&self.elements)
    }
}

/// Returns the number of channels of a channel configuration.
pub(super) fn channels(configuration: u8) -> u8 {
    count(&standard(configuration))
}

/// Returns the channel configuration with a number of channels, in whatever layout.
pub(super) fn configuration_with(number: u8) -> Option<u8> {
    (1..=7).find(|&configuration| channels(configuration) == number)
}

/// Returns a frame without sound for a channel configuration.
pub(super) fn standard_silent_frame(configuration: u8) -> Vec<u8> {
    silent_frame(&standard(configuration))
}

fn count(elements: &[ChannelElement]) -> u8 {
    elements.iter().map(|element| 1 + u8::from(element.kind == CHANNEL_PAIR)).sum()
}

/// Returns the elements of a channel configuration (section 1.6.3.5, table 1.19).
fn standard(configuration: u8) -> Vec<ChannelElement> {
    let kinds: &[u32] = match configuration {
        1 => &[SINGLE_CHANNEL],
        2 => &[CHANNEL_PAIR],
        3 => &[SINGLE_CHANNEL, CHANNEL_PAIR],
        4 => &[SINGLE_CHANNEL, CHANNEL_PAIR, SINGLE_CHANNEL],
        5 => &[SINGLE_CHANNEL, CHANNEL_PAIR, CHANNEL_PAIR],
        6 => &[SINGLE_CHANNEL, CHANNEL_PAIR, CHANNEL_PAIR, LOW_FREQUENCY],
        7 => &[SINGLE_CHANNEL, CHANNEL_PAIR, CHANNEL_PAIR, CHANNEL_PAIR, LOW_FREQUENCY],
        _ => &[],
    };
    let tag = |index: usize| kinds[..index].iter().filter(|&&kind| kind == kinds[index]).count() as u32;
    kinds.iter().enumerate().map(|(index, &kind)| ChannelElement { kind, tag: tag(index) }).collect()
}

/// Returns a frame in which no channel has a spectrum.
fn silent_frame(elements: &[ChannelElement]) -> Vec<u8> {
    // One long window in sine shape, no scale factor bands, no prediction.
    const WINDOW: (u32, usize) = (0, 11);
    // Gain; no pulses, no noise shaping, no gain control.
    const GAIN: (u32, usize) = (0, 8);
    const TOOLS: (u32, usize) = (0, 3);
    let mut out = BitWriter::default();
    for element in elements {
        let is_pair = element.kind == CHANNEL_PAIR;
        let fields: &[(u32, usize)] = if is_pair {
            // A common window, no mid/side stereo, and both channels.
            &[(1, 1), WINDOW, (0, 2), GAIN, TOOLS, GAIN, TOOLS]
        } else {
            &[GAIN, WINDOW, TOOLS]
        };
        for &(value, count) in [(element.kind, 3), (element.tag, 4)].iter().chain(fields) {
            out.put(value, count);
        }
    }
    out.put(END, 3);
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_of_one_and_two_channels() {
        assert_eq!(standard_silent_frame(1), [0, 0, 0, 7], "29 bits and the end");
        assert_eq!(standard_silent_frame(2), [0x21, 0, 0, 0, 0, 0x1c], "43 bits and the end");
    }

    #[test]
    fn each_configuration_has_its_channels() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(channels), [1, 2, 3, 4, 5, 6, 8]);
    }
}
