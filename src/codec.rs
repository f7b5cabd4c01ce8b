//! Formats carried by RTMP, and the PROXY header before it: bytes in, values out.
//!
//! No socket, chunk or session is used here. All input is untrusted: each reader has its limits as named constants beside it,
//! and none of them panics on any input.
//!
//! | module | content |
//! |---|---|
//! | [`flv`] | headers of audio and video messages, FLV files, recordings that can be sought in |
//! | [`amf0`], [`amf3`] | values of commands and metadata |
//! | [`avc`], [`hevc`], [`nalu`], [`sps`], [`picture`] | H.264 and H.265: configuration records, units, picture sizes, keyframes |
//! | [`aac`], [`adts`], [`mp3`] | audio configurations and frames |
//! | [`mp4`] | the multiplexer of fragmented MP4 files |
//! | [`ts`] | the multiplexer of MPEG-TS |
//! | [`proxy`] | the PROXY protocol header |

pub mod aac;
pub mod adts;
mod amf;
pub mod amf0;
pub mod amf3;
pub mod avc;
pub mod flv;
pub mod hevc;
pub mod mp3;
pub mod mp4;
pub mod nalu;
mod parameter_sets;
pub mod picture;
pub mod proxy;
pub mod sps;
pub mod ts;
