//! Headers of audio and video messages, and FLV files (Adobe, "Flash Video File Format Specification" 10.1, annex E; Veovera,
//! "Enhanced RTMP" v1 and v2).
//!
//! A live server forwards payloads unchanged. It only needs the type of a message: a keyframe to start a player with, a
//! sequence header to store for later players, the codec for the log. [`read_video_header`] and [`read_audio_header`] read
//! this much and ignore the rest. Unknown values are kept in the `Other` of each type, because new encoders will send them.
//! [`read_tag`] and [`write_tag`] are for tests and tools; the server writes tags from their parts.

mod audio;
mod ex;
mod file;
pub mod recording;
#[cfg(test)]
mod tests;
mod video;

pub use audio::{AudioCodec, AudioPacket, AudioTag, read_audio_header};
pub use file::{
    Error, FileHeader, TAG_AUDIO, TAG_OVERHEAD, TAG_SCRIPT, TAG_VIDEO, Tag, back_pointer, read_file_header, read_tag,
    tag_header, write_header, write_tag,
};
pub use video::{FrameKind, VideoCodec, VideoPacket, VideoTag, read_video_header};
