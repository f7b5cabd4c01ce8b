//! simple-rtmp-server: an RTMP live origin server on stackful coroutines, modelled on the original SRS of 2013.
//!
//! | module | content | may use |
//! |---|---|---|
//! | [`memory`] | accounting of the bytes held for clients | |
//! | [`codec`] | AMF, FLV, MPEG-TS: bytes in, values out | |
//! | [`rtmp`] | handshake, chunks, messages, commands | `codec`, `memory` |
//! | [`http`] | HTTP/1.1 of a server: requests, responses | |
//! | [`st`] | the coroutine runtime: one worker | `memory`, `log` |
//! | [`config`] | the configuration file, typed | |
//! | [`log`] | the log, written on its own thread | `config`, `st` |
//! | [`os`] | the process: terminal, pid file, signals, limits, service manager | |
//! | [`app`] | server, connections, streams, outputs | all of these |
//!
//! Specifications: Adobe's "RTMP specification 1.0" and its FLV and AMF0/AMF3 formats; veovera's "Enhanced RTMP" version 2.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests measure real time"))]

#[allow(missing_docs, reason = "internal: a comment stands where the name does not say it")]
#[forbid(unsafe_code)]
pub mod app;
#[forbid(unsafe_code)]
pub mod codec;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod http;
#[forbid(unsafe_code)]
pub mod log;
#[forbid(unsafe_code)]
pub mod memory;
#[forbid(unsafe_code)]
pub mod os;
#[forbid(unsafe_code)]
pub mod rtmp;
// The only module with unsafe code, each time with the reason.
pub mod st;
