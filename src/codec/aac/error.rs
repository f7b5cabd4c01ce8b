//! Errors in decoder configurations of AAC.

/// A malformed configuration, or one that ADTS cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration is truncated.
    #[error("AAC configuration truncated at bit {at}")]
    Short {
        /// The position of the first missing bit.
        at: usize,
    },
    /// An object type without a number in ADTS, such as low delay or USAC.
    #[error("AAC of object type {0} cannot be carried in MPEG-TS")]
    ObjectType(u8),
    /// A sample rate without a number in ADTS.
    #[error("AAC at {0} Hz cannot be carried in MPEG-TS")]
    SampleRate(u32),
    /// A channel configuration without a number in ADTS.
    #[error("AAC of channel configuration {0} cannot be carried in MPEG-TS")]
    Channels(u8),
    /// A layout of as many channels as no channel configuration of ADTS has.
    #[error("AAC with {0} channels cannot be carried in MPEG-TS")]
    Layout(u8),
    /// Frames of 960 samples.
    #[error("AAC in frames of 960 samples cannot be carried in MPEG-TS")]
    ShortFrames,
}
