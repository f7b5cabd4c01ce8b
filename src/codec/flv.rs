//! The first bytes of audio and video messages, and FLV files (Adobe, "Flash Video File Format Specification" 10.1, annex E;
//! Veovera, "Enhanced RTMP" v1 and v2).
//!
//! A live server forwards payloads as they are. It must only know what a message is: a keyframe to start a player on, a
//! sequence header to keep for the next player, a codec to name in a log. [`video`] and [`audio`] read that much of a
//! message, and all after it is opaque. Values that this server does not know are kept in the `Other` of each type, since
//! the next encoder brings them. [`read_tag`] and [`write_tag`] are for tests and tools.

mod audio;
mod ex;
mod file;
#[cfg(test)]
mod tests;
mod video;

pub use audio::{AudioCodec, AudioPacket, AudioTag, audio};
pub use file::{
    Error, FileHeader, TAG_AUDIO, TAG_SCRIPT, TAG_VIDEO, Tag, read_file_header, read_tag, write_header, write_tag,
};
pub use video::{FrameKind, VideoCodec, VideoPacket, VideoTag, video};
