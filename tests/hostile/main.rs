//! The server under attack: the real binary, a healthy publisher and healthy players, and beside them whoever wishes it ill.
//!
//! After each attack the server lives; the healthy players have had every packet, as it was sent and in time; memory, descriptors
//! and coroutines are what they were before. Lateness is measured against the publisher's clock and compared with that of a stream
//! of the same kind which does not pass through the server, so that a busy machine is not taken for a slow server.
//!
//! Seeds are fixed and printed. Environment: `SRS_HOSTILE_LONG=1` for all of every attack instead of a sample (an hour),
//! `SRS_HOSTILE_SEED` for another seed, `SRS_HOSTILE_ONLY` for those attacks alone whose names contain this.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected is to fail")]

#[path = "../e2e/flv.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod flv;
#[path = "../e2e/http_client.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod http_client;
#[path = "../e2e/process.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod process;
#[path = "../e2e/scratch.rs"]
mod scratch;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod server;
#[path = "../e2e/wire.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod wire;

mod attacker;
mod healthy;
mod random;
mod rig;
mod rtmp;
mod viewer;

mod behaviour;
mod bytes;
mod edges;
#[cfg(feature = "hls")]
mod http;
mod limits;
mod names;
#[cfg(feature = "ssl")]
mod tls;
mod unseen;
