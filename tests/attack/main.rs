//! The attack kit: hostile clients against the release build of the server, which has a healthy publisher, healthy players and a
//! healthy HLS viewer at the same time.
//!
//! | after each attack | after each group of attacks, within a time limit |
//! |---|---|
//! | the server runs and has logged no panic | descriptors, clients and coroutines are back to their counts |
//! | healthy players received every packet unchanged and in time | charged memory and resident memory are back |
//! | new players get media | at the end of the test: streams are back to their count |
//!
//! "In time" compares the players with a stream that does not pass through the server, so that a busy machine is not taken for a slow
//! server. A bound on time that fails is measured once more before it counts. Bounds on memory and correctness count at once.
//!
//! By default each attack runs as a sample, attacks share recoveries, and tests that measure no lateness run side by side. Each test
//! prints what its sample leaves out. `trunk-scripts/attack.sh --long` runs all of every attack, one after the other (an hour).
//!
//! | variable | meaning |
//! |---|---|
//! | `SRS_TEST_ATTACK_LONG=1` | all of every attack |
//! | `SRS_TEST_ATTACK_ONLY=TEXT` | only attacks whose names contain TEXT |
//! | `SRS_TEST_ATTACK_SEED=N` | another seed for random input; the seeds are printed |
//! | `SRS_TEST_BINARY=PATH` | the server to attack, instead of the release build of this source tree |
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]
#![allow(clippy::disallowed_methods, reason = "the tests measure real time")]

#[path = "../common/mod.rs"]
mod common;

mod attacker;
mod binary;
mod healthy;
#[cfg(all(feature = "hls", feature = "http"))]
mod http;
mod random;
mod rig;
mod rtmp;
mod sample;
mod schedule;
#[cfg(feature = "ssl")]
mod tls_client;
mod viewer;

#[cfg(all(feature = "hls", feature = "http"))]
mod api;
mod backends;
mod bandwidth;
mod behaviour;
mod bytes;
#[cfg(all(feature = "hls", feature = "http"))]
mod disk_use;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls_media;
#[cfg(all(feature = "hls", feature = "http"))]
mod http_behaviour;
#[cfg(all(feature = "hls", feature = "http"))]
mod http_requests;
mod limits;
#[cfg(all(feature = "hls", feature = "http"))]
mod live_viewers;
mod max_memory;
mod memory_use;
mod names;
mod peers;
#[cfg(feature = "ssl")]
mod tls;
mod work_use;
